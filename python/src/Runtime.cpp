//===- Runtime.cpp - the run time for Python ------------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// delta-c/Runtime.h as a Python module: bundles, devices, kernels, and the
// caller that takes Python's arrays to them.
//
//===----------------------------------------------------------------------===//

#include "Caller.h"
#include "Launch.h"

#include <nanobind/stl/shared_ptr.h>

using namespace deltac;

namespace {

std::shared_ptr<Bundle> readBundle(nb::bytes data, const std::string &name) {
  delta_bundle *bundle = nullptr;
  char *error = nullptr;
  check(delta_bundle_read(data.c_str(), data.size(), name.c_str(), &bundle,
                          &error),
        &error);
  return std::make_shared<Bundle>(bundle);
}

/// The targets that there are gradients for.
nb::list gradients(const Bundle &bundle) {
  nb::list result;
  for (size_t i = 0; i < delta_bundle_num_gradients(bundle.handle.get()); ++i)
    result.append(delta_bundle_get_gradient_target(bundle.handle.get(), i));
  return result;
}

std::shared_ptr<Bundle> openGradient(const Bundle &bundle, size_t index,
                                     const std::string &fn) {
  delta_bundle *part = nullptr;
  char *error = nullptr;
  check(delta_bundle_open_gradient(bundle.handle.get(), index, fn.c_str(),
                                   &part, &error),
        &error);
  return std::make_shared<Bundle>(part);
}

nb::dict dims(const Bundle &bundle) {
  nb::dict result;
  for (size_t i = 0; i < delta_bundle_num_dims(bundle.handle.get()); ++i) {
    const char *name = nullptr;
    int64_t size = 0;
    char *error = nullptr;
    check(delta_bundle_get_dim(bundle.handle.get(), i, &name, &size, &error),
          &error);
    result[name] = size;
  }
  return result;
}

nb::list args(const Bundle &bundle) {
  nb::list result;
  for (size_t i = 0; i < delta_bundle_num_args(bundle.handle.get()); ++i) {
    delta_arg_info info = {};
    info.struct_size = sizeof(info);
    char *error = nullptr;
    check(delta_bundle_get_arg(bundle.handle.get(), i, &info, &error), &error);
    result.append(describe(info));
  }
  return result;
}

/// What a kernel and a launch of it are described by alike.
template <typename Info>
void describeLaunch(const Info &info, nb::dict &facts) {
  facts["entry"] = info.entry;
  facts["threads"] = info.threads;
  facts["shared_bytes"] = info.shared_bytes;
  facts["v_blocks"] = info.v_blocks;
}

nb::list kernels(const Bundle &bundle) {
  nb::list result;
  for (size_t i = 0; i < delta_bundle_num_kernels(bundle.handle.get()); ++i) {
    delta_kernel_info info = {};
    info.struct_size = sizeof(info);
    char *error = nullptr;
    check(delta_bundle_get_kernel(bundle.handle.get(), i, &info, &error),
          &error);
    nb::dict kernel;
    kernel["target"] = info.target;
    kernel["fn"] = info.fn;
    kernel["compute"] = info.compute;
    kernel["flops_per_token"] = info.flops_per_token;
    describeLaunch(info, kernel);
    kernel["workspace_bytes"] = info.workspace_bytes;
    nb::list launches;
    for (size_t launch = 0; launch < info.num_launches; ++launch) {
      delta_launch_info one = {};
      one.struct_size = sizeof(one);
      check(
          delta_bundle_get_launch(bundle.handle.get(), i, launch, &one, &error),
          &error);
      nb::dict facts;
      describeLaunch(one, facts);
      facts["tokens"] = one.tokens;
      launches.append(facts);
    }
    kernel["launches"] = launches;
    nb::dict options;
    for (const char *name : {"chunk", "save_every"})
      if (const char *value =
              delta_bundle_get_kernel_option(bundle.handle.get(), i, name))
        options[name] = std::stoll(value);
    kernel["options"] = options;
    result.append(kernel);
  }
  return result;
}

void writeStats(const Device &device, const std::string &path) {
  char *error = nullptr;
  check(delta_device_write_stats(device.handle.get(), path.c_str(), &error),
        &error);
}

} // namespace

NB_MODULE(_runtime, m) {
  // Kernels and devices live as long as the process.
  nb::set_leak_warnings(false);
  m.doc() = "The run time; its interface is deltac's Python code.";
  nb::class_<Bundle>(m, "Bundle")
      .def_prop_ro(
          "name",
          [](const Bundle &b) { return delta_bundle_name(b.handle.get()); })
      .def_prop_ro(
          "id", [](const Bundle &b) { return delta_bundle_id(b.handle.get()); })
      .def_prop_ro(
          "compiler",
          [](const Bundle &b) { return delta_bundle_compiler(b.handle.get()); })
      .def_prop_ro("dims", &dims)
      .def_prop_ro("args", &args)
      .def_prop_ro("kernels", &kernels)
      .def_prop_ro("gradients", &gradients)
      .def("open_gradient", &openGradient, nb::arg("index"), nb::arg("fn"));
  m.def("read_bundle", &readBundle, nb::arg("data"), nb::arg("name"));

  nb::class_<Device>(m, "Device")
      .def(nb::init<const std::string &, int, unsigned>(), nb::arg("name"),
           nb::arg("index") = 0, nb::arg("threads") = 0)
      .def_ro("kind", &Device::kind)
      .def("write_stats", &writeStats, nb::arg("path"))
      .def("__str__", [](const Device &device) {
        return delta_device_describe(device.handle.get());
      });

  nb::class_<Kernel>(m, "Kernel")
      .def(nb::init<std::shared_ptr<Bundle>, std::shared_ptr<Device>,
                    const std::string &>(),
           nb::arg("bundle"), nb::arg("device"), nb::arg("fn"))
      .def_prop_ro("bundle", [](const Kernel &kernel) { return kernel.bundle; })
      .def("launch", &launchKernel, nb::arg("inputs"),
           nb::arg("initial_state").none(), nb::arg("outputs"),
           nb::arg("final_state").none(), nb::arg("sums"),
           nb::arg("checkpoints").none(), nb::arg("attrs"));

  static PyType_Slot slots[] = {
      {Py_tp_traverse, reinterpret_cast<void *>(Caller::traverse)},
      {Py_tp_clear, reinterpret_cast<void *>(Caller::clearReferences)},
      {0, nullptr}};
  nb::class_<Caller>(m, "Caller", nb::type_slots(slots))
      .def(nb::init<nb::list, nb::tuple, nb::list, nb::list, std::string,
                    nb::object, nb::object>())
      .def("call", &Caller::call)
      .def("bind", &Caller::bind)
      .def("launch", &Caller::launch, nb::arg("inputs"),
           nb::arg("initial_state").none(), nb::arg("attrs"),
           nb::arg("output_final_state"))
      .def("clear", &Caller::clear)
      .def_prop_ro("num_kernels", &Caller::numKernels)
      .def_ro("num_copies", &Caller::numCopies)
      .def_rw("stats", &Caller::stats);

  m.def("set_torch", &setTorch);
  m.def("version", &delta_version);
}
