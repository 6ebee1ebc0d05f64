//===- Program.cpp - A body made ready to be run often --------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The operations that every stage may have: elementwise ones by name, constants
// and those of the dialect that change shapes.
//
//===----------------------------------------------------------------------===//

#include "Program.h"
#include "delta/Dialect/Delta/IR/Delta.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/Matchers.h"
#include "llvm/ADT/StringSwitch.h"
#include "llvm/ADT/TypeSwitch.h"

#include <cmath>

using namespace delta::reference;
using namespace mlir::delta;
using llvm::failure;
using llvm::FailureOr;
using llvm::LogicalResult;
using llvm::success;
using mlir::Operation;

//===----------------------------------------------------------------------===//
// Elementwise operations
//===----------------------------------------------------------------------===//

using Unary = double (*)(double);
using Binary = double (*)(double, double);

static double sigmoid(double x) {
  // Both forms are right everywhere; each is accurate on its side.
  return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x));
}

static double softplus(double x) {
  return std::fmax(x, 0) + std::log1p(std::exp(-std::fabs(x)));
}

/// NaN wins, as in arith.maximumf.
static double maximum(double x, double y) {
  return std::isnan(x) || std::isnan(y) ? NAN : x > y ? x : y;
}
static double minimum(double x, double y) {
  return std::isnan(x) || std::isnan(y) ? NAN : x < y ? x : y;
}

static Unary lookupUnary(llvm::StringRef name) {
  return llvm::StringSwitch<Unary>(name)
      .Case("delta.heaviside",
            [](double x) { return x > 0   ? 1.0
                                  : x < 0 ? 0.0
                                          : 0.5; })
      .Case("math.exp", [](double x) { return std::exp(x); })
      .Case("math.exp2", [](double x) { return std::exp2(x); })
      .Case("math.expm1", [](double x) { return std::expm1(x); })
      .Case("math.log", [](double x) { return std::log(x); })
      .Case("math.log2", [](double x) { return std::log2(x); })
      .Case("math.log1p", [](double x) { return std::log1p(x); })
      .Case("math.sqrt", [](double x) { return std::sqrt(x); })
      .Case("math.rsqrt", [](double x) { return 1 / std::sqrt(x); })
      .Case("math.absf", [](double x) { return std::fabs(x); })
      .Case("math.tanh", [](double x) { return std::tanh(x); })
      .Case("delta.sigmoid", sigmoid)
      .Case("delta.softplus", softplus)
      .Default(nullptr);
}

static Binary lookupBinary(llvm::StringRef name) {
  return llvm::StringSwitch<Binary>(name)
      .Case("arith.maximumf", maximum)
      .Case("arith.minimumf", minimum)
      .Case("arith.maxnumf", [](double x, double y) { return std::fmax(x, y); })
      .Case("arith.minnumf", [](double x, double y) { return std::fmin(x, y); })
      .Case("math.powf", [](double x, double y) { return std::pow(x, y); })
      .Default(nullptr);
}

std::optional<LogicalResult> Program::compileElementwise(Operation *op,
                                                         Code &code) {
  llvm::StringRef name = op->getName().getStringRef();
  if (op->getNumResults() != 1)
    return std::nullopt;
  unsigned result = slot(op->getResult(0));
  if (op->getNumOperands() == 1) {
    unsigned x = slot(op->getOperand(0));
    if (name == "arith.negf") {
      code.push_back([=](Frame &f) {
        f[result] = f[x].map([](double value) { return -value; }, true);
      });
    } else if (Unary function = lookupUnary(name)) {
      code.push_back([=](Frame &f) { f[result] = f[x].map(function); });
    } else if (name == "arith.truncf" || name == "arith.extf") {
      code.push_back([=](Frame &f) { f[result] = f[x]; });
    } else {
      return std::nullopt;
    }
    return success();
  }
  if (op->getNumOperands() != 2)
    return std::nullopt;
  unsigned x = slot(op->getOperand(0)), y = slot(op->getOperand(1));
  if (name == "arith.addf" || name == "arith.subf") {
    double sign = name == "arith.addf" ? 1 : -1;
    code.push_back(
        [=](Frame &f) { f[result] = Matrix::add(f[x], f[y], sign); });
  } else if (name == "arith.mulf") {
    code.push_back([=](Frame &f) { f[result] = Matrix::times(f[x], f[y]); });
  } else if (name == "arith.divf") {
    code.push_back([=](Frame &f) { f[result] = Matrix::over(f[x], f[y]); });
  } else if (Binary function = lookupBinary(name)) {
    code.push_back(
        [=](Frame &f) { f[result] = Matrix::zip(f[x], f[y], function); });
  } else {
    return std::nullopt;
  }
  return success();
}

//===----------------------------------------------------------------------===//
// Shapes
//===----------------------------------------------------------------------===//

FailureOr<int64_t> Program::getDim(Operation *op, llvm::StringRef name) const {
  auto it = dims.find(name);
  if (it != dims.end())
    return it->second;
  return op->emitError() << "the reference needs the size of dim '" << name
                         << "'";
}

FailureOr<llvm::SmallVector<int64_t, 2>>
Program::getShape(Operation *op, mlir::Type type) const {
  llvm::SmallVector<int64_t, 2> shape;
  auto tensor = mlir::dyn_cast<mlir::RankedTensorType>(type);
  if (!tensor)
    return shape;
  llvm::ArrayRef<mlir::StringAttr> names = getDimNames(type);
  for (int64_t axis = 0; axis < tensor.getRank(); ++axis) {
    if (!tensor.isDynamicDim(axis)) {
      shape.push_back(tensor.getDimSize(axis));
      continue;
    }
    if (axis >= static_cast<int64_t>(names.size()))
      return op->emitError()
             << "the reference needs static or named axes, but got " << type;
    FailureOr<int64_t> size = getDim(op, names[axis]);
    if (failed(size))
      return failure();
    shape.push_back(*size);
  }
  return shape;
}

/// A constant: a number, an index or a dense tensor of rank 2 at most.
static std::optional<Matrix> getConstant(mlir::Attribute attr) {
  if (auto number = mlir::dyn_cast<mlir::FloatAttr>(attr))
    return Matrix::dense(1, 1, number.getValueAsDouble());
  if (auto number = mlir::dyn_cast<mlir::IntegerAttr>(attr))
    return Matrix::dense(1, 1, static_cast<double>(number.getInt()));
  auto elements = mlir::dyn_cast<mlir::DenseFPElementsAttr>(attr);
  if (!elements || elements.getType().getRank() > 2)
    return std::nullopt;
  llvm::ArrayRef<int64_t> shape = elements.getType().getShape();
  Matrix m = Matrix::dense(shape.empty() ? 1 : shape[0],
                           shape.size() < 2 ? 1 : shape[1]);
  int64_t index = 0;
  for (llvm::APFloat value : elements.getValues<llvm::APFloat>()) {
    bool losesInfo;
    value.convert(llvm::APFloat::IEEEdouble(),
                  llvm::APFloat::rmNearestTiesToEven, &losesInfo);
    m.data()[index++] = value.convertToDouble();
  }
  return m;
}

std::optional<LogicalResult> Program::compileShared(Operation *op, Code &code) {
  return llvm::TypeSwitch<Operation *, Maybe>(op)
      .Case<mlir::arith::ConstantOp>([&](mlir::arith::ConstantOp op) -> Maybe {
        std::optional<Matrix> value = getConstant(op.getValue());
        if (!value)
          return std::nullopt;
        unsigned result = slot(op.getResult());
        code.push_back([=](Frame &f) { f[result] = *value; });
        return success();
      })
      .Case<DimOp>([&](DimOp op) -> Maybe {
        FailureOr<int64_t> size = getDim(op, op.getName());
        if (failed(size))
          return failure();
        unsigned result = slot(op.getResult());
        Matrix value = Matrix::dense(1, 1, static_cast<double>(*size));
        code.push_back([=](Frame &f) { f[result] = value; });
        return success();
      })
      .Case<MicroOp>([&](MicroOp op) -> Maybe {
        auto shape = getShape(op, op.getFamily().getType());
        if (failed(shape))
          return failure();
        llvm::APInt literal;
        if (mlir::matchPattern(op.getIndex(), mlir::m_ConstantInt(&literal)) &&
            literal.uge((*shape)[0]))
          return op.emitError() << "micro-step " << literal.getSExtValue()
                                << " is beyond the family's " << (*shape)[0];
        unsigned family = slot(op.getFamily()), index = slot(op.getIndex());
        unsigned result = slot(op.getResult());
        code.push_back([=](Frame &f) {
          // A family is n x D, its value a column.
          int64_t j = static_cast<int64_t>(f[index](0));
          Matrix value = Matrix::dense(f[family].cols(), 1);
          for (int64_t d = 0; d < value.rows(); ++d)
            value(d) = f[family](j, d);
          f[result] = std::move(value);
        });
        return success();
      })
      .Case<BroadcastOp>([&](BroadcastOp op) -> Maybe {
        auto shape = getShape(op, op.getResult().getType());
        if (failed(shape))
          return failure();
        int64_t rows = shape->empty() ? 1 : (*shape)[0];
        int64_t cols = shape->size() < 2 ? 1 : (*shape)[1];
        unsigned x = slot(op.getInput()), result = slot(op.getResult());
        if (!mlir::isa<mlir::RankedTensorType>(op.getInput().getType())) {
          code.push_back([=](Frame &f) {
            f[result] = Matrix::uniform(rows, cols, f[x].densified()(0));
          });
          return success();
        }
        bool alongRows = op.getDim() == 0;
        code.push_back([=](Frame &f) {
          Matrix value = Matrix::dense(rows, cols), input = f[x].densified();
          for (int64_t i = 0; i < rows; ++i)
            for (int64_t j = 0; j < cols; ++j)
              value(i, j) = input(alongRows ? i : j);
          f[result] = std::move(value);
        });
        return success();
      })
      .Case<SumOp>([&](SumOp op) -> Maybe {
        unsigned x = slot(op.getInput()), result = slot(op.getResult());
        bool isVector =
            mlir::cast<mlir::RankedTensorType>(op.getInput().getType())
                .getRank() == 1;
        code.push_back([=](Frame &f) {
          Matrix input = f[x].densified();
          Matrix value = Matrix::dense(isVector ? 1 : input.rows(), 1);
          for (int64_t i = 0; i < input.rows(); ++i)
            for (int64_t j = 0; j < input.cols(); ++j)
              value(isVector ? 0 : i) += input(i, j);
          f[result] = std::move(value);
        });
        return success();
      })
      .Default([](Operation *) -> Maybe { return std::nullopt; });
}

//===----------------------------------------------------------------------===//
// Blocks
//===----------------------------------------------------------------------===//

LogicalResult Program::compile(Operation *op, Code &code) {
  for (auto compileOne : {&Program::compileElementwise, &Program::compileShared,
                          &Program::compileStep, &Program::compileEvents,
                          &Program::compileChunk, &Program::compileGradientOps})
    if (Maybe done = (this->*compileOne)(op, code)) {
      if (failed(*done) || rounding.isExact())
        return *done;
      for (mlir::Value value : op->getResults())
        code.push_back([rounding = rounding, result = slot(value)](Frame &f) {
          f[result] = rounding.result(f[result]);
        });
      return success();
    }
  return op->emitOpError("is not known to the reference evaluator");
}

LogicalResult Program::compile(mlir::Block &block, Code &code) {
  for (mlir::BlockArgument argument : block.getArguments())
    slot(argument);
  for (Operation &op : block.without_terminator())
    if (failed(compile(&op, code)))
      return failure();
  return success();
}
