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

FailureOr<runtime::Results> runReference(mlir::ModuleOp module,
                                         const runtime::Signature &signature,
                                         const runtime::BoundArrays &arrays,
                                         ArrayRef<double> attrs,
                                         unsigned threads, Reporter &reporter) {
  runtime::Expected<runtime::Results> results =
      runtime::makeResults(signature, arrays, /*asF64=*/true);
  if (!results)
    return reporter.error(results.message());

  // Doubles of everything, kept while the parts are evaluated.
  std::map<std::string, runtime::NdArray> wide;
  auto widen = [&](const std::string &name, const runtime::NdArray &array) {
    runtime::Expected<runtime::NdArray> doubles =
        array.convertTo(runtime::DType::F64);
    if (!doubles)
      return reporter.error(doubles.message());
    wide.try_emplace(name, std::move(*doubles));
    return success();
  };
  for (auto &[name, array] : arrays.arrays)
    if (failed(widen(name, array)))
      return failure();
  if (arrays.initialState &&
      failed(widen(runtime::kInitialState, *arrays.initialState)))
    return failure();

  const runtime::Argument &state = signature.state();
  for (const runtime::Sequence &sequence : runtime::sequencesOf(arrays)) {
    auto take = [&](const runtime::Argument &arg, const std::string &name) {
      const runtime::NdArray &array = wide.find(name)->second;
      runtime::Slice slice = runtime::sliceOf(arg, array, sequence);
      return ArrayRef<double>(array.as<double>() + slice.offset, slice.count);
    };
    reference::Problem problem;
    problem.B = sequence.batch;
    problem.T = sequence.count;
    problem.H = arrays.H;
    problem.dims = toStringMap(arrays.dims);
    problem.threads = threads;
    size_t index = 0;
    for (const runtime::Argument &arg : signature.args) {
      if (arg.isInput())
        problem.arrays[arg.name] = take(arg, arg.name);
      else if (arg.kind == runtime::ArgKind::Attr)
        problem.attrs[arg.name] = attrs[index++];
    }
    if (arrays.initialState)
      problem.initialState = take(state, runtime::kInitialState);
    reference::Result result;
    if (failed(reference::evaluate(module, problem, result)))
      return failure();
    auto copyBack = [&](const runtime::Argument &arg, runtime::NdArray &array,
                        const std::vector<double> &values) {
      std::copy(values.begin(), values.end(),
                array.as<double>() +
                    runtime::sliceOf(arg, array, sequence).offset);
    };
    index = 0;
    for (const runtime::Argument *arg : signature.ofKind(runtime::ArgKind::Out))
      copyBack(*arg, (*results)[index++].second, result.outs[arg->name]);
    copyBack(state, (*results)[index].second, result.finalState);
  }
  return std::move(*results);
}

} // namespace delta::driver
