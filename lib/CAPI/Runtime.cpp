//===- Runtime.cpp - loading and launching kernels ------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The C functions of devices and kernels, over the run time's classes.
//
//===----------------------------------------------------------------------===//

#include "DTypes.h"
#include "Handles.h"

#include "delta/Runtime/LaunchCheck.h"

#include <sys/mman.h>

#include <limits>

using namespace delta;
using namespace delta::capi;
using runtime::ArgKind;
using runtime::Argument;
using runtime::ArrayView;
using runtime::BundleKernel;
using runtime::Expected;
using runtime::Status;

/// On the CPU a device's memory is the caller's; `onGpu(gpu)` copies elsewhere.
template <typename OnGpu>
static delta_status copy(OpenedDevice &opened, void *to, const void *from,
                         size_t bytes, char **error, OnGpu onGpu) {
  return guarded(error, [&] {
    if (!opened.gpu) {
      if (bytes)
        std::memcpy(to, from, bytes);
      return DELTA_OK;
    }
    std::lock_guard<std::mutex> lock(opened.mutex);
    Status status = onGpu(*opened.gpu);
    return status.ok() ? DELTA_OK : fail(error, status.message());
  });
}

extern "C" {

//===----------------------------------------------------------------------===//
// Devices
//===----------------------------------------------------------------------===//

delta_status delta_device_open(const char *name, int index, unsigned threads,
                               delta_device **device, char **error) {
  return guarded(error, [&] {
    auto opened = std::make_shared<OpenedDevice>();
    std::string kind = name ? name : "";
    if (kind == "cpu") {
      opened->pool = std::make_unique<runtime::ThreadPool>(threads);
      opened->description =
          "the CPU, " + std::to_string(opened->pool->numThreads()) + " threads";
    } else if (kind == "sim") {
      std::unique_ptr<runtime::SimulatedDevice> simulator =
          runtime::openSimulator(threads);
      opened->simulator = simulator.get();
      opened->gpu = std::move(simulator);
    } else if (kind == "cuda") {
      Expected<std::unique_ptr<runtime::Device>> gpu =
          runtime::openCudaDevice(index);
      if (!gpu)
        return fail(error, gpu.message(), DELTA_ABSENT);
      opened->gpu = std::move(*gpu);
    } else {
      return fail(error,
                  "unknown device '" + kind + "'; expected cpu, sim or cuda");
    }
    if (opened->gpu)
      opened->description = opened->gpu->describe();
    *device = new delta_device{std::move(opened)};
    return DELTA_OK;
  });
}

void delta_device_close(delta_device *device) { delete device; }

const char *delta_device_describe(const delta_device *device) {
  return device->opened->description.c_str();
}

static runtime::DevicePointer toAddress(const void *pointer) {
  return reinterpret_cast<uintptr_t>(pointer);
}

delta_status delta_device_allocate(delta_device *device, size_t bytes,
                                   const char *name, void **pointer,
                                   char **error) {
  return guarded(error, [&] {
    OpenedDevice &opened = *device->opened;
    if (!opened.gpu) {
      size_t rounded = (bytes + 63) / 64 * 64;
      void *memory = rounded >= bytes
                         ? std::aligned_alloc(64, std::max<size_t>(rounded, 64))
                         : nullptr;
      if (!memory)
        return fail(error, "no memory for " + std::to_string(bytes) + " bytes");
      *pointer = memory;
      return DELTA_OK;
    }
    std::lock_guard<std::mutex> lock(opened.mutex);
    Expected<runtime::DevicePointer> address =
        opened.gpu->allocate(bytes, name ? name : "memory");
    if (!address)
      return fail(error, address.message());
    *pointer = reinterpret_cast<void *>(static_cast<uintptr_t>(*address));
    return DELTA_OK;
  });
}

void delta_device_release(delta_device *device, void *pointer) {
  if (!pointer)
    return;
  if (device->opened->gpu)
    device->opened->gpu->release(toAddress(pointer));
  else
    std::free(pointer);
}

delta_status delta_device_copy_in(delta_device *device, void *to,
                                  const void *from, size_t bytes,
                                  char **error) {
  return copy(*device->opened, to, from, bytes, error,
              [&](runtime::Device &gpu) {
                return gpu.copyIn(toAddress(to), from, bytes);
              });
}

delta_status delta_device_copy_out(delta_device *device, void *to,
                                   const void *from, size_t bytes,
                                   char **error) {
  return copy(*device->opened, to, from, bytes, error,
              [&](runtime::Device &gpu) {
                return gpu.copyOut(to, toAddress(from), bytes);
              });
}

delta_status delta_device_synchronize(delta_device *device, void *stream,
                                      char **error) {
  return guarded(error, [&] {
    if (!device->opened->gpu)
      return DELTA_OK;
    Status status = device->opened->gpu->synchronize(stream);
    return status.ok() ? DELTA_OK : fail(error, status.message());
  });
}

size_t delta_device_num_findings(const delta_device *device) {
  const runtime::SimulatedDevice *simulator = device->opened->simulator;
  if (!simulator)
    return 0;
  std::lock_guard<std::mutex> lock(device->opened->mutex);
  return simulator->findings().size();
}

const char *delta_device_get_finding(const delta_device *device, size_t index) {
  if (index >= delta_device_num_findings(device))
    return nullptr;
  std::lock_guard<std::mutex> lock(device->opened->mutex);
  return device->opened->simulator->findings()[index].c_str();
}

delta_status delta_device_write_stats(const delta_device *device,
                                      const char *path, char **error) {
  return guarded(error, [&] {
    if (!device->opened->simulator)
      return fail(error, "only the simulator has counters");
    std::lock_guard<std::mutex> lock(device->opened->mutex);
    Status status = device->opened->simulator->writeStats(path);
    return status.ok() ? DELTA_OK : fail(error, status.message());
  });
}

//===----------------------------------------------------------------------===//
// Kernels
//===----------------------------------------------------------------------===//

/// The kernel of a bundle for a function on a device.
static Expected<const BundleKernel *>
chooseKernel(const runtime::Bundle &bundle, const OpenedDevice &device,
             const std::string &fn) {
  std::vector<std::string> targets;
  std::string known;
  for (const BundleKernel &kernel : bundle.kernels) {
    if (kernel.fn == fn)
      targets.push_back(kernel.target);
    known += (known.empty() ? "" : ", ") + kernel.fn + " for " + kernel.target;
  }
  if (targets.empty())
    return Status::error("the bundle has no function '", fn, "'; it has ",
                         known);
  Expected<std::string> target = std::string("cpu");
  if (device.gpu)
    target = device.gpu->chooseTarget(targets);
  if (!target)
    return target.error();
  if (const BundleKernel *kernel = bundle.find(*target, fn))
    return kernel;
  return Status::error("the bundle has no function '", fn, "' for target '",
                       *target, "'; it has ", known);
}

delta_status delta_kernel_load(const delta_bundle *bundle, delta_device *device,
                               const char *fn, delta_kernel **kernel,
                               char **error) {
  return guarded(error, [&] {
    const runtime::Bundle &contents = bundle->loaded->bundle;
    OpenedDevice &opened = *device->opened;
    Expected<const BundleKernel *> chosen =
        chooseKernel(contents, opened, fn ? fn : "");
    if (!chosen)
      return fail(error, chosen.message());
    auto result = std::make_unique<delta_kernel>();
    result->bundle = bundle->loaded;
    result->device = device->opened;
    result->kernel = *chosen;
    if (opened.gpu) {
      Expected<std::unique_ptr<runtime::DeviceKernel>> loaded =
          opened.gpu->load(**chosen);
      if (!loaded)
        return fail(error, loaded.message());
      result->gpuKernel = std::move(*loaded);
    } else {
      Expected<std::unique_ptr<cpu::SharedKernel>> loaded =
          cpu::SharedKernel::load(**chosen);
      if (!loaded)
        return fail(error, loaded.message());
      result->cpuKernel = std::move(*loaded);
      result->launcher = std::make_unique<cpu::Launcher>(
          result->cpuKernel->entry(), *opened.pool);
    }
    result->plan.emplace(contents.signature,
                         opened.gpu ? runtime::kGpuAlignment : 0);
    for (const std::string &dim : contents.signature.arrayDims())
      result->dims.push_back(contents.signature.dims.find(dim)->second);
    result->dims.insert(result->dims.begin(), 3, 0);
    *kernel = result.release();
    return DELTA_OK;
  });
}

void delta_kernel_close(delta_kernel *kernel) { delete kernel; }

delta_status delta_kernel_get_info(const delta_kernel *kernel,
                                   delta_kernel_info *info, char **error) {
  return guarded(
      error, [&] { return writeInfo(info, describe(*kernel->kernel), error); });
}

delta_status delta_kernel_get_workspace(const delta_kernel *kernel, int64_t B,
                                        int64_t T, int64_t H, int64_t *bytes,
                                        char **error) {
  return guarded(error, [&] {
    if (B < 0 || T < 0 || H < 0)
      return fail(error, "B, T and H must not be negative");
    Expected<int64_t> needed = int64_t(0);
    if (kernel->gpuKernel)
      needed = runtime::workspaceBytes(*kernel->kernel, B, T, H);
    if (!needed)
      return fail(error, needed.message());
    *bytes = *needed;
    return DELTA_OK;
  });
}

delta_status delta_kernel_workspace_bytes(const delta_kernel *kernel, int64_t B,
                                          int64_t H, int64_t *bytes,
                                          char **error) {
  return guarded(error, [&]() -> delta_status {
    if (B < 0 || H < 0)
      return fail(error, "B and H must not be negative");
    if (kernel->gpuKernel)
      for (const runtime::WorkspacePart &part : kernel->kernel->workspace)
        if (part.tokens)
          return fail(error, "the workspace of this kernel depends on T; ask "
                             "delta_kernel_get_workspace");
    return delta_kernel_get_workspace(kernel, B, /*T=*/1, H, bytes, error);
  });
}

/// Reads an array of the caller; the error names it.
static Status readArray(const delta_array &array, const std::string &name,
                        ArrayView &view) {
  std::optional<runtime::DType> dtype = toDType(array.dtype);
  if (!dtype)
    return Status::error("array '", name, "' has the unknown type ",
                         static_cast<int>(array.dtype));
  if (array.rank > 0 && !array.shape)
    return Status::error("array '", name, "' has no shape");
  if (array.rank > 16)
    return Status::error("array '", name, "' has ", array.rank, " axes");
  view.data = array.data;
  view.dtype = *dtype;
  view.shape.assign(array.shape, array.shape + array.rank);
  return {};
}

static Status readArrays(const runtime::Signature &signature,
                         const delta_launch &launch,
                         runtime::LaunchArrays &arrays) {
  auto readAll = [](const std::vector<const Argument *> &args,
                    const delta_array *given, size_t count,
                    std::vector<ArrayView> &views) -> Status {
    if (count > 0 && !given)
      return Status::error("there are no arrays although their number is ",
                           count);
    views.resize(count);
    for (size_t i = 0; i < count; ++i)
      if (Status status = readArray(
              given[i], i < args.size() ? args[i]->name : std::to_string(i),
              views[i]);
          !status.ok())
        return status;
    return {};
  };
  Status status = readAll(signature.inputs(), launch.inputs, launch.num_inputs,
                          arrays.inputs);
  if (status.ok())
    status = readAll(signature.ofKind(ArgKind::Out), launch.outputs,
                     launch.num_outputs, arrays.outputs);
  if (status.ok())
    status = readAll(signature.ofKind(ArgKind::Sum), launch.sums,
                     launch.num_sums, arrays.sums);
  if (status.ok() && launch.checkpoints)
    status = readArray(*launch.checkpoints, "checkpoints",
                       arrays.checkpoints.emplace());
  if (status.ok() && launch.initial_state)
    status = readArray(*launch.initial_state, runtime::kInitialState,
                       arrays.initialState.emplace());
  if (status.ok() && launch.final_state)
    status = readArray(*launch.final_state, runtime::kFinalState,
                       arrays.finalState.emplace());
  return status;
}

/// Below this, waking threads takes longer than what they would save.
static constexpr double kSerialFlops = 256e3;

/// Precondition: the launch was checked, and the kernel's mutex is held.
/// Large arrays that are written may be fresh memory, and a page fault for
/// every 4 KiB of them takes longer than the kernel: asks for pages of 2 MiB. A
/// hint; what the system makes of it does not matter.
static void preferHugePages(const delta_array &array) {
#ifdef MADV_HUGEPAGE
  constexpr uintptr_t kPage = uintptr_t(2) << 20;
  uintptr_t bytes = runtime::sizeOf(*toDType(array.dtype));
  for (size_t axis = 0; axis < array.rank; ++axis)
    bytes *= static_cast<uintptr_t>(array.shape[axis]);
  if (!array.data || bytes < 16 * kPage)
    return;
  uintptr_t first = reinterpret_cast<uintptr_t>(array.data);
  uintptr_t begin = (first + kPage - 1) / kPage * kPage;
  uintptr_t end = (first + bytes) / kPage * kPage;
  madvise(reinterpret_cast<void *>(begin), end - begin, MADV_HUGEPAGE);
#endif
}

static Status launchOnCpu(delta_kernel &kernel, const delta_launch &launch,
                          const runtime::LaunchSizes &sizes,
                          const std::vector<double> &attrs) {
  // The kernel asks for a pointer wherever something might be; without elements
  // it is not followed.
  static char nothing;
  auto place = [](const delta_array &array) {
    return array.data ? array.data : &nothing;
  };
  kernel.in.clear();
  kernel.out.clear();
  for (size_t i = 0; i < launch.num_inputs; ++i)
    kernel.in.push_back(place(launch.inputs[i]));
  bool backward = kernel.bundle->bundle.signature.backward;
  if (launch.checkpoints && backward)
    kernel.in.push_back(place(*launch.checkpoints));
  kernel.in.push_back(launch.initial_state ? place(*launch.initial_state)
                                           : nullptr);
  for (size_t i = 0; i < launch.num_outputs; ++i)
    kernel.out.push_back(place(launch.outputs[i]));
  for (size_t i = 0; i < launch.num_sums; ++i)
    kernel.out.push_back(place(launch.sums[i]));
  if (launch.checkpoints && !backward)
    kernel.out.push_back(place(*launch.checkpoints));
  kernel.out.push_back(launch.final_state ? place(*launch.final_state)
                                          : nullptr);
  for (size_t i = 0; i < launch.num_outputs; ++i)
    preferHugePages(launch.outputs[i]);
  if (launch.checkpoints && !backward)
    preferHugePages(*launch.checkpoints);
  kernel.dims[0] = sizes.B;
  kernel.dims[1] = sizes.T;
  kernel.dims[2] = sizes.H;
  double work = kernel.kernel->flopsPerToken * static_cast<double>(sizes.B) *
                static_cast<double>(sizes.T) * static_cast<double>(sizes.H);
  int code = (*kernel.launcher)(kernel.in.data(), kernel.out.data(),
                                kernel.dims.data(), attrs.data(),
                                work > 0 && work < kSerialFlops);
  if (code == cpu::kOk)
    return {};
  return Status::error("the kernel refused its arguments: ",
                       cpu::describeStatus(code));
}

static Status launchOnGpu(delta_kernel &kernel,
                          const runtime::LaunchArrays &arrays,
                          const runtime::LaunchSizes &sizes,
                          const std::vector<double> &attrs,
                          const delta_launch &launch) {
  const runtime::Signature &signature = kernel.bundle->bundle.signature;
  runtime::Device &device = *kernel.device->gpu;
  runtime::GpuArguments arguments;
  Status status;
  auto place = [&](const ArrayView *view, const std::string &name) {
    runtime::ArrayPointer pointer{view ? toAddress(view->data) : 0, name};
    // What has no elements may be anywhere.
    bool empty = view && runtime::numElementsOf(view->shape) == 0;
    if (pointer.data && !empty && status.ok())
      status = device.checkPointer(pointer.data, name);
    return pointer;
  };
  std::vector<const Argument *> inputs = signature.inputs();
  for (size_t i = 0; i < inputs.size(); ++i)
    arguments.in.push_back(place(&arrays.inputs[i], inputs[i]->name));
  if (arrays.checkpoints && signature.backward)
    arguments.in.push_back(place(&*arrays.checkpoints, "checkpoints"));
  arguments.in.push_back(
      place(arrays.initialState ? &*arrays.initialState : nullptr,
            runtime::kInitialState));
  std::vector<const Argument *> outs = signature.ofKind(ArgKind::Out);
  for (size_t i = 0; i < outs.size(); ++i)
    arguments.out.push_back(place(&arrays.outputs[i], outs[i]->name));
  std::vector<const Argument *> sums = signature.ofKind(ArgKind::Sum);
  for (size_t i = 0; i < sums.size(); ++i)
    arguments.out.push_back(place(&arrays.sums[i], sums[i]->name));
  if (arrays.checkpoints && !signature.backward)
    arguments.out.push_back(place(&*arrays.checkpoints, "checkpoints"));
  arguments.out.push_back(place(
      arrays.finalState ? &*arrays.finalState : nullptr, runtime::kFinalState));
  if (!status.ok())
    return status;
  arguments.attrs = attrs;
  arguments.B = sizes.B;
  arguments.T = sizes.T;
  arguments.H = sizes.H;
  Expected<int64_t> needed =
      runtime::workspaceBytes(*kernel.kernel, sizes.B, sizes.T, sizes.H);
  if (!needed)
    return needed.error();
  if (*needed > 0 && (!launch.workspace ||
                      launch.workspace_bytes < static_cast<uint64_t>(*needed)))
    return Status::error("the kernel needs a workspace of ", *needed,
                         " bytes, but got ",
                         launch.workspace ? launch.workspace_bytes : 0);
  arguments.workspace = toAddress(launch.workspace);
  if (*needed > 0)
    status = device.checkPointer(arguments.workspace, "workspace");
  if (!status.ok())
    return status;
  return runtime::launchGpuKernel(*kernel.gpuKernel, *kernel.kernel, arguments,
                                  launch.stream);
}

delta_status delta_kernel_launch(delta_kernel *kernel,
                                 const delta_launch *given, char **error) {
  return guarded(error, [&]() -> delta_status {
    // Callers of the first version know nothing of gradients.
    constexpr size_t kFirstSize = offsetof(delta_launch, sums);
    if (given->struct_size < kFirstSize)
      return fail(error, "struct_size of the launch is " +
                             std::to_string(given->struct_size) +
                             "; expected at least " +
                             std::to_string(kFirstSize));
    delta_launch copy = {};
    std::memcpy(&copy, given, std::min(given->struct_size, sizeof(copy)));
    const delta_launch *launch = &copy;
    const runtime::Signature &signature = kernel->bundle->bundle.signature;
    if (!kernel->gpuKernel) {
      std::lock_guard<std::mutex> lock(kernel->mutex);
      std::optional<runtime::LaunchSizes> sizes = kernel->plan->check(*launch);
      if (sizes && kernel->plan->completeAttrs(*launch, kernel->attrs)) {
        Status status = launchOnCpu(*kernel, *launch, *sizes, kernel->attrs);
        return status.ok() ? DELTA_OK : fail(error, status.message());
      }
    }
    runtime::LaunchArrays arrays;
    if (Status status = readArrays(signature, *launch, arrays); !status.ok())
      return fail(error, status.message());
    Expected<runtime::LaunchSizes> sizes = runtime::checkLaunch(
        signature, arrays, kernel->gpuKernel ? runtime::kGpuAlignment : 0);
    if (!sizes)
      return fail(error, sizes.message());
    Expected<std::vector<double>> attrs =
        runtime::completeAttrs(signature, launch->attrs, launch->num_attrs);
    if (!attrs)
      return fail(error, attrs.message());
    OpenedDevice &device = *kernel->device;
    if (!kernel->gpuKernel) {
      std::lock_guard<std::mutex> lock(kernel->mutex);
      Status status = launchOnCpu(*kernel, *launch, *sizes, *attrs);
      return status.ok() ? DELTA_OK : fail(error, status.message());
    }
    if (!device.simulator) {
      Status status = launchOnGpu(*kernel, arrays, *sizes, *attrs, *launch);
      return status.ok() ? DELTA_OK : fail(error, status.message());
    }
    std::lock_guard<std::mutex> lock(device.mutex);
    size_t before = device.simulator->findings().size();
    Status status = launchOnGpu(*kernel, arrays, *sizes, *attrs, *launch);
    if (status.ok())
      return DELTA_OK;
    const std::deque<std::string> &findings = device.simulator->findings();
    std::string text = status.message();
    for (size_t i = before; i < findings.size(); ++i)
      text += "\n" + findings[i];
    return fail(error, text,
                findings.size() > before ? DELTA_FINDING : DELTA_ERROR);
  });
}

} // extern "C"
