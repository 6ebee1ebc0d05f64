//===- AdjointChunk.cpp - Adjoints of chunk operations --------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rules of what works on all tokens of a chunk (chunk_math 4.1). Decay-Grams and
// triangular solves are differentiated whole, which gives the matrix products
// of the derivation by hand; differentiating their leaves would not.
//
// Test: test/Dialect/Delta/Transforms/differentiate.mlir
//
//===----------------------------------------------------------------------===//

#include "AdjointModels.h"

using namespace mlir;
using namespace mlir::delta;

namespace {

Value prefixProduct(Cotangents &c, Location loc, Value w, bool exclusive,
                    bool reverse) {
  return PrefixProductOp::create(c.builder, loc, w.getType(), w, exclusive,
                                 reverse);
}

Value prefixSum(Cotangents &c, Location loc, Value x, bool exclusive,
                bool reverse) {
  return PrefixSumOp::create(c.builder, loc, x.getType(), x, exclusive,
                             reverse);
}

Value linearScan(Cotangents &c, Location loc, Value x, Value w, bool exclusive,
                 bool reverse) {
  return LinearScanOp::create(c.builder, loc, x.getType(), x, w, exclusive,
                              reverse);
}

struct IdentityRowsAdjoint
    : AdjointInterface::ExternalModel<IdentityRowsAdjoint, IdentityRowsOp> {
  static Value mask(Operation *op, Cotangents &c, Value term) {
    auto rows = cast<IdentityRowsOp>(op);
    return IdentityRowsOp::create(c.builder, op->getLoc(), term.getType(), term,
                                  rows.getValid(),
                                  c.builder.getF64FloatAttr(0.0));
  }
  void buildAdjoint(Operation *op, Cotangents &c) const {
    c.add(op->getLoc(), op->getOperand(0), mask(op, c, c.get(op->getResult(0))));
  }
  std::optional<SmallVector<Value>> getLogOperands(Operation *op) const {
    return SmallVector<Value>{op->getOperand(0)};
  }
  void buildLogAdjoint(Operation *op, Cotangents &c) const {
    c.addLog(op->getLoc(), op->getOperand(0),
             mask(op, c, c.getLog(op->getResult(0))));
  }
};

struct BroadcastAdjoint
    : AdjointInterface::ExternalModel<BroadcastAdjoint, BroadcastOp> {
  static Value sum(Operation *op, Cotangents &c, Value term) {
    auto broadcast = cast<BroadcastOp>(op);
    Location loc = op->getLoc();
    if (broadcast.getDim() == 1)
      return TokenSumOp::create(c.builder, loc, broadcast.getInput().getType(),
                                term);
    while (term.getType() != broadcast.getInput().getType())
      term = c.vectors.sum(loc, term);
    return term;
  }
  void buildAdjoint(Operation *op, Cotangents &c) const {
    if (!VectorBuilder::getConstant(op->getOperand(0)))
      c.add(op->getLoc(), op->getOperand(0), sum(op, c, c.get(op->getResult(0))));
  }
  std::optional<SmallVector<Value>> getLogOperands(Operation *op) const {
    return SmallVector<Value>{op->getOperand(0)};
  }
  void buildLogAdjoint(Operation *op, Cotangents &c) const {
    if (!VectorBuilder::getConstant(op->getOperand(0)))
      c.addLog(op->getLoc(), op->getOperand(0),
               sum(op, c, c.getLog(op->getResult(0))));
  }
};

struct SumAdjoint : AdjointInterface::ExternalModel<SumAdjoint, SumOp> {
  void buildAdjoint(Operation *op, Cotangents &c) const {
    Value x = op->getOperand(0);
    c.add(op->getLoc(), x,
          c.vectors.broadcast(op->getLoc(), c.get(op->getResult(0)),
                              x.getType()));
  }
};

struct CausalMaskAdjoint
    : AdjointInterface::ExternalModel<CausalMaskAdjoint, CausalMaskOp> {
  void buildAdjoint(Operation *op, Cotangents &c) const {
    Value dy = c.get(op->getResult(0));
    c.add(op->getLoc(), op->getOperand(0),
          CausalMaskOp::create(c.builder, op->getLoc(), dy.getType(), dy,
                               cast<CausalMaskOp>(op).getDiagonal()));
  }
};

struct SetDiagonalAdjoint
    : AdjointInterface::ExternalModel<SetDiagonalAdjoint, SetDiagonalOp> {
  void buildAdjoint(Operation *op, Cotangents &c) const {
    auto set = cast<SetDiagonalOp>(op);
    Location loc = op->getLoc();
    Value dy = c.get(set.getResult());
    Type vector = set.getDiagonal().getType();
    c.add(loc, set.getInput(),
          SetDiagonalOp::create(c.builder, loc, dy.getType(), dy,
                                c.vectors.zero(loc, vector)));
    c.add(loc, set.getDiagonal(),
          DiagonalOp::create(c.builder, loc, vector, dy));
  }
};

struct PrefixProductAdjoint
    : AdjointInterface::ExternalModel<PrefixProductAdjoint, PrefixProductOp> {
  void buildAdjoint(Operation *op, Cotangents &c) const {
    auto prefix = cast<PrefixProductOp>(op);
    Location loc = op->getLoc();
    Value w = prefix.getInput(), y = prefix.getResult(), dy = c.get(y);
    bool exclusive = prefix.getExclusive(), reverse = prefix.getReverse();
    // Token t's decay is a factor of the products that end behind it.
    c.addDecay(
        loc, w,
        [&] {
          return prefixSum(c, loc, c.vectors.mul(loc, dy, y), exclusive,
                           !reverse);
        },
        [&] {
          return c.vectors.mul(
              loc, prefixProduct(c, loc, w, /*exclusive=*/true, reverse),
              linearScan(c, loc, dy, w, exclusive, !reverse));
        });
  }
};

struct TotalProductAdjoint
    : AdjointInterface::ExternalModel<TotalProductAdjoint, TotalProductOp> {
  void buildAdjoint(Operation *op, Cotangents &c) const {
    auto total = cast<TotalProductOp>(op);
    Location loc = op->getLoc();
    Value w = total.getInput(), y = total.getResult(), dy = c.get(y);
    auto everyToken = [&](Value value) -> Value {
      IntegerAttr dim;
      if (isa<RankedTensorType>(value.getType()))
        dim = c.builder.getI64IntegerAttr(1);
      return BroadcastOp::create(c.builder, loc, w.getType(), value, dim);
    };
    c.addDecay(
        loc, w, [&] { return everyToken(c.vectors.mul(loc, dy, y)); },
        [&] {
          Value others =
              c.vectors.mul(loc, prefixProduct(c, loc, w, true, false),
                            prefixProduct(c, loc, w, true, true));
          return c.vectors.mul(loc, others, everyToken(dy));
        });
  }
};

/// With M[i, j] the product of w over I(i, j), token t has a part in M[i, j]
/// for j up to t (the column stands before the decay) or below it, and i from t
/// (the row stands after it) or behind it.
struct DecayMaskAdjoint
    : AdjointInterface::ExternalModel<DecayMaskAdjoint, DecayMaskOp> {
  void buildAdjoint(Operation *op, Cotangents &c) const {
    auto mask = cast<DecayMaskOp>(op);
    Location loc = op->getLoc();
    Value w = mask.getW(), y = mask.getResult();
    Type square = y.getType();
    bool rowBefore = mask.getRow() == Position::Before;
    bool colBefore = mask.getCol() == Position::Before;
    Value dy = CausalMaskOp::create(c.builder, loc, square, c.get(y),
                                    mask.getDiagonal());
    c.addDecay(
        loc, w,
        [&] {
          Value rows = prefixSum(c, loc, c.vectors.mul(loc, dy, y),
                                 /*exclusive=*/rowBefore, /*reverse=*/true);
          return c.vectors.sum(
              loc, CausalMaskOp::create(c.builder, loc, square, rows,
                                        /*diagonal=*/colBefore));
        },
        [&] {
          Value rows = linearScan(c, loc, dy, c.vectors.broadcast(loc, w, square),
                                  /*exclusive=*/rowBefore, /*reverse=*/true);
          Value cols = DecayMaskOp::create(c.builder, loc, square, w,
                                           Position::Before, mask.getCol(),
                                           /*diagonal=*/colBefore);
          return c.vectors.dot(
              loc, cols,
              CausalMaskOp::create(c.builder, loc, square, rows, colBefore));
        });
  }
};

struct DecayGramAdjoint
    : AdjointInterface::ExternalModel<DecayGramAdjoint, DecayGramOp> {
  void buildAdjoint(Operation *op, Cotangents &c) const {
    auto gram = cast<DecayGramOp>(op);
    Location loc = op->getLoc();
    // Pairs without a cotangent have no part in it.
    SmallVector<StringRef> masks;
    SmallVector<Value> cotangents;
    for (unsigned a = 0; a < gram.getRows().size(); ++a)
      for (unsigned b = 0; b < gram.getCols().size(); ++b) {
        Value result = gram.getGram(a, b);
        Value cotangent = result ? c.get(result) : Value();
        masks.push_back(cotangent ? gram.getMask(a, b) : "none");
        if (cotangent)
          cotangents.push_back(cotangent);
      }
    Value w = gram.getDecay();
    bool log = c.isLogarithmic(w);
    SmallVector<Type> types(gram.getRows().size() + gram.getCols().size() + 1,
                            w.getType());
    auto adjoint = DecayGramAdjointOp::create(
        c.builder, loc, types, gram.getRows(), gram.getCols(), w, cotangents,
        gram.getRowPositionsAttr(), gram.getColPositionsAttr(),
        c.builder.getStrArrayAttr(masks), gram.getLeafAttr(),
        gram.getSchemeAttr(), log ? c.builder.getUnitAttr() : UnitAttr());
    for (auto [a, row] : llvm::enumerate(gram.getRows()))
      c.add(loc, row, adjoint.getRowGradient(a));
    for (auto [b, col] : llvm::enumerate(gram.getCols()))
      c.add(loc, col, adjoint.getColGradient(b));
    auto decay = [&] { return adjoint.getDecayGradient(); };
    c.addDecay(loc, w, decay, decay);
  }
};

struct TriSolveAdjoint
    : AdjointInterface::ExternalModel<TriSolveAdjoint, TriSolveOp> {
  void buildAdjoint(Operation *op, Cotangents &c) const {
    auto solve = cast<TriSolveOp>(op);
    Location loc = op->getLoc();
    SmallVector<Value> cotangents;
    SmallVector<Type> types;
    for (Value unknown : solve.getUnknowns()) {
      cotangents.push_back(c.getOrZero(loc, unknown));
      types.push_back(unknown.getType());
    }
    // (I - A) E = R: dR = (I - A)^-T dE, dA = dR E^T.
    auto adjoint =
        TriSolveOp::create(c.builder, loc, types, solve.getBlocks(), cotangents,
                           solve.getLeaf(), !solve.getTranspose());
    size_t m = solve.getRhs().size();
    for (size_t j = 0; j < m; ++j) {
      c.add(loc, solve.getRhs()[j], adjoint.getUnknowns()[j]);
      for (size_t l = 0; l < m; ++l) {
        Value left = adjoint.getUnknowns()[j], right = solve.getUnknowns()[l];
        if (solve.getTranspose())
          std::swap(left, right);
        Value block = solve.getBlocks()[solve.getTranspose() ? l * m + j
                                                             : j * m + l];
        c.addMatmul(loc, block, left, right, false, true);
      }
    }
  }
};

struct MatmulAdjoint
    : AdjointInterface::ExternalModel<MatmulAdjoint, MatmulOp> {
  void buildAdjoint(Operation *op, Cotangents &c) const {
    auto matmul = cast<MatmulOp>(op);
    Location loc = op->getLoc();
    Value a = matmul.getLhs(), b = matmul.getRhs(), dy = c.get(matmul);
    bool ta = matmul.getTransposeLhs(), tb = matmul.getTransposeRhs();
    if (matmul.getAcc())
      c.add(loc, matmul.getAcc(), dy);
    // y = op(a) op(b): d op(a) = dy op(b)^T, d op(b) = op(a)^T dy.
    if (ta)
      c.addMatmul(loc, a, b, dy, tb, true);
    else
      c.addMatmul(loc, a, dy, b, false, !tb);
    if (tb)
      c.addMatmul(loc, b, dy, a, true, ta);
    else
      c.addMatmul(loc, b, a, dy, !ta, false, matmul.getTriangular());
  }
};

} // namespace

void mlir::delta::registerChunkAdjoints(DialectRegistry &registry) {
  registry.addExtension(+[](MLIRContext *context, DeltaDialect *) {
    IdentityRowsOp::attachInterface<IdentityRowsAdjoint>(*context);
    BroadcastOp::attachInterface<BroadcastAdjoint>(*context);
    SumOp::attachInterface<SumAdjoint>(*context);
    CausalMaskOp::attachInterface<CausalMaskAdjoint>(*context);
    SetDiagonalOp::attachInterface<SetDiagonalAdjoint>(*context);
    PrefixProductOp::attachInterface<PrefixProductAdjoint>(*context);
    TotalProductOp::attachInterface<TotalProductAdjoint>(*context);
    DecayMaskOp::attachInterface<DecayMaskAdjoint>(*context);
    DecayGramOp::attachInterface<DecayGramAdjoint>(*context);
    TriSolveOp::attachInterface<TriSolveAdjoint>(*context);
    MatmulOp::attachInterface<MatmulAdjoint>(*context);
  });
}

void mlir::delta::registerAdjointModels(DialectRegistry &registry) {
  registerElementwiseAdjoints(registry);
  registerChunkAdjoints(registry);
}
