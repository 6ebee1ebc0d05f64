//===- Arguments.cpp - Which slices of arrays a body reads ----------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Binds arguments by the names and axes of the signature, and walks the
// independent sequences on threads.
//
//===----------------------------------------------------------------------===//

#include "Arguments.h"

#include <algorithm>
#include <atomic>
#include <thread>

using namespace delta::reference;
using namespace mlir::delta;
using llvm::failure;
using llvm::FailureOr;
using llvm::LogicalResult;
using llvm::success;

FailureOr<int64_t> delta::reference::getSize(mlir::ModuleOp module,
                                             const Program &program,
                                             ArgAttr arg) {
  int64_t size = 1;
  for (mlir::StringAttr axis : arg.getAxes()) {
    FailureOr<int64_t> dim = program.getDim(module, axis);
    if (failed(dim))
      return failure();
    size *= *dim;
  }
  return size;
}

FailureOr<Binding> delta::reference::bind(mlir::ModuleOp module,
                                          const Program &program,
                                          const Problem &problem, ArgAttr arg) {
  Binding binding;
  binding.kind = arg.getKind();
  llvm::StringRef name = binding.name = arg.getName();
  if (arg.getKind() == ArgKind::Attr) {
    auto value = problem.attrs.find(name);
    if (value == problem.attrs.end())
      return mlir::emitError(module.getLoc())
             << "the reference needs a value of attr '" << name << "'";
    binding.number = value->second;
    return binding;
  }
  FailureOr<int64_t> size = getSize(module, program, arg);
  if (failed(size))
    return failure();
  binding.size = *size;
  int64_t count = problem.H * binding.size;
  if (arg.getFamily()) {
    FailureOr<int64_t> family = program.getDim(module, arg.getFamily());
    if (failed(family))
      return failure();
    binding.family = *family;
    binding.isFamily = true;
    count *= *family;
  }
  if (arg.getKind() == ArgKind::In)
    count *= problem.B * problem.T;
  auto array = problem.arrays.find(name);
  if (array == problem.arrays.end())
    return mlir::emitError(module.getLoc())
           << "the reference needs the array '" << name << "'";
  if (static_cast<int64_t>(array->second.size()) != count)
    return mlir::emitError(module.getLoc())
           << "expects '" << name << "' to have " << count
           << " elements, but got " << array->second.size();
  binding.data = array->second.data();
  return binding;
}

LogicalResult delta::reference::bindTokens(RecurrenceOp recurrence,
                                           Program &program,
                                           const Problem &problem,
                                           std::vector<Binding> &arguments) {
  auto module = mlir::cast<mlir::ModuleOp>(recurrence->getParentOp());
  mlir::Block *block = recurrence.getBodyBlock();
  unsigned index = 0;
  for (ArgAttr arg : recurrence.getSignature().getAllArgs()) {
    if (arg.getKind() == ArgKind::State || arg.getKind() == ArgKind::Out)
      continue;
    FailureOr<Binding> binding = bind(module, program, problem, arg);
    if (failed(binding))
      return failure();
    binding->slot = program.slot(block->getArgument(index++));
    arguments.push_back(*binding);
  }
  return success();
}

int64_t delta::reference::offsetOf(const Binding &binding,
                                   const Problem &problem, int64_t b, int64_t t,
                                   int64_t h, int64_t j) {
  if (binding.kind == ArgKind::Param)
    return h * binding.size;
  return (((b * problem.T + t) * binding.family + j) * problem.H + h) *
         binding.size;
}

Matrix delta::reference::loadToken(const Binding &binding,
                                   const Problem &problem, int64_t b, int64_t t,
                                   int64_t h) {
  if (binding.kind == ArgKind::Attr)
    return Matrix::dense(1, 1, binding.number);
  int64_t rows = binding.isFamily ? binding.family : 1;
  Matrix value = binding.isFamily ? Matrix::dense(rows, binding.size)
                                  : Matrix::dense(binding.size, 1);
  for (int64_t j = 0; j < rows; ++j) {
    const double *from = binding.data + offsetOf(binding, problem, b, t, h, j);
    std::copy(from, from + binding.size, value.data() + j * binding.size);
  }
  return value;
}

LogicalResult delta::reference::checkDims(mlir::ModuleOp module,
                                          const Problem &problem) {
  SignatureAttr signature = getSignature(module);
  for (mlir::StringAttr name : signature.getDimNames()) {
    std::optional<int64_t> known = signature.getDim(name);
    auto given = problem.dims.find(name);
    if (known && given != problem.dims.end() && *known != given->second)
      return mlir::emitError(module.getLoc())
             << "expects dim '" << name.getValue() << "' to be " << *known
             << " as the module says, but got " << given->second;
  }
  return success();
}

void delta::reference::forEachSequence(int64_t count, unsigned threads,
                                       llvm::function_ref<void(int64_t)> work) {
  std::atomic<int64_t> next{0};
  auto loop = [&] {
    for (int64_t i = next++; i < count; i = next++)
      work(i);
  };
  int64_t wanted = threads ? threads : std::thread::hardware_concurrency();
  std::vector<std::thread> workers;
  for (int64_t i = 1; i < std::min(wanted, count); ++i)
    workers.emplace_back(loop);
  loop();
  for (std::thread &worker : workers)
    worker.join();
}
