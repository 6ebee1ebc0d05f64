//===- Passes.td - From the chunk program to CPU loops -----*- tablegen -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_TARGET_CPU_CHUNKTOMAPPED_PASSES_TD
#define DELTA_TARGET_CPU_CHUNKTOMAPPED_PASSES_TD

include "mlir/Pass/PassBase.td"

def DeltaCpuMap : Pass<"delta-cpu-map", "::mlir::ModuleOp"> {
  let summary = "Map a chunk program onto vector loops for a CPU";
  let description = [{
    Contract in: stage `chunk`, every shape static. Out: stage `mapped`: one
    function of scf, vector, memref, arith and math operations that runs a
    range of the work items (batch, head, block of the state's columns), with
    the attributes `delta.workspace` (bytes of arena a thread) and
    `delta.panels` (column panels that blocks are made of).

    - Slices: what does not depend on the state's columns is computed once a
      chunk, the rest once for each panel of columns, so that a panel of the
      state stays in the first-level cache while a chunk reads and updates it.
    - Elementwise expressions are recomputed in registers at their use, or
      stored when a product reads them; values of one shape share a loop nest.
    - A product keeps a tile of accumulators in registers as loop-carried
      values, over all products that are added to one result; what is computed
      from the result follows in registers.
    - Decay-Grams are evaluated by halving down to four tokens, systems by
      substitution in register tiles.

    Sums have one order for each row, whatever the number of blocks and
    threads. `vector-bits`, `registers` and `fma` describe the CPU; 0 and
    "host" mean the machine the pass runs on. `panel`, `rows`, `dot-rows` and
    `dot-cols` pin choices that the pass makes otherwise; they change no bit of
    a result.
  }];
  let options = [
    Option<"vectorBits", "vector-bits", "int64_t", "0", "Bits of a vector register: 128, 256 or 512; 0 for the host's">,
    Option<"registers", "registers", "int64_t", "0", "Vector registers; 0 for the usual number with vector-bits">,
    Option<"fma", "fma", "std::string", "\"host\"", "Fused multiply-add: on, off or host">,
    Option<"panel", "panel", "int64_t", "0", "Columns of the state in a panel, a multiple of a vector's elements; 0 chooses">,
    Option<"rows", "rows", "int64_t", "0", "Rows of a product's register tile, 1 to 16; 0 chooses">,
    Option<"dotRows", "dot-rows", "int64_t", "0", "Rows of a dot-product tile: 1, 2 or 4; 0 chooses">,
    Option<"dotCols", "dot-cols", "int64_t", "0", "Columns of a dot-product tile: 1, 2 or 4; 0 chooses">
  ];
  let dependentDialects = [
    "::mlir::arith::ArithDialect", "::mlir::func::FuncDialect",
    "::mlir::math::MathDialect", "::mlir::memref::MemRefDialect",
    "::mlir::scf::SCFDialect", "::mlir::vector::VectorDialect"];
}

#endif // DELTA_TARGET_CPU_CHUNKTOMAPPED_PASSES_TD
