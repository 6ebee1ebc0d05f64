//===- OpsInteger.cpp - integer instructions ------------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Integer arithmetic, logic, shifts, bit fields, moves and predicates.
//
//===----------------------------------------------------------------------===//

#include "Lanes.h"

namespace delta::sim::DELTA_SIM_ISA {

Handler selectInteger(Op op, ptx::Type type);

} // namespace delta::sim::DELTA_SIM_ISA

namespace delta::sim {
namespace {

using ptx::Type;

template <typename T> struct Unsigned;
template <> struct Unsigned<uint16_t> {
  using type = uint16_t;
};
template <> struct Unsigned<int16_t> {
  using type = uint16_t;
};
template <> struct Unsigned<uint32_t> {
  using type = uint32_t;
};
template <> struct Unsigned<int32_t> {
  using type = uint32_t;
};
template <> struct Unsigned<uint64_t> {
  using type = uint64_t;
};
template <> struct Unsigned<int64_t> {
  using type = uint64_t;
};
template <typename T> using UnsignedOf = typename Unsigned<T>::type;

template <typename T> constexpr bool isSignedType = T(-1) < T(0);

/// The type of twice the width.
template <typename T> struct Wide;
template <> struct Wide<uint16_t> {
  using type = uint32_t;
};
template <> struct Wide<int16_t> {
  using type = int32_t;
};
template <> struct Wide<uint32_t> {
  using type = uint64_t;
};
template <> struct Wide<int32_t> {
  using type = int64_t;
};
template <> struct Wide<uint64_t> {
  using type = unsigned __int128;
};
template <> struct Wide<int64_t> {
  using type = __int128;
};
template <typename T> using WideOf = typename Wide<T>::type;

/// Arithmetic wraps around; it is done on 64 unsigned bits, and narrowed.
template <typename T> DELTA_SIM_INLINE T wrapped(uint64_t value) {
  return static_cast<T>(value);
}
template <typename T> DELTA_SIM_INLINE UnsignedOf<T> raw(T value) {
  return static_cast<UnsignedOf<T>>(value);
}
template <typename T> DELTA_SIM_INLINE T multiply(T a, T b) {
  // uint16_t would be promoted to a signed int.
  using U = UnsignedOf<T>;
  if constexpr (sizeof(T) == 2)
    return static_cast<T>(static_cast<uint32_t>(raw(a)) * raw(b));
  else
    return static_cast<T>(static_cast<U>(raw(a) * raw(b)));
}

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
DELTA_INT_BINARY(AndF, static_cast<T>(a &b))
DELTA_INT_BINARY(OrF, static_cast<T>(a | b))
DELTA_INT_BINARY(XorF, static_cast<T>(a ^ b))
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
template <typename T> struct NotF {
  DELTA_SIM_INLINE T apply(T a) { return static_cast<T>(~a); }
};
template <typename T> struct CnotF {
  DELTA_SIM_INLINE T apply(T a) { return a == 0 ? 1 : 0; }
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

/// Two 16-bit halves at once.
template <typename T, template <typename> class F> struct Halves {
  DELTA_SIM_INLINE uint32_t apply(uint32_t a, uint32_t b) {
    uint32_t low = uint16_t(F<T>::apply(T(a), T(b)));
    uint32_t high = uint16_t(F<T>::apply(T(a >> 16), T(b >> 16)));
    return low | (high << 16);
  }
};

#define DELTA_INT_TYPES(X)                                                     \
  switch (type) {                                                              \
  case Type::U16:                                                              \
  case Type::B16:                                                              \
    return X(uint16_t);                                                        \
  case Type::S16:                                                              \
    return X(int16_t);                                                         \
  case Type::U32:                                                              \
  case Type::B32:                                                              \
    return X(uint32_t);                                                        \
  case Type::S32:                                                              \
    return X(int32_t);                                                         \
  case Type::U64:                                                              \
  case Type::B64:                                                              \
    return X(uint64_t);                                                        \
  case Type::S64:                                                              \
    return X(int64_t);                                                         \
  default:                                                                     \
    return nullptr;                                                            \
  }
#define DELTA_BITS_TYPES(X)                                                    \
  switch (ptx::sizeOf(type)) {                                                 \
  case 2:                                                                      \
    return X(uint16_t);                                                        \
  case 4:                                                                      \
    return X(uint32_t);                                                        \
  case 8:                                                                      \
    return X(uint64_t);                                                        \
  default:                                                                     \
    return nullptr;                                                            \
  }

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

Handler selectInteger(Op op, ptx::Type type) { return select(op, type); }

} // namespace delta::sim::DELTA_SIM_ISA
