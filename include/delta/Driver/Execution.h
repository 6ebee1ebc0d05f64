//===- Execution.h - attrs and the reference --------------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The values of attrs, and the float64 reference on bound arrays.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_DRIVER_EXECUTION_H
#define DELTA_DRIVER_EXECUTION_H

#include "delta/Driver/Report.h"
#include "delta/Runtime/Invocation.h"

#include "mlir/IR/BuiltinOps.h"

#include <vector>

namespace delta::driver {

/// The values of the signature's attrs, in declared order: their defaults,
/// which the command line may have replaced. Reports attrs without a value and
/// values outside their declared range.
llvm::FailureOr<std::vector<double>>
evaluateAttrs(const runtime::Signature &signature,
              const runtime::NamedValues<int64_t> &dims, Reporter &reporter);

/// The value of an attr's default, which may use `attrs`. Reports one that
/// cannot be evaluated or lies outside its declared range.
llvm::FailureOr<double>
evaluateDefault(const runtime::Argument &attr,
                const runtime::NamedValues<int64_t> &dims,
                const runtime::NamedValues<double> &attrs, Reporter &reporter);

/// Evaluates a module of stage `step`, `events` or `chunk` on `arrays`, which
/// are widened to double. Results are f64.
llvm::FailureOr<runtime::Results>
runReference(mlir::ModuleOp module, const runtime::Signature &signature,
             const runtime::BoundArrays &arrays, llvm::ArrayRef<double> attrs,
             unsigned threads, Reporter &reporter);

/// Evaluates a forward module of stage `chunk` as a kernel would round that
/// takes operands of matrix products in `precision` (a name of --precision) and
/// everything else in f32; exactly for f64. Results are of the kernel's types.
llvm::FailureOr<runtime::Results>
runEmulation(mlir::ModuleOp module, llvm::StringRef precision,
             const runtime::Signature &signature,
             const runtime::BoundArrays &arrays, llvm::ArrayRef<double> attrs,
             unsigned threads, Reporter &reporter);

/// A program of stage `chunk`, with the signature of the kernel that is made of
/// it and the precision of that one's matrix products.
struct EmulatedProgram {
  mlir::ModuleOp module;
  runtime::Signature signature;
  std::string precision;
};

/// Evaluates a forward program that saves the state of every chunk, then the
/// backward one that reads them in the type that they are saved in, both as
/// `runEmulation` does. Results are those of `runtime::finishGradients`;
/// `signature` is the forward one without saved states.
llvm::FailureOr<runtime::Results> runEmulatedGradient(
    const EmulatedProgram &forward, const EmulatedProgram &backward,
    const runtime::Signature &signature, const runtime::BoundArrays &arrays,
    llvm::ArrayRef<double> attrs, unsigned threads, Reporter &reporter);

/// Differentiates a module of stage `step` or `events` on `arrays`, which hold
/// cotangents and are widened to double. Results are those of
/// `runtime::makeGradients`, in f64.
llvm::FailureOr<runtime::Results>
runReferenceGradient(mlir::ModuleOp module, const runtime::Signature &signature,
                     const runtime::BoundArrays &arrays,
                     llvm::ArrayRef<double> attrs, unsigned threads,
                     Reporter &reporter);

} // namespace delta::driver

#endif // DELTA_DRIVER_EXECUTION_H
