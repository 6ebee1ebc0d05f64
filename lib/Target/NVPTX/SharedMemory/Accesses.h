//===- Accesses.h - Who touches which shared array --------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The accesses of an operation of the warp dialect to shared memory.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_LIB_TARGET_NVPTX_SHAREDMEMORY_ACCESSES_H
#define DELTA_LIB_TARGET_NVPTX_SHAREDMEMORY_ACCESSES_H

#include "delta/Dialect/Warp/IR/Warp.h"

namespace mlir::delta::sharedmemory {

/// One operation's access to one array.
struct Access {
  Operation *op = nullptr;
  mutable warp::AllocSharedOp array;
  bool write = false;
  /// A copy that is under way until it is waited for.
  bool async = false;
  /// The whole block takes part, not one warp.
  bool block = false;
  SmallVector<Value> indices;
  /// Elements along each of the array's last axes; empty for all of them.
  SmallVector<int64_t> extent;
};

/// The accesses of one operation, without those in its regions.
SmallVector<Access> getAccesses(Operation *op);

/// Is the value a number made from the warp's alone, so that different warps
/// have different values (the number itself, or a constant multiple)?
bool isWarpNumber(Value value);

/// Are both such a number, and the same for one warp at any time?
bool isSameWarpNumber(Value a, Value b);

/// Do both touch columns that one warp alone touches, of matrices that several
/// warps share: matrix number warp mod d, columns in every so many tiles from
/// the (warp / d)-th?
bool isSameWarpTile(const Access &a, const Access &b);

/// Does the value, a condition or a bound, differ between the warps of a block?
bool dependsOnWarp(Value value, unsigned depth = 0);

/// Is `op` a branch of which different warps take different sides at once?
bool isSideBySide(Operation *op);

/// Is the first index of every access to `array` the warp's number?
bool isWarpPrivate(warp::AllocSharedOp array);

} // namespace mlir::delta::sharedmemory

#endif // DELTA_LIB_TARGET_NVPTX_SHAREDMEMORY_ACCESSES_H
