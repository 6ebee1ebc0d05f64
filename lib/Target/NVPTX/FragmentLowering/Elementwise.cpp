//===- Elementwise.cpp - Operations element by element --------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// An elementwise operation on tiles is the same one on each register. Packed
// 16-bit elements stay packed where an instruction does both, and go by way of
// f32 elsewhere.
//
//===----------------------------------------------------------------------===//

#include "Lowering.h"
#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::warp;

static Type getElement(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  return tensor ? tensor.getElementType() : type;
}

LogicalResult FragmentLowering::lowerConstant(arith::ConstantOp op) {
  auto dense = dyn_cast<DenseElementsAttr>(op.getValue());
  if (!dense || !dense.isSplat())
    return op.emitOpError("expects the same number in every element of a tile");
  SmallVector<Type> types = getRegisterTypes(op.getType());
  Value value;
  if (isPacked(op.getType())) {
    uint64_t bits =
        dense.getSplatValue<APFloat>().bitcastToAPInt().getZExtValue();
    value = i32(bits << 16 | bits);
  } else {
    value = arith::ConstantOp::create(
        b, cast<TypedAttr>(dense.getSplatValue<Attribute>()));
  }
  define(op, Registers(types.size(), value));
  return success();
}

Value FragmentLowering::applyScalar(Operation *op, ValueRange operands,
                                    Type type) {
  OperationState state(b.getLoc(), op->getName(), operands, type,
                       op->getAttrs());
  Operation *scalar = b.create(state);
  return scalar->getResult(0);
}

/// Numbers of 16 bits that `value` was widened from; null if it was not.
static Value getNarrow(Value value, Type element) {
  auto wide = value.getDefiningOp<arith::ExtFOp>();
  if (!wide || getElement(wide.getIn().getType()) != element)
    return Value();
  return wide.getIn();
}

/// trunc(c ? x : y), where x or y was widened and c is the same along rows:
/// packed numbers are chosen, two at once.
bool FragmentLowering::lowerTruncatedChoice(arith::TruncFOp op) {
  auto choice = op.getIn().getDefiningOp<arith::SelectOp>();
  Type element = getElement(op.getType());
  if (!choice || !isSpread(choice.getCondition().getType()))
    return false;
  Value narrow[2] = {getNarrow(choice.getTrueValue(), element),
                     getNarrow(choice.getFalseValue(), element)};
  if (!narrow[0] && !narrow[1])
    return false;
  ArrayRef<Value> conditions = get(choice.getCondition());
  for (size_t i = 0; i < conditions.size(); i += 2)
    if (conditions[i] != conditions[i + 1])
      return false;
  auto take = [&](Value kept, Value wide) {
    if (kept)
      return Registers(get(kept));
    Registers packed;
    ArrayRef<Value> values = get(wide);
    for (size_t i = 0; i < values.size(); i += 2)
      packed.push_back(pack(values[i], values[i + 1], element));
    return packed;
  };
  Registers first = take(narrow[0], choice.getTrueValue());
  Registers second = take(narrow[1], choice.getFalseValue()), results;
  for (size_t i = 0; i < first.size(); ++i)
    results.push_back(select(conditions[2 * i], first[i], second[i]));
  define(op, results);
  return true;
}

LogicalResult FragmentLowering::lowerElementwise(Operation *op) {
  if (!op->hasTrait<OpTrait::Elementwise>() || op->getNumResults() != 1)
    return op->emitOpError()
           << "cannot be lowered: of operations outside delta_warp only those "
              "element by element work on tiles";
  Value result = op->getResult(0);
  Type resultElement = getElement(result.getType());
  SmallVector<ArrayRef<Value>> operands;
  for (Value operand : op->getOperands())
    operands.push_back(get(operand));

  bool packedOperand = llvm::any_of(op->getOperandTypes(), isPacked);
  bool packedResult = isPacked(result.getType());
  size_t count = getRegisterTypes(result.getType()).size();
  Registers results;
  // Register `index` of operand `number`; numbers that are no tile stand for
  // themselves.
  auto at = [&](unsigned number, size_t index) {
    return operands[number].size() == 1 &&
                   !isSpread(op->getOperand(number).getType())
               ? operands[number][0]
               : operands[number][index];
  };

  // c ? x * y : z * w is (c ? x : z) * (c ? y : w): the factors' choice often
  // serves several products.
  if (auto choice = dyn_cast<arith::SelectOp>(op);
      choice && resultElement.isF32() && isSpread(result.getType())) {
    auto first = choice.getTrueValue().getDefiningOp<arith::MulFOp>();
    auto second = choice.getFalseValue().getDefiningOp<arith::MulFOp>();
    if (first && second && first != second && first->hasOneUse() &&
        second->hasOneUse()) {
      ArrayRef<Value> x = get(first.getLhs()), y = get(first.getRhs());
      ArrayRef<Value> z = get(second.getLhs()), w = get(second.getRhs());
      for (size_t i = 0; i < count; ++i)
        results.push_back(arith::MulFOp::create(b, select(at(0, i), x[i], z[i]),
                                                select(at(0, i), y[i], w[i])));
      define(result, results);
      return success();
    }
  }

  if (!packedOperand && !packedResult) {
    for (size_t i = 0; i < count; ++i) {
      Registers values;
      for (unsigned number = 0; number < operands.size(); ++number)
        values.push_back(at(number, i));
      results.push_back(applyScalar(op, values, resultElement));
    }
    define(result, results);
    return success();
  }

  if (isa<arith::ExtFOp>(op)) {
    Type element = getElement(op->getOperand(0).getType());
    for (Value packed : operands[0]) {
      auto [low, high] = unpack(packed, element);
      results.append({low, high});
    }
    define(result, results);
    return success();
  }
  if (isa<arith::TruncFOp>(op)) {
    if (lowerTruncatedChoice(cast<arith::TruncFOp>(op)))
      return success();
    for (size_t i = 0; i < count; ++i)
      results.push_back(
          pack(operands[0][2 * i], operands[0][2 * i + 1], resultElement));
    define(result, results);
    return success();
  }
  if (isa<arith::SelectOp>(op)) {
    bool scalar = !isSpread(op->getOperand(0).getType());
    for (size_t i = 0; i < count; ++i) {
      Value low = scalar ? operands[0][0] : operands[0][2 * i];
      Value high = scalar ? operands[0][0] : operands[0][2 * i + 1];
      Value yes = at(1, i), no = at(2, i);
      results.push_back(low == high
                            ? select(low, yes, no)
                            : bitOr(bitAnd(select(low, yes, no), 0xffff),
                                    bitAnd(select(high, yes, no), 0xffff0000)));
    }
    define(result, results);
    return success();
  }
  if (isa<arith::NegFOp>(op)) {
    for (size_t i = 0; i < count; ++i)
      results.push_back(bitXor(operands[0][i], i32(0x80008000)));
    define(result, results);
    return success();
  }
  bool samePacked =
      packedResult && llvm::all_of(op->getOperandTypes(), isPacked);
  if (samePacked &&
      isa<arith::MulFOp, arith::AddFOp, arith::SubFOp, math::FmaOp>(op)) {
    auto pair = VectorType::get({2}, resultElement);
    for (size_t i = 0; i < count; ++i) {
      Registers values;
      for (ArrayRef<Value> operand : operands)
        values.push_back(bitcast(operand[i], pair));
      Value value = applyScalar(op, values, pair);
      results.push_back(bitcast(value, i32Type));
    }
    define(result, results);
    return success();
  }

  // By way of f32, element by element. One rounding at the end: exact for
  // what f32 computes exactly, as rounding twice is elsewhere.
  size_t elements = packedResult ? 2 * count : count;
  Registers scalars;
  SmallVector<Registers> wide;
  for (auto [number, operand] : llvm::enumerate(op->getOperands())) {
    Registers values;
    Type type = operand.getType();
    if (isPacked(type)) {
      for (Value packed : operands[number]) {
        auto [low, high] = unpack(packed, getElement(type));
        values.append({low, high});
      }
    } else if (!isSpread(type)) {
      values.assign(elements, operands[number][0]);
    } else {
      values.assign(operands[number].begin(), operands[number].end());
    }
    wide.push_back(values);
  }
  if (packedResult || isa<arith::CmpFOp>(op)) {
    Type type = packedResult ? f32Type : resultElement;
    for (size_t i = 0; i < elements; ++i) {
      Registers values;
      for (Registers &operand : wide)
        values.push_back(operand[i]);
      scalars.push_back(applyScalar(op, values, type));
    }
    if (!packedResult) {
      define(result, scalars);
      return success();
    }
    for (size_t i = 0; i < count; ++i)
      results.push_back(
          pack(scalars[2 * i], scalars[2 * i + 1], resultElement));
    define(result, results);
    return success();
  }
  return op->emitOpError()
         << "cannot be lowered for 16-bit elements: convert them to f32 first";
}
