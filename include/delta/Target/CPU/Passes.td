//===- Passes.td - Passes of the CPU target ----------------*- tablegen -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_TARGET_CPU_PASSES_TD
#define DELTA_TARGET_CPU_PASSES_TD

include "mlir/Pass/PassBase.td"

def ExpandMath : Pass<"delta-expand-math"> {
  let summary = "Replace elementary functions by vectorisable polynomials";
  let description = [{
    A call of libm for each lane would cost more than the rest of a kernel, so
    `math.exp`, `exp2`, `log`, `log1p`, `tanh` and `rsqrt`, `math.powf` with a
    small constant exponent, `delta.sigmoid` and `delta.softplus` on scalars
    and vectors of f32 and f64 become range reduction and a polynomial in arith
    and math.fma (f16 and bf16 by way of f32). Results are within a few units
    in the last place, NaN stays NaN, exp(-inf) is 0, overflow is inf, and what
    would be a denormal may be flushed to zero. Other functions are left for
    the conversion to LLVM, which calls libm.

    ```mlir
    %y = math.exp %x : vector<16xf32>
    ```
  }];
  let dependentDialects = ["::mlir::arith::ArithDialect", "::mlir::math::MathDialect"];
}

def CpuEntry : Pass<"delta-cpu-entry", "::mlir::ModuleOp"> {
  let summary = "Add the C entry points of a CPU kernel";
  let description = [{
    Runs on the LLVM dialect. Beside the kernel `@NAME`, whose memref arguments
    have become descriptors, the module gets the functions that C calls:
    `delta_NAME`, `delta_NAME_range`, `delta_NAME_workspace_bytes` and
    `delta_NAME_panels`. They check the dims against the compiled sizes, the
    pointers, the workspace and the range of work items, flush denormals while
    the kernel runs (x86), and return 0, or the number of what was wrong.

    `target-cpu` names the CPU (LLVM's name); empty is the host.
  }];
  let options = [
    Option<"targetCpu", "target-cpu", "std::string", "\"\"",
           "LLVM's name of the CPU; empty or \"native\" for this machine">];
  let dependentDialects = ["::mlir::LLVM::LLVMDialect"];
}

#endif // DELTA_TARGET_CPU_PASSES_TD
