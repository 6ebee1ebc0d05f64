/*===- delta-c/Runtime.h - Loading and launching kernels ----------*- C -*-===*\
|*                                                                            *|
|* Part of the delta project, under the Apache License v2.0 with LLVM         *|
|* Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception        *|
|*                                                                            *|
|*===----------------------------------------------------------------------===*|
|*                                                                            *|
|* The run time in C99: load a bundle, ask what is in it, launch its kernels  *|
|* on the CPU, on a CUDA device or in the simulator. The library libdelta-rt  *|
|* has no LLVM in it and needs no CUDA toolkit.                               *|
|*                                                                            *|
|* Errors: a function that can fail returns a delta_status and, through its   *|
|* last argument, a text that the caller gives to delta_free. That argument   *|
|* may be NULL. The text is NULL after a success. Nothing is written through  *|
|* other arguments after an error.                                            *|
|*                                                                            *|
|* Threads: a bundle is never changed and may be used by several threads at   *|
|* once. A device and a kernel may, too; launches of one kernel on the CPU or *|
|* in the simulator run one after the other. Closing must come after the last *|
|* use; a kernel keeps what it needs of its bundle and device.                *|
|*                                                                            *|
|* Stability: enumerators and signatures stay as they are; structures grow at *|
|* their end, which `struct_size` makes room for: set it to sizeof.           *|
|*                                                                            *|
\*===----------------------------------------------------------------------===*/

#ifndef DELTA_C_RUNTIME_H
#define DELTA_C_RUNTIME_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Grows when functions are added. */
#define DELTA_API_VERSION 4

typedef enum delta_status {
  DELTA_OK = 0,
  DELTA_ERROR = 1,   /* what was asked for is wrong, or cannot be done */
  DELTA_FINDING = 2, /* the simulator found a fault in a kernel */
  DELTA_ABSENT = 3   /* a device, driver or tool is not there */
} delta_status;

typedef enum delta_dtype {
  DELTA_F64 = 0,
  DELTA_F32 = 1,
  DELTA_F16 = 2,
  DELTA_BF16 = 3
} delta_dtype;

typedef enum delta_arg_kind {
  DELTA_IN = 0,    /* tokens: [B, T, (n,) H, (dim)] */
  DELTA_PARAM = 1, /* one per head: [H, (dim)] */
  DELTA_ATTR = 2,  /* a number */
  DELTA_STATE = 3, /* [B, H, dim, dim] */
  DELTA_OUT = 4,   /* tokens: [B, T, H, (dim)] */
  /* Of kernels for gradients; see delta_launch. */
  DELTA_CHECKPOINT = 5, /* [B, H, checkpoints, dim, dim]: the state, or its
                           transpose (as the axes say), in a type of its own */
  DELTA_SUM = 6         /* [B, H, (dim)] */
} delta_arg_kind;

typedef struct delta_bundle delta_bundle;
typedef struct delta_device delta_device;
typedef struct delta_kernel delta_kernel;

/* DELTA_API_VERSION of the library, and its release as text. */
uint32_t delta_api_version(void);
const char *delta_version(void);

/* Frees a text or buffer that the library made; NULL is fine. */
void delta_free(void *pointer);

/*===--- Bundles ----------------------------------------------------------===*/

/* Reads a bundle from a file, or from memory that may go away afterwards;
 * `name` stands for it in errors. What is damaged is refused. */
delta_status delta_bundle_open(const char *path, delta_bundle **bundle,
                               char **error);
delta_status delta_bundle_read(const void *data, size_t size, const char *name,
                               delta_bundle **bundle, char **error);
void delta_bundle_close(delta_bundle *bundle);

/* The recurrence's name; the bundle's SHA-256, which is equal for equal
 * bundles; the release of the compiler. Texts live as long as the bundle. */
const char *delta_bundle_name(const delta_bundle *bundle);
const char *delta_bundle_id(const delta_bundle *bundle);
const char *delta_bundle_compiler(const delta_bundle *bundle);

/* Sizes of dims that the kernels were compiled for. */
size_t delta_bundle_num_dims(const delta_bundle *bundle);
delta_status delta_bundle_get_dim(const delta_bundle *bundle, size_t index,
                                  const char **name, int64_t *size,
                                  char **error);

/* An argument of the recurrence. Texts live as long as the bundle. */
typedef struct delta_arg_info {
  size_t struct_size;
  const char *name;
  delta_arg_kind kind;
  delta_dtype dtype;         /* of the array; not for an attr */
  size_t rank;               /* of the array; 0 for an attr */
  const char *const *axes;   /* rank names: "B", "T", "H" or a dim's */
  const int64_t *sizes;      /* rank sizes: -1 for B, T and H */
  int has_range;             /* whether a range is declared */
  double lo, hi;             /* the closed range; -+infinity without one */
  int has_default;           /* of an attr */
  double default_value;
  const char *default_text;  /* as written in the spec; "" without one */
  int64_t every;             /* of checkpoints: tokens from one to the next */
} delta_arg_info;

/* The ins, params, attrs, state and outs, in declared order. A bundle for
 * gradients has checkpoints, too, and sums. */
size_t delta_bundle_num_args(const delta_bundle *bundle);
delta_status delta_bundle_get_arg(const delta_bundle *bundle, size_t index,
                                  delta_arg_info *info, char **error);

/* A kernel: one function for one target. */
typedef struct delta_kernel_info {
  size_t struct_size;
  const char *target;        /* "cpu", "sm_80", "sm_90a" */
  const char *fn;            /* "forward", "backward", "decode" */
  const char *entry;
  const char *compute;       /* what is computed in: "f32", "bf16"... */
  double flops_per_token;    /* useful work of a token and head; 0: unknown */
  size_t alignment;          /* of arrays, in bytes; 0: their elements' */
  int64_t threads;           /* GPU: of a CTA of the last launch */
  int64_t shared_bytes;      /* GPU: dynamic, the same */
  int64_t v_blocks;          /* GPU: CTAs that share a head, the same */
  int64_t workspace_bytes;   /* GPU: of a CTA where there is one launch and the
                                workspace is so much for each; otherwise -1, and
                                delta_kernel_get_workspace says how much */
  size_t num_launches;       /* GPU: kernels that are launched for a call */
} delta_kernel_info;

size_t delta_bundle_num_kernels(const delta_bundle *bundle);
delta_status delta_bundle_get_kernel(const delta_bundle *bundle, size_t index,
                                     delta_kernel_info *info, char **error);

/* One of a function's launches on a GPU, which come one after the other on one
 * stream and take the same parameters: B * H * v_blocks CTAs, or, where `tokens`
 * is not 0, so many for every `tokens` tokens. */
typedef struct delta_launch_info {
  size_t struct_size;
  const char *entry;         /* in the image */
  int64_t threads;           /* of a CTA */
  int64_t shared_bytes;      /* dynamic, of a CTA */
  int64_t v_blocks;
  int64_t tokens;
} delta_launch_info;

delta_status delta_bundle_get_launch(const delta_bundle *bundle, size_t kernel,
                                     size_t index, delta_launch_info *info,
                                     char **error);

/* What a kernel was compiled with, "chunk" or "save_every" for example, as a
 * text that lives as long as the bundle; NULL when the manifest has no such
 * option, or the bundle no such kernel. */
const char *delta_bundle_get_kernel_option(const delta_bundle *bundle,
                                           size_t index, const char *name);

/* Gradients. A bundle that was made for the backward beside other functions
 * has, for every target, two bundles in it: one with the forward that saves
 * states, one with the backward that reads them. */
size_t delta_bundle_num_gradients(const delta_bundle *bundle);
/* The target of one of these pairs; NULL when there is none of that number. */
const char *delta_bundle_get_gradient_target(const delta_bundle *bundle,
                                             size_t index);
/* Opens one of the two, "forward" or "backward"; it is closed as others are,
 * and does not need the bundle that it was in. */
delta_status delta_bundle_open_gradient(const delta_bundle *bundle,
                                        size_t index, const char *fn,
                                        delta_bundle **part, char **error);

/*===--- Devices ----------------------------------------------------------===*/

/* Opens "cpu", "cuda" or "sim". `index` is the number of a CUDA device,
 * `threads` how many the CPU and the simulator use (0: as many as the process
 * may). DELTA_ABSENT when there is no driver or no such device. */
delta_status delta_device_open(const char *name, int index, unsigned threads,
                               delta_device **device, char **error);
void delta_device_close(delta_device *device);

/* "NVIDIA H200 (compute capability 9.0)". Lives as long as the device. */
const char *delta_device_describe(const delta_device *device);

/* Memory of the device (of the process, for the CPU). What the simulator
 * allocates lives as long as the device. */
delta_status delta_device_allocate(delta_device *device, size_t bytes,
                                   const char *name, void **pointer,
                                   char **error);
void delta_device_release(delta_device *device, void *pointer);
delta_status delta_device_copy_in(delta_device *device, void *to,
                                  const void *from, size_t bytes, char **error);
delta_status delta_device_copy_out(delta_device *device, void *to,
                                   const void *from, size_t bytes,
                                   char **error);

/* Waits for what was launched on `stream` (NULL: the default stream). */
delta_status delta_device_synchronize(delta_device *device, void *stream,
                                      char **error);

/* What the simulator found so far, a text each that lives as long as the
 * device, and its counters as JSON. */
size_t delta_device_num_findings(const delta_device *device);
const char *delta_device_get_finding(const delta_device *device, size_t index);
delta_status delta_device_write_stats(const delta_device *device,
                                      const char *path, char **error);

/*===--- Kernels ----------------------------------------------------------===*/

/* Loads the function `fn` for the device: of several targets the one that suits
 * it best. */
delta_status delta_kernel_load(const delta_bundle *bundle, delta_device *device,
                               const char *fn, delta_kernel **kernel,
                               char **error);
void delta_kernel_close(delta_kernel *kernel);
delta_status delta_kernel_get_info(const delta_kernel *kernel,
                                   delta_kernel_info *info, char **error);

/* Bytes of workspace that a call on a GPU needs; 0 on the CPU. */
delta_status delta_kernel_get_workspace(const delta_kernel *kernel, int64_t B,
                                        int64_t T, int64_t H, int64_t *bytes,
                                        char **error);
/* The same where it does not depend on T; otherwise an error. */
delta_status delta_kernel_workspace_bytes(const delta_kernel *kernel, int64_t B,
                                          int64_t H, int64_t *bytes,
                                          char **error);

/* A dense array, row-major and without gaps, where the kernel runs. */
typedef struct delta_array {
  void *data;
  delta_dtype dtype;
  size_t rank;
  const int64_t *shape;
} delta_array;

/* The arguments of a launch. */
typedef struct delta_launch {
  size_t struct_size;
  const delta_array *inputs;        /* ins and params, in declared order */
  size_t num_inputs;
  const delta_array *initial_state; /* NULL: zero */
  const delta_array *outputs;       /* outs, in declared order */
  size_t num_outputs;
  const delta_array *final_state;   /* NULL: not wanted */
  const double *attrs;              /* in declared order; a NaN stands for the
                                       default; NULL: all defaults */
  size_t num_attrs;
  void *stream;                     /* a CUstream; NULL: the default one */
  void *workspace;                  /* GPU, on the device */
  size_t workspace_bytes;
  /* Gradients take two kernels: a forward that was compiled with the option
   * "save-every" writes states at the starts of chunks, the checkpoints, one
   * every `every` tokens: ceil(T / every) of them. The backward, "fn" =
   * "backward", reads them; its ins are those of the forward, the params, and
   * the outs' cotangents, its outs the ins' gradients; its initial state is the
   * cotangent of the final state, its final state the initial state's gradient.
   * Its sums are the gradients of params and attrs, for every sequence and head:
   * the caller adds them up. */
  const delta_array *sums;
  size_t num_sums;
  const delta_array *checkpoints;
} delta_launch;

/* Launches. Numbers, types, shapes, alignment and place of the arrays are
 * verified before. On the CPU and in the simulator the kernel is done when this
 * returns; a CUDA device works on, and errors of the kernel itself come from
 * delta_device_synchronize. The final state may be the initial one's array on
 * the CPU. DELTA_FINDING when the simulator finds a fault. */
delta_status delta_kernel_launch(delta_kernel *kernel,
                                 const delta_launch *launch, char **error);

#ifdef __cplusplus
}
#endif

#endif /* DELTA_C_RUNTIME_H */
