//===- IntegerTypes.h - integer types as template arguments -----*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Included by files of arithmetic handlers only.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_LIB_SIMULATOR_INTEGERTYPES_H
#define DELTA_LIB_SIMULATOR_INTEGERTYPES_H

#include "Lanes.h"

namespace delta::sim {
namespace {

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

} // namespace
} // namespace delta::sim

// Returns X(T) for the C++ type of the PTX type `type`.
#define DELTA_INT_TYPES(X)                                                     \
  switch (type) {                                                              \
  case ptx::Type::U16:                                                         \
  case ptx::Type::B16:                                                         \
    return X(uint16_t);                                                        \
  case ptx::Type::S16:                                                         \
    return X(int16_t);                                                         \
  case ptx::Type::U32:                                                         \
  case ptx::Type::B32:                                                         \
    return X(uint32_t);                                                        \
  case ptx::Type::S32:                                                         \
    return X(int32_t);                                                         \
  case ptx::Type::U64:                                                         \
  case ptx::Type::B64:                                                         \
    return X(uint64_t);                                                        \
  case ptx::Type::S64:                                                         \
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

#endif // DELTA_LIB_SIMULATOR_INTEGERTYPES_H
