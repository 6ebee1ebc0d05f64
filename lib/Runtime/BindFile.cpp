//===- BindFile.cpp - arrays of a file for a signature --------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Arrays are read in declared order, and learn their sizes from one another.
//
//===----------------------------------------------------------------------===//

#include "delta/Runtime/AxisSizes.h"
#include "delta/Runtime/Binding.h"
#include "delta/Runtime/Suggest.h"

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

/// Reads and fits the arrays of one file. Its functions are false after an
/// error, which has been reported.
class Binder {
public:
  Binder(const Signature &signature, const NpzReader &file,
         const NamedValues<int64_t> &given, const ErrorHandler &report,
         bool gradients)
      : signature(signature), file(file), report(report), gradients(gradients) {
    sizes.setDims(given, "the options or the module");
  }

  std::optional<BoundArrays> run();

private:
  bool checkNames();
  bool readInputs();
  bool readSequences();
  /// Reads a state a sequence, if it is there.
  bool readState(const std::string &name, std::optional<NdArray> &state);
  bool readCotangents();
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
  bool gradients;
  AxisSizes sizes;
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
      accepted.insert(cotangentName(arg.name));
      if (gradients)
        known.push_back(cotangentName(arg.name));
    }
  }
  known.push_back(kInitialState);
  known.push_back(kCuSeqlens);
  if (gradients)
    known.push_back(kFinalCotangent);
  accepted.insert(known.begin(), known.end());
  accepted.insert(kFinalState);
  accepted.insert(kFinalCotangent);

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
                  sizes.describeExpected(*arg));
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
  Status status = sizes.fit(arg, name, array.shape());
  return status.ok() || error(name, status.message());
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

bool Binder::readState(const std::string &name, std::optional<NdArray> &state) {
  if (!file.contains(name))
    return true;
  Expected<NdArray> array = file.read(name);
  if (!array)
    return fail(array.message());
  if (!bound.cuSeqlens.empty()) {
    // One state a sequence: the leading axis is N, not B.
    if (!requireFloat(name, *array))
      return false;
    if (array->rank() < 1 || array->shape()[0] != bound.sequences)
      return error(name, "has shape ", toString(array->shape()), "; expected ",
                   bound.sequences, " states, the sequences of 'cu_seqlens'");
    Shape one = array->shape();
    one[0] = 1;
    // The rest of the shape is checked as for a batch of one.
    Expected<NdArray> probe = NdArray::uninitialized(array->dtype(), one);
    if (!probe)
      return fail(probe.message());
    if (!fit(signature.state(), name, *probe))
      return false;
  } else if (!fit(signature.state(), name, *array)) {
    return false;
  }
  state = std::move(*array);
  return true;
}

bool Binder::readCotangents() {
  std::vector<const Argument *> outs = signature.ofKind(ArgKind::Out);
  std::string wanted;
  bool good = true, found = file.contains(kFinalCotangent);
  for (const Argument *out : outs) {
    std::string name = cotangentName(out->name);
    if (name == kFinalCotangent)
      return fail("the cotangent of out '", out->name,
                  "' and that of the "
                  "final state are both called '",
                  name, "'; give the out another name");
    wanted +=
        "'" + name + "' of shape " + sizes.describeExpected(*out) + " or ";
    if (!file.contains(name))
      continue;
    found = true;
    Expected<NdArray> array = file.read(name);
    if (!array)
      good = fail(array.message());
    else if (!fit(*out, name, *array))
      good = false;
    else
      bound.arrays.try_emplace(name, std::move(*array));
  }
  if (!found)
    return fail(file.path(), ": gradients need a cotangent: an array ", wanted,
                "'", kFinalCotangent, "' of shape ",
                sizes.describeExpected(signature.state()));
  return readState(kFinalCotangent, bound.finalCotangent) && good;
}

std::optional<BoundArrays> Binder::run() {
  if (!checkNames() || !readInputs())
    return std::nullopt;
  // A state alone tells B and H, but not T.
  bool stateFirst = !sizes.lookup("B", false) || !sizes.lookup("H", false);
  if (stateFirst && !readState(kInitialState, bound.initialState))
    return std::nullopt;
  for (auto [axis, value] :
       {std::pair("B", &bound.B), {"T", &bound.T}, {"H", &bound.H}}) {
    std::optional<int64_t> size = sizes.lookup(axis, false);
    if (!size) {
      fail(file.path(), ": no array says what ", axis, " is");
      return std::nullopt;
    }
    *value = *size;
  }
  bound.sequences = bound.B;
  if (!readSequences() ||
      (!stateFirst && !readState(kInitialState, bound.initialState)) ||
      (gradients && !readCotangents()))
    return std::nullopt;
  for (const std::string &dim : signature.arrayDims())
    if (std::optional<int64_t> size = sizes.lookup(dim, true))
      bound.dims[dim] = *size;
  if (!gradients)
    return std::move(bound);
  // What is not given is zero.
  for (const Argument *out : signature.ofKind(ArgKind::Out)) {
    std::string name = cotangentName(out->name);
    if (bound.arrays.count(name))
      continue;
    Expected<NdArray> zeros = NdArray::zeros(out->dtype, shapeOf(*out, bound));
    if (!zeros) {
      fail("array '", name, "': ", zeros.message());
      return std::nullopt;
    }
    bound.arrays.try_emplace(name, std::move(*zeros));
  }
  return std::move(bound);
}

} // namespace

std::optional<BoundArrays> bindArrays(const Signature &signature,
                                      const NpzReader &file,
                                      const NamedValues<int64_t> &given,
                                      const ErrorHandler &error,
                                      bool gradients) {
  return Binder(signature, file, given, error, gradients).run();
}

} // namespace delta::runtime
