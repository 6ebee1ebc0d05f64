//===- DeltaStepOps.cpp - Verifiers of the step's operations --------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Labels C1, C2, ... are the constraints in the operations' documentation.
//
//===----------------------------------------------------------------------===//

#include "ShapeUtils.h"
#include "delta/Dialect/Delta/IR/Delta.h"
#include "mlir/IR/TypeUtilities.h"

using namespace mlir;
using namespace mlir::delta;

//===----------------------------------------------------------------------===//
// RecurrenceOp
//===----------------------------------------------------------------------===//

BlockArgument RecurrenceOp::getStateArgument() {
  return getBodyBlock()->getArguments().back();
}

YieldOp RecurrenceOp::getYield() {
  return cast<YieldOp>(getBodyBlock()->back());
}

SignatureAttr RecurrenceOp::getSignature() {
  auto module = dyn_cast_or_null<ModuleOp>((*this)->getParentOp());
  return module ? mlir::delta::getSignature(module) : SignatureAttr();
}

static Type getArgType(ArgAttr arg) {
  SmallVector<StringAttr> names;
  if (arg.getFamily())
    names.push_back(arg.getFamily());
  llvm::append_range(names, arg.getAxes());
  return getSymbolicType(arg.getContext(), names);
}

LogicalResult RecurrenceOp::verifyRegions() {
  Block *block = getBodyBlock();
  if (block->empty() || !isa<YieldOp>(block->back())) // recurrence_c1
    return emitOpError("expects its body to end with 'delta.yield'");
  SignatureAttr signature = getSignature();
  if (!signature)
    return emitOpError() << "expects its parent to be a module with '"
                         << kSignatureAttr << "'";
  SmallVector<ArgAttr> expected;
  for (ArgAttr arg : signature.getAllArgs())
    if (arg.getKind() == ArgKind::In || arg.getKind() == ArgKind::Param ||
        arg.getKind() == ArgKind::Attr)
      expected.push_back(arg);
  expected.push_back(signature.getState());
  if (block->getNumArguments() != expected.size()) // recurrence_c2
    return emitOpError() << "expects " << expected.size()
                         << " block arguments as its signature has, but got "
                         << block->getNumArguments();
  for (auto [arg, value] : llvm::zip(expected, block->getArguments()))
    if (value.getType() != getArgType(arg))
      return emitOpError() << "expects block argument '"
                           << arg.getName().getValue() << "' to be "
                           << getArgType(arg) << ", but got "
                           << value.getType();
  SmallVector<ArgAttr> outs = signature.getArgs(ArgKind::Out);
  auto yielded = getYield().getValues();
  if (yielded.size() != outs.size() + 1) // recurrence_c3
    return getYield().emitOpError()
           << "expects the state and " << outs.size()
           << " outs as the signature has, but got " << yielded.size()
           << " values";
  if (yielded[0].getType() != getStateArgument().getType())
    return getYield().emitOpError()
           << "expects the state to be " << getStateArgument().getType()
           << ", but got " << yielded[0].getType();
  for (auto [arg, value] : llvm::zip(outs, yielded.drop_front()))
    if (value.getType() != getArgType(arg))
      return getYield().emitOpError()
             << "expects out '" << arg.getName().getValue() << "' to be "
             << getArgType(arg) << ", but got " << value.getType();
  return success();
}

//===----------------------------------------------------------------------===//
// ForOp
//===----------------------------------------------------------------------===//

// Written by hand because a region that is not the operation state's while it is
// parsed leaves dangling uses behind when something in it is malformed.
ParseResult ForOp::parse(OpAsmParser &parser, OperationState &result) {
  StringAttr dim;
  OpAsmParser::UnresolvedOperand init;
  Type type;
  if (parser.parseAttribute(dim, "dim", result.attributes) ||
      parser.parseKeyword("init") || parser.parseLParen() ||
      parser.parseOperand(init) || parser.parseRParen() ||
      parser.parseOptionalAttrDict(result.attributes) ||
      parser.parseColonType(type) ||
      parser.resolveOperand(init, type, result.operands))
    return failure();
  result.addTypes(type);
  return parser.parseRegion(*result.addRegion());
}

void ForOp::print(OpAsmPrinter &printer) {
  printer << ' ' << getDimAttr() << " init(" << getInit() << ')';
  printer.printOptionalAttrDict((*this)->getAttrs(), {"dim"});
  printer << " : " << getResult().getType() << ' ';
  printer.printRegion(getBody());
}

LogicalResult ForOp::verifyRegions() {
  Block &block = getBody().front();
  Type type = getResult().getType();
  if (block.getNumArguments() != 2 || !block.getArgument(0).getType().isIndex() ||
      block.getArgument(1).getType() != type) // for_c1
    return emitOpError() << "expects the block arguments index and " << type;
  auto yield = dyn_cast<YieldOp>(block.back());
  if (!yield || yield.getValues().size() != 1 ||
      yield.getValues()[0].getType() != type)
    return emitOpError() << "expects its body to yield one " << type;
  return success();
}

//===----------------------------------------------------------------------===//
// Linear algebra
//===----------------------------------------------------------------------===//

LogicalResult MicroOp::verify() {
  SmallVector<Axis> axes = getAxes(getFamily().getType());
  return expectAxes(getOperation(), ArrayRef(axes).drop_front(),
                    getResult().getType()); // micro_c1
}

LogicalResult OuterOp::verify() {
  return expectAxes(getOperation(),
                    {getAxes(getX().getType())[0], getAxes(getY().getType())[0]},
                    getResult().getType()); // outer_c1
}

LogicalResult MatvecOp::verify() {
  SmallVector<Axis> matrix = getAxes(getMatrix().getType());
  Axis x = getAxes(getX().getType())[0];
  unsigned contracted = getTranspose() ? 0 : 1;
  if (matrix[contracted] != x) // matvec_c1
    return emitOpError() << "expects the vector's axis to be "
                         << matrix[contracted] << ", but got " << x;
  return expectAxes(getOperation(), {matrix[1 - contracted]},
                    getResult().getType());
}

LogicalResult TransposeOp::verify() {
  SmallVector<Axis> matrix = getAxes(getMatrix().getType());
  return expectAxes(getOperation(), {matrix[1], matrix[0]},
                    getResult().getType());
}

LogicalResult DiagOp::verify() {
  Axis x = getAxes(getX().getType())[0];
  return expectAxes(getOperation(), {x, x}, getResult().getType());
}

LogicalResult EyeOp::verify() {
  SmallVector<Axis> axes = getAxes(getResult().getType());
  if (axes[0] != axes[1])
    return emitOpError() << "expects a square matrix, but got " << axes[0]
                         << " x " << axes[1];
  return success();
}

LogicalResult BroadcastOp::verify() {
  SmallVector<Axis> in = getAxes(getInput().getType());
  SmallVector<Axis> out = getAxes(getResult().getType());
  if (getElementTypeOrSelf(getInput().getType()) !=
      getElementTypeOrSelf(getResult().getType())) // broadcast_c1
    return emitOpError() << "expects one element type, but got "
                         << getInput().getType() << " and "
                         << getResult().getType();
  if (in.empty()) {
    if (getDim())
      return emitOpError("expects no dim for a scalar");
    return success();
  }
  if (in.size() != 1 || out.size() != 2 || !getDim() ||
      *getDim() > 1)
    return emitOpError() << "expects a scalar, or a vector with dim 0 or 1 and "
                            "a matrix result, but got "
                         << getInput().getType() << " and "
                         << getResult().getType();
  if (out[*getDim()] != in[0])
    return emitOpError() << "expects the result's axis " << *getDim()
                         << " to be " << in[0] << ", but got "
                         << out[*getDim()];
  return success();
}

LogicalResult SumOp::verify() {
  SmallVector<Axis> axes = getAxes(getInput().getType());
  if (axes.empty() || axes.size() > 2)
    return emitOpError() << "expects a tensor of rank 1 or 2, but got "
                         << getInput().getType();
  return expectAxes(getOperation(), ArrayRef(axes).drop_back(),
                    getResult().getType()); // sum_c1
}
