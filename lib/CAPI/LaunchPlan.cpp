//===- LaunchPlan.cpp - checking launches without allocating --------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The same checks as in LaunchCheck.cpp, on tables made when a kernel is
// loaded.
//
//===----------------------------------------------------------------------===//

#include "DTypes.h"
#include "LaunchPlan.h"

#include <cmath>
#include <limits>

using namespace delta;
using namespace delta::capi;
using runtime::ArgKind;
using runtime::Argument;

static size_t bytesOf(delta_dtype dtype) {
  return dtype == DELTA_F64 ? 8 : dtype == DELTA_F32 ? 4 : 2;
}

bool LaunchPlan::add(const runtime::Signature &signature, const Argument &arg,
                     std::vector<Array> &arrays) {
  std::vector<std::string> axes = arg.arrayAxes();
  if (axes.size() > kMaxRank)
    return false;
  Array array;
  array.dtype = fromDType(arg.dtype);
  array.rank = axes.size();
  for (size_t i = 0; i < axes.size(); ++i) {
    if (!arg.isDim(i)) {
      array.sizes[i] = axes[i] == "B" ? -1 : axes[i] == "T" ? -2 : -3;
      continue;
    }
    auto size = signature.dims.find(axes[i]);
    if (size == signature.dims.end())
      return false;
    array.sizes[i] = size->second;
  }
  arrays.push_back(array);
  return true;
}

LaunchPlan::LaunchPlan(const runtime::Signature &signature, size_t alignment)
    : alignment(alignment) {
  constexpr double kInf = std::numeric_limits<double>::infinity();
  for (const Argument &arg : signature.args) {
    switch (arg.kind) {
    case ArgKind::In:
    case ArgKind::Param:
      usable &= add(signature, arg, inputs);
      break;
    case ArgKind::Out:
      usable &= add(signature, arg, outs);
      break;
    case ArgKind::State:
      usable &= add(signature, arg, state);
      break;
    case ArgKind::Attr:
      attrs.push_back({arg.defaultAttrs.empty() && arg.defaultValue
                           ? *arg.defaultValue
                           : std::numeric_limits<double>::quiet_NaN(),
                       arg.range ? arg.range->first : -kInf,
                       arg.range ? arg.range->second : kInf});
      break;
    default: // of kernels for gradients, which are never that short
      usable = false;
      break;
    }
  }
  usable &= state.size() == 1;
}

bool LaunchPlan::fits(const Array &expected, const delta_array &array,
                      std::array<int64_t, 3> &sizes) const {
  if (array.dtype != expected.dtype || array.rank != expected.rank ||
      (array.rank > 0 && !array.shape))
    return false;
  bool empty = false;
  for (size_t i = 0; i < array.rank; ++i) {
    int64_t size = array.shape[i], wanted = expected.sizes[i];
    empty |= size == 0;
    if (wanted < 0) {
      int64_t &known = sizes[static_cast<size_t>(-1 - wanted)];
      if (known < 0)
        known = size;
      wanted = known;
    }
    // Counts near the limits of 64 bits are checkLaunch's.
    if (size != wanted || size < 0 || size > int64_t(1) << 40)
      return false;
  }
  auto address = reinterpret_cast<uintptr_t>(array.data);
  return (empty || array.data) &&
         address % (alignment ? alignment : bytesOf(array.dtype)) == 0;
}

std::optional<runtime::LaunchSizes>
LaunchPlan::check(const delta_launch &launch) const {
  if (!usable || launch.num_sums || launch.checkpoints ||
      launch.num_inputs != inputs.size() ||
      launch.num_outputs != outs.size() ||
      (!inputs.empty() && !launch.inputs) || (!outs.empty() && !launch.outputs))
    return std::nullopt;
  std::array<int64_t, 3> sizes = {-1, -1, -1};
  for (size_t i = 0; i < inputs.size(); ++i)
    if (!fits(inputs[i], launch.inputs[i], sizes))
      return std::nullopt;
  for (size_t i = 0; i < outs.size(); ++i)
    if (!fits(outs[i], launch.outputs[i], sizes))
      return std::nullopt;
  for (const delta_array *array : {launch.initial_state, launch.final_state})
    if (array && !fits(state.front(), *array, sizes))
      return std::nullopt;
  // Whether a product of sizes is too large is left to checkLaunch.
  int64_t tokens = 0;
  if (sizes[0] < 0 || sizes[1] < 0 || sizes[2] < 0 ||
      __builtin_mul_overflow(sizes[0], sizes[1], &tokens) ||
      __builtin_mul_overflow(tokens, sizes[2], &tokens) ||
      tokens > int64_t(1) << 40)
    return std::nullopt;
  runtime::LaunchSizes result;
  result.B = sizes[0];
  result.T = sizes[1];
  result.H = sizes[2];
  return result;
}

bool LaunchPlan::completeAttrs(const delta_launch &launch,
                               std::vector<double> &values) const {
  if (!usable || (launch.attrs && launch.num_attrs != attrs.size()))
    return false;
  values.resize(attrs.size());
  for (size_t i = 0; i < attrs.size(); ++i) {
    bool given = launch.attrs && !std::isnan(launch.attrs[i]);
    values[i] = given ? launch.attrs[i] : attrs[i].value;
    if (!(values[i] >= attrs[i].lo && values[i] <= attrs[i].hi))
      return false;
  }
  return true;
}
