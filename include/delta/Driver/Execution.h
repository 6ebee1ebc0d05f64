//===- Execution.h - running kernels and the reference ----------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Calls a compiled kernel, or the float64 reference, on bound arrays.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_DRIVER_EXECUTION_H
#define DELTA_DRIVER_EXECUTION_H

#include "delta/Driver/Binding.h"
#include "delta/Target/CPU/Launch.h"

#include <string>
#include <utility>
#include <vector>

namespace delta::driver {

/// The arrays computed: the outs in declared order, then final_state.
using Results = std::vector<std::pair<std::string, runtime::NdArray>>;

/// The values of the signature's attrs, in declared order: their defaults,
/// which the command line may have replaced. Reports attrs without a value and
/// values outside their declared range.
llvm::FailureOr<std::vector<double>>
evaluateAttrs(mlir::delta::SignatureAttr signature, const BoundArrays &arrays,
              Reporter &reporter);

/// A kernel with its arguments: made once, called as often as one likes.
class KernelCall {
public:
  /// `arrays` must have the signature's types, and outlive the call.
  static llvm::FailureOr<KernelCall>
  create(mlir::delta::SignatureAttr signature, const BoundArrays &arrays,
         llvm::ArrayRef<double> attrs, Reporter &reporter);

  /// Runs the kernel on every sequence.
  llvm::LogicalResult run(cpu::Launcher &launcher, Reporter &reporter);

  /// Bytes of all arrays that the kernel reads or writes.
  int64_t getBytes() const { return bytes; }

  Results takeResults() { return std::move(results); }

private:
  /// One call: the pointers to one batch, or to one packed sequence.
  struct Part {
    std::vector<const void *> in;
    std::vector<void *> out;
    std::vector<int64_t> dims;
  };

  Results results;
  std::vector<Part> parts;
  std::vector<double> attrs;
  int64_t bytes = 0;
};

/// Evaluates a module of stage `step`, `events` or `chunk` on `arrays`, which
/// are widened to double. Results are f64.
llvm::FailureOr<Results> runReference(mlir::ModuleOp module,
                                      const BoundArrays &arrays,
                                      llvm::ArrayRef<double> attrs,
                                      unsigned threads, Reporter &reporter);

} // namespace delta::driver

#endif // DELTA_DRIVER_EXECUTION_H
