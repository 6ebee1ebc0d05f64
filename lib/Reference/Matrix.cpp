//===- Matrix.cpp - The reference's values --------------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Arithmetic on matrices held as sums of terms. A dense term swallows the
// others, so only products of transitions stay symbolic.
//
//===----------------------------------------------------------------------===//

#include "Matrix.h"

using namespace delta::reference;

Matrix Matrix::dense(int64_t rows, int64_t cols, double value) {
  Matrix m;
  m.numRows = rows;
  m.numCols = cols;
  m.elements.assign(rows * cols, value);
  return m;
}

Matrix Matrix::uniform(int64_t rows, int64_t cols, double value) {
  Matrix m;
  m.numRows = rows;
  m.numCols = cols;
  m.everywhere = value;
  return m;
}

Matrix Matrix::diagonal(const Matrix &x) {
  Matrix m;
  m.numRows = m.numCols = x.numRows;
  m.diag = x.densified().elements;
  return m;
}

Matrix Matrix::outer(const Matrix &x, const Matrix &y) {
  Matrix m;
  m.numRows = x.numRows;
  m.numCols = y.numRows;
  m.outers.push_back({x.densified().elements, y.densified().elements});
  return m;
}

void Matrix::densify() {
  if (elements.empty())
    elements.assign(size(), everywhere);
  else if (everywhere != 0)
    for (double &element : elements)
      element += everywhere;
  everywhere = 0;
  if (!diag.empty())
    for (int64_t i = 0; i < numRows; ++i)
      (*this)(i, i) += diag[i];
  diag.clear();
  for (const Outer &term : outers)
    for (int64_t i = 0; i < numRows; ++i)
      for (int64_t j = 0; j < numCols; ++j)
        (*this)(i, j) += term.x[i] * term.y[j];
  outers.clear();
}

Matrix Matrix::densified() const {
  Matrix m = *this;
  m.densify();
  return m;
}

Matrix Matrix::transposed() const {
  Matrix m;
  m.numRows = numCols;
  m.numCols = numRows;
  m.everywhere = everywhere;
  m.diag = diag;
  for (const Outer &term : outers)
    m.outers.push_back({term.y, term.x});
  m.elements.resize(elements.size());
  if (!elements.empty())
    for (int64_t i = 0; i < numRows; ++i)
      for (int64_t j = 0; j < numCols; ++j)
        m(j, i) = (*this)(i, j);
  return m;
}

Matrix Matrix::map(llvm::function_ref<double(double)> f, bool linear) const {
  Matrix m = linear ? *this : densified();
  for (double &element : m.elements)
    element = f(element);
  if (!linear)
    return m;
  // A term that is absent stays absent, even where f(0) would be a NaN.
  if (m.everywhere != 0 || isUniform())
    m.everywhere = f(m.everywhere);
  for (double &element : m.diag)
    element = f(element);
  for (Outer &term : m.outers)
    for (double &element : term.x)
      element = f(element);
  return m;
}

Matrix Matrix::zip(const Matrix &x, const Matrix &y,
                   llvm::function_ref<double(double, double)> f) {
  Matrix m = x.densified(), rhs = y.densified();
  for (int64_t i = 0, e = m.size(); i < e; ++i)
    m.elements[i] = f(m.elements[i], rhs.elements[i]);
  return m;
}

Matrix Matrix::add(const Matrix &x, const Matrix &y, double sign) {
  Matrix m = x;
  Matrix rhs = y.map([&](double value) { return sign * value; }, true);
  m.everywhere += rhs.everywhere;
  if (m.diag.empty())
    m.diag = rhs.diag;
  else
    for (size_t i = 0; i < rhs.diag.size(); ++i)
      m.diag[i] += rhs.diag[i];
  m.outers.insert(m.outers.end(), rhs.outers.begin(), rhs.outers.end());
  if (m.elements.empty())
    m.elements = rhs.elements;
  else
    for (size_t i = 0; i < rhs.elements.size(); ++i)
      m.elements[i] += rhs.elements[i];
  if (m.isDense())
    m.densify();
  return m;
}

Matrix Matrix::times(const Matrix &x, const Matrix &y) {
  if (y.isUniform())
    return x.map([&](double value) { return value * y.everywhere; }, true);
  if (x.isUniform())
    return times(y, x);
  return zip(x, y, [](double a, double b) { return a * b; });
}

Matrix Matrix::over(const Matrix &x, const Matrix &y) {
  if (y.isUniform())
    return x.map([&](double value) { return value / y.everywhere; }, true);
  return zip(x, y, [](double a, double b) { return a / b; });
}

/// c += x y for dense arrays.
static void accumulate(Matrix &c, const Matrix &x, const Matrix &y) {
  for (int64_t i = 0; i < x.rows(); ++i)
    for (int64_t k = 0; k < x.cols(); ++k) {
      double factor = x(i, k);
      for (int64_t j = 0; j < y.cols(); ++j)
        c(i, j) += factor * y(k, j);
    }
}

Matrix Matrix::product(const Matrix &x, const Matrix &y) {
  if (!x.isLowRank()) {
    Matrix m = dense(x.numRows, y.numCols);
    accumulate(m, x.densified(), y.densified());
    return m;
  }
  // (diag(d) + sum x y^T) * right: row scaling, and x (right^T y)^T.
  Matrix right = y.isLowRank() ? y : y.densified();
  Matrix m;
  m.numRows = x.numRows;
  m.numCols = y.numCols;
  if (!x.diag.empty()) {
    m = right;
    for (int64_t i = 0; i < m.numRows; ++i) {
      double d = x.diag[i];
      if (!m.diag.empty())
        m.diag[i] *= d;
      for (Outer &term : m.outers)
        term.x[i] *= d;
      if (!m.elements.empty())
        for (int64_t j = 0; j < m.numCols; ++j)
          m(i, j) *= d;
    }
  } else if (right.isDense()) {
    m.elements.assign(m.size(), 0);
  }
  for (const Outer &term : x.outers) {
    std::vector<double> row(m.numCols, 0); // right^T y
    if (!right.diag.empty())
      for (int64_t j = 0; j < m.numCols; ++j)
        row[j] += right.diag[j] * term.y[j];
    for (const Outer &other : right.outers) {
      double dot = 0;
      for (int64_t k = 0; k < right.numRows; ++k)
        dot += term.y[k] * other.x[k];
      for (int64_t j = 0; j < m.numCols; ++j)
        row[j] += dot * other.y[j];
    }
    if (!right.elements.empty())
      for (int64_t k = 0; k < right.numRows; ++k)
        for (int64_t j = 0; j < m.numCols; ++j)
          row[j] += term.y[k] * right(k, j);
    m.outers.push_back({term.x, std::move(row)});
  }
  if (m.isDense())
    m.densify();
  return m;
}
