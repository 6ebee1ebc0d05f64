//===- TiledProgram.cpp - What a tiled kernel stores ----------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Results of products, Grams, solves and sums have arrays in shared memory, and
// so has what matrix instructions read. The rest is computed where it is used.
//
//===----------------------------------------------------------------------===//

#include "../ColumnBlocks.h"
#include "../Program.h"
#include "TiledKernel.h"
#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::gpumap;

static constexpr int64_t kTokens = 16;

ArgAttr TiledKernel::getArg(Value value) const {
  return lookupArg(signature, value);
}

/// Do matrix instructions read the operand, which they do from memory?
static bool isOperandUse(OpOperand &use) {
  if (isa<MatmulOp>(use.getOwner()))
    return use.getOperandNumber() < 2;
  if (auto solve = dyn_cast<TriSolveOp>(use.getOwner()))
    return use.getOperandNumber() >= solve.getBlocks().size();
  if (auto gram = dyn_cast<DecayGramAdjointOp>(use.getOwner()))
    return llvm::is_contained(gram.getCotangents(), use.get());
  return false;
}

bool TiledKernel::isOperandOnly(Value value) {
  return llvm::all_of(value.getUses(), isOperandUse);
}

static bool isOperand(Value value) {
  return llvm::any_of(value.getUses(), isOperandUse);
}

bool TiledKernel::isInline(MatmulOp op) const {
  Value result = op.getResult();
  if (!result.hasOneUse())
    return false;
  OpOperand &use = *result.getUses().begin();
  Operation *user = use.getOwner();
  // The state's update runs once over its tiles.
  if (isa<func::ReturnOp>(user))
    return true;
  if (auto matmul = dyn_cast<MatmulOp>(user))
    return use.getOperandNumber() == 2 &&
           (!isInline(matmul) || matmul.getResult().hasOneUse());
  return false;
}

warp::SharedType TiledKernel::getArrayType(Value value) const {
  MLIRContext *context = value.getContext();
  Type f32 = Float32Type::get(context);
  if (getRank(value) < 2) {
    int64_t size = getRank(value) == 1
                       ? cast<RankedTensorType>(value.getType()).getDimSize(0)
                       : 1;
    return warp::SharedType::get(context, {getPaddedChannels(size)}, f32,
                                 /*swizzle=*/false, /*pad=*/0);
  }
  auto type = cast<RankedTensorType>(value.getType());
  int64_t rows = getPaddedChannels(type.getDimSize(0));
  int64_t cols = getPaddedChannels(type.getDimSize(1));
  // Saved states lie transposed, rounded as operands.
  if (value == checkpoint)
    return getTileType({choice.stages}, cols, rows, policy.type);
  return getTileType({}, rows, cols, isOperandOnly(value) ? policy.type : f32);
}

LogicalResult TiledKernel::checkProgram() {
  unsigned last = program.getNumArguments();
  if (last < 2 || !program.getArgument(last - 1).getType().isIndex())
    return program.emitOpError(
        "expects the number of tokens as its last argument");
  valid = program.getArgument(last - 1);
  state = program.getArgument(last - 2);
  for (BlockArgument argument : program.getArguments().drop_back()) {
    ArgAttr arg = getArg(argument);
    if (!arg)
      return program.emitOpError()
             << "expects '" << kArgNameAttr << "' of argument "
             << argument.getArgNumber() << " to name an entry of the signature";
    if (arg.getKind() == ArgKind::Checkpoint)
      checkpoint = argument;
  }
  auto shape = cast<RankedTensorType>(state.getType()).getShape();
  stateRows = shape[0];
  stateCols = shape[1];
  chunkTokens = signature.getIntOption("chunk").value_or(kTokens);
  if (chunkTokens != 16 && chunkTokens != 32 && chunkTokens != 64)
    return program.emitError()
           << "the GPU mapping takes chunks of 16, 32 or 64 tokens, but got "
           << chunkTokens;
  for (Operation &op : program.front().without_terminator()) {
    bool known =
        isPointwise(&op) ||
        isa<arith::ConstantOp, BroadcastOp, IdentityRowsOp, CausalMaskOp,
            SetDiagonalOp, DiagonalOp, DecayMaskOp, PrefixProductOp,
            PrefixSumOp, LinearScanOp, TotalProductOp, SumOp, TokenSumOp,
            DecayGramOp, DecayGramAdjointOp, TriSolveOp, MatmulOp>(op);
    auto gram = dyn_cast<DecayGramAdjointOp>(op);
    if (isLong() && (isa<LinearScanOp>(op) || (gram && !gram.getLog())))
      return op.emitError("on a GPU a decay that is no exponential is "
                          "differentiated in chunks of 16 tokens; use "
                          "--chunk=16");
    if (!known)
      return op.emitError()
             << "'" << op.getName() << "' has no counterpart on the GPU";
  }
  return success();
}

void TiledKernel::findStored() {
  auto addArray = [&](Value value) {
    arrays.insert({value, {getArrayType(value), Value()}});
  };
  if (checkpoint && choice.copiesCheckpoint && isOperand(checkpoint))
    addArray(checkpoint);
  for (Operation &op : program.front().without_terminator()) {
    if (auto solve = dyn_cast<TriSolveOp>(op)) {
      bool known = llvm::any_of(systems, [&](const System &system) {
        return llvm::equal(system.blocks, solve.getBlocks());
      });
      if (!known) {
        System system;
        llvm::append_range(system.blocks, solve.getBlocks());
        int64_t steps = solve.getRhs().size();
        SmallVector<int64_t> lead{steps};
        if (isLong())
          lead.insert(lead.begin(), getBlocks());
        system.sourceType = getTileType(lead, kTokens, steps * kTokens,
                                        Float32Type::get(program.getContext()));
        system.inverseType =
            getTileType(lead, kTokens, steps * kTokens, policy.type);
        systems.push_back(system);
        if (isLong())
          for (Value block : solve.getBlocks())
            addArray(block);
      }
    }
    bool produces = isa<DecayGramOp, DecayGramAdjointOp, TriSolveOp, SumOp,
                        TokenSumOp, TotalProductOp, DiagonalOp>(op);
    // A tile has no more than 16 tokens.
    if (isLong())
      produces |= isa<PrefixProductOp, PrefixSumOp, DecayMaskOp>(op);
    if (auto matmul = dyn_cast<MatmulOp>(op))
      produces = !isInline(matmul);
    for (Value result : op.getResults()) {
      if (result.use_empty())
        continue;
      // Costs more to compute again than to read back.
      bool shared = choice.keepsShared && getRank(result) == 2 &&
                    !result.hasOneUse() &&
                    (isa<PrefixProductOp, PrefixSumOp, LinearScanOp>(op) ||
                     isa<math::MathDialect>(op.getDialect()) ||
                     isa<SigmoidOp, SoftplusOp, arith::DivFOp>(op));
      if (produces || shared || isOperand(result))
        addArray(result);
    }
    if (auto adjoint = dyn_cast<DecayGramAdjointOp>(op)) {
      int64_t tiles =
          std::max(adjoint.getRows().size(), adjoint.getCols().size());
      if (!scratchType || scratchType.getShape()[1] < tiles)
        scratchType =
            getTileType({warps, tiles}, kTokens, kTokens, policy.type);
    }
  }
  for (BlockArgument argument : program.getArguments()) {
    ArgAttr arg = getArg(argument);
    if (!arg || arg.getKind() != ArgKind::In || argument.use_empty())
      continue;
    Input input{argument, {}, {}};
    if (getRank(argument) == 2)
      input.type = getTileType(
          {choice.stages}, chunkTokens,
          getPaddedChannels(
              cast<RankedTensorType>(argument.getType()).getDimSize(1)),
          arg.getType());
    else
      input.type = warp::SharedType::get(argument.getContext(),
                                         {choice.stages, chunkTokens},
                                         arg.getType(), false, 0);
    inputs.push_back(input);
  }
  for (ArgAttr sum : signature.getArgs(ArgKind::Sum)) {
    int64_t size = 1;
    for (StringAttr axis : sum.getAxes())
      size *= *signature.getDim(axis);
    if (hasColumns(signature, sum))
      size /= choice.vBlocks;
    sumTypes.push_back(warp::SharedType::get(
        program.getContext(), {getPaddedChannels(size)},
        Float32Type::get(program.getContext()), false, 0));
  }
}

FailureOr<TiledKernel> TiledKernel::build(func::FuncOp program,
                                          SignatureAttr signature,
                                          const OperandPolicy &policy,
                                          const TiledChoice &choice) {
  TiledKernel kernel(policy, program.getLoc());
  kernel.program = program;
  kernel.signature = signature;
  kernel.choice = choice;
  kernel.warps = choice.warps;
  kernel.backward = signature.getOption("fn") == "backward";
  if (failed(kernel.checkProgram()))
    return failure();
  kernel.findStored();
  return kernel;
}
