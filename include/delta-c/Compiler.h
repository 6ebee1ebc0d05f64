/*===- delta-c/Compiler.h - Compiling recurrences -----------------*- C -*-===*\
|*                                                                            *|
|* Part of the delta project, under the Apache License v2.0 with LLVM         *|
|* Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception        *|
|*                                                                            *|
|*===----------------------------------------------------------------------===*|
|*                                                                            *|
|* The compiler in C99: from a spec to the bytes of a bundle, which           *|
|* delta_bundle_read loads and which may be kept in a file. The library is    *|
|* libdelta; errors, threads and stability are as in delta-c/Runtime.h.       *|
|* Calls from several threads run one after the other.                        *|
|*                                                                            *|
\*===----------------------------------------------------------------------===*/

#ifndef DELTA_C_COMPILER_H
#define DELTA_C_COMPILER_H

#include "delta-c/Runtime.h"

#ifdef __cplusplus
extern "C" {
#endif

/* An option of delta-compile without its dashes: {"target", "cpu,sm_90a"},
 * {"fn", "forward,decode"}, {"D", "K=64"}, {"dtype", "bf16"},
 * {"dtype", "g=f32"}, {"attr", "scale=1"}, "precision", "chunk", "mapping",
 * "assume", "mcpu", "save-every", "save-budget". D, dtype and attr may be there
 * several times. */
typedef struct delta_option {
  const char *name;
  const char *value;
} delta_option;

/* Compiles `spec`, the name of a library spec or of a file, to a bundle. Its
 * bytes are given to delta_free. An error has all diagnostics with their places
 * in the spec. DELTA_ABSENT when a tool, such as a linker, is not there. */
delta_status delta_compile(const char *spec, const delta_option *options,
                           size_t num_options, void **bundle, size_t *size,
                           char **error);

/* The same with the text of a spec or module. */
delta_status delta_compile_text(const char *text, const delta_option *options,
                                size_t num_options, void **bundle, size_t *size,
                                char **error);

/* Compiles to any other artefact of delta-compile, for one target and function:
 * "step", "events", "chunk", "mapped", "llvm", "header", "ptx" are texts, "obj",
 * "so" and "cubin" are bytes. NULL for `artefact` makes none, and `data` may be
 * NULL then. With `explanation` the report of --explain comes out as a text for
 * delta_free; dims that are not given leave out what needs them. */
delta_status delta_emit(const char *spec, const char *artefact,
                        const delta_option *options, size_t num_options,
                        void **data, size_t *size, char **explanation,
                        char **error);
delta_status delta_emit_text(const char *text, const char *artefact,
                             const delta_option *options, size_t num_options,
                             void **data, size_t *size, char **explanation,
                             char **error);

/* The interface of a spec or module before it is compiled, so that callers can
 * find out the sizes of its dims from their arrays. `spec` is the name of a
 * library spec or of a file. The options "dtype" and "D" are taken into account;
 * options that only matter later are verified and otherwise left alone. */
typedef struct delta_spec delta_spec;
delta_status delta_spec_open(const char *spec, const delta_option *options,
                             size_t num_options, delta_spec **result,
                             char **error);
delta_status delta_spec_read(const char *text, const delta_option *options,
                             size_t num_options, delta_spec **result,
                             char **error);
void delta_spec_close(delta_spec *spec);

/* The recurrence's name; warnings about it, "" without one. */
const char *delta_spec_name(const delta_spec *spec);
const char *delta_spec_warnings(const delta_spec *spec);

/* Names of the dims that must be known before code can be made. */
size_t delta_spec_num_dims(const delta_spec *spec);
const char *delta_spec_get_dim(const delta_spec *spec, size_t index);

/* As delta_bundle_get_arg; sizes of dims that are not known are -1, and a
 * default that needs one of them is not evaluated: its value is a NaN. */
size_t delta_spec_num_args(const delta_spec *spec);
delta_status delta_spec_get_arg(const delta_spec *spec, size_t index,
                                delta_arg_info *info, char **error);

/* A text that differs between builds of the compiler that may make different
 * code, for the keys of caches. */
const char *delta_build_id(void);

/* LLVM's name of this machine's CPU and the features that code for the target
 * "cpu" may use: code from a machine with another text may not run here. */
const char *delta_host_cpu(void);

/* The multiprocessors of a GPU target, such as "sm_90a": with "assume" the
 * choices of a kernel depend on how many heads there are for each. 0 for another
 * target. */
int64_t delta_target_multiprocessors(const char *target);

/* The library specs: names, sorted; the text of one, NULL for another name. */
size_t delta_num_library_specs(void);
const char *delta_get_library_spec_name(size_t index);
const char *delta_get_library_spec(const char *name);

#ifdef __cplusplus
}
#endif

#endif /* DELTA_C_COMPILER_H */
