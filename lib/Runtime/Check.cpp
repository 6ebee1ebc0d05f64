//===- Check.cpp - comparing results with the reference -------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The metrics by which a computed array is held against its reference, the
// limits that go with each precision, and the checks of input data.
//
//===----------------------------------------------------------------------===//

#include "delta/Runtime/Check.h"

#include <charconv>
#include <cmath>
#include <cstdio>
#include <limits>

namespace delta::runtime {

namespace {

/// A 2-norm accumulated relative to the largest element so far: its square
/// neither overflows nor vanishes.
class Norm {
public:
  void add(double value) {
    double magnitude = std::fabs(value);
    if (magnitude == 0)
      return;
    if (magnitude > scale) {
      double ratio = scale / magnitude;
      sum = sum * ratio * ratio + 1;
      scale = magnitude;
    } else {
      double ratio = magnitude / scale;
      sum += ratio * ratio;
    }
  }
  double value() const { return scale * std::sqrt(sum); }

private:
  double scale = 0, sum = 0;
};

/// Below this, numbers of the type vanish: denormals are flushed in kernels,
/// except those of f16, which exist in memory only.
double leastOf(DType dtype) {
  switch (dtype) {
  case DType::F64:
    return std::numeric_limits<double>::min();
  case DType::F16:
    return 0x1p-24;
  default:
    return std::numeric_limits<float>::min();
  }
}

double roundTo(DType dtype, double value) {
  switch (dtype) {
  case DType::F32:
    return static_cast<float>(value);
  case DType::F16:
    return fromF16Bits(toF16Bits(value));
  case DType::BF16:
    return fromBF16Bits(toBF16Bits(value));
  default:
    return value;
  }
}

} // namespace

Expected<CheckResult> compareArrays(const NdArray &x,
                                    const NdArray &reference) {
  if (x.shape() != reference.shape())
    return Status::error("shape ", toString(x.shape()),
                         " does not agree with the reference's ",
                         toString(reference.shape()));
  CheckResult result;
  Norm difference, size;
  for (int64_t i = 0; i < x.numElements(); ++i) {
    double value = x.at(i), wanted = reference.at(i);
    if (!std::isfinite(value) || !std::isfinite(wanted)) {
      result.finite = false;
      result.relError = result.maxAbs =
          std::numeric_limits<double>::quiet_NaN();
      return result;
    }
    double error = std::fabs(value - wanted);
    result.maxAbs = std::max(result.maxAbs, error);
    difference.add(error);
    size.add(wanted);
  }
  // A reference that the type cannot tell from zero counts as zero.
  result.relError = difference.value();
  if (size.value() >= leastOf(x.dtype()))
    result.relError /= size.value();
  return result;
}

std::string formatCheck(std::string_view name, const CheckResult &result,
                        double limit) {
  char numbers[80];
  std::snprintf(numbers, sizeof(numbers), " rel_err=%.3e max_abs=%.3e ",
                result.relError, result.maxAbs);
  return std::string(name) + numbers + (result.passes(limit) ? "ok" : "FAIL");
}

std::optional<double> checkLimit(std::string_view precision) {
  if (precision == "f64")
    return 1e-11;
  if (precision == "f32")
    return 2e-5;
  if (precision == "bf16x3")
    return 1e-4;
  if (precision == "tf32")
    return 2e-3;
  if (precision == "bf16" || precision == "f16")
    return 1e-2;
  return std::nullopt;
}

Status checkRange(const NdArray &array, double lo, double hi) {
  if (!isFloat(array.dtype()))
    return Status();
  double low = roundTo(array.dtype(), lo), high = roundTo(array.dtype(), hi);
  for (int64_t i = 0; i < array.numElements(); ++i) {
    double value = array.at(i);
    if (value >= low && value <= high)
      continue;
    std::string where = "the value at " + indexToString(array.shape(), i);
    if (std::isnan(value))
      return Status::error(where, " is NaN");
    return Status::error(where, " is ", formatNumber(value),
                         ", outside its declared range [", formatNumber(lo),
                         ", ", formatNumber(hi), "]");
  }
  return Status();
}

std::string formatNumber(double value) {
  if (std::isnan(value))
    return "nan";
  char text[40];
  auto end = std::to_chars(text, text + sizeof(text), value);
  return std::string(text, end.ptr);
}

} // namespace delta::runtime
