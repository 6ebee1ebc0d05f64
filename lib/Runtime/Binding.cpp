//===- Binding.cpp - arrays for a signature -------------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Random arrays, and what is done with arrays wherever they come from.
//
//===----------------------------------------------------------------------===//

#include "delta/Runtime/Binding.h"

#include "delta/Runtime/Check.h"
#include "delta/Runtime/RandomInputs.h"

#include <limits>
#include <tuple>

namespace delta::runtime {

namespace {

/// How the values of an input are drawn.
RandomKind kindFor(const Argument &arg, const Argument &state) {
  if (arg.kind == ArgKind::State)
    return RandomKind::Normal;
  if (arg.axes.empty())
    return arg.kind == ArgKind::In ? RandomKind::Fraction : RandomKind::Normal;
  return arg.axes.back() == state.axes.front() ? RandomKind::Unit
                                               : RandomKind::Normal;
}

} // namespace

Shape shapeOf(const Argument &arg, const BoundArrays &arrays) {
  Shape shape;
  std::vector<std::string> axes = arg.arrayAxes();
  for (size_t i = 0; i < axes.size(); ++i) {
    if (arg.isDim(i)) {
      auto it = arrays.dims.find(axes[i]);
      shape.push_back(it == arrays.dims.end() ? 0 : it->second);
    } else if (axes[i] == "B") {
      bool each = arg.kind == ArgKind::State || arg.kind == ArgKind::Sum;
      shape.push_back(each ? arrays.sequences : arrays.B);
    } else if (axes[i] == kCheckpointAxis) {
      // Packed sequences have a bit more room than they need; see sliceOf.
      int64_t every = std::max<int64_t>(arg.every, 1);
      shape.push_back(arrays.cuSeqlens.empty()
                          ? (arrays.T + every - 1) / every
                          : arrays.T / every + arrays.sequences);
    } else {
      shape.push_back(axes[i] == "T" ? arrays.T : arrays.H);
    }
  }
  return shape;
}

std::optional<BoundArrays>
makeRandomArrays(const Signature &signature,
                 const std::vector<std::string> &dims,
                 const RandomOptions &random, const NamedValues<int64_t> &given,
                 const ErrorHandler &error, bool gradients) {
  BoundArrays bound;
  bound.B = bound.sequences = random.B;
  bound.T = random.T;
  bound.H = random.H;
  bound.dims = given;
  for (const std::string &name : dims) {
    auto it = random.dims.find(name);
    if (it == random.dims.end()) {
      if (bound.dims.count(name))
        continue;
      if (name != "K" && name != "V") {
        error("--random: the size of dim '" + name + "' is not known; give " +
              name + "=N");
        return std::nullopt;
      }
      bound.dims[name] = 64;
      continue;
    }
    auto [entry, inserted] = bound.dims.try_emplace(name, it->second);
    if (!inserted && entry->second != it->second) {
      error("--random: dim '" + name + "' is " + std::to_string(it->second) +
            ", but the options or the module say " +
            std::to_string(entry->second));
      return std::nullopt;
    }
  }

  const Argument &state = signature.state();
  auto make = [&](const Argument &arg, const std::string &name,
                  bool cotangent = false) -> std::optional<NdArray> {
    RandomArray wanted;
    wanted.name = name;
    wanted.shape = shapeOf(arg, bound);
    wanted.kind = cotangent ? RandomKind::Normal : kindFor(arg, state);
    if (arg.range)
      std::tie(wanted.lo, wanted.hi) = *arg.range;
    Expected<NdArray> array = makeRandom(wanted, random.seed);
    if (array)
      return std::move(*array);
    error("--random: array '" + name + "': " + array.message());
    return std::nullopt;
  };
  for (const Argument *arg : signature.inputs()) {
    std::optional<NdArray> array = make(*arg, arg->name);
    if (!array)
      return std::nullopt;
    bound.arrays.try_emplace(arg->name, std::move(*array));
  }
  bound.initialState = make(state, kInitialState);
  if (!bound.initialState)
    return std::nullopt;
  if (!gradients)
    return bound;
  for (const Argument *out : signature.ofKind(ArgKind::Out)) {
    std::string name = cotangentName(out->name);
    std::optional<NdArray> array = make(*out, name, /*cotangent=*/true);
    if (!array)
      return std::nullopt;
    bound.arrays.try_emplace(name, std::move(*array));
  }
  bound.finalCotangent = make(state, kFinalCotangent, /*cotangent=*/true);
  if (!bound.finalCotangent)
    return std::nullopt;
  return bound;
}

bool checkValues(const Signature &signature, const BoundArrays &arrays,
                 const std::string &where, const ErrorHandler &error) {
  constexpr double kInf = std::numeric_limits<double>::infinity();
  bool good = true;
  auto check = [&](const std::string &name, const NdArray &array,
                   std::pair<double, double> range) {
    Status status = checkRange(array, range.first, range.second);
    if (status.ok())
      return;
    error(where + ": array '" + name + "': " + status.message());
    good = false;
  };
  for (const Argument *arg : signature.inputs()) {
    auto it = arrays.arrays.find(arg->name);
    if (it != arrays.arrays.end())
      check(it->first, it->second, arg->range.value_or(std::pair(-kInf, kInf)));
  }
  for (auto &[name, array] : arrays.arrays)
    if (!signature.lookup(name))
      check(name, array, {-kInf, kInf});
  if (arrays.initialState)
    check(kInitialState, *arrays.initialState, {-kInf, kInf});
  if (arrays.finalCotangent)
    check(kFinalCotangent, *arrays.finalCotangent, {-kInf, kInf});
  return good;
}

Status convertArrays(const Signature &signature, BoundArrays &arrays,
                     bool keep) {
  auto convert = [&](NdArray &array, DType dtype) -> Status {
    DType to = keep ? DType::F64 : dtype;
    if (array.dtype() == to)
      return {};
    Expected<NdArray> converted = array.convertTo(to);
    if (!converted)
      return converted.error();
    array = std::move(*converted);
    return {};
  };
  for (auto &[name, array] : arrays.arrays) {
    // An out's cotangent has the out's type.
    const Argument *arg = signature.lookup(name);
    if (!arg)
      arg = signature.lookup(name.substr(cotangentName("").size()));
    if (Status status = convert(array, arg->dtype); !status.ok())
      return status;
  }
  for (std::optional<NdArray> *array :
       {&arrays.initialState, &arrays.finalCotangent})
    if (*array)
      if (Status status = convert(**array, signature.state().dtype);
          !status.ok())
        return status;
  return {};
}

} // namespace delta::runtime
