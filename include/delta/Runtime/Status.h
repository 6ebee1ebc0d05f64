//===- Status.h - errors as values for run-time code ------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Status and Expected carry worded errors through code that has no LLVM in it.
// No exception leaves a run-time function; what fails returns one of these.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_RUNTIME_STATUS_H
#define DELTA_RUNTIME_STATUS_H

#include <cassert>
#include <optional>
#include <sstream>
#include <string>
#include <utility>

namespace delta::runtime {

/// Success, or one worded error: lower-case start, no final period.
class [[nodiscard]] Status {
public:
  Status() = default;

  /// An error whose message is the concatenation of `parts` (anything that an
  /// ostream prints).
  template <typename... Parts> static Status error(const Parts &...parts) {
    std::ostringstream os;
    (os << ... << parts);
    Status status;
    status.text = os.str();
    return status;
  }

  bool ok() const { return !text; }
  const std::string &message() const {
    assert(text && "message of a success");
    return *text;
  }

private:
  std::optional<std::string> text;
};

/// A value, or the error that kept it from being made.
template <typename T> class [[nodiscard]] Expected {
public:
  Expected(T value) : value(std::move(value)) {}
  Expected(Status status) : status(std::move(status)) {
    assert(!this->status.ok() && "an Expected without value needs an error");
  }

  explicit operator bool() const { return value.has_value(); }
  T &operator*() { return *value; }
  const T &operator*() const { return *value; }
  T *operator->() { return &*value; }
  const T *operator->() const { return &*value; }

  /// The error; only valid when there is no value.
  const Status &error() const { return status; }
  const std::string &message() const { return status.message(); }

private:
  std::optional<T> value;
  Status status;
};

} // namespace delta::runtime

#endif // DELTA_RUNTIME_STATUS_H
