//===- RandomInputs.h - reproducible random inputs --------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Makes inputs on which every recurrence of the class behaves: gates that
// decay, directions of unit length, write strengths between 0 and 1. A value
// depends on the seed, the array's name and its index alone, by arithmetic that
// is exact or correctly rounded, so every machine makes the same bits.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_RUNTIME_RANDOMINPUTS_H
#define DELTA_RUNTIME_RANDOMINPUTS_H

#include "delta/Runtime/NdArray.h"

#include <cstdint>
#include <limits>
#include <string>

namespace delta::runtime {

/// How the values of an array are drawn.
enum class RandomKind {
  Normal,  ///< mean 0, variance 1, |value| <= 6
  Unit,    ///< normal, then each row along the last axis scaled to length 1
  Fraction ///< sigmoid of a normal: in (0, 1)
};

/// One array to make.
struct RandomArray {
  std::string name;
  Shape shape;
  RandomKind kind = RandomKind::Normal;
  /// The declared range. One without positive values marks a log-decay, which
  /// is drawn as hi + logsigmoid of a normal whatever `kind` says. A range that
  /// is bounded on both sides is filled (but rows of unit length stay as they
  /// are); in the end values are clamped.
  double lo = -std::numeric_limits<double>::infinity();
  double hi = std::numeric_limits<double>::infinity();
};

/// Draws the array as f32. Fails only when memory is short or the shape
/// overflows.
Expected<NdArray> makeRandom(const RandomArray &array, uint64_t seed);

} // namespace delta::runtime

#endif // DELTA_RUNTIME_RANDOMINPUTS_H
