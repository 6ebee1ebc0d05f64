//===- PartialSums.h - Sums over CTAs, by way of the workspace --*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// CTAs that share a head's columns leave their parts of gradients that are sums
// over all columns in the workspace, in f32, block by block, each laid out as
// the array it belongs to. A second kernel adds them in order and rounds once:
// no atomics, the same bits in every run.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_PARTIALSUMS_H
#define DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_PARTIALSUMS_H

#include "delta/Target/NVPTX/Kernel.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"

namespace mlir::delta::gpumap {

class PartialSums {
public:
  /// None with one block.
  PartialSums(SignatureAttr signature, int64_t blocks);

  bool empty() const { return parts.empty(); }
  /// Adds its parts to the workspace of a module in which a kernel was made.
  void addWorkspace(ModuleOp module);
  /// The array for an out or sum of `block`, f32, and its first element; null
  /// for one that is written as it is.
  std::pair<Value, Value> getArray(ImplicitLocOpBuilder &b,
                                   const GpuKernel &kernel, ArgAttr arg,
                                   Value block) const;
  /// Fills the kernel that adds: see getFacts.
  void emitAdding(GpuKernel kernel, const GpuKernelFacts &facts) const;
  /// How that kernel is launched, `name` being that of the kernel before it.
  static GpuKernelFacts getFacts(StringRef name);

private:
  struct Part {
    ArgAttr arg;
    unsigned result = 0;  // among the outs, or among the sums
    int64_t elements = 1; // for each token and head, or for each head
    bool ofTokens = false;
    unsigned number = 0; // in the workspace
  };
  /// Elements of the part's array.
  static Value getSize(ImplicitLocOpBuilder &b, const GpuKernel &kernel,
                       const Part &part);
  Value getView(ImplicitLocOpBuilder &b, const GpuKernel &kernel,
                const Part &part, Value size) const;

  SmallVector<Part> parts;
  int64_t blocks;
};

} // namespace mlir::delta::gpumap

#endif // DELTA_LIB_TARGET_NVPTX_CHUNKTOMAPPED_PARTIALSUMS_H
