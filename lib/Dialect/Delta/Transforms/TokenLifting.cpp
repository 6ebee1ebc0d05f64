//===- TokenLifting.cpp - One token's values for C tokens -----------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// See the header.
//
//===----------------------------------------------------------------------===//

#include "TokenLifting.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/Matchers.h"

using namespace mlir;
using namespace mlir::delta;

static SmallVector<ArgAttr> getInputs(SignatureAttr signature) {
  SmallVector<ArgAttr> inputs;
  for (ArgKind kind : {ArgKind::In, ArgKind::Param, ArgKind::Attr})
    llvm::append_range(inputs, signature.getArgs(kind));
  return inputs;
}

func::FuncOp mlir::delta::createChunkFunction(OpBuilder &builder,
                                              RecurrenceOp events,
                                              SignatureAttr signature,
                                              int64_t tokens,
                                              FloatType compute) {
  SmallVector<Type> types;
  SmallVector<DictionaryAttr> attrs;
  auto add = [&](ArgAttr arg, bool perToken, std::optional<int64_t> micro) {
    SmallVector<int64_t> shape;
    if (perToken)
      shape.push_back(tokens);
    for (StringAttr axis : arg.getAxes())
      shape.push_back(*signature.getDim(axis));
    types.push_back(shape.empty() ? Type(compute)
                                  : RankedTensorType::get(shape, compute));
    NamedAttrList list;
    list.set(kArgNameAttr, arg.getName());
    if (micro)
      list.set(kMicroAttr, builder.getI64IntegerAttr(*micro));
    attrs.push_back(list.getDictionary(builder.getContext()));
  };
  for (ArgAttr arg : getInputs(signature)) {
    bool perToken = arg.getKind() == ArgKind::In;
    if (!arg.getFamily()) {
      add(arg, perToken, std::nullopt);
      continue;
    }
    for (int64_t j = 0; j < *signature.getDim(arg.getFamily()); ++j)
      add(arg, perToken, j);
  }
  add(signature.getState(), false, std::nullopt);
  types.push_back(builder.getIndexType());
  attrs.push_back(builder.getDictionaryAttr({}));
  auto function = func::FuncOp::create(builder, events.getLoc(),
                                       events.getSymName(),
                                       builder.getFunctionType(types, {}));
  function.addEntryBlock();
  for (auto [index, dict] : llvm::enumerate(attrs))
    function.setArgAttrs(index, dict);
  return function;
}

bool mlir::delta::reachesOut(Operation *op) {
  if (isa<YieldOp>(op))
    return true;
  // Through a write a value only reaches the state.
  if (isa<WriteOp, ReadOp, DecayOp>(op))
    return false;
  return llvm::any_of(op->getUsers(), reachesOut);
}

void TokenLifting::bindArguments(RecurrenceOp events,
                                 Block::BlockArgListType arguments) {
  // The recurrence has its arguments in declared order, the function has them
  // by kind with families spread.
  llvm::DenseMap<StringAttr, SmallVector<Value>> byName;
  unsigned index = 0;
  for (ArgAttr arg : getInputs(signature)) {
    int64_t count = arg.getFamily() ? *signature.getDim(arg.getFamily()) : 1;
    for (int64_t j = 0; j < count; ++j)
      byName[arg.getName()].push_back(arguments[index++]);
  }
  index = 0;
  for (ArgAttr arg : signature.getAllArgs()) {
    if (arg.getKind() == ArgKind::State || arg.getKind() == ArgKind::Out)
      continue;
    Value value = events.getBodyBlock()->getArgument(index++);
    if (arg.getFamily())
      families[value] = byName[arg.getName()];
    else
      lifted[value] = byName[arg.getName()].front();
  }
}

SmallVector<int64_t> TokenLifting::getShape(Type tokenType) {
  SmallVector<int64_t> shape;
  for (StringAttr name : mlir::delta::getDimNames(tokenType))
    shape.push_back(*signature.getDim(name));
  return shape;
}

bool TokenLifting::varies(Value chunk, Type tokenType) {
  auto tensor = dyn_cast<RankedTensorType>(chunk.getType());
  unsigned rank = tensor ? tensor.getRank() : 0;
  return rank > mlir::delta::getDimNames(tokenType).size();
}

Value TokenLifting::toTokens(Value value, Type tokenType) {
  if (varies(value, tokenType))
    return value;
  SmallVector<int64_t> shape = getShape(tokenType);
  shape.insert(shape.begin(), tokens);
  Type type = RankedTensorType::get(shape, compute);
  IntegerAttr dim;
  if (isa<RankedTensorType>(value.getType())) {
    // A repeated number is repeated at once.
    if (auto inner = value.getDefiningOp<BroadcastOp>())
      return BroadcastOp::create(builder, value.getLoc(), type,
                                 inner.getInput(), IntegerAttr());
    dim = builder.getI64IntegerAttr(1);
  }
  return BroadcastOp::create(builder, value.getLoc(), type, value, dim);
}

FailureOr<Value> TokenLifting::lift(Value value) {
  if (auto it = lifted.find(value); it != lifted.end())
    return it->second;
  Operation *op = value.getDefiningOp();
  if (!op)
    return emitError(value.getLoc())
           << "this value has no counterpart in a chunk";
  Location loc = op->getLoc();
  Value result;
  if (auto micro = dyn_cast<MicroOp>(op)) {
    IntegerAttr index;
    const SmallVector<Value> &members = families[micro.getFamily()];
    if (!matchPattern(micro.getIndex(), m_Constant(&index)) ||
        index.getInt() < 0 ||
        index.getInt() >= static_cast<int64_t>(members.size()))
      return op->emitError() << "expects a constant index below "
                             << members.size();
    result = members[index.getInt()];
  } else if (auto dim = dyn_cast<DimOp>(op)) {
    std::optional<int64_t> size = signature.getDim(dim.getName());
    if (!size)
      return op->emitError() << "needs the size of dim '" << dim.getName()
                             << "'; bind it with -D " << dim.getName() << "=...";
    result = vectors.constant(loc, static_cast<double>(*size), compute);
  } else if (std::optional<double> constant = VectorBuilder::getConstant(value)) {
    SmallVector<int64_t> shape = getShape(value.getType());
    result = vectors.splat(loc, *constant,
                           shape.empty() ? Type(compute)
                                         : RankedTensorType::get(shape, compute));
  } else if (auto broadcast = dyn_cast<BroadcastOp>(op)) {
    FailureOr<Value> input = lift(broadcast.getInput());
    if (failed(input))
      return failure();
    SmallVector<int64_t> shape = getShape(value.getType());
    if (varies(*input, broadcast.getInput().getType()))
      shape.insert(shape.begin(), tokens);
    result = vectors.broadcast(loc, *input, RankedTensorType::get(shape, compute));
  } else if (auto sum = dyn_cast<SumOp>(op)) {
    FailureOr<Value> input = lift(sum.getInput());
    if (failed(input))
      return failure();
    result = vectors.sum(loc, *input);
  } else if (op->hasTrait<OpTrait::Elementwise>() && op->getNumResults() == 1) {
    SmallVector<Value> operands;
    bool varying = false;
    for (Value operand : op->getOperands()) {
      FailureOr<Value> chunk = lift(operand);
      if (failed(chunk))
        return failure();
      operands.push_back(*chunk);
      varying |= varies(*chunk, operand.getType());
    }
    if (varying)
      for (auto [operand, chunk] : llvm::zip(op->getOperands(), operands))
        chunk = toTokens(chunk, operand.getType());
    Operation *clone = op->cloneWithoutRegions();
    clone->setOperands(operands);
    clone->getResult(0).setType(operands[0].getType());
    result = builder.insert(clone)->getResult(0);
  } else {
    return op->emitError() << "'" << op->getName()
                           << "' has no counterpart in a chunk; accepted are "
                              "elementwise operations, sums and broadcasts";
  }
  lifted[value] = result;
  return result;
}
