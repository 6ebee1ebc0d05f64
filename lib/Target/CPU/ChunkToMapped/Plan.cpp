//===- Plan.cpp - Slices and stored values of a chunk program -------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The first half of the plan: sizes, which loop each value belongs to, and
// which values are stored. Everything follows from dependence on the state's
// columns; no dim or argument is known by its name.
//
//===----------------------------------------------------------------------===//

#include "Plan.h"
#include "delta/Target/CPU/KernelArrays.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/Matchers.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::cpumap;

//===----------------------------------------------------------------------===//
// Kinds of operations
//===----------------------------------------------------------------------===//

std::pair<int64_t, int64_t> cpumap::getShape(Value value) {
  auto tensor = dyn_cast<RankedTensorType>(value.getType());
  if (!tensor || tensor.getRank() == 0)
    return {1, 1};
  if (tensor.getRank() == 1)
    return {1, tensor.getDimSize(0)};
  return {tensor.getDimSize(0), tensor.getDimSize(1)};
}

unsigned cpumap::getRank(Value value) {
  auto tensor = dyn_cast<RankedTensorType>(value.getType());
  return tensor ? tensor.getRank() : 0;
}

bool cpumap::isElementwise(Operation *op) {
  return op->getNumResults() == 1 &&
         (OpTrait::hasElementwiseMappableTraits(op) ||
          isa<IdentityRowsOp, CausalMaskOp, SetDiagonalOp, BroadcastOp>(op));
}

bool cpumap::isRowScan(Operation *op) {
  return isa<DecayMaskOp>(op) ||
         (isa<PrefixProductOp, PrefixSumOp, LinearScanOp>(op) &&
          getRank(op->getOperand(0)) == 2);
}

void cpumap::forEachOperand(Operation *op,
                            llvm::function_ref<void(OpOperand &, bool)> fn) {
  for (OpOperand &operand : op->getOpOperands()) {
    bool columnwise =
        TypeSwitch<Operation *, bool>(op)
            .Case<MatmulOp>([&](MatmulOp matmul) {
              return operand.getOperandNumber() > 0 &&
                     !matmul.getTransposeRhs();
            })
            .Case<TriSolveOp>([&](TriSolveOp solve) {
              return operand.getOperandNumber() >= solve.getBlocks().size();
            })
            .Case<BroadcastOp>(
                [&](BroadcastOp broadcast) { return broadcast.getDim() == 1; })
            .Case<SetDiagonalOp>(
                [&](auto) { return operand.getOperandNumber() == 0; })
            .Case<PrefixProductOp, TotalProductOp, PrefixSumOp, LinearScanOp,
                  TokenSumOp>([&](auto) { return getRank(operand.get()) == 2; })
            .Case<DecayMaskOp, DecayGramOp, SumOp, TransposeOp, DiagonalOp,
                  DecayGramAdjointOp, func::ReturnOp>(
                [&](auto) { return false; })
            .Default([&](Operation *other) {
              return isElementwise(other) && getRank(operand.get()) > 0;
            });
    fn(operand, columnwise);
  }
}

bool Plan::isUsedBelowDiagonalOnly(Value value) {
  return !value.use_empty() &&
         llvm::all_of(value.getUsers(), [](Operation *user) {
           if (isa<CausalMaskOp>(user))
             return true;
           return isElementwise(user) && !isa<BroadcastOp>(user) &&
                  isUsedBelowDiagonalOnly(user->getResult(0));
         });
}

/// Costs so much that it is not computed twice.
static bool isExpensive(Operation *op) {
  return isa_and_nonnull<math::MathDialect>(op->getDialect()) ||
         isa<arith::DivFOp, arith::RemFOp, SigmoidOp, SoftplusOp>(op);
}

static bool isConstant(Value value) {
  return isa_and_nonnull<arith::ConstantOp>(value.getDefiningOp());
}

//===----------------------------------------------------------------------===//
// Checks
//===----------------------------------------------------------------------===//

ArgAttr Plan::getArg(Value value) const {
  return lookupArg(signature, value);
}

LogicalResult Plan::checkProgram() {
  if (!function.getBody().hasOneBlock())
    return function.emitError("expects a chunk program of one block");
  for (BlockArgument argument : function.getArguments()) {
    if (argument.getType().isIndex()) {
      if (valid)
        return function.emitError(
            "expects one index argument, the number of valid tokens");
      valid = argument;
      continue;
    }
    ArgAttr arg = getArg(argument);
    if (!arg)
      return function.emitError()
             << "expects argument " << argument.getArgNumber()
             << " to name an entry of the signature with '" << kArgNameAttr
             << "'";
    if (arg.getKind() == ArgKind::State)
      state = argument;
    if (arg.getKind() == ArgKind::Checkpoint)
      checkpoint = argument;
    // Tokens come first, except for what all tokens share.
    unsigned rank = arg.getAxes().size() + (arg.getKind() == ArgKind::In);
    if (getRank(argument) != rank || rank > 2)
      return function.emitError()
             << "expects argument '" << arg.getName().getValue()
             << "' to have rank " << rank << ", but got " << argument.getType();
    if (arg.getKind() == ArgKind::In)
      geometry.tokens =
          cast<RankedTensorType>(argument.getType()).getDimSize(0);
  }
  if (!state || !valid)
    return function.emitError(
        "expects a state argument and the number of valid tokens");
  if (std::optional<int64_t> tokens = signature.getIntOption("chunk"))
    geometry.tokens = *tokens;
  if (geometry.tokens < 16 || geometry.tokens % 16 || geometry.tokens > 128)
    return function.emitError()
           << "the CPU mapping needs a chunk that is a multiple of 16 up to "
              "128 tokens, but got "
           << geometry.tokens;
  auto type = cast<RankedTensorType>(state.getType());
  geometry.stateRows = type.getDimSize(0);
  geometry.stateCols = type.getDimSize(1);
  geometry.compute = dyn_cast<FloatType>(type.getElementType());
  if (!geometry.compute.isF32() && !geometry.compute.isF64())
    return function.emitError()
           << "the CPU mapping computes in f32 or f64, but got "
           << type.getElementType();

  for (Operation &op : function.front()) {
    if (isa<func::ReturnOp>(op))
      continue;
    if (!isElementwise(&op) && !isRowScan(&op) &&
        !isa<arith::ConstantOp, PrefixProductOp, TotalProductOp, SumOp,
             MatmulOp, TransposeOp, DecayGramOp, TriSolveOp, PrefixSumOp,
             LinearScanOp, TokenSumOp, DiagonalOp, DecayGramAdjointOp>(op))
      return op.emitError() << "'" << op.getName()
                            << "' has no mapping to the CPU; accepted are "
                               "elementwise operations and those of a chunk "
                               "program";
    for (Value value : op.getResults()) {
      auto tensor = dyn_cast<RankedTensorType>(value.getType());
      if (tensor && (!tensor.hasStaticShape() || tensor.getRank() > 2 ||
                     tensor.getNumElements() == 0))
        return op.emitError() << "expects static shapes of rank 1 or 2 without "
                                 "empty dims, but got "
                              << tensor;
    }
    DenseElementsAttr elements;
    if (matchPattern(&op, m_Constant(&elements)) && !elements.isSplat())
      return op.emitError("only constants with one value for all elements have "
                          "a mapping to the CPU");
  }
  return checkResults();
}

/// The results are the new state, the outs (families spread) and the sums.
LogicalResult Plan::checkResults() {
  auto results = function.front().getTerminator()->getOperands();
  SmallVector<ArgAttr> arrays = getOutputArrays(signature);
  for (auto [index, arg] : llvm::enumerate(arrays)) {
    if (arg.getKind() != ArgKind::Out)
      continue;
    int64_t family =
        arg.getFamily() ? signature.getDim(arg.getFamily()).value_or(1) : 1;
    for (int64_t member = 0; member < family; ++member)
      outPlaces.push_back({static_cast<unsigned>(index), member, family});
  }
  size_t numOuts = outPlaces.size();
  SmallVector<ArgAttr> sumArgs = signature.getArgs(ArgKind::Sum);
  size_t numResults = 1 + numOuts + sumArgs.size();
  if (results.size() != numResults || results[0].getType() != state.getType()) {
    InFlightDiagnostic diagnostic = function.emitError()
                                    << "expects the new state and " << numOuts
                                    << " outs";
    if (!sumArgs.empty())
      diagnostic << " and " << sumArgs.size() << " sums";
    return diagnostic << " as results, but got " << results.size()
                      << " results";
  }
  outs.assign(results.begin() + 1, results.begin() + 1 + numOuts);
  // Params and attrs may be declared in any order; sums have names.
  for (auto [index, arg] : llvm::enumerate(sumArgs)) {
    unsigned position = 1 + numOuts + index;
    for (unsigned i = 1 + numOuts; i < numResults; ++i)
      if (function.getResultAttrOfType<StringAttr>(i, kArgNameAttr) ==
          arg.getName())
        position = i;
    sums.push_back(results[position]);
  }
  for (Value out : outs)
    if (getRank(out) == 0 ||
        cast<RankedTensorType>(out.getType()).getDimSize(0) != geometry.tokens)
      return function.emitError() << "expects outs of " << geometry.tokens
                                  << " tokens, but got " << out.getType();
  for (auto [sum, arg] : llvm::zip(sums, sumArgs))
    if (getRank(sum) != arg.getAxes().size())
      return function.emitError()
             << "expects the sum '" << arg.getName().getValue()
             << "' to have rank " << arg.getAxes().size() << ", but got "
             << sum.getType();
  return success();
}

LogicalResult Plan::chooseGeometry(const CpuMapOptions &options) {
  Geometry &g = geometry;
  g.fma = options.fma;
  g.lanes = options.vectorBits / g.bits();
  // Two vectors across halve the loads that a multiplication needs. One where
  // the second would be empty, three where that leaves none empty.
  int64_t vectors = g.roundUpToVector(g.stateCols) / g.lanes;
  g.panelVectors = vectors == 1 ? 1 : 2;
  if (vectors % 2 && vectors % 3 == 0 && options.registers >= 32)
    g.panelVectors = 3;
  if (isWhole)
    g.panelVectors = vectors;
  g.tileRows = options.registers >= 32 ? 8 : 4;
  if (options.registers < 32 && options.vectorBits > 128)
    g.tileRows = 6;
  g.dotCols = 4;
  g.dotRows = options.registers >= 32 ? 4 : 2;

  if (options.panel && isWhole)
    return function.emitError(
        "the mapping's panel cannot be chosen for a backward kernel, which "
        "works on all columns of the state at a time");
  if (options.panel) {
    if (options.panel < 0 || options.panel % g.lanes ||
        options.panel > g.roundUpToVector(g.stateCols))
      return function.emitError()
             << "expects the mapping's panel to be a multiple of " << g.lanes
             << ", the elements of a vector, up to "
             << g.roundUpToVector(g.stateCols) << ", but got " << options.panel;
    g.panelVectors = options.panel / g.lanes;
  }
  if (options.rows) {
    if (options.rows < 1 || options.rows > 16)
      return function.emitError()
             << "expects the mapping's rows to be between 1 and 16, but got "
             << options.rows;
    g.tileRows = options.rows;
  }
  for (auto [name, pinned, chosen] :
       {std::tuple("dot_rows", options.dotRows, &g.dotRows),
        std::tuple("dot_cols", options.dotCols, &g.dotCols)}) {
    if (!pinned)
      continue;
    if (pinned != 1 && pinned != 2 && pinned != 4)
      return function.emitError() << "expects the mapping's " << name
                                  << " to be 1, 2 or 4, but got " << pinned;
    *chosen = pinned;
  }
  // The accumulators, the vectors of the right operand and one number.
  int64_t across = isWhole ? g.kFreeVectors : g.panelVectors;
  int64_t needed = g.tileRows * across + across + 1;
  if ((options.panel || options.rows) && needed > options.registers)
    return function.emitError()
           << "the mapping's tile of " << g.tileRows << " rows and "
           << g.panelVectors << " vectors (panel = " << g.panelWidth()
           << ") needs " << needed << " vector registers, but there are "
           << options.registers;
  if (needed = g.dotRows * g.dotCols + g.dotCols + 1;
      (options.dotRows || options.dotCols) && needed > options.registers)
    return function.emitError()
           << "the mapping's tile of " << g.dotRows << " x " << g.dotCols
           << " dot products needs " << needed
           << " vector registers, but there are " << options.registers;
  return success();
}

//===----------------------------------------------------------------------===//
// Slices
//===----------------------------------------------------------------------===//

LogicalResult Plan::findSlices() {
  for (BlockArgument argument : function.getArguments()) {
    ArgAttr arg = getArg(argument);
    slices[argument] = argument == state && !isWhole ? Slice::Panel
                       : arg && (arg.getKind() == ArgKind::Param ||
                                 arg.getKind() == ArgKind::Attr)
                           ? Slice::Hoisted
                           : Slice::Free;
  }
  for (Operation &op : function.front().without_terminator()) {
    Slice slice = Slice::Hoisted;
    LogicalResult columns = success();
    forEachOperand(&op, [&](OpOperand &operand, bool columnwise) {
      Slice other = slices.lookup(operand.get());
      slice = std::max(slice, other);
      if (other == Slice::Panel && !columnwise && succeeded(columns))
        columns = op.emitError()
                  << "combines columns of the state, which are computed apart "
                     "from each other; only operations that keep columns "
                     "separate may follow a product with the state";
    });
    if (failed(columns))
      return failure();
    for (Value result : op.getResults()) {
      slices[result] = slice;
      if (slice == Slice::Panel &&
          getShape(result).second != geometry.stateCols)
        return op.emitError() << "expects what is computed from the state to "
                                 "have its "
                              << geometry.stateCols << " columns, but got "
                              << result.getType();
    }
  }
  if (!isWhole)
    sinkIntoPanels();
  return success();
}

/// State-free values that only panels read, column by column, are computed
/// there: their buffers then hold one panel, and blocks share no work.
void Plan::sinkIntoPanels() {
  auto onlyPanelsRead = [&](Value value) {
    if (value.use_empty() || getRank(value) == 0 ||
        getShape(value).second != geometry.stateCols)
      return false;
    return llvm::all_of(value.getUses(), [&](OpOperand &use) {
      Operation *user = use.getOwner();
      if (isa<func::ReturnOp>(user) ||
          slices.lookup(user->getResult(0)) != Slice::Panel)
        return false;
      bool columnwise = false;
      forEachOperand(user, [&](OpOperand &operand, bool byColumn) {
        if (&operand == &use)
          columnwise = byColumn;
      });
      return columnwise;
    });
  };
  for (Operation &op : llvm::reverse(function.front().without_terminator())) {
    if (slices.lookup(op.getResult(0)) != Slice::Free ||
        isa<SumOp, DecayGramOp, DecayMaskOp, TransposeOp, DiagonalOp,
            DecayGramAdjointOp>(op))
      continue;
    if (auto matmul = dyn_cast<MatmulOp>(op);
        matmul && matmul.getTransposeRhs())
      continue;
    if (getRank(op.getResult(0)) == 1 && !isa<TotalProductOp>(op))
      continue;
    if (llvm::all_of(op.getResults(), onlyPanelsRead))
      for (Value result : op.getResults())
        slices[result] = Slice::Panel;
  }
  for (BlockArgument argument : function.getArguments())
    if (slices.lookup(argument) == Slice::Free && getRank(argument) == 2 &&
        onlyPanelsRead(argument))
      slices[argument] = Slice::Panel;
}

//===----------------------------------------------------------------------===//
// Stored values
//===----------------------------------------------------------------------===//

/// Does the operand's loop nest read it in another order than it writes?
static bool readsFromMemory(OpOperand &operand) {
  return TypeSwitch<Operation *, bool>(operand.getOwner())
      .Case<MatmulOp>([&](MatmulOp op) {
        return operand.getOperandNumber() < 2 || op.getTransposeRhs();
      })
      .Case<TriSolveOp, DecayGramOp, DecayMaskOp, TransposeOp, DiagonalOp,
            DecayGramAdjointOp>([](auto) { return true; })
      .Case<BroadcastOp, PrefixProductOp, TotalProductOp, PrefixSumOp,
            LinearScanOp>([&](auto) { return getRank(operand.get()) == 1; })
      .Case<SetDiagonalOp>(
          [&](auto) { return operand.getOperandNumber() == 1; })
      .Case<func::ReturnOp>([&](auto) { return getRank(operand.get()) == 1; })
      .Default([](auto) { return false; });
}

bool Plan::isInline(Value value) const {
  if (stored.contains(value))
    return false;
  Operation *op = value.getDefiningOp();
  return op && getRank(value) > 0 && (isElementwise(op) || isRowScan(op));
}

void Plan::findStored() {
  if (checkpoint) {
    // States that are computed again are in the arena, padded with zeros.
    bool isRecomputed = signature.getIntOption("save_every").value_or(1) > 1;
    readsCheckpointInPlace =
        isRecomputed || (getArg(checkpoint).getType() == geometry.compute &&
                         geometry.stateCols % geometry.lanes == 0);
  }
  auto expensive = [&](Value value, auto &self) -> bool {
    Operation *op = value.getDefiningOp();
    if (!op || !isInline(value))
      return false;
    return isExpensive(op) ||
           llvm::any_of(op->getOperands(),
                        [&](Value operand) { return self(operand, self); });
  };
  auto mustStore = [&](Value value) {
    if (getRank(value) == 0 || value == state ||
        (value == checkpoint && readsCheckpointInPlace))
      return false;
    ArgAttr arg = getArg(value);
    if (arg && getRank(value) == 1)
      return arg.getKind() == ArgKind::In; // strided in memory
    if (llvm::any_of(value.getUses(), readsFromMemory))
      return true;
    Operation *op = value.getDefiningOp();
    if (!op || isConstant(value))
      return false;
    if (isRowScan(op) || !isElementwise(op))
      return true;
    bool crossesSlices = llvm::any_of(value.getUsers(), [&](Operation *user) {
      return user->getNumResults() &&
             slices.lookup(user->getResult(0)) != slices.lookup(value);
    });
    return (crossesSlices || !value.hasOneUse()) && expensive(value, expensive);
  };
  for (BlockArgument argument : function.getArguments())
    if (mustStore(argument))
      stored.insert(argument);
  for (Operation &op : function.front().without_terminator())
    for (Value result : op.getResults())
      if (mustStore(result))
        stored.insert(result);
}

void Plan::collectReads(Value value, llvm::SetVector<Value> &reads) const {
  if (value == valid || (isConstant(value) && !stored.contains(value)))
    return;
  if (getRank(value) == 0 || value == state || stored.contains(value)) {
    if (!isa<BlockArgument>(value) || getRank(value) > 0)
      reads.insert(value);
    return;
  }
  if (Operation *op = value.getDefiningOp())
    for (Value operand : op->getOperands())
      collectReads(operand, reads);
}
