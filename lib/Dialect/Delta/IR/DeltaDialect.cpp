//===- DeltaDialect.cpp - The delta dialect and its stages ----------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Registration, and the verifier of `delta.stage`: it rejects modules that mix
// operations of different stages.
//
//===----------------------------------------------------------------------===//

#include "delta/Dialect/Delta/IR/Delta.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::delta;

#include "delta/Dialect/Delta/IR/DeltaDialect.cpp.inc"
#include "delta/Dialect/Delta/IR/DeltaEnums.cpp.inc"

#define GET_ATTRDEF_CLASSES
#include "delta/Dialect/Delta/IR/DeltaAttrs.cpp.inc"

#define GET_OP_CLASSES
#include "delta/Dialect/Delta/IR/DeltaOps.cpp.inc"

void DeltaDialect::initialize() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "delta/Dialect/Delta/IR/DeltaAttrs.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "delta/Dialect/Delta/IR/DeltaOps.cpp.inc"
      >();
}

Operation *DeltaDialect::materializeConstant(OpBuilder &builder,
                                             Attribute value, Type type,
                                             Location loc) {
  return arith::ConstantOp::materialize(builder, value, type, loc);
}

//===----------------------------------------------------------------------===//
// Stages
//===----------------------------------------------------------------------===//

StringRef mlir::delta::stringifyStage(Stage stage) {
  switch (stage) {
  case Stage::Step:
    return "step";
  case Stage::Events:
    return "events";
  case Stage::Chunk:
    return "chunk";
  case Stage::Mapped:
    return "mapped";
  case Stage::LLVM:
    return "llvm";
  }
  return "";
}

std::optional<Stage> mlir::delta::symbolizeStage(StringRef name) {
  for (Stage stage : {Stage::Step, Stage::Events, Stage::Chunk, Stage::Mapped,
                      Stage::LLVM})
    if (name == stringifyStage(stage))
      return stage;
  return std::nullopt;
}

std::optional<Stage> mlir::delta::getStage(ModuleOp module) {
  auto name = module->getAttrOfType<StringAttr>(kStageAttr);
  return name ? symbolizeStage(name.getValue()) : std::nullopt;
}

void mlir::delta::setStage(ModuleOp module, Stage stage) {
  module->setAttr(kStageAttr, StringAttr::get(module.getContext(),
                                              stringifyStage(stage)));
}

ArgAttr mlir::delta::lookupArg(SignatureAttr signature, Value value) {
  auto argument = dyn_cast<BlockArgument>(value);
  if (!argument || !signature)
    return {};
  auto function =
      dyn_cast_or_null<func::FuncOp>(argument.getOwner()->getParentOp());
  if (!function)
    return {};
  auto name = function.getArgAttrOfType<StringAttr>(argument.getArgNumber(),
                                                    kArgNameAttr);
  return name ? signature.lookup(name.getValue()) : ArgAttr();
}

SignatureAttr mlir::delta::getSignature(ModuleOp module) {
  return module->getAttrOfType<SignatureAttr>(kSignatureAttr);
}

void mlir::delta::setSignature(ModuleOp module, SignatureAttr signature) {
  module->setAttr(kSignatureAttr, signature);
}

RecurrenceOp mlir::delta::getRecurrence(ModuleOp module) {
  auto ops = module.getOps<RecurrenceOp>();
  if (ops.empty() || !llvm::hasSingleElement(ops))
    return {};
  return *ops.begin();
}

/// The dialect of GPU kernels in stage mapped, which this one does not link.
static constexpr StringLiteral kWarpNamespace("delta_warp");

/// Is `op`, an operation of this dialect or of the warp dialect, allowed in
/// `stage`?
static bool isAllowedIn(Operation *op, Stage stage) {
  bool step = stage == Stage::Step, events = stage == Stage::Events,
       chunk = stage == Stage::Chunk, mapped = stage == Stage::Mapped;
  if (op->getDialect()->getNamespace() == kWarpNamespace)
    return mapped;
  return TypeSwitch<Operation *, bool>(op)
      .Case<BroadcastOp, SumOp>([&](auto) { return step || events || chunk; })
      .Case<SigmoidOp, SoftplusOp>(
          [&](auto) { return step || events || chunk || mapped; })
      .Case<HeavisideOp>([&](auto) { return chunk || mapped; })
      .Case<RecurrenceOp, YieldOp, MicroOp, DimOp>(
          [&](auto) { return step || events; })
      .Case<ForOp, OuterOp, MatvecOp, TransposeOp, DiagOp, EyeOp>(
          [&](auto) { return step; })
      .Case<DecayOp, ReadOp, WriteOp>([&](auto) { return events; })
      .Case<MatmulOp>([&](auto) { return step || chunk; })
      .Default([&](auto) { return chunk; });
}

LogicalResult DeltaDialect::verifyOperationAttribute(Operation *op,
                                                     NamedAttribute attribute) {
  StringRef name = attribute.getName();
  if (name == kSignatureAttr) {
    if (!isa<SignatureAttr>(attribute.getValue()))
      return op->emitOpError() << "expects '" << name
                               << "' to be a #delta.signature, but got "
                               << attribute.getValue();
    return success();
  }
  if (name != kStageAttr)
    return success();
  auto module = dyn_cast<ModuleOp>(op);
  if (!module)
    return op->emitOpError() << "expects '" << name
                             << "' only on a module";
  auto text = dyn_cast<StringAttr>(attribute.getValue());
  std::optional<Stage> stage =
      text ? symbolizeStage(text.getValue()) : std::nullopt;
  if (!stage)
    return op->emitOpError()
           << "expects '" << name
           << "' to be \"step\", \"events\", \"chunk\", \"mapped\" or "
              "\"llvm\", but got "
           << attribute.getValue();
  if (!getSignature(module))
    return op->emitOpError() << "expects '" << kSignatureAttr << "' beside '"
                             << name << "'";
  if (*stage == Stage::Step || *stage == Stage::Events) {
    if (!getRecurrence(module))
      return op->emitOpError() << "expects exactly one 'delta.recurrence' in stage "
                               << stringifyStage(*stage);
  } else if (*stage == Stage::Chunk) {
    // Private: the program of the states between two checkpoints.
    if (llvm::count_if(module.getOps<func::FuncOp>(), [](func::FuncOp function) {
          return !function.isPrivate();
        }) != 1)
      return op->emitOpError()
             << "expects exactly one 'func.func' in stage chunk";
  }
  Operation *stranger = nullptr;
  module.walk([&](Operation *nested) {
    Dialect *dialect = nested->getDialect();
    if (!dialect ||
        (!isa<DeltaDialect>(dialect) &&
         dialect->getNamespace() != kWarpNamespace) ||
        isAllowedIn(nested, *stage))
      return WalkResult::advance();
    stranger = nested;
    return WalkResult::interrupt();
  });
  if (stranger)
    return stranger->emitOpError()
           << "is not allowed in a module of stage " << stringifyStage(*stage);
  return success();
}

//===----------------------------------------------------------------------===//
// Symbolic types
//===----------------------------------------------------------------------===//

Type mlir::delta::getSymbolicType(MLIRContext *context,
                                  ArrayRef<StringAttr> names) {
  Type f64 = Float64Type::get(context);
  if (names.empty())
    return f64;
  SmallVector<int64_t> shape(names.size(), ShapedType::kDynamic);
  return RankedTensorType::get(shape, f64, DimsAttr::get(context, names));
}

ArrayRef<StringAttr> mlir::delta::getDimNames(Type type) {
  if (auto tensor = dyn_cast<RankedTensorType>(type))
    if (auto dims = dyn_cast_or_null<DimsAttr>(tensor.getEncoding()))
      return dims.getNames();
  return {};
}
