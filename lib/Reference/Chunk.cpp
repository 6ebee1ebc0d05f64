//===- Chunk.cpp - Operations of the stage chunk --------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Each operation by the formula of its documentation: the decay-Gram as the sum
// over channels of products over intervals, the solve by substitution. Leaves
// and schemes, which only say how to compute, are not looked at.
//
//===----------------------------------------------------------------------===//

#include "Intervals.h"
#include "Program.h"
#include "delta/Dialect/Delta/IR/Delta.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace delta::reference;
using namespace mlir::delta;
using llvm::success;
using mlir::Operation;

/// Running products along the rows of w, from one end or the other.
static Matrix prefixProduct(const Matrix &w, bool exclusive, bool reverse) {
  Matrix result = Matrix::dense(w.rows(), w.cols());
  for (int64_t d = 0; d < w.cols(); ++d) {
    double product = 1;
    for (int64_t step = 0; step < w.rows(); ++step) {
      int64_t i = reverse ? w.rows() - 1 - step : step;
      double before = product;
      product *= w(i, d);
      result(i, d) = exclusive ? before : product;
    }
  }
  return result;
}

static Matrix decayMask(const Matrix &w, Position row, Position col,
                        bool diagonal) {
  Matrix result = Matrix::dense(w.rows(), w.rows());
  forEachInterval(w, 0, row, col, [&](int64_t i, int64_t j, double p) {
    if (j < i || diagonal)
      result(i, j) = p;
  });
  return result;
}

static Matrix decayGram(const Matrix &a, const Matrix &b, const Matrix &w,
                        Position row, Position col, bool diagonal) {
  Matrix result = Matrix::dense(w.rows(), w.rows());
  for (int64_t d = 0; d < w.cols(); ++d)
    forEachInterval(w, d, row, col, [&](int64_t i, int64_t j, double p) {
      if (j < i || diagonal)
        result(i, j) += a(i, d) * b(j, d) * p;
    });
  return result;
}

/// One factor from the start of each leaf to the row; a column's divides by it.
static Factors anchoredFactors(const Matrix &w, int64_t leaf, Position row,
                               Position col) {
  Factors factors{Matrix::dense(w.rows(), w.cols()),
                  Matrix::dense(w.rows(), w.cols())};
  for (int64_t d = 0; d < w.cols(); ++d) {
    double product = 1;
    for (int64_t i = 0; i < w.rows(); ++i) {
      double before = i % leaf ? product : 1;
      product = before * w(i, d);
      factors.rows(i, d) = row == Position::After ? product : before;
      factors.cols(i, d) = 1 / (col == Position::After ? product : before);
    }
  }
  return factors;
}

/// As kernels compute it: a matrix product of rounded, scaled operands for the
/// leaves and for each level above them, the diagonal in f32.
static Matrix emulatedGram(const Rounding &rounding, const Matrix &a,
                           const Matrix &b, const Matrix &w, Position row,
                           Position col, bool diagonal, int64_t anchoredLeaf,
                           bool narrowRow, bool narrowCol) {
  int64_t C = w.rows();
  Matrix result = Matrix::dense(C, C);
  auto add = [&](const Factors &factors,
                 llvm::function_ref<bool(int64_t, int64_t)> keep) {
    Matrix rows = rounding.scaled(a, factors.rows, narrowRow);
    Matrix cols = rounding.scaled(b, factors.cols, narrowCol);
    Matrix product = rounding.product(rows, cols.transposed());
    for (int64_t i = 0; i < C; ++i)
      for (int64_t j = 0; j < i; ++j)
        if (keep(i, j))
          result(i, j) = product(i, j);
  };
  if (anchoredLeaf > 1)
    add(anchoredFactors(w, anchoredLeaf, row, col), [&](int64_t i, int64_t j) {
      return i / anchoredLeaf == j / anchoredLeaf;
    });
  for (int64_t distance = anchoredLeaf; distance < C; distance *= 2)
    add(halvingFactors(w, distance, row, col), [&](int64_t i, int64_t j) {
      return i / distance != j / distance &&
             i / (2 * distance) == j / (2 * distance);
    });
  if (diagonal)
    for (int64_t d = 0; d < w.cols(); ++d)
      forEachInterval(w, d, row, col, [&](int64_t i, int64_t j, double p) {
        if (i == j)
          result(i, i) += a(i, d) * b(i, d) * p;
      });
  return result;
}

/// Substitution, token by token and unknown by unknown:
/// E_j[i] = R_j[i] + sum over l of A_jl[i, :] E_l as far as it is known.
static std::vector<Matrix> triSolve(const std::vector<Matrix> &blocks,
                                    std::vector<Matrix> unknowns) {
  int64_t m = unknowns.size();
  int64_t C = unknowns[0].rows(), V = unknowns[0].cols();
  for (int64_t i = 0; i < C; ++i)
    for (int64_t j = 0; j < m; ++j)
      for (int64_t l = 0; l < m; ++l)
        for (int64_t p = 0; p < i + (l < j ? 1 : 0); ++p) {
          double factor = blocks[j * m + l](i, p);
          for (int64_t v = 0; v < V; ++v)
            unknowns[j](i, v) += factor * unknowns[l](p, v);
        }
  return unknowns;
}

/// The same with the transposed system, from the last token to the first:
/// E_j[p] = R_j[p] + sum over l and i of A_lj[i, p] E_l[i].
static std::vector<Matrix> triSolveTransposed(const std::vector<Matrix> &blocks,
                                              std::vector<Matrix> unknowns) {
  int64_t m = unknowns.size();
  int64_t C = unknowns[0].rows(), V = unknowns[0].cols();
  for (int64_t i = C - 1; i >= 0; --i)
    for (int64_t l = m - 1; l >= 0; --l)
      for (int64_t j = 0; j < m; ++j)
        for (int64_t p = 0; p < i + (j < l ? 1 : 0); ++p) {
          double factor = blocks[l * m + j](i, p);
          for (int64_t v = 0; v < V; ++v)
            unknowns[j](p, v) += factor * unknowns[l](i, v);
        }
  return unknowns;
}

/// By the inverse of the system, an f32 array and a product's operand.
static std::vector<Matrix> emulatedSolve(const Rounding &rounding,
                                         const std::vector<Matrix> &blocks,
                                         const std::vector<Matrix> &rhs,
                                         bool transpose) {
  size_t m = rhs.size();
  int64_t C = rhs[0].rows();
  std::vector<Matrix> unknowns;
  for (const Matrix &side : rhs)
    unknowns.push_back(Matrix::dense(side.rows(), side.cols()));
  for (size_t l = 0; l < m; ++l) {
    std::vector<Matrix> units(m, Matrix::dense(C, C));
    for (int64_t i = 0; i < C; ++i)
      units[l](i, i) = 1;
    std::vector<Matrix> inverse =
        transpose ? triSolveTransposed(blocks, std::move(units))
                  : triSolve(blocks, std::move(units));
    for (size_t j = 0; j < m; ++j)
      unknowns[j] =
          rounding.product(rounding.result(inverse[j]), rhs[l], &unknowns[j]);
  }
  return unknowns;
}

bool Program::isNarrow(mlir::Value value) const {
  if (!rounding.isNarrow())
    return false;
  while (auto identity = value.getDefiningOp<IdentityRowsOp>()) {
    if (!identity.getValue().isZero())
      return false;
    value = identity.getInput();
  }
  auto argument = llvm::dyn_cast<mlir::BlockArgument>(value);
  if (!argument)
    return false;
  auto function =
      llvm::cast<mlir::func::FuncOp>(argument.getOwner()->getParentOp());
  ArgAttr arg = lookupArg(
      getSignature(function->getParentOfType<mlir::ModuleOp>()), argument);
  return arg && arg.getKind() == ArgKind::In && arg.getType().isBF16();
}

std::function<Matrix(Frame &)> Program::operandOf(mlir::Value value) {
  auto product = value.getDefiningOp<mlir::arith::MulFOp>();
  if (product)
    for (auto [x, y] : {std::pair(product.getLhs(), product.getRhs()),
                        std::pair(product.getRhs(), product.getLhs())})
      if (auto prefix = y.getDefiningOp<PrefixProductOp>();
          prefix && !prefix.getReverse() && isNarrow(x)) {
        unsigned input = slot(x), factors = slot(y);
        return [=, rounding = rounding](Frame &f) {
          return rounding.scaled(f[input].densified(), f[factors].densified(),
                                 /*narrow=*/true);
        };
      }
  unsigned from = slot(value);
  return [=](Frame &f) { return f[from]; };
}

std::optional<llvm::LogicalResult> Program::compileChunk(Operation *op,
                                                         Code &code) {
  auto slotsOf = [&](mlir::ValueRange values) {
    return llvm::map_to_vector(values,
                               [&](mlir::Value value) { return slot(value); });
  };
  return llvm::TypeSwitch<Operation *, Maybe>(op)
      .Case<IdentityRowsOp>([&](IdentityRowsOp op) -> Maybe {
        unsigned x = slot(op.getInput()), valid = slot(op.getValid());
        unsigned result = slot(op.getResult());
        double identity = op.getValue().convertToDouble();
        code.push_back([=](Frame &f) {
          Matrix value = f[x].densified();
          for (int64_t i = f[valid](0); i < value.rows(); ++i)
            for (int64_t d = 0; d < value.cols(); ++d)
              value(i, d) = identity;
          f[result] = std::move(value);
        });
        return success();
      })
      .Case<PrefixProductOp>([&](PrefixProductOp op) -> Maybe {
        unsigned x = slot(op.getInput()), result = slot(op.getResult());
        bool exclusive = op.getExclusive(), reverse = op.getReverse();
        code.push_back([=](Frame &f) {
          f[result] = prefixProduct(f[x].densified(), exclusive, reverse);
        });
        return success();
      })
      .Case<TotalProductOp>([&](TotalProductOp op) -> Maybe {
        unsigned x = slot(op.getInput()), result = slot(op.getResult());
        code.push_back([=](Frame &f) {
          Matrix w = f[x].densified();
          Matrix value = Matrix::dense(w.cols(), 1, 1);
          for (int64_t i = 0; i < w.rows(); ++i)
            for (int64_t d = 0; d < w.cols(); ++d)
              value(d) *= w(i, d);
          f[result] = std::move(value);
        });
        return success();
      })
      .Case<DecayMaskOp>([&](DecayMaskOp op) -> Maybe {
        unsigned w = slot(op.getW()), result = slot(op.getResult());
        Position row = op.getRow(), col = op.getCol();
        bool diagonal = op.getDiagonal();
        code.push_back([=](Frame &f) {
          f[result] = decayMask(f[w].densified(), row, col, diagonal);
        });
        return success();
      })
      .Case<CausalMaskOp>([&](CausalMaskOp op) -> Maybe {
        unsigned x = slot(op.getInput()), result = slot(op.getResult());
        bool diagonal = op.getDiagonal();
        code.push_back([=](Frame &f) {
          Matrix value = f[x].densified();
          for (int64_t i = 0; i < value.rows(); ++i)
            for (int64_t j = diagonal ? i + 1 : i; j < value.cols(); ++j)
              value(i, j) = 0;
          f[result] = std::move(value);
        });
        return success();
      })
      .Case<SetDiagonalOp>([&](SetDiagonalOp op) -> Maybe {
        unsigned x = slot(op.getInput()), diagonal = slot(op.getDiagonal());
        unsigned result = slot(op.getResult());
        code.push_back([=](Frame &f) {
          Matrix value = f[x].densified(), entries = f[diagonal].densified();
          for (int64_t i = 0; i < value.rows(); ++i)
            value(i, i) = entries(i);
          f[result] = std::move(value);
        });
        return success();
      })
      .Case<DecayGramOp>([&](DecayGramOp op) -> Maybe {
        unsigned w = slot(op.getDecay());
        for (unsigned a = 0; a < op.getRows().size(); ++a)
          for (unsigned b = 0; b < op.getCols().size(); ++b) {
            mlir::Value gram = op.getGram(a, b);
            if (!gram)
              continue;
            unsigned result = slot(gram);
            unsigned x = slot(op.getRows()[a]), y = slot(op.getCols()[b]);
            Position row = op.getRowPosition(a), col = op.getColPosition(b);
            bool diagonal = op.getMask(a, b) == "diagonal";
            int64_t leaf = op.getScheme() == DecayScheme::Anchored
                               ? static_cast<int64_t>(op.getLeaf())
                               : 1;
            bool narrowRow = isNarrow(op.getRows()[a]);
            bool narrowCol = isNarrow(op.getCols()[b]);
            code.push_back([=, rounding = rounding](Frame &f) {
              Matrix rows = f[x].densified(), cols = f[y].densified();
              Matrix decay = f[w].densified();
              f[result] =
                  rounding.isExact()
                      ? decayGram(rows, cols, decay, row, col, diagonal)
                      : emulatedGram(rounding, rows, cols, decay, row, col,
                                     diagonal, leaf, narrowRow, narrowCol);
            });
          }
        return success();
      })
      .Case<TriSolveOp>([&](TriSolveOp op) -> Maybe {
        auto blocks = slotsOf(op.getBlocks()), rhs = slotsOf(op.getRhs());
        auto unknowns = slotsOf(op.getUnknowns());
        bool transpose = op.getTranspose();
        code.push_back([=, rounding = rounding](Frame &f) {
          std::vector<Matrix> A, R;
          for (unsigned block : blocks)
            A.push_back(f[block].densified());
          for (unsigned side : rhs)
            R.push_back(f[side].densified());
          std::vector<Matrix> E =
              !rounding.isExact() ? emulatedSolve(rounding, A, R, transpose)
              : transpose         ? triSolveTransposed(A, std::move(R))
                                  : triSolve(A, std::move(R));
          for (size_t j = 0; j < unknowns.size(); ++j)
            f[unknowns[j]] = std::move(E[j]);
        });
        return success();
      })
      .Case<MatmulOp>([&](MatmulOp op) -> Maybe {
        auto lhs = operandOf(op.getLhs()), rhs = operandOf(op.getRhs());
        unsigned result = slot(op.getResult());
        std::optional<unsigned> acc;
        if (op.getAcc())
          acc = slot(op.getAcc());
        bool transposeLhs = op.getTransposeLhs();
        bool transposeRhs = op.getTransposeRhs();
        code.push_back([=, rounding = rounding](Frame &f) {
          f[result] =
              rounding.product(transposeLhs ? lhs(f).transposed() : lhs(f),
                               transposeRhs ? rhs(f).transposed() : rhs(f),
                               acc ? &f[*acc] : nullptr);
        });
        return success();
      })
      .Default([](Operation *) -> Maybe { return std::nullopt; });
}
