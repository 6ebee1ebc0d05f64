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

#include "delta/Runtime/Binding.h"

#include "delta/Runtime/Check.h"
#include "delta/Runtime/RandomInputs.h"
#include "delta/Runtime/Suggest.h"

#include <algorithm>
#include <limits>
#include <set>

namespace delta::runtime {

namespace {

bool startsWith(std::string_view text, std::string_view prefix) {
  return text.substr(0, prefix.size()) == prefix;
}

std::string join(const std::vector<std::string> &words) {
  std::string text;
  for (const std::string &word : words)
    text += (text.empty() ? "" : ", ") + word;
  return text;
}

/// Sizes by axis name, with what fixed them. The batch, token and head axes are
/// kept apart from dims, which may have the same names as them.
class Sizes {
public:
  struct Entry {
    int64_t size;
    std::string source;
  };

  const Entry *lookup(const std::string &axis, bool dim) const {
    auto it = entries.find({dim, axis});
    return it == entries.end() ? nullptr : &it->second;
  }
  void set(const std::string &axis, bool dim, int64_t size,
           const std::string &source) {
    entries.try_emplace({dim, axis}, Entry{size, source});
  }

private:
  std::map<std::pair<bool, std::string>, Entry> entries;
};

/// "(B=1, T, H=2, K=64)": the shape wanted, with sizes where they are known.
std::string describeExpected(const Argument &arg, const Sizes &sizes) {
  std::vector<std::string> axes = arg.arrayAxes();
  std::string text = "(";
  for (size_t i = 0; i < axes.size(); ++i) {
    if (i)
      text += ", ";
    text += axes[i];
    if (const Sizes::Entry *entry = sizes.lookup(axes[i], arg.isDim(i)))
      text += "=" + std::to_string(entry->size);
  }
  return text + ")";
}

/// Reads and fits the arrays of one file. Its functions are false after an
/// error, which has been reported.
class Binder {
public:
  Binder(const Signature &signature, const NpzReader &file,
         const NamedValues<int64_t> &given, const ErrorHandler &report)
      : signature(signature), file(file), report(report) {
    for (auto &[name, size] : given)
      sizes.set(name, /*dim=*/true, size, "the options or the module");
  }

  std::optional<BoundArrays> run();

private:
  bool checkNames();
  bool readInputs();
  bool readSequences();
  bool readInitialState();
  /// Compares `array` with the argument's axes, and learns sizes from it.
  bool fit(const Argument &arg, const std::string &name, const NdArray &array);
  bool requireFloat(const std::string &name, const NdArray &array);
  template <typename... Parts> bool fail(const Parts &...parts) {
    report(Status::error(parts...).message());
    return false;
  }
  template <typename... Parts>
  bool error(const std::string &name, const Parts &...parts) {
    return fail(file.path(), ": array '", name, "' ", parts...);
  }

  const Signature &signature;
  const NpzReader &file;
  const ErrorHandler &report;
  Sizes sizes;
  BoundArrays bound;
};

bool Binder::checkNames() {
  std::vector<std::string> known;
  std::set<std::string> accepted;
  for (const Argument &arg : signature.args) {
    if (arg.isInput()) {
      known.push_back(arg.name);
    } else if (arg.kind == ArgKind::Out) {
      accepted.insert(arg.name);
      accepted.insert("d" + arg.name);
    }
  }
  known.push_back(kInitialState);
  known.push_back(kCuSeqlens);
  accepted.insert(known.begin(), known.end());
  accepted.insert(kFinalState);
  accepted.insert("dht");

  bool good = true;
  for (const std::string &name : file.names()) {
    if (accepted.count(name) || startsWith(name, "d_"))
      continue;
    // What is there already was not meant.
    std::vector<std::string> candidates;
    for (const std::string &candidate : known)
      if (!file.contains(candidate))
        candidates.push_back(candidate);
    std::string hint = didYouMean(name, candidates);
    if (hint.empty())
      hint = didYouMean(name, known);
    if (hint.empty())
      hint = "; expected " + join(known);
    good = fail(file.path(), ": unknown array '", name, "'", hint);
  }
  for (const Argument *arg : signature.inputs())
    if (!file.contains(arg->name))
      good = fail(file.path(), ": array '", arg->name,
                  "' is missing; expected a floating array of shape ",
                  describeExpected(*arg, sizes));
  return good;
}

bool Binder::requireFloat(const std::string &name, const NdArray &array) {
  return isFloat(array.dtype()) ||
         error(name, "has type ", nameOf(array.dtype()),
               "; expected a floating array");
}

bool Binder::fit(const Argument &arg, const std::string &name,
                 const NdArray &array) {
  if (!requireFloat(name, array))
    return false;
  std::vector<std::string> axes = arg.arrayAxes();
  auto mismatch = [&](const std::string &reason) {
    return error(name, "has shape ", toString(array.shape()), "; expected ",
                 describeExpected(arg, sizes), reason);
  };
  if (array.rank() != static_cast<int64_t>(axes.size()))
    return mismatch("");
  for (size_t i = 0; i < axes.size(); ++i) {
    int64_t size = array.shape()[i];
    const Sizes::Entry *entry = sizes.lookup(axes[i], arg.isDim(i));
    if (entry && entry->size != size)
      return mismatch(", where " + axes[i] + " comes from " + entry->source);
    // Empty batches and sequences are fine, empty vectors are not.
    if (arg.isDim(i) && (size < 1 || size > kMaxDim))
      return mismatch(", where " + axes[i] + " is between 1 and " +
                      std::to_string(kMaxDim));
  }
  for (size_t i = 0; i < axes.size(); ++i)
    sizes.set(axes[i], arg.isDim(i), array.shape()[i], "array '" + name + "'");
  return true;
}

bool Binder::readInputs() {
  bool good = true;
  for (const Argument *arg : signature.inputs()) {
    Expected<NdArray> array = file.read(arg->name);
    if (!array)
      good = fail(array.message());
    else if (!fit(*arg, arg->name, *array))
      good = false;
    else
      bound.arrays.try_emplace(arg->name, std::move(*array));
  }
  return good;
}

bool Binder::readSequences() {
  if (!file.contains(kCuSeqlens))
    return true;
  Expected<NdArray> array = file.read(kCuSeqlens);
  if (!array)
    return fail(array.message());
  if (array->dtype() != DType::I32 && array->dtype() != DType::I64)
    return error(kCuSeqlens, "has type ", nameOf(array->dtype()),
                 "; expected i32 or i64");
  if (array->rank() != 1 || array->numElements() < 1)
    return error(kCuSeqlens, "has shape ", toString(array->shape()),
                 "; expected (N + 1)");
  if (bound.B != 1)
    return error(kCuSeqlens,
                 "packs sequences along T, which needs B=1, but B is ",
                 bound.B);
  for (int64_t i = 0; i < array->numElements(); ++i) {
    int64_t value = array->dtype() == DType::I32 ? array->as<int32_t>()[i]
                                                 : array->as<int64_t>()[i];
    int64_t before = i ? bound.cuSeqlens.back() : 0;
    if (i == 0 && value != 0)
      return error(kCuSeqlens, "begins with ", value, "; expected 0");
    if (value < before)
      return error(kCuSeqlens, "decreases from ", before, " to ", value,
                   " at index ", i);
    bound.cuSeqlens.push_back(value);
  }
  if (bound.cuSeqlens.back() != bound.T)
    return error(kCuSeqlens, "ends with ", bound.cuSeqlens.back(),
                 "; expected T=", bound.T);
  bound.sequences = static_cast<int64_t>(bound.cuSeqlens.size()) - 1;
  return true;
}

bool Binder::readInitialState() {
  if (!file.contains(kInitialState))
    return true;
  Expected<NdArray> array = file.read(kInitialState);
  if (!array)
    return fail(array.message());
  if (!bound.cuSeqlens.empty()) {
    // One state a sequence: the leading axis is N, not B.
    if (!requireFloat(kInitialState, *array))
      return false;
    if (array->rank() < 1 || array->shape()[0] != bound.sequences)
      return error(kInitialState, "has shape ", toString(array->shape()),
                   "; expected ", bound.sequences,
                   " states, the sequences of 'cu_seqlens'");
    Shape one = array->shape();
    one[0] = 1;
    // The rest of the shape is checked as for a batch of one.
    Expected<NdArray> probe = NdArray::uninitialized(array->dtype(), one);
    if (!probe)
      return fail(probe.message());
    if (!fit(signature.state(), kInitialState, *probe))
      return false;
  } else if (!fit(signature.state(), kInitialState, *array)) {
    return false;
  }
  bound.initialState = std::move(*array);
  return true;
}

std::optional<BoundArrays> Binder::run() {
  if (!checkNames() || !readInputs())
    return std::nullopt;
  // A state alone tells B and H, but not T.
  bool stateFirst = !sizes.lookup("B", false) || !sizes.lookup("H", false);
  if (stateFirst && !readInitialState())
    return std::nullopt;
  for (auto [axis, value] :
       {std::pair("B", &bound.B), {"T", &bound.T}, {"H", &bound.H}}) {
    const Sizes::Entry *entry = sizes.lookup(axis, false);
    if (!entry) {
      fail(file.path(), ": no array says what ", axis, " is");
      return std::nullopt;
    }
    *value = entry->size;
  }
  bound.sequences = bound.B;
  if (!readSequences() || (!stateFirst && !readInitialState()))
    return std::nullopt;
  for (const std::string &dim : signature.arrayDims())
    if (const Sizes::Entry *entry = sizes.lookup(dim, true))
      bound.dims[dim] = entry->size;
  return std::move(bound);
}

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
      shape.push_back(arg.kind == ArgKind::State ? arrays.sequences : arrays.B);
    } else {
      shape.push_back(axes[i] == "T" ? arrays.T : arrays.H);
    }
  }
  return shape;
}

std::optional<BoundArrays> bindArrays(const Signature &signature,
                                      const NpzReader &file,
                                      const NamedValues<int64_t> &given,
                                      const ErrorHandler &error) {
  return Binder(signature, file, given, error).run();
}

std::optional<BoundArrays>
makeRandomArrays(const Signature &signature,
                 const std::vector<std::string> &dims,
                 const RandomOptions &random, const NamedValues<int64_t> &given,
                 const ErrorHandler &error) {
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
  auto make = [&](const Argument &arg,
                  const std::string &name) -> std::optional<NdArray> {
    RandomArray wanted;
    wanted.name = name;
    wanted.shape = shapeOf(arg, bound);
    wanted.kind = kindFor(arg, state);
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
  if (arrays.initialState)
    check(kInitialState, *arrays.initialState, {-kInf, kInf});
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
  for (auto &[name, array] : arrays.arrays)
    if (Status status = convert(array, signature.lookup(name)->dtype);
        !status.ok())
      return status;
  if (arrays.initialState)
    return convert(*arrays.initialState, signature.state().dtype);
  return {};
}

} // namespace delta::runtime
