//===- GradientOps.cpp - Operations that only gradients need --------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Each by the formula of its documentation, without the dyadic tree and without
// a division.
//
//===----------------------------------------------------------------------===//

#include "Intervals.h"
#include "Program.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace delta::reference;
using namespace mlir::delta;
using llvm::success;
using mlir::Operation;

/// r[i] = x[i] + w[i-1] r[i-1], exclusive: x[i-1] in place of x[i]; `reverse`
/// from the other end. Without w every factor is 1.
static Matrix linearScan(const Matrix &x, const Matrix *w, bool exclusive,
                         bool reverse) {
  int64_t C = x.rows();
  Matrix result = Matrix::dense(C, x.cols());
  for (int64_t d = 0; d < x.cols(); ++d)
    for (int64_t step = 0; step < C; ++step) {
      int64_t i = reverse ? C - 1 - step : step;
      int64_t before = reverse ? i + 1 : i - 1;
      double sum = exclusive ? 0 : x(i, d);
      if (step > 0) {
        sum += w ? (*w)(before, d) * result(before, d) : result(before, d);
        if (exclusive)
          sum += x(before, d);
      }
      result(i, d) = sum;
    }
  return result;
}

namespace {
/// A pair of a decay_gram_adjoint.
struct Pair {
  unsigned row, col, cotangent; // slots
  size_t rowResult, colResult;  // numbers of the results
  Position rowPosition, colPosition;
  bool diagonal;
};
} // namespace

/// Product of channel d of w over tokens [begin, end).
static double interval(const Matrix &w, int64_t d, int64_t begin, int64_t end) {
  double product = 1;
  for (int64_t t = begin; t < end; ++t)
    product *= w(t, d);
  return product;
}

/// Adds one pair's part to the results of a decay_gram_adjoint.
static void addPair(const Pair &pair, const Matrix &x, const Matrix &y,
                    const Matrix &w, const Matrix &h, bool log,
                    std::vector<Matrix> &results) {
  Matrix &dx = results[pair.rowResult], &dy = results[pair.colResult];
  Matrix &dw = results.back();
  auto contributes = [&](int64_t i, int64_t j) {
    return j < i || pair.diagonal;
  };
  for (int64_t d = 0; d < w.cols(); ++d)
    forEachInterval(
        w, d, pair.rowPosition, pair.colPosition,
        [&](int64_t i, int64_t j, double p) {
          if (!contributes(i, j))
            return;
          dx(i, d) += h(i, j) * y(j, d) * p;
          dy(j, d) += h(i, j) * x(i, d) * p;
          double term = h(i, j) * x(i, d) * y(j, d);
          int64_t begin = pair.colPosition == Position::After ? j + 1 : j;
          int64_t end = pair.rowPosition == Position::After ? i + 1 : i;
          for (int64_t t = begin; t < end; ++t)
            dw(t, d) += term * (log ? p
                                    : interval(w, d, begin, t) *
                                          interval(w, d, t + 1, end));
        });
}

/// The same as kernels compute it, for the cotangent of log w: matrix products
/// of rounded, scaled operands for each level of the halving, the diagonal in
/// f32. What a row's or column's factor gets is spread over the tokens that the
/// factor is a product of.
static void addPairEmulated(const Rounding &rounding, const Pair &pair,
                            const Matrix &x, const Matrix &y, const Matrix &w,
                            const Matrix &h, std::vector<Matrix> &results) {
  int64_t C = w.rows();
  Matrix &dx = results[pair.rowResult], &dy = results[pair.colResult];
  Matrix &dw = results.back();
  auto add = [](double &sum, double addend) {
    sum = static_cast<float>(sum + addend);
  };
  for (int64_t distance = 1; distance < C; distance *= 2) {
    Factors factors =
        halvingFactors(w, distance, pair.rowPosition, pair.colPosition);
    Matrix rows = rounding.result(Matrix::times(x, factors.rows));
    Matrix cols = rounding.result(Matrix::times(y, factors.cols));
    Matrix between = Matrix::dense(C, C);
    for (int64_t i = 0; i < C; ++i)
      for (int64_t j = 0; j < i; ++j)
        if (i / distance != j / distance &&
            i / (2 * distance) == j / (2 * distance))
          between(i, j) = h(i, j);
    Matrix toRows = rounding.product(between, cols);
    Matrix toCols = rounding.product(between.transposed(), rows);
    for (int64_t i = 0; i < C; ++i)
      for (int64_t d = 0; d < w.cols(); ++d) {
        bool right = i / distance % 2;
        int64_t start = i / distance * distance;
        if (right) {
          add(dx(i, d), toRows(i, d) * factors.rows(i, d));
          int64_t end = pair.rowPosition == Position::After ? i + 1 : i;
          for (int64_t t = start; t < end; ++t)
            add(dw(t, d), toRows(i, d) * rows(i, d));
        } else {
          add(dy(i, d), toCols(i, d) * factors.cols(i, d));
          int64_t begin = pair.colPosition == Position::After ? i + 1 : i;
          for (int64_t t = begin; t < std::min(start + distance, C); ++t)
            add(dw(t, d), toCols(i, d) * cols(i, d));
        }
      }
  }
  if (!pair.diagonal)
    return;
  bool spans = pair.rowPosition == Position::After &&
               pair.colPosition == Position::Before;
  for (int64_t i = 0; i < C; ++i)
    for (int64_t d = 0; d < w.cols(); ++d) {
      double p = spans ? w(i, d) : 1;
      add(dx(i, d), h(i, i) * y(i, d) * p);
      add(dy(i, d), h(i, i) * x(i, d) * p);
      if (spans)
        add(dw(i, d), h(i, i) * x(i, d) * y(i, d) * p);
    }
}

std::optional<llvm::LogicalResult> Program::compileGradientOps(Operation *op,
                                                               Code &code) {
  return llvm::TypeSwitch<Operation *, Maybe>(op)
      .Case<PrefixSumOp>([&](PrefixSumOp op) -> Maybe {
        unsigned x = slot(op.getInput()), result = slot(op.getResult());
        bool exclusive = op.getExclusive(), reverse = op.getReverse();
        code.push_back([=](Frame &f) {
          f[result] = linearScan(f[x].densified(), nullptr, exclusive, reverse);
        });
        return success();
      })
      .Case<LinearScanOp>([&](LinearScanOp op) -> Maybe {
        unsigned x = slot(op.getInput()), w = slot(op.getFactors());
        unsigned result = slot(op.getResult());
        bool exclusive = op.getExclusive(), reverse = op.getReverse();
        code.push_back([=](Frame &f) {
          Matrix factors = f[w].densified();
          f[result] =
              linearScan(f[x].densified(), &factors, exclusive, reverse);
        });
        return success();
      })
      .Case<TokenSumOp>([&](TokenSumOp op) -> Maybe {
        unsigned x = slot(op.getInput()), result = slot(op.getResult());
        code.push_back([=](Frame &f) {
          Matrix input = f[x].densified();
          Matrix value = Matrix::dense(input.cols(), 1);
          for (int64_t i = 0; i < input.rows(); ++i)
            for (int64_t d = 0; d < input.cols(); ++d)
              value(d) += input(i, d);
          f[result] = std::move(value);
        });
        return success();
      })
      .Case<DiagonalOp>([&](DiagonalOp op) -> Maybe {
        unsigned x = slot(op.getInput()), result = slot(op.getResult());
        code.push_back([=](Frame &f) {
          Matrix input = f[x].densified();
          Matrix value = Matrix::dense(input.rows(), 1);
          for (int64_t i = 0; i < input.rows(); ++i)
            value(i) = input(i, i);
          f[result] = std::move(value);
        });
        return success();
      })
      .Case<DecayGramAdjointOp>([&](DecayGramAdjointOp op) -> Maybe {
        size_t rows = op.getRows().size(), cols = op.getCols().size();
        std::vector<Pair> pairs;
        for (unsigned a = 0; a < rows; ++a)
          for (unsigned b = 0; b < cols; ++b)
            if (mlir::Value cotangent = op.getCotangent(a, b))
              pairs.push_back({slot(op.getRows()[a]), slot(op.getCols()[b]),
                               slot(cotangent), a, rows + b,
                               op.getRowPosition(a), op.getColPosition(b),
                               op.getMask(a, b) == "diagonal"});
        unsigned w = slot(op.getDecay());
        std::vector<unsigned> results;
        for (mlir::Value gradient : op.getGradients())
          results.push_back(slot(gradient));
        bool log = op.getLog();
        code.push_back([=, rounding = rounding](Frame &f) {
          Matrix decay = f[w].densified();
          std::vector<Matrix> values(results.size(),
                                     Matrix::dense(decay.rows(), decay.cols()));
          for (const Pair &pair : pairs) {
            Matrix x = f[pair.row].densified(), y = f[pair.col].densified();
            Matrix h = f[pair.cotangent].densified();
            if (log && !rounding.isExact())
              addPairEmulated(rounding, pair, x, y, decay, h, values);
            else
              addPair(pair, x, y, decay, h, log, values);
          }
          for (size_t r = 0; r < results.size(); ++r)
            f[results[r]] = std::move(values[r]);
        });
        return success();
      })
      .Default([](Operation *) -> Maybe { return std::nullopt; });
}
