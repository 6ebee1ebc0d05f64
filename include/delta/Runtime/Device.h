//===- Device.h - what GPU kernels run on ----------------------*- C++ -*--===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// An abstract device: memory, loaded kernels, launches, time. It is a CUDA GPU
// through the driver's interface, or the simulator; nothing here needs CUDA to
// be installed.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_RUNTIME_DEVICE_H
#define DELTA_RUNTIME_DEVICE_H

#include "delta/Runtime/Bundle.h"
#include "delta/Runtime/Invocation.h"

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

namespace delta::runtime {

/// An address in a device's memory; 0 is none.
using DevicePointer = uint64_t;

/// One parameter of a kernel: the bits of a value of 4 or 8 bytes.
struct KernelParam {
  uint64_t bits = 0;
  unsigned bytes = 8;

  static KernelParam pointer(DevicePointer value) { return {value, 8}; }
  static KernelParam integer(int64_t value) {
    return {static_cast<uint64_t>(value), 8};
  }
  static KernelParam f32(double value);
};

/// A launch along x.
struct Grid {
  int64_t ctas = 0;
  int64_t threads = 0;     ///< of a CTA
  int64_t sharedBytes = 0; ///< dynamic, of a CTA
};

/// A function, of one kernel or several, that a device has loaded. Used by one
/// thread at a time; the device must outlive it.
class DeviceKernel {
public:
  virtual ~DeviceKernel();

  /// Launches kernel `index` on `stream`, a CUstream of the caller (null: the
  /// default one).
  virtual Status launch(size_t index, const Grid &grid,
                        const std::vector<KernelParam> &params,
                        void *stream) = 0;
};

class Device {
public:
  virtual ~Device();

  /// "NVIDIA H200 (compute capability 9.0)", "simulator".
  virtual std::string describe() const = 0;
  /// The target among `targets` whose kernels suit this device best; an error
  /// says why none does.
  virtual Expected<std::string>
  chooseTarget(const std::vector<std::string> &targets) const = 0;

  /// Makes `bytes` of memory (0 is fine) whose address is a multiple of 16;
  /// `name` is for messages.
  virtual Expected<DevicePointer> allocate(size_t bytes,
                                           const std::string &name) = 0;
  virtual void release(DevicePointer pointer) = 0;
  virtual Status copyIn(DevicePointer to, const void *from, size_t bytes) = 0;
  virtual Status copyOut(void *to, DevicePointer from, size_t bytes) = 0;

  /// Verifies that memory written by kernels is complete, where the device can
  /// tell. `name` is what it holds.
  virtual Status checkWritten(DevicePointer pointer, size_t bytes,
                              const std::string &name);
  /// Verifies that a pointer of a caller lies in this device's memory, where
  /// the device can tell.
  virtual Status checkPointer(DevicePointer pointer, const std::string &name);

  /// Loads the kernels of a function for a GPU. The error has the words of the
  /// driver's assembler, or says which device the kernel needs.
  virtual Expected<std::unique_ptr<DeviceKernel>>
  load(const BundleKernel &kernel) = 0;

  /// Waits for all launches on `stream`.
  virtual Status synchronize(void *stream) = 0;
  /// The seconds between two points of the default stream, which `launches`
  /// lie between; an error where there is no time.
  virtual Expected<double> time(const std::function<Status()> &launches) = 0;
  /// Bytes per second that a copy in the device's memory reads and writes; 0
  /// when that cannot be measured.
  virtual double measureBandwidth();
};

/// Device number `index` of the CUDA driver. An error when there is no driver
/// or no such device: every other failure comes later.
Expected<std::unique_ptr<Device>> openCudaDevice(int index = 0);

/// The simulator of PTX as a device. What it finds fails the launch that it is
/// found in.
class SimulatedDevice : public Device {
public:
  /// Faults found so far, each with its place in the PTX and in the grid. A
  /// text stays where it is.
  virtual const std::deque<std::string> &findings() const = 0;
  /// How many more there were that were not kept.
  virtual uint64_t numHiddenFindings() const = 0;
  /// Writes the counters of every launch as JSON.
  virtual Status writeStats(const std::string &path) const = 0;
};

/// A simulator whose launches use `threads` threads; 0: all there are.
std::unique_ptr<SimulatedDevice> openSimulator(unsigned threads = 0);

/// Whether kernels of `target` run on a GPU of compute capability
/// major.minor: "sm_90a" on 9.0 alone, "sm_80" on 8.0 and later.
bool targetRunsOn(const std::string &target, int major, int minor);

/// One array of a launch.
struct ArrayPointer {
  DevicePointer data = 0; ///< 0: absent, or not wanted
  std::string name;       ///< for messages
};

/// The arguments of one call of a function on a GPU, in the device's memory.
struct GpuArguments {
  std::vector<ArrayPointer> in;  ///< ins and params, then the initial state
  std::vector<ArrayPointer> out; ///< outs, then the final state
  std::vector<double> attrs;
  int64_t B = 0, T = 0, H = 0;
  DevicePointer workspace = 0;
};

/// CTAs of a launch; an error when there are more than a grid holds.
Expected<int64_t> countCtas(const KernelLaunch &launch, int64_t B, int64_t T,
                            int64_t H);

/// Bytes of workspace that a call needs.
Expected<int64_t> workspaceBytes(const BundleKernel &kernel, int64_t B,
                                 int64_t T, int64_t H);

/// Verifies the arguments (alignment, workspace, the grids' sizes) and launches
/// the function's kernels one after the other; those without CTAs are left out.
Status launchGpuKernel(DeviceKernel &loaded, const BundleKernel &kernel,
                       const GpuArguments &arguments, void *stream);

/// Runs a GPU kernel on the arrays of an invocation.
class DeviceRunner final : public Runner {
public:
  /// `device` and `kernel` must outlive the runner.
  static Expected<std::unique_ptr<DeviceRunner>>
  create(Device &device, const BundleKernel &kernel);
  ~DeviceRunner() override;

  Status begin(const Invocation &invocation) override;
  Status launch(const Invocation &invocation) override;
  Expected<double> measure(const Invocation &invocation) override;
  Status end(const Invocation &invocation) override;

private:
  DeviceRunner(Device &device, const BundleKernel &kernel);
  Status enqueue();

  Device &device;
  const BundleKernel &kernel;
  std::unique_ptr<DeviceKernel> loaded;
  std::vector<GpuArguments> launches;
  std::vector<DevicePointer> allocations;
};

} // namespace delta::runtime

#endif // DELTA_RUNTIME_DEVICE_H
