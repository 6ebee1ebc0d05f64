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

def ExpandNarrowFloats : Pass<"delta-expand-narrow-floats"> {
  let summary = "Convert 16-bit floats without help of a run-time library";
  let description = [{
    LLVM converts between f32 and f16 or bf16 by calls of the compiler's
    run-time library where the CPU cannot. With `f16` and `bf16` these
    conversions become bit operations, rounding to nearest even. Conversions
    between 16 and 64 bits go through f32 in any case.
  }];
  let options = [
    Option<"f16", "f16", "bool", "true", "Expand conversions of f16">,
    Option<"bf16", "bf16", "bool", "true", "Expand conversions of bf16">];
  let dependentDialects = ["::mlir::arith::ArithDialect"];
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

def DecodeHoistReads : Pass<"delta-decode-hoist-reads", "::mlir::ModuleOp"> {
  let summary = "Make every read of a token one of the state before it";
  let description = [{
    Contract in and out: stage `events`. Every state of a token is
    `s diag(d) S + sum_j y_j c_j^T` with S the state before it, so a read of it
    is a read of S plus products of vectors. Afterwards all reads are of the
    recurrence's argument, and at most one decay and then the writes follow:
    one pass over the state reads, one updates.
  }];
  let dependentDialects = ["::mlir::arith::ArithDialect"];
}

def DecodeMap : Pass<"delta-decode-map", "::mlir::ModuleOp"> {
  let summary = "Map events to a CPU kernel that runs token by token";
  let description = [{
    Contract in: stage `events`, every dim bound. Out: stage `mapped`, the
    recurrent form of the recurrence for `--fn=decode`: for each sequence, head
    and panel of the state's columns it goes through the tokens with the panel
    in the first-level cache. All reads of a token and the update of the token
    before are one pass over the panel; with one token, the state goes from the
    initial to the final array with one read and one write of memory, and
    large states are stored past the cache.

    Expressions over the state's rows and over other dims are evaluated once a
    token and panel; those over its columns stay in registers.
  }];
  let options = [
    Option<"targetCpu", "target-cpu", "std::string", "\"\"",
           "LLVM's name of the CPU; empty or \"native\" for this machine">,
    Option<"compute", "compute", "std::string", "\"\"",
           "Type computed in: f32 or f64; empty: f64 if an array is f64, else f32">];
  let dependentDialects = ["::mlir::arith::ArithDialect", "::mlir::math::MathDialect",
                           "::mlir::func::FuncDialect", "::mlir::memref::MemRefDialect",
                           "::mlir::scf::SCFDialect", "::mlir::vector::VectorDialect"];
}

#endif // DELTA_TARGET_CPU_PASSES_TD
