//===- Delta.h - The delta dialect: attributes and operations ---*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Everything that code using the dialect includes, and the names of the stages.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_DIALECT_DELTA_IR_DELTA_H
#define DELTA_DIALECT_DELTA_IR_DELTA_H

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Interfaces/ControlFlowInterfaces.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

#include "delta/Dialect/Delta/IR/DeltaDialect.h.inc"
#include "delta/Dialect/Delta/IR/DeltaEnums.h.inc"

#define GET_ATTRDEF_CLASSES
#include "delta/Dialect/Delta/IR/DeltaAttrs.h.inc"

namespace mlir::delta {
class YieldOp;
} // namespace mlir::delta

#define GET_OP_CLASSES
#include "delta/Dialect/Delta/IR/DeltaOps.h.inc"

namespace mlir::delta {

/// The stages a module can be in, in the order of compilation.
enum class Stage { Step, Events, Chunk, Mapped, LLVM };

/// "step", "events", "chunk", "mapped", "llvm".
llvm::StringRef stringifyStage(Stage stage);
std::optional<Stage> symbolizeStage(llvm::StringRef name);

/// Name of the module attribute that holds the stage (a string).
inline constexpr llvm::StringLiteral kStageAttr = "delta.stage";
/// Name of the module attribute that holds the #delta.signature.
inline constexpr llvm::StringLiteral kSignatureAttr = "delta.signature";
/// Argument attribute of a chunk program: the signature entry's name.
inline constexpr llvm::StringLiteral kArgNameAttr = "delta.arg";
/// Argument attribute of a chunk program: index in a micro-step family.
inline constexpr llvm::StringLiteral kMicroAttr = "delta.micro";

/// The module's stage, if it has a valid one.
std::optional<Stage> getStage(ModuleOp module);
void setStage(ModuleOp module, Stage stage);
/// The module's signature; null when it has none.
SignatureAttr getSignature(ModuleOp module);
void setSignature(ModuleOp module, SignatureAttr signature);
/// The signature's entry for an argument of a chunk program; null for any other
/// value, and for an argument that names none.
ArgAttr lookupArg(SignatureAttr signature, Value value);

/// The recurrence of a module of stage `step` or `events`; null if there is
/// not exactly one.
RecurrenceOp getRecurrence(ModuleOp module);

/// tensor<?x..xf64, #delta.dims<names>>; f64 for no names.
Type getSymbolicType(MLIRContext *context, ArrayRef<StringAttr> names);
/// The axis names of a type made by getSymbolicType (none for f64).
ArrayRef<StringAttr> getDimNames(Type type);

} // namespace mlir::delta

#endif // DELTA_DIALECT_DELTA_IR_DELTA_H
