//===- AdjointInterface.td - Adjoint rules of operations ---*- tablegen -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_ADJOINT_INTERFACE_TD
#define DELTA_ADJOINT_INTERFACE_TD

include "mlir/IR/OpBase.td"

def Delta_AdjointInterface : OpInterface<"AdjointInterface"> {
  let cppNamespace = "::mlir::delta";
  let description = [{
    Reverse-mode differentiation of one operation of a chunk program. Every
    operation that a cotangent can reach has it; upstream ones by external
    models (registerAdjointModels).

    Decays are differentiated in logarithms wherever their definition allows it:
    of w = exp(g) a running product's rule computes the cotangent of log w, which
    is g's. It stays finite, and is 0, where w is 0.
  }];
  let methods = [
    InterfaceMethod<[{
      Adds to the operands' cotangents what the results' cotangents are worth.
      Called once, when those of all results are complete; at least one of them
      is not zero.
    }], "void", "buildAdjoint", (ins "::mlir::delta::Cotangents &":$cotangents)>,
    InterfaceMethod<[{
      The operands that the cotangent of the result's logarithm goes on to: as
      cotangents of their logarithms, all but those of an exponential and alike,
      where the logarithm's derivative is a finite number (then there are none).
      Nothing when the operation has no such rule.
    }], "::std::optional<::llvm::SmallVector<::mlir::Value>>", "getLogOperands", (ins),
      /*methodBody=*/"", /*defaultImplementation=*/"return std::nullopt;">,
    InterfaceMethod<[{
      As buildAdjoint, for the cotangent of the result's logarithm.
    }], "void", "buildLogAdjoint", (ins "::mlir::delta::Cotangents &":$cotangents),
      /*methodBody=*/"", /*defaultImplementation=*/"llvm_unreachable(\"no rule for logarithms\");">
  ];
}

#endif // DELTA_ADJOINT_INTERFACE_TD
