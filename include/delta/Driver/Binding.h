//===- Binding.h - arrays for a signature -----------------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Fits the arrays of a file, or random ones, to the ins and params of a
// signature: finds the sizes, checks names, shapes, types and ranges.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_DRIVER_BINDING_H
#define DELTA_DRIVER_BINDING_H

#include "delta/Dialect/Delta/IR/Delta.h"
#include "delta/Driver/Options.h"
#include "delta/Driver/Report.h"
#include "delta/Runtime/NdArray.h"
#include "delta/Runtime/Npz.h"

#include "llvm/ADT/StringMap.h"

#include <optional>
#include <vector>

namespace delta::driver {

/// Arrays bound to a signature, in the types they were given in.
struct BoundArrays {
  int64_t B = 0, T = 0, H = 0;
  /// Independent sequences: B, or the number that cu_seqlens gives.
  int64_t sequences = 0;
  /// Sizes of the signature's dims, as far as known.
  llvm::StringMap<int64_t> dims;
  /// The ins and params by name.
  llvm::StringMap<runtime::NdArray> arrays;
  /// [sequences, H, A, A']; absent: zero.
  std::optional<runtime::NdArray> initialState;
  /// Boundaries of the sequences packed along T; empty without cu_seqlens.
  std::vector<int64_t> cuSeqlens;
};

/// Name of the array with the state before the first token, and of the result
/// after the last.
inline constexpr llvm::StringLiteral kInitialState = "initial_state";
inline constexpr llvm::StringLiteral kFinalState = "final_state";
inline constexpr llvm::StringLiteral kCuSeqlens = "cu_seqlens";

/// Binds the arrays of `file`. `given` are sizes that the options or the module
/// fix. Reports every missing, unknown, misshaped or wrongly typed array.
llvm::FailureOr<BoundArrays> bindArrays(mlir::delta::SignatureAttr signature,
                                        const runtime::NpzReader &file,
                                        const NamedValues<int64_t> &given,
                                        Reporter &reporter);

/// Makes random arrays; `dims` are all dims that need a size. Vectors along the state's rows have unit length,
/// scalars per token lie in (0, 1), log-decays are negative, declared ranges
/// are kept, everything else is normal. Reports dims without a size.
llvm::FailureOr<BoundArrays>
makeRandomArrays(mlir::delta::SignatureAttr signature,
                 llvm::ArrayRef<std::string> dims, const RandomOptions &random,
                 const NamedValues<int64_t> &given, Reporter &reporter);

/// Reports values that are NaN or outside their declared range, naming array,
/// index, value and range. `where` begins the message (the file's name).
llvm::LogicalResult checkValues(mlir::delta::SignatureAttr signature,
                                const BoundArrays &arrays,
                                llvm::StringRef where, Reporter &reporter);

/// Rounds the arrays to the signature's types in memory. With `keep`, the
/// result is the given values in f64 instead.
llvm::LogicalResult convertArrays(mlir::delta::SignatureAttr signature,
                                  BoundArrays &arrays, bool keep,
                                  Reporter &reporter);

/// The run-time type for an element type of a signature.
runtime::DType getDType(mlir::Type type);

/// Shape of an argument's array: [B, T, n, H, dim], [H, dim], and so on.
/// Precondition: the dims are known.
runtime::Shape getShape(mlir::delta::ArgAttr arg, const BoundArrays &arrays);

} // namespace delta::driver

#endif // DELTA_DRIVER_BINDING_H
