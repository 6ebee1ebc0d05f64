//===- MemoryOps.cpp - loads, stores and copies ---------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What the accesses do, once their addresses are checked pointers: a load from
// a bad one gives zero, a store to one is dropped.
//
//===----------------------------------------------------------------------===//

#include "MemoryAccess.h"
#include "WarpOps.h"

#include <algorithm>
#include <cstring>

namespace delta::sim {

using ptx::Space;

namespace {

template <typename T, typename Slot>
void loadLanes(Slot *d, uint8_t *const *pointer, uint32_t offset,
               uint32_t good) {
  forLanes(good, [&](uint32_t lane) {
    T value;
    std::memcpy(&value, pointer[lane] + offset, sizeof value);
    d[lane] = static_cast<Slot>(value);
  });
}

template <typename T, typename Slot>
void storeLanes(const Slot *s, uint8_t *const *pointer, uint32_t offset,
                uint32_t good) {
  forLanes(good, [&](uint32_t lane) {
    T value = static_cast<T>(s[lane]);
    std::memcpy(pointer[lane] + offset, &value, sizeof value);
  });
}

/// Sign-extends lanes from `bytes` to the width of their register.
void signExtend(Warp &warp, const Inst &inst, uint32_t slot, uint32_t mask) {
  unsigned bits = 8 * inst.elementBytes, registerBits = 8 * inst.kind;
  forLanes(mask, [&](uint32_t lane) {
    if (registerBits == 64) {
      uint64_t &v = warp.r64(slot)[lane];
      v = uint64_t(int64_t(v << (64 - bits)) >> (64 - bits));
    } else {
      uint32_t &v = warp.r32(slot)[lane];
      v = uint32_t(int32_t(v << (32 - bits)) >> (32 - bits));
      if (registerBits == 16)
        v &= 0xffff;
    }
  });
}

template <typename Slot>
void loadElement(Warp &warp, const Inst &inst, Slot *d, uint8_t *const *p,
                 uint32_t offset, uint32_t good, uint32_t mask) {
  if (good != mask)
    forLanes(mask & ~good, [&](uint32_t lane) { d[lane] = 0; });
  switch (inst.elementBytes) {
  case 1:
    return loadLanes<uint8_t>(d, p, offset, good);
  case 2:
    return loadLanes<uint16_t>(d, p, offset, good);
  case 4:
    return loadLanes<uint32_t>(d, p, offset, good);
  default:
    return loadLanes<uint64_t>(d, p, offset, good);
  }
}

template <typename Slot>
void storeElement(const Inst &inst, const Slot *s, uint8_t *const *p,
                  uint32_t offset, uint32_t good) {
  switch (inst.elementBytes) {
  case 1:
    return storeLanes<uint8_t>(s, p, offset, good);
  case 2:
    return storeLanes<uint16_t>(s, p, offset, good);
  case 4:
    return storeLanes<uint32_t>(s, p, offset, good);
  default:
    return storeLanes<uint64_t>(s, p, offset, good);
  }
}

/// After a store: every lane must find its own bytes, else two lanes wrote
/// different ones to the same place.
void checkOverlap(WarpAccess &a, const Inst &inst, uint32_t good) {
  uint64_t last = 0;
  bool ascending = true;
  forLanes(good, [&](uint32_t lane) {
    ascending &= a.address[lane] >= last;
    last = a.address[lane] + a.bytes;
  });
  if (ascending)
    return;
  forLanes(good, [&](uint32_t lane) {
    bool same = true;
    for (unsigned v = 0; v < inst.vector; ++v) {
      uint64_t value = inst.flags & ops::kWideRegister
                           ? a.warp.r64(inst.op[v])[lane]
                           : a.warp.r32(inst.op[v])[lane];
      same &= std::memcmp(&value, a.pointer[lane] + v * inst.elementBytes,
                          inst.elementBytes) == 0;
    }
    if (same)
      return;
    uint8_t *shared = a.cta.shared.data();
    bool isShared = a.pointer[lane] >= shared &&
                    a.pointer[lane] < shared + a.cta.shared.size();
    FindingKind kind =
        isShared ? FindingKind::SharedRace : FindingKind::GlobalRace;
    if (!a.cta.known(kind, a.pc))
      a.cta.report(kind, a.warp, int(lane), a.pc,
                   a.cta.describe(a.pc) +
                       ": lanes of one instruction write different values to " +
                       (isShared ? a.cta.describeShared(
                                       uint64_t(a.pointer[lane] - shared))
                                 : hex(a.address[lane])));
  });
}

} // namespace

namespace ops {

void load(Warp &warp, const Inst &inst, uint32_t mask) {
  WarpAccess a(warp, uint32_t(inst.elementBytes) * inst.vector, Access::Read);
  addresses(warp, inst, 8, inst.wideAddress, inst.imm, a.address);
  uint32_t good = a.resolve(inst.space, mask);
  for (unsigned v = 0; v < inst.vector; ++v) {
    uint32_t slot = inst.op[v];
    if (slot == kNone)
      continue;
    uint32_t offset = v * inst.elementBytes;
    if (inst.flags & kWideRegister)
      loadElement(warp, inst, warp.r64(slot), a.pointer, offset, good, mask);
    else
      loadElement(warp, inst, warp.r32(slot), a.pointer, offset, good, mask);
    if (inst.flags & kSignExtend)
      signExtend(warp, inst, slot, mask);
  }
}

void store(Warp &warp, const Inst &inst, uint32_t mask) {
  WarpAccess a(warp, uint32_t(inst.elementBytes) * inst.vector, Access::Write);
  addresses(warp, inst, 8, inst.wideAddress, inst.imm, a.address);
  uint32_t good = a.resolve(inst.space, mask);
  for (unsigned v = 0; v < inst.vector; ++v) {
    uint32_t offset = v * inst.elementBytes;
    if (inst.flags & kWideRegister)
      storeElement(inst, warp.r64(inst.op[v]), a.pointer, offset, good);
    else
      storeElement(inst, warp.r32(inst.op[v]), a.pointer, offset, good);
  }
  if (inst.space != Space::Local)
    checkOverlap(a, inst, good);
}

// --- Atomics -----------------------------------------------------------------

namespace {

template <typename T> T integerAtomic(AtomicOp op, T old, T b, T c) {
  switch (op) {
  case AtomicOp::Add:
    return static_cast<T>(uint64_t(old) + uint64_t(b));
  case AtomicOp::Min:
    return std::min(old, b);
  case AtomicOp::Max:
    return std::max(old, b);
  case AtomicOp::Inc:
    return old >= b ? T(0) : static_cast<T>(old + 1);
  case AtomicOp::Dec:
    return old == 0 || old > b ? b : static_cast<T>(old - 1);
  case AtomicOp::And:
    return static_cast<T>(old & b);
  case AtomicOp::Or:
    return static_cast<T>(old | b);
  case AtomicOp::Xor:
    return static_cast<T>(old ^ b);
  case AtomicOp::Exch:
    return b;
  case AtomicOp::Cas:
    return old == b ? c : old;
  }
  return old;
}

template <typename T>
uint64_t atomicLane(AtomicOp op, uint8_t *pointer, uint64_t b, uint64_t c,
                    bool isFloat) {
  T old, second, third, result;
  std::memcpy(&old, pointer, sizeof old);
  std::memcpy(&second, &b, sizeof second);
  std::memcpy(&third, &c, sizeof third);
  if constexpr (std::is_floating_point<T>::value)
    result = op == AtomicOp::Add ? old + second : second;
  else
    result = integerAtomic(op, old, second, third);
  std::memcpy(pointer, &result, sizeof result);
  uint64_t bits = 0;
  std::memcpy(&bits, &old, sizeof old);
  return bits;
}

} // namespace

void atomic(Warp &warp, const Inst &inst, uint32_t mask) {
  WarpAccess a(warp, inst.elementBytes, Access::Atomic);
  addresses(warp, inst, 8, inst.wideAddress, inst.imm, a.address);
  uint32_t good = a.resolve(inst.space, mask);
  bool wide = inst.elementBytes == 8;
  auto op = static_cast<AtomicOp>(inst.kind);
  auto value = [&](uint32_t slot, uint32_t lane) -> uint64_t {
    if (slot == kNone)
      return 0;
    return wide ? warp.r64(slot)[lane] : warp.r32(slot)[lane];
  };
  // Lanes go in order, which is one of the orders that the ISA allows.
  uint64_t old[kLanes] = {};
  forLanes(good, [&](uint32_t lane) {
    uint64_t b = value(inst.op[1], lane), c = value(inst.op[2], lane);
    uint8_t *p = a.pointer[lane];
    switch (static_cast<ptx::Type>(inst.target)) {
    case ptx::Type::F32:
      old[lane] = atomicLane<float>(op, p, b, c, true);
      break;
    case ptx::Type::F64:
      old[lane] = atomicLane<double>(op, p, b, c, true);
      break;
    case ptx::Type::S32:
      old[lane] = atomicLane<int32_t>(op, p, b, c, false);
      break;
    case ptx::Type::S64:
      old[lane] = atomicLane<int64_t>(op, p, b, c, false);
      break;
    default:
      old[lane] = wide ? atomicLane<uint64_t>(op, p, b, c, false)
                       : atomicLane<uint32_t>(op, p, b, c, false);
      break;
    }
  });
  if (inst.op[0] == kNone)
    return;
  forLanes(mask, [&](uint32_t lane) {
    if (wide)
      warp.r64(inst.op[0])[lane] = old[lane];
    else
      warp.r32(inst.op[0])[lane] = uint32_t(old[lane]);
  });
}

// --- Matrices ----------------------------------------------------------------

namespace {

/// Rows of 16 bytes: lane 8 m + r has the address of row r of matrix m. Fills
/// `rows`, null for bad ones.
bool matrixRows(Warp &warp, const Inst &inst, uint32_t mask, Access access,
                uint8_t *rows[kLanes]) {
  if (mask != kFullMask) {
    reportPartialWarp(warp, inst, mask);
    return false;
  }
  WarpAccess a(warp, 16, access);
  addresses(warp, inst, 8, inst.wideAddress, inst.imm, a.address);
  uint64_t base = inst.space == Space::Generic ? kSharedWindow : 0;
  uint32_t used = 8 * inst.vector;
  for (uint32_t lane = 0; lane < used; ++lane) {
    uint64_t offset = a.address[lane] - base;
    rows[lane] = nullptr;
    if (!a.aligned(lane))
      continue;
    if (offset > a.cta.sharedBytes || a.cta.sharedBytes - offset < 16) {
      a.outOfBounds(lane, "the CTA has " + std::to_string(a.cta.sharedBytes) +
                              " bytes of shared memory");
      continue;
    }
    rows[lane] = a.cta.shared.data() + offset;
    a.cta.shadow.access(warp, mask, uint32_t(offset), 16, access);
  }
  a.countWavefronts(used == kLanes ? kFullMask : (1u << used) - 1);
  return true;
}

} // namespace

void loadMatrix(Warp &warp, const Inst &inst, uint32_t mask) {
  uint8_t *rows[kLanes];
  if (!matrixRows(warp, inst, mask, Access::Read, rows))
    return;
  for (unsigned m = 0; m < inst.vector; ++m) {
    uint16_t tile[8][8], out[8][8];
    for (unsigned r = 0; r < 8; ++r) {
      if (rows[8 * m + r])
        std::memcpy(tile[r], rows[8 * m + r], 16);
      else
        std::memset(tile[r], 0, 16);
    }
    if (inst.kind) {
      for (unsigned r = 0; r < 8; ++r)
        for (unsigned c = 0; c < 8; ++c)
          out[r][c] = tile[c][r];
    } else {
      std::memcpy(out, tile, sizeof out);
    }
    // Lane 4 r + t holds columns 2 t and 2 t + 1 of row r: row-major order.
    std::memcpy(warp.r32(inst.op[m]), out, sizeof out);
  }
}

void storeMatrix(Warp &warp, const Inst &inst, uint32_t mask) {
  uint8_t *rows[kLanes];
  if (!matrixRows(warp, inst, mask, Access::Write, rows))
    return;
  for (unsigned m = 0; m < inst.vector; ++m) {
    uint16_t tile[8][8], in[8][8];
    std::memcpy(in, warp.r32(inst.op[m]), sizeof in);
    for (unsigned r = 0; r < 8; ++r)
      for (unsigned c = 0; c < 8; ++c)
        tile[r][c] = inst.kind ? in[c][r] : in[r][c];
    for (unsigned r = 0; r < 8; ++r)
      if (rows[8 * m + r])
        std::memcpy(rows[8 * m + r], tile[r], 16);
  }
}

// --- Asynchronous copies -----------------------------------------------------

void asyncCopy(Warp &warp, const Inst &inst, uint32_t mask) {
  uint32_t bytes = inst.elementBytes;
  WarpAccess to(warp, bytes, Access::Async), from(warp, bytes, Access::Read);
  addresses(warp, inst, 0, inst.wideAddress, int64_t(int32_t(inst.target)),
            to.address);
  addresses(warp, inst, 8, true, inst.imm, from.address);
  uint32_t size[kLanes], reading = 0;
  forLanes(mask, [&](uint32_t lane) {
    size[lane] = bytes;
    if (inst.flags & 1) {
      uint32_t p = warp.predicates[inst.op[1]];
      bool ignore = ((p >> lane) & 1) != ((inst.flags >> 1) & 1);
      size[lane] = ignore ? 0 : bytes;
    } else if (inst.op[1] != kNone) {
      size[lane] = warp.r32(inst.op[1])[lane];
      if (size[lane] > bytes) {
        if (!to.cta.known(FindingKind::InvalidOperand, to.pc))
          to.cta.report(FindingKind::InvalidOperand, warp, int(lane), to.pc,
                        "the source size " + std::to_string(size[lane]) +
                            " of " + to.cta.describe(to.pc) +
                            " is more than its " + std::to_string(bytes) +
                            " bytes");
        size[lane] = bytes;
      }
    }
    if (size[lane])
      reading |= 1u << lane;
  });
  uint32_t good = to.resolveShared(mask, 0);
  uint32_t source = 0;
  // Copies that read less than all of their bytes are rare: one by one.
  uint32_t partial = 0;
  forLanes(reading, [&](uint32_t lane) {
    if (size[lane] != bytes)
      partial |= 1u << lane;
  });
  from.counting = false;
  if (reading & ~partial)
    source |= from.resolveGlobal(reading & ~partial);
  forLanes(partial, [&](uint32_t lane) {
    WarpAccess one(warp, 1, Access::Read);
    one.counting = false;
    if (!from.aligned(lane))
      return;
    uint8_t *first = nullptr;
    for (uint32_t i = 0; i < size[lane]; ++i) {
      one.address[lane] = from.address[lane] + i;
      if (!one.resolveGlobal(1u << lane))
        return;
      if (!first)
        first = one.pointer[lane];
    }
    from.pointer[lane] = first;
    source |= 1u << lane;
  });
  if (reading) {
    from.countSectors(reading);
    forLanes(partial, [&](uint32_t lane) {
      to.cta.stats->globalLoadBytes -= bytes - size[lane];
    });
  }
  forLanes(good, [&](uint32_t lane) {
    uint8_t *d = to.pointer[lane];
    uint32_t have = (source >> lane) & 1 ? size[lane] : 0;
    if (have)
      std::memcpy(d, from.pointer[lane], have);
    std::memset(d + have, 0, bytes - have);
    warp.copies.push_back({lane, warp.committed[lane],
                           uint32_t(d - to.cta.shared.data()), bytes, to.pc});
  });
}

void asyncCommit(Warp &warp, const Inst &, uint32_t mask) {
  forLanes(mask, [&](uint32_t lane) { ++warp.committed[lane]; });
}

void asyncWait(Warp &warp, const Inst &inst, uint32_t mask) {
  size_t kept = 0;
  for (const AsyncCopy &copy : warp.copies) {
    bool done = (mask >> copy.lane) & 1;
    if (inst.imm >= 0)
      done &=
          int64_t(copy.group) + inst.imm < int64_t(warp.committed[copy.lane]);
    if (done)
      warp.cta->shadow.land(warp, copy.lane, copy.offset, copy.bytes);
    else
      warp.copies[kept++] = copy;
  }
  warp.copies.resize(kept);
}

// --- Addresses ---------------------------------------------------------------

namespace {

uint64_t windowOf(Space space) {
  switch (space) {
  case Space::Shared:
    return kSharedWindow;
  case Space::Local:
    return kLocalWindow;
  case Space::Param:
    return kParamWindow;
  default:
    return 0;
  }
}

} // namespace

void convertAddress(Warp &warp, const Inst &inst, uint32_t mask) {
  uint64_t window = windowOf(inst.space);
  const uint64_t *a = warp.r64(inst.op[1]);
  uint64_t *d = warp.r64(inst.op[0]);
  uint64_t delta = inst.kind ? 0 - window : window;
  forLanes(mask, [&](uint32_t lane) { d[lane] = a[lane] + delta; });
}

void isSpace(Warp &warp, const Inst &inst, uint32_t mask) {
  const uint64_t *a = warp.r64(inst.op[1]);
  uint32_t result = 0;
  forLanes(mask, [&](uint32_t lane) {
    bool inside;
    if (uint64_t window = windowOf(inst.space))
      inside = a[lane] - window < kWindowBytes;
    else
      inside = a[lane] - kSharedWindow >= 3 * kWindowBytes;
    result |= uint32_t(inside) << lane;
  });
  uint32_t &d = warp.predicates[inst.op[0]];
  d = (d & ~mask) | result;
}

} // namespace ops
} // namespace delta::sim
