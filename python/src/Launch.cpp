//===- Launch.cpp - launching on given arrays -----------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Arrays are looked at without a copy; the run time checks them against the
// kernel's signature.
//
//===----------------------------------------------------------------------===//

#include "Launch.h"
#include "Simulate.h"

#include <deque>

namespace deltac {

std::string launchKernel(Kernel &kernel, nb::list inputs,
                         nb::object initialState, nb::list outputs,
                         nb::object finalState, nb::list sums,
                         nb::object checkpoints, std::vector<double> attrs) {
  ArrayReader reader;
  std::deque<ArrayView> views; // descriptions of arrays point into it
  auto read = [&](nb::handle object, const char *name) {
    ArrayView &view = views.emplace_back();
    if (reader.read(object.ptr(), name, view) != Kind::Array || !view.isDense())
      throw nb::value_error(
          (std::string("argument '") + name + "' is not a dense array")
              .c_str());
    return delta_array{view.data, view.dtype, view.rank, view.shape};
  };
  auto readAll = [&](nb::list objects, const char *name) {
    std::vector<delta_array> arrays;
    for (nb::handle object : objects)
      arrays.push_back(read(object, name));
    return arrays;
  };
  std::vector<delta_array> in = readAll(inputs, "inputs");
  std::vector<delta_array> out = readAll(outputs, "outputs");
  std::vector<delta_array> added = readAll(sums, "sums");
  delta_array before, after, saved;
  delta_launch launch = {};
  launch.struct_size = sizeof(launch);
  launch.inputs = in.data();
  launch.num_inputs = in.size();
  launch.outputs = out.data();
  launch.num_outputs = out.size();
  launch.sums = added.data();
  launch.num_sums = added.size();
  launch.attrs = attrs.data();
  launch.num_attrs = attrs.size();
  if (!initialState.is_none()) {
    before = read(initialState, "initial_state");
    launch.initial_state = &before;
  }
  if (!finalState.is_none()) {
    after = read(finalState, "final_state");
    launch.final_state = &after;
  }
  if (!checkpoints.is_none()) {
    saved = read(checkpoints, "checkpoints");
    launch.checkpoints = &saved;
  }
  if (kernel.device->kind == "sim")
    return simulate(kernel, launch);
  char *error = nullptr;
  nb::object workspace;
  const Place &place = views.front().place;
  if (place.device.type != dl::CPU) {
    // Every array of tokens begins with B and has H behind T.
    const ArrayView &first = views.front();
    int64_t bytes = 0;
    check(delta_kernel_workspace_bytes(kernel.handle.get(), first.shape[0],
                                       first.shape[2], &bytes, &error),
          &error);
    if (bytes > 0)
      workspace =
          makeArray(place, DELTA_F32, {(bytes + 3) / 4}, &launch.workspace);
    launch.workspace_bytes = static_cast<size_t>(bytes);
    launch.stream = currentStream(place.device.index);
  }
  delta_status status;
  {
    nb::gil_scoped_release release;
    status = delta_kernel_launch(kernel.handle.get(), &launch, &error);
  }
  check(status, &error);
  return "";
}

} // namespace deltac
