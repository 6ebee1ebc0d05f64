//===- Caller.cpp - calling a recurrence from Python ----------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Every refusal names the argument, what it is and what was expected.
//
//===----------------------------------------------------------------------===//

#include "Caller.h"
#include "Launch.h"
#include "Simulate.h"

#include <nanobind/stl/shared_ptr.h>

#include <cmath>
#include <cstring>
#include <limits>

namespace deltac {

namespace {

enum { kB, kT, kH, kFirstDim };

constexpr size_t kGpuAlignment = 16;

std::string quote(const std::string &name) { return "'" + name + "'"; }

[[noreturn]] void typeError(const std::string &text) {
  throw nb::type_error(text.c_str());
}
[[noreturn]] void valueError(const std::string &text) {
  throw nb::value_error(text.c_str());
}

nb::object intern(const std::string &name) {
  return nb::steal(PyUnicode_InternFromString(name.c_str()));
}

std::string typeName(PyObject *object) { return Py_TYPE(object)->tp_name; }

} // namespace

/// What a call gives, by position.
struct Caller::Arguments {
  std::vector<PyObject *> inputs;
  PyObject *initialState = nullptr;
  std::vector<double> attrs;
  bool wantsFinalState = false;
  /// Whether tensors without memory of their own are for torch's dispatcher.
  bool leavesToTorch = false;
  /// Arrays made on the way.
  std::vector<nb::object> kept;
};

ArrayArg Caller::makeArg(const std::string &name, nb::tuple axes) {
  ArrayArg arg;
  arg.name = name;
  arg.key = intern(name);
  for (nb::handle axis : axes) {
    arg.axes.push_back(nb::cast<std::string>(axis));
    const std::string &text = arg.axes.back();
    int code = text == "B" ? kB : text == "T" ? kT : text == "H" ? kH : -1;
    // A dim may be called like one of those, but never comes that early.
    size_t i = arg.axes.size() - 1;
    if (code == kB && i != 0)
      code = -1;
    for (size_t d = 0; code < 0 && d < dimNames.size(); ++d)
      if (dimNames[d] == text)
        code = kFirstDim + static_cast<int>(d);
    if (code < 0) {
      code = kFirstDim + static_cast<int>(dimNames.size());
      dimNames.push_back(text);
    }
    arg.codes.push_back(code);
  }
  return arg;
}

Caller::Caller(nb::list inputs, nb::tuple stateAxes, nb::list outs,
               nb::list attrs, std::string target, nb::object build,
               nb::object convert)
    : target(std::move(target)), build(std::move(build)),
      convert(std::move(convert)) {
  auto read = [&](nb::handle item) {
    return makeArg(nb::cast<std::string>(item[0]),
                   nb::cast<nb::tuple>(item[1]));
  };
  for (nb::handle item : inputs)
    this->inputs.push_back(read(item));
  state = makeArg("initial_state", stateAxes);
  for (nb::handle item : outs)
    this->outs.push_back(read(item));
  for (nb::handle item : attrs) {
    auto name = nb::cast<std::string>(item);
    this->attrs.emplace_back(name, intern(name));
  }
}

int Caller::traverse(PyObject *self, visitproc visit, void *arg) {
  Py_VISIT(Py_TYPE(self));
  if (!nb::inst_ready(self))
    return 0;
  auto *caller = nb::inst_ptr<Caller>(self);
  Py_VISIT(caller->build.ptr());
  Py_VISIT(caller->convert.ptr());
  for (Entry &entry : caller->entries)
    Py_VISIT(entry.owner.ptr());
  return 0;
}

int Caller::clearReferences(PyObject *self) {
  auto *caller = nb::inst_ptr<Caller>(self);
  caller->build.reset();
  caller->convert.reset();
  caller->entries.clear();
  return 0;
}

//===----------------------------------------------------------------------===//
// Arguments
//===----------------------------------------------------------------------===//

void Caller::parse(nb::tuple &args, nb::dict &kwargs,
                   Arguments &arguments) const {
  static PyObject *initialState = PyUnicode_InternFromString("initial_state");
  static PyObject *finalState =
      PyUnicode_InternFromString("output_final_state");
  arguments.inputs.assign(inputs.size(), nullptr);
  arguments.attrs.assign(attrs.size(),
                         std::numeric_limits<double>::quiet_NaN());
  auto listInputs = [&] {
    std::string text;
    for (const ArrayArg &arg : inputs)
      text += (text.empty() ? "" : ", ") + arg.name;
    return text;
  };
  auto given = static_cast<size_t>(PyTuple_GET_SIZE(args.ptr()));
  if (given > inputs.size())
    typeError("expected at most " + std::to_string(inputs.size()) +
              " positional arguments (" + listInputs() + "), but got " +
              std::to_string(given) +
              "; attrs, initial_state and "
              "output_final_state are given by name");
  for (size_t i = 0; i < given; ++i)
    arguments.inputs[i] = PyTuple_GET_ITEM(args.ptr(), i);

  auto isSame = [](PyObject *key, PyObject *name) {
    return key == name || PyUnicode_Compare(key, name) == 0;
  };
  auto setAttr = [&](size_t i, PyObject *value) {
    if (value == Py_None)
      return;
    if (!PyFloat_Check(value) && !PyLong_Check(value)) {
      nb::object needs =
          nb::getattr(nb::handle(value), "requires_grad", nb::none());
      if (needs.ptr() == Py_True)
        typeError("attr " + quote(attrs[i].first) +
                  " must be a number, but got a tensor that requires a "
                  "gradient; make it a param of the spec to train it");
    }
    arguments.attrs[i] = PyFloat_AsDouble(value);
    if (PyErr_Occurred()) {
      PyErr_Clear();
      typeError("attr " + quote(attrs[i].first) +
                " must be a number, but got " + typeName(value));
    }
    if (std::isnan(arguments.attrs[i]))
      valueError("attr " + quote(attrs[i].first) + " is NaN");
  };
  auto setNamed = [&](PyObject *key, PyObject *value) {
    for (size_t i = 0; i < inputs.size(); ++i)
      if (isSame(key, inputs[i].key.ptr())) {
        if (arguments.inputs[i])
          typeError("argument " + quote(inputs[i].name) + " is given twice");
        arguments.inputs[i] = value;
        return;
      }
    for (size_t i = 0; i < attrs.size(); ++i)
      if (isSame(key, attrs[i].second.ptr()))
        return setAttr(i, value);
    if (isSame(key, initialState)) {
      if (value != Py_None)
        arguments.initialState = value;
      return;
    }
    if (isSame(key, finalState)) {
      int truth = PyObject_IsTrue(value);
      if (truth < 0)
        throw nb::python_error();
      arguments.wantsFinalState = truth;
      return;
    }
    nb::list known;
    for (const ArrayArg &arg : inputs)
      known.append(arg.name);
    for (const auto &[name, object] : attrs)
      known.append(name);
    known.append("initial_state");
    known.append("output_final_state");
    nb::object text = nb::module_::import_("deltac._errors")
                          .attr("unknown_argument")(nb::handle(key), known);
    typeError(nb::cast<std::string>(text));
  };
  PyObject *key, *value;
  Py_ssize_t position = 0;
  while (PyDict_Next(kwargs.ptr(), &position, &key, &value))
    setNamed(key, value);
  for (size_t i = 0; i < inputs.size(); ++i)
    if (!arguments.inputs[i])
      typeError("argument " + quote(inputs[i].name) +
                " is missing; the recurrence takes " + listInputs());
}

nb::tuple Caller::bind(nb::tuple args, nb::dict kwargs) {
  Arguments arguments;
  parse(args, kwargs, arguments);
  nb::list given;
  for (PyObject *object : arguments.inputs)
    given.append(nb::handle(object));
  nb::object initial =
      arguments.initialState ? nb::borrow(arguments.initialState) : nb::none();
  return nb::make_tuple(given, initial, nb::cast(arguments.attrs),
                        arguments.wantsFinalState);
}

nb::object Caller::call(nb::tuple args, nb::dict kwargs) {
  Arguments arguments;
  parse(args, kwargs, arguments);
  PyObject *first = arguments.inputs.empty() ? nullptr : arguments.inputs[0];
  Torch &known = torch();
  // The first tensor ever brings torch in.
  if (first && !known.tensorType && !PyFloat_Check(first) &&
      std::strncmp(Py_TYPE(first)->tp_name, "numpy.", 6) != 0)
    nb::module_::import_("deltac._arrays").attr("find_torch")();
  if (known.tensorType && first) {
    auto *type = reinterpret_cast<PyObject *>(Py_TYPE(first));
    if (type == known.tensorType || type == known.parameterType) {
      PyObject *objects[64];
      size_t count = 0;
      for (PyObject *object : arguments.inputs) {
        auto *kind = reinterpret_cast<PyObject *>(Py_TYPE(object));
        if (kind != known.tensorType && kind != known.parameterType)
          break; // run() says what is wrong with it, or leaves it to torch
        if (count < 63)
          objects[count++] = object;
      }
      objects[count++] = arguments.initialState;
      if (count == arguments.inputs.size() + 1 &&
          isWatched(objects, count - (arguments.initialState ? 0 : 1)))
        return nb::none();
    }
  }
  arguments.leavesToTorch = true;
  return run(arguments);
}

nb::object Caller::launch(nb::list given, nb::object initialState,
                          std::vector<double> values, bool wantsFinalState) {
  Arguments arguments;
  for (nb::handle item : given)
    arguments.inputs.push_back(item.ptr());
  if (arguments.inputs.size() != inputs.size() || values.size() != attrs.size())
    typeError("expected " + std::to_string(inputs.size()) + " arrays and " +
              std::to_string(attrs.size()) + " attrs, but got " +
              std::to_string(arguments.inputs.size()) + " and " +
              std::to_string(values.size()));
  if (!initialState.is_none())
    arguments.initialState = initialState.ptr();
  arguments.attrs = std::move(values);
  arguments.wantsFinalState = wantsFinalState;
  return run(arguments);
}

//===----------------------------------------------------------------------===//
// Sizes
//===----------------------------------------------------------------------===//

std::string Caller::listAxes(const ArrayArg &arg,
                             const std::vector<int64_t> &sizes) const {
  std::string text = "(";
  for (size_t i = 0; i < arg.axes.size(); ++i) {
    text += (i ? ", " : "") + arg.axes[i];
    int64_t size = sizes[static_cast<size_t>(arg.codes[i])];
    if (size >= 0)
      text += "=" + std::to_string(size);
  }
  return text + (arg.axes.size() == 1 ? ",)" : ")");
}

void Caller::learnSizes(const ArrayArg &arg, const ArrayView &view,
                        std::vector<int64_t> &sizes,
                        std::vector<const char *> &from) const {
  auto fail = [&](const std::string &more) {
    valueError("argument " + quote(arg.name) + " has shape " +
               view.describeShape() + "; expected " + listAxes(arg, sizes) +
               more);
  };
  if (view.rank != arg.codes.size())
    fail("");
  for (size_t i = 0; i < view.rank; ++i) {
    auto code = static_cast<size_t>(arg.codes[i]);
    if (sizes[code] < 0) {
      if (code >= kFirstDim && view.shape[i] == 0)
        fail(": dim '" + arg.axes[i] + "' must not be 0");
      sizes[code] = view.shape[i];
      from[code] = arg.name.c_str();
    } else if (sizes[code] != view.shape[i]) {
      fail(", where " + arg.axes[i] + " comes from " + quote(from[code]));
    }
  }
}

std::vector<int64_t> Caller::shapeOf(const ArrayArg &arg,
                                     const std::vector<int64_t> &sizes) const {
  std::vector<int64_t> shape;
  for (int code : arg.codes)
    shape.push_back(sizes[static_cast<size_t>(code)]);
  return shape;
}

//===----------------------------------------------------------------------===//
// Kernels
//===----------------------------------------------------------------------===//

Caller::Entry &Caller::findEntry(const std::vector<ArrayView> &views,
                                 const std::vector<int64_t> &sizes,
                                 const Place &place) {
  const int64_t heads = sizes[kB] * sizes[kH], tokens = sizes[kT];
  auto matches = [&](const Entry &entry) {
    if (entry.place != place || !entry.heads.contains(heads) ||
        !entry.tokens.contains(tokens) ||
        std::memcmp(entry.dims.data(), sizes.data() + kFirstDim,
                    entry.dims.size() * sizeof(int64_t)) != 0)
      return false;
    for (size_t i = 0; i < inputs.size(); ++i)
      if (entry.dtypes[i] != views[i].dtype)
        return false;
    return true;
  };
  if (last < entries.size() && matches(entries[last]))
    return entries[last];
  for (last = 0; last < entries.size(); ++last)
    if (matches(entries[last]))
      return entries[last];

  Entry entry;
  nb::list dtypes;
  for (size_t i = 0; i < inputs.size(); ++i) {
    entry.dtypes.push_back(static_cast<uint8_t>(views[i].dtype));
    dtypes.append(nameOf(views[i].dtype));
  }
  nb::dict dims;
  for (size_t d = 0; d < dimNames.size(); ++d) {
    entry.dims.push_back(sizes[kFirstDim + d]);
    if (sizes[kFirstDim + d] < 0)
      valueError("no argument has the dim " + quote(dimNames[d]) +
                 "; its size comes from initial_state");
    dims[dimNames[d].c_str()] = sizes[kFirstDim + d];
  }
  entry.place = place;
  std::string device = !target.empty()                ? target
                       : place.device.type == dl::CPU ? "cpu"
                                                      : "cuda";
  nb::object built =
      build(nb::tuple(dtypes), dims, device, place.device.index, heads, tokens);
  auto read = [&](nb::handle limits) {
    return Interval{nb::cast<int64_t>(limits[0]), nb::cast<int64_t>(limits[1])};
  };
  entry.owner = built[0];
  entry.heads = read(built[1]);
  entry.tokens = read(built[2]);
  entry.kernel = nb::cast<Kernel *>(entry.owner);
  const delta_bundle *bundle = entry.kernel->bundle->handle.get();
  for (size_t i = 0; i < delta_bundle_num_args(bundle); ++i) {
    delta_arg_info info = {};
    info.struct_size = sizeof(info);
    char *error = nullptr;
    check(delta_bundle_get_arg(bundle, i, &info, &error), &error);
    if (info.kind == DELTA_STATE)
      entry.state = info.dtype;
    else if (info.kind == DELTA_OUT)
      entry.outs.push_back(info.dtype);
  }
  entries.push_back(std::move(entry));
  last = entries.size() - 1;
  return entries[last];
}

//===----------------------------------------------------------------------===//
// Launches
//===----------------------------------------------------------------------===//

nb::object Caller::run(Arguments &arguments) {
  ArrayReader reader;
  if (arguments.leavesToTorch) {
    auto isIndirect = [&](PyObject *object) {
      return object && reader.isIndirect(object);
    };
    for (PyObject *object : arguments.inputs)
      if (isIndirect(object))
        return nb::none();
    if (isIndirect(arguments.initialState))
      return nb::none();
  }
  std::vector<ArrayView> views(inputs.size() + 1);
  std::vector<int64_t> sizes(kFirstDim + dimNames.size(), -1);
  std::vector<const char *> from(sizes.size(), nullptr);
  auto read = [&](const ArrayArg &arg, PyObject *object, ArrayView &view) {
    switch (reader.read(object, arg.name.c_str(), view)) {
    case Kind::Array:
      return;
    case Kind::Indirect:
      typeError("argument " + quote(arg.name) + " is a " + typeName(object) +
                " without memory that a kernel could read; expected a plain "
                "tensor on the CPU or a CUDA device");
    case Kind::NotAnArray:
      typeError("argument " + quote(arg.name) + " is a " + typeName(object) +
                "; expected a NumPy array or a torch tensor");
    }
  };
  for (size_t i = 0; i < inputs.size(); ++i) {
    read(inputs[i], arguments.inputs[i], views[i]);
    if (views[i].place != views[0].place)
      typeError("argument " + quote(inputs[i].name) + " is " +
                views[i].place.describe() + ", but " + quote(inputs[0].name) +
                " is " + views[0].place.describe());
    learnSizes(inputs[i], views[i], sizes, from);
  }
  const Place place = views[0].place;
  if (target == "sim" && place.device.type != dl::CPU)
    typeError("device 'sim' takes arrays on the CPU, but " +
              quote(inputs[0].name) + " is " + place.describe());
  ArrayView *initial = nullptr;
  if (arguments.initialState) {
    initial = &views.back();
    read(state, arguments.initialState, *initial);
    if (initial->place != place)
      typeError("argument 'initial_state' is " + initial->place.describe() +
                ", but " + quote(inputs[0].name) + " is " + place.describe());
    learnSizes(state, *initial, sizes, from);
  }

  Entry &entry = findEntry(views, sizes, place);
  if (initial && initial->dtype != entry.state) {
    if (entry.state != DELTA_F64 && initial->dtype == DELTA_F64)
      typeError("argument 'initial_state' has dtype float64, but the state of "
                "this call is float32; pass float32, or every array in "
                "float64");
    // Widening keeps every value.
    ++numCopies;
    arguments.kept.push_back(
        convert(nb::handle(arguments.initialState), longNameOf(entry.state)));
    read(state, arguments.kept.back().ptr(), *initial);
  }

  bool onHost = place.device.type == dl::CPU;
  std::vector<Scratch> copies;
  auto toArray = [&](const ArrayArg &arg, PyObject *object, ArrayView &view) {
    if (onHost) {
      if (!view.isDense()) {
        ++numCopies;
        copies.push_back(packDense(view));
        view.data = copies.back().get();
      }
    } else if (!view.isDense() ||
               reinterpret_cast<uintptr_t>(view.data) % kGpuAlignment != 0) {
      ++numCopies;
      arguments.kept.push_back(
          convert(nb::handle(object), longNameOf(view.dtype)));
      read(arg, arguments.kept.back().ptr(), view);
    }
    return delta_array{view.data, view.dtype, view.rank, view.shape};
  };
  std::vector<delta_array> in, out;
  in.reserve(inputs.size());
  for (size_t i = 0; i < inputs.size(); ++i)
    in.push_back(toArray(inputs[i], arguments.inputs[i], views[i]));
  delta_array initialArray, finalArray;

  delta_launch launch = {};
  launch.struct_size = sizeof(launch);
  launch.inputs = in.data();
  launch.num_inputs = in.size();
  launch.attrs = arguments.attrs.data();
  launch.num_attrs = arguments.attrs.size();
  if (initial) {
    initialArray = toArray(state, arguments.initialState, *initial);
    launch.initial_state = &initialArray;
  }

  // Results.
  nb::object result =
      nb::steal(PyTuple_New(static_cast<Py_ssize_t>(outs.size() + 1)));
  std::vector<std::vector<int64_t>> shapes;
  shapes.reserve(outs.size() + 1);
  for (size_t i = 0; i < outs.size(); ++i) {
    shapes.push_back(shapeOf(outs[i], sizes));
    void *data = nullptr;
    nb::object made = makeArray(place, entry.outs[i], shapes.back(), &data);
    PyTuple_SET_ITEM(result.ptr(), static_cast<Py_ssize_t>(i),
                     made.release().ptr());
    out.push_back(
        {data, entry.outs[i], shapes.back().size(), shapes.back().data()});
  }
  nb::object finalState = nb::none();
  if (arguments.wantsFinalState) {
    shapes.push_back(shapeOf(state, sizes));
    void *data = nullptr;
    finalState = makeArray(place, entry.state, shapes.back(), &data);
    finalArray = {data, entry.state, shapes.back().size(),
                  shapes.back().data()};
    launch.final_state = &finalArray;
  }
  PyTuple_SET_ITEM(result.ptr(), static_cast<Py_ssize_t>(outs.size()),
                   finalState.release().ptr());
  launch.outputs = out.data();
  launch.num_outputs = out.size();

  if (target == "sim")
    stats = simulate(*entry.kernel, launch);
  else
    launchAt(place, *entry.kernel, {sizes[kB], sizes[kT], sizes[kH]}, launch);
  return result;
}

} // namespace deltac
