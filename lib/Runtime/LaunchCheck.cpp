//===- LaunchCheck.cpp - arrays of a launch -------------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Every refusal names the array, what it is and what was expected.
//
//===----------------------------------------------------------------------===//

#include "delta/Runtime/LaunchCheck.h"

#include "delta/Runtime/AxisSizes.h"
#include "delta/Runtime/Binding.h"
#include "delta/Runtime/Invocation.h"

#include <algorithm>
#include <cmath>

namespace delta::runtime {

static std::string listNames(const std::vector<const Argument *> &args) {
  std::string text;
  for (const Argument *arg : args)
    text += (text.empty() ? "" : ", ") + arg->name;
  return text;
}

/// Checks one array, and learns sizes from it.
static Status checkArray(const Argument &arg, const std::string &name,
                         const ArrayView &array, size_t alignment,
                         AxisSizes &sizes) {
  auto fail = [&](const auto &...parts) {
    return Status::error("array '", name, "' ", parts...);
  };
  if (array.dtype != arg.dtype)
    return fail("has type ", nameOf(array.dtype), "; expected ",
                nameOf(arg.dtype));
  if (Status status = sizes.fit(arg, name, array.shape); !status.ok())
    return fail(status.message());
  std::optional<int64_t> count = numElementsOf(array.shape);
  if (!count)
    return fail("has the impossible shape ", toString(array.shape));
  if (*count > 0 && !array.data)
    return fail("has no data");
  size_t unit = alignment ? alignment : sizeOf(array.dtype);
  auto address = reinterpret_cast<uintptr_t>(array.data);
  if (address % unit != 0)
    return fail("is at ", array.data, ", which is no multiple of ", unit,
                " bytes");
  return {};
}

/// Checkpoints are there if and only if the kernel has them, in the right
/// number.
static Status checkCheckpoints(const Signature &signature,
                               const std::optional<ArrayView> &array,
                               size_t alignment, AxisSizes &sizes) {
  const Argument *arg = signature.checkpoint();
  if (!arg)
    return array ? Status::error("the kernel has no checkpoints, but there is "
                                 "an array for them")
                 : Status();
  if (!array)
    return Status::error("array '", arg->name, "' is missing");
  if (Status status = checkArray(*arg, arg->name, *array, alignment, sizes);
      !status.ok())
    return status;
  std::optional<int64_t> tokens = sizes.lookup("T", false);
  int64_t every = std::max<int64_t>(arg->every, 1);
  int64_t wanted = tokens ? *tokens / every + (*tokens % every != 0) : 0;
  if (array->shape[2] != wanted)
    return Status::error("array '", arg->name, "' has shape ",
                         toString(array->shape), "; expected ", wanted,
                         " checkpoints, one every ", every, " tokens");
  return {};
}

Expected<LaunchSizes> checkLaunch(const Signature &signature,
                                  const LaunchArrays &arrays,
                                  size_t alignment) {
  AxisSizes sizes;
  sizes.setDims(signature.dims, "the bundle");
  auto checkAll = [&](const std::vector<const Argument *> &args,
                      const std::vector<ArrayView> &views,
                      const char *what) -> Status {
    if (args.size() != views.size())
      return Status::error("expected ", args.size(), " ", what, " (",
                           listNames(args), "), but got ", views.size());
    for (size_t i = 0; i < args.size(); ++i)
      if (Status status =
              checkArray(*args[i], args[i]->name, views[i], alignment, sizes);
          !status.ok())
        return status;
    return {};
  };
  Status status = checkAll(signature.inputs(), arrays.inputs, "inputs");
  if (status.ok() && arrays.initialState)
    status = checkArray(signature.state(), kInitialState, *arrays.initialState,
                        alignment, sizes);
  if (status.ok())
    status =
        checkAll(signature.ofKind(ArgKind::Out), arrays.outputs, "outputs");
  if (status.ok())
    status = checkAll(signature.ofKind(ArgKind::Sum), arrays.sums, "sums");
  if (status.ok())
    status = checkCheckpoints(signature, arrays.checkpoints, alignment, sizes);
  if (status.ok() && arrays.finalState)
    status = checkArray(signature.state(), kFinalState, *arrays.finalState,
                        alignment, sizes);
  if (!status.ok())
    return status;
  // Every recurrence has an out, and that has B, T and H.
  LaunchSizes result;
  result.B = *sizes.lookup("B", false);
  result.T = *sizes.lookup("T", false);
  result.H = *sizes.lookup("H", false);
  return result;
}

Expected<std::vector<double>>
completeAttrs(const Signature &signature, const double *values, size_t count) {
  std::vector<const Argument *> attrs = signature.ofKind(ArgKind::Attr);
  if (values && count != attrs.size())
    return Status::error("expected ", attrs.size(), " attrs (",
                         listNames(attrs), "), but got ", count);
  NamedValues<double> given;
  for (size_t i = 0; values && i < count; ++i)
    if (!std::isnan(values[i]))
      given[attrs[i]->name] = values[i];
  return chooseAttrs(signature, given, /*asOptions=*/false);
}

} // namespace delta::runtime
