//===- DeviceRun.cpp - running on a GPU or simulator ----------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The share of --bench is the share of the device's copy bandwidth, measured
// beside the kernel; what its arithmetic could do at most is not known here.
//
//===----------------------------------------------------------------------===//

#include "DeviceRun.h"

#include <cerrno>
#include <cstdio>
#include <cstring>

namespace delta::run {

using runtime::Expected;
using runtime::Status;

std::unique_ptr<runtime::Device> openDevice(const RunOptions &options,
                                            Outcome &outcome) {
  if (options.device == DeviceKind::Sim)
    return runtime::openSimulator(options.threads);
  Expected<std::unique_ptr<runtime::Device>> device = runtime::openCudaDevice();
  if (device)
    return std::move(*device);
  outcome = {kAbsent, "--device=cuda: " + device.message()};
  return nullptr;
}

static Status bench(runtime::Device &device, runtime::DeviceRunner &runner,
                    const std::string &name, double flops,
                    const runtime::Invocation &invocation) {
  Expected<double> median = runtime::measureMedian(runner, invocation);
  if (!median)
    return median.error();
  double bytes = static_cast<double>(invocation.bytes());
  double bandwidth = device.measureBandwidth();
  std::string line = runtime::formatBench(
      name, *median, bytes, flops, bandwidth > 0 ? bytes / bandwidth : 0);
  if (std::printf("%s\n", line.c_str()) < 0 || std::fflush(stdout) != 0)
    return Status::error("cannot write '-': ", std::strerror(errno));
  return {};
}

static Status run(runtime::Device &device, const RunOptions &options,
                  const std::string &name, const runtime::BundleKernel &kernel,
                  double flops, const runtime::Invocation &invocation) {
  Expected<std::unique_ptr<runtime::DeviceRunner>> runner =
      runtime::DeviceRunner::create(device, kernel);
  if (!runner)
    return runner.error();
  if (Status status = (*runner)->begin(invocation); !status.ok())
    return status;
  if (Status status = (*runner)->launch(invocation); !status.ok())
    return status;
  if (options.bench)
    if (Status status = bench(device, **runner, name, flops, invocation);
        !status.ok())
      return status;
  return (*runner)->end(invocation);
}

Outcome runOnDevice(runtime::Device &device, const RunOptions &options,
                    const std::string &name,
                    const runtime::BundleKernel &kernel, double flops,
                    const runtime::Invocation &invocation) {
  Status status = run(device, options, name, kernel, flops, invocation);
  auto *simulator = options.device == DeviceKind::Sim
                        ? static_cast<runtime::SimulatedDevice *>(&device)
                        : nullptr;
  if (simulator && !options.stats.empty())
    if (Status written = simulator->writeStats(options.stats);
        !written.ok() && status.ok())
      status = written;
  if (status.ok())
    return {};
  if (!simulator || simulator->findings().empty())
    return {kFailure, status.message()};
  for (const std::string &finding : simulator->findings())
    std::fprintf(stderr, "%s\n", finding.c_str());
  if (uint64_t hidden = simulator->numHiddenFindings())
    std::fprintf(stderr, "%llu more findings are not shown\n",
                 static_cast<unsigned long long>(hidden));
  return {kFinding, status.message()};
}

} // namespace delta::run
