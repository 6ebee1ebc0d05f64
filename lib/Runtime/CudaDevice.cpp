//===- CudaDevice.cpp - GPUs through the CUDA driver ----------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Works in the device's primary context, which other libraries in the process
// share; it is made current for the length of a call only.
//
//===----------------------------------------------------------------------===//

#include "CudaDriver.h"
#include "delta/Runtime/Device.h"

#include <algorithm>

namespace delta::runtime {

namespace {

using cuda::Driver;

/// Makes a context current as long as it lives.
class Scope {
public:
  Scope(const Driver &driver, cuda::Context context) : driver(driver) {
    pushed = driver.cuCtxPushCurrent_v2(context) == 0;
  }
  ~Scope() {
    cuda::Context old;
    if (pushed)
      driver.cuCtxPopCurrent_v2(&old);
  }
  Scope(const Scope &) = delete;
  Scope &operator=(const Scope &) = delete;

private:
  const Driver &driver;
  bool pushed;
};

class CudaKernel final : public DeviceKernel {
public:
  CudaKernel(const Driver &driver, cuda::Context context, std::string name)
      : driver(driver), context(context), name(std::move(name)) {}
  ~CudaKernel() override {
    Scope scope(driver, context);
    if (module)
      driver.cuModuleUnload(module);
  }

  Status launch(size_t index, const Grid &grid,
                const std::vector<KernelParam> &params, void *stream) override {
    Scope scope(driver, context);
    std::vector<KernelParam> values = params;
    std::vector<void *> pointers;
    for (KernelParam &value : values)
      pointers.push_back(&value.bits);
    return driver.check(driver.cuLaunchKernel(
                            functions[index], static_cast<unsigned>(grid.ctas),
                            1, 1, static_cast<unsigned>(grid.threads), 1, 1,
                            static_cast<unsigned>(grid.sharedBytes), stream,
                            pointers.data(), nullptr),
                        "launching '" + name + "'");
  }

  const Driver &driver;
  cuda::Context context;
  std::string name;
  cuda::ModuleHandle module = nullptr;
  std::vector<cuda::Function> functions;
};

class CudaDevice final : public Device {
public:
  explicit CudaDevice(const Driver &driver) : driver(driver) {}
  ~CudaDevice() override {
    if (context)
      driver.cuDevicePrimaryCtxRelease_v2(id);
  }

  Status open(int index);

  std::string describe() const override {
    return name + " (compute capability " + std::to_string(major) + "." +
           std::to_string(minor) + ")";
  }
  Expected<std::string>
  chooseTarget(const std::vector<std::string> &targets) const override;
  Expected<DevicePointer> allocate(size_t bytes,
                                   const std::string &what) override;
  void release(DevicePointer pointer) override {
    Scope scope(driver, context);
    driver.cuMemFree_v2(pointer);
  }
  Status copyIn(DevicePointer to, const void *from, size_t bytes) override {
    Scope scope(driver, context);
    return driver.check(driver.cuMemcpyHtoD_v2(to, from, bytes),
                        "copying to the device");
  }
  Status copyOut(void *to, DevicePointer from, size_t bytes) override {
    Scope scope(driver, context);
    return driver.check(driver.cuMemcpyDtoH_v2(to, from, bytes),
                        "copying from the device");
  }
  Status checkPointer(DevicePointer pointer, const std::string &what) override;
  Expected<std::unique_ptr<DeviceKernel>>
  load(const BundleKernel &kernel) override;
  Status synchronize(void *stream) override {
    Scope scope(driver, context);
    return driver.check(driver.cuStreamSynchronize(stream),
                        "running the kernel");
  }
  Expected<double> time(const std::function<Status()> &launches) override;
  double measureBandwidth() override;

private:
  Status loadImage(const KernelImage &image, CudaKernel &loaded);
  Status findFunction(const KernelLaunch &launch, CudaKernel &loaded);

  const Driver &driver;
  cuda::DeviceId id = 0;
  int index = 0;
  cuda::Context context = nullptr;
  std::string name;
  int major = 0, minor = 0, maxShared = 0;
};

Status CudaDevice::open(int number) {
  index = number;
  int count = 0;
  Status status =
      driver.check(driver.cuDeviceGetCount(&count), "looking for CUDA devices");
  if (!status.ok())
    return status;
  if (count == 0)
    return Status::error("the CUDA driver finds no device");
  if (index < 0 || index >= count)
    return Status::error("there is no CUDA device ", index, "; the driver has ",
                         count);
  char text[256] = "";
  auto attribute = [&](int *value, int which) {
    if (status.ok())
      status = driver.check(driver.cuDeviceGetAttribute(value, which, id),
                            "asking CUDA device " + std::to_string(index));
  };
  status = driver.check(driver.cuDeviceGet(&id, index), "opening CUDA device");
  attribute(&major, cuda::kMajor);
  attribute(&minor, cuda::kMinor);
  attribute(&maxShared, cuda::kMaxSharedOptin);
  if (status.ok() && driver.cuDeviceGetName(text, sizeof(text) - 1, id) == 0)
    name = text;
  if (status.ok())
    status = driver.check(driver.cuDevicePrimaryCtxRetain(&context, id),
                          "making a context on CUDA device " +
                              std::to_string(index));
  return status;
}

Expected<std::string>
CudaDevice::chooseTarget(const std::vector<std::string> &targets) const {
  // The newest that runs; one made for exactly this capability is newest.
  std::string best, all;
  for (const std::string &target : targets) {
    if (target == "cpu")
      continue;
    all += (all.empty() ? "" : ", ") + target;
    if (targetRunsOn(target, major, minor) &&
        (best.empty() || best.size() < target.size() ||
         (best.size() == target.size() && best < target)))
      best = target;
  }
  if (!best.empty())
    return best;
  return Status::error("no kernel runs on ", describe(), "; there are ",
                       all.empty() ? "none for a GPU" : "kernels for " + all);
}

Expected<DevicePointer> CudaDevice::allocate(size_t bytes,
                                             const std::string &what) {
  Scope scope(driver, context);
  cuda::Address address = 0;
  // The driver has no empty allocations.
  Status status =
      driver.check(driver.cuMemAlloc_v2(&address, std::max<size_t>(bytes, 16)),
                   "allocating " + std::to_string(bytes) + " bytes for '" +
                       what + "' on " + name);
  if (!status.ok())
    return status;
  return static_cast<DevicePointer>(address);
}

Status CudaDevice::checkPointer(DevicePointer pointer,
                                const std::string &what) {
  Scope scope(driver, context);
  unsigned type = 0;
  int ordinal = -1;
  if (driver.cuPointerGetAttribute(&type, cuda::kPointerMemoryType, pointer) !=
          0 ||
      type != cuda::kMemoryDevice)
    return Status::error("array '", what,
                         "' is not in the memory of a CUDA "
                         "device; the kernel runs on device ",
                         index, ", ", name);
  if (driver.cuPointerGetAttribute(&ordinal, cuda::kPointerDeviceOrdinal,
                                   pointer) == 0 &&
      ordinal != index)
    return Status::error("array '", what, "' is on CUDA device ", ordinal,
                         ", and the kernel runs on device ", index);
  return {};
}

Status CudaDevice::loadImage(const KernelImage &image, CudaKernel &loaded) {
  std::string log(8192, '\0');
  int options[] = {cuda::kJitErrorLog, cuda::kJitErrorLogSize};
  void *values[] = {log.data(), reinterpret_cast<void *>(log.size())};
  // PTX is text that ends with a zero; std::string has one behind its end.
  Status status =
      driver.check(driver.cuModuleLoadDataEx(
                       &loaded.module, image.bytes.c_str(), 2, options, values),
                   std::string("loading the ") + nameOf(image.format) +
                       " of '" + loaded.name + "' on " + describe());
  if (status.ok())
    return status;
  loaded.module = nullptr;
  log.resize(std::min(log.find('\0'), log.size()));
  while (!log.empty() && (log.back() == '\n' || log.back() == ' '))
    log.pop_back();
  return log.empty() ? status : Status::error(status.message(), ":\n", log);
}

/// One kernel of a loaded module, ready to be launched.
Status CudaDevice::findFunction(const KernelLaunch &launch,
                                CudaKernel &loaded) {
  cuda::Function &function = loaded.functions.emplace_back(nullptr);
  Status status =
      driver.check(driver.cuModuleGetFunction(&function, loaded.module,
                                              launch.entry.c_str()),
                   "looking for kernel '" + launch.entry + "'");
  // More than 48 KiB must be asked for.
  if (status.ok() && launch.sharedBytes > 0)
    status = driver.check(
        driver.cuFuncSetAttribute(function, cuda::kFunctionMaxDynamicShared,
                                  static_cast<int>(launch.sharedBytes)),
        "asking for " + std::to_string(launch.sharedBytes) +
            " bytes of shared memory for '" + launch.entry + "'");
  int maxThreads = 0;
  if (status.ok())
    status = driver.check(driver.cuFuncGetAttribute(
                              &maxThreads, cuda::kFunctionMaxThreads, function),
                          "asking about kernel '" + launch.entry + "'");
  if (status.ok() && launch.threads > maxThreads)
    status = Status::error("kernel '", launch.entry, "' has ", launch.threads,
                           " threads in a CTA, and its registers allow ",
                           maxThreads, " on ", describe());
  return status;
}

Expected<std::unique_ptr<DeviceKernel>>
CudaDevice::load(const BundleKernel &kernel) {
  if (kernel.isCpu() || !targetRunsOn(kernel.target, major, minor))
    return Status::error("kernel '", kernel.entry, "' was made for ",
                         kernel.target, ", which does not run on ", describe());
  for (const KernelLaunch &launch : kernel.launches)
    if (launch.sharedBytes > maxShared)
      return Status::error("kernel '", launch.entry, "' needs ",
                           launch.sharedBytes,
                           " bytes of shared memory in a CTA, and ", describe(),
                           " has ", maxShared);
  Scope scope(driver, context);
  auto loaded = std::make_unique<CudaKernel>(driver, context, kernel.entry);
  // A cubin is for one major capability, PTX for all later ones.
  bool sameMajor = std::atoi(kernel.target.c_str() + 3) / 10 == major;
  const KernelImage *cubin = kernel.find(KernelImage::Cubin);
  const KernelImage *ptx = kernel.find(KernelImage::Ptx);
  Status status;
  if (cubin && sameMajor)
    status = loadImage(*cubin, *loaded);
  // A driver older than the assembler refuses a cubin, and may know the PTX.
  if (ptx && !loaded->module)
    status = loadImage(*ptx, *loaded);
  else if (!cubin || !sameMajor)
    status = Status::error("kernel '", kernel.entry, "' for ", kernel.target,
                           " has no PTX, which ", describe(), " needs");
  for (const KernelLaunch &launch : kernel.launches)
    if (status.ok())
      status = findFunction(launch, *loaded);
  if (!status.ok())
    return status;
  return std::unique_ptr<DeviceKernel>(std::move(loaded));
}

Expected<double> CudaDevice::time(const std::function<Status()> &launches) {
  Scope scope(driver, context);
  struct Events {
    const Driver &driver;
    cuda::Event begin = nullptr, end = nullptr;
    ~Events() {
      for (cuda::Event event : {begin, end})
        if (event)
          driver.cuEventDestroy_v2(event);
    }
  } events{driver};
  auto check = [&](cuda::Result result) {
    return driver.check(result, "timing with events");
  };
  Status status = check(driver.cuEventCreate(&events.begin, 0));
  if (status.ok())
    status = check(driver.cuEventCreate(&events.end, 0));
  if (status.ok())
    status = check(driver.cuEventRecord(events.begin, nullptr));
  if (status.ok())
    status = launches();
  if (status.ok())
    status = check(driver.cuEventRecord(events.end, nullptr));
  if (status.ok())
    status = driver.check(driver.cuEventSynchronize(events.end),
                          "running the kernel");
  float milliseconds = 0;
  if (status.ok())
    status = check(
        driver.cuEventElapsedTime(&milliseconds, events.begin, events.end));
  if (!status.ok())
    return status;
  return milliseconds * 1e-3;
}

double CudaDevice::measureBandwidth() {
  // Far more than the caches hold.
  constexpr size_t kBytes = size_t(1) << 29;
  Expected<DevicePointer> from = allocate(kBytes, "copy");
  Expected<DevicePointer> to = allocate(kBytes, "copy");
  double best = 0;
  for (int round = 0; from && to && round < 5; ++round) {
    Expected<double> seconds = time([&] {
      return driver.check(
          driver.cuMemcpyDtoDAsync_v2(*to, *from, kBytes, nullptr), "copying");
    });
    if (seconds && *seconds > 0)
      best = std::max(best, 2.0 * kBytes / *seconds);
  }
  for (Expected<DevicePointer> *pointer : {&from, &to})
    if (*pointer)
      release(**pointer);
  return best;
}

} // namespace

Expected<std::unique_ptr<Device>> openCudaDevice(int index) {
  Expected<const Driver *> driver = Driver::get();
  if (!driver)
    return driver.error();
  auto device = std::make_unique<CudaDevice>(**driver);
  if (Status status = device->open(index); !status.ok())
    return status;
  return std::unique_ptr<Device>(std::move(device));
}

} // namespace delta::runtime
