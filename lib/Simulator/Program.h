//===- Program.h - decoded kernels ------------------------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The form that is executed: one handler an instruction, operands resolved to
// places in a warp's register file. A register is an array over the 32 lanes,
// of 32-bit words (also for narrower types, zero-extended) or 64-bit ones; a
// predicate is a mask. Constants and special registers are registers that are
// filled when a warp starts.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_LIB_SIMULATOR_PROGRAM_H
#define DELTA_LIB_SIMULATOR_PROGRAM_H

#include "Ptx.h"
#include "delta/Simulator/Module.h"
#include "delta/Simulator/Stats.h"

#include <memory>

namespace delta::sim {

struct Warp;
struct Inst;

/// Executes an instruction for the lanes of `mask` (never empty, except for
/// control flow).
using Handler = void (*)(Warp &warp, const Inst &inst, uint32_t mask);

constexpr uint32_t kLanes = 32;
constexpr uint32_t kNone = UINT32_MAX;
constexpr uint32_t kFullMask = UINT32_MAX;

/// Addresses of the generic space that are not global memory.
constexpr uint64_t kSharedWindow = uint64_t(0x7f10) << 32;
constexpr uint64_t kLocalWindow = uint64_t(0x7f20) << 32;
constexpr uint64_t kParamWindow = uint64_t(0x7f30) << 32;
constexpr uint64_t kWindowBytes = uint64_t(1) << 36;

struct Inst {
  Handler run = nullptr;
  /// Destinations first. Byte offsets into the register file, or numbers of
  /// predicates; kNone for what is absent.
  uint32_t op[16];
  int64_t imm = 0;
  uint32_t target = kNone;     ///< of a branch
  uint32_t reconverge = kNone; ///< where its two sides meet
  uint32_t guard = kNone;      ///< number of a predicate
  uint32_t line = 0;
  bool guardNegated = false;
  bool always = false;  ///< runs with an empty mask too
  bool checked = false; ///< has register reads or writes to track
  bool uniform = false;
  InstructionClass cls = InstructionClass::Integer;
  ptx::Space space = ptx::Space::Generic;
  uint8_t elementBytes = 0; ///< of a memory access
  uint8_t vector = 1;
  uint8_t kind = 0;        ///< handlers' own: comparison, rounding...
  uint8_t flags = 0;       ///< handlers' own
  bool wideAddress = true; ///< the address register has 64 bits
  uint32_t flops = 0;

  Inst() {
    for (uint32_t &o : op)
      o = kNone;
  }
};

/// Registers read and written, kept beside the code for the analysis of
/// uninitialised registers.
struct InstRegisters {
  std::vector<uint32_t> reads, writes;
  /// A move of bits: passes on that its sources are uninitialised; with several
  /// sources, that all of them are.
  bool copies = false;
};

enum class Special : uint8_t {
  TidX,
  TidY,
  TidZ,
  NtidX,
  NtidY,
  NtidZ,
  CtaidX,
  CtaidY,
  CtaidZ,
  NctaidX,
  NctaidY,
  NctaidZ,
  LaneId,
  WarpId,
  NwarpId,
  LanemaskEq,
  LanemaskLt,
  LanemaskLe,
  LanemaskGt,
  LanemaskGe,
  SmId,
  NsmId,
  GridId,
  DynamicSharedBytes,
  TotalSharedBytes,
  Zero
};

struct ConstantSlot {
  uint32_t slot = 0;
  bool wide = false;
  uint64_t bits = 0;
  uint32_t globalVariable = kNone; ///< its address is added
  bool dynamicShared = false;      ///< the dynamic area's offset is added
};

struct SpecialSlot {
  uint32_t slot = 0;
  bool wide = false;
  Special special = Special::Zero;
};

struct SharedVariable {
  std::string name;
  uint32_t offset = 0, bytes = 0;
};

/// The targets of a brx.idx.
using BranchTable = std::vector<uint32_t>;

struct KernelProgram {
  KernelInfo info;
  std::vector<Inst> code;
  std::vector<std::string_view> opcodes; ///< as written, by instruction
  uint32_t registerBytes = 0;
  uint32_t numPredicates = 0;
  std::vector<std::string> registerNames; ///< by number of `reads`/`writes`
  std::vector<InstRegisters> registers;   ///< empty for unchecked instructions
  std::vector<bool> tracked;              ///< registers that may be unset
  std::vector<BranchTable> branchTables;
  std::vector<ConstantSlot> constants;
  std::vector<SpecialSlot> specials;
  std::vector<SharedVariable> shared;
  std::vector<uint32_t> paramOffsets;
  uint32_t paramBytes = 0;
  uint32_t localBytes = 0;
  uint32_t dynamicSharedOffset = 0; ///< where dynamic shared memory starts
  bool globalAtomics = false;       ///< CTAs run one after the other
  bool mayReadUnset = false;
};

struct Program {
  std::unique_ptr<ptx::File> file;
  std::vector<std::unique_ptr<ptx::Function>> inlined; ///< kernels with calls
  std::vector<KernelInfo> infos;
  std::vector<KernelProgram> kernels;
};

} // namespace delta::sim

#endif // DELTA_LIB_SIMULATOR_PROGRAM_H
