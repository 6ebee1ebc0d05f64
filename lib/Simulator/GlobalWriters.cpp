//===- GlobalWriters.cpp - stores of several CTAs to one place ------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// CTAs run in parallel here, so what is kept must not depend on who comes
// first: the least number of a CTA, and that there was more than one.
//
//===----------------------------------------------------------------------===//

#include "Machine.h"

#include <algorithm>

namespace delta::sim {

void GlobalWriters::reset(const Memory &memory) {
  tables.clear();
  any = false;
  for (uint64_t i = 1; const Memory::Allocation *allocation =
                           memory.find(i << Memory::kWindowBits);
       ++i) {
    tables.emplace_back();
    Table &table = tables.back();
    table.allocation = allocation;
    if (allocation->readOnly || allocation->bytes > kMaxBytes)
      continue;
    // Pages that nobody stores to are never touched.
    uint64_t count = allocation->bytes / 2 + 1;
    table.cells.reset(static_cast<std::atomic<uint64_t> *>(
        std::calloc(count, sizeof(std::atomic<uint64_t>))));
    table.base = allocation->base;
    table.count = table.cells ? count : 0;
  }
}

void GlobalWriters::record(uint64_t address, uint32_t bytes, uint64_t cta,
                           uint32_t pc) {
  uint64_t index = (address >> Memory::kWindowBits) - 1;
  // Single bytes may share a cell with a neighbour's.
  if (bytes < 2 || index >= tables.size() || pc >> kPcBits)
    return;
  Table &table = tables[index];
  uint64_t mine = ((cta + 1) << kPcBits) | pc;
  for (uint64_t i = (address - table.base) / 2, end = i + bytes / 2;
       i < end && i < table.count; ++i) {
    std::atomic<uint64_t> &cell = table.cells.get()[i];
    uint64_t old = cell.load(std::memory_order_relaxed), next;
    do {
      if (old == 0) {
        next = mine;
        continue;
      }
      uint64_t owner = (old & ~kConflict) >> kPcBits;
      if (owner == cta + 1) {
        // The first of its instructions is as good as any, but always the same.
        next = std::min(old & ~kConflict, mine) | (old & kConflict);
        continue;
      }
      next = std::min(old & ~kConflict, mine) | kConflict;
      if (!any.load(std::memory_order_relaxed))
        any = true;
    } while (next != old &&
             !cell.compare_exchange_weak(old, next, std::memory_order_relaxed));
  }
}

} // namespace delta::sim
