//===- MemoryAccess.cpp - from addresses to checked pointers --------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// One function for every state space, and the counting.
//
//===----------------------------------------------------------------------===//

#include "MemoryAccess.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

namespace delta::sim {

using ptx::Space;

std::string hex(uint64_t value) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%llx",
                static_cast<unsigned long long>(value));
  return text;
}

uint32_t WarpAccess::resolve(Space space, uint32_t mask) {
  switch (space) {
  case Space::Shared:
    return resolveShared(mask, 0);
  case Space::Global:
  case Space::Const:
    return resolveGlobal(mask);
  case Space::Local:
    return resolveLocal(mask, 0);
  case Space::Param:
    return resolveParam(mask, 0);
  case Space::Generic:
    break;
  }
  uint32_t shared = 0, local = 0, param = 0, global = 0;
  forLanes(mask, [&](uint32_t lane) {
    uint64_t a = address[lane];
    uint32_t bit = 1u << lane;
    // The windows lie side by side; an offset below one is another's.
    if (a - kSharedWindow < kWindowBytes)
      shared |= bit;
    else if (a - kLocalWindow < kWindowBytes)
      local |= bit;
    else if (a - kParamWindow < kWindowBytes)
      param |= bit;
    else
      global |= bit;
  });
  uint32_t good = 0;
  if (global)
    good |= resolveGlobal(global);
  if (shared)
    good |= resolveShared(shared, kSharedWindow);
  if (local)
    good |= resolveLocal(local, kLocalWindow);
  if (param)
    good |= resolveParam(param, kParamWindow);
  return good;
}

/// Wavefronts: accesses up to 4 bytes go in one pass over the 32 banks, wider
/// ones by half, quarter or eighth warp; a pass takes as long as its busiest
/// bank has different words.
void WarpAccess::countWavefronts(uint32_t mask) {
  uint32_t unit = std::max(bytes, 4u);
  uint32_t shift = uint32_t(__builtin_ctz(unit));
  uint32_t groups = 128 / unit, lanesInPass = groups;
  uint64_t total = 0;
  for (uint32_t first = 0; first < kLanes; first += lanesInPass) {
    uint64_t firstUnit[32];
    uint64_t more[32];
    uint32_t count[32], numMore = 0, seen = 0, worst = 0;
    for (uint32_t lane = first; lane < first + lanesInPass; ++lane) {
      if (!((mask >> lane) & 1))
        continue;
      uint64_t u = address[lane] >> shift;
      uint32_t g = uint32_t(u) & (groups - 1);
      if (!((seen >> g) & 1)) {
        seen |= 1u << g;
        firstUnit[g] = u;
        count[g] = 1;
        worst = std::max(worst, 1u);
        continue;
      }
      if (firstUnit[g] == u ||
          std::find(more, more + numMore, u) != more + numMore)
        continue;
      more[numMore++] = u;
      worst = std::max(worst, ++count[g]);
    }
    total += worst;
  }
  uint64_t requested = uint64_t(__builtin_popcount(mask)) * bytes;
  uint64_t least = (requested + 127) / 128;
  cta.stats->sharedWavefronts += total;
  cta.stats->sharedBankConflicts += total > least ? total - least : 0;
}

void WarpAccess::countSectors(uint32_t mask) {
  uint64_t sectors[kLanes];
  uint32_t count = 0;
  uint64_t last = UINT64_MAX;
  bool sorted = true;
  forLanes(mask, [&](uint32_t lane) {
    uint64_t sector = address[lane] >> 5;
    if (sector == last)
      return;
    sorted &= count == 0 || sector > last;
    last = sector;
    sectors[count++] = sector;
  });
  if (!sorted) {
    std::sort(sectors, sectors + count);
    count = uint32_t(std::unique(sectors, sectors + count) - sectors);
  }
  uint64_t requested = uint64_t(__builtin_popcount(mask)) * bytes;
  Stats &stats = *cta.stats;
  stats.globalSectors += count;
  if (access == Access::Read || access == Access::Async) {
    stats.globalLoadBytes += requested;
    stats.globalLoadSectors += count;
  } else {
    stats.globalStoreBytes += requested;
    stats.globalStoreSectors += count;
  }
}

uint32_t WarpAccess::resolveShared(uint32_t mask, uint64_t base) {
  uint32_t good = 0;
  forLanes(mask, [&](uint32_t lane) {
    uint64_t offset = address[lane] - base;
    pointer[lane] = nullptr;
    if (!aligned(lane))
      return;
    if (offset > cta.sharedBytes || cta.sharedBytes - offset < bytes) {
      outOfBounds(lane, "the CTA has " + std::to_string(cta.sharedBytes) +
                            " bytes of shared memory");
      return;
    }
    pointer[lane] = cta.shared.data() + offset;
    good |= 1u << lane;
    cta.shadow.access(warp, 1u << lane, uint32_t(offset), bytes, access);
  });
  countWavefronts(mask);
  return good;
}

/// All bytes of shadow are 1.
static inline bool initialized(const uint8_t *shadow, uint32_t bytes) {
  switch (bytes) {
  case 1:
    return *shadow;
  case 2: {
    uint16_t v;
    std::memcpy(&v, shadow, 2);
    return v == 0x0101;
  }
  case 4: {
    uint32_t v;
    std::memcpy(&v, shadow, 4);
    return v == 0x01010101;
  }
  default:
    for (uint32_t i = 0; i < bytes; i += 8) {
      uint64_t v;
      std::memcpy(&v, shadow + i, 8);
      if (v != 0x0101010101010101)
        return false;
    }
    return true;
  }
}

uint32_t WarpAccess::resolveGlobal(uint32_t mask) {
  Memory &memory = *cta.launch->memory;
  Memory::Allocation *allocation = nullptr;
  uint64_t low = 1, high = 0;
  uint32_t good = 0;
  forLanes(mask, [&](uint32_t lane) {
    uint64_t a = address[lane];
    pointer[lane] = nullptr;
    if (!aligned(lane))
      return;
    if (a < low || a > high) {
      allocation = memory.find(a);
      if (!allocation || a < allocation->base ||
          a - allocation->base > allocation->bytes ||
          allocation->bytes - (a - allocation->base) < bytes) {
        std::string where = "no allocation is there";
        if (allocation) {
          std::string name = allocation->name.empty()
                                 ? "an allocation"
                                 : "'" + allocation->name + "'";
          where =
              name + " has " + std::to_string(allocation->bytes) +
              " bytes, and this is " +
              (a < allocation->base
                   ? std::to_string(allocation->base - a) + " bytes before it"
                   : "at offset " + std::to_string(a - allocation->base));
        }
        outOfBounds(lane, where);
        low = 1;
        high = 0;
        return;
      }
      low = allocation->base;
      high = low + allocation->bytes - bytes;
    }
    uint64_t offset = a - allocation->base;
    uint8_t *shadow = allocation->shadow.get() + offset;
    if (access == Access::Read || access == Access::Async ||
        access == Access::Atomic) {
      if (!allocation->allInitialized && !initialized(shadow, bytes) &&
          cta.launch->options.checkUninitialized) {
        if (!cta.known(FindingKind::UninitializedMemory, pc))
          cta.report(FindingKind::UninitializedMemory, warp, int(lane), pc,
                     cta.describe(pc) + " reads " + std::to_string(bytes) +
                         " bytes of global memory at offset " +
                         std::to_string(offset) + " of '" + allocation->name +
                         "' that nothing has written");
      }
    } else {
      if (allocation->readOnly) {
        outOfBounds(lane, "constants cannot be written");
        return;
      }
      cta.launch->writers.record(a, bytes, cta.linear, pc);
    }
    if (access == Access::Write || access == Access::Atomic)
      if (!allocation->allInitialized)
        std::memset(shadow, 1, bytes);
    pointer[lane] = allocation->data.get() + offset;
    good |= 1u << lane;
  });
  if (counting)
    countSectors(mask);
  return good;
}

uint32_t WarpAccess::resolveLocal(uint32_t mask, uint64_t base) {
  uint32_t good = 0, frame = cta.program->localBytes;
  forLanes(mask, [&](uint32_t lane) {
    uint64_t offset = address[lane] - base;
    pointer[lane] = nullptr;
    if (!aligned(lane))
      return;
    if (offset > frame || frame - offset < bytes) {
      outOfBounds(lane, "a thread has " + std::to_string(frame) +
                            " bytes of local memory");
      return;
    }
    uint64_t at = uint64_t(lane) * frame + offset;
    uint8_t *shadow = warp.localShadow.data() + at;
    if (writes())
      std::memset(shadow, 1, bytes);
    else if (!initialized(shadow, bytes) &&
             cta.launch->options.checkUninitialized &&
             !cta.known(FindingKind::UninitializedMemory, pc))
      cta.report(FindingKind::UninitializedMemory, warp, int(lane), pc,
                 cta.describe(pc) + " reads " + std::to_string(bytes) +
                     " bytes of local memory at offset " +
                     std::to_string(offset) + " that nothing has written");
    pointer[lane] = warp.local.data() + at;
    good |= 1u << lane;
  });
  return good;
}

uint32_t WarpAccess::resolveParam(uint32_t mask, uint64_t base) {
  uint32_t good = 0;
  const std::vector<uint8_t> &params = cta.launch->params;
  uint64_t size = params.size() - 16; // a vector load may look past the end
  forLanes(mask, [&](uint32_t lane) {
    uint64_t offset = address[lane] - base;
    pointer[lane] = nullptr;
    if (!aligned(lane))
      return;
    if (offset > size || size - offset < bytes || writes()) {
      outOfBounds(lane, writes() ? "parameters cannot be written"
                                 : "the parameters have " +
                                       std::to_string(size) + " bytes");
      return;
    }
    pointer[lane] = const_cast<uint8_t *>(params.data()) + offset;
    good |= 1u << lane;
  });
  return good;
}

/// The lanes' addresses: register op[field] plus offset.
void addresses(Warp &warp, const Inst &inst, unsigned field, bool wide,
               int64_t offset, uint64_t *out) {
  uint32_t slot = inst.op[field];
  if (slot == kNone) {
    for (uint32_t lane = 0; lane < kLanes; ++lane)
      out[lane] = uint64_t(offset);
  } else if (wide) {
    const uint64_t *a = warp.r64(slot);
    for (uint32_t lane = 0; lane < kLanes; ++lane)
      out[lane] = a[lane] + uint64_t(offset);
  } else {
    const uint32_t *a = warp.r32(slot);
    for (uint32_t lane = 0; lane < kLanes; ++lane)
      out[lane] = uint32_t(a[lane] + uint32_t(offset));
  }
}

} // namespace delta::sim
