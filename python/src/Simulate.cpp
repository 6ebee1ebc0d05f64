//===- Simulate.cpp - launching in the simulator --------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The simulator's memory goes with its device, so that each call has its own.
//
//===----------------------------------------------------------------------===//

#include "Simulate.h"

#include "Launch.h"

#include "Arrays.h"

#include <nanobind/stl/shared_ptr.h>

#include <cstring>

namespace deltac {

namespace {

/// Names, as findings have them.
struct Names {
  std::vector<std::string> inputs, outs, sums;

  explicit Names(const Kernel &kernel) {
    const delta_bundle *bundle = kernel.bundle->handle.get();
    for (size_t i = 0; i < delta_bundle_num_args(bundle); ++i) {
      delta_arg_info info = {};
      info.struct_size = sizeof(info);
      char *error = nullptr;
      check(delta_bundle_get_arg(bundle, i, &info, &error), &error);
      switch (info.kind) {
      case DELTA_IN:
      case DELTA_PARAM:
        inputs.push_back(info.name);
        break;
      case DELTA_OUT:
        outs.push_back(info.name);
        break;
      case DELTA_SUM:
        sums.push_back(info.name);
        break;
      default:
        break;
      }
    }
  }
};

/// The device, and arrays on it with those that they are copies of.
class Simulation {
public:
  explicit Simulation(std::shared_ptr<Device> device)
      : device(std::move(device)) {}

  void *allocate(size_t bytes, const char *name) {
    void *pointer = nullptr;
    char *error = nullptr;
    check(delta_device_allocate(device->handle.get(), bytes, name, &pointer,
                                &error),
          &error);
    return pointer;
  }

  /// The array's place on the device; with its contents, or to be copied back.
  delta_array place(const delta_array &array, const std::string &name,
                    bool isInput) {
    delta_array there = array;
    there.data = allocate(bytesOf(array), name.c_str());
    char *error = nullptr;
    if (isInput)
      check(delta_device_copy_in(device->handle.get(), there.data, array.data,
                                 bytesOf(array), &error),
            &error);
    else
      results.emplace_back(array, there.data);
    return there;
  }

  std::vector<delta_array> placeAll(const delta_array *arrays, size_t count,
                                    const std::vector<std::string> &names,
                                    bool isInput) {
    std::vector<delta_array> there;
    for (size_t i = 0; i < count; ++i)
      there.push_back(
          place(arrays[i], i < names.size() ? names[i] : "array", isInput));
    return there;
  }

  void copyBack() {
    char *error = nullptr;
    for (auto &[array, data] : results)
      check(delta_device_copy_out(device->handle.get(), array.data, data,
                                  bytesOf(array), &error),
            &error);
  }

private:
  static size_t bytesOf(const delta_array &array) {
    size_t count = sizeOf(array.dtype);
    for (size_t i = 0; i < array.rank; ++i)
      count *= static_cast<size_t>(array.shape[i]);
    return count;
  }

  std::shared_ptr<Device> device;
  std::vector<std::pair<delta_array, void *>> results;
};

} // namespace

std::string simulate(const Kernel &loaded, const delta_launch &launch) {
  auto device = std::make_shared<Device>("sim", 0, 0);
  Kernel kernel(loaded.bundle, device, loaded.fn);
  Names names(kernel);
  Simulation simulation(device);
  delta_launch there = launch;
  std::vector<delta_array> in =
      simulation.placeAll(launch.inputs, launch.num_inputs, names.inputs, true);
  std::vector<delta_array> out = simulation.placeAll(
      launch.outputs, launch.num_outputs, names.outs, false);
  std::vector<delta_array> sums =
      simulation.placeAll(launch.sums, launch.num_sums, names.sums, false);
  there.inputs = in.data();
  there.outputs = out.data();
  there.sums = sums.data();
  delta_array initial, final, saved;
  if (launch.initial_state) {
    initial = simulation.place(*launch.initial_state, "initial_state", true);
    there.initial_state = &initial;
  }
  if (launch.final_state) {
    final = simulation.place(*launch.final_state, "final_state", false);
    there.final_state = &final;
  }
  if (launch.checkpoints) {
    // A forward writes them, a backward reads them.
    saved = simulation.place(*launch.checkpoints, "checkpoints",
                             kernel.fn == "backward");
    there.checkpoints = &saved;
  }
  int64_t bytes = 0;
  char *error = nullptr;
  TokenSizes sizes = sizesOf(kernel, launch);
  check(delta_kernel_get_workspace(kernel.handle.get(), sizes.batch,
                                   sizes.tokens, sizes.heads, &bytes, &error),
        &error);
  if (bytes > 0)
    there.workspace =
        simulation.allocate(static_cast<size_t>(bytes), "workspace");
  there.workspace_bytes = static_cast<size_t>(bytes);
  delta_status status;
  {
    nb::gil_scoped_release release;
    status = delta_kernel_launch(kernel.handle.get(), &there, &error);
  }
  check(status, &error);
  simulation.copyBack();
  return nb::cast<std::string>(
      nb::module_::import_("deltac._arrays").attr("read_stats")(device));
}

} // namespace deltac
