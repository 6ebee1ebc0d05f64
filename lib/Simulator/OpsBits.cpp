//===- OpsBits.cpp - logic, shifts, bit fields and moves ------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Everything on bits: also selections, packing and predicates.
//
//===----------------------------------------------------------------------===//

#include "IntegerTypes.h"

namespace delta::sim::DELTA_SIM_ISA {

Handler selectBits(Op op, ptx::Type type);

} // namespace delta::sim::DELTA_SIM_ISA

namespace delta::sim {
namespace {

using ptx::Type;

#define DELTA_BITS_BINARY(NAME, OPERATOR)                                      \
  template <typename T> struct NAME {                                          \
    DELTA_SIM_INLINE T apply(T a, T b) {                                       \
      return static_cast<T>(a OPERATOR b);                                     \
    }                                                                          \
  };
DELTA_BITS_BINARY(AndF, &)
DELTA_BITS_BINARY(OrF, |)
DELTA_BITS_BINARY(XorF, ^)
#undef DELTA_BITS_BINARY

template <typename T> struct NotF {
  DELTA_SIM_INLINE T apply(T a) { return static_cast<T>(~a); }
};
template <typename T> struct CnotF {
  DELTA_SIM_INLINE T apply(T a) { return a == 0 ? 1 : 0; }
};

/// Shift amounts are 32-bit and clamp at the width.
template <typename T> void shiftLeft(Warp &warp, const Inst &i, uint32_t mask) {
  auto *a = slotOf<T>(warp, i.op[1]);
  auto *b = slotOf<uint32_t>(warp, i.op[2]);
  store<T>(slotOf<T>(warp, i.op[0]), mask, [=](uint32_t l) {
    constexpr uint32_t width = 8 * sizeof(T);
    uint32_t n = b[l];
    T v = Lane<T>::get(a[l]);
    return n >= width ? T(0) : static_cast<T>(v << (n & (width - 1)));
  });
}
template <typename T>
void shiftRight(Warp &warp, const Inst &i, uint32_t mask) {
  auto *a = slotOf<T>(warp, i.op[1]);
  auto *b = slotOf<uint32_t>(warp, i.op[2]);
  store<T>(slotOf<T>(warp, i.op[0]), mask, [=](uint32_t l) {
    constexpr uint32_t width = 8 * sizeof(T);
    uint32_t n = b[l] < width ? b[l] : width - 1;
    T v = Lane<T>::get(a[l]);
    T shifted = static_cast<T>(v >> n);
    return !isSignedType<T> && b[l] >= width ? T(0) : shifted;
  });
}

template <bool Left, bool Clamp> struct Funnel {
  DELTA_SIM_INLINE uint32_t apply(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t n = Clamp ? (c < 32 ? c : 32) : c & 31;
    uint64_t pair = (uint64_t(b) << 32) | a;
    return static_cast<uint32_t>(Left ? (pair << n) >> 32 : pair >> n);
  }
};

template <typename T> struct PopcF {
  DELTA_SIM_INLINE uint32_t apply(T a) {
    return static_cast<uint32_t>(__builtin_popcountll(raw(a)));
  }
};
template <typename T> struct ClzF {
  DELTA_SIM_INLINE uint32_t apply(T a) {
    if (a == 0)
      return 8 * sizeof(T);
    return static_cast<uint32_t>(__builtin_clzll(raw(a)) -
                                 (64 - 8 * int(sizeof(T))));
  }
};
template <typename T, bool Shift> struct BfindF {
  DELTA_SIM_INLINE uint32_t apply(T a) {
    UnsignedOf<T> v = raw(a);
    if (isSignedType<T> && a < 0)
      v = static_cast<UnsignedOf<T>>(~v);
    if (v == 0)
      return UINT32_MAX;
    uint32_t position = 63 - uint32_t(__builtin_clzll(v));
    return Shift ? 8 * sizeof(T) - 1 - position : position;
  }
};
template <typename T> struct BrevF {
  DELTA_SIM_INLINE T apply(T a) {
    T result = 0;
    for (unsigned i = 0; i < 8 * sizeof(T); ++i)
      result |= ((a >> i) & 1) << (8 * sizeof(T) - 1 - i);
    return result;
  }
};

/// bfe: position and length are the low bytes of b and c.
template <typename T> void bfe(Warp &warp, const Inst &i, uint32_t mask) {
  auto *a = slotOf<T>(warp, i.op[1]);
  auto *b = slotOf<uint32_t>(warp, i.op[2]);
  auto *c = slotOf<uint32_t>(warp, i.op[3]);
  store<T>(slotOf<T>(warp, i.op[0]), mask, [=](uint32_t l) {
    constexpr uint32_t msb = 8 * sizeof(T) - 1;
    uint32_t pos = b[l] & 255, len = c[l] & 255;
    UnsignedOf<T> v = raw(Lane<T>::get(a[l])), result = 0;
    if (len == 0)
      return T(0);
    uint32_t last = pos + len - 1;
    bool sign = isSignedType<T> && ((v >> (last < msb ? last : msb)) & 1);
    if (pos <= msb)
      result = static_cast<UnsignedOf<T>>(v >> pos);
    uint32_t have = pos > msb ? 0 : msb + 1 - pos;
    uint32_t keep = len < have ? len : have;
    UnsignedOf<T> field =
        keep > msb ? UnsignedOf<T>(-1)
                   : static_cast<UnsignedOf<T>>((UnsignedOf<T>(1) << keep) - 1);
    result &= field;
    if (sign)
      result |= static_cast<UnsignedOf<T>>(~field);
    return static_cast<T>(result);
  });
}
template <typename T> void bfi(Warp &warp, const Inst &i, uint32_t mask) {
  auto *a = slotOf<T>(warp, i.op[1]);
  auto *b = slotOf<T>(warp, i.op[2]);
  auto *c = slotOf<uint32_t>(warp, i.op[3]);
  auto *d = slotOf<uint32_t>(warp, i.op[4]);
  store<T>(slotOf<T>(warp, i.op[0]), mask, [=](uint32_t l) {
    constexpr uint32_t width = 8 * sizeof(T);
    uint32_t pos = c[l] & 255, len = d[l] & 255;
    if (pos >= width || len == 0)
      return T(b[l]);
    T field = len >= width ? T(-1) : static_cast<T>((T(1) << len) - 1);
    field = static_cast<T>(field << pos);
    return static_cast<T>((T(b[l]) & ~field) | ((T(a[l]) << pos) & field));
  });
}

/// inst.kind: 0 plain, then f4e, b4e, rc8, ecl, ecr, rc16.
void prmt(Warp &warp, const Inst &i, uint32_t mask) {
  auto *a = slotOf<uint32_t>(warp, i.op[1]);
  auto *b = slotOf<uint32_t>(warp, i.op[2]);
  auto *c = slotOf<uint32_t>(warp, i.op[3]);
  unsigned mode = i.kind;
  store<uint32_t>(slotOf<uint32_t>(warp, i.op[0]), mask, [=](uint32_t l) {
    uint64_t pair = (uint64_t(b[l]) << 32) | a[l];
    uint32_t result = 0;
    for (uint32_t n = 0; n < 4; ++n) {
      uint32_t selector, s = c[l] & 3;
      switch (mode) {
      case 1:
        selector = s + n;
        break;
      case 2:
        selector = (s - n) & 7;
        break;
      case 3:
        selector = s;
        break;
      case 4:
        selector = n > s ? n : s;
        break;
      case 5:
        selector = n < s ? n : s;
        break;
      case 6:
        selector = (s & 1) * 2 + (n & 1);
        break;
      default:
        selector = (c[l] >> (4 * n)) & 15;
        break;
      }
      uint32_t byte = uint32_t(pair >> (8 * (selector & 7))) & 255;
      if (mode == 0 && selector & 8)
        byte = byte & 128 ? 255 : 0;
      result |= byte << (8 * n);
    }
    return result;
  });
}

void lop3(Warp &warp, const Inst &i, uint32_t mask) {
  auto *a = slotOf<uint32_t>(warp, i.op[1]);
  auto *b = slotOf<uint32_t>(warp, i.op[2]);
  auto *c = slotOf<uint32_t>(warp, i.op[3]);
  uint32_t table = uint32_t(i.imm);
  uint32_t m[8];
  for (unsigned n = 0; n < 8; ++n)
    m[n] = (table >> n) & 1 ? UINT32_MAX : 0;
  store<uint32_t>(slotOf<uint32_t>(warp, i.op[0]), mask, [=](uint32_t l) {
    uint32_t x = a[l], y = b[l], z = c[l];
    return (m[0] & ~x & ~y & ~z) | (m[1] & ~x & ~y & z) | (m[2] & ~x & y & ~z) |
           (m[3] & ~x & y & z) | (m[4] & x & ~y & ~z) | (m[5] & x & ~y & z) |
           (m[6] & x & y & ~z) | (m[7] & x & y & z);
  });
}

template <typename T> void mov(Warp &warp, const Inst &i, uint32_t mask) {
  auto *a = slotOf<T>(warp, i.op[1]);
  store<T>(slotOf<T>(warp, i.op[0]), mask, [=](uint32_t l) { return a[l]; });
}

/// op[0] = predicate op[3] ? op[1] : op[2].
template <typename T> void selp(Warp &warp, const Inst &i, uint32_t mask) {
  auto *a = slotOf<T>(warp, i.op[1]);
  auto *b = slotOf<T>(warp, i.op[2]);
  uint32_t p = warp.predicates[i.op[3]] ^ (i.flags & 1 ? UINT32_MAX : 0);
  store<T>(slotOf<T>(warp, i.op[0]), mask,
           [=](uint32_t l) { return (p >> l) & 1 ? a[l] : b[l]; });
}

/// op[0] = op[3] >= 0 ? op[1] : op[2]; flags: 1 float, 2 ftz.
template <typename T> void slct(Warp &warp, const Inst &i, uint32_t mask) {
  auto *a = slotOf<T>(warp, i.op[1]);
  auto *b = slotOf<T>(warp, i.op[2]);
  auto *c = slotOf<uint32_t>(warp, i.op[3]);
  bool isFloat = i.flags & 1, ftz = i.flags & 2;
  store<T>(slotOf<T>(warp, i.op[0]), mask, [=](uint32_t l) {
    uint32_t v = c[l];
    // -0 >= 0, and NaN is not; with ftz subnormals are zeros.
    uint32_t magnitude = v & 0x7fffffff;
    bool zero = magnitude < (ftz ? 0x00800000u : 1u);
    bool pick = isFloat ? zero || (int32_t(v) >= 0 && magnitude <= 0x7f800000)
                        : int32_t(v) >= 0;
    return pick ? a[l] : b[l];
  });
}

/// mov.b32 d, {a, b} and mov.b64 d, {a, b} or {a, b, c, d}: op[1..], low first;
/// inst.vector elements of inst.elementBytes.
void pack(Warp &warp, const Inst &i, uint32_t mask) {
  uint64_t out[kLanes];
  for (uint32_t l = 0; l < kLanes; ++l)
    out[l] = 0;
  unsigned width = 8 * i.elementBytes;
  for (unsigned n = 0; n < i.vector; ++n) {
    auto *a = slotOf<uint32_t>(warp, i.op[1 + n]);
    for (uint32_t l = 0; l < kLanes; ++l)
      out[l] |= uint64_t(a[l]) << (n * width);
  }
  if (i.vector * width == 64)
    store<uint64_t>(slotOf<uint64_t>(warp, i.op[0]), mask,
                    [&](uint32_t l) { return out[l]; });
  else
    store<uint32_t>(slotOf<uint32_t>(warp, i.op[0]), mask,
                    [&](uint32_t l) { return uint32_t(out[l]); });
}

/// mov {a, b}, d: op[0] is the packed source, op[1..] the parts or kNone.
void unpack(Warp &warp, const Inst &i, uint32_t mask) {
  uint64_t in[kLanes];
  unsigned width = 8 * i.elementBytes;
  if (i.vector * width == 64) {
    auto *a = slotOf<uint64_t>(warp, i.op[0]);
    for (uint32_t l = 0; l < kLanes; ++l)
      in[l] = a[l];
  } else {
    auto *a = slotOf<uint32_t>(warp, i.op[0]);
    for (uint32_t l = 0; l < kLanes; ++l)
      in[l] = a[l];
  }
  uint32_t keep = width == 32 ? UINT32_MAX : (1u << width) - 1;
  for (unsigned n = 0; n < i.vector; ++n)
    if (i.op[1 + n] != kNone)
      store<uint32_t>(
          slotOf<uint32_t>(warp, i.op[1 + n]), mask,
          [&](uint32_t l) { return uint32_t(in[l] >> (n * width)) & keep; });
}

/// Predicates: flags 1 and 2 negate the sources.
template <typename F>
void predicateOp(Warp &warp, const Inst &i, uint32_t mask) {
  uint32_t a = warp.predicates[i.op[1]] ^ (i.flags & 1 ? UINT32_MAX : 0);
  uint32_t b = i.op[2] == kNone
                   ? 0
                   : warp.predicates[i.op[2]] ^ (i.flags & 2 ? UINT32_MAX : 0);
  uint32_t &d = warp.predicates[i.op[0]];
  d = (d & ~mask) | (F::apply(a, b) & mask);
}
struct FirstF {
  DELTA_SIM_INLINE uint32_t apply(uint32_t a, uint32_t) { return a; }
};
struct NotFirstF {
  DELTA_SIM_INLINE uint32_t apply(uint32_t a, uint32_t) { return ~a; }
};

Handler select(Op op, Type type) {
  switch (op) {
#define X(T) shiftRight<T>
  case Op::Shr:
    DELTA_INT_TYPES(X)
#undef X
#define X(T) shiftLeft<T>
  case Op::Shl:
    DELTA_BITS_TYPES(X)
#undef X
#define X(T) binary<AndF<T>, T>
  case Op::And:
    DELTA_BITS_TYPES(X)
#undef X
#define X(T) binary<OrF<T>, T>
  case Op::Or:
    DELTA_BITS_TYPES(X)
#undef X
#define X(T) binary<XorF<T>, T>
  case Op::Xor:
    DELTA_BITS_TYPES(X)
#undef X
#define X(T) unary<NotF<T>, T>
  case Op::Not:
    DELTA_BITS_TYPES(X)
#undef X
#define X(T) unary<CnotF<T>, T>
  case Op::Cnot:
    DELTA_BITS_TYPES(X)
#undef X
#define X(T) mov<T>
  case Op::Mov:
    if (ptx::sizeOf(type) == 1)
      return mov<uint32_t>;
    DELTA_BITS_TYPES(X)
#undef X
#define X(T) selp<T>
  case Op::Selp:
    DELTA_BITS_TYPES(X)
#undef X
#define X(T) slct<T>
  case Op::Slct:
    DELTA_BITS_TYPES(X)
#undef X
  case Op::ShfLeftWrap:
    return ternary<Funnel<true, false>, uint32_t>;
  case Op::ShfLeftClamp:
    return ternary<Funnel<true, true>, uint32_t>;
  case Op::ShfRightWrap:
    return ternary<Funnel<false, false>, uint32_t>;
  case Op::ShfRightClamp:
    return ternary<Funnel<false, true>, uint32_t>;
  case Op::Popc:
    return ptx::sizeOf(type) == 8 ? unary<PopcF<uint64_t>, uint64_t, uint32_t>
                                  : unary<PopcF<uint32_t>, uint32_t>;
  case Op::Clz:
    return ptx::sizeOf(type) == 8 ? unary<ClzF<uint64_t>, uint64_t, uint32_t>
                                  : unary<ClzF<uint32_t>, uint32_t>;
  case Op::Bfind:
  case Op::BfindShift: {
    bool shift = op == Op::BfindShift;
    switch (type) {
    case Type::U32:
      return shift ? unary<BfindF<uint32_t, true>, uint32_t>
                   : unary<BfindF<uint32_t, false>, uint32_t>;
    case Type::S32:
      return shift ? unary<BfindF<int32_t, true>, int32_t, uint32_t>
                   : unary<BfindF<int32_t, false>, int32_t, uint32_t>;
    case Type::U64:
      return shift ? unary<BfindF<uint64_t, true>, uint64_t, uint32_t>
                   : unary<BfindF<uint64_t, false>, uint64_t, uint32_t>;
    case Type::S64:
      return shift ? unary<BfindF<int64_t, true>, int64_t, uint32_t>
                   : unary<BfindF<int64_t, false>, int64_t, uint32_t>;
    default:
      return nullptr;
    }
  }
  case Op::Brev:
    return ptx::sizeOf(type) == 8 ? unary<BrevF<uint64_t>, uint64_t>
                                  : unary<BrevF<uint32_t>, uint32_t>;
  case Op::Bfe:
    switch (type) {
    case Type::U32:
      return bfe<uint32_t>;
    case Type::S32:
      return bfe<int32_t>;
    case Type::U64:
      return bfe<uint64_t>;
    case Type::S64:
      return bfe<int64_t>;
    default:
      return nullptr;
    }
  case Op::Bfi:
    return ptx::sizeOf(type) == 8 ? bfi<uint64_t> : bfi<uint32_t>;
  case Op::Prmt:
    return prmt;
  case Op::Lop3:
    return lop3;
  case Op::Pack:
    return pack;
  case Op::Unpack:
    return unpack;
  case Op::MovPred:
    return predicateOp<FirstF>;
  case Op::NotPred:
    return predicateOp<NotFirstF>;
  case Op::AndPred:
    return predicateOp<AndF<uint32_t>>;
  case Op::OrPred:
    return predicateOp<OrF<uint32_t>>;
  case Op::XorPred:
    return predicateOp<XorF<uint32_t>>;
  default:
    return nullptr;
  }
}

} // namespace
} // namespace delta::sim

namespace delta::sim::DELTA_SIM_ISA {

Handler selectBits(Op op, ptx::Type type) { return select(op, type); }

} // namespace delta::sim::DELTA_SIM_ISA
