//===- Formats.h - rounding between floating formats ------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// f16, bf16 and tf32 as bits, written without branches so that loops over lanes
// become vector code. Included by files of arithmetic handlers only.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_LIB_SIMULATOR_FORMATS_H
#define DELTA_LIB_SIMULATOR_FORMATS_H

#include "Lanes.h"

namespace delta::sim {
namespace {

constexpr uint32_t kNanF32 = 0x7fffffff; ///< the one NaN that f32 results are

/// NaN becomes the canonical one.
DELTA_SIM_INLINE float canonical(float x) {
  return x != x ? bits<float>(kNanF32) : x;
}
DELTA_SIM_INLINE double canonical(double x) { return x; }

/// Subnormals become zeros of their sign.
DELTA_SIM_INLINE float flush(float x) {
  uint32_t b = bits<uint32_t>(x);
  return bits<float>((b & 0x7f800000) == 0 ? b & 0x80000000 : b);
}
DELTA_SIM_INLINE double flush(double x) { return x; }

/// Clamps to [0, 1]; NaN is 0.
template <typename T> DELTA_SIM_INLINE T saturate(T x) {
  return x > T(0) ? (x < T(1) ? x : T(1)) : T(0);
}

DELTA_SIM_INLINE uint32_t bf16FromF32(float x) {
  uint32_t b = bits<uint32_t>(x);
  uint32_t rounded = (b + 0x7fff + ((b >> 16) & 1)) >> 16;
  return (b & 0x7fffffff) > 0x7f800000 ? 0x7fff : rounded;
}
DELTA_SIM_INLINE uint32_t bf16FromF32Rz(float x) {
  uint32_t b = bits<uint32_t>(x);
  return (b & 0x7fffffff) > 0x7f800000 ? 0x7fff : b >> 16;
}
DELTA_SIM_INLINE float f32FromBf16(uint32_t b) { return bits<float>(b << 16); }

DELTA_SIM_INLINE uint32_t f16FromF32(float x) {
  uint32_t b = bits<uint32_t>(x), magnitude = b & 0x7fffffff;
  uint32_t normal =
      (magnitude + 0xfff + ((magnitude >> 13) & 1) - (112u << 23)) >> 13;
  // 0.5 has the unit 2^-24 in its last place, as f16's subnormals have.
  uint32_t small =
      bits<uint32_t>(bits<float>(magnitude) + 0.5f) - bits<uint32_t>(0.5f);
  uint32_t result = magnitude < 0x38800000 ? small : normal;
  result = magnitude >= 0x477ff000 ? 0x7c00 : result;
  result |= (b >> 16) & 0x8000;
  return magnitude > 0x7f800000 ? 0x7fff : result;
}
DELTA_SIM_INLINE uint32_t f16FromF32Rz(float x) {
  uint32_t b = bits<uint32_t>(x), magnitude = b & 0x7fffffff;
  uint32_t result = (magnitude - (112u << 23)) >> 13;
  if (magnitude < 0x38800000)
    result = static_cast<uint32_t>(bits<float>(magnitude) * 16777216.0f);
  if (magnitude >= 0x47800000)
    result = magnitude == 0x7f800000 ? 0x7c00 : 0x7bff;
  result |= (b >> 16) & 0x8000;
  return magnitude > 0x7f800000 ? 0x7fff : result;
}
DELTA_SIM_INLINE float f32FromF16(uint32_t h) {
  uint32_t magnitude = h & 0x7fff;
  uint32_t normal = (magnitude << 13) + (112u << 23);
  uint32_t special = (magnitude << 13) | 0x7f800000;
  float small = static_cast<float>(static_cast<int32_t>(magnitude)) *
                5.9604644775390625e-08f;
  uint32_t result = magnitude < 0x400 ? bits<uint32_t>(small) : normal;
  result = magnitude >= 0x7c00 ? special : result;
  return bits<float>(result | ((h & 0x8000) << 16));
}

/// tf32 keeps ten bits of the mantissa.
DELTA_SIM_INLINE uint32_t tf32FromF32(float x, Rounding rounding) {
  uint32_t b = bits<uint32_t>(x), magnitude = b & 0x7fffffff;
  if (magnitude > 0x7f800000)
    return kNanF32;
  if (magnitude == 0x7f800000)
    return b;
  if (rounding == Rounding::Rna)
    return (b + 0x1000) & ~0x1fffu;
  if (rounding == Rounding::Rn)
    return (b + 0xfff + ((b >> 13) & 1)) & ~0x1fffu;
  return b & ~0x1fffu;
}

/// a + b with the last bit set when inexact (rounding to odd), so that a second
/// rounding to at most 51 bits is as if there had been only that one.
DELTA_SIM_INLINE double addToOdd(double a, double b) {
  double s = a + b;
  double t = s - a;
  double error = (a - (s - t)) + (b - t);
  uint64_t u = bits<uint64_t>(s);
  bool finite = (u & 0x7ff0000000000000) != 0x7ff0000000000000;
  bool toZero = (error > 0) != (s > 0);
  uint64_t odd = (toZero ? u - 1 : u) | 1;
  return finite && error != 0 ? bits<double>(odd) : s;
}
/// To f32, to odd.
DELTA_SIM_INLINE float f32ToOdd(double x) {
  float f = static_cast<float>(x);
  double back = static_cast<double>(f);
  uint32_t u = bits<uint32_t>(f);
  double magnitude = x < 0 ? -x : x, backMagnitude = back < 0 ? -back : back;
  uint32_t odd = (backMagnitude > magnitude ? u - 1 : u) | 1;
  bool exact = back == x || x != x;
  return exact ? f : bits<float>(odd);
}

/// The formats as types for templates.
struct F16 {
  DELTA_SIM_INLINE float get(uint32_t h) { return f32FromF16(h); }
  DELTA_SIM_INLINE uint32_t put(float x) { return f16FromF32(x); }
  DELTA_SIM_INLINE uint32_t putRz(float x) { return f16FromF32Rz(x); }
  /// Subnormals to zeros of their sign.
  DELTA_SIM_INLINE uint32_t flush(uint32_t h) {
    return (h & 0x7c00) == 0 ? h & 0x8000 : h;
  }
  static constexpr uint32_t kInfinity = 0x7c00;
};
struct BF16 {
  DELTA_SIM_INLINE float get(uint32_t h) { return f32FromBf16(h); }
  DELTA_SIM_INLINE uint32_t put(float x) { return bf16FromF32(x); }
  DELTA_SIM_INLINE uint32_t putRz(float x) { return bf16FromF32Rz(x); }
  DELTA_SIM_INLINE uint32_t flush(uint32_t h) {
    return (h & 0x7f80) == 0 ? h & 0x8000 : h;
  }
  static constexpr uint32_t kInfinity = 0x7f80;
};

/// 2^x as ex2.approx gives it: within one unit in the last place of f32, exact
/// for integers.
DELTA_SIM_INLINE float exp2Of(float x) {
  double v = x;
  v = v < -160.0 ? -160.0 : v;
  v = v > 130.0 ? 130.0 : v;
  constexpr double magic = 6755399441055744.0; // 1.5 * 2^52 rounds to integer
  double shifted = v + magic;
  double f = v - (shifted - magic);
  constexpr double ln2 = 0.69314718055994530942;
  double y = f * ln2;
  double p = 1.0 / 3628800;
  p = p * y + 1.0 / 362880;
  p = p * y + 1.0 / 40320;
  p = p * y + 1.0 / 5040;
  p = p * y + 1.0 / 720;
  p = p * y + 1.0 / 120;
  p = p * y + 1.0 / 24;
  p = p * y + 1.0 / 6;
  p = p * y + 0.5;
  p = p * y + 1.0;
  p = p * y + 1.0;
  uint64_t exponent = (bits<uint64_t>(shifted) + 1023) << 52;
  return canonical(static_cast<float>(p * bits<double>(exponent)));
}

} // namespace
} // namespace delta::sim

#endif // DELTA_LIB_SIMULATOR_FORMATS_H
