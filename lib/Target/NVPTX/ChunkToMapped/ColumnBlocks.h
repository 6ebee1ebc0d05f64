//===- ColumnBlocks.h - CTAs that share a head's columns --------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A gradient's program is linear in the cotangents, and columns of the state do
// not depend on each other: so CTAs can share a head, each with a block of the
// columns. What has an index along them is written by its own block; every
// other gradient is a sum over the blocks, of which each leaves its part.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_COLUMNBLOCKS_H
#define DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_COLUMNBLOCKS_H

#include "delta/Dialect/Delta/IR/Delta.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"

#include <string>

namespace mlir::delta::gpumap {

/// Makes the program one of a block of the state's columns, `count` of which
/// there are. Why that is not possible is left in `why`, and where in `where`;
/// the program may then be half changed.
LogicalResult splitColumns(func::FuncOp program, SignatureAttr signature,
                           int64_t count, std::string &why, Location &where);

/// Is the argument's last axis that of the state's columns?
bool hasColumns(SignatureAttr signature, ArgAttr arg);

} // namespace mlir::delta::gpumap

#endif // DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_COLUMNBLOCKS_H
