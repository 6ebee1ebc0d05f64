//===- Signature.h - what a kernel takes and gives -------------*- C++ -*--===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The interface of a recurrence without the compiler: names, kinds, axes,
// types, ranges and defaults. The compiler fills it from its IR, a bundle from
// its manifest.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_RUNTIME_SIGNATURE_H
#define DELTA_RUNTIME_SIGNATURE_H

#include "delta/Runtime/NdArray.h"

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace delta::runtime {

/// No dim of a kernel can sensibly be larger; also keeps products in 63 bits.
inline constexpr int64_t kMaxDim = 1 << 16;

/// Values by name.
template <typename T> using NamedValues = std::map<std::string, T>;

/// Takes one worded error. Functions that may find several call it for each
/// and return a failure in the end.
using ErrorHandler = std::function<void(const std::string &)>;

enum class ArgKind : uint8_t { In, Param, Attr, State, Out, Checkpoint, Sum };

/// "in", "param", "attr", "state", "out", "checkpoint", "sum".
const char *nameOf(ArgKind kind);
std::optional<ArgKind> argKindFromName(std::string_view name);

/// Name of the axis of an array of checkpoints that counts them.
inline constexpr const char *kCheckpointAxis = "checkpoints";

/// One argument, state or result of a recurrence.
struct Argument {
  ArgKind kind = ArgKind::In;
  std::string name;
  DType dtype = DType::F32;
  /// The dims of one token's value: none for a scalar, two for the state.
  std::vector<std::string> axes;
  /// The dim of a micro-step family; empty for anything else.
  std::string family;
  /// The declared closed range.
  std::optional<std::pair<double, double>> range;
  /// Of a checkpoint: tokens from one to the next. 0 for anything else.
  int64_t every = 0;

  /// The default of an attr as written; empty when there is none.
  std::string defaultText;
  /// Its value, where all that it is computed from is known.
  std::optional<double> defaultValue;
  /// The attrs that it is computed from.
  std::vector<std::string> defaultAttrs;

  /// Whether the caller gives an array for it: an in or a param.
  bool isInput() const { return kind == ArgKind::In || kind == ArgKind::Param; }
  /// Names of all axes of its array: B, T, n, H, dim for tokens, H, dim for
  /// params, B, H, dim, dim for the state, B, H, checkpoints, dim, dim for
  /// checkpoints, B, H, dim for a sum, none for an attr.
  std::vector<std::string> arrayAxes() const;
  /// Whether axis number `i` of those is a dim, rather than B, T, H or the
  /// number of checkpoints.
  bool isDim(size_t i) const;
};

struct Signature {
  /// The recurrence's name.
  std::string name;
  /// Every in, param, attr, state and out, in declared order; a checkpoint and
  /// sums where a kernel has them.
  std::vector<Argument> args;
  /// Sizes of dims as far as known.
  NamedValues<int64_t> dims;
  /// Whether it is that of a backward kernel: outs' cotangents are among the
  /// ins, checkpoints are read, the states before and after are the final and
  /// the initial state's cotangent.
  bool backward = false;

  /// The argument of that name; null when there is none.
  const Argument *lookup(std::string_view name) const;
  /// The state. Precondition: there is one.
  const Argument &state() const;
  /// The checkpoint; null when there is none.
  const Argument *checkpoint() const;
  /// The arguments of one kind, in declared order.
  std::vector<const Argument *> ofKind(ArgKind kind) const;
  /// The ins and params, in declared order.
  std::vector<const Argument *> inputs() const;
  /// Every dim that an array has, in order of first use.
  std::vector<std::string> arrayDims() const;
};

} // namespace delta::runtime

#endif // DELTA_RUNTIME_SIGNATURE_H
