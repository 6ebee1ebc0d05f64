//===- Execution.cpp - attrs and the reference ----------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The reference takes packed sequences as a kernel does: one call each.
//
//===----------------------------------------------------------------------===//

#include "delta/Driver/Execution.h"

#include "delta/Reference/Reference.h"
#include "delta/Spec/Evaluate.h"

#include "llvm/ADT/StringSwitch.h"

using namespace llvm;
namespace delta::driver {

/// For interfaces that take LLVM's maps.
static StringMap<int64_t>
toStringMap(const runtime::NamedValues<int64_t> &values) {
  StringMap<int64_t> map;
  for (auto &[name, value] : values)
    map[name] = value;
  return map;
}

FailureOr<double> evaluateDefault(const runtime::Argument &attr,
                                  const runtime::NamedValues<int64_t> &dims,
                                  const runtime::NamedValues<double> &attrs,
                                  Reporter &reporter) {
  StringMap<double> known;
  for (auto &[name, value] : attrs)
    known[name] = value;
  Expected<double> value =
      spec::evaluateConstant(attr.defaultText, toStringMap(dims), known);
  if (!value)
    return reporter.error("attr '" + attr.name +
                          "': " + toString(value.takeError()));
  runtime::Status status = runtime::checkAttr(attr, *value);
  if (!status.ok())
    return reporter.error(status.message());
  return *value;
}

FailureOr<std::vector<double>>
evaluateAttrs(const runtime::Signature &signature,
              const runtime::NamedValues<int64_t> &dims, Reporter &reporter) {
  std::vector<double> values;
  runtime::NamedValues<double> known;
  for (const runtime::Argument *attr :
       signature.ofKind(runtime::ArgKind::Attr)) {
    if (attr->defaultText.empty())
      return reporter.error("attr '" + attr->name +
                            "' has no default; give --attr " + attr->name +
                            "=VALUE");
    FailureOr<double> value = evaluateDefault(*attr, dims, known, reporter);
    if (failed(value))
      return failure();
    known[attr->name] = *value;
    values.push_back(*value);
  }
  return values;
}

namespace {

/// Doubles of all arrays, and what of them belongs to each sequence.
class WideArrays {
public:
  /// Everything must outlive this.
  WideArrays(const runtime::Signature &signature,
             const runtime::BoundArrays &arrays, ArrayRef<double> attrs,
             unsigned threads)
      : signature(signature), arrays(arrays), attrs(attrs), threads(threads) {}

  LogicalResult widen(Reporter &reporter);

  /// The elements of an argument's array that belong to `sequence`.
  ArrayRef<double> take(const runtime::Argument &arg, StringRef name,
                        const runtime::Sequence &sequence) const;

  reference::Problem makeProblem(const runtime::Sequence &sequence) const;
  /// The cotangents of what the problem computes.
  reference::Cotangents makeCotangents(const runtime::Sequence &sequence) const;

private:
  const runtime::Signature &signature;
  const runtime::BoundArrays &arrays;
  ArrayRef<double> attrs;
  unsigned threads;
  std::map<std::string, runtime::NdArray, std::less<>> wide;
};

LogicalResult WideArrays::widen(Reporter &reporter) {
  auto add = [&](const std::string &name, const runtime::NdArray &array) {
    runtime::Expected<runtime::NdArray> doubles =
        array.convertTo(runtime::DType::F64);
    if (!doubles)
      return reporter.error(doubles.message());
    wide.try_emplace(name, std::move(*doubles));
    return success();
  };
  for (auto &[name, array] : arrays.arrays)
    if (failed(add(name, array)))
      return failure();
  if (arrays.initialState &&
      failed(add(runtime::kInitialState, *arrays.initialState)))
    return failure();
  if (arrays.finalCotangent)
    return add(runtime::kFinalCotangent, *arrays.finalCotangent);
  return success();
}

ArrayRef<double> WideArrays::take(const runtime::Argument &arg, StringRef name,
                                  const runtime::Sequence &sequence) const {
  const runtime::NdArray &array = wide.find(name)->second;
  runtime::Slice slice = runtime::sliceOf(arg, array, sequence);
  return ArrayRef<double>(array.as<double>() + slice.offset, slice.count);
}

reference::Problem
WideArrays::makeProblem(const runtime::Sequence &sequence) const {
  reference::Problem problem;
  problem.B = sequence.batch;
  problem.T = sequence.count;
  problem.H = arrays.H;
  problem.dims = toStringMap(arrays.dims);
  problem.threads = threads;
  size_t index = 0;
  for (const runtime::Argument &arg : signature.args) {
    if (arg.isInput())
      problem.arrays[arg.name] = take(arg, arg.name, sequence);
    else if (arg.kind == runtime::ArgKind::Attr)
      problem.attrs[arg.name] = attrs[index++];
  }
  if (arrays.initialState)
    problem.initialState =
        take(signature.state(), runtime::kInitialState, sequence);
  return problem;
}

reference::Cotangents
WideArrays::makeCotangents(const runtime::Sequence &sequence) const {
  reference::Cotangents cotangents;
  for (const runtime::Argument *out : signature.ofKind(runtime::ArgKind::Out)) {
    std::string name = runtime::cotangentName(out->name);
    if (wide.count(name))
      cotangents.outs[out->name] = take(*out, name, sequence);
  }
  if (arrays.finalCotangent)
    cotangents.finalState =
        take(signature.state(), runtime::kFinalCotangent, sequence);
  return cotangents;
}

/// Adds values to the elements of a result that belong to `sequence`.
void addTo(const runtime::Argument &arg, runtime::NdArray &array,
           const runtime::Sequence &sequence, ArrayRef<double> values) {
  double *to =
      array.as<double>() + runtime::sliceOf(arg, array, sequence).offset;
  for (auto [i, value] : enumerate(values))
    to[i] += value;
}

} // namespace

static FailureOr<runtime::Results>
evaluate(mlir::ModuleOp module, reference::Operands operands,
         const runtime::Signature &signature,
         const runtime::BoundArrays &arrays, ArrayRef<double> attrs,
         unsigned threads, Reporter &reporter) {
  runtime::Expected<runtime::Results> results =
      runtime::makeResults(signature, arrays, /*asF64=*/true);
  if (!results)
    return reporter.error(results.message());
  WideArrays wide(signature, arrays, attrs, threads);
  if (failed(wide.widen(reporter)))
    return failure();
  for (const runtime::Sequence &sequence : runtime::sequencesOf(arrays)) {
    reference::Problem problem = wide.makeProblem(sequence);
    problem.operands = operands;
    reference::Result result;
    if (failed(reference::evaluate(module, problem, result)))
      return failure();
    size_t index = 0;
    for (const runtime::Argument *out : signature.ofKind(runtime::ArgKind::Out))
      addTo(*out, (*results)[index++].second, sequence, result.outs[out->name]);
    addTo(signature.state(), (*results)[index].second, sequence,
          result.finalState);
  }
  return std::move(*results);
}

FailureOr<runtime::Results> runReference(mlir::ModuleOp module,
                                         const runtime::Signature &signature,
                                         const runtime::BoundArrays &arrays,
                                         ArrayRef<double> attrs,
                                         unsigned threads, Reporter &reporter) {
  return evaluate(module, reference::Operands::Exact, signature, arrays, attrs,
                  threads, reporter);
}

/// What operands of matrix products are rounded to, by a name of --precision.
static reference::Operands getOperands(StringRef precision) {
  return StringSwitch<reference::Operands>(precision)
      .Case("f32", reference::Operands::F32)
      .Case("tf32", reference::Operands::Tf32)
      .Case("f16", reference::Operands::F16)
      .Case("bf16", reference::Operands::Bf16)
      .Case("bf16x3", reference::Operands::Bf16x3)
      .Default(reference::Operands::Exact);
}

/// Results in the types that a kernel stores them in.
static FailureOr<runtime::Results> narrow(const runtime::Results &wide,
                                          const runtime::Signature &signature,
                                          const runtime::BoundArrays &arrays,
                                          Reporter &reporter) {
  runtime::Expected<runtime::Results> stored =
      runtime::makeResults(signature, arrays, /*asF64=*/false);
  if (!stored)
    return reporter.error(stored.message());
  for (auto [from, to] : zip_equal(wide, *stored)) {
    runtime::Expected<runtime::NdArray> converted =
        from.second.convertTo(to.second.dtype());
    if (!converted)
      return reporter.error(converted.message());
    to.second = std::move(*converted);
  }
  return std::move(*stored);
}

FailureOr<runtime::Results> runEmulation(mlir::ModuleOp module,
                                         StringRef precision,
                                         const runtime::Signature &signature,
                                         const runtime::BoundArrays &arrays,
                                         ArrayRef<double> attrs,
                                         unsigned threads, Reporter &reporter) {
  FailureOr<runtime::Results> results =
      evaluate(module, getOperands(precision), signature, arrays, attrs,
               threads, reporter);
  if (failed(results))
    return failure();
  return narrow(*results, signature, arrays, reporter);
}

/// Rounds values to a type and back.
static LogicalResult roundTo(runtime::DType dtype, std::vector<double> &values,
                             Reporter &reporter) {
  auto count = static_cast<int64_t>(values.size());
  runtime::Expected<runtime::NdArray> array =
      runtime::NdArray::zeros(runtime::DType::F64, {count});
  if (!array)
    return reporter.error(array.message());
  copy(values, array->as<double>());
  runtime::Expected<runtime::NdArray> rounded = array->convertTo(dtype);
  if (!rounded)
    return reporter.error(rounded.message());
  for (int64_t i = 0; i < count; ++i)
    values[i] = rounded->at(i);
  return success();
}

FailureOr<runtime::Results> runEmulatedGradient(
    const EmulatedProgram &forward, const EmulatedProgram &backward,
    const runtime::Signature &signature, const runtime::BoundArrays &arrays,
    ArrayRef<double> attrs, unsigned threads, Reporter &reporter) {
  runtime::Expected<runtime::Results> results =
      runtime::makeResults(backward.signature, arrays, /*asF64=*/true);
  if (!results)
    return reporter.error(results.message());
  WideArrays before(forward.signature, arrays, attrs, threads);
  WideArrays behind(backward.signature, arrays, attrs, threads);
  if (failed(before.widen(reporter)) || failed(behind.widen(reporter)))
    return failure();
  const runtime::Argument &saved = *forward.signature.checkpoint();
  for (const runtime::Sequence &sequence : runtime::sequencesOf(arrays)) {
    reference::Problem problem = before.makeProblem(sequence);
    problem.operands = getOperands(forward.precision);
    reference::Result states;
    if (failed(reference::evaluate(forward.module, problem, states)) ||
        failed(roundTo(saved.dtype, states.checkpoints, reporter)))
      return failure();

    problem = behind.makeProblem(sequence);
    problem.operands = getOperands(backward.precision);
    problem.arrays[saved.name] = states.checkpoints;
    problem.initialState = {};
    if (arrays.finalCotangent)
      problem.initialState = behind.take(backward.signature.state(),
                                         runtime::kFinalCotangent, sequence);
    reference::Result gradients;
    if (failed(reference::evaluate(backward.module, problem, gradients)))
      return failure();
    size_t index = 0;
    for (runtime::ArgKind kind : {runtime::ArgKind::Out, runtime::ArgKind::Sum})
      for (const runtime::Argument *arg : backward.signature.ofKind(kind))
        addTo(*arg, (*results)[index++].second, sequence,
              gradients.outs[arg->name]);
    addTo(backward.signature.state(), (*results)[index].second, sequence,
          gradients.finalState);
  }
  FailureOr<runtime::Results> stored =
      narrow(*results, backward.signature, arrays, reporter);
  if (failed(stored))
    return failure();
  runtime::Expected<runtime::Results> finished = runtime::finishGradients(
      signature, backward.signature, arrays, std::move(*stored));
  if (!finished)
    return reporter.error(finished.message());
  return std::move(*finished);
}

FailureOr<runtime::Results>
runReferenceGradient(mlir::ModuleOp module, const runtime::Signature &signature,
                     const runtime::BoundArrays &arrays, ArrayRef<double> attrs,
                     unsigned threads, Reporter &reporter) {
  runtime::Expected<runtime::Results> results =
      runtime::makeGradients(signature, arrays);
  if (!results)
    return reporter.error(results.message());
  WideArrays wide(signature, arrays, attrs, threads);
  if (failed(wide.widen(reporter)))
    return failure();
  for (const runtime::Sequence &sequence : runtime::sequencesOf(arrays)) {
    reference::Gradients gradients;
    if (failed(reference::differentiate(module, wide.makeProblem(sequence),
                                        wide.makeCotangents(sequence),
                                        gradients)))
      return failure();
    // Params and attrs are shared by the sequences, so theirs add up.
    size_t index = 0;
    for (const runtime::Argument *arg : signature.inputs())
      addTo(*arg, (*results)[index++].second, sequence,
            gradients.arrays[arg->name]);
    for (const runtime::Argument *arg :
         signature.ofKind(runtime::ArgKind::Attr))
      addTo(*arg, (*results)[index++].second, sequence,
            gradients.attrs[arg->name]);
    addTo(signature.state(), (*results)[index].second, sequence,
          gradients.initialState);
  }
  return std::move(*results);
}

} // namespace delta::driver
