//===- DeltaOps.td - Operations of the delta dialect -------*- tablegen -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_OPS_TD
#define DELTA_OPS_TD

include "delta/Dialect/Delta/IR/DeltaDialect.td"
include "delta/Dialect/Delta/IR/DeltaAttrs.td"
include "mlir/IR/CommonTypeConstraints.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/ControlFlowInterfaces.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"
include "mlir/IR/OpAsmInterface.td"

class Delta_Op<string mnemonic, list<Trait> traits = []>
    : Op<Delta_Dialect, mnemonic, traits>;

// A number or a tensor of numbers.
def Delta_Scalar : AnyTypeOf<[AnyFloat]>;
def Delta_Tensor : TensorOf<[AnyFloat]>;
def Delta_Vector : TensorRankOf<[AnyFloat], [1]>;
def Delta_Matrix : TensorRankOf<[AnyFloat], [2]>;
def Delta_Value : AnyTypeOf<[AnyFloat, TensorOf<[AnyFloat]>]>;

include "delta/Dialect/Delta/IR/DeltaStepOps.td"
include "delta/Dialect/Delta/IR/DeltaEventOps.td"
include "delta/Dialect/Delta/IR/DeltaChunkOps.td"
include "delta/Dialect/Delta/IR/DeltaAdjointOps.td"

#endif // DELTA_OPS_TD
