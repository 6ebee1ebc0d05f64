//===- OpsHalf.cpp - f16, bf16 and paired instructions --------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Every operation is exact in double, or rounded to odd there, and then rounded
// once to the format.
//
//===----------------------------------------------------------------------===//

#include "Formats.h"

#include <cmath>

namespace delta::sim::DELTA_SIM_ISA {

Handler selectHalf(Op op, ptx::Type type, const Modifiers &modifiers);

} // namespace delta::sim::DELTA_SIM_ISA

namespace delta::sim {
namespace {

using ptx::Type;

/// inst.flags of this file.
enum : uint8_t { kFtz = 1, kSat = 2, kRelu = 4, kNan = 8 };

/// Rounds an exact (or odd) double to the format, and applies the modifiers.
template <typename H> DELTA_SIM_INLINE uint32_t finish(double x, uint8_t f) {
  uint32_t h = H::put(f32ToOdd(x));
  if (f & kFtz)
    h = H::flush(h);
  if (f & kSat)
    h = H::put(saturate(H::get(h)));
  // Results of NaN are positive ones, so the sign alone decides.
  if (f & kRelu)
    h = h & 0x8000 ? 0 : h;
  return h;
}
template <typename H> DELTA_SIM_INLINE double in(uint32_t h, uint8_t f) {
  return H::get(f & kFtz ? H::flush(h) : h);
}

struct AddF {
  template <typename H>
  DELTA_SIM_INLINE uint32_t apply(uint32_t a, uint32_t b, uint32_t, uint8_t f) {
    return finish<H>(addToOdd(in<H>(a, f), in<H>(b, f)), f);
  }
};
struct SubF {
  template <typename H>
  DELTA_SIM_INLINE uint32_t apply(uint32_t a, uint32_t b, uint32_t, uint8_t f) {
    return finish<H>(addToOdd(in<H>(a, f), -in<H>(b, f)), f);
  }
};
struct MulF {
  template <typename H>
  DELTA_SIM_INLINE uint32_t apply(uint32_t a, uint32_t b, uint32_t, uint8_t f) {
    return finish<H>(in<H>(a, f) * in<H>(b, f), f);
  }
};
struct FmaF {
  template <typename H>
  DELTA_SIM_INLINE uint32_t apply(uint32_t a, uint32_t b, uint32_t c,
                                  uint8_t f) {
    return finish<H>(addToOdd(in<H>(a, f) * in<H>(b, f), in<H>(c, f)), f);
  }
};
struct NegF {
  template <typename H>
  DELTA_SIM_INLINE uint32_t apply(uint32_t a, uint32_t, uint32_t, uint8_t f) {
    return (f & kFtz ? H::flush(a) : a) ^ 0x8000;
  }
};
struct AbsF {
  template <typename H>
  DELTA_SIM_INLINE uint32_t apply(uint32_t a, uint32_t, uint32_t, uint8_t f) {
    return (f & kFtz ? H::flush(a) : a) & 0x7fff;
  }
};
template <bool Max> struct MinMaxF {
  template <typename H>
  DELTA_SIM_INLINE uint32_t apply(uint32_t a, uint32_t b, uint32_t, uint8_t f) {
    if (f & kFtz) {
      a = H::flush(a);
      b = H::flush(b);
    }
    float x = H::get(a), y = H::get(b);
    bool aNan = x != x, bNan = y != y;
    uint32_t tie = Max ? a & b : a | b;
    uint32_t r = x == y ? tie : (Max ? (x > y ? a : b) : (x < y ? a : b));
    if (f & kNan)
      return aNan || bNan ? 0x7fff : r;
    return aNan && bNan ? 0x7fff : aNan ? b : bNan ? a : r;
  }
};
struct Ex2F {
  template <typename H>
  DELTA_SIM_INLINE uint32_t apply(uint32_t a, uint32_t, uint32_t, uint8_t f) {
    return finish<H>(exp2Of(static_cast<float>(in<H>(a, f))), f);
  }
};
struct TanhF {
  template <typename H>
  DELTA_SIM_INLINE uint32_t apply(uint32_t a, uint32_t, uint32_t, uint8_t f) {
    return finish<H>(std::tanh(in<H>(a, f)), f);
  }
};

template <typename F, typename H, unsigned Operands, bool Pair>
void half(Warp &warp, const Inst &inst, uint32_t mask) {
  auto *a = slotOf<uint32_t>(warp, inst.op[1]);
  auto *b = Operands > 1 ? slotOf<uint32_t>(warp, inst.op[2]) : a;
  auto *c = Operands > 2 ? slotOf<uint32_t>(warp, inst.op[3]) : a;
  uint8_t f = inst.flags;
  store<uint32_t>(slotOf<uint32_t>(warp, inst.op[0]), mask, [=](uint32_t l) {
    uint32_t low =
        F::template apply<H>(a[l] & 0xffff, b[l] & 0xffff, c[l] & 0xffff, f);
    if (!Pair)
      return low;
    return low |
           (F::template apply<H>(a[l] >> 16, b[l] >> 16, c[l] >> 16, f) << 16);
  });
}

template <typename F, typename H, bool Pair>
void ex2(Warp &warp, const Inst &inst, uint32_t mask) {
  warp.cta->stats->ex2 += uint64_t(__builtin_popcount(mask)) * (Pair ? 2 : 1);
  half<F, H, 1, Pair>(warp, inst, mask);
}

template <typename F, unsigned Operands> Handler pick(Type type) {
  switch (type) {
  case Type::F16:
    return half<F, F16, Operands, false>;
  case Type::F16x2:
    return half<F, F16, Operands, true>;
  case Type::BF16:
    return half<F, BF16, Operands, false>;
  case Type::BF16x2:
    return half<F, BF16, Operands, true>;
  default:
    return nullptr;
  }
}

Handler select(Op op, Type type, const Modifiers &) {
  switch (op) {
  case Op::Add:
    return pick<AddF, 2>(type);
  case Op::Sub:
    return pick<SubF, 2>(type);
  case Op::Mul:
    return pick<MulF, 2>(type);
  case Op::Fma:
    return pick<FmaF, 3>(type);
  case Op::Neg:
    return pick<NegF, 1>(type);
  case Op::Abs:
    return pick<AbsF, 1>(type);
  case Op::Min:
    return pick<MinMaxF<false>, 2>(type);
  case Op::Max:
    return pick<MinMaxF<true>, 2>(type);
  case Op::Tanh:
    return pick<TanhF, 1>(type);
  case Op::Ex2:
    switch (type) {
    case Type::F16:
      return ex2<Ex2F, F16, false>;
    case Type::F16x2:
      return ex2<Ex2F, F16, true>;
    case Type::BF16:
      return ex2<Ex2F, BF16, false>;
    case Type::BF16x2:
      return ex2<Ex2F, BF16, true>;
    default:
      return nullptr;
    }
  default:
    return nullptr;
  }
}

} // namespace
} // namespace delta::sim

namespace delta::sim::DELTA_SIM_ISA {

Handler selectHalf(Op op, ptx::Type type, const Modifiers &modifiers) {
  return select(op, type, modifiers);
}

} // namespace delta::sim::DELTA_SIM_ISA
