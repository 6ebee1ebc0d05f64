//===- Launch.cpp - executing kernels in the simulator --------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Checks a launch, sets CTAs up, spreads them over host threads and merges what
// they found and counted in the order of CTAs.
//
//===----------------------------------------------------------------------===//

#include "delta/Simulator/Launch.h"
#include "Machine.h"
#include "WarpOps.h"
#include "delta/Runtime/Suggest.h"
#include "delta/Runtime/ThreadPool.h"

#include <algorithm>
#include <sstream>

namespace delta::sim {

using runtime::Expected;
using runtime::Status;

const char *nameOf(FindingKind kind) {
  switch (kind) {
  case FindingKind::OutOfBounds:
    return "out-of-bounds";
  case FindingKind::Misaligned:
    return "misaligned";
  case FindingKind::UninitializedMemory:
    return "uninitialized-memory";
  case FindingKind::UninitializedRegister:
    return "uninitialized-register";
  case FindingKind::SharedRace:
    return "shared-race";
  case FindingKind::GlobalRace:
    return "global-race";
  case FindingKind::AsyncCopy:
    return "async-copy";
  case FindingKind::BarrierDivergence:
    return "barrier-divergence";
  case FindingKind::WarpDivergence:
    return "warp-divergence";
  case FindingKind::InvalidOperand:
    return "invalid-operand";
  case FindingKind::Trap:
    return "trap";
  case FindingKind::StepLimit:
    return "step-limit";
  }
  return "";
}

std::string format(const Finding &finding, std::string_view file) {
  std::ostringstream os;
  os << file;
  if (finding.line)
    os << ':' << finding.line;
  os << ": error: " << nameOf(finding.kind) << ": " << finding.text << " (cta "
     << finding.cta[0] << ',' << finding.cta[1] << ',' << finding.cta[2]
     << " warp " << finding.warp;
  if (finding.lane >= 0)
    os << " lane " << finding.lane;
  if (finding.occurrences > 1)
    os << "; " << finding.occurrences << " times";
  os << ')';
  return os.str();
}

// --- Setting up a CTA --------------------------------------------------------

namespace {

uint64_t specialValue(const Cta &cta, Special special, uint32_t thread) {
  const LaunchState &launch = *cta.launch;
  uint32_t lane = thread % kLanes;
  const Dim3 &block = launch.block;
  switch (special) {
  case Special::TidX:
    return thread % block.x;
  case Special::TidY:
    return thread / block.x % block.y;
  case Special::TidZ:
    return thread / block.x / block.y;
  case Special::NtidX:
    return block.x;
  case Special::NtidY:
    return block.y;
  case Special::NtidZ:
    return block.z;
  case Special::CtaidX:
    return cta.id[0];
  case Special::CtaidY:
    return cta.id[1];
  case Special::CtaidZ:
    return cta.id[2];
  case Special::NctaidX:
    return launch.grid.x;
  case Special::NctaidY:
    return launch.grid.y;
  case Special::NctaidZ:
    return launch.grid.z;
  case Special::LaneId:
    return lane;
  case Special::WarpId:
    return thread / kLanes;
  case Special::NwarpId:
    return cta.warps.size();
  case Special::LanemaskEq:
    return 1u << lane;
  case Special::LanemaskLt:
    return (1u << lane) - 1;
  case Special::LanemaskLe:
    return (uint64_t(2) << lane) - 1;
  case Special::LanemaskGt:
    return uint32_t(~((uint64_t(2) << lane) - 1));
  case Special::LanemaskGe:
    return ~((1u << lane) - 1);
  case Special::SmId:
    return cta.linear % 132;
  case Special::NsmId:
    return 132;
  case Special::GridId:
    return 1;
  case Special::DynamicSharedBytes:
    return launch.dynamicSharedBytes;
  case Special::TotalSharedBytes:
    return cta.sharedBytes;
  case Special::Zero:
    return 0;
  }
  return 0;
}

void fillSlot(Warp &warp, uint32_t slot, bool wide, uint64_t value) {
  for (uint32_t lane = 0; lane < kLanes; ++lane)
    if (wide)
      warp.r64(slot)[lane] = value;
    else
      warp.r32(slot)[lane] = uint32_t(value);
}

} // namespace

void Cta::start(uint64_t number) {
  linear = number;
  const Dim3 &grid = launch->grid;
  id = {uint32_t(number % grid.x), uint32_t(number / grid.x % grid.y),
        uint32_t(number / grid.x / grid.y)};
  failed = false;
  steps = 0;
  findings.clear();
  findingIndex.clear();
  barriers.fill(Barrier());
  uint32_t threads = uint32_t(launch->block.count());
  unsigned numWarps = (threads + kLanes - 1) / kLanes;
  bool first = warps.empty();
  warps.resize(numWarps);
  std::fill(shared.begin(), shared.end(), 0);
  shadow.reset(sharedBytes, numWarps, launch->options.checkRaces,
               launch->options.checkUninitialized);
  for (unsigned w = 0; w < numWarps; ++w) {
    Warp &warp = warps[w];
    if (first) {
      warp.index = w;
      warp.cta = this;
      warp.registerStorage.resize(program->registerBytes + 64);
      warp.predicateStorage.resize(program->numPredicates);
      uintptr_t at = reinterpret_cast<uintptr_t>(warp.registerStorage.data());
      warp.registers = warp.registerStorage.data() + ((64 - at % 64) % 64);
      warp.predicates = warp.predicateStorage.data();
      warp.local.resize(size_t(program->localBytes) * kLanes);
      warp.localShadow.resize(warp.local.size());
    }
    // What nobody wrote reads the same on every run.
    if (program->mayReadUnset || first) {
      std::fill(warp.registerStorage.begin(), warp.registerStorage.end(), 0);
      std::fill(warp.predicateStorage.begin(), warp.predicateStorage.end(), 0);
    }
    std::fill(warp.local.begin(), warp.local.end(), 0);
    std::fill(warp.localShadow.begin(), warp.localShadow.end(), 0);
    warp.initialized.assign(program->tracked.size(), 0);
    warp.predicates[0] = 0;
    warp.predicates[1] = UINT32_MAX;
    warp.pc = 0;
    uint32_t lanes = std::min(threads - w * kLanes, kLanes);
    warp.live = warp.active = lanes == kLanes ? kFullMask : (1u << lanes) - 1;
    warp.reconverge = kNone;
    warp.status = Warp::Ready;
    warp.carry = 0;
    warp.steps = 0;
    warp.stack.clear();
    warp.copies.clear();
    warp.committed.fill(0);
    for (const ConstantSlot &constant : program->constants) {
      uint64_t value = constant.bits;
      if (constant.globalVariable != kNone)
        value += launch->globalAddresses[constant.globalVariable];
      fillSlot(warp, constant.slot, constant.wide, value);
    }
    for (const SpecialSlot &special : program->specials)
      for (uint32_t lane = 0; lane < kLanes; ++lane) {
        uint64_t value =
            specialValue(*this, special.special, w * kLanes + lane);
        if (special.wide)
          warp.r64(special.slot)[lane] = value;
        else
          warp.r32(special.slot)[lane] = uint32_t(value);
      }
  }
}

// --- The launch --------------------------------------------------------------

namespace {

Status checkShape(const KernelInfo &info, Dim3 grid, Dim3 block) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > INT32_MAX ||
      grid.y > 65535 || grid.z > 65535)
    return Status::error("a grid of ", grid.x, " x ", grid.y, " x ", grid.z,
                         " is not possible: the limits are 1 to 2147483647, "
                         "65535, 65535");
  if (block.x == 0 || block.y == 0 || block.z == 0 || block.x > 1024 ||
      block.y > 1024 || block.z > 64 || block.count() > 1024)
    return Status::error("a block of ", block.x, " x ", block.y, " x ", block.z,
                         " is not possible: the limits are 1 to 1024, 1024, "
                         "64, and 1024 threads in all");
  const uint32_t *most = info.maxThreads, *exact = info.requiredThreads;
  if (most[0]) {
    uint64_t threads = uint64_t(most[0]) * most[1] * most[2];
    if (block.count() > threads)
      return Status::error("kernel '", info.name, "' was compiled for at most ",
                           threads, " threads (.maxntid), but the block has ",
                           block.count());
  }
  if (exact[0] &&
      (block.x != exact[0] || block.y != exact[1] || block.z != exact[2]))
    return Status::error("kernel '", info.name, "' requires a block of ",
                         exact[0], " x ", exact[1], " x ", exact[2],
                         " (.reqntid), but it is ", block.x, " x ", block.y,
                         " x ", block.z);
  return Status();
}

Status layOutParams(const KernelProgram &program, const Params &params,
                    std::vector<uint8_t> &bytes) {
  const KernelInfo &info = program.info;
  if (params.values.size() != info.params.size())
    return Status::error("kernel '", info.name, "' has ", info.params.size(),
                         " parameters, but ", params.values.size(),
                         " were given");
  bytes.assign(program.paramBytes + 16, 0);
  for (size_t i = 0; i < params.values.size(); ++i) {
    const std::vector<uint8_t> &value = params.values[i];
    if (value.size() != info.params[i].bytes)
      return Status::error("parameter ", i, " of kernel '", info.name, "' ('",
                           info.params[i].name, "', .", info.params[i].type,
                           ") has ", info.params[i].bytes, " bytes, but ",
                           value.size(), " were given");
    std::copy(value.begin(), value.end(),
              bytes.begin() + program.paramOffsets[i]);
  }
  return Status();
}

/// Puts the module's variables into memory, at its first launch.
Status placeVariables(const Program &module, const KernelProgram &program,
                      Memory &memory, std::vector<uint64_t> &addresses) {
  bool needed = false;
  for (const ConstantSlot &constant : program.constants)
    needed |= constant.globalVariable != kNone;
  if (!needed)
    return Status();
  std::vector<DeviceAddress> &placed = memory.variables[&module];
  const std::vector<ptx::Variable> &variables = module.file->variables;
  if (!placed.empty()) {
    addresses = placed;
    return Status();
  }
  std::map<std::string, uint64_t> byName;
  addresses.assign(variables.size(), 0);
  for (size_t i = 0; i < variables.size(); ++i) {
    const ptx::Variable &v = variables[i];
    if (v.space != ptx::Space::Global && v.space != ptx::Space::Const)
      continue;
    Expected<DeviceAddress> address =
        memory.allocate(v.bytes, std::max<uint64_t>(v.alignment, 16), v.name);
    if (!address)
      return address.error();
    addresses[i] = *address;
    byName[v.name] = *address;
  }
  for (size_t i = 0; i < variables.size(); ++i) {
    if (!addresses[i])
      continue;
    const ptx::Variable &v = variables[i];
    // Variables without a value are zeros.
    std::vector<uint8_t> initial = v.initial;
    initial.resize(v.bytes);
    for (const auto &[offset, name] : v.relocations) {
      auto it = byName.find(name);
      if (it == byName.end())
        return Status::error("the initial value of '", v.name,
                             "' names the unknown variable '", name, "'");
      uint64_t value;
      std::memcpy(&value, initial.data() + offset, sizeof value);
      value += it->second;
      std::memcpy(initial.data() + offset, &value, sizeof value);
    }
    if (Status status = memory.write(addresses[i], initial.data(), v.bytes);
        !status.ok())
      return status;
    if (v.space == ptx::Space::Const)
      memory.find(addresses[i])->readOnly = true;
  }
  placed = addresses;
  return Status();
}

/// What one host thread gathers.
struct Worker {
  Stats stats;
  std::vector<uint64_t> counts;
  std::vector<Finding> findings;
  std::map<std::pair<unsigned, int>, size_t> index;
  uint64_t total = 0;

  void add(const Finding &finding, size_t limit) {
    total += finding.occurrences;
    auto key = std::make_pair(finding.line, static_cast<int>(finding.kind));
    auto it = index.find(key);
    if (it != index.end()) {
      findings[it->second].occurrences += finding.occurrences;
      return;
    }
    if (findings.size() >= limit)
      return;
    index[key] = findings.size();
    findings.push_back(finding);
  }
};

} // namespace

Expected<LaunchResult> launch(const Module &module, std::string_view kernel,
                              Dim3 grid, Dim3 block,
                              uint32_t dynamicSharedBytes, const Params &params,
                              Memory &memory, const LaunchOptions &options) {
  const KernelProgram *program = nullptr;
  std::vector<std::string> names;
  for (const KernelProgram &candidate : module.program().kernels) {
    names.push_back(candidate.info.name);
    if (candidate.info.name == kernel)
      program = &candidate;
  }
  if (!program)
    return Status::error("'", module.name(), "' has no kernel '", kernel, "'",
                         runtime::didYouMean(kernel, names));
  if (Status status = checkShape(program->info, grid, block); !status.ok())
    return status;
  LaunchState state;
  state.module = &module.program();
  state.program = program;
  state.memory = &memory;
  state.grid = grid;
  state.block = block;
  state.dynamicSharedBytes = dynamicSharedBytes;
  state.options = options;
  uint64_t shared =
      dynamicSharedBytes
          ? uint64_t(program->dynamicSharedOffset) + dynamicSharedBytes
          : program->info.staticSharedBytes;
  if (shared > options.maxSharedBytes)
    return Status::error("kernel '", program->info.name, "' needs ", shared,
                         " bytes of shared memory; a CTA has at most ",
                         options.maxSharedBytes);
  if (Status status = layOutParams(*program, params, state.params);
      !status.ok())
    return status;
  if (Status status = placeVariables(module.program(), *program, memory,
                                     state.globalAddresses);
      !status.ok())
    return status;

  uint64_t ctas = grid.count();
  if (options.checkRaces && ctas > 1)
    state.writers.reset(memory);
  // Atomics on global memory have an order, which must be the same every time.
  unsigned threads = program->globalAtomics ? 1 : options.threads;
  if (threads == 0)
    threads = runtime::availableThreads();
  threads = unsigned(std::min<uint64_t>(threads, ctas));
  runtime::ThreadPool pool(threads);
  std::vector<Worker> workers(pool.numThreads());
  size_t limit = std::max(1u, options.maxFindings);
  pool.parallelFor(int64_t(ctas),
                   [&](int64_t begin, int64_t end, unsigned thread) {
                     Worker &worker = workers[thread];
                     worker.counts.assign(program->code.size(), 0);
                     Cta cta;
                     cta.launch = &state;
                     cta.program = program;
                     cta.sharedBytes = uint32_t(shared);
                     cta.shared.resize((shared + 15) / 16 * 16);
                     cta.stats = &worker.stats;
                     cta.counts = worker.counts.data();
                     for (int64_t i = begin; i < end; ++i) {
                       cta.start(uint64_t(i));
                       cta.run();
                       for (const Finding &finding : cta.findings)
                         worker.add(finding, limit);
                     }
                   });

  LaunchResult result;
  Stats &stats = result.stats;
  Worker merged;
  for (const Worker &worker : workers) {
    stats.add(worker.stats);
    uint64_t counted = 0;
    for (const Finding &finding : worker.findings) {
      merged.add(finding, limit);
      counted += finding.occurrences;
    }
    merged.total += worker.total - counted;
    for (size_t pc = 0; pc < worker.counts.size(); ++pc) {
      const Inst &inst = program->code[pc];
      stats.instructions += worker.counts[pc];
      stats.byClass[size_t(inst.cls)] += worker.counts[pc];
      stats.mmaFlops += worker.counts[pc] * inst.flops;
    }
  }
  state.writers.conflicts([&](const Memory::Allocation &allocation,
                              uint64_t offset, uint64_t cta, uint32_t pc,
                              uint64_t count) {
    Finding finding;
    finding.kind = FindingKind::GlobalRace;
    finding.line = program->code[pc].line;
    finding.cta = {uint32_t(cta % grid.x), uint32_t(cta / grid.x % grid.y),
                   uint32_t(cta / grid.x / grid.y)};
    finding.text = std::string(program->opcodes[pc]) + " writes offset " +
                   std::to_string(offset) + " of '" + allocation.name +
                   "', which another CTA writes too (" +
                   std::to_string(2 * count) + " bytes in all)";
    merged.add(finding, limit);
  });
  for (size_t pc = 0; pc < program->code.size(); ++pc)
    if (program->code[pc].run == ops::barrier)
      for (const Worker &worker : workers)
        if (!worker.counts.empty())
          stats.barriers += worker.counts[pc];
  stats.kernel = program->info.name;
  stats.ctas = ctas;
  stats.threads = block.count();
  stats.sharedBytesPerCta = shared;
  result.findings = std::move(merged.findings);
  result.totalFindings = merged.total;
  return result;
}

} // namespace delta::sim
