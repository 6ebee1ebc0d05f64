//===- SlicedProgram.cpp - What a sliced kernel stores, and when -----------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
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

static constexpr int64_t kTokens = 16;

static unsigned getRank(Value value) {
  auto tensor = dyn_cast<RankedTensorType>(value.getType());
  return tensor ? tensor.getRank() : 0;
}

LogicalResult SlicedKernel::fail(const Twine &reason) {
  if (why.empty())
    why = reason.str();
  return failure();
}

int64_t SlicedKernel::getMicro(Value argument) const {
  func::FuncOp function = program;
  auto micro = function.getArgAttrOfType<IntegerAttr>(
      cast<BlockArgument>(argument).getArgNumber(), kMicroAttr);
  return micro ? micro.getInt() : 0;
}

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

int SlicedKernel::levelOfTile(Value value) {
  value = resolve(value);
  Shape shape = getShape(value);
  if (shape.kind != Kind::Wide || shape.side == None)
    return (void)fail("an operand of a product is no matrix of channels"), getFirst();
  if (isCopiedTile(value)) {
    stage(value);
    return getFirst();
  }
  auto known = tiles.find(value);
  if (known != tiles.end())
    return known->second.level + 1;
  int level = levelInSlice(value, /*state=*/false, shape.side);
  Stored stored;
  stored.type = getTileType({}, kTokens, 16 * countSlices(shape.side),
                            policy.type);
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
    entry.level = std::max(
        entry.level, levelInSlice(operand, /*state=*/false, entry.side));
  int64_t channels = 16 * countSlices(entry.side);
  int64_t height = (entry.rows.size() + 1) / 2 * 16;
  entry.rowTile.type = getTileType({4}, height, channels, policy.type);
  entry.colTile.type = getTileType({4}, 8 * entry.cols.size(), channels, policy.type);
  addTask(Task::Levels, Value(), nullptr, entry.side, entry.level).number =
      levelTiles.size();
  levelTiles.push_back(entry);
  return levelTiles.size() - 1;
}

int SlicedKernel::levelOfGram(DecayGramOp op) {
  auto known = gramLevels.find(op);
  if (known != gramLevels.end())
    return known->second;
  unsigned number =
      getLevelTiles(op.getRows(), op.getCols(), op.getDecay(),
                    op.getRowPositions(), op.getColPositions());
  LevelTiles &entry = levelTiles[number];
  Type f32 = Float32Type::get(program.getContext());
  for (unsigned a = 0; a < op.getRows().size(); ++a)
    for (unsigned b = 0; b < op.getCols().size(); ++b) {
      Value gram = op.getGram(a, b);
      if (!gram || gram.use_empty())
        continue;
      Stored stored;
      stored.type = getTileType({}, kTokens, kTokens, f32);
      stored.level = entry.level + 1;
      grams.insert({gram, stored});
      bool own = entry.rowAfter[a] && entry.colBefore[b];
      if (op.getMask(a, b) == "diagonal" &&
          (own || !isCopiedTile(entry.rows[a]) ||
           !isCopiedTile(entry.cols[b]))) {
        entry.diagonals.push_back({a, b});
        entry.ownDecay.push_back(own);
      }
    }
  if (!entry.diagonals.empty())
    entry.diagonal.type = warp::SharedType::get(
        program.getContext(),
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
    return (void)fail("a vector comes from an operation that is no sum"), getFirst();
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
      return std::max({level, levelOfTile(lhs),
                       levelInSlice(rhs, /*state=*/false, Cols)});
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
      return (void)fail("a decay that is no exponential is differentiated"), getFirst();
    int level = levelOfPairs(adjoint);
    for (Value operand : adjoint.getRows())
      level = std::max(level, of(operand));
    for (Value operand : adjoint.getCols())
      level = std::max(level, of(operand));
    return std::max(level, of(adjoint.getDecay()));
  }
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
  bool ofTokens = isa<TotalProductOp>(op) &&
                  getRank(op->getOperand(0)) == 1;
  if (isa<BroadcastOp, IdentityRowsOp, PrefixProductOp, PrefixSumOp>(op) ||
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
    int level = std::max(levelOfTile(matmul.getLhs()),
                         levelOfTile(matmul.getRhs()));
    return matmul.getAcc() ? std::max(level, levelInOne(matmul.getAcc()))
                           : level;
  }
  if (isa<CausalMaskOp, PrefixSumOp, PrefixProductOp, IdentityRowsOp>(op) ||
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
  if (signature.getIntOption("save_every").value_or(1) != 1)
    return fail("the state of every chunk is wanted");
  if (getArg(state).getAxes()[0] == getArg(state).getAxes()[1])
    return fail("rows and columns of the state are one axis");
  warps = std::max(countSlices(Rows), countSlices(Cols));
  if (warps > 8)
    return fail("more than 128 channels or columns");

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
          side = arg.getAxes().back() == getArg(state).getAxes()[0] ? Rows
                                                                    : Cols;
        level = levelInSlice(value, /*state=*/false, side);
      } else {
        level = levelOfVector(value, /*inOne=*/true);
      }
      Task &task =
          addTask(Task::Out, value, nullptr, side, std::max(0, level));
      task.number = out;
      task.micro = j;
      task.arg = arg;
    }
    ++out;
  }
  unsigned sum = 0;
  for (ArgAttr arg : signature.getArgs(ArgKind::Sum)) {
    Value value = terminator->getOperand(result++);
    int level = levelOfVector(value, /*inOne=*/true);
    Task &task =
        addTask(Task::Sum, value, nullptr, None, std::max(0, level));
    task.number = sum++;
    task.arg = arg;
    int64_t size = 1;
    for (StringAttr axis : arg.getAxes())
      size *= *signature.getDim(axis);
    sumTypes.push_back(warp::SharedType::get(
        program.getContext(), {getPaddedChannels(size)},
        Float32Type::get(program.getContext()), false, 0));
  }
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
