//===- SimulatedDevice.cpp - the simulator as a device --------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The simulator's memory knows which bytes were written, so that an out that a
// kernel leaves unwritten is a finding, too.
//
//===----------------------------------------------------------------------===//

#include "delta/Runtime/Device.h"
#include "delta/Simulator/Launch.h"

#include <algorithm>
#include <map>

namespace delta::runtime {

namespace {

/// Shared memory that a CTA may have at most.
uint32_t sharedLimit(const std::string &target) {
  int capability = std::atoi(target.c_str() + 3);
  if (capability >= 90)
    return 227 * 1024;
  return (capability == 80 || capability == 87 ? 163 : 99) * 1024;
}

class Simulator;

class SimulatedKernel final : public DeviceKernel {
public:
  SimulatedKernel(Simulator &simulator, sim::Module module,
                  const BundleKernel &kernel)
      : simulator(simulator), module(std::move(module)), target(kernel.target) {
    for (const KernelLaunch &launch : kernel.launches)
      names.push_back(launch.entry);
  }

  Status launch(size_t index, const Grid &grid,
                const std::vector<KernelParam> &params, void *stream) override;

private:
  Simulator &simulator;
  sim::Module module;
  std::string target;
  std::vector<std::string> names;
};

class Simulator final : public SimulatedDevice {
public:
  explicit Simulator(unsigned threads) : threads(threads) {}

  std::string describe() const override { return "the simulator"; }

  Expected<std::string>
  chooseTarget(const std::vector<std::string> &targets) const override {
    std::string best;
    for (const std::string &target : targets)
      if (target != "cpu" && (best.empty() || best.size() < target.size() ||
                              (best.size() == target.size() && best < target)))
        best = target;
    if (best.empty())
      return Status::error("there is no kernel for a GPU, and the simulator "
                           "runs no other");
    return best;
  }

  Expected<DevicePointer> allocate(size_t bytes,
                                   const std::string &name) override {
    // As the CUDA driver does, so that sectors are counted as on a card.
    return memory.allocate(bytes, 256, name);
  }
  // Addresses are never used again, so that stale ones are found.
  void release(DevicePointer) override {}
  Status copyIn(DevicePointer to, const void *from, size_t bytes) override {
    return memory.write(to, from, bytes);
  }
  Status copyOut(void *to, DevicePointer from, size_t bytes) override {
    return memory.read(from, to, bytes);
  }

  Status checkWritten(DevicePointer pointer, size_t bytes,
                      const std::string &name) override {
    std::optional<uint64_t> offset = memory.firstUninitialized(pointer, bytes);
    if (!offset)
      return {};
    std::ostringstream text;
    text << "the kernel left byte " << *offset << " of the " << bytes
         << " bytes of '" << name << "' unwritten";
    texts.push_back(text.str());
    return Status::error("the simulator found a fault");
  }

  Status checkPointer(DevicePointer pointer, const std::string &name) override {
    const sim::Memory::Allocation *allocation = memory.find(pointer);
    if (allocation && pointer - allocation->base <= allocation->bytes)
      return {};
    return Status::error("array '", name,
                         "' is not in the memory of the simulator that the "
                         "kernel runs in");
  }

  Expected<std::unique_ptr<DeviceKernel>>
  load(const BundleKernel &kernel) override {
    const KernelImage *ptx = kernel.find(KernelImage::Ptx);
    if (!ptx)
      return Status::error("kernel '", kernel.entry, "' for ", kernel.target,
                           " has no PTX, which the simulator runs");
    Expected<sim::Module> module =
        sim::Module::parse(ptx->bytes, kernel.entry + ".ptx");
    if (!module)
      return Status::error("the simulator does not know all of the PTX\n",
                           module.message());
    for (const KernelLaunch &launch : kernel.launches)
      if (!module->findKernel(launch.entry))
        return Status::error("the PTX has no kernel '", launch.entry, "'");
    return std::unique_ptr<DeviceKernel>(
        new SimulatedKernel(*this, std::move(*module), kernel));
  }

  Status synchronize(void *) override { return {}; }
  Expected<double> time(const std::function<Status()> &) override {
    return Status::error("the simulator has no clock");
  }

  const std::deque<std::string> &findings() const override { return texts; }
  uint64_t numHiddenFindings() const override { return hidden; }
  Status writeStats(const std::string &path) const override {
    return sim::writeStats(path, stats);
  }

private:
  friend class SimulatedKernel;

  unsigned threads;
  sim::Memory memory;
  std::deque<std::string> texts;
  uint64_t hidden = 0;
  std::vector<sim::Stats> stats;
};

Status SimulatedKernel::launch(size_t index, const Grid &grid,
                               const std::vector<KernelParam> &params, void *) {
  const std::string &name = names[index];
  sim::Params values;
  for (const KernelParam &param : params) {
    if (param.bytes == 4)
      values.add(static_cast<uint32_t>(param.bits));
    else
      values.add(param.bits);
  }
  sim::LaunchOptions options;
  options.threads = simulator.threads;
  options.maxSharedBytes = sharedLimit(target);
  sim::Dim3 ctas, block;
  ctas.x = static_cast<uint32_t>(grid.ctas);
  block.x = static_cast<uint32_t>(grid.threads);
  Expected<sim::LaunchResult> result = sim::launch(
      module, name, ctas, block, static_cast<uint32_t>(grid.sharedBytes),
      values, simulator.memory, options);
  if (!result)
    return Status::error("the simulator cannot launch '", name,
                         "': ", result.message());
  simulator.stats.push_back(result->stats);
  uint64_t shown = 0;
  for (const sim::Finding &finding : result->findings) {
    simulator.texts.push_back(sim::format(finding, module.name()));
    shown += finding.occurrences;
  }
  if (result->totalFindings > shown)
    simulator.hidden += result->totalFindings - shown;
  if (result->totalFindings == 0)
    return {};
  return Status::error("the simulator found ",
                       result->totalFindings == 1 ? "a fault" : "faults",
                       " in '", name, "'");
}

} // namespace

std::unique_ptr<SimulatedDevice> openSimulator(unsigned threads) {
  return std::make_unique<Simulator>(threads);
}

} // namespace delta::runtime
