//===- EmitState.cpp - The state slice of the forward kernel --------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// One chunk for one warp's columns of the state, which are rows here: a chunk's
// B-wide values are held transposed, accumulators become operands as they are,
// and what comes from the free slice is the other operand.
//
//===----------------------------------------------------------------------===//

#include "Emitter.h"
#include "delta/Dialect/Delta/Transforms/VectorBuilder.h"

#include <numeric>

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::gpumap;
using warp::Axis;

Value Emitter::loadFactor(Value value, int64_t part, bool transpose) {
  value = program.resolve(value);
  RankedTensorType type = fragment(16, 16);
  auto loadAt = [&](Value array, SmallVector<Value> at) {
    at.append({index(0), index(16 * part)});
    return toOperand(load(array, at, type, transpose));
  };
  for (auto [place, array] : llvm::zip_equal(arrays.transfers, transferArrays))
    if (place.node == Node{value, Form::Wide})
      return loadAt(array, place.over >= 0
                               ? SmallVector<Value>{getStageOf(
                                                        arrays.inputs[place.over]),
                                                    chunk}
                               : getTransferIndices());
  for (auto [input, array] : llvm::zip_equal(arrays.inputs, inputArrays))
    if (input.argument == value)
      return loadAt(array, {getStageOf(input), chunk});
  llvm_unreachable("a factor has a place");
}

Value Emitter::loadSquare(Value value, bool transpose) {
  value = program.resolve(value);
  for (auto [place, array] : llvm::zip_equal(arrays.transfers, transferArrays))
    if (place.node == Node{value, Form::Square}) {
      SmallVector<Value> at = getTransferIndices();
      at.append({index(0), index(0)});
      return toOperand(load(array, at, fragment(16, 16), transpose));
    }
  llvm_unreachable("a square matrix has a place");
}

Value Emitter::getVector(Value value, Form form, int64_t part) {
  value = program.resolve(value);
  if (form == Form::StateNumber && program.isUniform(value))
    return getUniform(value);
  auto known = stateMemo.find({value, -2 - part});
  if (known != stateMemo.end())
    return known->second;
  Value result;
  RankedTensorType type = along(16, Axis::Cols);
  Form source = form == Form::StateNumber   ? Form::Number
                : form == Form::StateTokens ? Form::Tokens
                                            : Form::Channels;
  for (auto [place, array] : llvm::zip_equal(arrays.transfers, transferArrays))
    if (place.node == Node{value, source}) {
      SmallVector<Value> at = getTransferIndices();
      at.push_back(index(16 * part));
      result = load(array, at, type);
    }
  if (!result)
    for (auto [input, array] : llvm::zip_equal(arrays.inputs, inputArrays))
      if (input.argument == value)
        result = extend(
            load(array, {getStageOf(input), chunk, index(0)},
                 type));
  if (!result) {
    auto [input, factor] = *program.getConstantMultiple(value);
    return stateMemo[{value, -2 - part}] = arith::MulFOp::create(
               b, getVector(input, form), constant(factor, type));
  }
  if (form == Form::StateNumber)
    result = warp::ElementOp::create(b, b.getF32Type(), result, 0);
  return stateMemo[{value, -2 - part}] = result;
}

Value Emitter::getColumns(Value value) {
  value = program.resolve(value);
  auto known = columns.find(value);
  if (known != columns.end())
    return known->second;
  // The same for all chunks: before the windows.
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPoint(windows.getDefiningOp());
  RankedTensorType type = along(mapping.rowsPerWarp, Axis::Rows);
  Value result;
  Operation *op = value.getDefiningOp();
  if (isa<BlockArgument>(value)) {
    ArgAttr arg = program.getArg(value);
    Value column = add(firstColumn, getWarpColumn(kernelWarp));
    Value left = arith::SubIOp::create(b, index(program.stateCols), column);
    result = extend(warp::GlobalLoadOp::create(
        b, type.clone(arg.getType()), getArray(arg),
        add(mul(head, program.stateCols), column), ValueRange{index(1)},
        ValueRange{left}));
  } else if (isa<arith::ConstantOp>(op)) {
    result = constant(VectorBuilder::getConstant(value).value_or(0.0), type);
  } else if (auto broadcast = dyn_cast<BroadcastOp>(op)) {
    result = splat(getUniform(program.resolve(broadcast.getInput())), type);
  } else {
    SmallVector<Value> operands;
    for (Value operand : op->getOperands())
      operands.push_back(getColumns(operand));
    result = clonePointwise(op, operands, type);
  }
  return columns[value] = result;
}

Value Emitter::operandOf(Value turned) {
  Value &known = operandMemo[turned];
  if (!known)
    known = toOperand(turned);
  return known;
}

void Emitter::readState(MatmulOp wanted) {
  // All reads of one state go together, slice by slice: its rounded copy is
  // needed for one slice at a time only.
  Value state = program.resolve(wanted.getRhs());
  SmallVector<MatmulOp> reads{wanted};
  if (!wanted.getAcc())
    for (auto other : program.function.front().getOps<MatmulOp>())
      if (other != wanted && !other.getAcc() && !other.getTransposeLhs() &&
          !other.getTransposeRhs() &&
          program.resolve(other.getRhs()) == state &&
          program.nodes.contains({other.getResult(), Form::Turned}))
        reads.push_back(other);
  RankedTensorType type = fragment(mapping.rowsPerWarp, 16);
  SmallVector<Value> sums;
  for (MatmulOp read : reads)
    sums.push_back(read.getAcc() ? getTurned(read.getAcc()) : zeros(type));
  for (int64_t part = 0; part < slices; ++part) {
    Value operand = toOperand(getStateSlice(state, part));
    if (state == program.state)
      saveSlice(part);
    for (auto [read, sum] : llvm::zip_equal(reads, sums))
      sum = mma(operand, loadFactor(read.getLhs(), part, /*transpose=*/false),
                sum);
  }
  for (auto [read, sum] : llvm::zip_equal(reads, sums))
    stateMemo[{read.getResult(), -1}] = sum;
}

Value Emitter::getTurned(Value value) {
  value = program.resolve(value);
  auto known = stateMemo.find({value, -1});
  if (known != stateMemo.end())
    return known->second;
  RankedTensorType type = fragment(mapping.rowsPerWarp, 16);
  Operation *op = value.getDefiningOp();
  Value result;
  if (auto argument = dyn_cast<BlockArgument>(value)) {
    for (auto [input, array] : llvm::zip_equal(arrays.inputs, inputArrays)) {
      if (input.argument != argument)
        continue;
      Value column = warpColumn;
      if (!input.ownColumns)
        column = add(column, firstColumn);
      result = extend(load(array,
                           {getStageOf(input), chunk,
                            index(0), column},
                           type, /*transpose=*/true));
    }
  } else if (isa<arith::ConstantOp>(op)) {
    result = constant(VectorBuilder::getConstant(value).value_or(0.0), type);
  } else if (auto broadcast = dyn_cast<BroadcastOp>(op)) {
    Value input = program.resolve(broadcast.getInput());
    if (!isa<RankedTensorType>(input.getType()))
      result = splat(getVector(input, Form::StateNumber), type);
    else if (broadcast.getDim().value_or(0) == 0)
      result = expand(getVector(input, Form::StateTokens), type);
    else
      result = expand(getColumns(input), type);
  } else if (auto identity = dyn_cast<IdentityRowsOp>(op)) {
    Value inside = compare(
        arith::CmpIPredicate::slt, positions(Axis::Cols),
        splat(toI32(valid), along(16, Axis::Cols, b.getI32Type())));
    result = select(expand(inside, type), getTurned(identity.getInput()),
                    constant(identity.getValue().convertToDouble(), type));
  } else if (isPointwise(op)) {
    SmallVector<Value> operands;
    for (Value operand : op->getOperands())
      operands.push_back(getTurned(operand));
    result = clonePointwise(op, operands, type);
  } else if (auto matmul = dyn_cast<MatmulOp>(op)) {
    Value rhs = program.resolve(matmul.getRhs());
    if (program.isStateShaped(rhs)) {
      readState(matmul);
      return stateMemo.lookup({value, -1});
    }
    result = matmul.getAcc() ? getTurned(matmul.getAcc()) : zeros(type);
    result = mma(operandOf(getTurned(rhs)),
                 loadSquare(matmul.getLhs(), matmul.getTransposeLhs()), result);
  } else if (auto solve = dyn_cast<TriSolveOp>(op)) {
    unsigned position = 0;
    while (arrays.systems[position].op != solve)
      ++position;
    unsigned steps = solve.getRhs().size();
    for (unsigned j = 0; j < steps; ++j) {
      Value unknown = zeros(type);
      for (unsigned l = 0; l < steps; ++l) {
        SmallVector<Value> at = getTransferIndices();
        // Block (l, j) of a transposed system.
        bool turned = solve.getTranspose();
        at.append({index(turned ? l : j), index(0),
                   index((turned ? j : l) * program.chunk)});
        Value inverse = toOperand(
            load(systemInverses[position], at, fragment(16, 16), turned));
        Value rhs = solve.getRhs()[l];
        unknown = mma(operandOf(getTurned(rhs)), inverse, unknown);
      }
      stateMemo[{solve.getUnknowns()[j], -1}] = unknown;
    }
    return stateMemo.lookup({value, -1});
  }
  return stateMemo[{value, -1}] = result;
}

Value Emitter::getStateSlice(Value value, int64_t part) {
  value = program.resolve(value);
  auto known = stateMemo.find({value, part});
  if (known != stateMemo.end())
    return known->second;
  RankedTensorType type = fragment(mapping.rowsPerWarp, 16);
  Operation *op = value.getDefiningOp();
  Value result;
  if (value == program.state) {
    result = currentState[part];
  } else if (isa<arith::ConstantOp>(op)) {
    result = constant(VectorBuilder::getConstant(value).value_or(0.0), type);
  } else if (auto broadcast = dyn_cast<BroadcastOp>(op)) {
    Value input = program.resolve(broadcast.getInput());
    if (!isa<RankedTensorType>(input.getType()))
      result = splat(getVector(input, Form::StateNumber), type);
    else if (broadcast.getDim().value_or(0) == 0)
      result = expand(getVector(input, Form::StateChannels, part), type);
    else
      result = expand(getColumns(input), type);
  } else if (isPointwise(op)) {
    SmallVector<Value> operands;
    for (Value operand : op->getOperands())
      operands.push_back(getStateSlice(operand, part));
    result = clonePointwise(op, operands, type);
  } else {
    auto matmul = cast<MatmulOp>(op);
    result = matmul.getAcc() ? getStateSlice(matmul.getAcc(), part)
                             : zeros(type);
    Value rhs = program.resolve(matmul.getRhs());
    result = mma(operandOf(getTurned(rhs)),
                 loadFactor(matmul.getLhs(), part, /*transpose=*/true), result);
  }
  return stateMemo[{value, part}] = result;
}

void Emitter::emitOuts() {
  Value first = mul(add(mul(window, mapping.window), chunk), program.chunk);
  SmallVector<ArgAttr> outs = program.signature.getArgs(ArgKind::Out);
  for (unsigned out : program.stateOuts) {
    ArgAttr arg = outs[out];
    Value value = toElement(getTurned(program.outs[out]), arg.getType());
    auto [offset, stride] = getTokenOffset(arg, 0, first);
    Value column = add(firstColumn, warpColumn);
    Value left = getOwnColumns(column);
    int64_t alignment = std::gcd(
        std::gcd(program.stateCols, mapping.blockCols), mapping.rowsPerWarp);
    warp::GlobalStoreOp::create(b, value, kernel.outs[out],
                                add(offset, column),
                                ValueRange{index(1), stride},
                                ValueRange{left, valid}, alignment);
  }
}

Value Emitter::getCheckpointBase(Value number, int64_t every) {
  // [B, H, chunks, columns, rows]: as the fragments lie.
  const int64_t A = program.stateRows, B = program.stateCols;
  Value count =
      arith::CeilDivUIOp::create(b, kernel.T, index(program.chunk * every));
  Value sequence = add(mul(batch, kernel.H), head);
  return add(mul(add(mul(sequence, count), number), A * B),
             mul(add(firstColumn, warpColumn), A));
}

void Emitter::saveSlice(int64_t part) {
  if (saved.test(part))
    return;
  saved.set(part);
  const int64_t A = program.stateRows, first = 16 * part;
  OpBuilder::InsertionGuard guard(b);
  if (savesNow) {
    auto some = scf::IfOp::create(b, savesNow, /*withElseRegion=*/false);
    b.setInsertionPointToStart(some.thenBlock());
  }
  warp::GlobalStoreOp::create(
      b, toOperand(currentState[part]), kernel.checkpoints,
      add(checkpointBase, index(first)), ValueRange{index(A), index(1)},
      ValueRange{getOwnColumns(add(firstColumn, warpColumn)),
                 index(std::min<int64_t>(16, A - first))},
      std::gcd(A, int64_t(16)));
}

SmallVector<Value> Emitter::emitStateSlice(ValueRange state) {
  stateMemo.clear();
  operandMemo.clear();
  currentState.assign(state.begin(), state.end());
  valid = getValidTokens(getFirstToken(window, chunk));
  saved.clear();
  saved.resize(slices, !kernel.checkpoints);
  emitOuts();
  if (segmentChunks % mapping.window)
    emitSegmentStore(add(mul(window, mapping.window), chunk), currentState);
  for (int64_t part = 0; part < slices; ++part)
    saveSlice(part);
  Value next = program.function.front().getTerminator()->getOperand(0);
  SmallVector<Value> result;
  for (int64_t part = 0; part < slices; ++part)
    result.push_back(getStateSlice(next, part));
  return result;
}
