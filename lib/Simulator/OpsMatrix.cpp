//===- OpsMatrix.cpp - mma.sync -------------------------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// D = A B + C on fragments of m16n8. Lane 4 g + t of a fragment holds row g (or
// g + 8) and the columns around t, so a register over all lanes is an 8 x 8
// tile in row-major order (8 x 4 for tf32). Products are exact in f32; the sum
// is taken in f32 over k in ascending order, starting from C: the ISA leaves
// order and intermediate precision open.
//
//===----------------------------------------------------------------------===//

#include "Formats.h"
#include "WarpOps.h"

namespace delta::sim::DELTA_SIM_ISA {

Handler selectMma(unsigned k, ptx::Type input, ptx::Type accumulator);

} // namespace delta::sim::DELTA_SIM_ISA

namespace delta::sim {
namespace {

using ptx::Type;

struct BF16In {
  static constexpr unsigned kPerWord = 2;
  DELTA_SIM_INLINE float low(uint32_t w) { return f32FromBf16(w & 0xffff); }
  DELTA_SIM_INLINE float high(uint32_t w) { return f32FromBf16(w >> 16); }
};
struct F16In {
  static constexpr unsigned kPerWord = 2;
  DELTA_SIM_INLINE float low(uint32_t w) { return f32FromF16(w & 0xffff); }
  DELTA_SIM_INLINE float high(uint32_t w) { return f32FromF16(w >> 16); }
};
struct TF32In {
  static constexpr unsigned kPerWord = 1;
  DELTA_SIM_INLINE float low(uint32_t w) { return bits<float>(w & ~0x1fffu); }
  DELTA_SIM_INLINE float high(uint32_t) { return 0; }
};

/// A row of B or of the accumulators.
typedef float Row __attribute__((vector_size(32)));

/// One register as a tile of 8 rows and 4 * kPerWord columns, row-major.
template <typename In>
DELTA_SIM_INLINE void readTile(Warp &warp, uint32_t slot, float *tile) {
  auto *words = slotOf<uint32_t>(warp, slot);
  for (uint32_t l = 0; l < kLanes; ++l) {
    tile[In::kPerWord * l] = In::low(words[l]);
    if (In::kPerWord == 2)
      tile[In::kPerWord * l + 1] = In::high(words[l]);
  }
}

template <typename In, unsigned K, bool HalfAccumulator>
void mma(Warp &warp, const Inst &inst, uint32_t mask) {
  if (mask != kFullMask) {
    reportPartialWarp(warp, inst, mask);
    return;
  }
  constexpr unsigned columns = 4 * In::kPerWord; // of one tile
  constexpr unsigned tiles = K / columns;
  constexpr unsigned accumulators = HalfAccumulator ? 2 : 4;
  const uint32_t *opD = inst.op, *opA = opD + accumulators,
                 *opB = opA + 2 * tiles, *opC = opB + tiles;
  alignas(64) float a[16][K], b[K][8], acc[16][8], tile[64];
  for (unsigned kt = 0; kt < tiles; ++kt) {
    for (unsigned half = 0; half < 2; ++half) {
      readTile<In>(warp, opA[2 * kt + half], tile);
      for (unsigned r = 0; r < 8; ++r)
        for (unsigned c = 0; c < columns; ++c)
          a[8 * half + r][kt * columns + c] = tile[r * columns + c];
    }
    readTile<In>(warp, opB[kt], tile);
    for (unsigned c = 0; c < columns; ++c)
      for (unsigned n = 0; n < 8; ++n)
        b[kt * columns + c][n] = tile[n * columns + c];
  }
  for (unsigned half = 0; half < 2; ++half) {
    if (HalfAccumulator) {
      readTile<F16In>(warp, opC[half], &acc[8 * half][0]);
    } else {
      auto *c0 = slotOf<float>(warp, opC[2 * half]);
      auto *c1 = slotOf<float>(warp, opC[2 * half + 1]);
      float *to = &acc[8 * half][0];
      for (unsigned l = 0; l < kLanes; ++l) {
        to[2 * l] = bits<float>(c0[l]);
        to[2 * l + 1] = bits<float>(c1[l]);
      }
    }
  }
  // Eight rows at a time, so that one row's sum does not wait for itself.
  for (unsigned m = 0; m < 16; m += 8) {
    Row sum[8];
    for (unsigned r = 0; r < 8; ++r)
      __builtin_memcpy(&sum[r], acc[m + r], sizeof(Row));
    for (unsigned k = 0; k < K; ++k) {
      Row right;
      __builtin_memcpy(&right, b[k], sizeof right);
      for (unsigned r = 0; r < 8; ++r)
        sum[r] += a[m + r][k] * right;
    }
    for (unsigned r = 0; r < 8; ++r)
      __builtin_memcpy(acc[m + r], &sum[r], sizeof(Row));
  }
  for (unsigned half = 0; half < 2; ++half) {
    const float *from = &acc[8 * half][0];
    if (HalfAccumulator) {
      auto *d = slotOf<uint32_t>(warp, opD[half]);
      for (unsigned l = 0; l < kLanes; ++l)
        d[l] = f16FromF32(from[2 * l]) | (f16FromF32(from[2 * l + 1]) << 16);
    } else {
      auto *d0 = slotOf<float>(warp, opD[2 * half]);
      auto *d1 = slotOf<float>(warp, opD[2 * half + 1]);
      for (unsigned l = 0; l < kLanes; ++l) {
        d0[l] = bits<uint32_t>(canonical(from[2 * l]));
        d1[l] = bits<uint32_t>(canonical(from[2 * l + 1]));
      }
    }
  }
}

Handler select(unsigned k, Type input, Type accumulator) {
  bool half = accumulator == Type::F16;
  if (half && input != Type::F16)
    return nullptr;
  if (input == Type::BF16)
    return k == 16  ? mma<BF16In, 16, false>
           : k == 8 ? mma<BF16In, 8, false>
                    : Handler(nullptr);
  if (input == Type::F16) {
    if (k == 16)
      return half ? mma<F16In, 16, true> : mma<F16In, 16, false>;
    if (k == 8)
      return half ? mma<F16In, 8, true> : mma<F16In, 8, false>;
    return nullptr;
  }
  if (input == Type::TF32)
    return k == 8   ? mma<TF32In, 8, false>
           : k == 4 ? mma<TF32In, 4, false>
                    : Handler(nullptr);
  return nullptr;
}

} // namespace
} // namespace delta::sim

namespace delta::sim::DELTA_SIM_ISA {

Handler selectInteger(Op op, ptx::Type type);
Handler selectFloat(Op op, ptx::Type type, const Modifiers &modifiers);
Handler selectHalf(Op op, ptx::Type type, const Modifiers &modifiers);
Handler selectCompare(Compare compare, ptx::Type type, bool ftz);
Handler selectConvert(ptx::Type to, ptx::Type from, const Modifiers &modifiers,
                      bool wideTo, bool wideFrom);
Handler selectConvertPair(ptx::Type to, const Modifiers &modifiers);

Handler selectMma(unsigned k, ptx::Type input, ptx::Type accumulator) {
  return select(k, input, accumulator);
}

} // namespace delta::sim::DELTA_SIM_ISA

namespace delta::sim {

#ifndef DELTA_SIM_SELECTORS
#define DELTA_SIM_SELECTORS opSelectorsBase
#endif

/// The table of this instruction set.
const OpSelectors &DELTA_SIM_SELECTORS() {
  static const OpSelectors selectors = {
      DELTA_SIM_ISA::selectInteger, DELTA_SIM_ISA::selectFloat,
      DELTA_SIM_ISA::selectHalf,    DELTA_SIM_ISA::selectCompare,
      DELTA_SIM_ISA::selectConvert, DELTA_SIM_ISA::selectConvertPair,
      DELTA_SIM_ISA::selectMma};
  return selectors;
}

} // namespace delta::sim
