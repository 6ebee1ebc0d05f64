//===- SlicedLevels.cpp - What a sliced kernel stores, and when -----------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// From the results backwards: a value that is read across slices, or as a
// matrix instruction's second operand, gets a place in shared memory and the
// level at which it is there.
//
//===----------------------------------------------------------------------===//

#include "SlicedKernel.h"
#include "delta/Dialect/Delta/Transforms/VectorBuilder.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::gpumap;

LogicalResult SlicedKernel::fail(const Twine &reason) {
  if (why.empty())
    why = reason.str();
  return failure();
}

//===----------------------------------------------------------------------===//
// Places
//===----------------------------------------------------------------------===//

SlicedKernel::Task &SlicedKernel::addTask(Task::Type type, Value value,
                                          Operation *op, Side side, int level) {
  Task task;
  task.type = type;
  task.value = value;
  task.op = op;
  task.side = side;
  task.level = level;
  lastInterval = std::max(lastInterval, getInterval(level));
  tasks.push_back(task);
  return tasks.back();
}

void SlicedKernel::stage(Value value) {
  auto argument = cast<BlockArgument>(value);
  for (const Input &input : inputs)
    if (input.argument == argument)
      return;
  ArgAttr arg = getArg(argument);
  Input input{argument, {}, {}};
  if (getRank(argument) == 2)
    input.type = getTileType(
        {choice.stages}, kTokens,
        getPaddedChannels(
            cast<RankedTensorType>(argument.getType()).getDimSize(1)),
        arg.getType());
  else
    input.type =
        warp::SharedType::get(argument.getContext(), {choice.stages, kTokens},
                              arg.getType(), /*swizzle=*/false, /*pad=*/0);
  inputs.push_back(input);
}

bool SlicedKernel::isCopiedTile(Value value) {
  value = resolve(value);
  return isa<BlockArgument>(value) && getShape(value).kind == Kind::Wide &&
         getArg(value).getType() == policy.type;
}

std::pair<Value, Value> SlicedKernel::splitNumber(Value value) {
  value = resolve(value);
  auto product = value.getDefiningOp<arith::MulFOp>();
  if (!product)
    return {value, Value()};
  for (auto [matrix, factor] :
       {std::make_pair(product.getLhs(), product.getRhs()),
        std::make_pair(product.getRhs(), product.getLhs())}) {
    auto broadcast = resolve(factor).getDefiningOp<BroadcastOp>();
    if (broadcast && isa<FloatType>(broadcast.getInput().getType()))
      return {resolve(matrix), resolve(broadcast.getInput())};
  }
  return {value, Value()};
}

Value SlicedKernel::getTileNumber(Value value) {
  auto [matrix, number] = splitNumber(value);
  return number && isCopiedTile(matrix) ? number : Value();
}

bool SlicedKernel::isRowSum(Value number, SmallVectorImpl<Value> &wide) {
  Operation *op = resolve(number).getDefiningOp();
  if (isa_and_nonnull<arith::AddFOp>(op))
    return isRowSum(op->getOperand(0), wide) &&
           isRowSum(op->getOperand(1), wide);
  auto outer = dyn_cast_or_null<SumOp>(op);
  if (!outer)
    return false;
  auto inner = resolve(outer.getInput()).getDefiningOp<SumOp>();
  if (!inner || getRank(inner.getInput()) != 2)
    return false;
  // All warps have a slice: none waits in a branch that gives no result.
  Shape shape = getShape(resolve(inner.getInput()));
  if (shape.kind != Kind::Wide || shape.side == None ||
      countSlices(shape.side) != warps)
    return false;
  wide.push_back(inner.getInput());
  return true;
}

int SlicedKernel::levelOfTile(Value value) {
  value = resolve(value);
  Shape shape = getShape(value);
  if (shape.kind != Kind::Wide || shape.side == None)
    return (void)fail("an operand of a product is no matrix of channels"),
           getFirst();
  if (Value number = getTileNumber(value)) {
    stage(splitNumber(value).first);
    return levelOfVector(number, /*inOne=*/false);
  }
  if (isCopiedTile(value)) {
    stage(value);
    return getFirst();
  }
  auto known = tiles.find(value);
  if (known != tiles.end())
    return known->second.level + 1;
  int level = levelInSlice(value, /*state=*/false, shape.side);
  Stored stored;
  stored.type =
      getTileType({}, kTokens, 16 * countSlices(shape.side), policy.type);
  stored.level = level;
  stored.side = shape.side;
  tiles.insert({value, stored});
  addTask(Task::Tile, value, nullptr, shape.side, level);
  return level + 1;
}

int SlicedKernel::levelOfStateTile(Value value) {
  value = resolve(value);
  if (value == checkpoint) {
    copiesCheckpoint = true;
    return 0;
  }
  if (value != state)
    return (void)fail("a product reads a state that is neither saved nor "
                      "carried"),
           getFirst();
  if (!hasStateTile) {
    hasStateTile = true;
    stateTile.type = getTileType({}, 16 * countSlices(Cols),
                                 16 * countSlices(Rows), policy.type);
    addTask(Task::StateTile, value, nullptr, Cols, 0);
  }
  return 1;
}

int SlicedKernel::levelOfSquareTile(Value value) {
  value = resolve(value);
  auto known = squares.find(value);
  if (known != squares.end())
    return known->second.level + 1;
  Stored stored;
  stored.level = levelInOne(value);
  stored.type = getTileType({}, kTokens, kTokens, policy.type);
  squares.insert({value, stored});
  addTask(Task::SquareTile, value, nullptr, None, stored.level);
  return stored.level + 1;
}

/// What lies on and above the diagonal is not read.
SlicedKernel::Stored *SlicedKernel::findGram(const System &system) {
  if (system.blocks.size() != 1)
    return nullptr;
  auto found = grams.find(resolve(system.blocks[0]));
  return found == grams.end() ? nullptr : &found->second;
}

int SlicedKernel::levelOfSystem(TriSolveOp op) {
  for (System &system : systems)
    if (llvm::equal(system.blocks, op.getBlocks()))
      return system.level + 1;
  System system;
  system.level = getFirst();
  llvm::append_range(system.blocks, op.getBlocks());
  for (Value block : system.blocks)
    system.level = std::max(system.level, levelInOne(block));
  int64_t steps = op.getRhs().size();
  if (!findGram(system))
    system.source.type = getTileType({steps}, kTokens, steps * kTokens,
                                     Float32Type::get(program.getContext()));
  system.inverse.type =
      getTileType({steps}, kTokens, steps * kTokens, policy.type);
  addTask(Task::System, Value(), op, None, system.level).number =
      systems.size();
  systems.push_back(system);
  return system.level + 1;
}

unsigned SlicedKernel::getLevelTiles(OperandRange rows, OperandRange cols,
                                     Value decay,
                                     ArrayRef<int32_t> rowPositions,
                                     ArrayRef<int32_t> colPositions) {
  LevelTiles entry;
  entry.level = getFirst();
  for (auto [row, position] : llvm::zip_equal(rows, rowPositions)) {
    entry.rows.push_back(resolve(row));
    entry.rowAfter.push_back(static_cast<Position>(position) ==
                             Position::After);
  }
  for (auto [col, position] : llvm::zip_equal(cols, colPositions)) {
    entry.cols.push_back(resolve(col));
    entry.colBefore.push_back(static_cast<Position>(position) ==
                              Position::Before);
  }
  entry.decay = resolve(decay);
  for (auto [number, known] : llvm::enumerate(levelTiles))
    if (known.rows == entry.rows && known.cols == entry.cols &&
        known.decay == entry.decay && known.rowAfter == entry.rowAfter &&
        known.colBefore == entry.colBefore)
      return number;
  entry.side = getShape(entry.rows[0]).side;
  SmallVector<Value> operands(entry.rows);
  llvm::append_range(operands, entry.cols);
  operands.push_back(entry.decay);
  for (Value operand : operands)
    entry.level = std::max(entry.level,
                           levelInSlice(operand, /*state=*/false, entry.side));
  int64_t channels = 16 * countSlices(entry.side);
  int64_t height = (entry.rows.size() + 1) / 2 * 16;
  entry.rowTile.type = getTileType({4}, height, channels, policy.type);
  entry.colTile.type =
      getTileType({4}, 8 * entry.cols.size(), channels, policy.type);
  addTask(Task::Levels, Value(), nullptr, entry.side, entry.level).number =
      levelTiles.size();
  levelTiles.push_back(entry);
  return levelTiles.size() - 1;
}

int SlicedKernel::levelOfGram(DecayGramOp op) {
  auto known = gramLevels.find(op);
  if (known != gramLevels.end())
    return known->second;
  unsigned number = getLevelTiles(op.getRows(), op.getCols(), op.getDecay(),
                                  op.getRowPositions(), op.getColPositions());
  LevelTiles &entry = levelTiles[number];
  Type f32 = Float32Type::get(program.getContext());
  for (unsigned a = 0; a < op.getRows().size(); ++a)
    for (unsigned b = 0; b < op.getCols().size(); ++b) {
      Value gram = op.getGram(a, b);
      if (!gram || gram.use_empty())
        continue;
      Stored stored;
      stored.type = getTileType({1}, kTokens, kTokens, f32);
      stored.level = entry.level + 1;
      grams.insert({gram, stored});
      bool own = entry.rowAfter[a] && entry.colBefore[b];
      if (op.getMask(a, b) == "diagonal" &&
          (own || !isCopiedTile(splitNumber(entry.rows[a]).first) ||
           !isCopiedTile(splitNumber(entry.cols[b]).first))) {
        entry.diagonals.push_back({a, b});
        entry.ownDecay.push_back(own);
      }
    }
  if (!entry.diagonals.empty())
    entry.diagonal.type =
        warp::SharedType::get(program.getContext(),
                              {static_cast<int64_t>(entry.diagonals.size()),
                               countSlices(entry.side), kTokens},
                              f32, /*swizzle=*/false, /*pad=*/0);
  tilesOf[op] = number;
  int level = entry.level + 1;
  for (unsigned first = 0; first < op.getRows().size(); first += 2)
    for (unsigned distance = 0; distance < 4; ++distance) {
      Task &task = addTask(Task::Grams, Value(), op, None, level);
      task.first = first;
      task.second = distance;
    }
  // Other warps read what each of them stores.
  return gramLevels[op] = level + 1;
}

int SlicedKernel::levelOfPairs(DecayGramAdjointOp op) {
  auto known = pairs.find(op);
  if (known != pairs.end())
    return known->second.level + 1;
  Pairs entry;
  entry.level = getFirst();
  entry.tiles = getLevelTiles(op.getRows(), op.getCols(), op.getDecay(),
                              op.getRowPositions(), op.getColPositions());
  int64_t diagonals = 0;
  for (unsigned a = 0; a < op.getRows().size(); ++a)
    for (unsigned b = 0; b < op.getCols().size(); ++b)
      if (Value cotangent = op.getCotangent(a, b)) {
        entry.level = std::max(entry.level, levelInOne(cotangent));
        diagonals += op.getMask(a, b) == "diagonal";
      }
  const LevelTiles &operands = levelTiles[entry.tiles];
  // Rows and columns with the same number share a matrix.
  int64_t count = std::max(operands.rows.size(), operands.cols.size());
  entry.tile.type =
      getTileType({count, count, 4}, kTokens, kTokens, policy.type);
  if (diagonals)
    entry.diagonal.type = warp::SharedType::get(
        program.getContext(), {diagonals, kTokens},
        Float32Type::get(program.getContext()), /*swizzle=*/false, /*pad=*/0);
  pairs.insert({op, entry});
  for (unsigned a = 0; a < op.getRows().size(); ++a)
    for (unsigned b = 0; b < op.getCols().size(); ++b)
      if (Value cotangent = op.getCotangent(a, b)) {
        Task &task = addTask(Task::Pairs, cotangent, op, None, entry.level);
        task.first = a;
        task.second = b;
      }
  needScans();
  return entry.level + 1;
}

bool SlicedKernel::isStatesProduct(Value value) {
  auto product = value.getDefiningOp<arith::MulFOp>();
  if (!product || !checkpoint)
    return false;
  Value lhs = resolve(product.getLhs()), rhs = resolve(product.getRhs());
  return (lhs == state && rhs == checkpoint) ||
         (lhs == checkpoint && rhs == state);
}

int SlicedKernel::storeVector(Value value) {
  auto known = vectors.find(value);
  if (known != vectors.end())
    return known->second.level;
  Operation *op = value.getDefiningOp();
  if (!op || !isa<SumOp, TokenSumOp, TotalProductOp, DiagonalOp>(op))
    return (void)fail("a vector comes from an operation that is no sum"),
           getFirst();
  Value input = op->getOperand(0);
  Shape shape = getShape(input);
  Stored stored;
  int64_t size = getRank(value) == 1
                     ? cast<RankedTensorType>(value.getType()).getDimSize(0)
                     : 1;
  if (shape.kind == Kind::Wide) {
    stored.side = shape.side;
    stored.level = levelInSlice(input, /*state=*/false, shape.side);
    if (isa<SumOp>(op))
      stored.parts = countSlices(shape.side);
  } else if (isStatesProduct(input)) {
    stored.side = Rows;
    stored.level = levelOfOwn(value, Rows);
  } else if (shape.kind == Kind::State) {
    stored.side = Cols;
    stored.level = levelInSlice(input, /*state=*/true, Cols);
    stored.parts = countSlices(Cols);
  } else if (getRank(input) == 2) {
    stored.level = levelInOne(input);
  } else {
    stored.level = levelOfVector(input, /*inOne=*/true);
  }
  stored.type = warp::SharedType::get(
      program.getContext(), {stored.parts, getPaddedChannels(size)},
      Float32Type::get(program.getContext()), /*swizzle=*/false, /*pad=*/0);
  vectors.insert({value, stored});
  addTask(Task::Vector, value, op, stored.side, stored.level);
  return stored.level;
}

//===----------------------------------------------------------------------===//
// Levels
//===----------------------------------------------------------------------===//

int SlicedKernel::levelInSlice(Value value, bool asState, Side side) {
  value = resolve(value);
  std::pair<Value, int> key{value, side + 4 * asState};
  auto known = levels.find(key);
  if (known != levels.end())
    return known->second;
  int level =
      why.empty() ? computeLevelInSlice(value, asState, side) : getFirst();
  return levels[key] = level;
}

int SlicedKernel::computeLevelInSlice(Value value, bool asState, Side side) {
  if (value == state)
    return 0;
  if (value == checkpoint) {
    copiesCheckpoint = true;
    return 0;
  }
  Shape shape = getShape(value);
  if (shape.kind != Kind::Any &&
      (shape.kind != (asState ? Kind::State : Kind::Wide) ||
       shape.side != side))
    return (void)fail("a matrix is used along two axes"), getFirst();
  if (isa<BlockArgument>(value)) {
    stage(value);
    return getFirst();
  }
  Operation *op = value.getDefiningOp();
  auto of = [&](Value operand) { return levelInSlice(operand, asState, side); };
  if (isa<arith::ConstantOp>(op))
    return getFirst();
  if (auto broadcast = dyn_cast<BroadcastOp>(op)) {
    Value input = resolve(broadcast.getInput());
    if (!isa<RankedTensorType>(input.getType()))
      return levelOfVector(input, /*inOne=*/false);
    bool dim0 = broadcast.getDim().value_or(0) == 0;
    // Rows of a fragment are channels of the slice.
    if (dim0)
      return levelOfVector(input, /*inOne=*/false);
    return levelOfOwn(input, side);
  }
  if (isa<IdentityRowsOp>(op) || isPointwise(op)) {
    int level = getFirst();
    for (Value operand : op->getOperands())
      if (isa<RankedTensorType>(operand.getType()))
        level = std::max(level, of(operand));
    return level;
  }
  if (isa<PrefixProductOp, PrefixSumOp>(op) && !asState) {
    if (isa<PrefixSumOp>(op))
      needScans();
    return of(op->getOperand(0));
  }
  if (auto matmul = dyn_cast<MatmulOp>(op)) {
    Value lhs = matmul.getLhs(), rhs = resolve(matmul.getRhs());
    int level = matmul.getAcc() ? of(matmul.getAcc()) : getFirst();
    if (asState)
      return std::max(
          {level, levelOfTile(lhs), levelInSlice(rhs, /*state=*/false, Cols)});
    if (getShape(rhs).kind != Kind::State)
      return std::max({level, levelOfSquareTile(lhs), of(rhs)});
    if (matmul.getTransposeLhs())
      return (void)fail("a product with the state has a transposed left side"),
             getFirst();
    level = std::max(level, levelOfTile(lhs));
    if (matmul.getTransposeRhs())
      return std::max(level, levelOfStateTile(rhs));
    return std::max(level, levelInSlice(rhs, /*state=*/true, Cols));
  }
  if (auto solve = dyn_cast<TriSolveOp>(op)) {
    int level = levelOfSystem(solve);
    for (Value rhs : solve.getRhs())
      level = std::max(level, of(rhs));
    return level;
  }
  if (auto adjoint = dyn_cast<DecayGramAdjointOp>(op)) {
    if (!adjoint.getLog())
      return (void)fail("a decay that is no exponential is differentiated"),
             getFirst();
    int level = levelOfPairs(adjoint);
    for (Value operand : adjoint.getRows())
      level = std::max(level, of(operand));
    for (Value operand : adjoint.getCols())
      level = std::max(level, of(operand));
    return std::max(level, of(adjoint.getDecay()));
  }
  if (isa<LinearScanOp>(op))
    return (void)fail("a decay that is no exponential is differentiated"),
           getFirst();
  return (void)fail("'" + op->getName().getStringRef() +
                    "' has no counterpart in slices"),
         getFirst();
}

int SlicedKernel::levelOfOwn(Value value, Side side) {
  value = resolve(value);
  if (isa<BlockArgument>(value))
    return getFirst();
  Operation *op = value.getDefiningOp();
  if (isa<TotalProductOp, TokenSumOp>(op) &&
      getShape(op->getOperand(0)).kind == Kind::Wide &&
      getShape(op->getOperand(0)).side == side) {
    return levelInSlice(op->getOperand(0), /*state=*/false, side);
  }
  if (isa<SumOp>(op) && side == Rows && isStatesProduct(op->getOperand(0)))
    return std::max(levelOfStateTile(state), levelOfStateTile(checkpoint));
  if (isPointwise(op)) {
    int level = getFirst();
    for (Value operand : op->getOperands())
      level = std::max(level, levelOfOwn(operand, side));
    return level;
  }
  return levelOfVector(value, /*inOne=*/false);
}

int SlicedKernel::levelOfVector(Value value, bool inOne) {
  value = resolve(value);
  if (isa<BlockArgument>(value)) {
    ArgAttr arg = getArg(value);
    if (arg && arg.getKind() == ArgKind::In)
      stage(value);
    return getFirst();
  }
  Operation *op = value.getDefiningOp();
  if (isa<arith::ConstantOp>(op))
    return getFirst();
  bool ofTokens = isa<TotalProductOp>(op) && getRank(op->getOperand(0)) == 1;
  if (isa<BroadcastOp, IdentityRowsOp, PrefixProductOp, PrefixSumOp,
          LinearScanOp>(op) ||
      ofTokens || isPointwise(op)) {
    int level = getFirst();
    for (Value operand : op->getOperands())
      if (!operand.getType().isIndex())
        level = std::max(level, levelOfVector(operand, inOne));
    return level;
  }
  int level = storeVector(value);
  auto known = vectors.find(value);
  bool byOne = known != vectors.end() && known->second.side == None;
  return inOne && byOne ? level : level + 1;
}

int SlicedKernel::levelInOne(Value value) {
  value = resolve(value);
  std::pair<Value, int> key{value, -1};
  auto known = levels.find(key);
  if (known != levels.end())
    return known->second;
  int level = why.empty() ? computeLevelInOne(value) : getFirst();
  return levels[key] = level;
}

int SlicedKernel::computeLevelInOne(Value value) {
  Operation *op = value.getDefiningOp();
  if (!op)
    return (void)fail("an argument is used as a C x C matrix"), getFirst();
  if (isa<arith::ConstantOp>(op))
    return getFirst();
  if (auto broadcast = dyn_cast<BroadcastOp>(op))
    return levelOfVector(broadcast.getInput(), /*inOne=*/true);
  if (auto gram = dyn_cast<DecayGramOp>(op))
    return levelOfGram(gram);
  if (auto mask = dyn_cast<DecayMaskOp>(op))
    return levelOfVector(mask.getW(), /*inOne=*/true);
  if (auto set = dyn_cast<SetDiagonalOp>(op))
    return std::max(levelInOne(set.getInput()),
                    levelOfVector(set.getDiagonal(), /*inOne=*/true));
  if (auto matmul = dyn_cast<MatmulOp>(op)) {
    if (!matmul.getTransposeRhs() || matmul.getTransposeLhs() ||
        getShape(matmul.getLhs()).kind != Kind::Wide)
      return (void)fail("a product of C x C matrices"), getFirst();
    int level =
        std::max(levelOfTile(matmul.getLhs()), levelOfTile(matmul.getRhs()));
    return matmul.getAcc() ? std::max(level, levelInOne(matmul.getAcc()))
                           : level;
  }
  if (isa<CausalMaskOp, PrefixSumOp, PrefixProductOp, IdentityRowsOp,
          LinearScanOp>(op) ||
      isPointwise(op)) {
    int level = getFirst();
    for (Value operand : op->getOperands())
      if (isa<RankedTensorType>(operand.getType()))
        level = std::max(level, levelInOne(operand));
    return level;
  }
  return (void)fail("'" + op->getName().getStringRef() +
                    "' has no counterpart for C x C matrices"),
         getFirst();
}
