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
 * "assume", "mcpu". D, dtype and attr may be there several times. */
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

/* The library specs: names, sorted; the text of one, NULL for another name. */
size_t delta_num_library_specs(void);
const char *delta_get_library_spec_name(size_t index);
const char *delta_get_library_spec(const char *name);

#ifdef __cplusplus
}
#endif

#endif /* DELTA_C_COMPILER_H */
