//===- Program.h - A body made ready to be run often ------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A body runs once a token or once a chunk, so its operations are looked up
// once and become closures on a frame with one slot an SSA value.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_LIB_REFERENCE_PROGRAM_H
#define DELTA_LIB_REFERENCE_PROGRAM_H

#include "Matrix.h"
#include "Rounding.h"
#include "mlir/IR/Operation.h"
#include "mlir/IR/Value.h"
#include "llvm/ADT/DenseMap.h"
#include "llvm/ADT/StringMap.h"

#include <functional>
#include <vector>

namespace delta::reference {

/// The values of one sequence at one time, by slot. Indices are 1 x 1 too.
using Frame = std::vector<Matrix>;
using Code = std::vector<std::function<void(Frame &)>>;

inline void run(const Code &code, Frame &frame) {
  for (const auto &operation : code)
    operation(frame);
}

class Program {
public:
  explicit Program(const llvm::StringMap<int64_t> &dims,
                   Rounding rounding = Rounding())
      : dims(dims), rounding(rounding) {}

  /// Appends the operations of `block` but its terminator to `code`. Fails with
  /// a diagnostic at the first operation that is not known.
  llvm::LogicalResult compile(mlir::Block &block, Code &code);
  /// Appends one operation.
  llvm::LogicalResult compile(mlir::Operation *op, Code &code);

  /// The value's slot, made on first use.
  unsigned slot(mlir::Value value) {
    auto [it, inserted] = slots.try_emplace(value, count);
    count += inserted;
    return it->second;
  }
  /// Gives the value another slot from now on: a new one, or `slot`. A body
  /// that is compiled several times keeps all its values apart in this way.
  unsigned renew(mlir::Value value) { return slots[value] = count++; }
  void assign(mlir::Value value, unsigned slot) { slots[value] = slot; }
  unsigned numSlots() const { return count; }

  /// Size of a dim by name; fails with a diagnostic at `op`.
  llvm::FailureOr<int64_t> getDim(mlir::Operation *op,
                                  llvm::StringRef name) const;
  /// Sizes of a type's axes: static, or named by #delta.dims.
  llvm::FailureOr<llvm::SmallVector<int64_t, 2>>
  getShape(mlir::Operation *op, mlir::Type type) const;

private:
  /// Each tries to compile one operation: nothing when it does not know it.
  using Maybe = std::optional<llvm::LogicalResult>;
  Maybe compileElementwise(mlir::Operation *op, Code &code);
  Maybe compileShared(mlir::Operation *op, Code &code);
  Maybe compileStep(mlir::Operation *op, Code &code);
  Maybe compileEvents(mlir::Operation *op, Code &code);
  Maybe compileChunk(mlir::Operation *op, Code &code);
  Maybe compileGradientOps(mlir::Operation *op, Code &code);

  /// Is it an input that has the type of matrix products' operands?
  bool isNarrow(mlir::Value value) const;
  /// The value as operand of a matrix product: it, or, when it is an input
  /// scaled by a product of decays, that product in the operands' type.
  std::function<Matrix(Frame &)> operandOf(mlir::Value value);

  const llvm::StringMap<int64_t> &dims;
  const Rounding rounding;
  llvm::DenseMap<mlir::Value, unsigned> slots;
  unsigned count = 0;
};

} // namespace delta::reference

#endif // DELTA_LIB_REFERENCE_PROGRAM_H
