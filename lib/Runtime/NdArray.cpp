//===- NdArray.cpp - dense arrays on the host -----------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Storage and element conversions of NdArray. Narrow floats are rounded from
// the double directly: going through float would round twice.
//
//===----------------------------------------------------------------------===//

#include "delta/Runtime/NdArray.h"

#include <cstring>

namespace delta::runtime {

namespace {

struct DTypeInfo {
  const char *name;
  size_t size;
};

// In the order of the enumeration.
constexpr DTypeInfo kInfo[] = {{"f64", 8}, {"f32", 4}, {"f16", 2}, {"bf16", 2},
                               {"i8", 1},  {"i16", 2}, {"i32", 4}, {"i64", 8},
                               {"u8", 1},  {"u16", 2}, {"u32", 4}, {"u64", 8},
                               {"bool", 1}};

const DTypeInfo &info(DType dtype) { return kInfo[static_cast<int>(dtype)]; }

template <typename To, typename From> To bitCast(From from) {
  static_assert(sizeof(To) == sizeof(From), "bitCast needs equal sizes");
  To to;
  std::memcpy(&to, &from, sizeof(To));
  return to;
}

/// Rounds to a 16-bit float with `ManBits` of mantissa. The rounding carry runs
/// into the exponent, which is what overflow to infinity needs.
template <int ManBits> uint16_t roundTo16(double value) {
  constexpr int kExpBits = 15 - ManBits;
  constexpr int kBias = (1 << (kExpBits - 1)) - 1;
  constexpr uint16_t kInf = ((1 << kExpBits) - 1) << ManBits;

  uint64_t bits = bitCast<uint64_t>(value);
  uint16_t sign = static_cast<uint16_t>(bits >> 48) & 0x8000;
  int exponent = static_cast<int>(bits >> 52) & 0x7ff;
  uint64_t mantissa = bits & ((uint64_t(1) << 52) - 1);
  if (exponent == 0x7ff)
    return sign | kInf | (mantissa ? 1 << (ManBits - 1) : 0);
  if (exponent == 0)
    return sign; // far below the least subnormal
  mantissa |= uint64_t(1) << 52;

  int e = exponent - 1023;
  if (e > kBias)
    return sign | kInf;
  int shift = 52 - ManBits;
  uint32_t base = 0;
  if (e < 1 - kBias)
    shift += 1 - kBias - e; // subnormal: no implicit bit
  else
    base = static_cast<uint32_t>(e + kBias - 1) << ManBits;
  if (shift > 54)
    return sign;
  uint64_t kept = mantissa >> shift;
  uint64_t rest = mantissa & ((uint64_t(1) << shift) - 1);
  uint64_t half = uint64_t(1) << (shift - 1);
  if (rest > half || (rest == half && (kept & 1)))
    ++kept;
  return sign | static_cast<uint16_t>(base + kept);
}

template <int ManBits> double expandFrom16(uint16_t bits) {
  constexpr int kExpBits = 15 - ManBits;
  constexpr int kBias = (1 << (kExpBits - 1)) - 1;
  uint64_t sign = static_cast<uint64_t>(bits & 0x8000) << 48;
  int exponent = (bits & 0x7fff) >> ManBits;
  uint64_t mantissa = bits & ((1 << ManBits) - 1);
  if (exponent == (1 << kExpBits) - 1)
    return bitCast<double>(sign | (uint64_t(0x7ff) << 52) |
                           (mantissa << (52 - ManBits)));
  if (exponent == 0) {
    // mantissa * 2^(1 - bias - ManBits), exact in double.
    double scale = bitCast<double>(
        static_cast<uint64_t>(1 - kBias - ManBits + 1023) << 52);
    double magnitude = static_cast<double>(mantissa) * scale;
    return sign ? -magnitude : magnitude;
  }
  return bitCast<double>(
      sign | (static_cast<uint64_t>(exponent - kBias + 1023) << 52) |
      (mantissa << (52 - ManBits)));
}

uint16_t floatToBF16(float value) {
  uint32_t bits = bitCast<uint32_t>(value);
  if ((bits & 0x7fffffff) > 0x7f800000)
    return static_cast<uint16_t>(bits >> 16) | 0x40;
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

double load(DType dtype, const void *data, int64_t i) {
  switch (dtype) {
  case DType::F64:
    return static_cast<const double *>(data)[i];
  case DType::F32:
    return static_cast<const float *>(data)[i];
  case DType::F16:
    return fromF16Bits(static_cast<const uint16_t *>(data)[i]);
  case DType::BF16:
    return fromBF16Bits(static_cast<const uint16_t *>(data)[i]);
  case DType::I8:
    return static_cast<const int8_t *>(data)[i];
  case DType::I16:
    return static_cast<const int16_t *>(data)[i];
  case DType::I32:
    return static_cast<const int32_t *>(data)[i];
  case DType::I64:
    return static_cast<double>(static_cast<const int64_t *>(data)[i]);
  case DType::U8:
    return static_cast<const uint8_t *>(data)[i];
  case DType::U16:
    return static_cast<const uint16_t *>(data)[i];
  case DType::U32:
    return static_cast<const uint32_t *>(data)[i];
  case DType::U64:
    return static_cast<double>(static_cast<const uint64_t *>(data)[i]);
  case DType::Bool:
    return static_cast<const uint8_t *>(data)[i] != 0;
  }
  return 0;
}

void store(DType dtype, void *data, int64_t i, double value) {
  switch (dtype) {
  case DType::F64:
    static_cast<double *>(data)[i] = value;
    return;
  case DType::F32:
    static_cast<float *>(data)[i] = static_cast<float>(value);
    return;
  case DType::F16:
    static_cast<uint16_t *>(data)[i] = toF16Bits(value);
    return;
  case DType::BF16:
    static_cast<uint16_t *>(data)[i] = toBF16Bits(value);
    return;
  default:
    assert(false && "store into an integer array");
  }
}

} // namespace

size_t sizeOf(DType dtype) { return info(dtype).size; }

const char *nameOf(DType dtype) { return info(dtype).name; }

std::optional<DType> dtypeFromName(std::string_view name) {
  for (size_t i = 0; i < std::size(kInfo); ++i)
    if (name == kInfo[i].name)
      return static_cast<DType>(i);
  return std::nullopt;
}

bool isFloat(DType dtype) {
  return dtype == DType::F64 || dtype == DType::F32 || dtype == DType::F16 ||
         dtype == DType::BF16;
}

std::string toString(const Shape &shape) {
  std::string text = "(";
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i)
      text += ", ";
    text += std::to_string(shape[i]);
  }
  return text + ")";
}

std::optional<int64_t> numElementsOf(const Shape &shape) {
  int64_t product = 1;
  bool empty = false;
  for (int64_t dim : shape) {
    if (dim < 0)
      return std::nullopt;
    if (dim == 0)
      empty = true;
    else if (__builtin_mul_overflow(product, dim, &product))
      return std::nullopt;
  }
  return empty ? 0 : product;
}

uint16_t toF16Bits(double value) { return roundTo16<10>(value); }
uint16_t toBF16Bits(double value) { return roundTo16<7>(value); }
double fromF16Bits(uint16_t bits) { return expandFrom16<10>(bits); }
double fromBF16Bits(uint16_t bits) { return expandFrom16<7>(bits); }

Expected<NdArray> NdArray::uninitialized(DType dtype, Shape shape) {
  std::optional<int64_t> count = numElementsOf(shape);
  int64_t bytes = 0;
  if (!count ||
      __builtin_mul_overflow(*count, static_cast<int64_t>(sizeOf(dtype)),
                             &bytes) ||
      bytes > INT64_MAX - static_cast<int64_t>(kAlignment))
    return Status::error("the size of shape ", toString(shape),
                         " does not fit 63 bits");
  NdArray array;
  array.type = dtype;
  array.dims = std::move(shape);
  array.count = *count;
  // aligned_alloc wants a multiple of the alignment.
  size_t padded = (static_cast<size_t>(bytes) / kAlignment + 1) * kAlignment;
  array.buffer.reset(std::aligned_alloc(kAlignment, padded));
  if (!array.buffer)
    return Status::error("out of memory: an array of shape ",
                         toString(array.dims), " and type ", nameOf(dtype),
                         " needs ", bytes, " bytes");
  return array;
}

Expected<NdArray> NdArray::zeros(DType dtype, Shape shape) {
  Expected<NdArray> array = uninitialized(dtype, std::move(shape));
  if (array)
    std::memset(array->data(), 0, array->sizeInBytes());
  return array;
}

double NdArray::at(int64_t index) const {
  assert(index >= 0 && index < count && "index out of bounds");
  return load(type, buffer.get(), index);
}

void NdArray::set(int64_t index, double value) {
  assert(index >= 0 && index < count && "index out of bounds");
  store(type, buffer.get(), index, value);
}

Expected<NdArray> NdArray::convertTo(DType to) const {
  if (to == type)
    return clone();
  assert(isFloat(to) && "conversion to an integer type");
  Expected<NdArray> result = uninitialized(to, dims);
  if (!result)
    return result;
  // The pairs that large arrays take; the rest goes element by element.
  if (type == DType::F32 && to == DType::F64) {
    for (int64_t i = 0; i < count; ++i)
      result->as<double>()[i] = as<float>()[i];
  } else if (type == DType::F64 && to == DType::F32) {
    for (int64_t i = 0; i < count; ++i)
      result->as<float>()[i] = static_cast<float>(as<double>()[i]);
  } else if (type == DType::F32 && to == DType::BF16) {
    for (int64_t i = 0; i < count; ++i)
      result->as<uint16_t>()[i] = floatToBF16(as<float>()[i]);
  } else if (type == DType::BF16 && to == DType::F32) {
    for (int64_t i = 0; i < count; ++i)
      result->as<float>()[i] =
          bitCast<float>(static_cast<uint32_t>(as<uint16_t>()[i]) << 16);
  } else {
    for (int64_t i = 0; i < count; ++i)
      store(to, result->data(), i, load(type, data(), i));
  }
  return result;
}

Expected<NdArray> NdArray::clone() const {
  Expected<NdArray> result = uninitialized(type, dims);
  if (result)
    std::memcpy(result->data(), data(), sizeInBytes());
  return result;
}

Expected<NdArray> NdArray::reshape(Shape shape) && {
  std::optional<int64_t> newCount = numElementsOf(shape);
  if (!newCount || *newCount != count)
    return Status::error("cannot view an array of shape ", toString(dims),
                         " as ", toString(shape));
  dims = std::move(shape);
  return std::move(*this);
}

std::string indexToString(const Shape &shape, int64_t index) {
  Shape position(shape.size());
  for (size_t i = shape.size(); i-- > 0;) {
    position[i] = index % shape[i];
    index /= shape[i];
  }
  return toString(position);
}

} // namespace delta::runtime
