//===- Check.h - comparing results with the reference -----------*- C++ -*-===//
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

#ifndef DELTA_RUNTIME_CHECK_H
#define DELTA_RUNTIME_CHECK_H

#include "delta/Runtime/NdArray.h"

#include <optional>
#include <string>
#include <string_view>

namespace delta::runtime {

/// How far an array is from its reference.
struct CheckResult {
  /// |x - r| / |r| in the 2-norm; |x - r| when r = 0, as x's type sees it.
  double relError = 0;
  double maxAbs = 0;  ///< the largest |x - r|
  bool finite = true; ///< no NaN or infinity in either

  /// Finite and within `limit`.
  bool passes(double limit) const { return finite && relError <= limit; }
};

/// Compares arrays of one shape, of any types. The sums are taken in double and
/// scaled, so that neither huge nor tiny values spoil them.
Expected<CheckResult> compareArrays(const NdArray &x, const NdArray &reference);

/// "NAME rel_err=1.234e-07 max_abs=4.5e-07 ok", or FAIL at the end.
std::string formatCheck(std::string_view name, const CheckResult &result,
                        double limit);

/// The limit on rel_err for a precision policy: f64, f32, bf16x3, tf32, bf16 or
/// f16; nothing for another name. Gradients are allowed twice that.
std::optional<double> checkLimit(std::string_view precision);

/// Verifies that no element is a NaN and all lie in [lo, hi]. The bounds are
/// first rounded to the array's own type, in which the data were given. The
/// error names the index, the value and the range.
Status checkRange(const NdArray &array, double lo, double hi);

/// A value or bound as the shortest decimal that reads back the same.
std::string formatNumber(double value);

} // namespace delta::runtime

#endif // DELTA_RUNTIME_CHECK_H
