//===- Device.cpp - what GPU kernels run on -------------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// From arrays in the host's memory to launches on a device, the same for a GPU
// and for the simulator. What can be wrong with a launch is found before it.
//
//===----------------------------------------------------------------------===//

#include "delta/Runtime/Device.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace delta::runtime {

KernelParam KernelParam::f32(double value) {
  float narrow = static_cast<float>(value);
  KernelParam param;
  param.bytes = 4;
  std::memcpy(&param.bits, &narrow, 4);
  return param;
}

DeviceKernel::~DeviceKernel() = default;

Device::~Device() = default;

Status Device::checkWritten(DevicePointer, size_t, const std::string &) {
  return {};
}

Status Device::checkPointer(DevicePointer, const std::string &) { return {}; }

double Device::measureBandwidth() { return 0; }

bool targetRunsOn(const std::string &target, int major, int minor) {
  // The last digit is the minor number; an 'a' binds to one capability.
  int wanted = std::atoi(target.c_str() + 3), capability = 10 * major + minor;
  return target.back() == 'a' ? wanted == capability : wanted <= capability;
}

/// How often `tokens` tokens go into T, the last time in part; once for 0.
static int64_t countPieces(int64_t T, int64_t tokens) {
  return tokens == 0 ? 1 : T / tokens + (T % tokens != 0);
}

Expected<int64_t> countCtas(const KernelLaunch &launch, int64_t B, int64_t T,
                            int64_t H) {
  int64_t pieces = countPieces(T, launch.tokens), heads = 0, ctas = 0;
  // Without CTAs nothing is too many.
  if (B == 0 || H == 0 || pieces == 0)
    return int64_t(0);
  if (!__builtin_mul_overflow(B, H, &heads) &&
      !__builtin_mul_overflow(heads, pieces, &ctas) &&
      !__builtin_mul_overflow(ctas, launch.vBlocks, &ctas) && ctas <= kMaxGrid)
    return ctas;
  std::ostringstream what;
  what << "B=" << B << " and H=" << H << " with " << launch.vBlocks
       << " blocks of columns";
  if (launch.tokens)
    what << " for each " << launch.tokens << " of T=" << T << " tokens";
  return Status::error(what.str(),
                       " need more CTAs than a grid holds, which is ", kMaxGrid,
                       "; split the batch");
}

Expected<int64_t> workspaceBytes(const BundleKernel &kernel, int64_t B,
                                 int64_t T, int64_t H) {
  int64_t bytes = 0;
  for (const WorkspacePart &part : kernel.workspace) {
    int64_t factors[] = {part.bytes, part.ofB ? B : 1, part.ofH ? H : 1,
                         countPieces(T, part.tokens)};
    // A product with zero is zero, whatever the others are.
    bool overflows = false;
    int64_t product = 1;
    if (std::find(factors, factors + 4, 0) != factors + 4)
      continue;
    for (int64_t factor : factors)
      overflows |= __builtin_mul_overflow(product, factor, &product);
    if (overflows || __builtin_add_overflow(bytes, product, &bytes))
      return Status::error("the workspace of '", kernel.entry, "' with B=", B,
                           ", T=", T, " and H=", H, " is too large");
  }
  return bytes;
}

static std::string toHexAddress(DevicePointer pointer) {
  std::ostringstream os;
  os << "0x" << std::hex << pointer;
  return os.str();
}

Status launchGpuKernel(DeviceKernel &loaded, const BundleKernel &kernel,
                       const GpuArguments &arguments, void *stream) {
  // All grids are looked at before the first launch.
  std::vector<Grid> grids;
  bool any = false;
  for (const KernelLaunch &launch : kernel.launches) {
    Expected<int64_t> ctas =
        countCtas(launch, arguments.B, arguments.T, arguments.H);
    if (!ctas)
      return ctas.error();
    any |= *ctas > 0;
    grids.push_back({*ctas, launch.threads, launch.sharedBytes});
  }
  Expected<int64_t> bytes =
      workspaceBytes(kernel, arguments.B, arguments.T, arguments.H);
  if (!bytes)
    return bytes.error();
  if (!any)
    return {};
  std::vector<KernelParam> params;
  auto add = [&](const ArrayPointer &array, bool optional) -> Status {
    // Without tokens most arrays are empty, and an empty one is nowhere.
    if (!array.data && !optional && arguments.T > 0)
      return Status::error("array '", array.name, "' is missing");
    if (array.data % kGpuAlignment != 0)
      return Status::error(
          "array '", array.name, "' is at ", toHexAddress(array.data),
          ", which is no multiple of ", kGpuAlignment, " bytes");
    params.push_back(KernelParam::pointer(array.data));
    return {};
  };
  for (const std::vector<ArrayPointer> *list : {&arguments.in, &arguments.out})
    for (const ArrayPointer &array : *list)
      if (Status status = add(array, &array == &list->back()); !status.ok())
        return status;
  for (double attr : arguments.attrs)
    params.push_back(KernelParam::f32(attr));
  if (*bytes == 0)
    params.push_back(KernelParam::pointer(0));
  else if (Status status = add({arguments.workspace, "workspace"}, false);
           !status.ok())
    return status;
  for (int64_t size : {arguments.B, arguments.T, arguments.H})
    params.push_back(KernelParam::integer(size));
  for (size_t i = 0; i < grids.size(); ++i)
    if (grids[i].ctas > 0)
      if (Status status = loaded.launch(i, grids[i], params, stream);
          !status.ok())
        return status;
  return {};
}

//===----------------------------------------------------------------------===//
// DeviceRunner
//===----------------------------------------------------------------------===//

DeviceRunner::DeviceRunner(Device &device, const BundleKernel &kernel)
    : device(device), kernel(kernel) {}

Expected<std::unique_ptr<DeviceRunner>>
DeviceRunner::create(Device &device, const BundleKernel &kernel) {
  std::unique_ptr<DeviceRunner> runner(new DeviceRunner(device, kernel));
  Expected<std::unique_ptr<DeviceKernel>> loaded = device.load(kernel);
  if (!loaded)
    return loaded.error();
  runner->loaded = std::move(*loaded);
  return runner;
}

DeviceRunner::~DeviceRunner() {
  for (DevicePointer pointer : allocations)
    device.release(pointer);
}

Status DeviceRunner::begin(const Invocation &invocation) {
  for (const Part &part : invocation.parts()) {
    GpuArguments arguments;
    arguments.attrs = invocation.attrs();
    arguments.B = part.B;
    arguments.T = part.T;
    arguments.H = part.H;
    // A part of packed sequences need not begin at a multiple of 16 bytes, so
    // each has memory of its own.
    auto place = [&](const Part::Region &region,
                     bool copy) -> Expected<ArrayPointer> {
      const std::string &name = region.name;
      if (!region.data)
        return ArrayPointer{0, name};
      Expected<DevicePointer> pointer = device.allocate(region.bytes, name);
      if (!pointer)
        return pointer.error();
      allocations.push_back(*pointer);
      if (copy && region.bytes)
        if (Status status = device.copyIn(*pointer, region.data, region.bytes);
            !status.ok())
          return status;
      return ArrayPointer{*pointer, name};
    };
    for (const Part::Region &region : part.in) {
      Expected<ArrayPointer> array = place(region, true);
      if (!array)
        return array.error();
      arguments.in.push_back(std::move(*array));
    }
    for (const Part::Region &region : part.out) {
      Expected<ArrayPointer> array = place(region, false);
      if (!array)
        return array.error();
      arguments.out.push_back(std::move(*array));
    }
    Expected<int64_t> bytes = workspaceBytes(kernel, part.B, part.T, part.H);
    if (!bytes)
      return bytes.error();
    if (*bytes > 0) {
      Expected<DevicePointer> workspace = device.allocate(*bytes, "workspace");
      if (!workspace)
        return workspace.error();
      allocations.push_back(*workspace);
      arguments.workspace = *workspace;
    }
    launches.push_back(std::move(arguments));
  }
  return {};
}

Status DeviceRunner::enqueue() {
  for (const GpuArguments &arguments : launches)
    if (Status status = launchGpuKernel(*loaded, kernel, arguments, nullptr);
        !status.ok())
      return status;
  return {};
}

Status DeviceRunner::launch(const Invocation &) {
  if (Status status = enqueue(); !status.ok())
    return status;
  return device.synchronize(nullptr);
}

Expected<double> DeviceRunner::measure(const Invocation &) {
  return device.time([&] { return enqueue(); });
}

Status DeviceRunner::end(const Invocation &invocation) {
  for (size_t i = 0; i < launches.size(); ++i) {
    const Part &part = invocation.parts()[i];
    for (size_t j = 0; j < part.out.size(); ++j) {
      const Part::Region &region = part.out[j];
      const ArrayPointer &array = launches[i].out[j];
      if (!region.data || !region.bytes)
        continue;
      Status status = device.checkWritten(array.data, region.bytes, array.name);
      if (status.ok())
        status = device.copyOut(region.data, array.data, region.bytes);
      if (!status.ok())
        return status;
    }
  }
  return {};
}

} // namespace delta::runtime
