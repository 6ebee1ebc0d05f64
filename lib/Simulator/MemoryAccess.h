//===- MemoryAccess.h - from addresses to checked pointers ------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Every access first turns the lanes' addresses into pointers: that is where
// bounds, alignment, initialisation and races are checked, and bytes, sectors
// and wavefronts counted. A lane whose access is bad gets no pointer.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_LIB_SIMULATOR_MEMORYACCESS_H
#define DELTA_LIB_SIMULATOR_MEMORYACCESS_H

#include "Machine.h"

namespace delta::sim {

/// "0x1f".
std::string hex(uint64_t value);

/// One access of a warp.
struct WarpAccess {
  Warp &warp;
  Cta &cta;
  uint32_t pc;
  uint32_t bytes; ///< of a lane
  Access access;
  bool counting = true; ///< of bytes and sectors, by resolveGlobal
  uint64_t address[kLanes];
  uint8_t *pointer[kLanes];

  WarpAccess(Warp &warp, uint32_t bytes, Access access)
      : warp(warp), cta(*warp.cta), pc(warp.pc - 1), bytes(bytes),
        access(access) {}

  /// Fills `pointer` for the lanes of `mask`; returns those that are good.
  uint32_t resolve(ptx::Space space, uint32_t mask);

  bool writes() const { return access != Access::Read; }
  uint32_t resolveShared(uint32_t mask, uint64_t base);
  uint32_t resolveGlobal(uint32_t mask);
  uint32_t resolveLocal(uint32_t mask, uint64_t base);
  uint32_t resolveParam(uint32_t mask, uint64_t base);
  void countWavefronts(uint32_t mask);
  void countSectors(uint32_t mask);

  bool aligned(unsigned lane) {
    if ((address[lane] & (bytes - 1)) == 0)
      return true;
    if (!cta.known(FindingKind::Misaligned, pc))
      cta.report(FindingKind::Misaligned, warp, int(lane), pc,
                 cta.describe(pc) + " of " + std::to_string(bytes) +
                     " bytes at " + hex(address[lane]) +
                     ", which is not a multiple of " + std::to_string(bytes));
    return false;
  }
  void outOfBounds(unsigned lane, const std::string &where) {
    if (!cta.known(FindingKind::OutOfBounds, pc))
      cta.report(FindingKind::OutOfBounds, warp, int(lane), pc,
                 cta.describe(pc) + (writes() ? " writes " : " reads ") +
                     std::to_string(bytes) + " bytes at " + hex(address[lane]) +
                     ": " + where);
  }
};

/// The lanes' addresses: register op[field], of 64 bits if `wide`, plus offset.
void addresses(Warp &warp, const Inst &inst, unsigned field, bool wide,
               int64_t offset, uint64_t *out);

} // namespace delta::sim

#endif // DELTA_LIB_SIMULATOR_MEMORYACCESS_H
