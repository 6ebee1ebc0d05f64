//===- Binding.h - arrays for a signature ----------------------*- C++ -*--===//
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

#ifndef DELTA_RUNTIME_BINDING_H
#define DELTA_RUNTIME_BINDING_H

#include "delta/Runtime/NdArray.h"
#include "delta/Runtime/Npz.h"
#include "delta/Runtime/Signature.h"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace delta::runtime {

/// Arrays bound to a signature, in the types they were given in.
struct BoundArrays {
  int64_t B = 0, T = 0, H = 0;
  /// Independent sequences: B, or the number that cu_seqlens gives.
  int64_t sequences = 0;
  /// Sizes of the signature's dims, as far as known.
  NamedValues<int64_t> dims;
  /// The ins and params by name; for gradients the cotangents of all outs,
  /// too.
  std::map<std::string, NdArray> arrays;
  /// [sequences, H, A, A']; absent: zero.
  std::optional<NdArray> initialState;
  /// The cotangent of the final state, for gradients; absent: zero.
  std::optional<NdArray> finalCotangent;
  /// Boundaries of the sequences packed along T; empty without cu_seqlens.
  std::vector<int64_t> cuSeqlens;
};

/// Name of the array with the state before the first token, and of the result
/// after the last.
inline constexpr const char *kInitialState = "initial_state";
inline constexpr const char *kFinalState = "final_state";
inline constexpr const char *kCuSeqlens = "cu_seqlens";

/// Name of the array with the final state's cotangent.
inline constexpr const char *kFinalCotangent = "dht";
/// Name of the array with an out's cotangent, and of an input's gradient.
inline std::string cotangentName(const std::string &out) { return "d" + out; }
inline std::string gradientName(const std::string &input) {
  return "d_" + input;
}

/// The --random option: what arrays to make.
struct RandomOptions {
  int64_t B = 1, T = 256, H = 2;
  uint64_t seed = 0;
  NamedValues<int64_t> dims; ///< K, V and any other; K and V are 64 by default
};

/// Parses "B=1,T=256,H=2,K=64,V=64,seed=0"; every part may be left out. The
/// error begins with the option's name.
Expected<RandomOptions> parseRandomOptions(std::string_view text);

/// Binds the arrays of `file`. `given` are sizes that the options, a module or
/// a bundle fix. With `gradients` the cotangents are bound, too: at least one
/// must be there, and one that is not is zero. Reports every missing, unknown,
/// misshaped or wrongly typed array; nothing after an error.
std::optional<BoundArrays> bindArrays(const Signature &signature,
                                      const NpzReader &file,
                                      const NamedValues<int64_t> &given,
                                      const ErrorHandler &error,
                                      bool gradients = false);

/// Makes random arrays. Vectors along the state's rows have unit length,
/// scalars per token lie in (0, 1), log-decays are negative, declared ranges
/// are kept, everything else is normal, as are the cotangents made with
/// `gradients`. `dims` are those that need a size; one without is reported.
std::optional<BoundArrays>
makeRandomArrays(const Signature &signature,
                 const std::vector<std::string> &dims,
                 const RandomOptions &random, const NamedValues<int64_t> &given,
                 const ErrorHandler &error, bool gradients = false);

/// Reports values that are NaN or outside their declared range, naming array,
/// index, value and range. `where` begins the message (the file's name).
/// Whether there were none.
bool checkValues(const Signature &signature, const BoundArrays &arrays,
                 const std::string &where, const ErrorHandler &error);

/// Rounds the arrays to the signature's types in memory. With `keep`, the
/// result is the given values in f64 instead.
Status convertArrays(const Signature &signature, BoundArrays &arrays,
                     bool keep);

/// Shape of an argument's array: [B, T, n, H, dim], [H, dim], and so on.
/// Precondition: the dims are known.
Shape shapeOf(const Argument &arg, const BoundArrays &arrays);

} // namespace delta::runtime

#endif // DELTA_RUNTIME_BINDING_H
