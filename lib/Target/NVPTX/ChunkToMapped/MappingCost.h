//===- MappingCost.h - What a mapping costs ---------------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Estimated registers, instructions and time of a mapping, fitted to the
// assembler's reports and to measurements on an H200 (benchmarks/RESULTS.md).
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_MAPPINGCOST_H
#define DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_MAPPINGCOST_H

#include "Arrays.h"
#include "Mapping.h"

namespace mlir::delta::gpumap {

/// What the estimates start from.
struct MappingWork {
  double slice = 0.0, state = 0.0; // instructions
  int64_t products = 0;            // with the state
  int64_t operands = 0;            // of the largest decay-Gram
  int64_t steps = 1;               // of the largest system
  bool saves = false;              // states
  int64_t beside = 0; // registers of the state slice beside the state

  static MappingWork get(const Program &program, const OperandPolicy &policy);
};

/// Registers of a lane that a warp's part of the state takes.
int64_t getStateRegisters(int64_t A, int64_t rows);

/// What the state slice needs beside the state: an accumulator, both operands
/// of an instruction and their addresses. Without them nothing can be computed.
int64_t getSliceRegisters(const OperandPolicy &policy);

/// Registers: the state, and what the slices take beside it, addresses kept or
/// (where the candidate is tight) computed anew. Read off the assembler's
/// reports for the library's recurrences.
void estimateRegisters(const MappingWork &work, int64_t A,
                       const ::delta::gpu::GpuTarget &target,
                       Candidate &candidate);

/// Cycles, fitted to measurements on an H200. The state slice of one CTA is
/// bound by its chain of dependent products, or by the factors that all warps
/// read from shared memory; a free slice by its one warp, or by the issue slots
/// that the window's warps share.
void estimateTime(const MappingWork &work, int64_t A,
                  const ::delta::gpu::GpuTarget &target,
                  const GpuMapOptions &options, Candidate &candidate);

/// Bytes of the inputs that a kernel copies for a chunk.
int64_t getInputBytes(const Arrays &arrays, int64_t tokens);

/// The first of two kernels: as many warps as fit beside each other, a chunk
/// each, or so many as `free` says. It is bound by the memory as a rule.
bool estimateFreeKernel(const Program &program, const MappingWork &work,
                        int64_t A, const OperandPolicy &policy,
                        const ::delta::gpu::GpuTarget &target, int64_t free,
                        Candidate &candidate);

/// The second one: no slice but the state's, for which a chunk's record and
/// what is read of the inputs is copied. Fitted to CTAs that are alone on their
/// multiprocessors.
void estimateStateKernel(const MappingWork &work, int64_t A, int64_t copied,
                         const ::delta::gpu::GpuTarget &target,
                         const GpuMapOptions &options, Candidate &candidate);

} // namespace mlir::delta::gpumap

#endif // DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_MAPPINGCOST_H
