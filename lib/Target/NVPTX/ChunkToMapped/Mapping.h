//===- Mapping.h - How a chunk program is laid out on a GPU -----*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The decisions of the forward kernel, chosen in one place and only read by
// the emitter.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_MAPPING_H
#define DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_MAPPING_H

#include "Program.h"
#include "delta/Dialect/Warp/IR/Warp.h"
#include "delta/Target/NVPTX/ChunkToMapped/Passes.h"
#include "delta/Target/NVPTX/GpuTarget.h"

namespace mlir::delta::gpumap {

/// How operands of matrix instructions are rounded and kept.
struct OperandPolicy {
  warp::Operand mma = warp::Operand::Native;
  /// Element type of operands in registers and of tiles made for them.
  Type type;

  /// From a precision's name; an error at `module` for one without matrix
  /// instructions.
  static FailureOr<OperandPolicy> get(ModuleOp module, StringRef precision);

  /// Is the value an input whose elements are operands as they come? Decay
  /// products scale it in that type: bf16, whose range is that of f32.
  bool isNarrow(const Program &program, Value value) const;
};

/// What of the program a kernel computes.
enum class Slices { Both, Free, State };

struct GpuMapping {
  Slices slices = Slices::Both;
  int64_t warps = 1;        // that hold the state
  int64_t rowsPerWarp = 16; // columns of the state, rows of a warp's fragments
  int64_t vBlocks = 1;      // CTAs that share a head's columns
  int64_t blockCols = 0;    // columns of one of them
  int64_t kSplit = 1;      // warps that share a chunk's free slice, by channels
  int64_t window = 1;      // chunks between two passes of the free slice
  int64_t stages = 2;      // windows in shared memory; see isOverlapped
  int64_t sharedBytes = 0; // estimate the choice was made with
  /// Registers are short: addresses and masks are computed anew for each part
  /// of a window instead of being kept over all of them.
  bool tight = false;
  /// With two kernels, the first one prepares `freeWindow` chunks a CTA, one a
  /// warp, and leaves in global memory what the second one, to which all other
  /// choices belong, wants of them.
  int64_t kernels = 1;
  int64_t freeWindow = 0;
  int64_t freeCtas = 1;   // of the first one, that a multiprocessor holds
  bool freeTight = false; // as `tight`, of the first one

  /// The mappings of the two kernels.
  GpuMapping getFreeMapping(int64_t columns) const;
  GpuMapping getStateMapping() const;

  /// With three stages, warps of their own prepare a window while the others
  /// work on the one before it and the one after it is copied.
  bool isOverlapped() const { return stages == 3; }
  /// A state slice without the free one has a warp beside it that copies.
  bool hasCopier() const { return slices == Slices::State; }
  /// Warps of all kinds; those that only prepare come first, one that only
  /// copies last.
  int64_t getAllWarps() const {
    return warps + (isOverlapped() ? window : 0) + hasCopier();
  }
  int64_t getThreads() const { return getAllWarps() * 32; }
  DictionaryAttr getAttr(MLIRContext *context) const;
};

/// A mapping with what the choice is made by: estimates, in cycles of one
/// multiprocessor for one chunk of one head.
struct Candidate {
  GpuMapping mapping;
  int64_t registers = 0;       // a thread
  int64_t registerLimit = 0;   // that a thread can have
  bool holdsState = true;      // does that suffice for the state slice?
  int64_t spilled = 0;         // registers that are missing
  int64_t ctas = 0;            // on a multiprocessor; 0 does not fit
  double issue = 0.0;          // of instructions, all warps of a CTA together
  double shared = 0.0;         // of shared memory, the same
  double latency = 0.0;        // of a CTA that is alone
  double free = 0.0;           // of a first kernel and of what it writes
  int64_t recordBytes = 0;     // that it leaves of a chunk
  int64_t freeSharedBytes = 0; // of a CTA of it
  double cost = 0.0;           // with others beside it, for one head
};

/// All mappings that the options leave.
SmallVector<Candidate> enumerateMappings(const Program &program,
                                         const OperandPolicy &policy,
                                         const ::delta::gpu::GpuTarget &target,
                                         const GpuMapOptions &options);

/// Floating-point operations of the matrix instructions for one chunk of one
/// head, both slices, dims rounded up to tiles: a decay-Gram by levels has four
/// products of 16 x 8 for each two rows and one column and slice, and one of
/// 16 x 16 for a diagonal that is none of f32 sums; otherwise Grams, mixes and
/// products with the state count as in the chunk form.
int64_t countMmaFlops(const Program &program, const OperandPolicy &policy,
                      const GpuMapping &mapping);

/// Does the diagonal of a decay-Gram's pair by levels come from the whole
/// product of both as they are? Otherwise it is summed in f32.
bool isDiagonalOfProduct(const Program &program, const OperandPolicy &policy,
                         DecayGramOp op, unsigned row, unsigned col);

/// Can a mapping be chosen?
bool hasMapping(const Program &program, const OperandPolicy &policy,
                const ::delta::gpu::GpuTarget &target,
                const GpuMapOptions &options);

/// Are there choices that the options pin?
bool isPinned(const GpuMapOptions &options);

/// The best mapping with its estimates; reports what chooseMapping does.
FailureOr<Candidate> chooseCandidate(const Program &program,
                                     const OperandPolicy &policy,
                                     const ::delta::gpu::GpuTarget &target,
                                     const GpuMapOptions &options);

/// Chooses the mapping; reports, with the bytes, a program that cannot fit.
FailureOr<GpuMapping> chooseMapping(const Program &program,
                                    const OperandPolicy &policy,
                                    const ::delta::gpu::GpuTarget &target,
                                    const GpuMapOptions &options);

/// The shared array for `rows` x `cols` of `elementType` behind `lead` axes,
/// swizzled or padded so that 8 rows at one column lie in different banks.
warp::SharedType getTileType(ArrayRef<int64_t> lead, int64_t rows, int64_t cols,
                             Type elementType);

/// Channels of a matrix, rounded up to whole slices.
inline int64_t getPaddedChannels(int64_t channels) {
  return (channels + 15) / 16 * 16;
}

/// Makes the module one of stage `mapped` where its kernels are in place of the
/// program.
void finishMapped(ModuleOp module, func::FuncOp program,
                  SignatureAttr signature);

} // namespace mlir::delta::gpumap

#endif // DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_MAPPING_H
