//===- OpsCompare.cpp - setp and set --------------------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Comparisons make a mask of lanes. setp combines it with a predicate; set
// (which has no predicate result) spreads it over a register.
//
//===----------------------------------------------------------------------===//

#include "Formats.h"

namespace delta::sim::DELTA_SIM_ISA {

Handler selectCompare(Compare compare, ptx::Type type, bool ftz);

} // namespace delta::sim::DELTA_SIM_ISA

namespace delta::sim {
namespace {

using ptx::Type;

template <Compare C, typename T> DELTA_SIM_INLINE bool holds(T a, T b) {
  bool unordered = a != a || b != b;
  switch (C) {
  case Compare::Eq:
    return a == b;
  case Compare::Ne:
    return a != b && !unordered;
  case Compare::Lt:
  case Compare::Lo:
    return a < b;
  case Compare::Le:
  case Compare::Ls:
    return a <= b;
  case Compare::Gt:
  case Compare::Hi:
    return a > b;
  case Compare::Ge:
  case Compare::Hs:
    return a >= b;
  case Compare::Equ:
    return a == b || unordered;
  case Compare::Neu:
    return a != b;
  case Compare::Ltu:
    return !(a >= b);
  case Compare::Leu:
    return !(a > b);
  case Compare::Gtu:
    return !(a <= b);
  case Compare::Geu:
    return !(a < b);
  case Compare::Num:
    return !unordered;
  case Compare::Nan:
    return unordered;
  }
  return false;
}

/// How operands of each kind are read.
template <typename T> struct Plain {
  using Value = T;
  using Slot = typename Lane<T>::Slot;
  DELTA_SIM_INLINE T get(Slot slot) { return Lane<T>::get(slot); }
};
struct Flushed {
  using Value = float;
  using Slot = uint32_t;
  DELTA_SIM_INLINE float get(Slot slot) { return flush(bits<float>(slot)); }
};
template <typename H> struct Half {
  using Value = float;
  using Slot = uint32_t;
  DELTA_SIM_INLINE float get(Slot slot) { return H::get(slot & 0xffff); }
};

template <Compare C, typename R>
DELTA_SIM_INLINE uint32_t compareMask(Warp &warp, const Inst &inst) {
  using Slot = typename R::Slot;
  auto *a = reinterpret_cast<Slot *>(warp.registers + inst.op[2]);
  auto *b = reinterpret_cast<Slot *>(warp.registers + inst.op[3]);
  uint32_t result = 0;
  for (uint32_t l = 0; l < kLanes; ++l)
    result |= uint32_t(holds<C, typename R::Value>(R::get(a[l]), R::get(b[l])))
              << l;
  return result;
}

DELTA_SIM_INLINE uint32_t combine(uint32_t a, uint32_t c, uint8_t op) {
  switch (static_cast<BoolOp>(op)) {
  case BoolOp::And:
    return a & c;
  case BoolOp::Or:
    return a | c;
  case BoolOp::Xor:
    return a ^ c;
  default:
    return a;
  }
}

/// flags: 1 negates the predicate, 2 makes it a `set` with a register of 32
/// bits, 4 to which true is 1.0f.
template <Compare C, typename R>
void compare(Warp &warp, const Inst &inst, uint32_t mask) {
  uint32_t m = compareMask<C, R>(warp, inst);
  uint32_t p = inst.op[4] == kNone ? 0
                                   : warp.predicates[inst.op[4]] ^
                                         (inst.flags & 1 ? UINT32_MAX : 0);
  uint32_t first = combine(m, p, inst.kind);
  if (inst.flags & 2) {
    uint32_t yes = inst.flags & 4 ? 0x3f800000 : UINT32_MAX;
    store<uint32_t>(slotOf<uint32_t>(warp, inst.op[0]), mask,
                    [=](uint32_t l) { return (first >> l) & 1 ? yes : 0; });
    return;
  }
  if (inst.op[0] != kNone) {
    uint32_t &d = warp.predicates[inst.op[0]];
    d = (d & ~mask) | (first & mask);
  }
  if (inst.op[1] != kNone) {
    uint32_t second = combine(~m, p, inst.kind);
    uint32_t &d = warp.predicates[inst.op[1]];
    d = (d & ~mask) | (second & mask);
  }
}

template <typename R> Handler pickFloat(Compare c) {
  switch (c) {
#define X(C)                                                                   \
  case Compare::C:                                                             \
    return compare<Compare::C, R>;
    X(Eq)
    X(Ne)
    X(Lt)
    X(Le)
    X(Gt)
    X(Ge)
    X(Equ)
    X(Neu) X(Ltu) X(Leu) X(Gtu) X(Geu) X(Num) X(Nan) default : return nullptr;
  }
}
template <typename R, bool Ordered = true> Handler pickInteger(Compare c) {
  switch (c) { X(Eq) X(Ne) default : break; }
  if constexpr (Ordered) {
    switch (c) {
      X(Lt) X(Le) X(Gt) X(Ge) X(Lo) X(Ls) X(Hi) X(Hs) default : break;
    }
  }
  return nullptr;
#undef X
}

Handler select(Compare c, Type type, bool ftz) {
  switch (type) {
  case Type::B16:
    return pickInteger<Plain<uint16_t>, false>(c);
  case Type::B32:
    return pickInteger<Plain<uint32_t>, false>(c);
  case Type::B64:
    return pickInteger<Plain<uint64_t>, false>(c);
  case Type::U16:
    return pickInteger<Plain<uint16_t>>(c);
  case Type::U32:
    return pickInteger<Plain<uint32_t>>(c);
  case Type::U64:
    return pickInteger<Plain<uint64_t>>(c);
  case Type::S16:
    return pickInteger<Plain<int16_t>>(c);
  case Type::S32:
    return pickInteger<Plain<int32_t>>(c);
  case Type::S64:
    return pickInteger<Plain<int64_t>>(c);
  case Type::F16:
    return pickFloat<Half<F16>>(c);
  case Type::BF16:
    return pickFloat<Half<BF16>>(c);
  case Type::F32:
    return ftz ? pickFloat<Flushed>(c) : pickFloat<Plain<float>>(c);
  case Type::F64:
    return pickFloat<Plain<double>>(c);
  default:
    return nullptr;
  }
}

} // namespace
} // namespace delta::sim

namespace delta::sim::DELTA_SIM_ISA {

Handler selectCompare(Compare compare, ptx::Type type, bool ftz) {
  return select(compare, type, ftz);
}

} // namespace delta::sim::DELTA_SIM_ISA
