//===- SharedShadow.cpp - who touched shared memory when ------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The common cases are decided from one record: nobody else has touched the
// word since a barrier. Everything else takes the long way round.
//
//===----------------------------------------------------------------------===//

#include "SharedShadow.h"
#include "Machine.h"

#include <algorithm>
#include <bitset>

namespace delta::sim {

void SharedShadow::reset(uint32_t numBytes, unsigned warpCount, bool checkRaces,
                         bool checkUninitialized) {
  words.assign((numBytes + 3) / 4, Cell());
  bytes.clear();
  for (WarpState &state : warps)
    state = WarpState();
  readTimes.clear();
  numWarps = warpCount;
  now = 1;
  races = checkRaces;
  uninitialized = checkUninitialized;
  for (unsigned w = 0; w < numWarps; ++w)
    updateAllKnown(w);
}

void SharedShadow::updateAllKnown(unsigned warp) {
  uint32_t least = UINT32_MAX;
  for (unsigned v = 0; v < numWarps; ++v)
    if (v != warp)
      least = std::min(least, warps[warp].known[v]);
  warps[warp].allKnown = least;
}

uint32_t SharedShadow::segmentOf(Warp &warp) {
  WarpState &state = warps[warp.index];
  if (state.segmentMasks.empty() || state.segmentMasks.back() != warp.active)
    state.segmentMasks.push_back(warp.active);
  return state.segmentBase + uint32_t(state.segmentMasks.size()) - 1;
}

void SharedShadow::barrier(
    uint32_t participants,
    const std::vector<std::pair<unsigned, uint32_t>> &arrived) {
  std::array<uint32_t, kMaxWarps> joined{};
  auto join = [&](unsigned w, uint32_t time) {
    for (unsigned v = 0; v < numWarps; ++v)
      joined[v] = std::max(joined[v], warps[w].known[v]);
    joined[w] = std::max(joined[w], time);
  };
  for (unsigned w = 0; w < numWarps; ++w)
    if ((participants >> w) & 1)
      join(w, now);
  for (auto [w, time] : arrived)
    join(w, time);
  for (unsigned w = 0; w < numWarps; ++w) {
    if (!((participants >> w) & 1))
      continue;
    warps[w].known = joined;
    updateAllKnown(w);
    warps[w].segmentBase += uint32_t(warps[w].segmentMasks.size()) + 1;
    warps[w].segmentMasks.clear();
  }
  ++now;
}

void SharedShadow::warpBarrier(unsigned warp, uint32_t mask, uint32_t live) {
  WarpState &state = warps[warp];
  if ((mask & live) == live) {
    state.segmentBase += uint32_t(state.segmentMasks.size()) + 1;
    state.segmentMasks.clear();
    return;
  }
  // Among some lanes: what any of them wrote is known to all of them.
  for (uint32_t &segment : state.segmentMasks)
    if (segment & mask)
      segment |= mask;
}

void SharedShadow::split(uint32_t word) {
  if (bytes.empty())
    bytes.resize(words.size() * 4);
  Cell &cell = words[word];
  for (uint32_t i = 0; i < 4; ++i) {
    bytes[4 * word + i] = cell;
    bytes[4 * word + i].flags &= uint8_t(~(kSplit | kReadList));
    // Exact times of reads are kept for words; the latest stands for all.
  }
  cell.flags |= kSplit;
}

void SharedShadow::reportUninitialized(Warp &warp, uint32_t who,
                                       uint32_t offset, uint32_t count) {
  Cta &cta = *warp.cta;
  uint32_t pc = warp.pc - 1;
  if (cta.known(FindingKind::UninitializedMemory, pc))
    return;
  cta.report(FindingKind::UninitializedMemory, warp, __builtin_ctz(who), pc,
             cta.describe(pc) + " reads " + std::to_string(count) +
                 " bytes of shared memory at " + cta.describeShared(offset) +
                 " that nothing has written");
}

void SharedShadow::reportRace(Warp &warp, uint32_t who, const Cell &cell,
                              uint32_t key, Access access, int reader) {
  Cta &cta = *warp.cta;
  uint32_t pc = warp.pc - 1;
  bool inFlight = cell.flags & kInFlight, landed = cell.flags & kLanded;
  bool copy =
      reader < 0 && (inFlight || (landed && cell.writerWarp == warp.index));
  FindingKind kind = copy ? FindingKind::AsyncCopy : FindingKind::SharedRace;
  if (cta.known(kind, pc))
    return;
  bool isByte = key >= words.size();
  uint32_t offset = isByte ? key - uint32_t(words.size()) : key * 4;
  std::string text = cta.describe(pc) +
                     (isWrite(access) ? " writes" : " reads") + " shared " +
                     (isByte ? "byte " : "word ") + cta.describeShared(offset);
  std::string writer = "warp " + std::to_string(cell.writerWarp) + " lane " +
                       std::to_string(cell.writerLane);
  if (reader >= 0) {
    text += ", which warp " + std::to_string(reader) +
            " reads without a barrier in between";
  } else if (inFlight) {
    text += ", to which the cp.async of " + writer + " at line " +
            std::to_string(cta.lineOf(cell.writerPc)) +
            " is still in flight: wait for its group first";
  } else if (copy) {
    text += ", which a cp.async of " + writer + " at line " +
            std::to_string(cta.lineOf(cell.writerPc)) +
            " wrote: its lane has waited, but no barrier has followed";
  } else {
    text += ", which " + writer + " wrote at line " +
            std::to_string(cta.lineOf(cell.writerPc)) +
            (cell.writerWarp == warp.index
                 ? " in a part of the code that the lanes did not run together,"
                   " without bar.warp.sync in between"
                 : " without a barrier in between");
  }
  cta.report(kind, warp, __builtin_ctz(who), pc, std::move(text));
}

void SharedShadow::recordRead(unsigned warp, Cell &cell, uint32_t key) {
  uint32_t bit = 1u << warp;
  const WarpState &state = warps[warp];
  if (cell.readTime == now && !(cell.flags & kReadList)) {
    cell.readers |= bit;
    return;
  }
  if ((cell.readers & ~bit) == 0 || cell.readTime <= state.allKnown) {
    cell.readers = bit;
    cell.readTime = now;
    cell.flags &= uint8_t(~kReadList);
    return;
  }
  // Some reads are older, and not all of them known here: keep each one's time.
  auto &times = readTimes[key];
  if (!(cell.flags & kReadList))
    for (unsigned v = 0; v < numWarps; ++v)
      times[v] = (cell.readers >> v) & 1 ? cell.readTime : 0;
  times[warp] = now;
  cell.readers = 0;
  for (unsigned v = 0; v < numWarps; ++v) {
    if (v != warp && times[v] <= state.known[v])
      times[v] = 0;
    if (times[v])
      cell.readers |= 1u << v;
  }
  cell.readTime = now;
  cell.flags |= kReadList;
}

void SharedShadow::record(Warp &warp, uint32_t who, Cell &cell, uint32_t key,
                          Access access) {
  if (access == Access::Read) {
    recordRead(warp.index, cell, key);
    return;
  }
  cell.writeTime = now;
  cell.writerWarp = static_cast<uint8_t>(warp.index);
  cell.writerLane = static_cast<uint8_t>(__builtin_ctz(who));
  cell.writerPc = warp.pc - 1;
  cell.readers = 0;
  cell.readTime = 0;
  cell.flags = access == Access::Atomic  ? kAtomic
               : access == Access::Async ? kInFlight
                                         : 0;
  if (warp.active != warp.live && access == Access::Write) {
    cell.flags |= kDiverged;
    cell.segment = segmentOf(warp);
  }
}

void SharedShadow::accessCell(Warp &warp, uint32_t who, Cell &cell,
                              uint32_t key, Access access) {
  const WarpState &state = warps[warp.index];
  bool bad = false;
  if (cell.flags & kInFlight) {
    bad = true;
  } else if (cell.writeTime) {
    bool bothAtomic = access == Access::Atomic && (cell.flags & kAtomic);
    if (cell.writerWarp != warp.index) {
      bad = !bothAtomic && cell.writeTime > state.known[cell.writerWarp];
    } else if (who != (1u << cell.writerLane) &&
               cell.segment >= state.segmentBase) {
      if (cell.flags & kLanded)
        bad = true;
      else if (cell.flags & kDiverged)
        bad = who & ~state.segmentMasks[cell.segment - state.segmentBase];
    }
  }
  if (bad) {
    reportRace(warp, who, cell, key, access, -1);
    cell.flags = 0; // once is enough
  }
  // Atomics are not among the readers.
  if (isWrite(access))
    for (uint32_t others = cell.readers & ~(1u << warp.index); others;
         others &= others - 1) {
      unsigned v = unsigned(__builtin_ctz(others));
      uint32_t time =
          cell.flags & kReadList ? readTimes[key][v] : cell.readTime;
      if (time > state.known[v]) {
        reportRace(warp, who, cell, key, access, int(v));
        break;
      }
    }
  record(warp, who, cell, key, access);
}

void SharedShadow::accessWord(Warp &warp, uint32_t who, uint32_t word,
                              Access access) {
  Cell &cell = words[word];
  if (cell.initialized != 15) {
    if (!isWrite(access) || access == Access::Atomic) {
      if (uninitialized)
        reportUninitialized(warp, who, 4 * word, 4);
    }
    cell.initialized = 15;
  }
  if (!races)
    return;
  const WarpState &state = warps[warp.index];
  bool mine = cell.writerWarp == warp.index;
  bool plain = !(cell.flags & (kAtomic | kInFlight | kSplit | kReadList)) &&
               (mine ? !(cell.flags & (kLanded | kDiverged)) ||
                           cell.segment < state.segmentBase
                     : cell.writeTime <= state.known[cell.writerWarp]);
  if (plain && access == Access::Read) {
    uint32_t bit = 1u << warp.index;
    if (cell.readTime == now) {
      cell.readers |= bit;
      return;
    }
    if (cell.readTime <= state.allKnown || (cell.readers & ~bit) == 0) {
      cell.readers = bit;
      cell.readTime = now;
      return;
    }
  } else if (plain && ((cell.readers & ~(1u << warp.index)) == 0 ||
                       cell.readTime <= state.allKnown)) {
    record(warp, who, cell, word, access);
    return;
  }
  if (!(cell.flags & kSplit)) {
    accessCell(warp, who, cell, word, access);
    return;
  }
  for (uint32_t i = 0; i < 4; ++i)
    accessCell(warp, who, bytes[4 * word + i],
               uint32_t(words.size()) + 4 * word + i, access);
  if (isWrite(access)) {
    uint8_t initialized = cell.initialized;
    cell = bytes[4 * word];
    cell.initialized = initialized;
  }
}

void SharedShadow::accessBytes(Warp &warp, uint32_t who, uint32_t offset,
                               uint32_t count, Access access) {
  for (uint32_t at = offset; at < offset + count; ++at) {
    Cell &cell = words[at / 4];
    uint8_t bit = uint8_t(1u << (at & 3));
    if (!(cell.initialized & bit)) {
      if (access == Access::Read && uninitialized)
        reportUninitialized(warp, who, offset, count);
      cell.initialized |= bit;
    }
    if (!races)
      continue;
    if (!(cell.flags & kSplit))
      split(at / 4);
    accessCell(warp, who, bytes[at], uint32_t(words.size()) + at, access);
  }
}

void SharedShadow::land(Warp &warp, unsigned lane, uint32_t offset,
                        uint32_t count) {
  WarpState &state = warps[warp.index];
  uint32_t segment = state.segmentBase + uint32_t(state.segmentMasks.size());
  for (uint32_t word = offset / 4; word < (offset + count) / 4; ++word) {
    Cell &cell = words[word];
    // Somebody may have written over it, which was reported then.
    if (!(cell.flags & kInFlight) || cell.writerWarp != warp.index ||
        cell.writerLane != lane)
      continue;
    cell.writeTime = now;
    cell.flags = kLanded;
    cell.segment = segment;
  }
}

} // namespace delta::sim
