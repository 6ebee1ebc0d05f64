//===- Rounding.cpp - Evaluation in a target's precision ------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Rounding to nearest even by APFloat, which knows every type's range.
//
//===----------------------------------------------------------------------===//

#include "Rounding.h"
#include "llvm/ADT/APFloat.h"
#include "llvm/ADT/SmallVector.h"

#include <cassert>

using namespace delta::reference;
using llvm::APFloat;

static double roundTo(double value, const llvm::fltSemantics &type) {
  APFloat number(value);
  bool losesInfo;
  number.convert(type, APFloat::rmNearestTiesToEven, &losesInfo);
  number.convert(APFloat::IEEEdouble(), APFloat::rmNearestTiesToEven,
                 &losesInfo);
  return number.convertToDouble();
}

static double toF32(double value) { return static_cast<float>(value); }

static const llvm::fltSemantics &getSemantics(Operands operands) {
  switch (operands) {
  case Operands::Bf16:
  case Operands::Bf16x3:
    return APFloat::BFloat();
  case Operands::F16:
    return APFloat::IEEEhalf();
  case Operands::Tf32:
    return APFloat::FloatTF32();
  case Operands::F32:
    return APFloat::IEEEsingle();
  case Operands::Exact:
    break;
  }
  return APFloat::IEEEdouble();
}

Matrix Rounding::result(const Matrix &x) const {
  return isExact() ? x : x.map(toF32);
}

Matrix Rounding::operand(const Matrix &x) const {
  const llvm::fltSemantics &type = getSemantics(operands);
  return x.map([&](double value) { return roundTo(value, type); });
}

/// sums += x y in f32, dense.
static void accumulate(Matrix &sums, const Matrix &x, const Matrix &y) {
  assert(x.cols() == y.rows() && "the contracted axes agree");
  for (int64_t i = 0; i < x.rows(); ++i)
    for (int64_t k = 0; k < x.cols(); ++k)
      for (int64_t j = 0; j < y.cols(); ++j)
        sums(i, j) = toF32(sums(i, j) + x(i, k) * y(k, j));
}

Matrix Rounding::product(const Matrix &x, const Matrix &y,
                         const Matrix *acc) const {
  if (isExact()) {
    Matrix value = Matrix::product(x, y);
    return acc ? Matrix::add(*acc, value, 1) : value;
  }
  Matrix sums = acc ? acc->densified() : Matrix::dense(x.rows(), y.cols());
  Matrix left = operand(x), right = operand(y);
  if (operands == Operands::Bf16x3) {
    // The products of what the first rounding dropped, but that of both rests.
    accumulate(sums, operand(Matrix::add(x, left, -1)), right);
    accumulate(sums, left, operand(Matrix::add(y, right, -1)));
  }
  accumulate(sums, left, right);
  return sums;
}
