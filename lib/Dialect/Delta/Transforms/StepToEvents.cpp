//===- StepToEvents.cpp - The step as a chain of events -------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Turns a recurrence of stage `step` into stage `events`. Matrices are carried
// symbolically as sum_b w_b S_b + diag(d) + sum_i x_i y_i^T (MatrixForm); at
// the cut points of the step's dataflow such a form becomes events.
//
//   %D = delta.diag %w                        %z  = delta.read %S, %a
//   %ba = delta.outer %b, %a                  %S1 = delta.decay %S, %w
//   %M = arith.addf %D, %ba          ==>      %S2 = delta.write %S1, %b, %z
//   %S1 = delta.matmul %M, %S                 %S3 = delta.write %S2, %k, %v
//   %kv = delta.outer %k, %v
//   %S2 = arith.addf %S1, %kv
//
// Test: test/Dialect/Delta/Transforms/step-to-events.mlir
//
//===----------------------------------------------------------------------===//

#include "EventBuilder.h"
#include "delta/Analysis/LinearForm.h"
#include "delta/Dialect/Delta/Transforms/Passes.h"
#include "delta/Dialect/Delta/Transforms/Transforms.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/Matchers.h"
#include "llvm/ADT/TypeSwitch.h"

#define DEBUG_TYPE "delta-step-to-events"

namespace mlir::delta {
#define GEN_PASS_DEF_DELTASTEPTOEVENTS
#define GEN_PASS_DEF_DELTASETDIMS
#include "delta/Dialect/Delta/Transforms/Passes.h.inc"
} // namespace mlir::delta

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::events;

//===----------------------------------------------------------------------===//
// Cut points
//===----------------------------------------------------------------------===//

/// The values of `block` through which every state-typed path from `state` to
/// the yielded state passes, in order, without `state` itself.
static llvm::DenseSet<Value> findCuts(Block &block, Value state, Value yielded) {
  // Forward: what depends on the state through state-typed values.
  llvm::DenseMap<Value, unsigned> position;
  SmallVector<Value> order{state};
  position[state] = 0;
  Type type = state.getType();
  unsigned index = 0;
  auto stateOperands = [&](Operation &op) {
    SmallVector<Value> operands;
    for (Value operand : op.getOperands())
      if (operand.getType() == type && position.contains(operand))
        operands.push_back(operand);
    return operands;
  };
  for (Operation &op : block) {
    ++index;
    if (op.getNumResults() == 1 && op.getResult(0).getType() == type &&
        !stateOperands(op).empty()) {
      position[op.getResult(0)] = index;
      order.push_back(op.getResult(0));
    }
  }
  // Backward: what of it reaches the yielded state.
  llvm::DenseSet<Value> live{yielded};
  SmallVector<std::pair<unsigned, unsigned>> edges;
  for (Value value : llvm::reverse(order)) {
    if (!live.contains(value) || value == state)
      continue;
    for (Value operand : stateOperands(*value.getDefiningOp())) {
      live.insert(operand);
      edges.push_back({position[operand], position[value]});
    }
  }
  llvm::DenseSet<Value> cuts;
  for (Value value : order) {
    unsigned at = position[value];
    if (value != state && live.contains(value) &&
        llvm::none_of(edges, [&](auto edge) {
          return edge.first < at && at < edge.second;
        }))
      cuts.insert(value);
  }
  return cuts;
}

//===----------------------------------------------------------------------===//
// Operations and blocks
//===----------------------------------------------------------------------===//

LogicalResult EventBuilder::processOp(Operation *op) {
  Location loc = op->getLoc();
  if (auto loop = dyn_cast<ForOp>(op))
    return processFor(loop);
  if (auto matvec = dyn_cast<MatvecOp>(op)) {
    const MatrixForm form = getForm(matvec.getMatrix());
    Value x = mapping.lookup(matvec.getX());
    FailureOr<Value> result = matvec.getTranspose()
                                  ? applyTransposed(op, form, x)
                                  : apply(op, form, x);
    if (failed(result))
      return failure();
    if (!*result)
      *result = vectors.zero(loc, matvec.getResult().getType());
    // A scalar-free diagonal may have left the operand's own scalar type.
    mapping.map(matvec.getResult(), *result);
    return success();
  }
  if (op->getNumResults() == 1 && isMatrix(op->getResult(0))) {
    if (getBroadcastScalar(op->getResult(0)))
      return success(); // see getForm
    FailureOr<MatrixForm> form = computeMatrix(op);
    if (failed(form))
      return failure();
    forms[op->getResult(0)] = std::move(*form);
    return success();
  }
  if (auto micro = dyn_cast<MicroOp>(op))
    if (failed(checkMicroIndex(micro)))
      return failure();
  for (Value operand : op->getOperands())
    if (!mapping.contains(operand)) {
      outside(op) << "'" << op->getName() << "' is applied to a matrix";
      return failure();
    }
  builder.clone(*op, mapping);
  return success();
}

LogicalResult EventBuilder::checkMicroIndex(MicroOp op) {
  StringRef dim = mlir::delta::getDimNames(op.getFamily().getType())[0];
  std::optional<int64_t> size = signature.getDim(dim);
  if (!size)
    return op.emitError() << "needs the size of dim '" << dim
                          << "' to unroll the micro-steps; bind it with -D "
                          << dim << "=...";
  IntegerAttr index;
  if (!matchPattern(mapping.lookup(op.getIndex()), m_Constant(&index)))
    return op.emitError("the index of a micro-step must be a constant or the "
                        "loop's variable");
  if (index.getInt() < 0 || index.getInt() >= *size)
    return op.emitError() << "index " << index.getInt() << " is not below "
                          << dim << " = " << *size;
  return success();
}

LogicalResult EventBuilder::processFor(ForOp op) {
  std::optional<int64_t> count = signature.getDim(op.getDim());
  if (!count)
    return op.emitError() << "needs the size of dim '" << op.getDim()
                          << "' to unroll the micro-steps; bind it with -D "
                          << op.getDim() << "=...";
  // The chunk program grows with the square of the micro-steps.
  constexpr int64_t kMaxMicroSteps = 64;
  if (*count > kMaxMicroSteps)
    return op.emitError() << "unrolls at most " << kMaxMicroSteps
                          << " micro-steps, but dim '" << op.getDim()
                          << "' is " << *count;
  const MatrixForm init = getForm(op.getInit());
  FailureOr<Value> state = emitEvents(op, init);
  if (failed(state))
    return failure();
  Block &body = op.getBody().front();
  for (int64_t j = 0; j < *count; ++j) {
    mapping.map(body.getArgument(0),
                arith::ConstantIndexOp::create(builder, op.getLoc(), j));
    FailureOr<SmallVector<Value>> yielded =
        processBlock(body, body.getArgument(1), *state);
    if (failed(yielded))
      return failure();
    state = yielded->front();
  }
  MatrixForm form;
  form.states.push_back({*state, Value()});
  forms[op.getResult()] = form;
  return success();
}

FailureOr<Value> EventBuilder::emitEvents(Operation *op, const MatrixForm &form) {
  Location loc = op->getLoc();
  Type type = step.getStateArgument().getType();
  if (form.transposed || form.diagonal || form.states.size() > 1) {
    outside(op) << (form.transposed ? "the new state is a transpose"
                    : form.diagonal
                        ? "a diagonal matrix is added to the state"
                        : "the new state mixes two values of the state");
    return failure();
  }
  Value state;
  if (form.states.empty())
    // A step that forgets everything: decay by zero.
    state = DecayOp::create(builder, loc, type, chainState, vectors.constant(loc, 0.0));
  else {
    state = form.states[0].state;
    if (Value weight = form.states[0].weight)
      if (!vectors.isConstant(weight, 1.0))
        state = DecayOp::create(builder, loc, type, state, weight);
  }
  for (auto &dyad : form.dyads)
    state = WriteOp::create(builder, loc, type, state, dyad.x, dyad.y);
  chainState = state;
  return state;
}

FailureOr<SmallVector<Value>>
EventBuilder::processBlock(Block &block, BlockArgument stateArg, Value state) {
  chainState = state;
  MatrixForm form;
  form.states.push_back({state, Value()});
  forms[stateArg] = form;
  auto yield = cast<YieldOp>(block.back());
  llvm::DenseSet<Value> cuts = findCuts(block, stateArg, yield.getValues()[0]);
  for (Operation &op : block.without_terminator()) {
    if (failed(processOp(&op)))
      return failure();
    if (op.getNumResults() != 1 || !cuts.contains(op.getResult(0)) ||
        isa<ForOp>(op))
      continue;
    FailureOr<Value> next = emitEvents(&op, getForm(op.getResult(0)));
    if (failed(next))
      return failure();
    MatrixForm cut;
    cut.states.push_back({*next, Value()});
    forms[op.getResult(0)] = cut;
  }
  SmallVector<Value> yielded;
  FailureOr<Value> last = emitEvents(yield, getForm(yield.getValues()[0]));
  if (failed(last))
    return failure();
  yielded.push_back(*last);
  for (Value out : yield.getValues().drop_front())
    yielded.push_back(mapping.lookup(out));
  return yielded;
}

FailureOr<SmallVector<Value>> EventBuilder::run(ValueRange args) {
  Block *body = step.getBodyBlock();
  SmallVector<ArgAttr> entries;
  for (ArgAttr arg : signature.getAllArgs())
    if (arg.getKind() != ArgKind::State && arg.getKind() != ArgKind::Out)
      entries.push_back(arg);
  for (auto [index, arg] : llvm::enumerate(entries)) {
    mapping.map(body->getArgument(index), args[index]);
    if (arg.getFamily())
      families.insert(body->getArgument(index));
  }
  return processBlock(*body, step.getStateArgument(), args.back());
}

//===----------------------------------------------------------------------===//
// Entry points
//===----------------------------------------------------------------------===//

LogicalResult mlir::delta::bindDim(ModuleOp module, StringRef name, int64_t size) {
  SignatureAttr signature = getSignature(module);
  if (!signature)
    return module.emitError() << "expects a module with '" << kSignatureAttr
                              << "'";
  if (size < 1)
    return module.emitError() << "dim '" << name
                              << "' must be at least 1, but got " << size;
  std::optional<int64_t> bound = signature.getDim(name);
  if (bound && *bound != size)
    return module.emitError() << "dim '" << name << "' is " << *bound
                              << " already, so it cannot be " << size;
  setSignature(module, signature.withDim(name, size));
  return success();
}

LogicalResult mlir::delta::convertStepToEvents(ModuleOp module) {
  if (getStage(module) != Stage::Step)
    return module.emitError("expects a module of stage step");
  SignatureAttr signature = getSignature(module);
  RecurrenceOp step = getRecurrence(module);
  OpBuilder builder(step);
  auto events = RecurrenceOp::create(builder, step.getLoc(), step.getSymName());
  SmallVector<Type> types(step.getBodyBlock()->getArgumentTypes());
  SmallVector<Location> locs;
  for (BlockArgument arg : step.getBodyBlock()->getArguments())
    locs.push_back(arg.getLoc());
  Block *block =
      builder.createBlock(&events.getBody(), events.getBody().end(), types, locs);
  EventBuilder eventBuilder(signature, step, builder);
  FailureOr<SmallVector<Value>> yielded = eventBuilder.run(block->getArguments());
  if (failed(yielded)) {
    events.erase();
    return failure();
  }
  YieldOp::create(builder, step.getYield().getLoc(), *yielded);
  if (failed(checkColumnLinearity(events))) {
    events.erase();
    return failure();
  }
  step.erase();
  setStage(module, Stage::Events);
  return success();
}

namespace {

struct StepToEvents : delta::impl::DeltaStepToEventsBase<StepToEvents> {
  void runOnOperation() override {
    if (failed(convertStepToEvents(getOperation())))
      signalPassFailure();
  }
};

struct SetDims : delta::impl::DeltaSetDimsBase<SetDims> {
  using Base::Base;
  void runOnOperation() override {
    for (StringRef binding : dims) {
      auto [name, text] = binding.split('=');
      int64_t size = 0;
      if (name.empty() || text.getAsInteger(10, size)) {
        getOperation().emitError()
            << "expects dims as NAME=SIZE, but got '" << binding << "'";
        return signalPassFailure();
      }
      if (failed(bindDim(getOperation(), name, size)))
        return signalPassFailure();
    }
  }
};

} // namespace
