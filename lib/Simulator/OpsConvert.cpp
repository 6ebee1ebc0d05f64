//===- OpsConvert.cpp - cvt -----------------------------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The conversions that kernels are full of have loops of their own; all others
// go lane by lane through 64-bit integers and doubles, which hold every value
// of every type exactly.
//
//===----------------------------------------------------------------------===//

#include "Formats.h"

#include <cfenv>
#include <cmath>

namespace delta::sim::DELTA_SIM_ISA {

Handler selectConvert(ptx::Type to, ptx::Type from, const Modifiers &modifiers,
                      bool wideTo, bool wideFrom);
Handler selectConvertPair(ptx::Type to, const Modifiers &modifiers);

} // namespace delta::sim::DELTA_SIM_ISA

namespace delta::sim {
namespace {

using ptx::Type;

DELTA_SIM_INLINE bool isInteger(Type type) {
  return type >= Type::B8 && type <= Type::S64;
}

struct Range {
  int64_t low;
  uint64_t high;
};
Range rangeOf(Type type) {
  unsigned width = 8 * ptx::sizeOf(type);
  if (ptx::isSigned(type))
    return {width == 64 ? INT64_MIN : -(int64_t(1) << (width - 1)),
            (uint64_t(1) << (width - 1)) - 1};
  return {0, width == 64 ? UINT64_MAX : (uint64_t(1) << width) - 1};
}

/// Sign- or zero-extends the low bits of a slot.
DELTA_SIM_INLINE uint64_t extend(uint64_t slot, Type type) {
  unsigned shift = 64 - 8 * ptx::sizeOf(type);
  if (ptx::isSigned(type))
    return uint64_t(int64_t(slot << shift) >> shift);
  return (slot << shift) >> shift;
}

double floatValue(uint64_t slot, Type type) {
  switch (type) {
  case Type::F16:
    return f32FromF16(uint32_t(slot) & 0xffff);
  case Type::BF16:
    return f32FromBf16(uint32_t(slot) & 0xffff);
  case Type::F64:
    return bits<double>(slot);
  default:
    return bits<float>(uint32_t(slot));
  }
}

int hostMode(Rounding rounding) {
  switch (rounding) {
  case Rounding::Rz:
    return FE_TOWARDZERO;
  case Rounding::Rm:
    return FE_DOWNWARD;
  case Rounding::Rp:
    return FE_UPWARD;
  default:
    return FE_TONEAREST;
  }
}

/// To an integral value in the given direction.
double integral(double x, Rounding rounding) {
  switch (rounding) {
  case Rounding::Rz:
    return std::trunc(x);
  case Rounding::Rm:
    return std::floor(x);
  case Rounding::Rp:
    return std::ceil(x);
  default:
    return std::nearbyint(x);
  }
}

/// A double to the bits of a floating type.
uint64_t floatBits(double x, Type to, Rounding rounding) {
  switch (to) {
  case Type::F64:
    return bits<uint64_t>(x);
  case Type::F32: {
    volatile double in = x;
    int saved = std::fegetround();
    std::fesetround(hostMode(rounding));
    volatile float f = static_cast<float>(in);
    std::fesetround(saved);
    return bits<uint32_t>(canonical(float(f)));
  }
  case Type::F16:
  case Type::BF16: {
    bool half = to == Type::F16;
    float odd = f32ToOdd(x);
    uint32_t down = half ? f16FromF32Rz(odd) : bf16FromF32Rz(odd);
    if (rounding == Rounding::Rz)
      return down;
    if (rounding == Rounding::Rm || rounding == Rounding::Rp) {
      // Away from zero is the next pattern, unless nothing was cut off.
      double back = floatValue(down, to);
      bool away = back != x && x == x && (x < 0) == (rounding == Rounding::Rm);
      return away ? down + 1 : down;
    }
    return half ? f16FromF32(odd) : bf16FromF32(odd);
  }
  default:
    return tf32FromF32(static_cast<float>(x), rounding);
  }
}

/// A 64-bit integer as a double; with `odd`, one that later rounding to fewer
/// bits rounds as if it were exact.
double integerToDouble(uint64_t value, bool negative) {
  uint64_t magnitude = negative ? 0 - value : value;
  if (magnitude >> 53) {
    uint64_t sticky = (magnitude & 0xfff) != 0;
    magnitude = (magnitude & ~uint64_t(0xfff)) | (sticky << 12);
  }
  double d = static_cast<double>(magnitude);
  return negative ? -d : d;
}

uint64_t convertValue(uint64_t slot, Type to, Type from, Rounding rounding,
                      bool ftz, bool sat, bool relu, bool toInteger) {
  if (isInteger(from)) {
    uint64_t v = extend(slot, from);
    bool negative = ptx::isSigned(from) && int64_t(v) < 0;
    if (isInteger(to)) {
      if (!sat)
        return v;
      Range range = rangeOf(to);
      if (negative)
        return int64_t(v) < range.low ? uint64_t(range.low) : v;
      return v > range.high ? range.high : v;
    }
    if (to == Type::F64 || to == Type::F32) {
      int saved = std::fegetround();
      std::fesetround(hostMode(rounding));
      volatile uint64_t u = v;
      volatile double wide = 0;
      volatile float narrow = 0;
      if (to == Type::F64)
        wide = negative ? double(int64_t(u)) : double(uint64_t(u));
      else
        narrow = negative ? float(int64_t(u)) : float(uint64_t(u));
      std::fesetround(saved);
      if (to == Type::F64)
        return bits<uint64_t>(sat ? saturate(double(wide)) : double(wide));
      return bits<uint32_t>(sat ? saturate(float(narrow)) : float(narrow));
    }
    return floatBits(integerToDouble(v, negative), to, rounding);
  }

  double x = floatValue(slot, from);
  if (ftz && from == Type::F32)
    x = flush(float(x));
  if (isInteger(to)) {
    if (x != x)
      return 0;
    x = integral(x, rounding == Rounding::None ? Rounding::Rz : rounding);
    Range range = rangeOf(to);
    if (x <= double(range.low))
      return uint64_t(range.low);
    if (x >= double(range.high))
      return range.high;
    return x < 0 ? uint64_t(int64_t(x)) : uint64_t(x);
  }
  if (toInteger)
    x = integral(x, rounding);
  if (relu)
    x = x > 0 || x != x ? x : 0;
  if (sat)
    x = saturate(x);
  uint64_t result = floatBits(x, to, toInteger ? Rounding::Rn : rounding);
  if (ftz && to == Type::F32)
    result = bits<uint32_t>(flush(bits<float>(uint32_t(result))));
  return result;
}

/// inst.kind: the type to; flags: the type from; imm: the modifiers.
template <bool WideTo, bool WideFrom>
void convertAny(Warp &warp, const Inst &inst, uint32_t mask) {
  auto to = static_cast<Type>(inst.kind), from = static_cast<Type>(inst.flags);
  auto rounding = static_cast<Rounding>(inst.imm & 15);
  bool ftz = inst.imm & 16, sat = inst.imm & 32, relu = inst.imm & 64,
       toInteger = inst.imm & 128;
  for (uint32_t l = 0; l < kLanes; ++l) {
    if (!((mask >> l) & 1))
      continue;
    uint64_t slot = WideFrom ? slotOf<uint64_t>(warp, inst.op[1])[l]
                             : slotOf<uint32_t>(warp, inst.op[1])[l];
    uint64_t v =
        convertValue(slot, to, from, rounding, ftz, sat, relu, toInteger);
    // A register wider than the type is filled by extension.
    if (isInteger(to))
      v = extend(v, to);
    unsigned inst_bytes = ptx::sizeOf(to);
    if (WideTo)
      slotOf<uint64_t>(warp, inst.op[0])[l] = v;
    else
      slotOf<uint32_t>(warp, inst.op[0])[l] =
          inst.vector == 2 && inst_bytes <= 2 ? uint32_t(v) & 0xffff
                                              : uint32_t(v);
  }
}

template <typename To, typename From, typename F>
void convertLoop(Warp &warp, const Inst &inst, uint32_t mask) {
  auto *a = slotOf<From>(warp, inst.op[1]);
  store<To>(slotOf<To>(warp, inst.op[0]), mask,
            [=](uint32_t l) { return F::apply(Lane<From>::get(a[l])); });
}
template <typename To> struct CastF {
  template <typename From> DELTA_SIM_INLINE To apply(From x) {
    return static_cast<To>(x);
  }
};
struct ToF16F {
  DELTA_SIM_INLINE uint32_t apply(float x) { return f16FromF32(x); }
};
struct ToBf16F {
  DELTA_SIM_INLINE uint32_t apply(float x) { return bf16FromF32(x); }
};
struct FromF16F {
  DELTA_SIM_INLINE float apply(uint32_t h) {
    return canonical(f32FromF16(h & 0xffff));
  }
};
struct FromBf16F {
  DELTA_SIM_INLINE float apply(uint32_t h) {
    return canonical(f32FromBf16(h & 0xffff));
  }
};
template <Rounding R> struct ToTf32F {
  DELTA_SIM_INLINE uint32_t apply(float x) { return tf32FromF32(x, R); }
};

Handler select(Type to, Type from, const Modifiers &m, bool wideTo,
               bool wideFrom) {
  bool plain = !m.ftz && !m.sat && !m.relu && !m.toInteger;
  bool nearest = m.rounding == Rounding::Rn || m.rounding == Rounding::None;
  if (plain && nearest) {
    if (from == Type::F32 && to == Type::F16)
      return convertLoop<uint32_t, float, ToF16F>;
    if (from == Type::F32 && to == Type::BF16)
      return convertLoop<uint32_t, float, ToBf16F>;
    if (from == Type::F16 && to == Type::F32)
      return convertLoop<float, uint32_t, FromF16F>;
    if (from == Type::BF16 && to == Type::F32)
      return convertLoop<float, uint32_t, FromBf16F>;
    if (from == Type::S32 && to == Type::F32)
      return convertLoop<float, int32_t, CastF<float>>;
    if (from == Type::S32 && to == Type::S64 && wideTo && !wideFrom)
      return convertLoop<int64_t, int32_t, CastF<int64_t>>;
    if (from == Type::U32 && (to == Type::U64 || to == Type::S64) && wideTo &&
        !wideFrom)
      return convertLoop<uint64_t, uint32_t, CastF<uint64_t>>;
    if (ptx::sizeOf(from) == 8 && isInteger(from) &&
        (to == Type::U32 || to == Type::S32) && wideFrom && !wideTo)
      return convertLoop<uint32_t, uint64_t, CastF<uint32_t>>;
  }
  if (to == Type::TF32 && !m.relu && from == Type::F32) {
    if (m.rounding == Rounding::Rna)
      return convertLoop<uint32_t, float, ToTf32F<Rounding::Rna>>;
    if (m.rounding == Rounding::Rn)
      return convertLoop<uint32_t, float, ToTf32F<Rounding::Rn>>;
    if (m.rounding == Rounding::Rz)
      return convertLoop<uint32_t, float, ToTf32F<Rounding::Rz>>;
  }
  if (wideTo)
    return wideFrom ? convertAny<true, true> : convertAny<true, false>;
  return wideFrom ? convertAny<false, true> : convertAny<false, false>;
}

template <typename H, bool Rz, bool Relu>
void convertPair(Warp &warp, const Inst &inst, uint32_t mask) {
  auto *a = slotOf<float>(warp, inst.op[1]);
  auto *b = slotOf<float>(warp, inst.op[2]);
  store<uint32_t>(slotOf<uint32_t>(warp, inst.op[0]), mask, [=](uint32_t l) {
    float x = bits<float>(a[l]), y = bits<float>(b[l]);
    if (Relu) {
      x = x <= 0 ? 0.0f : x;
      y = y <= 0 ? 0.0f : y;
    }
    uint32_t high = Rz ? H::putRz(x) : H::put(x);
    uint32_t low = Rz ? H::putRz(y) : H::put(y);
    return low | (high << 16);
  });
}
template <typename H> Handler pickPair(const Modifiers &m) {
  bool rz = m.rounding == Rounding::Rz;
  if (m.relu)
    return rz ? convertPair<H, true, true> : convertPair<H, false, true>;
  return rz ? convertPair<H, true, false> : convertPair<H, false, false>;
}

} // namespace
} // namespace delta::sim

namespace delta::sim::DELTA_SIM_ISA {

Handler selectConvert(ptx::Type to, ptx::Type from, const Modifiers &modifiers,
                      bool wideTo, bool wideFrom) {
  return select(to, from, modifiers, wideTo, wideFrom);
}

Handler selectConvertPair(ptx::Type to, const Modifiers &modifiers) {
  return to == ptx::Type::F16x2 ? pickPair<F16>(modifiers)
                                : pickPair<BF16>(modifiers);
}

} // namespace delta::sim::DELTA_SIM_ISA
