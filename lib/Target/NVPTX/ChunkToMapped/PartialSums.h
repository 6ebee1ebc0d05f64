//===- PartialSums.h - Sums over CTAs, by way of the workspace --*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// CTAs that share a head's columns leave their parts of gradients that are sums
// over all columns in the workspace, in f32, block by block, what belongs to a
// token side by side; CTAs that share its tokens, segment by segment, their
// parts of what is summed over tokens. A second kernel adds them in order and
// rounds once: no atomics, the same bits in every run.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_PARTIALSUMS_H
#define DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_PARTIALSUMS_H

#include "delta/Target/NVPTX/Kernel.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"

#include <optional>

namespace mlir::delta::gpumap {

/// Where a block's part of a result lies: f32, its first element, and from a
/// token to the next.
struct PartialPlace {
  Value array, offset, stride;
};

class PartialSums {
public:
  /// None with one block and (0 tokens) one segment.
  PartialSums(SignatureAttr signature, int64_t blocks,
              int64_t segmentTokens = 0);

  bool empty() const { return parts.empty(); }
  /// Adds its parts to the workspace of a module in which a kernel was made.
  void addWorkspace(ModuleOp module);
  /// That of an out or sum of `block`, for a micro-step and `row`: (b * T + t)
  /// * H + h, or b * H + h for a sum, of `segment` where there are some. None
  /// for one that is written as it is.
  std::optional<PartialPlace> getPlace(ImplicitLocOpBuilder &b,
                                       const GpuKernel &kernel, ArgAttr arg,
                                       int64_t micro, Value block, Value row,
                                       Value segment = {}) const;
  /// Fills the kernel that adds: see getFacts.
  void emitAdding(GpuKernel kernel, const GpuKernelFacts &facts) const;
  /// How that kernel is launched, `name` being that of the kernel before it.
  static GpuKernelFacts getFacts(StringRef name);

private:
  struct Part {
    ArgAttr arg;
    unsigned result = 0; // among the outs, or among the sums
    int64_t width = 1, family = 1;
    bool ofTokens = false;
    bool ofBlocks = true; // else each block writes its columns
    int64_t slot = 0;     // in the record
  };
  /// What a block leaves for each token and head, or for each head: results
  /// side by side, so that one address leads to all of them.
  struct Record {
    int64_t size = 0;
    unsigned number = 0; // in the workspace
  };
  const Record &getRecord(const Part &part) const {
    return records[part.ofTokens];
  }
  /// Rows that the result's array has.
  static Value countRows(ImplicitLocOpBuilder &b, const GpuKernel &kernel,
                         const Part &part);
  /// Parts of a row, but for those of blocks; null: one.
  Value countSegments(ImplicitLocOpBuilder &b, const GpuKernel &kernel,
                      const Part &part) const;
  int64_t countBlocks(const Part &part) const {
    return part.ofBlocks ? blocks : 1;
  }
  /// The array of a block, or (without one) of all.
  Value getView(ImplicitLocOpBuilder &b, const GpuKernel &kernel,
                const Part &part, Value block) const;

  SmallVector<Part> parts;
  Record records[2];
  int64_t blocks, segmentTokens;
};

} // namespace mlir::delta::gpumap

#endif // DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_PARTIALSUMS_H
