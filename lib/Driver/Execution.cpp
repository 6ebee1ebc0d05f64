//===- Execution.cpp - running kernels and the reference ------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Packed sequences are slices of the arrays along T, which stand one behind the
// other when B is 1: each is a call of its own with its own state.
//
//===----------------------------------------------------------------------===//

#include "delta/Driver/Execution.h"

#include "delta/Reference/Reference.h"
#include "delta/Runtime/Check.h"
#include "delta/Spec/Evaluate.h"

#include <cmath>

using namespace llvm;
using mlir::delta::ArgAttr;
using mlir::delta::ArgKind;
using mlir::delta::SignatureAttr;

namespace delta::driver {

namespace {

/// Tokens [first, first + count) that one call computes, with the state of
/// sequence number `index`.
struct Sequence {
  int64_t index = 0, first = 0, count = 0;
  int64_t batch = 1;
};

std::vector<Sequence> getSequences(const BoundArrays &arrays) {
  if (arrays.cuSeqlens.empty())
    return {{0, 0, arrays.T, arrays.B}};
  std::vector<Sequence> sequences;
  for (int64_t i = 0; i < arrays.sequences; ++i)
    sequences.push_back({i, arrays.cuSeqlens[i],
                         arrays.cuSeqlens[i + 1] - arrays.cuSeqlens[i], 1});
  return sequences;
}

/// Elements that one token of an in or out has (all heads), with B = 1.
int64_t tokenStride(const runtime::NdArray &array) {
  int64_t stride = 1;
  for (size_t i = 2; i < array.shape().size(); ++i)
    stride *= array.shape()[i];
  return stride;
}

/// Elements of one sequence's state.
int64_t stateStride(const runtime::NdArray &array) {
  int64_t stride = 1;
  for (size_t i = 1; i < array.shape().size(); ++i)
    stride *= array.shape()[i];
  return stride;
}

/// Where the part of `array` that `sequence` works on begins, in elements.
int64_t offsetOf(ArgAttr arg, const runtime::NdArray &array,
                 const Sequence &sequence) {
  switch (arg.getKind()) {
  case ArgKind::In:
  case ArgKind::Out:
    return sequence.first * tokenStride(array);
  case ArgKind::State:
    return sequence.index * stateStride(array);
  default:
    return 0;
  }
}

/// Number of elements of that part.
int64_t countOf(ArgAttr arg, const runtime::NdArray &array,
                const Sequence &sequence) {
  switch (arg.getKind()) {
  case ArgKind::In:
  case ArgKind::Out:
    return sequence.batch * sequence.count * tokenStride(array);
  case ArgKind::State:
    return sequence.batch * stateStride(array);
  default:
    return array.numElements();
  }
}

/// Arrays for all results, of the signature's types or of f64.
FailureOr<Results> makeResults(SignatureAttr signature,
                               const BoundArrays &arrays, bool asF64,
                               Reporter &reporter) {
  Results results;
  auto add = [&](ArgAttr arg, StringRef name) -> LogicalResult {
    runtime::Expected<runtime::NdArray> array = runtime::NdArray::zeros(
        asF64 ? runtime::DType::F64 : getDType(arg.getType()),
        getShape(arg, arrays));
    if (!array)
      return reporter.error("'" + name + "': " + array.message());
    results.emplace_back(name.str(), std::move(*array));
    return success();
  };
  for (ArgAttr arg : signature.getArgs(ArgKind::Out))
    if (failed(add(arg, arg.getName().getValue())))
      return failure();
  if (failed(add(signature.getState(), kFinalState)))
    return failure();
  return results;
}

} // namespace

FailureOr<std::vector<double>> evaluateAttrs(SignatureAttr signature,
                                             const BoundArrays &arrays,
                                             Reporter &reporter) {
  std::vector<double> values;
  StringMap<double> known;
  for (ArgAttr arg : signature.getArgs(ArgKind::Attr)) {
    StringRef name = arg.getName().getValue();
    if (!arg.getDefaultValue())
      return reporter.error("attr '" + name + "' has no default; give --attr " +
                            name + "=VALUE");
    Expected<double> value = spec::evaluateConstant(
        arg.getDefaultValue().getValue(), arrays.dims, known);
    if (!value)
      return reporter.error("attr '" + name +
                            "': " + toString(value.takeError()));
    if (arg.hasRange() && !(*value >= arg.getLo() && *value <= arg.getHi()))
      return reporter.error("attr '" + name + "' is " +
                            runtime::formatNumber(*value) +
                            ", outside its declared range [" +
                            runtime::formatNumber(arg.getLo()) + ", " +
                            runtime::formatNumber(arg.getHi()) + "]");
    known[name] = *value;
    values.push_back(*value);
  }
  return values;
}

FailureOr<KernelCall> KernelCall::create(SignatureAttr signature,
                                         const BoundArrays &arrays,
                                         ArrayRef<double> attrs,
                                         Reporter &reporter) {
  FailureOr<Results> results =
      makeResults(signature, arrays, /*asF64=*/false, reporter);
  if (failed(results))
    return failure();
  KernelCall call;
  call.results = std::move(*results);
  call.attrs.assign(attrs.begin(), attrs.end());

  ArgAttr state = signature.getState();
  for (const Sequence &sequence : getSequences(arrays)) {
    Part part;
    auto place = [&](ArgAttr arg, const runtime::NdArray &array) {
      return static_cast<char *>(const_cast<void *>(array.data())) +
             offsetOf(arg, array, sequence) * runtime::sizeOf(array.dtype());
    };
    for (ArgAttr arg : signature.getAllArgs())
      if (arg.getKind() == ArgKind::In || arg.getKind() == ArgKind::Param)
        part.in.push_back(
            place(arg, arrays.arrays.find(arg.getName().getValue())->second));
    part.in.push_back(arrays.initialState ? place(state, *arrays.initialState)
                                          : nullptr);
    size_t index = 0;
    for (ArgAttr arg : signature.getArgs(ArgKind::Out))
      part.out.push_back(place(arg, call.results[index++].second));
    part.out.push_back(place(state, call.results[index].second));
    part.dims = {sequence.batch, sequence.count, arrays.H};
    for (mlir::StringAttr name : signature.getDimNames())
      part.dims.push_back(arrays.dims.lookup(name.getValue()));
    call.parts.push_back(std::move(part));
  }

  for (auto &entry : arrays.arrays)
    call.bytes += static_cast<int64_t>(entry.second.sizeInBytes());
  if (arrays.initialState)
    call.bytes += static_cast<int64_t>(arrays.initialState->sizeInBytes());
  for (auto &[name, array] : call.results)
    call.bytes += static_cast<int64_t>(array.sizeInBytes());
  return call;
}

LogicalResult KernelCall::run(cpu::Launcher &launcher, Reporter &reporter) {
  for (Part &part : parts)
    if (int status = launcher(part.in.data(), part.out.data(), part.dims.data(),
                              attrs.data()))
      return reporter.error(Twine("the kernel refused its arguments: ") +
                            cpu::describeStatus(status));
  return success();
}

FailureOr<Results> runReference(mlir::ModuleOp module,
                                const BoundArrays &arrays,
                                ArrayRef<double> attrs, unsigned threads,
                                Reporter &reporter) {
  SignatureAttr signature = mlir::delta::getSignature(module);
  FailureOr<Results> results =
      makeResults(signature, arrays, /*asF64=*/true, reporter);
  if (failed(results))
    return failure();

  // Doubles of everything, kept while the parts are evaluated.
  StringMap<runtime::NdArray> wide;
  auto widen = [&](StringRef name, const runtime::NdArray &array) {
    runtime::Expected<runtime::NdArray> doubles =
        array.convertTo(runtime::DType::F64);
    if (!doubles)
      return reporter.error(doubles.message());
    wide.try_emplace(name, std::move(*doubles));
    return success();
  };
  for (auto &entry : arrays.arrays)
    if (failed(widen(entry.first(), entry.second)))
      return failure();
  if (arrays.initialState && failed(widen(kInitialState, *arrays.initialState)))
    return failure();

  ArgAttr state = signature.getState();
  for (const Sequence &sequence : getSequences(arrays)) {
    auto slice = [&](ArgAttr arg, const runtime::NdArray &array) {
      return ArrayRef<double>(array.as<double>() +
                                  offsetOf(arg, array, sequence),
                              countOf(arg, array, sequence));
    };
    reference::Problem problem;
    problem.B = sequence.batch;
    problem.T = sequence.count;
    problem.H = arrays.H;
    problem.dims = arrays.dims;
    problem.threads = threads;
    size_t index = 0;
    for (ArgAttr arg : signature.getAllArgs()) {
      StringRef name = arg.getName().getValue();
      if (arg.getKind() == ArgKind::In || arg.getKind() == ArgKind::Param)
        problem.arrays[name] = slice(arg, wide.find(name)->second);
      else if (arg.getKind() == ArgKind::Attr)
        problem.attrs[name] = attrs[index++];
    }
    if (arrays.initialState)
      problem.initialState = slice(state, wide.find(kInitialState)->second);
    reference::Result result;
    if (failed(reference::evaluate(module, problem, result)))
      return failure();
    auto copyBack = [&](ArgAttr arg, runtime::NdArray &array,
                        const std::vector<double> &values) {
      std::copy(values.begin(), values.end(),
                array.as<double>() + offsetOf(arg, array, sequence));
    };
    index = 0;
    for (ArgAttr arg : signature.getArgs(ArgKind::Out))
      copyBack(arg, (*results)[index++].second,
               result.outs[arg.getName().getValue()]);
    copyBack(state, (*results)[index].second, result.finalState);
  }
  return results;
}

} // namespace delta::driver
