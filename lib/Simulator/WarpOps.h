//===- WarpOps.h - handlers that are not plain arithmetic -------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Control flow, barriers, lane exchange, memory and matrix movement. The
// decoder fills the fields of Inst that each one documents.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_LIB_SIMULATOR_WARPOPS_H
#define DELTA_LIB_SIMULATOR_WARPOPS_H

#include "Program.h"

namespace delta::sim {

/// A finding: an instruction of the whole warp runs in some lanes only.
void reportPartialWarp(Warp &warp, const Inst &inst, uint32_t mask);

/// The lanes of a member mask must be those that are here; a finding, and
/// false, when one is missing that has not exited.
bool checkMembers(Warp &warp, uint32_t members, uint32_t mask);

namespace ops {

// Control flow: inst.always. target and reconverge are instructions.
void branch(Warp &warp, const Inst &inst, uint32_t mask);
/// brx.idx: op[0] the index; inst.imm the number of the table in the warp's
/// program.
void branchIndexed(Warp &warp, const Inst &inst, uint32_t mask);
void exit(Warp &warp, const Inst &inst, uint32_t mask);
void trap(Warp &warp, const Inst &inst, uint32_t mask);
void nothing(Warp &warp, const Inst &inst, uint32_t mask);

/// op[0]: barrier id, op[1]: threads or kNone, as registers; for a reduction
/// op[2]: result, op[3]: the source predicate. flags: 1 arrive, 2 aligned,
/// 4 source negated; kind: 0 none, 1 popc, 2 and, 3 or.
void barrier(Warp &warp, const Inst &inst, uint32_t mask);
/// op[0]: the mask of lanes.
void warpBarrier(Warp &warp, const Inst &inst, uint32_t mask);

/// op[0]: result, op[1]: predicate or kNone, op[2]: value, op[3]: lane, op[4]:
/// clamp, op[5]: member mask. kind: 0 up, 1 down, 2 bfly, 3 idx.
void shuffle(Warp &warp, const Inst &inst, uint32_t mask);
/// op[0]: result, op[1]: source predicate, op[2]: member mask; kind: 0 all,
/// 1 any, 2 uni, 3 ballot; flags: 1 source negated.
void vote(Warp &warp, const Inst &inst, uint32_t mask);
/// op[0]: result, op[1]: predicate or kNone, op[2]: value, op[3]: member mask;
/// flags: 1 all, 2 64-bit value.
void match(Warp &warp, const Inst &inst, uint32_t mask);
/// op[0]: result, op[1]: value, op[2]: member mask; kind: 0 add, 1 min, 2 max,
/// 3 and, 4 or, 5 xor; flags: 1 signed.
void redux(Warp &warp, const Inst &inst, uint32_t mask);
void activemask(Warp &warp, const Inst &inst, uint32_t mask);
/// op[0]: leader's lane or kNone, op[1]: predicate, op[2]: member mask.
void elect(Warp &warp, const Inst &inst, uint32_t mask);
/// op[0]: result; kind: 0 clock (low), 1 clock_hi, 2 clock64, 3 globaltimer.
void clock(Warp &warp, const Inst &inst, uint32_t mask);
/// op[0] and op[1].
void movmatrix(Warp &warp, const Inst &inst, uint32_t mask);

// Memory: op[0..vector) values, op[8] address register or kNone, imm offset;
// elementBytes, vector, space, wideAddress. flags: see the enum.
enum AccessFlags : uint8_t {
  kSignExtend = 1,
  kWideRegister = 2 ///< the value's slots have 64 bits
};
void load(Warp &warp, const Inst &inst, uint32_t mask);
void store(Warp &warp, const Inst &inst, uint32_t mask);
/// op[0]: old value or kNone, op[1], op[2]: operands; kind: an AtomicOp.
enum class AtomicOp : uint8_t {
  Add,
  Min,
  Max,
  Inc,
  Dec,
  And,
  Or,
  Xor,
  Exch,
  Cas
};
/// inst.target holds the ptx::Type.
void atomic(Warp &warp, const Inst &inst, uint32_t mask);
/// ldmatrix: op[0..vector), kind 1: transposed. stmatrix the same.
void loadMatrix(Warp &warp, const Inst &inst, uint32_t mask);
void storeMatrix(Warp &warp, const Inst &inst, uint32_t mask);
/// op[0]: shared address, op[8]: global address, op[1]: source size register or
/// kNone; elementBytes: of the copy; imm: the global offset, target: the shared
/// one; flags 1: op[1] is a predicate that ignores the source.
void asyncCopy(Warp &warp, const Inst &inst, uint32_t mask);
void asyncCommit(Warp &warp, const Inst &inst, uint32_t mask);
/// imm: groups that may stay; -1 waits for everything.
void asyncWait(Warp &warp, const Inst &inst, uint32_t mask);
/// cvta: op[0], op[1]; kind 1: to the space, else to generic; space.
void convertAddress(Warp &warp, const Inst &inst, uint32_t mask);
/// isspacep: op[0] predicate, op[1].
void isSpace(Warp &warp, const Inst &inst, uint32_t mask);

} // namespace ops
} // namespace delta::sim

#endif // DELTA_LIB_SIMULATOR_WARPOPS_H
