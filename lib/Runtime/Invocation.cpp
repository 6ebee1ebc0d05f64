//===- Invocation.cpp - a kernel's arguments, from arrays -----------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Packed sequences are slices of the arrays along T, which stand one behind the
// other when B is 1: each is a launch of its own with its own state.
//
//===----------------------------------------------------------------------===//

#include "delta/Runtime/Invocation.h"

#include "delta/Runtime/Check.h"
#include "delta/Runtime/Suggest.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>

namespace delta::runtime {

std::vector<Sequence> sequencesOf(const BoundArrays &arrays) {
  if (arrays.cuSeqlens.empty())
    return {{0, 0, arrays.T, arrays.B}};
  std::vector<Sequence> sequences;
  for (int64_t i = 0; i < arrays.sequences; ++i)
    sequences.push_back({i, arrays.cuSeqlens[i],
                         arrays.cuSeqlens[i + 1] - arrays.cuSeqlens[i], 1});
  return sequences;
}

/// Elements of one index of the first `axes` axes.
static int64_t strideOf(const NdArray &array, size_t axes) {
  int64_t stride = 1;
  for (size_t i = axes; i < array.shape().size(); ++i)
    stride *= array.shape()[i];
  return stride;
}

Slice sliceOf(const Argument &arg, const NdArray &array,
              const Sequence &sequence) {
  switch (arg.kind) {
  case ArgKind::In:
  case ArgKind::Out: {
    int64_t token = strideOf(array, 2);
    return {sequence.first * token, sequence.batch * sequence.count * token};
  }
  case ArgKind::State:
  case ArgKind::Sum: {
    int64_t state = strideOf(array, 1);
    return {sequence.index * state, sequence.batch * state};
  }
  case ArgKind::Checkpoint: {
    // The checkpoints of packed sequences follow one another; a sequence begins
    // where those before it have ended at the latest.
    int64_t state = array.shape()[1] * strideOf(array, 3), every = arg.every;
    return {(sequence.first / every + sequence.index) * state,
            sequence.batch * ((sequence.count + every - 1) / every) * state};
  }
  case ArgKind::Param:
  case ArgKind::Attr:
    break;
  }
  return {0, array.numElements()};
}

Expected<Results> makeResults(const Signature &signature,
                              const BoundArrays &arrays, bool asF64) {
  Results results;
  auto add = [&](const Argument &arg, const std::string &name) -> Status {
    Expected<NdArray> array =
        NdArray::zeros(asF64 ? DType::F64 : arg.dtype, shapeOf(arg, arrays));
    if (!array)
      return Status::error("'", name, "': ", array.message());
    results.emplace_back(name, std::move(*array));
    return {};
  };
  for (const Argument *arg : signature.ofKind(ArgKind::Out))
    if (Status status = add(*arg, arg->name); !status.ok())
      return status;
  for (const Argument *arg : signature.ofKind(ArgKind::Sum))
    if (Status status = add(*arg, arg->name); !status.ok())
      return status;
  if (Status status =
          add(signature.state(),
              signature.backward ? gradientName(kInitialState) : kFinalState);
      !status.ok())
    return status;
  return results;
}

Expected<NdArray> makeCheckpoints(const Signature &signature,
                                  const BoundArrays &arrays) {
  const Argument &arg = *signature.checkpoint();
  Expected<NdArray> array = NdArray::zeros(arg.dtype, shapeOf(arg, arrays));
  if (!array)
    return Status::error("'", arg.name, "': ", array.message());
  return array;
}

Expected<Results> finishGradients(const Signature &forward,
                                  const Signature &backward,
                                  const BoundArrays &arrays, Results computed) {
  // All sums have one type.
  std::vector<const Argument *> sums = backward.ofKind(ArgKind::Sum);
  Expected<Results> results =
      makeGradients(forward, arrays, sums.empty() ? backward.state().dtype
                                                  : sums.front()->dtype);
  if (!results)
    return results;
  NamedValues<NdArray *> byName;
  for (auto &[name, array] : computed)
    byName[name] = &array;
  for (auto &[name, to] : *results) {
    NdArray &from = *byName.at(name);
    if (from.shape() == to.shape()) {
      to = std::move(from);
      continue;
    }
    // [sequences, H, dim] becomes [H, dim] or a number.
    int64_t count = to.numElements();
    std::vector<double> totals(count, 0);
    for (int64_t i = 0; count > 0 && i < from.numElements(); ++i)
      totals[i % count] += from.at(i);
    for (int64_t i = 0; i < count; ++i)
      if (to.dtype() == DType::F64)
        to.as<double>()[i] = totals[i];
      else
        to.as<float>()[i] = static_cast<float>(totals[i]);
  }
  return results;
}

Expected<Results> makeGradients(const Signature &signature,
                                const BoundArrays &arrays,
                                std::optional<DType> sums) {
  Results results;
  auto add = [&](const Argument &arg, const std::string &name, DType dtype) {
    Shape shape;
    if (arg.kind != ArgKind::Attr)
      shape = shapeOf(arg, arrays);
    Expected<NdArray> array =
        NdArray::zeros(sums ? dtype : DType::F64, std::move(shape));
    if (!array)
      return Status::error("'", gradientName(name), "': ", array.message());
    results.emplace_back(gradientName(name), std::move(*array));
    return Status();
  };
  DType sum = sums.value_or(DType::F64);
  for (const Argument *arg : signature.inputs())
    if (Status status =
            add(*arg, arg->name, arg->kind == ArgKind::In ? arg->dtype : sum);
        !status.ok())
      return status;
  for (const Argument *arg : signature.ofKind(ArgKind::Attr))
    if (Status status = add(*arg, arg->name, sum); !status.ok())
      return status;
  const Argument &state = signature.state();
  if (Status status = add(state, kInitialState, state.dtype); !status.ok())
    return status;
  return results;
}

Status checkAttr(const Argument &attr, double value) {
  if (std::isnan(value))
    return Status::error("attr '", attr.name, "' is NaN");
  if (attr.range &&
      !(value >= attr.range->first && value <= attr.range->second))
    return Status::error("attr '", attr.name, "' is ", formatNumber(value),
                         ", outside its declared range [",
                         formatNumber(attr.range->first), ", ",
                         formatNumber(attr.range->second), "]");
  return {};
}

Expected<std::vector<double>> chooseAttrs(const Signature &signature,
                                          const NamedValues<double> &given,
                                          bool asOptions) {
  std::vector<std::string> known;
  for (const Argument *attr : signature.ofKind(ArgKind::Attr))
    known.push_back(attr->name);
  for (auto &[name, value] : given)
    if (std::find(known.begin(), known.end(), name) == known.end())
      return Status::error("--attr: the recurrence has no attr '", name, "'",
                           didYouMean(name, known));
  std::vector<double> values;
  for (const Argument *attr : signature.ofKind(ArgKind::Attr)) {
    auto it = given.find(attr->name);
    std::string remedy =
        asOptions ? "--attr " + attr->name + "=VALUE" : "its value";
    if (it == given.end()) {
      if (!attr->defaultValue)
        return Status::error("attr '", attr->name, "' has no default; give ",
                             remedy);
      for (const std::string &other : attr->defaultAttrs)
        if (given.count(other))
          return Status::error("attr '", attr->name, "' has the default '",
                               attr->defaultText, "', which is computed from '",
                               other, "'; since that is given, give ", remedy,
                               ", too");
    }
    double value = it == given.end() ? *attr->defaultValue : it->second;
    if (Status status = checkAttr(*attr, value); !status.ok())
      return status;
    values.push_back(value);
  }
  return values;
}

Expected<Invocation> Invocation::create(const Signature &signature,
                                        const BoundArrays &arrays,
                                        std::vector<double> attrs,
                                        const NdArray *checkpoints) {
  Expected<Results> results = makeResults(signature, arrays, /*asF64=*/false);
  if (!results)
    return results.error();
  Invocation invocation;
  invocation.results = std::move(*results);
  invocation.values = std::move(attrs);

  const Argument &state = signature.state();
  const Argument *checkpoint = signature.checkpoint();
  const std::optional<NdArray> &before =
      signature.backward ? arrays.finalCotangent : arrays.initialState;
  const char *beforeName = signature.backward ? kFinalCotangent : kInitialState;
  std::vector<const Argument *> computed = signature.ofKind(ArgKind::Out);
  for (const Argument *sum : signature.ofKind(ArgKind::Sum))
    computed.push_back(sum);
  for (const Sequence &sequence : sequencesOf(arrays)) {
    Part part;
    part.B = sequence.batch;
    part.T = sequence.count;
    part.H = arrays.H;
    auto place = [&](const Argument &arg, const NdArray &array,
                     const std::string &name) {
      Slice slice = sliceOf(arg, array, sequence);
      size_t size = sizeOf(array.dtype());
      char *data = static_cast<char *>(const_cast<void *>(array.data()));
      return Part::Region{data + slice.offset * size, slice.count * size, name};
    };
    for (const Argument *arg : signature.inputs())
      part.in.push_back(
          place(*arg, arrays.arrays.find(arg->name)->second, arg->name));
    if (checkpoint && signature.backward)
      part.in.push_back(place(*checkpoint, *checkpoints, checkpoint->name));
    part.in.push_back(before ? place(state, *before, beforeName)
                             : Part::Region{nullptr, 0, beforeName});
    size_t index = 0;
    for (const Argument *arg : computed) {
      auto &[name, array] = invocation.results[index++];
      part.out.push_back(place(*arg, array, name));
    }
    if (checkpoint && !signature.backward)
      part.out.push_back(place(*checkpoint, *checkpoints, checkpoint->name));
    auto &[name, array] = invocation.results[index];
    part.out.push_back(place(state, array, name));
    invocation.launches.push_back(std::move(part));
  }

  auto count = [&](const NdArray &array) {
    invocation.total += static_cast<int64_t>(array.sizeInBytes());
  };
  for (const Argument *arg : signature.inputs())
    count(arrays.arrays.find(arg->name)->second);
  if (before)
    count(*before);
  if (checkpoint)
    count(*checkpoints);
  for (auto &[name, array] : invocation.results)
    count(array);
  return invocation;
}

//===----------------------------------------------------------------------===//
// Running
//===----------------------------------------------------------------------===//

Runner::~Runner() = default;

Status Runner::begin(const Invocation &) { return {}; }

Status Runner::end(const Invocation &) { return {}; }

Expected<double> Runner::measure(const Invocation &invocation) {
  auto begin = std::chrono::steady_clock::now();
  if (Status status = launch(invocation); !status.ok())
    return status;
  auto end = std::chrono::steady_clock::now();
  return std::chrono::duration<double>(end - begin).count();
}

Expected<double> measureMedian(Runner &runner, const Invocation &invocation) {
  using Clock = std::chrono::steady_clock;
  constexpr double kBudget = 1.0;
  constexpr size_t kAtLeast = 5, kAtMost = 10000;
  std::vector<double> times;
  auto start = Clock::now();
  while (times.size() < kAtMost) {
    Expected<double> time = runner.measure(invocation);
    if (!time)
      return time.error();
    times.push_back(*time);
    if (times.size() >= kAtLeast &&
        std::chrono::duration<double>(Clock::now() - start).count() > kBudget)
      break;
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

std::string formatBench(const std::string &name, double median, double bytes,
                        double flops, double floor) {
  char numbers[256];
  std::snprintf(numbers, sizeof(numbers),
                " median_s=%.6e bytes=%.0f gbps=%.2f gflops=%.2f share=%.3f",
                median, bytes, bytes / median / 1e9, flops / median / 1e9,
                floor / median);
  return "bench " + name + numbers;
}

} // namespace delta::runtime
