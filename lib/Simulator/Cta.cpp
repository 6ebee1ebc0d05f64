//===- Cta.cpp - running the warps of a CTA -------------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The interpreter's loop, divergence, barriers and what cannot go on.
//
//===----------------------------------------------------------------------===//

#include "Machine.h"
#include "WarpOps.h"

#include <algorithm>
#include <cstdio>

namespace delta::sim {

// --- Findings ----------------------------------------------------------------

bool Cta::known(FindingKind kind, uint32_t pc) {
  auto it = findingIndex.find({pc, static_cast<int>(kind)});
  if (it == findingIndex.end())
    return false;
  ++findings[it->second].occurrences;
  return true;
}

void Cta::report(FindingKind kind, Warp &warp, int lane, uint32_t pc,
                 std::string text) {
  if (known(kind, pc))
    return;
  findingIndex[{pc, static_cast<int>(kind)}] = findings.size();
  Finding finding;
  finding.kind = kind;
  finding.line = lineOf(pc);
  finding.cta = id;
  finding.warp = warp.index;
  finding.lane = lane;
  finding.text = std::move(text);
  findings.push_back(std::move(finding));
}

std::string Cta::describe(uint32_t pc) const {
  return std::string(program->opcodes[pc]);
}

std::string Cta::describeShared(uint64_t offset) const {
  for (const SharedVariable &variable : program->shared) {
    bool dynamic = variable.bytes == 0;
    uint64_t end = dynamic ? sharedBytes : variable.offset + variable.bytes;
    if (offset >= variable.offset && offset < end)
      return "'" + variable.name + "'+" +
             std::to_string(offset - variable.offset);
  }
  return "offset " + std::to_string(offset);
}

void reportPartialWarp(Warp &warp, const Inst &inst, uint32_t mask) {
  Cta &cta = *warp.cta;
  uint32_t pc = warp.pc - 1;
  char lanes[16];
  std::snprintf(lanes, sizeof lanes, "0x%08x", mask);
  cta.report(FindingKind::WarpDivergence, warp, -1, pc,
             cta.describe(pc) + " needs all 32 lanes, but runs in " + lanes);
  cta.failed = true;
}

// --- Divergence --------------------------------------------------------------

void Warp::pop() {
  while (!stack.empty()) {
    StackEntry entry = stack.back();
    stack.pop_back();
    uint32_t lanes = entry.mask & live;
    if (!lanes)
      continue;
    active = lanes;
    pc = entry.pc;
    reconverge = entry.reconverge;
    if (pc != reconverge)
      return;
  }
  active = 0;
  status = Done;
}

void Warp::exit(uint32_t mask) {
  exitPc = pc - 1;
  for (const AsyncCopy &copy : copies)
    if ((mask >> copy.lane) & 1) {
      if (!cta->known(FindingKind::AsyncCopy, copy.pc))
        cta->report(FindingKind::AsyncCopy, *this, int(copy.lane), copy.pc,
                    "this " + cta->describe(copy.pc) + " to " +
                        cta->describeShared(copy.offset) +
                        " is still in flight when its thread exits: no "
                        "cp.async.wait_group or wait_all covers it");
    }
  live &= ~mask;
  active &= ~mask;
  if (!active)
    pop();
}

namespace {

/// Lanes of `mask` go to `target`, the others of the warp on at pc.
void diverge(Warp &warp, uint32_t target, uint32_t meet, uint32_t mask) {
  uint32_t others = warp.active & ~mask, next = warp.pc;
  ++warp.cta->stats->divergentBranches;
  if (meet == kNone) {
    warp.stack.push_back({next, warp.reconverge, others});
    warp.active = mask;
    warp.pc = target;
    return;
  }
  if (warp.reconverge != meet)
    warp.stack.push_back({meet, warp.reconverge, warp.active});
  warp.reconverge = meet;
  if (target == meet) {
    warp.active = others;
    return;
  }
  if (next != meet)
    warp.stack.push_back({next, meet, others});
  warp.active = mask;
  warp.pc = target;
}

} // namespace

namespace ops {

void branch(Warp &warp, const Inst &inst, uint32_t mask) {
  if (!mask)
    return;
  if (mask == warp.active)
    warp.pc = inst.target;
  else
    diverge(warp, inst.target, inst.reconverge, mask);
}

void branchIndexed(Warp &warp, const Inst &inst, uint32_t mask) {
  if (!mask)
    return;
  const BranchTable &table = warp.cta->program->branchTables[size_t(inst.imm)];
  const uint32_t *index = warp.r32(inst.op[0]);
  uint32_t pc = warp.pc - 1;
  for (uint32_t rest = mask; rest; rest &= rest - 1) {
    unsigned lane = unsigned(__builtin_ctz(rest));
    if (index[lane] < table.size())
      continue;
    warp.cta->report(FindingKind::InvalidOperand, warp, int(lane), pc,
                     "index " + std::to_string(index[lane]) + " of " +
                         warp.cta->describe(pc) + " is beyond its " +
                         std::to_string(table.size()) + " targets");
    warp.cta->failed = true;
    return;
  }
  // One target after the other, by the order of lanes.
  uint32_t first = index[__builtin_ctz(mask)], same = 0;
  for (uint32_t lane = 0; lane < kLanes; ++lane)
    if (((mask >> lane) & 1) && index[lane] == first)
      same |= 1u << lane;
  if (same == warp.active) {
    warp.pc = table[first];
    return;
  }
  // The others run this instruction again.
  warp.pc = pc;
  diverge(warp, table[first], inst.reconverge, same);
}

void exit(Warp &warp, const Inst &, uint32_t mask) {
  if (mask)
    warp.exit(mask);
}

void trap(Warp &warp, const Inst &, uint32_t mask) {
  uint32_t pc = warp.pc - 1;
  warp.cta->report(FindingKind::Trap, warp, __builtin_ctz(mask), pc,
                   warp.cta->describe(pc) + " was reached");
  warp.cta->failed = true;
}

void nothing(Warp &, const Inst &, uint32_t) {}

// --- Barriers ----------------------------------------------------------------

namespace {

/// The value of a register that must be the same in all lanes.
bool uniformValue(Warp &warp, uint32_t slot, uint32_t mask, const char *what,
                  uint32_t &value) {
  const uint32_t *values = warp.r32(slot);
  value = values[__builtin_ctz(mask)];
  for (uint32_t lane = 0; lane < kLanes; ++lane)
    if (((mask >> lane) & 1) && values[lane] != value) {
      uint32_t pc = warp.pc - 1;
      warp.cta->report(FindingKind::InvalidOperand, warp, int(lane), pc,
                       std::string(what) + " of " + warp.cta->describe(pc) +
                           " differs between the lanes of a warp");
      warp.cta->failed = true;
      return false;
    }
  return true;
}

/// The results of bar.red, in all warps that waited.
void reduceBarrier(Cta &cta, const Barrier &barrier) {
  for (Warp &warp : cta.warps) {
    if (!((barrier.waiting >> warp.index) & 1))
      continue;
    const Inst &inst = cta.program->code[warp.barrierPc];
    uint32_t threads = barrier.threads;
    switch (inst.kind) {
    case 1:
      for (uint32_t rest = warp.active; rest; rest &= rest - 1)
        warp.r32(inst.op[2])[__builtin_ctz(rest)] = barrier.popc;
      break;
    case 2:
    case 3: {
      bool value = inst.kind == 2 ? barrier.popc == threads : barrier.popc > 0;
      uint32_t &d = warp.predicates[inst.op[2]];
      d = value ? d | warp.active : d & ~warp.active;
      break;
    }
    default:
      break;
    }
  }
}

} // namespace

void barrier(Warp &warp, const Inst &inst, uint32_t mask) {
  Cta &cta = *warp.cta;
  uint32_t pc = warp.pc - 1;
  auto stop = [&](FindingKind kind, std::string text) {
    cta.report(kind, warp, -1, pc, std::move(text));
    cta.failed = true;
  };
  if (mask != warp.live) {
    char lanes[40];
    std::snprintf(lanes, sizeof lanes, "0x%08x of 0x%08x", mask, warp.live);
    return stop(FindingKind::BarrierDivergence,
                cta.describe(pc) + " is reached by lanes " + lanes +
                    " of the warp only: all lanes must come together");
  }
  uint32_t id, threads = uint32_t(cta.warps.size()) * kLanes;
  if (!uniformValue(warp, inst.op[0], mask, "the barrier", id))
    return;
  if (inst.op[1] != kNone) {
    uint32_t given;
    if (!uniformValue(warp, inst.op[1], mask, "the number of threads", given))
      return;
    if (given == 0 || given % kLanes || given > threads)
      return stop(FindingKind::InvalidOperand,
                  "the number of threads of " + cta.describe(pc) + ", " +
                      std::to_string(given) +
                      ", is not a multiple of 32 up to the CTA's " +
                      std::to_string(threads));
    threads = given;
  }
  if (id >= cta.barriers.size())
    return stop(FindingKind::InvalidOperand, "there is no barrier " +
                                                 std::to_string(id) +
                                                 "; a CTA has 0 to 15");
  Barrier &barrier = cta.barriers[id];
  if (barrier.expected && barrier.expected != threads)
    return stop(FindingKind::BarrierDivergence,
                "barrier " + std::to_string(id) + " is used for " +
                    std::to_string(threads) + " threads here, and for " +
                    std::to_string(barrier.expected) +
                    " by warps that came before");
  barrier.expected = threads;
  barrier.count += kLanes;
  barrier.threads += uint32_t(__builtin_popcount(mask));
  if (inst.kind) {
    uint32_t p =
        warp.predicates[inst.op[3]] ^ (inst.flags & 4 ? UINT32_MAX : 0);
    barrier.popc += uint32_t(__builtin_popcount(p & mask));
  }
  if (inst.flags & 1) {
    barrier.arrived.emplace_back(warp.index, cta.shadow.arrive());
  } else {
    barrier.waiting |= 1u << warp.index;
    warp.status = Warp::Waiting;
    warp.barrier = id;
    warp.barrierPc = pc;
  }
  if (barrier.count < barrier.expected)
    return;
  ++cta.stats->barrierPhases;
  cta.shadow.barrier(barrier.waiting, barrier.arrived);
  reduceBarrier(cta, barrier);
  for (Warp &other : cta.warps)
    if ((barrier.waiting >> other.index) & 1)
      other.status = Warp::Ready;
  barrier = Barrier();
}

void warpBarrier(Warp &warp, const Inst &inst, uint32_t mask) {
  uint32_t members;
  if (!uniformValue(warp, inst.op[0], mask, "the mask", members))
    return;
  if (!checkMembers(warp, members, mask))
    return;
  warp.cta->shadow.warpBarrier(warp.index, members, warp.live);
}

} // namespace ops

// --- The loop ----------------------------------------------------------------

namespace {

/// Follows which lanes of watched registers have been written.
void checkRegisters(Warp &warp, const Inst &inst, uint32_t pc, uint32_t mask) {
  Cta &cta = *warp.cta;
  const KernelProgram &program = *cta.program;
  const InstRegisters &regs = program.registers[pc];
  uint32_t copied = 0;
  bool isGuard = inst.guard != kNone, isCopy = false;
  for (uint32_t r : regs.reads) {
    uint32_t have = program.tracked[r] ? warp.initialized[r] : kFullMask;
    uint32_t missing = (isGuard ? warp.active : mask) & ~have;
    bool copies = regs.copies && !isGuard;
    isGuard = false;
    if (copies) {
      isCopy = true;
      copied |= have;
      continue;
    }
    if (!missing)
      continue;
    if (cta.launch->options.checkUninitialized &&
        !cta.known(FindingKind::UninitializedRegister, pc))
      cta.report(FindingKind::UninitializedRegister, warp,
                 __builtin_ctz(missing), pc,
                 cta.describe(pc) + " reads register " +
                     program.registerNames[r] + ", which nothing has written");
    warp.initialized[r] |= missing;
  }
  uint32_t set = isCopy ? mask & copied : mask;
  for (uint32_t r : regs.writes)
    if (program.tracked[r])
      warp.initialized[r] = (warp.initialized[r] & ~mask) | set;
}

} // namespace

void Cta::runWarp(Warp &warp, uint64_t quantum) {
  const Inst *code = program->code.data();
  // A barrier may have been the last instruction before lanes meet.
  if (warp.pc == warp.reconverge)
    warp.pop();
  while (quantum-- && warp.status == Warp::Ready && !failed) {
    uint32_t pc = warp.pc;
    const Inst &inst = code[pc];
    uint32_t mask = warp.active;
    if (inst.guard != kNone) {
      uint32_t p = warp.predicates[inst.guard];
      mask &= inst.guardNegated ? ~p : p;
    }
    ++counts[pc];
    ++warp.steps;
    warp.pc = pc + 1;
    if (inst.checked)
      checkRegisters(warp, inst, pc, mask);
    if (mask || inst.always)
      inst.run(warp, inst, mask);
    if (warp.pc == warp.reconverge && warp.status == Warp::Ready)
      warp.pop();
  }
}

void Cta::reportDeadlock() {
  // Name the first barrier that somebody waits at, and who is missing.
  for (Warp &warp : warps) {
    if (warp.status != Warp::Waiting)
      continue;
    std::string text = "warp " + std::to_string(warp.index) +
                       " waits forever at barrier " +
                       std::to_string(warp.barrier) + ": ";
    std::string missing;
    for (Warp &other : warps) {
      if (other.status == Warp::Done)
        missing += (missing.empty() ? "warp " : ", warp ") +
                   std::to_string(other.index) + " has exited at line " +
                   std::to_string(lineOf(other.exitPc));
      else if (other.status == Warp::Waiting && other.barrier != warp.barrier)
        missing += (missing.empty() ? "warp " : ", warp ") +
                   std::to_string(other.index) + " waits at barrier " +
                   std::to_string(other.barrier) + " at line " +
                   std::to_string(lineOf(other.barrierPc));
      if (missing.size() > 160) {
        missing += "...";
        break;
      }
    }
    const Barrier &barrier = barriers[warp.barrier];
    if (missing.empty())
      missing = std::to_string(barrier.count) + " of " +
                std::to_string(barrier.expected) + " threads have come";
    report(FindingKind::BarrierDivergence, warp, -1, warp.barrierPc,
           text + missing);
    return;
  }
}

void Cta::run() {
  uint64_t seed = launch->options.scheduleSeed, state = seed ^ linear;
  auto random = [&state] {
    state += 0x9e3779b97f4a7c15;
    uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  };
  std::vector<unsigned> order(warps.size());
  for (unsigned i = 0; i < order.size(); ++i)
    order[i] = i;
  uint64_t limit = launch->options.stepLimit;
  while (!failed) {
    if (seed)
      for (size_t i = order.size(); i > 1; --i)
        std::swap(order[i - 1], order[random() % i]);
    bool progress = false, done = true;
    steps = 0;
    for (unsigned index : order) {
      Warp &warp = warps[index];
      if (warp.status == Warp::Ready) {
        // A turn ends so that a warp may wait for what another one stores.
        runWarp(warp, seed ? 1 + random() % 256 : 1 << 14);
        progress = true;
      }
      done &= warp.status == Warp::Done;
      steps += warp.steps;
      if (failed)
        return;
    }
    if (done)
      return;
    if (!progress) {
      reportDeadlock();
      failed = true;
    } else if (steps > limit) {
      for (Warp &warp : warps)
        if (warp.status == Warp::Ready) {
          report(FindingKind::StepLimit, warp, -1, warp.pc,
                 "the CTA has executed " + std::to_string(limit) +
                     " warp instructions and is here: an endless loop?");
          break;
        }
      failed = true;
    }
  }
}

} // namespace delta::sim
