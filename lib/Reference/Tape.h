//===- Tape.h - A step made ready to be run in reverse ----------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A step is compiled into a straight line of operations, micro-steps unrolled,
// so that every value has a slot of its own. Each operation has a second
// closure, which adds what the result's cotangent means for the operands.
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_LIB_REFERENCE_TAPE_H
#define DELTA_LIB_REFERENCE_TAPE_H

#include "Adjoint.h"
#include "Program.h"

#include <optional>

namespace delta::reference {

/// The cotangents of one token's values, by slot.
using Adjoints = std::vector<Adjoint>;

class Tape {
public:
  explicit Tape(const llvm::StringMap<int64_t> &dims) : program(dims) {}

  /// Slots of block arguments and results are asked of it.
  Program &getProgram() { return program; }

  /// Compiles the body of a recurrence. Gradients go to all block arguments.
  /// Fails with a diagnostic at an operation that has no rule.
  llvm::LogicalResult compile(mlir::Block &block);

  /// Runs the step on a frame that holds the arguments.
  void run(Frame &frame) const { reference::run(forward, frame); }
  /// Runs it in reverse: from the cotangents of the results to those of the
  /// arguments. The frame is that of `run`.
  void runBack(const Frame &frame, Adjoints &adjoints) const;

private:
  using Rule = std::function<void(const Frame &, const Adjoint &, Adjoints &)>;
  struct Reverse {
    unsigned result;
    Rule rule; ///< given the result's cotangent, which is not zero
  };
  /// Each tries to find the rule of one operation: nothing when it does not
  /// know it, an empty one when no operand gets anything.
  using Maybe = std::optional<Rule>;
  Maybe getElementwiseRule(mlir::Operation *op);
  Maybe getLinearRule(mlir::Operation *op);
  Maybe getEventRule(mlir::Operation *op);

  llvm::LogicalResult compileOne(mlir::Operation *op);
  llvm::LogicalResult unroll(mlir::Operation *op);

  /// Where a cotangent of an operand goes.
  struct Operand {
    unsigned slot;
    bool active; ///< whether it depends on an argument
  };
  Operand operand(mlir::Value value) {
    unsigned slot = program.slot(value);
    return {slot, slot < active.size() && active[slot]};
  }
  void setActive(unsigned slot) {
    if (slot >= active.size())
      active.resize(slot + 1);
    active[slot] = true;
  }

  Program program;
  Code forward;
  std::vector<Reverse> reverse; ///< in the order of the operations
  std::vector<bool> active;
};

} // namespace delta::reference

#endif // DELTA_LIB_REFERENCE_TAPE_H
