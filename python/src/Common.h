//===- Common.h - what both modules share -----------------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// From the C API's statuses and texts to Python's exceptions, which are defined
// in deltac/_errors.py.
//
//===----------------------------------------------------------------------===//

#ifndef DELTAC_COMMON_H
#define DELTAC_COMMON_H

#include "delta-c/Runtime.h"

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <string>

namespace deltac {

namespace nb = nanobind;

/// Throws the exception of _errors.py that is called `kind`.
[[noreturn]] inline void raise(const char *kind, const std::string &text) {
  nb::object type = nb::module_::import_("deltac._errors").attr(kind);
  PyErr_SetString(type.ptr(), text.c_str());
  throw nb::python_error();
}

/// Throws when a call failed; takes its text. By address, because the call is
/// an argument too, and may come second.
inline void check(delta_status status, char **error) {
  if (status == DELTA_OK)
    return;
  std::string text = *error ? *error : "unknown error";
  delta_free(*error);
  const char *kind = status == DELTA_ABSENT    ? "AbsentError"
                     : status == DELTA_FINDING ? "FindingError"
                                               : "Error";
  raise(kind, text);
}

inline const char *nameOf(delta_dtype dtype) {
  switch (dtype) {
  case DELTA_F64:
    return "f64";
  case DELTA_F16:
    return "f16";
  case DELTA_BF16:
    return "bf16";
  default:
    return "f32";
  }
}

inline const char *nameOf(delta_arg_kind kind) {
  static const char *const names[] = {"in",  "param",      "attr", "state",
                                      "out", "checkpoint", "sum"};
  return kind >= DELTA_IN && kind <= DELTA_SUM ? names[kind] : "other";
}

/// An argument's description as a dict.
inline nb::dict describe(const delta_arg_info &info) {
  nb::dict result;
  result["name"] = info.name;
  result["kind"] = nameOf(info.kind);
  result["dtype"] = nameOf(info.dtype);
  nb::list axes, sizes;
  for (size_t i = 0; i < info.rank; ++i) {
    axes.append(info.axes[i]);
    sizes.append(info.sizes[i]);
  }
  result["axes"] = nb::tuple(axes);
  result["sizes"] = nb::tuple(sizes);
  result["range"] = info.has_range
                        ? nb::object(nb::make_tuple(info.lo, info.hi))
                        : nb::none();
  result["has_default"] = info.has_default != 0;
  result["default"] = info.default_value;
  result["default_text"] = info.default_text;
  result["every"] = info.every;
  return result;
}

} // namespace deltac

#endif // DELTAC_COMMON_H
