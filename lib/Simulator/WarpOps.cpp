//===- WarpOps.cpp - exchange between the lanes of a warp -----------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Shuffles, votes, reductions and matrix transposition in registers.
//
//===----------------------------------------------------------------------===//

#include "WarpOps.h"
#include "Machine.h"

#include <cstdio>

namespace delta::sim {

bool checkMembers(Warp &warp, uint32_t members, uint32_t mask) {
  uint32_t expected = members & warp.live;
  // Lanes that run the instruction without being members, or members that
  // have not exited and are not here.
  if ((mask & ~members) == 0 && (expected & ~mask) == 0)
    return true;
  Cta &cta = *warp.cta;
  uint32_t pc = warp.pc - 1;
  char text[64];
  std::snprintf(text, sizeof text, " for lanes 0x%08x is run by 0x%08x",
                members, mask);
  cta.report(FindingKind::WarpDivergence, warp, -1, pc,
             cta.describe(pc) + text);
  cta.failed = true;
  return false;
}

namespace ops {

namespace {

/// The member mask in a register; lanes must agree on it.
bool members(Warp &warp, uint32_t slot, uint32_t mask, uint32_t &value) {
  const uint32_t *masks = warp.r32(slot);
  value = masks[__builtin_ctz(mask)];
  // Groups of lanes may each have a mask of their own: then every group must
  // be here as a whole.
  uint32_t all = 0;
  for (uint32_t rest = mask; rest; rest &= rest - 1) {
    unsigned lane = unsigned(__builtin_ctz(rest));
    all |= masks[lane];
    if (!((masks[lane] >> lane) & 1))
      return checkMembers(warp, masks[lane], mask);
  }
  return checkMembers(warp, all, mask);
}

} // namespace

void shuffle(Warp &warp, const Inst &inst, uint32_t mask) {
  uint32_t member;
  if (!members(warp, inst.op[5], mask, member))
    return;
  const uint32_t *a = warp.r32(inst.op[2]), *b = warp.r32(inst.op[3]),
                 *c = warp.r32(inst.op[4]);
  uint32_t values[kLanes], inRange = 0;
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    // c: the clamp in its low bits, the mask of the segment at bit 8.
    uint32_t bval = b[lane] & 31, cval = c[lane] & 31,
             segment = (c[lane] >> 8) & 31;
    uint32_t maxLane = (lane & segment) | (cval & ~segment);
    uint32_t minLane = lane & segment;
    int32_t j;
    bool valid;
    switch (inst.kind) {
    case 0:
      j = int32_t(lane) - int32_t(bval);
      valid = j >= int32_t(maxLane);
      break;
    case 1:
      j = int32_t(lane + bval);
      valid = j <= int32_t(maxLane);
      break;
    case 2:
      j = int32_t(lane ^ bval);
      valid = j <= int32_t(maxLane);
      break;
    default:
      j = int32_t(minLane | (bval & ~segment));
      valid = j <= int32_t(maxLane);
      break;
    }
    uint32_t from = valid ? uint32_t(j) & 31 : lane;
    inRange |= uint32_t(valid) << lane;
    values[lane] = a[from];
    // What an inactive lane holds is undefined.
    if (((mask >> lane) & 1) && !((mask >> from) & 1)) {
      Cta &cta = *warp.cta;
      uint32_t pc = warp.pc - 1;
      if (!cta.known(FindingKind::InvalidOperand, pc))
        cta.report(FindingKind::InvalidOperand, warp, int(lane), pc,
                   cta.describe(pc) + " reads lane " + std::to_string(from) +
                       ", which is not active");
    }
  }
  uint32_t *d = warp.r32(inst.op[0]);
  if (mask == kFullMask)
    std::memcpy(d, values, sizeof values);
  else
    forLanes(mask, [&](uint32_t lane) { d[lane] = values[lane]; });
  if (inst.op[1] != kNone) {
    uint32_t &p = warp.predicates[inst.op[1]];
    p = (p & ~mask) | (inRange & mask);
  }
}

void vote(Warp &warp, const Inst &inst, uint32_t mask) {
  uint32_t member;
  if (!members(warp, inst.op[2], mask, member))
    return;
  uint32_t p = warp.predicates[inst.op[1]] ^ (inst.flags & 1 ? UINT32_MAX : 0);
  p &= mask;
  if (inst.kind == 3) {
    uint32_t *d = warp.r32(inst.op[0]);
    forLanes(mask, [&](uint32_t lane) { d[lane] = p; });
    return;
  }
  bool value = inst.kind == 0   ? p == mask
               : inst.kind == 1 ? p != 0
                                : p == 0 || p == mask;
  uint32_t &d = warp.predicates[inst.op[0]];
  d = value ? d | mask : d & ~mask;
}

void match(Warp &warp, const Inst &inst, uint32_t mask) {
  uint32_t member;
  if (!members(warp, inst.op[3], mask, member))
    return;
  auto value = [&](uint32_t lane) {
    return inst.flags & 2 ? warp.r64(inst.op[2])[lane]
                          : uint64_t(warp.r32(inst.op[2])[lane]);
  };
  uint32_t same[kLanes] = {};
  for (uint32_t lane = 0; lane < kLanes; ++lane)
    for (uint32_t other = 0; other < kLanes; ++other)
      if (((mask >> lane) & 1) && ((mask >> other) & 1) &&
          value(lane) == value(other))
        same[lane] |= 1u << other;
  bool all = same[__builtin_ctz(mask)] == mask;
  uint32_t *d = warp.r32(inst.op[0]);
  forLanes(mask, [&](uint32_t lane) {
    d[lane] = inst.flags & 1 ? (all ? mask : 0) : same[lane];
  });
  if (inst.op[1] != kNone) {
    uint32_t &p = warp.predicates[inst.op[1]];
    p = all ? p | mask : p & ~mask;
  }
}

void redux(Warp &warp, const Inst &inst, uint32_t mask) {
  uint32_t member;
  if (!members(warp, inst.op[2], mask, member))
    return;
  const uint32_t *a = warp.r32(inst.op[1]);
  uint32_t result = a[__builtin_ctz(mask)];
  bool isSigned = inst.flags & 1;
  for (uint32_t rest = mask & (mask - 1); rest; rest &= rest - 1) {
    uint32_t v = a[__builtin_ctz(rest)];
    bool less = isSigned ? int32_t(v) < int32_t(result) : v < result;
    switch (inst.kind) {
    case 0:
      result += v;
      break;
    case 1:
      result = less ? v : result;
      break;
    case 2:
      result = less ? result : v;
      break;
    case 3:
      result &= v;
      break;
    case 4:
      result |= v;
      break;
    default:
      result ^= v;
      break;
    }
  }
  uint32_t *d = warp.r32(inst.op[0]);
  forLanes(mask, [&](uint32_t lane) { d[lane] = result; });
}

void activemask(Warp &warp, const Inst &inst, uint32_t mask) {
  uint32_t *d = warp.r32(inst.op[0]);
  forLanes(mask, [&](uint32_t lane) { d[lane] = mask; });
}

void elect(Warp &warp, const Inst &inst, uint32_t mask) {
  uint32_t member;
  if (!members(warp, inst.op[2], mask, member))
    return;
  uint32_t leader = uint32_t(__builtin_ctz(mask));
  uint32_t *d = warp.r32(inst.op[0]);
  forLanes(mask, [&](uint32_t lane) { d[lane] = leader; });
  uint32_t &p = warp.predicates[inst.op[1]];
  p = (p & ~mask) | (1u << leader);
}

void clock(Warp &warp, const Inst &inst, uint32_t mask) {
  // Time is the warp's number of instructions: the same on every run.
  uint64_t now = warp.steps;
  if (inst.flags & 1) {
    uint64_t *d = warp.r64(inst.op[0]);
    forLanes(mask, [&](uint32_t lane) { d[lane] = now; });
    return;
  }
  uint32_t value = inst.kind == 1 ? uint32_t(now >> 32) : uint32_t(now);
  uint32_t *d = warp.r32(inst.op[0]);
  forLanes(mask, [&](uint32_t lane) { d[lane] = value; });
}

void movmatrix(Warp &warp, const Inst &inst, uint32_t mask) {
  if (mask != kFullMask) {
    reportPartialWarp(warp, inst, mask);
    return;
  }
  // A register over the lanes is an 8 x 8 matrix of b16 in row-major order.
  uint16_t in[64], out[64];
  std::memcpy(in, warp.r32(inst.op[1]), sizeof in);
  for (unsigned r = 0; r < 8; ++r)
    for (unsigned c = 0; c < 8; ++c)
      out[8 * r + c] = in[8 * c + r];
  std::memcpy(warp.r32(inst.op[0]), out, sizeof out);
}

} // namespace ops
} // namespace delta::sim
