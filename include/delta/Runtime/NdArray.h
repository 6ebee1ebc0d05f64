//===- NdArray.h - dense arrays on the host ---------------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// NdArray owns one dense C-ordered array: element type, shape and a buffer
// aligned for the widest vectors. Conversions between element types round to
// nearest, ties to even, once.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_RUNTIME_NDARRAY_H
#define DELTA_RUNTIME_NDARRAY_H

#include "delta/Runtime/Status.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace delta::runtime {

/// Element types. F16 and BF16 are stored as their raw 16 bits.
enum class DType : uint8_t {
  F64,
  F32,
  F16,
  BF16,
  I8,
  I16,
  I32,
  I64,
  U8,
  U16,
  U32,
  U64,
  Bool
};

/// Bytes of one element.
size_t sizeOf(DType dtype);

/// The name used in options and messages: "f32", "bf16", "i64", "bool"...
const char *nameOf(DType dtype);

/// The inverse of nameOf; nothing for an unknown name.
std::optional<DType> dtypeFromName(std::string_view name);

bool isFloat(DType dtype);

using Shape = std::vector<int64_t>;

/// "(2, 70, 4)"; a 0-d shape is "()".
std::string toString(const Shape &shape);

/// The number of elements, or nothing when a dim is negative or the product
/// does not fit 63 bits. Dims of zero do not hide an overflow of the others.
std::optional<int64_t> numElementsOf(const Shape &shape);

/// The raw bits of `value` rounded to nearest even; NaN stays NaN.
uint16_t toF16Bits(double value);
uint16_t toBF16Bits(double value);
double fromF16Bits(uint16_t bits);
double fromBF16Bits(uint16_t bits);

/// A dense C-ordered array that owns its buffer (64-byte aligned; not null even
/// when empty). Movable, not copyable: see `clone`.
class NdArray {
public:
  static constexpr size_t kAlignment = 64;

  /// A zero-filled array. Fails when the size overflows or memory is short.
  static Expected<NdArray> zeros(DType dtype, Shape shape);

  /// Like `zeros` with undefined contents.
  static Expected<NdArray> uninitialized(DType dtype, Shape shape);

  DType dtype() const { return type; }
  const Shape &shape() const { return dims; }
  int64_t rank() const { return static_cast<int64_t>(dims.size()); }
  int64_t numElements() const { return count; }
  size_t sizeInBytes() const {
    return static_cast<size_t>(count) * sizeOf(type);
  }

  void *data() { return buffer.get(); }
  const void *data() const { return buffer.get(); }
  template <typename T> T *as() { return static_cast<T *>(buffer.get()); }
  template <typename T> const T *as() const {
    return static_cast<const T *>(buffer.get());
  }

  /// Element `index` (row-major) as a double; 64-bit integers beyond 2^53 are
  /// rounded.
  double at(int64_t index) const;

  /// Stores `value` into element `index`, rounded to the array's type. The type
  /// must be a floating one.
  void set(int64_t index, double value);

  /// A copy with elements of the floating type `to`. Any type converts; an
  /// error only when memory is short.
  Expected<NdArray> convertTo(DType to) const;

  Expected<NdArray> clone() const;

  /// The same elements under another shape of equal size.
  Expected<NdArray> reshape(Shape shape) &&;

private:
  struct Free {
    void operator()(void *p) const { std::free(p); }
  };

  DType type = DType::F32;
  Shape dims;
  int64_t count = 0;
  std::unique_ptr<void, Free> buffer;
};

/// "(1, 70, 3)" for row-major element `index` of an array of `shape`: the
/// multi-index used in messages.
std::string indexToString(const Shape &shape, int64_t index);

} // namespace delta::runtime

#endif // DELTA_RUNTIME_NDARRAY_H
