//===- OpsInteger.cpp - integer arithmetic --------------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Sums, products, quotients, carries and dot products.
//
//===----------------------------------------------------------------------===//

#include "IntegerTypes.h"

namespace delta::sim::DELTA_SIM_ISA {

Handler selectInteger(Op op, ptx::Type type);
Handler selectBits(Op op, ptx::Type type);

} // namespace delta::sim::DELTA_SIM_ISA

namespace delta::sim {
namespace {

using ptx::Type;

#define DELTA_INT_BINARY(NAME, EXPRESSION)                                     \
  template <typename T> struct NAME {                                          \
    DELTA_SIM_INLINE T apply(T a, T b) { return EXPRESSION; }                  \
  };
DELTA_INT_BINARY(AddF, static_cast<T>(raw(a) + raw(b)))
DELTA_INT_BINARY(SubF, static_cast<T>(raw(a) - raw(b)))
DELTA_INT_BINARY(MulLoF, multiply(a, b))
DELTA_INT_BINARY(MulHiF, static_cast<T>((static_cast<WideOf<T>>(a) *
                                         static_cast<WideOf<T>>(b)) >>
                                        (8 * sizeof(T))))
DELTA_INT_BINARY(MinF, a < b ? a : b)
DELTA_INT_BINARY(MaxF, a < b ? b : a)
#undef DELTA_INT_BINARY

template <typename T> struct Mul24F {
  DELTA_SIM_INLINE T apply(T a, T b) {
    if constexpr (isSignedType<T>)
      return static_cast<T>(int64_t(int32_t(raw(a) << 8) >> 8) *
                            int64_t(int32_t(raw(b) << 8) >> 8));
    else
      return static_cast<T>(uint64_t(a & 0xffffff) * (b & 0xffffff));
  }
};
template <typename T> struct Mad24F {
  DELTA_SIM_INLINE T apply(T a, T b, T c) {
    return AddF<T>::apply(Mul24F<T>::apply(a, b), c);
  }
};

/// Division by zero gives all ones, and the most negative by -1 itself.
template <typename T> struct DivF {
  DELTA_SIM_INLINE T apply(T a, T b) {
    if (b == 0)
      return static_cast<T>(-1);
    if constexpr (isSignedType<T>)
      if (b == T(-1))
        return static_cast<T>(0 - raw(a));
    return static_cast<T>(a / b);
  }
};
template <typename T> struct RemF {
  DELTA_SIM_INLINE T apply(T a, T b) {
    if (b == 0)
      return a;
    if constexpr (isSignedType<T>)
      if (b == T(-1))
        return 0;
    return static_cast<T>(a % b);
  }
};
template <typename T> struct SadF {
  DELTA_SIM_INLINE T apply(T a, T b, T c) {
    return static_cast<T>(raw(c) + (a < b ? raw(b) - raw(a) : raw(a) - raw(b)));
  }
};
template <typename T> struct MadLoF {
  DELTA_SIM_INLINE T apply(T a, T b, T c) {
    return static_cast<T>(raw(multiply(a, b)) + raw(c));
  }
};
template <typename T> struct MadHiF {
  DELTA_SIM_INLINE T apply(T a, T b, T c) {
    return static_cast<T>(raw(MulHiF<T>::apply(a, b)) + raw(c));
  }
};

template <typename T> struct AbsF {
  DELTA_SIM_INLINE T apply(T a) {
    return a < 0 ? static_cast<T>(0 - raw(a)) : a;
  }
};
template <typename T> struct NegF {
  DELTA_SIM_INLINE T apply(T a) { return static_cast<T>(0 - raw(a)); }
};
template <typename T>
void mulWide(Warp &warp, const Inst &inst, uint32_t mask) {
  auto *a = slotOf<T>(warp, inst.op[1]);
  auto *b = slotOf<T>(warp, inst.op[2]);
  using W = WideOf<T>;
  store<W>(slotOf<W>(warp, inst.op[0]), mask, [=](uint32_t l) {
    return static_cast<W>(W(Lane<T>::get(a[l])) * W(Lane<T>::get(b[l])));
  });
}
template <typename T>
void madWide(Warp &warp, const Inst &inst, uint32_t mask) {
  auto *a = slotOf<T>(warp, inst.op[1]);
  auto *b = slotOf<T>(warp, inst.op[2]);
  using W = WideOf<T>;
  auto *c = slotOf<W>(warp, inst.op[3]);
  store<W>(slotOf<W>(warp, inst.op[0]), mask, [=](uint32_t l) {
    return static_cast<W>(
        raw(static_cast<W>(W(Lane<T>::get(a[l])) * W(Lane<T>::get(b[l])))) +
        raw(Lane<W>::get(c[l])));
  });
}

/// Addition and subtraction that read or write the carry.
template <typename T, bool Subtract, bool Reads, bool Writes>
void carryOp(Warp &warp, const Inst &i, uint32_t mask) {
  auto *a = slotOf<T>(warp, i.op[1]);
  auto *b = slotOf<T>(warp, i.op[2]);
  auto *d = slotOf<T>(warp, i.op[0]);
  for (uint32_t l = 0; l < kLanes; ++l) {
    if (!((mask >> l) & 1))
      continue;
    unsigned __int128 x = a[l], y = b[l];
    unsigned __int128 in = Reads ? (warp.carry >> l) & 1 : 0;
    unsigned __int128 sum = Subtract ? x - y - in : x + y + in;
    d[l] = static_cast<T>(sum);
    if (Writes) {
      uint32_t out = uint32_t(sum >> (8 * sizeof(T))) & 1;
      warp.carry = (warp.carry & ~(1u << l)) | (out << l);
    }
  }
}

template <typename A, typename B>
void dp4a(Warp &warp, const Inst &i, uint32_t mask) {
  auto *a = slotOf<uint32_t>(warp, i.op[1]);
  auto *b = slotOf<uint32_t>(warp, i.op[2]);
  auto *c = slotOf<uint32_t>(warp, i.op[3]);
  store<uint32_t>(slotOf<uint32_t>(warp, i.op[0]), mask, [=](uint32_t l) {
    uint32_t sum = c[l];
    for (unsigned n = 0; n < 32; n += 8)
      sum += uint32_t(int32_t(A(a[l] >> n)) * int32_t(B(b[l] >> n)));
    return sum;
  });
}
/// Two 16-bit halves at once.
template <typename T, template <typename> class F> struct Halves {
  DELTA_SIM_INLINE uint32_t apply(uint32_t a, uint32_t b) {
    uint32_t low = uint16_t(F<T>::apply(T(a), T(b)));
    uint32_t high = uint16_t(F<T>::apply(T(a >> 16), T(b >> 16)));
    return low | (high << 16);
  }
};

template <template <typename> class F> Handler selectPair(Type type) {
  if (type == Type::U16x2)
    return binary<Halves<uint16_t, F>, uint32_t>;
  return binary<Halves<int16_t, F>, uint32_t>;
}

Handler select(Op op, Type type) {
  if (type == Type::U16x2 || type == Type::S16x2) {
    switch (op) {
    case Op::Add:
      return selectPair<AddF>(type);
    case Op::Min:
      return selectPair<MinF>(type);
    case Op::Max:
      return selectPair<MaxF>(type);
    default:
      return nullptr;
    }
  }
  switch (op) {
#define X(T) binary<AddF<T>, T>
  case Op::Add:
    DELTA_INT_TYPES(X)
#undef X
#define X(T) binary<SubF<T>, T>
  case Op::Sub:
    DELTA_INT_TYPES(X)
#undef X
#define X(T) binary<MulLoF<T>, T>
  case Op::MulLo:
    DELTA_INT_TYPES(X)
#undef X
#define X(T) binary<MulHiF<T>, T>
  case Op::MulHi:
    DELTA_INT_TYPES(X)
#undef X
#define X(T) binary<MinF<T>, T>
  case Op::Min:
    DELTA_INT_TYPES(X)
#undef X
#define X(T) binary<MaxF<T>, T>
  case Op::Max:
    DELTA_INT_TYPES(X)
#undef X
#define X(T) binary<DivF<T>, T>
  case Op::Div:
    DELTA_INT_TYPES(X)
#undef X
#define X(T) binary<RemF<T>, T>
  case Op::Rem:
    DELTA_INT_TYPES(X)
#undef X
#define X(T) ternary<MadLoF<T>, T>
  case Op::MadLo:
    DELTA_INT_TYPES(X)
#undef X
#define X(T) ternary<MadHiF<T>, T>
  case Op::MadHi:
    DELTA_INT_TYPES(X)
#undef X
#define X(T) ternary<SadF<T>, T>
  case Op::Sad:
    DELTA_INT_TYPES(X)
#undef X
#define X(T) unary<AbsF<T>, T>
  case Op::Abs:
    DELTA_INT_TYPES(X)
#undef X
#define X(T) unary<NegF<T>, T>
  case Op::Neg:
    DELTA_INT_TYPES(X)
#undef X
  case Op::MulWide:
    switch (type) {
    case Type::U16:
      return mulWide<uint16_t>;
    case Type::S16:
      return mulWide<int16_t>;
    case Type::U32:
      return mulWide<uint32_t>;
    case Type::S32:
      return mulWide<int32_t>;
    default:
      return nullptr;
    }
  case Op::MadWide:
    switch (type) {
    case Type::U16:
      return madWide<uint16_t>;
    case Type::S16:
      return madWide<int16_t>;
    case Type::U32:
      return madWide<uint32_t>;
    case Type::S32:
      return madWide<int32_t>;
    default:
      return nullptr;
    }
  case Op::Mul24:
    return type == Type::U32   ? binary<Mul24F<uint32_t>, uint32_t>
           : type == Type::S32 ? binary<Mul24F<int32_t>, int32_t>
                               : Handler(nullptr);
  case Op::Mad24:
    return type == Type::U32   ? ternary<Mad24F<uint32_t>, uint32_t>
           : type == Type::S32 ? ternary<Mad24F<int32_t>, int32_t>
                               : Handler(nullptr);
  case Op::AddCc:
  case Op::Addc:
  case Op::AddcCc:
  case Op::SubCc:
  case Op::Subc:
  case Op::SubcCc: {
    bool wide = ptx::sizeOf(type) == 8;
    switch (op) {
    case Op::AddCc:
      return wide ? carryOp<uint64_t, false, false, true>
                  : carryOp<uint32_t, false, false, true>;
    case Op::Addc:
      return wide ? carryOp<uint64_t, false, true, false>
                  : carryOp<uint32_t, false, true, false>;
    case Op::AddcCc:
      return wide ? carryOp<uint64_t, false, true, true>
                  : carryOp<uint32_t, false, true, true>;
    case Op::SubCc:
      return wide ? carryOp<uint64_t, true, false, true>
                  : carryOp<uint32_t, true, false, true>;
    case Op::Subc:
      return wide ? carryOp<uint64_t, true, true, false>
                  : carryOp<uint32_t, true, true, false>;
    default:
      return wide ? carryOp<uint64_t, true, true, true>
                  : carryOp<uint32_t, true, true, true>;
    }
  }
  case Op::Dp4aUU:
    return dp4a<uint8_t, uint8_t>;
  case Op::Dp4aUS:
    return dp4a<uint8_t, int8_t>;
  case Op::Dp4aSU:
    return dp4a<int8_t, uint8_t>;
  case Op::Dp4aSS:
    return dp4a<int8_t, int8_t>;
  default:
    return nullptr;
  }
}

} // namespace
} // namespace delta::sim

namespace delta::sim::DELTA_SIM_ISA {

Handler selectInteger(Op op, ptx::Type type) {
  Handler handler = select(op, type);
  return handler ? handler : selectBits(op, type);
}

} // namespace delta::sim::DELTA_SIM_ISA
