//===- Adjoint.cpp - The cotangent of a value -----------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Sums of a dense matrix and of products that are not multiplied out.
//
//===----------------------------------------------------------------------===//

#include "Adjoint.h"

using namespace delta::reference;

/// The product as a dense matrix.
static Matrix multiply(const Matrix &x, const Matrix &y) {
  return Matrix::product(x, y).densified();
}

void Adjoint::add(const Matrix &x) {
  sum = sum.size() ? Matrix::add(sum, x.densified(), 1) : x.densified();
}

void Adjoint::add(const Adjoint &other, double factor) {
  auto scale = [&](double value) { return passBack(value, factor); };
  if (other.sum.size())
    add(factor == 1 ? other.sum : other.sum.map(scale));
  for (const auto &[left, right] : other.products)
    addProduct(factor == 1 ? left : left.map(scale), right);
}

void Adjoint::addTransposed(const Adjoint &other) {
  if (other.sum.size())
    add(other.sum.transposed());
  for (const auto &[left, right] : other.products)
    addProduct(right, left);
}

void Adjoint::addProduct(const Matrix &left, const Matrix &right) {
  products.emplace_back(left.densified(), right.densified());
}

Matrix Adjoint::dense() const {
  Matrix result = sum;
  for (const auto &[left, right] : products) {
    Matrix product = multiply(left, right.transposed());
    result = result.size() ? Matrix::add(result, product, 1) : product;
  }
  return result;
}

Matrix Adjoint::times(const Matrix &x, bool transposed) const {
  Adjoint result;
  if (sum.size())
    result.add(multiply(transposed ? sum.transposed() : sum, x));
  for (const auto &[left, right] : products)
    result.add(transposed ? multiply(right, multiply(left.transposed(), x))
                          : multiply(left, multiply(right.transposed(), x)));
  return result.sum;
}

Matrix Adjoint::diagonal() const {
  int64_t size = sum.size() ? sum.rows() : products.front().first.rows();
  Matrix result = Matrix::dense(size, 1);
  for (int64_t i = 0; i < size; ++i) {
    if (sum.size())
      result(i) += sum(i, i);
    for (const auto &[left, right] : products)
      for (int64_t k = 0; k < left.cols(); ++k)
        result(i) += left(i, k) * right(i, k);
  }
  return result;
}

double Adjoint::total() const {
  double result = 0;
  for (int64_t i = 0; i < sum.size(); ++i)
    result += sum.data()[i];
  for (const auto &[left, right] : products)
    for (int64_t k = 0; k < left.cols(); ++k) {
      double x = 0, y = 0;
      for (int64_t i = 0; i < left.rows(); ++i)
        x += left(i, k);
      for (int64_t j = 0; j < right.rows(); ++j)
        y += right(j, k);
      result += x * y;
    }
  return result;
}

double Adjoint::dot(const Matrix &x) const {
  double result = 0;
  if (sum.size()) {
    Matrix y = x.densified();
    for (int64_t i = 0; i < sum.size(); ++i)
      result += passBack(sum.data()[i], y.data()[i]);
  }
  // The trace of L^T x R.
  for (const auto &[left, right] : products) {
    Matrix y = multiply(x, right);
    for (int64_t i = 0; i < y.size(); ++i)
      result += passBack(left.data()[i], y.data()[i]);
  }
  return result;
}

Adjoint Adjoint::pulledLeft(const Matrix &lhs) const {
  Adjoint result;
  Matrix transposed = lhs.transposed();
  if (sum.size())
    result.add(multiply(transposed, sum));
  for (const auto &[left, right] : products)
    result.addProduct(multiply(transposed, left), right);
  return result;
}

Adjoint Adjoint::pulledRight(const Matrix &rhs) const {
  Adjoint result;
  if (sum.size() && rhs.isLowRank())
    result.add(multiply(sum, rhs.transposed()));
  else if (sum.size())
    result.addProduct(sum, rhs);
  for (const auto &[left, right] : products)
    result.addProduct(left, multiply(rhs, right));
  return result;
}

Adjoint Adjoint::withScaledRows(const Matrix &scale) const {
  auto scaled = [&](Matrix x) {
    for (int64_t i = 0; i < x.rows(); ++i)
      for (int64_t j = 0; j < x.cols(); ++j)
        x(i, j) = passBack(x(i, j), scale(scale.rows() == 1 ? 0 : i));
    return x;
  };
  Adjoint result;
  if (sum.size())
    result.sum = scaled(sum);
  for (const auto &[left, right] : products)
    result.addProduct(scaled(left), right);
  return result;
}
