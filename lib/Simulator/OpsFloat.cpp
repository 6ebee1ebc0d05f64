//===- OpsFloat.cpp - f32 and f64 instructions ----------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Arithmetic with the ISA's treatment of subnormals, NaN and rounding. Rounding
// to nearest is the host's; other directions switch the host's mode and go lane
// by lane. Approximations are computed in double and rounded, which is within
// the error that the ISA allows.
//
//===----------------------------------------------------------------------===//

#include "Formats.h"

#include <cfenv>
#include <cmath>

namespace delta::sim::DELTA_SIM_ISA {

Handler selectFloat(Op op, ptx::Type type, const Modifiers &modifiers);

} // namespace delta::sim::DELTA_SIM_ISA

namespace delta::sim {
namespace {

using ptx::Type;

template <typename T, bool Ftz> DELTA_SIM_INLINE T in(T x) {
  return Ftz ? flush(x) : x;
}
template <typename T, bool Ftz, bool Sat> DELTA_SIM_INLINE T out(T x) {
  x = canonical(x);
  if (Ftz)
    x = flush(x);
  return Sat ? saturate(x) : x;
}

DELTA_SIM_INLINE float fusedMultiplyAdd(float a, float b, float c) {
  return __builtin_fmaf(a, b, c);
}
DELTA_SIM_INLINE double fusedMultiplyAdd(double a, double b, double c) {
  return __builtin_fma(a, b, c);
}
DELTA_SIM_INLINE float squareRoot(float a) { return __builtin_sqrtf(a); }
DELTA_SIM_INLINE double squareRoot(double a) { return __builtin_sqrt(a); }

#define DELTA_FLOAT_BINARY(NAME, EXPRESSION)                                   \
  template <typename T, bool Ftz, bool Sat> struct NAME {                      \
    DELTA_SIM_INLINE T apply(T a, T b) {                                       \
      a = in<T, Ftz>(a);                                                       \
      b = in<T, Ftz>(b);                                                       \
      return out<T, Ftz, Sat>(EXPRESSION);                                     \
    }                                                                          \
  };
DELTA_FLOAT_BINARY(AddF, a + b)
DELTA_FLOAT_BINARY(SubF, a - b)
DELTA_FLOAT_BINARY(MulF, a *b)
DELTA_FLOAT_BINARY(DivF, a / b)
#undef DELTA_FLOAT_BINARY

template <typename T, bool Ftz, bool Sat> struct FmaF {
  DELTA_SIM_INLINE T apply(T a, T b, T c) {
    return out<T, Ftz, Sat>(
        fusedMultiplyAdd(in<T, Ftz>(a), in<T, Ftz>(b), in<T, Ftz>(c)));
  }
};

/// minNum and maxNum with -0 below +0; with Nan, a NaN is passed on.
template <typename T, bool Ftz, bool Nan, bool Max> struct MinMaxF {
  DELTA_SIM_INLINE T apply(T a, T b) {
    a = in<T, Ftz>(a);
    b = in<T, Ftz>(b);
    using Slot = typename Lane<T>::Slot;
    Slot x = Lane<T>::put(a), y = Lane<T>::put(b);
    // For equal values only zeros can differ, in their sign bits.
    T tie = Lane<T>::get(Max ? x & y : x | y);
    T r = a == b ? tie : (Max ? (a > b ? a : b) : (a < b ? a : b));
    if (Nan)
      r = a != a ? a : b != b ? b : r;
    else
      r = a != a ? b : b != b ? a : r;
    return canonical(r);
  }
};

template <typename T, bool Ftz> struct AbsF {
  DELTA_SIM_INLINE T apply(T a) {
    constexpr typename Lane<T>::Slot sign = typename Lane<T>::Slot(1)
                                            << (8 * sizeof(T) - 1);
    return Lane<T>::get(Lane<T>::put(in<T, Ftz>(a)) & ~sign);
  }
};
template <typename T, bool Ftz> struct NegF {
  DELTA_SIM_INLINE T apply(T a) {
    constexpr typename Lane<T>::Slot sign = typename Lane<T>::Slot(1)
                                            << (8 * sizeof(T) - 1);
    return Lane<T>::get(Lane<T>::put(in<T, Ftz>(a)) ^ sign);
  }
};
template <typename T> struct CopysignF {
  DELTA_SIM_INLINE T apply(T a, T b) {
    constexpr typename Lane<T>::Slot sign = typename Lane<T>::Slot(1)
                                            << (8 * sizeof(T) - 1);
    return Lane<T>::get((Lane<T>::put(a) & sign) | (Lane<T>::put(b) & ~sign));
  }
};

#define DELTA_FLOAT_UNARY(NAME, EXPRESSION)                                    \
  template <typename T, bool Ftz> struct NAME {                                \
    DELTA_SIM_INLINE T apply(T a) {                                            \
      a = in<T, Ftz>(a);                                                       \
      return out<T, Ftz, false>(EXPRESSION);                                   \
    }                                                                          \
  };
DELTA_FLOAT_UNARY(RcpF, T(1) / a)
DELTA_FLOAT_UNARY(SqrtF, squareRoot(a))
DELTA_FLOAT_UNARY(RsqrtF, static_cast<T>(1.0 / __builtin_sqrt(double(a))))
DELTA_FLOAT_UNARY(SinF, static_cast<T>(std::sin(double(a))))
DELTA_FLOAT_UNARY(CosF, static_cast<T>(std::cos(double(a))))
DELTA_FLOAT_UNARY(Lg2F, static_cast<T>(std::log2(double(a))))
DELTA_FLOAT_UNARY(TanhF, static_cast<T>(std::tanh(double(a))))
DELTA_FLOAT_UNARY(Ex2F, exp2Of(a))
#undef DELTA_FLOAT_UNARY

/// ex2 is counted by lane.
template <bool Ftz> void ex2(Warp &warp, const Inst &inst, uint32_t mask) {
  warp.cta->stats->ex2 += uint64_t(__builtin_popcount(mask));
  unary<Ex2F<float, Ftz>, float>(warp, inst, mask);
}

/// testp: inst.kind 0 finite, 1 infinite, 2 number, 3 notanumber, 4 normal,
/// 5 subnormal; op[0] is a predicate.
template <typename T> void testp(Warp &warp, const Inst &inst, uint32_t mask) {
  auto *a = slotOf<T>(warp, inst.op[1]);
  using Slot = typename Lane<T>::Slot;
  constexpr unsigned mantissa = sizeof(T) == 4 ? 23 : 52;
  constexpr Slot field = Slot(sizeof(T) == 4 ? 0xff : 0x7ff);
  uint32_t result = 0;
  for (uint32_t l = 0; l < kLanes; ++l) {
    Slot exponent = (a[l] >> mantissa) & field;
    Slot fraction = a[l] & ((Slot(1) << mantissa) - 1);
    bool special = exponent == field;
    bool r = false;
    switch (inst.kind) {
    case 0:
      r = !special;
      break;
    case 1:
      r = special && fraction == 0;
      break;
    case 2:
      r = !special || fraction == 0;
      break;
    case 3:
      r = special && fraction != 0;
      break;
    case 4:
      r = !special && exponent != 0;
      break;
    case 5:
      r = exponent == 0 && fraction != 0;
      break;
    }
    result |= uint32_t(r) << l;
  }
  uint32_t &d = warp.predicates[inst.op[0]];
  d = (d & ~mask) | (result & mask);
}

/// One operation in another rounding mode; volatile keeps the compiler from
/// moving it out of the mode's reach.
template <typename T> T directed(Op op, T a, T b, T c) {
  volatile T x = a, y = b, z = c, r = 0;
  switch (op) {
  case Op::Add:
    r = x + y;
    break;
  case Op::Sub:
    r = x - y;
    break;
  case Op::Mul:
    r = x * y;
    break;
  case Op::Div:
    r = x / y;
    break;
  case Op::Fma:
    r = fusedMultiplyAdd(T(x), T(y), T(z));
    break;
  case Op::Rcp:
    r = T(1) / x;
    break;
  case Op::Sqrt:
    r = squareRoot(T(x));
    break;
  default:
    break;
  }
  return r;
}

/// inst.kind: an Op; flags: 1 ftz, 2 sat, 4.. the Rounding.
template <typename T>
void directedOp(Warp &warp, const Inst &inst, uint32_t mask) {
  auto *d = slotOf<T>(warp, inst.op[0]);
  auto *a = slotOf<T>(warp, inst.op[1]);
  auto *b = inst.op[2] == kNone ? a : slotOf<T>(warp, inst.op[2]);
  auto *c = inst.op[3] == kNone ? a : slotOf<T>(warp, inst.op[3]);
  bool ftz = inst.flags & 1, sat = inst.flags & 2;
  auto rounding = static_cast<Rounding>(inst.flags >> 2);
  int saved = std::fegetround();
  std::fesetround(rounding == Rounding::Rz   ? FE_TOWARDZERO
                  : rounding == Rounding::Rm ? FE_DOWNWARD
                                             : FE_UPWARD);
  T results[kLanes];
  for (uint32_t l = 0; l < kLanes; ++l) {
    T x = Lane<T>::get(a[l]), y = Lane<T>::get(b[l]), z = Lane<T>::get(c[l]);
    if (ftz) {
      x = flush(x);
      y = flush(y);
      z = flush(z);
    }
    results[l] = directed(static_cast<Op>(inst.kind), x, y, z);
  }
  std::fesetround(saved);
  for (uint32_t l = 0; l < kLanes; ++l) {
    if (!((mask >> l) & 1))
      continue;
    T r = canonical(results[l]);
    if (ftz)
      r = flush(r);
    d[l] = Lane<T>::put(sat ? saturate(r) : r);
  }
}

template <template <typename, bool, bool> class F>
Handler arithmetic(Type type, const Modifiers &m) {
  if (type == Type::F64)
    return m.sat ? nullptr : binary<F<double, false, false>, double>;
  if (type != Type::F32)
    return nullptr;
  if (m.ftz)
    return m.sat ? binary<F<float, true, true>, float>
                 : binary<F<float, true, false>, float>;
  return m.sat ? binary<F<float, false, true>, float>
               : binary<F<float, false, false>, float>;
}

template <template <typename, bool> class F>
Handler function(Type type, const Modifiers &m) {
  if (type == Type::F64)
    return unary<F<double, false>, double>;
  if (type != Type::F32)
    return nullptr;
  return m.ftz ? unary<F<float, true>, float> : unary<F<float, false>, float>;
}

template <bool Max> Handler minMax(Type type, const Modifiers &m) {
  if (type == Type::F64)
    return binary<MinMaxF<double, false, false, Max>, double>;
  if (type != Type::F32)
    return nullptr;
  if (m.ftz)
    return m.nan ? binary<MinMaxF<float, true, true, Max>, float>
                 : binary<MinMaxF<float, true, false, Max>, float>;
  return m.nan ? binary<MinMaxF<float, false, true, Max>, float>
               : binary<MinMaxF<float, false, false, Max>, float>;
}

Handler select(Op op, Type type, const Modifiers &m) {
  bool directed = m.rounding == Rounding::Rz || m.rounding == Rounding::Rm ||
                  m.rounding == Rounding::Rp;
  if (directed) {
    switch (op) {
    case Op::Add:
    case Op::Sub:
    case Op::Mul:
    case Op::Div:
    case Op::Fma:
    case Op::Rcp:
    case Op::Sqrt:
      return type == Type::F64   ? directedOp<double>
             : type == Type::F32 ? directedOp<float>
                                 : Handler(nullptr);
    default:
      return nullptr;
    }
  }
  switch (op) {
  case Op::Add:
    return arithmetic<AddF>(type, m);
  case Op::Sub:
    return arithmetic<SubF>(type, m);
  case Op::Mul:
    return arithmetic<MulF>(type, m);
  case Op::Div:
    return arithmetic<DivF>(type, m);
  case Op::Fma:
    if (type == Type::F64)
      return ternary<FmaF<double, false, false>, double>;
    if (m.ftz)
      return m.sat ? ternary<FmaF<float, true, true>, float>
                   : ternary<FmaF<float, true, false>, float>;
    return m.sat ? ternary<FmaF<float, false, true>, float>
                 : ternary<FmaF<float, false, false>, float>;
  case Op::Min:
    return minMax<false>(type, m);
  case Op::Max:
    return minMax<true>(type, m);
  case Op::Abs:
    return function<AbsF>(type, m);
  case Op::Neg:
    return function<NegF>(type, m);
  case Op::Rcp:
    return function<RcpF>(type, m);
  case Op::Sqrt:
    return function<SqrtF>(type, m);
  case Op::Rsqrt:
    return function<RsqrtF>(type, m);
  case Op::Sin:
    return type == Type::F32 ? function<SinF>(type, m) : nullptr;
  case Op::Cos:
    return type == Type::F32 ? function<CosF>(type, m) : nullptr;
  case Op::Lg2:
    return type == Type::F32 ? function<Lg2F>(type, m) : nullptr;
  case Op::Tanh:
    return type == Type::F32 ? function<TanhF>(type, m) : nullptr;
  case Op::Ex2:
    return type != Type::F32 ? nullptr : m.ftz ? ex2<true> : ex2<false>;
  case Op::Copysign:
    return type == Type::F64 ? binary<CopysignF<double>, double>
                             : binary<CopysignF<float>, float>;
  case Op::Testp:
    return type == Type::F64 ? testp<double> : testp<float>;
  default:
    return nullptr;
  }
}

} // namespace
} // namespace delta::sim

namespace delta::sim::DELTA_SIM_ISA {

Handler selectFloat(Op op, ptx::Type type, const Modifiers &modifiers) {
  return select(op, type, modifiers);
}

} // namespace delta::sim::DELTA_SIM_ISA
