//===- Lanes.h - loops over the lanes of a warp -----------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Included by the files of arithmetic handlers only, which are compiled for
// several instruction sets: everything here is static, so that no function is
// shared between them.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_LIB_SIMULATOR_LANES_H
#define DELTA_LIB_SIMULATOR_LANES_H

#include "Machine.h"
#include "Ops.h"

#ifndef DELTA_SIM_ISA
#define DELTA_SIM_ISA base
#endif

#define DELTA_SIM_INLINE static inline __attribute__((always_inline))

namespace delta::sim {
namespace {

template <typename To, typename From> DELTA_SIM_INLINE To bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "a cast of bits");
  To to;
  __builtin_memcpy(&to, &from, sizeof to);
  return to;
}

/// How a value of type T lies in its slot.
template <typename T> struct Lane {
  using Slot = uint32_t;
  DELTA_SIM_INLINE T get(Slot slot) { return static_cast<T>(slot); }
  DELTA_SIM_INLINE Slot put(T value) { return static_cast<Slot>(value); }
};
template <> struct Lane<int8_t> {
  using Slot = uint32_t;
  DELTA_SIM_INLINE int8_t get(Slot slot) { return static_cast<int8_t>(slot); }
  DELTA_SIM_INLINE Slot put(int8_t value) {
    return static_cast<uint8_t>(value);
  }
};
template <> struct Lane<int16_t> {
  using Slot = uint32_t;
  DELTA_SIM_INLINE int16_t get(Slot slot) { return static_cast<int16_t>(slot); }
  DELTA_SIM_INLINE Slot put(int16_t value) {
    return static_cast<uint16_t>(value);
  }
};
template <> struct Lane<uint64_t> {
  using Slot = uint64_t;
  DELTA_SIM_INLINE uint64_t get(Slot slot) { return slot; }
  DELTA_SIM_INLINE Slot put(uint64_t value) { return value; }
};
template <> struct Lane<int64_t> {
  using Slot = uint64_t;
  DELTA_SIM_INLINE int64_t get(Slot slot) { return static_cast<int64_t>(slot); }
  DELTA_SIM_INLINE Slot put(int64_t value) {
    return static_cast<uint64_t>(value);
  }
};
template <> struct Lane<float> {
  using Slot = uint32_t;
  DELTA_SIM_INLINE float get(Slot slot) { return bits<float>(slot); }
  DELTA_SIM_INLINE Slot put(float value) { return bits<uint32_t>(value); }
};
template <> struct Lane<double> {
  using Slot = uint64_t;
  DELTA_SIM_INLINE double get(Slot slot) { return bits<double>(slot); }
  DELTA_SIM_INLINE Slot put(double value) { return bits<uint64_t>(value); }
};

template <typename T>
DELTA_SIM_INLINE typename Lane<T>::Slot *slotOf(Warp &warp, uint32_t offset) {
  return reinterpret_cast<typename Lane<T>::Slot *>(
      __builtin_assume_aligned(warp.registers + offset, 64));
}

/// Stores f(lane), a value of type T, to the lanes of mask. Slots are the same
/// or do not overlap, so lanes are independent. f must be harmless in lanes
/// outside of the mask.
template <typename T, typename F>
DELTA_SIM_INLINE void store(typename Lane<T>::Slot *out, uint32_t mask, F f) {
  if (mask == kFullMask) {
#pragma GCC ivdep
    for (uint32_t lane = 0; lane < kLanes; ++lane)
      out[lane] = Lane<T>::put(f(lane));
  } else {
#pragma GCC ivdep
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      typename Lane<T>::Slot value = Lane<T>::put(f(lane));
      out[lane] = (mask >> lane) & 1 ? value : out[lane];
    }
  }
}

template <typename F, typename T, typename R = T>
void unary(Warp &warp, const Inst &inst, uint32_t mask) {
  auto *a = slotOf<T>(warp, inst.op[1]);
  store<R>(slotOf<R>(warp, inst.op[0]), mask,
           [=](uint32_t l) { return F::apply(Lane<T>::get(a[l])); });
}

template <typename F, typename T, typename R = T>
void binary(Warp &warp, const Inst &inst, uint32_t mask) {
  auto *a = slotOf<T>(warp, inst.op[1]);
  auto *b = slotOf<T>(warp, inst.op[2]);
  store<R>(slotOf<R>(warp, inst.op[0]), mask, [=](uint32_t l) {
    return F::apply(Lane<T>::get(a[l]), Lane<T>::get(b[l]));
  });
}

template <typename F, typename T>
void ternary(Warp &warp, const Inst &inst, uint32_t mask) {
  auto *a = slotOf<T>(warp, inst.op[1]);
  auto *b = slotOf<T>(warp, inst.op[2]);
  auto *c = slotOf<T>(warp, inst.op[3]);
  store<T>(slotOf<T>(warp, inst.op[0]), mask, [=](uint32_t l) {
    return F::apply(Lane<T>::get(a[l]), Lane<T>::get(b[l]), Lane<T>::get(c[l]));
  });
}

} // namespace
} // namespace delta::sim

#endif // DELTA_LIB_SIMULATOR_LANES_H
