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

#include <algorithm>
#include <cstring>
#include <deque>

namespace deltac {

TokenSizes sizesOf(const Kernel &kernel, const delta_launch &launch) {
  TokenSizes sizes;
  const delta_bundle *bundle = kernel.bundle->handle.get();
  size_t input = 0;
  for (size_t i = 0; i < delta_bundle_num_args(bundle); ++i) {
    delta_arg_info info = {};
    info.struct_size = sizeof(info);
    char *error = nullptr;
    check(delta_bundle_get_arg(bundle, i, &info, &error), &error);
    if (info.kind != DELTA_IN && info.kind != DELTA_PARAM)
      continue;
    if (input == launch.num_inputs)
      break;
    const delta_array &array = launch.inputs[input++];
    for (size_t axis = 0; axis < std::min(info.rank, array.rank); ++axis) {
      if (info.sizes[axis] >= 0)
        continue;
      if (std::strcmp(info.axes[axis], "B") == 0)
        sizes.batch = array.shape[axis];
      else if (std::strcmp(info.axes[axis], "T") == 0)
        sizes.tokens = array.shape[axis];
      else if (std::strcmp(info.axes[axis], "H") == 0)
        sizes.heads = array.shape[axis];
    }
  }
  return sizes;
}

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
  launchAt(views.front().place, kernel, sizesOf(kernel, launch), launch);
  return "";
}

void launchAt(const Place &place, const Kernel &kernel, const TokenSizes &sizes,
              delta_launch &launch) {
  char *error = nullptr;
  nb::object workspace;
  if (place.device.type != dl::CPU) {
    int64_t bytes = 0;
    check(delta_kernel_get_workspace(kernel.handle.get(), sizes.batch,
                                     sizes.tokens, sizes.heads, &bytes, &error),
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
}

} // namespace deltac
