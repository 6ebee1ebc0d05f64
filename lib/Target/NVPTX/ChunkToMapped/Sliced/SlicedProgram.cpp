//===- SlicedProgram.cpp - What a sliced kernel is made of ----------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// What each value is (channels, columns of the state, C x C, ...), the analysis
// from the results backwards, and who does one warp's work.
//
//===----------------------------------------------------------------------===//

#include "../ColumnBlocks.h"
#include "SlicedKernel.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::gpumap;

//===----------------------------------------------------------------------===//
// Shapes
//===----------------------------------------------------------------------===//

SlicedKernel::Shape SlicedKernel::getShape(Value value) {
  auto known = shapes.find(value);
  if (known != shapes.end())
    return known->second;
  Shape shape;
  if (auto argument = dyn_cast<BlockArgument>(value)) {
    if (value == state || value == checkpoint) {
      shape = {Kind::State, Cols};
    } else if (ArgAttr arg = getArg(argument)) {
      bool in = arg.getKind() == ArgKind::In;
      unsigned rank = getRank(value);
      if (rank == 2 || (rank == 1 && !in)) {
        shape.kind = rank == 2 ? Kind::Wide : Kind::Channels;
        StringAttr axis = arg.getAxes().back();
        ArgAttr stateArg = getArg(state);
        shape.side = axis == stateArg.getAxes()[0]   ? Rows
                     : axis == stateArg.getAxes()[1] ? Cols
                                                     : None;
      } else {
        shape.kind = rank == 1 ? Kind::Tokens : Kind::Number;
      }
    }
  } else {
    shape = computeShape(value.getDefiningOp(), value);
  }
  shapes[value] = shape;
  return shape;
}

SlicedKernel::Shape SlicedKernel::computeShape(Operation *op, Value result) {
  if (!isa<RankedTensorType>(result.getType()))
    return {Kind::Number, None};
  auto of = [&](Value value) { return getShape(value); };
  if (isa<arith::ConstantOp>(op))
    return {};
  if (auto broadcast = dyn_cast<BroadcastOp>(op)) {
    Shape input = of(broadcast.getInput());
    // Numbers and tokens serve matrices of every kind.
    if (input.kind == Kind::Channels && broadcast.getDim() == 1 &&
        getRank(result) == 2 &&
        cast<RankedTensorType>(result.getType()).getDimSize(0) == kTokens &&
        stateRows != kTokens)
      return {Kind::Wide, input.side};
    return {};
  }
  if (isa<DecayGramOp, DecayMaskOp, CausalMaskOp, SetDiagonalOp>(op))
    return {Kind::Square, None};
  if (auto adjoint = dyn_cast<DecayGramAdjointOp>(op))
    return {Kind::Wide, of(adjoint.getRows()[0]).side};
  if (auto solve = dyn_cast<TriSolveOp>(op))
    return {Kind::Wide, of(solve.getRhs()[0]).side};
  if (auto matmul = dyn_cast<MatmulOp>(op)) {
    Shape lhs = of(matmul.getLhs()), rhs = of(matmul.getRhs());
    if (rhs.kind == Kind::State)
      return {Kind::Wide, matmul.getTransposeRhs() ? Rows : Cols};
    if (matmul.getTransposeRhs())
      return {Kind::Square, None};
    if (matmul.getTransposeLhs() && lhs.kind == Kind::Wide)
      return {Kind::State, Cols};
    return {Kind::Wide, rhs.side};
  }
  if (auto sum = dyn_cast<SumOp>(op)) {
    Shape input = of(sum.getInput());
    if (getRank(sum.getInput()) == 2)
      return input.kind == Kind::State ? Shape{Kind::Channels, Rows}
                                       : Shape{Kind::Tokens, None};
    return {Kind::Number, None};
  }
  if (isa<TokenSumOp, TotalProductOp>(op)) {
    Shape input = of(op->getOperand(0));
    return input.kind == Kind::Wide ? Shape{Kind::Channels, input.side}
                                    : Shape{Kind::Tokens, None};
  }
  if (isa<DiagonalOp>(op))
    return {Kind::Tokens, None};
  for (Value operand : op->getOperands())
    if (isa<RankedTensorType>(operand.getType()) &&
        of(operand).kind != Kind::Any)
      return of(operand);
  return {};
}

//===----------------------------------------------------------------------===//
// The analysis
//===----------------------------------------------------------------------===//

LogicalResult SlicedKernel::analyse() {
  unsigned last = program.getNumArguments();
  if (last < 2 || !program.getArgument(last - 1).getType().isIndex())
    return fail("the program's last argument is not the number of tokens");
  valid = program.getArgument(last - 1);
  state = program.getArgument(last - 2);
  facts.function = program;
  facts.signature = signature;
  for (BlockArgument argument : program.getArguments().drop_back()) {
    ArgAttr arg = getArg(argument);
    if (!arg)
      return fail("an argument is not in the signature");
    if (arg.getKind() == ArgKind::Checkpoint)
      checkpoint = argument;
  }
  auto shape = cast<RankedTensorType>(state.getType()).getShape();
  stateRows = shape[0];
  stateCols = shape[1];
  if (signature.getIntOption("chunk") != kTokens)
    return fail("chunks are not of 16 tokens");
  if (getArg(state).getAxes()[0] == getArg(state).getAxes()[1])
    return fail("rows and columns of the state are one axis");
  if (countSlices(Cols) > kMaxWarps)
    return fail("more than 128 columns of the state");
  if (countSlices(Rows) > 2 * kMaxWarps)
    return fail("more than 256 channels");
  warps = std::min(std::max(countSlices(Rows), countSlices(Cols)), kMaxWarps);

  Operation *terminator = program.front().getTerminator();
  Value next = terminator->getOperand(0);
  addTask(Task::Next, next, nullptr, Cols,
          std::max(0, levelInSlice(next, /*state=*/true, Cols)));
  unsigned result = 1, out = 0;
  for (ArgAttr arg : signature.getArgs(ArgKind::Out)) {
    int64_t family = arg.getFamily() ? *signature.getDim(arg.getFamily()) : 1;
    for (int64_t j = 0; j < family; ++j) {
      Value value = terminator->getOperand(result++);
      Side side = None;
      int level;
      if (getRank(value) == 2) {
        side = getShape(resolve(value)).side;
        if (side == None && !arg.getAxes().empty())
          side =
              arg.getAxes().back() == getArg(state).getAxes()[0] ? Rows : Cols;
        level = levelInSlice(value, /*state=*/false, side);
      } else {
        level = levelOfVector(value, /*inOne=*/true);
      }
      Task &task = addTask(Task::Out, value, nullptr, side, std::max(0, level));
      task.number = out;
      task.micro = j;
      task.arg = arg;
    }
    ++out;
  }
  unsigned sum = 0;
  for (ArgAttr arg : signature.getArgs(ArgKind::Sum)) {
    Value value = terminator->getOperand(result++);
    SmallVector<Value> wide;
    if (getRank(value) == 0 && isRowSum(value, wide)) {
      rowSums.insert(sum);
      for (Value matrix : wide) {
        Side side = getShape(resolve(matrix)).side;
        int level = levelInSlice(matrix, /*state=*/false, side);
        addTask(Task::RowSum, matrix, nullptr, side, std::max(0, level))
            .number = sum;
      }
    } else {
      int level = levelOfVector(value, /*inOne=*/true);
      Task &task = addTask(Task::Sum, value, nullptr, None, std::max(0, level));
      task.number = sum;
      task.arg = arg;
    }
    ++sum;
    int64_t size = 1;
    for (StringAttr axis : arg.getAxes())
      size *= *signature.getDim(axis);
    if (hasColumns(signature, arg))
      size /= choice.vBlocks;
    SmallVector<int64_t> shape{getPaddedChannels(size)};
    if (rowSums.contains(sum - 1))
      shape = {16 * std::max(countSlices(Rows), countSlices(Cols))};
    sumTypes.push_back(warp::SharedType::get(
        program.getContext(), shape, Float32Type::get(program.getContext()),
        false, 0));
  }
  findKept();
  if (copiesCheckpoint)
    savedTile.type = getTileType({choice.stages}, 16 * countSlices(Cols),
                                 16 * countSlices(Rows), policy.type);
  size_t number = 0;
  forEachPlace([&](Place &place) {
    place.doubled = number < choice.doubled.size() && choice.doubled[number];
    place.wanted = number >= choice.read.size() || choice.read[number];
    ++number;
    if (!place.doubled)
      return;
    SmallVector<int64_t> shape(place.type.getShape());
    shape.insert(shape.begin(), 2);
    place.type = warp::SharedType::get(
        program.getContext(), shape, place.type.getElementType(),
        place.type.getSwizzle(), place.type.getPad());
  });
  return success(why.empty());
}

void SlicedKernel::forEachPlace(llvm::function_ref<void(Place &)> fn) {
  for (auto *group : {&tiles, &squares, &vectors, &grams})
    for (auto &[value, stored] : *group)
      fn(stored);
  if (stateTile.type)
    fn(stateTile);
  for (System &system : systems) {
    fn(system.source);
    fn(system.inverse);
  }
  for (LevelTiles &entry : levelTiles) {
    fn(entry.rowTile);
    fn(entry.colTile);
    if (entry.diagonal.type)
      fn(entry.diagonal);
  }
  for (auto &[op, entry] : pairs) {
    fn(entry.tile);
    if (entry.diagonal.type)
      fn(entry.diagonal);
  }
}

std::vector<bool> SlicedKernel::getDoubled() const {
  std::vector<bool> doubled;
  const_cast<SlicedKernel *>(this)->forEachPlace([&](Place &place) {
    doubled.push_back(place.written >= 0 && place.lastRead >= place.written);
  });
  return doubled;
}

std::vector<bool> SlicedKernel::getRead() const {
  std::vector<bool> read;
  const_cast<SlicedKernel *>(this)->forEachPlace(
      [&](Place &place) { read.push_back(place.everRead); });
  return read;
}

bool SlicedKernel::isWanted(const Task &task) {
  if (task.type == Task::Vector)
    return vectors.find(task.value)->second.wanted;
  return true;
}

Operation *SlicedKernel::findProduct(Value value) {
  Operation *op = value ? resolve(value).getDefiningOp() : nullptr;
  if (!op)
    return nullptr;
  if (isa<MatmulOp>(op))
    return getShape(op->getResult(0)).kind == Kind::Square ? op : nullptr;
  // Stored before, or read from what is.
  if (isa<DecayGramOp, DecayGramAdjointOp, TriSolveOp>(op))
    return nullptr;
  for (Value operand : op->getOperands())
    if (Operation *found = findProduct(operand))
      return found;
  return nullptr;
}

SmallVector<SmallVector<const SlicedKernel::Task *>>
SlicedKernel::dealOut(int wanted) {
  SmallVector<SmallVector<const Task *>> work(warps);
  llvm::DenseMap<Operation *, int64_t> warpOf;
  int64_t next = 0;
  for (const Task &task : tasks) {
    if (task.side != None || task.level != wanted || !isWanted(task))
      continue;
    int64_t warp = next % warps;
    Operation *product = findProduct(task.value);
    auto known = product ? warpOf.find(product) : warpOf.end();
    if (known != warpOf.end()) {
      warp = known->second;
    } else {
      ++next;
      if (product)
        warpOf[product] = warp;
    }
    work[warp].push_back(&task);
  }
  return work;
}

std::optional<SlicedKernel> SlicedKernel::build(func::FuncOp program,
                                                SignatureAttr signature,
                                                const OperandPolicy &policy,
                                                const SlicedChoice &choice,
                                                std::string &why) {
  SlicedKernel kernel;
  kernel.program = program;
  kernel.signature = signature;
  kernel.policy = policy;
  kernel.choice = choice;
  kernel.backward = signature.getOption("fn") == "backward";
  if (failed(kernel.analyse())) {
    why = kernel.why;
    return std::nullopt;
  }
  return kernel;
}
