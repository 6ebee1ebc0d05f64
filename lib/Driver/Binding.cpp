//===- Binding.cpp - arrays for a signature -------------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Every axis of an argument has a name (B, T, H, a dim). The first array that
// has an axis fixes its size, and the others must agree, so that a message can
// say where the expectation comes from.
//
//===----------------------------------------------------------------------===//

#include "delta/Driver/Binding.h"

#include "delta/Runtime/Check.h"
#include "delta/Runtime/RandomInputs.h"
#include "delta/Runtime/Suggest.h"

#include "llvm/ADT/StringExtras.h"

using namespace llvm;
using mlir::delta::ArgAttr;
using mlir::delta::ArgKind;
using mlir::delta::SignatureAttr;

namespace delta::driver {

namespace {

/// The names of an argument's axes. `initial` stands for the state's array.
SmallVector<StringRef> getAxes(ArgAttr arg) {
  SmallVector<StringRef> axes;
  switch (arg.getKind()) {
  case ArgKind::Attr:
    return axes;
  case ArgKind::Param:
    axes = {"H"};
    break;
  case ArgKind::State:
    axes = {"B", "H"};
    break;
  case ArgKind::In:
  case ArgKind::Out:
    axes = {"B", "T"};
    if (arg.getFamily())
      axes.push_back(arg.getFamily().getValue());
    axes.push_back("H");
    break;
  }
  for (mlir::StringAttr axis : arg.getAxes())
    axes.push_back(axis.getValue());
  return axes;
}

bool isInput(ArgAttr arg) {
  return arg.getKind() == ArgKind::In || arg.getKind() == ArgKind::Param;
}

/// Sizes by axis name, with what fixed them. The batch, token and head axes are
/// kept apart from dims, which may have the same names as them.
class Sizes {
public:
  struct Entry {
    int64_t size;
    std::string source;
  };

  const Entry *lookup(StringRef axis, bool dim) const {
    auto it = entries.find(key(axis, dim));
    return it == entries.end() ? nullptr : &it->second;
  }
  void set(StringRef axis, bool dim, int64_t size, const Twine &source) {
    entries.try_emplace(key(axis, dim), Entry{size, source.str()});
  }

  /// Whether axis number `i` of `axes` is a dim of the signature.
  static bool isDim(ArgAttr arg, size_t i, size_t numAxes) {
    size_t numDims = arg.getAxes().size();
    if (i >= numAxes - numDims)
      return true;
    return arg.getFamily() && i == 2;
  }

private:
  static std::string key(StringRef axis, bool dim) {
    return ((dim ? "d:" : "a:") + axis).str();
  }
  StringMap<Entry> entries;
};

/// "(B=1, T, H=2, K=64)": the shape wanted, with sizes where they are known.
std::string describeExpected(ArgAttr arg, const Sizes &sizes) {
  SmallVector<StringRef> axes = getAxes(arg);
  std::string text = "(";
  for (auto [i, axis] : enumerate(axes)) {
    if (i)
      text += ", ";
    text += axis;
    if (const Sizes::Entry *entry =
            sizes.lookup(axis, Sizes::isDim(arg, i, axes.size())))
      text += "=" + std::to_string(entry->size);
  }
  return text + ")";
}

/// Reads and fits the arrays of one file.
class Binder {
public:
  Binder(SignatureAttr signature, const runtime::NpzReader &file,
         const NamedValues<int64_t> &given, Reporter &reporter)
      : signature(signature), file(file), reporter(reporter) {
    for (auto &[name, size] : given)
      sizes.set(name, /*dim=*/true, size, "the options or the module");
  }

  FailureOr<BoundArrays> run();

private:
  LogicalResult checkNames();
  LogicalResult readInputs();
  LogicalResult readSequences();
  LogicalResult readInitialState();
  /// Compares `array` with the argument's axes, and learns sizes from it.
  LogicalResult fit(ArgAttr arg, StringRef name, const runtime::NdArray &array);
  LogicalResult requireFloat(StringRef name, const runtime::NdArray &array);
  LogicalResult error(StringRef name, const Twine &message) {
    return reporter.error(file.path() + ": array '" + name + "' " + message);
  }

  SignatureAttr signature;
  const runtime::NpzReader &file;
  Reporter &reporter;
  Sizes sizes;
  BoundArrays bound;
};

LogicalResult Binder::checkNames() {
  std::vector<std::string> known;
  StringMap<bool> wanted, ignored;
  for (ArgAttr arg : signature.getAllArgs()) {
    if (isInput(arg)) {
      wanted[arg.getName().getValue()] = true;
      known.push_back(arg.getName().str());
    } else if (arg.getKind() == ArgKind::Out) {
      ignored[arg.getName().getValue()] = true;
      ignored[("d" + arg.getName().getValue()).str()] = true;
    }
  }
  for (StringRef name : {StringRef(kInitialState), StringRef(kCuSeqlens)}) {
    wanted[name] = true;
    known.push_back(name.str());
  }
  ignored[kFinalState] = true;
  ignored["dht"] = true;

  bool failed = false;
  for (const std::string &name : file.names()) {
    if (wanted.contains(name) || ignored.contains(name) ||
        StringRef(name).starts_with("d_"))
      continue;
    // What is there already was not meant.
    std::vector<std::string> candidates;
    for (const std::string &candidate : known)
      if (!file.contains(candidate))
        candidates.push_back(candidate);
    std::string hint = runtime::didYouMean(name, candidates);
    if (hint.empty())
      hint = runtime::didYouMean(name, known);
    if (hint.empty())
      hint = "; expected " + join(known, ", ");
    (void)reporter.error(file.path() + ": unknown array '" + name + "'" + hint);
    failed = true;
  }
  for (ArgAttr arg : signature.getAllArgs()) {
    if (!isInput(arg) || file.contains(arg.getName().str()))
      continue;
    (void)reporter.error(file.path() + ": array '" + arg.getName().getValue() +
                         "' is missing; expected a floating array of shape " +
                         describeExpected(arg, sizes));
    failed = true;
  }
  return failure(failed);
}

LogicalResult Binder::requireFloat(StringRef name,
                                   const runtime::NdArray &array) {
  if (runtime::isFloat(array.dtype()))
    return success();
  return error(name, Twine("has type ") + runtime::nameOf(array.dtype()) +
                         "; expected a floating array");
}

LogicalResult Binder::fit(ArgAttr arg, StringRef name,
                          const runtime::NdArray &array) {
  if (failed(requireFloat(name, array)))
    return failure();
  SmallVector<StringRef> axes = getAxes(arg);
  auto mismatch = [&](StringRef reason) {
    return error(name, "has shape " + runtime::toString(array.shape()) +
                           "; expected " + describeExpected(arg, sizes) +
                           reason);
  };
  if (array.rank() != static_cast<int64_t>(axes.size()))
    return mismatch("");
  for (auto [i, axis] : enumerate(axes)) {
    bool dim = Sizes::isDim(arg, i, axes.size());
    int64_t size = array.shape()[i];
    const Sizes::Entry *entry = sizes.lookup(axis, dim);
    if (entry && entry->size != size)
      return mismatch(
          (", where " + axis + " comes from " + entry->source).str());
    // Empty batches and sequences are fine, empty vectors are not.
    if (dim && (size < 1 || size > kMaxDim))
      return mismatch(
          (", where " + axis + " is between 1 and " + Twine(kMaxDim)).str());
  }
  for (auto [i, axis] : enumerate(axes))
    sizes.set(axis, Sizes::isDim(arg, i, axes.size()), array.shape()[i],
              "array '" + name + "'");
  return success();
}

LogicalResult Binder::readInputs() {
  bool anyFailed = false;
  for (ArgAttr arg : signature.getAllArgs()) {
    if (!isInput(arg))
      continue;
    StringRef name = arg.getName().getValue();
    runtime::Expected<runtime::NdArray> array = file.read(name.str());
    if (!array) {
      (void)reporter.error(array.message());
      anyFailed = true;
    } else if (failed(fit(arg, name, *array))) {
      anyFailed = true;
    } else {
      bound.arrays.try_emplace(name, std::move(*array));
    }
  }
  return failure(anyFailed);
}

LogicalResult Binder::readSequences() {
  if (!file.contains(kCuSeqlens.str()))
    return success();
  runtime::Expected<runtime::NdArray> array = file.read(kCuSeqlens.str());
  if (!array)
    return reporter.error(array.message());
  if (array->dtype() != runtime::DType::I32 &&
      array->dtype() != runtime::DType::I64)
    return error(kCuSeqlens, Twine("has type ") +
                                 runtime::nameOf(array->dtype()) +
                                 "; expected i32 or i64");
  if (array->rank() != 1 || array->numElements() < 1)
    return error(kCuSeqlens, "has shape " + runtime::toString(array->shape()) +
                                 "; expected (N + 1)");
  if (bound.B != 1)
    return error(kCuSeqlens,
                 "packs sequences along T, which needs B=1, but B is " +
                     Twine(bound.B));
  for (int64_t i = 0; i < array->numElements(); ++i) {
    int64_t value = array->dtype() == runtime::DType::I32
                        ? array->as<int32_t>()[i]
                        : array->as<int64_t>()[i];
    int64_t before = i ? bound.cuSeqlens.back() : 0;
    if (i == 0 && value != 0)
      return error(kCuSeqlens, "begins with " + Twine(value) + "; expected 0");
    if (value < before)
      return error(kCuSeqlens, "decreases from " + Twine(before) + " to " +
                                   Twine(value) + " at index " + Twine(i));
    bound.cuSeqlens.push_back(value);
  }
  if (bound.cuSeqlens.back() != bound.T)
    return error(kCuSeqlens, "ends with " + Twine(bound.cuSeqlens.back()) +
                                 "; expected T=" + Twine(bound.T));
  bound.sequences = static_cast<int64_t>(bound.cuSeqlens.size()) - 1;
  return success();
}

LogicalResult Binder::readInitialState() {
  if (!file.contains(kInitialState.str()))
    return success();
  runtime::Expected<runtime::NdArray> array = file.read(kInitialState.str());
  if (!array)
    return reporter.error(array.message());
  if (!bound.cuSeqlens.empty()) {
    // One state a sequence: the leading axis is N, not B.
    if (failed(requireFloat(kInitialState, *array)))
      return failure();
    if (array->rank() < 1 || array->shape()[0] != bound.sequences)
      return error(kInitialState, "has shape " +
                                      runtime::toString(array->shape()) +
                                      "; expected " + Twine(bound.sequences) +
                                      " states, the sequences of 'cu_seqlens'");
    runtime::Shape one = array->shape();
    one[0] = 1;
    // The rest of the shape is checked as for a batch of one.
    runtime::Expected<runtime::NdArray> probe =
        runtime::NdArray::uninitialized(array->dtype(), one);
    if (!probe)
      return reporter.error(probe.message());
    if (failed(fit(signature.getState(), kInitialState, *probe)))
      return failure();
  } else if (failed(fit(signature.getState(), kInitialState, *array))) {
    return failure();
  }
  bound.initialState = std::move(*array);
  return success();
}

FailureOr<BoundArrays> Binder::run() {
  if (failed(checkNames()) || failed(readInputs()))
    return failure();
  // A state alone tells B and H, but not T.
  bool stateFirst = !sizes.lookup("B", false) || !sizes.lookup("H", false);
  if (stateFirst && failed(readInitialState()))
    return failure();
  for (auto [axis, value] : {std::pair(StringRef("B"), &bound.B),
                             std::pair(StringRef("T"), &bound.T),
                             std::pair(StringRef("H"), &bound.H)}) {
    const Sizes::Entry *entry = sizes.lookup(axis, false);
    if (!entry)
      return reporter.error(file.path() + ": no array says what " + axis +
                            " is");
    *value = entry->size;
  }
  bound.sequences = bound.B;
  if (failed(readSequences()) || (!stateFirst && failed(readInitialState())))
    return failure();
  for (mlir::StringAttr dim : signature.getDimNames())
    if (const Sizes::Entry *entry = sizes.lookup(dim.getValue(), true))
      bound.dims[dim.getValue()] = entry->size;
  return std::move(bound);
}

} // namespace

runtime::DType getDType(mlir::Type type) {
  if (type.isF64())
    return runtime::DType::F64;
  if (type.isBF16())
    return runtime::DType::BF16;
  if (type.isF16())
    return runtime::DType::F16;
  return runtime::DType::F32;
}

runtime::Shape getShape(ArgAttr arg, const BoundArrays &arrays) {
  runtime::Shape shape;
  SmallVector<StringRef> axes = getAxes(arg);
  for (auto [i, axis] : enumerate(axes)) {
    if (Sizes::isDim(arg, i, axes.size()))
      shape.push_back(arrays.dims.lookup(axis));
    else if (axis == "B")
      shape.push_back(arg.getKind() == ArgKind::State ? arrays.sequences
                                                      : arrays.B);
    else
      shape.push_back(axis == "T" ? arrays.T : arrays.H);
  }
  return shape;
}

FailureOr<BoundArrays> bindArrays(SignatureAttr signature,
                                  const runtime::NpzReader &file,
                                  const NamedValues<int64_t> &given,
                                  Reporter &reporter) {
  return Binder(signature, file, given, reporter).run();
}

FailureOr<BoundArrays> makeRandomArrays(SignatureAttr signature,
                                        ArrayRef<std::string> dims,
                                        const RandomOptions &random,
                                        const NamedValues<int64_t> &given,
                                        Reporter &reporter) {
  BoundArrays bound;
  bound.B = bound.sequences = random.B;
  bound.T = random.T;
  bound.H = random.H;
  for (auto &[name, size] : given)
    bound.dims[name] = size;
  for (StringRef name : dims) {
    auto it = random.dims.find(name.str());
    if (it == random.dims.end()) {
      if (bound.dims.contains(name))
        continue;
      if (name != "K" && name != "V")
        return reporter.error("--random: the size of dim '" + name +
                              "' is not known; give " + name + "=N");
      bound.dims[name] = 64;
      continue;
    }
    auto [entry, inserted] = bound.dims.try_emplace(name, it->second);
    if (!inserted && entry->second != it->second)
      return reporter.error("--random: dim '" + name + "' is " +
                            Twine(it->second) +
                            ", but the options or the "
                            "module say " +
                            Twine(entry->second));
  }

  ArgAttr state = signature.getState();
  auto make = [&](ArgAttr arg, StringRef name,
                  runtime::RandomKind kind) -> FailureOr<runtime::NdArray> {
    runtime::RandomArray wanted;
    wanted.name = name.str();
    wanted.shape = getShape(arg, bound);
    wanted.kind = kind;
    if (arg.hasRange()) {
      wanted.lo = arg.getLo();
      wanted.hi = arg.getHi();
    }
    runtime::Expected<runtime::NdArray> array =
        runtime::makeRandom(wanted, random.seed);
    if (!array)
      return reporter.error("--random: array '" + name +
                            "': " + array.message());
    return std::move(*array);
  };
  for (ArgAttr arg : signature.getAllArgs()) {
    if (!isInput(arg))
      continue;
    runtime::RandomKind kind = runtime::RandomKind::Normal;
    if (arg.getAxes().empty()) {
      if (arg.getKind() == ArgKind::In)
        kind = runtime::RandomKind::Fraction;
    } else if (arg.getAxes().back() == state.getAxes().front()) {
      kind = runtime::RandomKind::Unit;
    }
    FailureOr<runtime::NdArray> array =
        make(arg, arg.getName().getValue(), kind);
    if (failed(array))
      return failure();
    bound.arrays.try_emplace(arg.getName().getValue(), std::move(*array));
  }
  FailureOr<runtime::NdArray> initial =
      make(state, kInitialState, runtime::RandomKind::Normal);
  if (failed(initial))
    return failure();
  bound.initialState = std::move(*initial);
  return bound;
}

LogicalResult checkValues(SignatureAttr signature, const BoundArrays &arrays,
                          StringRef where, Reporter &reporter) {
  constexpr double kInf = std::numeric_limits<double>::infinity();
  bool failed = false;
  auto check = [&](StringRef name, const runtime::NdArray &array, double lo,
                   double hi) {
    runtime::Status status = runtime::checkRange(array, lo, hi);
    if (status.ok())
      return;
    (void)reporter.error(where + ": array '" + name + "': " + status.message());
    failed = true;
  };
  for (ArgAttr arg : signature.getAllArgs()) {
    auto it = arrays.arrays.find(arg.getName().getValue());
    if (isInput(arg) && it != arrays.arrays.end())
      check(it->first(), it->second, arg.hasRange() ? arg.getLo() : -kInf,
            arg.hasRange() ? arg.getHi() : kInf);
  }
  if (arrays.initialState)
    check(kInitialState, *arrays.initialState, -kInf, kInf);
  return failure(failed);
}

LogicalResult convertArrays(SignatureAttr signature, BoundArrays &arrays,
                            bool keep, Reporter &reporter) {
  auto convert = [&](runtime::NdArray &array, mlir::Type type) {
    runtime::DType to = keep ? runtime::DType::F64 : getDType(type);
    if (array.dtype() == to)
      return success();
    runtime::Expected<runtime::NdArray> converted = array.convertTo(to);
    if (!converted)
      return reporter.error(converted.message());
    array = std::move(*converted);
    return success();
  };
  for (auto &entry : arrays.arrays)
    if (failed(
            convert(entry.second, signature.lookup(entry.first()).getType())))
      return failure();
  if (arrays.initialState)
    return convert(*arrays.initialState, signature.getState().getType());
  return success();
}

} // namespace delta::driver
