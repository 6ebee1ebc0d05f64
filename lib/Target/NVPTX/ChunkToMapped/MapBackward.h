//===- MapBackward.h - Mapping of gradients' chunk programs -----*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Which of the mappings takes a backward chunk program, and with what in shared
// memory.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_MAPBACKWARD_H
#define DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_MAPBACKWARD_H

#include "Mapping.h"

namespace mlir::delta::gpumap {

/// Is the module's program a gradient's?
bool isBackward(ModuleOp module);

/// From stage `chunk` to `mapped`: in slices (Sliced/) where the program has
/// their structure and they fit, else by tiles (Tiled/).
LogicalResult mapBackward(ModuleOp module, const GpuMapOptions &options);

/// Tokens of a chunk.
int64_t getChunkTokens(ModuleOp module);

/// Does a program fit when it is mapped by tiles?
bool fitsTiles(ModuleOp module, const GpuMapOptions &options);

/// One line `mapping form=... warps=... stages=... shared_bytes=...`, behind
/// the reason where slices are not taken.
LogicalResult explainBackward(ModuleOp module, const GpuMapOptions &options,
                              raw_ostream &os);

// What forward programs are mapped with too.

/// The precision asked for, or the default, and what it means.
FailureOr<std::pair<std::string, OperandPolicy>>
getPrecision(ModuleOp module, const GpuMapOptions &options);

/// The signature with saved states as GPU kernels keep them: rounded as
/// operands are, and transposed, as the forward kernel holds the state.
SignatureAttr withSavedStates(SignatureAttr signature,
                              const OperandPolicy &policy);

} // namespace mlir::delta::gpumap

#endif // DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_MAPBACKWARD_H
