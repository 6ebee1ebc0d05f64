//===- SharedShadow.h - who touched shared memory when ----------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// For every word of a CTA's shared memory: which bytes were ever written, by
// whom it was last written and by which warps read since, and whether a
// cp.async is still under way to it. Order between warps comes from barriers
// alone: each warp has a clock for every other, the time up to which the
// other's accesses are known to have happened. A word that is accessed in parts
// gets a record a byte.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_LIB_SIMULATOR_SHAREDSHADOW_H
#define DELTA_LIB_SIMULATOR_SHAREDSHADOW_H

#include <array>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

namespace delta::sim {

struct Warp;

enum class Access : uint8_t { Read, Write, Atomic, Async };

class SharedShadow {
public:
  static constexpr unsigned kMaxWarps = 32;

  /// Forgets everything; `bytes` of shared memory, nothing of it written.
  void reset(uint32_t bytes, unsigned numWarps, bool races, bool uninitialized);

  /// Checks and records an access by `warp` to `bytes` from `offset`, which are
  /// in bounds. `who` are the lanes that act: one, or all active lanes for a
  /// matrix load.
  void access(Warp &warp, uint32_t who, uint32_t offset, uint32_t bytes,
              Access access) {
    if (((offset | bytes) & 3) == 0) {
      for (uint32_t word = offset / 4, end = (offset + bytes) / 4; word < end;
           ++word)
        accessWord(warp, who, word, access);
    } else {
      accessBytes(warp, who, offset, bytes, access);
    }
  }

  /// A copy issued by `lane` has arrived: its bytes count as written now.
  void land(Warp &warp, unsigned lane, uint32_t offset, uint32_t bytes);

  /// The warps of `participants` have all passed a barrier; those of `arrived`
  /// came at an earlier time and did not wait.
  void barrier(uint32_t participants,
               const std::vector<std::pair<unsigned, uint32_t>> &arrived);
  /// A warp arrives at a barrier without waiting; the time of it.
  uint32_t arrive() { return now++; }

  /// Lanes of `mask` of a warp pass a warp-level barrier.
  void warpBarrier(unsigned warp, uint32_t mask, uint32_t live);

private:
  enum Flags : uint8_t {
    kAtomic = 1,
    kInFlight = 2,  ///< a cp.async is under way
    kLanded = 4,    ///< a cp.async its thread has waited for
    kDiverged = 8,  ///< written while some lanes of the warp were elsewhere
    kSplit = 16,    ///< see the bytes
    kReadList = 32  ///< readers' times differ: see readTimes
  };

  struct Cell {
    uint32_t writeTime = 0; ///< 0: never
    uint32_t readTime = 0;
    uint32_t readers = 0; ///< warps
    uint32_t writerPc = 0;
    uint32_t segment = 0; ///< of a landed or diverged write
    uint8_t writerWarp = 0, writerLane = 0, flags = 0;
    uint8_t initialized = 0; ///< a bit a byte
  };

  /// What is known of one warp.
  struct WarpState {
    std::array<uint32_t, kMaxWarps> known{}; ///< times of the others
    uint32_t allKnown = 0;                   ///< the least of these
    uint32_t segmentBase = 1; ///< segments before are behind a barrier
    std::vector<uint32_t> segmentMasks;
  };

  static bool isWrite(Access access) { return access != Access::Read; }
  void accessWord(Warp &warp, uint32_t who, uint32_t word, Access access);
  void accessBytes(Warp &warp, uint32_t who, uint32_t offset, uint32_t bytes,
                   Access access);
  void accessCell(Warp &warp, uint32_t who, Cell &cell, uint32_t key,
                  Access access);
  void record(Warp &warp, uint32_t who, Cell &cell, uint32_t key,
              Access access);
  void recordRead(unsigned warp, Cell &cell, uint32_t key);
  void split(uint32_t word);
  void reportRace(Warp &warp, uint32_t who, const Cell &cell, uint32_t key,
                  Access access, int reader);
  void reportUninitialized(Warp &warp, uint32_t who, uint32_t offset,
                           uint32_t bytes);
  uint32_t segmentOf(Warp &warp);
  void updateAllKnown(unsigned warp);

  std::vector<Cell> words, bytes;
  std::array<WarpState, kMaxWarps> warps;
  /// Exact times of reads by warp, for cells with kReadList.
  std::unordered_map<uint32_t, std::array<uint32_t, kMaxWarps>> readTimes;
  unsigned numWarps = 0;
  uint32_t now = 1;
  bool races = true, uninitialized = true;
};

} // namespace delta::sim

#endif // DELTA_LIB_SIMULATOR_SHAREDSHADOW_H
