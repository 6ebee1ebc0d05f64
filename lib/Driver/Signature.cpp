//===- Signature.cpp - options applied to a signature ---------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A module says for itself what its types and sizes are; options may repeat
// it, but not change it.
//
//===----------------------------------------------------------------------===//

#include "delta/Driver/Signature.h"

#include "delta/Runtime/Check.h"
#include "delta/Runtime/Suggest.h"
#include "delta/Spec/Evaluate.h"

using namespace llvm;
using mlir::delta::ArgAttr;
using mlir::delta::ArgKind;
using mlir::delta::SignatureAttr;

namespace delta::driver {

namespace {

mlir::Type getType(mlir::MLIRContext *context, runtime::DType dtype) {
  switch (dtype) {
  case runtime::DType::F64:
    return mlir::Float64Type::get(context);
  case runtime::DType::BF16:
    return mlir::BFloat16Type::get(context);
  case runtime::DType::F16:
    return mlir::Float16Type::get(context);
  default:
    return mlir::Float32Type::get(context);
  }
}

std::string toString(mlir::Type type) {
  std::string text;
  raw_string_ostream(text) << type;
  return text;
}

/// Reports that no argument of an accepted kind is called `name`.
LogicalResult unknownName(StringRef option, StringRef name, StringRef what,
                          ArrayRef<std::string> known, Reporter &reporter) {
  return reporter.error(option + ": the recurrence has no " + what + " '" +
                        name + "'" + runtime::didYouMean(name.str(), known));
}

/// Binds the dims given. K and V are dims of every spec, used or not.
LogicalResult applyDims(mlir::ModuleOp module, const CompilerOptions &options,
                        Reporter &reporter) {
  SignatureAttr signature = mlir::delta::getSignature(module);
  std::vector<std::string> known = getDimNames(module);
  for (auto &[name, size] : options.dims) {
    if (!is_contained(known, name)) {
      if (name == "K" || name == "V")
        continue;
      return unknownName("-D", name, "dim", known, reporter);
    }
    std::optional<int64_t> bound = signature.getDim(name);
    if (bound && *bound != size)
      return reporter.error("-D: dim '" + name + "' is " + Twine(*bound) +
                            " in the module, so it cannot be " + Twine(size));
    if (!bound)
      signature = signature.withDim(name, size);
  }
  mlir::delta::setSignature(module, signature);
  return success();
}

/// Makes the values given the attrs' defaults, after a look at their ranges.
LogicalResult applyAttrs(mlir::ModuleOp module, const CompilerOptions &options,
                         Reporter &reporter) {
  SignatureAttr signature = mlir::delta::getSignature(module);
  SmallVector<ArgAttr> args = signature.getAllArgs();
  for (auto &[name, value] : options.attrs) {
    std::vector<std::string> known;
    ArgAttr *found = nullptr;
    for (ArgAttr &arg : args) {
      if (arg.getKind() != ArgKind::Attr)
        continue;
      known.push_back(arg.getName().str());
      if (arg.getName() == name)
        found = &arg;
    }
    if (!found)
      return unknownName("--attr", name, "attr", known, reporter);
    std::string text = runtime::formatNumber(value);
    if (found->hasRange() &&
        !(value >= found->getLo() && value <= found->getHi()))
      return reporter.error("--attr: '" + name + "' is " + text +
                            ", outside its declared range [" +
                            runtime::formatNumber(found->getLo()) + ", " +
                            runtime::formatNumber(found->getHi()) + "]");
    *found = ArgAttr::get(module.getContext(), found->getKind(),
                          found->getName(), found->getType(), found->getAxes(),
                          found->getFamily(), found->getRange(),
                          mlir::StringAttr::get(module.getContext(), text));
  }
  mlir::delta::setSignature(module, signature.withArgs(args));
  return success();
}

/// Compares --dtype with the module's types. A vector input may be f32 under
/// any of them, since gates are.
LogicalResult compareTypes(SignatureAttr signature,
                           const CompilerOptions &options, Reporter &reporter) {
  std::vector<std::string> known;
  for (ArgAttr arg : signature.getAllArgs()) {
    if (arg.getKind() == ArgKind::Attr)
      continue;
    StringRef name = arg.getName().getValue();
    known.push_back(name.str());
    mlir::MLIRContext *context = signature.getContext();
    mlir::Type wanted;
    auto it = options.dtypeOf.find(name.str());
    if (it != options.dtypeOf.end()) {
      wanted = getType(context, it->second);
    } else if (options.dtype) {
      bool vector = arg.getKind() == ArgKind::Out ||
                    (arg.getKind() == ArgKind::In && !arg.getAxes().empty() &&
                     !arg.getType().isF32());
      if (vector || *options.dtype == runtime::DType::F64)
        wanted = getType(context, *options.dtype);
    }
    if (wanted && wanted != arg.getType())
      return reporter.error("--dtype contradicts the module: '" + name +
                            "' has type " + toString(arg.getType()) + ", not " +
                            toString(wanted));
  }
  for (auto &[name, type] : options.dtypeOf)
    if (!is_contained(known, name))
      return unknownName("--dtype", name, "array", known, reporter);
  return success();
}

/// The options of the signature that the command line may repeat, but not
/// change.
LogicalResult compareOption(SignatureAttr signature, StringRef flag,
                            StringRef key, StringRef given,
                            Reporter &reporter) {
  StringRef made = signature.getOption(key);
  if (made.empty() || made == given)
    return success();
  return reporter.error(flag + "=" + given +
                        " contradicts the module, which was made with " + key +
                        " = " + made);
}

} // namespace

std::vector<std::string> getDimNames(mlir::ModuleOp module) {
  SignatureAttr signature = mlir::delta::getSignature(module);
  std::vector<std::string> names;
  auto add = [&](const std::string &name) {
    if (!is_contained(names, name))
      names.push_back(name);
  };
  for (mlir::StringAttr name : signature.getDimNames())
    add(name.str());
  module.walk([&](mlir::delta::DimOp op) { add(op.getName().str()); });
  for (ArgAttr arg : signature.getArgs(ArgKind::Attr))
    if (mlir::StringAttr text = arg.getDefaultValue())
      for (const std::string &name : spec::getConstantNames(text))
        if (!signature.lookup(name))
          add(name);
  // Sizes that an earlier stage has used up already.
  if (mlir::DictionaryAttr sizes = signature.getDims())
    for (mlir::NamedAttribute size : sizes)
      add(size.getName().str());
  return names;
}

static runtime::DType getDType(mlir::Type type) {
  if (type.isF64())
    return runtime::DType::F64;
  if (type.isBF16())
    return runtime::DType::BF16;
  if (type.isF16())
    return runtime::DType::F16;
  return runtime::DType::F32;
}

runtime::Signature toRuntimeSignature(SignatureAttr signature, StringRef name) {
  runtime::Signature result;
  result.name = name.str();
  result.backward = signature.getOption("fn") == "backward";
  for (ArgAttr arg : signature.getAllArgs()) {
    runtime::Argument argument;
    argument.kind =
        *runtime::argKindFromName(stringifyArgKind(arg.getKind()).str());
    argument.name = arg.getName().str();
    argument.dtype = getDType(arg.getType());
    for (mlir::StringAttr axis : arg.getAxes())
      argument.axes.push_back(axis.str());
    if (arg.getFamily())
      argument.family = arg.getFamily().str();
    if (arg.getKind() == ArgKind::Checkpoint)
      argument.every = signature.getIntOption("chunk").value_or(1) *
                       signature.getIntOption("save_every").value_or(1);
    if (arg.hasRange())
      argument.range = {arg.getLo(), arg.getHi()};
    if (arg.getDefaultValue()) {
      argument.defaultText = arg.getDefaultValue().str();
      for (const std::string &used :
           spec::getConstantNames(arg.getDefaultValue()))
        if (signature.lookup(used))
          argument.defaultAttrs.push_back(used);
    }
    result.args.push_back(std::move(argument));
  }
  if (mlir::DictionaryAttr sizes = signature.getDims())
    for (mlir::NamedAttribute size : sizes)
      if (std::optional<int64_t> known = signature.getDim(size.getName()))
        result.dims[size.getName().str()] = *known;
  return result;
}

LogicalResult applyToSpec(mlir::ModuleOp module, const CompilerOptions &options,
                          Reporter &reporter) {
  if (failed(applyDims(module, options, reporter)))
    return failure();
  return applyAttrs(module, options, reporter);
}

LogicalResult applyToModule(mlir::ModuleOp module,
                            const CompilerOptions &options,
                            Reporter &reporter) {
  SignatureAttr signature = mlir::delta::getSignature(module);
  for (mlir::StringAttr name : signature.getDimNames()) {
    std::optional<int64_t> size = signature.getDim(name.getValue());
    if (size && (*size < 1 || *size > kMaxDim))
      return reporter.error("dim '" + name.getValue() +
                            "' of the module must "
                            "be between 1 and " +
                            Twine(kMaxDim) + ", but it is " + Twine(*size));
  }
  if (failed(compareTypes(signature, options, reporter)))
    return failure();
  if (options.fn && failed(compareOption(signature, "--fn", "fn",
                                         stringifyFn(*options.fn), reporter)))
    return failure();
  if (options.target && failed(compareOption(signature, "--target", "target",
                                             *options.target, reporter)))
    return failure();
  if (options.mcpu && failed(compareOption(signature, "--mcpu", "cpu",
                                           *options.mcpu, reporter)))
    return failure();
  if (options.precision &&
      failed(compareOption(signature, "--precision", "compute",
                           *options.precision, reporter)))
    return failure();
  if (options.chunk) {
    std::optional<int64_t> chunk = signature.getIntOption("chunk");
    if (chunk && *chunk != *options.chunk)
      return reporter.error("--chunk=" + Twine(*options.chunk) +
                            " contradicts the module, which was made with "
                            "chunk = " +
                            Twine(*chunk));
  }
  if (options.saveEvery) {
    std::optional<int64_t> every = signature.getIntOption("save_every");
    if (every && *every != *options.saveEvery)
      return reporter.error("--save-every=" + Twine(*options.saveEvery) +
                            " contradicts the module, which was made with "
                            "save_every = " +
                            Twine(*every));
  }
  if (failed(applyDims(module, options, reporter)))
    return failure();
  return applyAttrs(module, options, reporter);
}

} // namespace delta::driver
