//===- CostModel.cpp - Reckoning of a chunk program's time ----------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Goes over a chunk program and adds up cycles for what delta-cpu-map makes of
// each operation: register tiles of products with their depth and their
// overhead, tiles of dot products with their horizontal sums, levels of
// decay-Grams, substitution, and vectors of elementwise work.
//
//===----------------------------------------------------------------------===//

#include "delta/Target/CPU/CostModel.h"
#include "delta/Analysis/WorkCount.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/MathExtras.h"

#include <algorithm>
#include <cmath>

using namespace mlir;
using namespace mlir::delta;

// Cycles, as measured on cores with two vector multipliers. What matters is
// their proportion: one factor for all changes no choice.

/// Of one fused multiply-add in a tile that keeps both multipliers busy for
/// three quarters of the time.
static constexpr double kFma = 0.68;
/// To begin and end a register tile: its accumulators come from memory and go
/// there, and the loop over the depth starts.
static constexpr double kTile = 24;
/// Of a 4 x 4 tile of dot products beside its multiplications: the lanes of 16
/// accumulators are added by shuffles.
static constexpr double kDotTile = 60;
/// To load, to multiply or to select, and to store a vector.
static constexpr double kLoad = 0.5, kSimple = 0.5, kStore = 1;
/// Of a vector of exp; of log, tanh and the like; of a division.
static constexpr double kExp = 10, kTranscendental = 25, kDivision = 8;
/// One loop nest's beginning and end.
static constexpr double kLoop = 20;
/// Bytes that a core gets from or puts to memory a cycle.
static constexpr double kMemoryBytes = 6;
/// A solve's rounds depend on each other: of one multiply-add there.
static constexpr double kSolveFma = 1.3;
/// Work items that keep a machine busy: with fewer heads the state's columns
/// are split, and every block does the state-free work again.
static constexpr double kItems = 8;

namespace {

class Reckoner {
public:
  Reckoner(ModuleOp module, const ::delta::cpu::CpuTarget &target);
  CpuCost run(const CpuCostAssumptions &assume);

private:
  double vectors(int64_t elements) const {
    return std::ceil(static_cast<double>(elements) / lanes);
  }
  double ofMatmul(MatmulOp op) const;
  double ofDots(double rows, double cols, double width) const;
  double ofGram(DecayGramOp op) const;
  double ofSolve(TriSolveOp op) const;
  double ofElementwise(Operation *op) const;
  double ofMemory() const;

  SignatureAttr signature;
  func::FuncOp function;
  int64_t tokens, lanes, tileRows, panelVectors;
};

} // namespace

Reckoner::Reckoner(ModuleOp module, const ::delta::cpu::CpuTarget &target)
    : signature(getSignature(module)),
      function(*module.getOps<func::FuncOp>().begin()) {
  tokens = signature.getIntOption("chunk").value_or(16);
  int64_t bits = signature.getOption("compute") == "f64" ? 64 : 32;
  lanes = target.getVectorBits() / bits;
  tileRows = target.getNumVectorRegisters() >= 32 ? 8 : 4;
  panelVectors = 2;
}

static std::pair<int64_t, int64_t> getMatrixShape(Value value) {
  auto type = cast<RankedTensorType>(value.getType());
  return {type.getDimSize(0), type.getDimSize(1)};
}

double Reckoner::ofDots(double rows, double cols, double width) const {
  double tiles = std::ceil(rows / 4) * std::ceil(cols / 4);
  return tiles * (16 * vectors(static_cast<int64_t>(width)) * kFma + kDotTile);
}

double Reckoner::ofMatmul(MatmulOp op) const {
  auto [rows, cols] = getMatrixShape(op.getResult());
  if (op.getTransposeRhs()) {
    // Tiles above the diagonal are not computed.
    double share = rows == cols ? (rows + 4.0) / (2.0 * rows) : 1.0;
    return share * ofDots(rows, cols, getMatrixShape(op.getLhs()).second);
  }
  double depth = getMatrixShape(op.getRhs()).first;
  if (op.getTriangular() && !op.getTransposeLhs())
    depth = std::min(depth, (depth + tileRows + 4) / 2);
  double across = vectors(cols);
  double tiles = std::ceil(static_cast<double>(rows) / tileRows) *
                 std::ceil(across / panelVectors);
  return rows * across * depth * kFma + tiles * kTile;
}

double Reckoner::ofGram(DecayGramOp op) const {
  double rows = op.getRows().size(), cols = op.getCols().size();
  double pairs = op.getGrams().size();
  int64_t width = getMatrixShape(op.getDecay()).second;
  double cycles = 0;
  // A level halves blocks of 2 * half tokens: every token is scaled once.
  for (int64_t half = 4; half < tokens; half *= 2) {
    double nodes = static_cast<double>(tokens) / (2 * half);
    double scaled =
        half * vectors(width) *
        ((rows + cols) * (kLoad + kSimple + kStore) + 2 * (kLoad + kSimple));
    cycles += nodes * (scaled + pairs * ofDots(half, half, width) + kLoop);
  }
  double leaves = tokens / 4.0;
  return cycles + leaves * pairs * (8 * vectors(width) * 2 * kFma + kDotTile);
}

double Reckoner::ofSolve(TriSolveOp op) const {
  double unknowns = op.getRhs().size();
  auto [rows, cols] = getMatrixShape(op.getRhs()[0]);
  double across = vectors(cols), n = rows * unknowns;
  double tiles = std::ceil(n / tileRows) * std::ceil(across / panelVectors);
  return n * n / 2 * across * kSolveFma + tiles * (kTile + 20);
}

double Reckoner::ofElementwise(Operation *op) const {
  auto type = dyn_cast<RankedTensorType>(op->getResult(0).getType());
  if (!type)
    return 0;
  double count = vectors(type.getNumElements());
  if (isa<math::ExpOp, math::Exp2Op>(op))
    return count * kExp;
  if (isa<math::MathDialect>(op->getDialect()) ||
      isa<SigmoidOp, SoftplusOp>(op))
    return count * kTranscendental;
  if (isa<arith::DivFOp, arith::RemFOp>(op))
    return count * kDivision;
  if (isa<arith::ConstantOp, BroadcastOp>(op))
    return 0;
  // A running product waits for the one before.
  if (isa<PrefixProductOp, TotalProductOp>(op))
    return type.getRank() == 2 ? count * (kSimple + kStore) : 4.0 * tokens;
  if (isa<DecayMaskOp>(op))
    return count * 4;
  // Most of what is computed is read from memory or written there, once.
  return count * (kSimple + kLoad + 0.5 * kStore);
}

double Reckoner::ofMemory() const {
  return getBytesPerToken(signature) * tokens / kMemoryBytes;
}

CpuCost Reckoner::run(const CpuCostAssumptions &assume) {
  CpuCost cost;
  cost.tokens = tokens;
  // What depends on the state is done once; the rest once for each block.
  llvm::DenseSet<Value> onState;
  for (BlockArgument argument : function.getArguments())
    if (lookupArg(signature, argument) == signature.getState())
      onState.insert(argument);
  double blocks = 1;
  if (assume.B && assume.H) {
    auto state = signature.getState();
    double panels =
        std::ceil(vectors(signature.getDim(state.getAxes()[1]).value_or(1)) /
                  panelVectors);
    double pairs = std::max<double>(*assume.B * *assume.H, 1);
    blocks = std::clamp(std::floor(kItems / pairs), 1.0, panels);
  }
  for (Operation &op : function.front().without_terminator()) {
    bool dependent = llvm::any_of(
        op.getOperands(), [&](Value value) { return onState.contains(value); });
    if (dependent)
      onState.insert(op.result_begin(), op.result_end());
    double times = dependent ? 1 : blocks;
    TypeSwitch<Operation *>(&op)
        .Case([&](MatmulOp matmul) {
          (matmul.getTransposeRhs() ? cost.pairs : cost.products) +=
              times * ofMatmul(matmul);
        })
        .Case([&](DecayGramOp gram) { cost.pairs += times * ofGram(gram); })
        .Case([&](TriSolveOp solve) { cost.solve += times * ofSolve(solve); })
        .Default([&](Operation *other) {
          cost.elementwise += times * ofElementwise(other);
        });
  }
  cost.memory = ofMemory();
  double perToken = tokens;
  // The last chunk's missing tokens are computed all the same.
  if (assume.T && *assume.T > 0)
    perToken = static_cast<double>(*assume.T) /
               std::ceil(static_cast<double>(*assume.T) / tokens);
  for (double *part : {&cost.products, &cost.pairs, &cost.solve,
                       &cost.elementwise, &cost.memory})
    *part /= perToken;
  return cost;
}

CpuCost mlir::delta::estimateCpuCost(ModuleOp chunk,
                                     const ::delta::cpu::CpuTarget &target,
                                     const CpuCostAssumptions &assume) {
  return Reckoner(chunk, target).run(assume);
}

const CpuCost &mlir::delta::chooseCpuChunk(ArrayRef<CpuCost> candidates) {
  // What is not clearly faster is not worth the larger arena.
  const CpuCost *best = &candidates.front();
  for (const CpuCost &candidate : candidates.drop_front())
    if (candidate.total() < 0.97 * best->total())
      best = &candidate;
  return *best;
}

void mlir::delta::explainCpuChunk(ArrayRef<CpuCost> candidates,
                                  llvm::raw_ostream &os) {
  os << "  chunk by the cost model, in cycles a token and head:\n";
  for (const CpuCost &cost : candidates)
    os << llvm::format("    C=%lld: %.0f (products %.0f, pairs %.0f, solve "
                       "%.0f, elementwise %.0f, memory %.0f)\n",
                       static_cast<long long>(cost.tokens), cost.total(),
                       cost.products, cost.pairs, cost.solve, cost.elementwise,
                       cost.memory);
  os << "    chosen: C=" << chooseCpuChunk(candidates).tokens << '\n';
}
