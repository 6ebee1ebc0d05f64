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

#include "delta/Analysis/LinearForm.h"
#include "delta/Dialect/Delta/Transforms/Passes.h"
#include "delta/Dialect/Delta/Transforms/Transforms.h"
#include "delta/Dialect/Delta/Transforms/VectorBuilder.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/IRMapping.h"
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

namespace {

/// A matrix as sum_b diag(w_b) S_b + diag(d) + sum_i x_i y_i^T. The S_b are
/// states of the chain. w and d are vectors over the rows or scalars.
struct MatrixForm {
  struct StateTerm {
    Value state;
    Value weight; // null: 1
  };
  struct Dyad {
    Value x, y;
  };
  SmallVector<StateTerm> states;
  Value diagonal; // null: none
  SmallVector<Dyad> dyads;
  /// The form describes the transposed matrix.
  bool transposed = false;

  bool dependsOnState() const { return !states.empty(); }
};

class EventBuilder {
public:
  EventBuilder(SignatureAttr signature, RecurrenceOp step, OpBuilder &builder)
      : signature(signature), step(step), builder(builder), vectors(builder) {}

  /// Rebuilds the step's body at the builder's insertion point; `args` are the
  /// new block's arguments. Returns the values to yield.
  FailureOr<SmallVector<Value>> run(ValueRange args);

private:
  /// Processes one block on the chain state `state`; returns its yielded
  /// values, the state first (as a state of the chain).
  FailureOr<SmallVector<Value>> processBlock(Block &block, BlockArgument stateArg,
                                             Value state);
  LogicalResult processOp(Operation *op);
  LogicalResult processFor(ForOp op);
  /// A micro-step's index must lie below its family's dim.
  LogicalResult checkMicroIndex(MicroOp op);
  FailureOr<MatrixForm> computeMatrix(Operation *op);
  FailureOr<MatrixForm> multiply(MatmulOp op);
  FailureOr<MatrixForm> multiplyElementwise(Operation *op, MatrixForm a,
                                            MatrixForm b);
  FailureOr<Value> applyTransposed(Operation *op, const MatrixForm &form, Value x);
  FailureOr<Value> apply(Operation *op, const MatrixForm &form, Value x);
  /// The scalar s of an operand that is `delta.broadcast s`.
  Value getBroadcastScalar(Value matrix);
  /// The form of a matrix that has been processed.
  MatrixForm getForm(Value matrix);
  /// Emits the events of `form` and returns the chain's new state.
  FailureOr<Value> emitEvents(Operation *op, const MatrixForm &form);

  bool isMatrix(Value value) {
    return mlir::delta::getDimNames(value.getType()).size() == 2 &&
           isa<RankedTensorType>(value.getType()) &&
           !families.contains(value);
  }
  InFlightDiagnostic outside(Operation *op) {
    return op->emitError() << "the step leaves the class of recurrences "
                              "S = D S + x y^T: ";
  }

  SignatureAttr signature;
  RecurrenceOp step;
  OpBuilder &builder;
  VectorBuilder vectors;
  IRMapping mapping;                       // scalars, vectors, families
  llvm::DenseMap<Value, MatrixForm> forms; // matrices
  llvm::DenseSet<Value> families;
  Value chainState; // the newest state of the chain
};

} // namespace

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
// Forms
//===----------------------------------------------------------------------===//

Value EventBuilder::getBroadcastScalar(Value matrix) {
  auto broadcast = matrix.getDefiningOp<BroadcastOp>();
  if (!broadcast || !isa<FloatType>(broadcast.getInput().getType()))
    return {};
  return mapping.lookupOrNull(broadcast.getInput());
}

MatrixForm EventBuilder::getForm(Value matrix) {
  Value s = getBroadcastScalar(matrix);
  if (!s)
    return forms.lookup(matrix);
  // One number everywhere is the dyad (s 1) 1^T. It is built only where it is
  // not merely a factor.
  Location loc = matrix.getLoc();
  ArrayRef<StringAttr> names = mlir::delta::getDimNames(matrix.getType());
  MLIRContext *context = builder.getContext();
  MatrixForm form;
  form.dyads.push_back(
      {vectors.broadcast(loc, s, getSymbolicType(context, names[0])),
       vectors.splat(loc, 1.0, getSymbolicType(context, names[1]))});
  return form;
}

FailureOr<MatrixForm> EventBuilder::computeMatrix(Operation *op) {
  Location loc = op->getLoc();
  auto scaled = [&](MatrixForm form, Value s) {
    for (auto &term : form.states)
      term.weight = vectors.mul(loc, term.weight, s);
    if (form.diagonal)
      form.diagonal = vectors.mul(loc, form.diagonal, s);
    for (auto &dyad : form.dyads)
      dyad.y = vectors.mul(loc, dyad.y, s);
    return form;
  };
  auto sum = [&](MatrixForm a, MatrixForm b,
                 bool negate) -> FailureOr<MatrixForm> {
    if (a.transposed != b.transposed) {
      // Only a state-free dyad sum can simply be turned around.
      MatrixForm &turned = b.dependsOnState() ? a : b;
      if (turned.dependsOnState()) {
        outside(op) << "the state and its transpose are added; only the state "
                       "itself may stand in a sum";
        return failure();
      }
      for (auto &dyad : turned.dyads)
        std::swap(dyad.x, dyad.y);
      turned.transposed = !turned.transposed;
    }
    if (negate)
      b = scaled(b, vectors.constant(loc, -1.0));
    for (auto &term : b.states) {
      auto *same = llvm::find_if(
          a.states, [&](auto &other) { return other.state == term.state; });
      if (same == a.states.end())
        a.states.push_back(term);
      else
        same->weight = vectors.add(loc, same->weight ? same->weight : vectors.constant(loc, 1.0),
                                   term.weight ? term.weight : vectors.constant(loc, 1.0));
    }
    if (b.diagonal)
      a.diagonal = a.diagonal ? vectors.add(loc, a.diagonal, b.diagonal) : b.diagonal;
    llvm::append_range(a.dyads, b.dyads);
    return a;
  };
  return TypeSwitch<Operation *, FailureOr<MatrixForm>>(op)
      .Case<DiagOp>([&](DiagOp diag) {
        MatrixForm form;
        form.diagonal = mapping.lookup(diag.getX());
        return form;
      })
      .Case<EyeOp>([&](EyeOp) {
        MatrixForm form;
        form.diagonal = vectors.constant(loc, 1.0);
        return form;
      })
      .Case<OuterOp>([&](OuterOp outer) {
        MatrixForm form;
        form.dyads.push_back(
            {mapping.lookup(outer.getX()), mapping.lookup(outer.getY())});
        return form;
      })
      .Case<TransposeOp>([&](TransposeOp transpose) {
        MatrixForm form = getForm(transpose.getMatrix());
        form.transposed = !form.transposed;
        return form;
      })
      .Case<arith::AddFOp>([&](arith::AddFOp add) -> FailureOr<MatrixForm> {
        return sum(getForm(add.getLhs()), getForm(add.getRhs()), false);
      })
      .Case<arith::SubFOp>([&](arith::SubFOp sub) -> FailureOr<MatrixForm> {
        return sum(getForm(sub.getLhs()), getForm(sub.getRhs()), true);
      })
      .Case<arith::NegFOp>([&](arith::NegFOp neg) {
        return scaled(getForm(neg.getOperand()), vectors.constant(loc, -1.0));
      })
      .Case<arith::MulFOp>([&](arith::MulFOp mul) -> FailureOr<MatrixForm> {
        if (Value s = getBroadcastScalar(mul.getLhs()))
          return scaled(getForm(mul.getRhs()), s);
        if (Value s = getBroadcastScalar(mul.getRhs()))
          return scaled(getForm(mul.getLhs()), s);
        FailureOr<MatrixForm> form = multiplyElementwise(
            op, forms.lookup(mul.getLhs()), forms.lookup(mul.getRhs()));
        return form;
      })
      .Case<arith::DivFOp>([&](arith::DivFOp div) -> FailureOr<MatrixForm> {
        if (Value s = getBroadcastScalar(div.getRhs()))
          return scaled(getForm(div.getLhs()),
                        vectors.div(loc, vectors.constant(loc, 1.0), s));
        outside(op) << "a division by a matrix";
        return failure();
      })
      .Case<MatmulOp>([&](MatmulOp matmul) { return multiply(matmul); })
      .Default([&](Operation *) -> FailureOr<MatrixForm> {
        outside(op) << "'" << op->getName()
                    << "' on a matrix; accepted are sums, products with "
                       "scalars, diag(...), eye(...) and outer products";
        return failure();
      });
}

/// Turns the dyads around if the form describes a transpose.
static void straighten(MatrixForm &form) {
  if (!form.transposed)
    return;
  for (auto &dyad : form.dyads)
    std::swap(dyad.x, dyad.y);
  form.transposed = false;
}

/// (x y^T) .* (a b^T) = (x .* a)(y .* b)^T, and only the diagonal of the other
/// factor meets a diagonal matrix.
FailureOr<MatrixForm> EventBuilder::multiplyElementwise(Operation *op,
                                                        MatrixForm a,
                                                        MatrixForm b) {
  if (a.dependsOnState() || b.dependsOnState()) {
    outside(op) << "an elementwise product of matrices; only scalars, "
                   "diag(...) and rank-one terms may multiply the state";
    return failure();
  }
  Location loc = op->getLoc();
  straighten(a);
  straighten(b);
  MatrixForm form;
  auto addDiagonal = [&](Value term) {
    form.diagonal = form.diagonal ? vectors.add(loc, form.diagonal, term) : term;
  };
  for (auto &p : a.dyads)
    for (auto &q : b.dyads)
      form.dyads.push_back(
          {vectors.mul(loc, p.x, q.x), vectors.mul(loc, p.y, q.y)});
  for (auto &[diagonal, dyads] :
       {std::pair(a.diagonal, b.dyads), std::pair(b.diagonal, a.dyads)})
    if (diagonal)
      for (auto &dyad : dyads)
        addDiagonal(vectors.mul(loc, diagonal, vectors.mul(loc, dyad.x, dyad.y)));
  if (a.diagonal && b.diagonal)
    addDiagonal(vectors.mul(loc, a.diagonal, b.diagonal));
  return form;
}

FailureOr<MatrixForm> EventBuilder::multiply(MatmulOp op) {
  Location loc = op.getLoc();
  MatrixForm lhs = getForm(op.getLhs()), rhs = getForm(op.getRhs());
  if (lhs.dependsOnState()) {
    outside(op) << "the state is multiplied from the right; a transition may "
                   "only act from the left, on the state's rows";
    return failure();
  }
  if (rhs.dependsOnState() && rhs.transposed) {
    outside(op) << "the transposed state is multiplied by a matrix; only "
                   "vectors may be read with it";
    return failure();
  }
  straighten(lhs);
  straighten(rhs);
  MatrixForm form;
  if (lhs.diagonal) {
    for (auto &term : rhs.states)
      form.states.push_back(
          {term.state, vectors.mul(loc, term.weight, lhs.diagonal)});
    if (rhs.diagonal)
      form.diagonal = vectors.mul(loc, lhs.diagonal, rhs.diagonal);
    for (auto &dyad : rhs.dyads)
      form.dyads.push_back({vectors.mul(loc, dyad.x, lhs.diagonal), dyad.y});
  }
  // x y^T M = x (M^T y)^T.
  for (auto &dyad : lhs.dyads) {
    FailureOr<Value> y = applyTransposed(op, rhs, dyad.y);
    if (failed(y))
      return failure();
    if (*y)
      form.dyads.push_back({dyad.x, *y});
  }
  return form;
}

/// M^T x; a null value for a zero M.
FailureOr<Value> EventBuilder::applyTransposed(Operation *op,
                                               const MatrixForm &form, Value x) {
  Location loc = op->getLoc();
  if (form.transposed) {
    MatrixForm straight = form;
    straight.transposed = false;
    return apply(op, straight, x);
  }
  Value result;
  auto accumulate = [&](Value term) {
    result = result ? vectors.add(loc, result, term) : term;
  };
  for (auto &term : form.states) {
    Type columns = getSymbolicType(
        builder.getContext(), getDimNames(term.state.getType()).drop_front());
    accumulate(ReadOp::create(builder, loc, columns, term.state,
                              vectors.mul(loc, x, term.weight)));
  }
  if (form.diagonal)
    accumulate(vectors.mul(loc, x, form.diagonal));
  for (auto &dyad : form.dyads)
    accumulate(vectors.mul(loc, dyad.y, vectors.dot(loc, dyad.x, x)));
  return result;
}

/// M x.
FailureOr<Value> EventBuilder::apply(Operation *op, const MatrixForm &form,
                                     Value x) {
  Location loc = op->getLoc();
  if (form.transposed) {
    MatrixForm straight = form;
    straight.transposed = false;
    return applyTransposed(op, straight, x);
  }
  if (form.dependsOnState()) {
    outside(op) << "the state is read from the other side, S x; a read is "
                   "S^T x with x over the state's rows";
    return failure();
  }
  Value result;
  auto accumulate = [&](Value term) {
    result = result ? vectors.add(loc, result, term) : term;
  };
  if (form.diagonal)
    accumulate(vectors.mul(loc, x, form.diagonal));
  for (auto &dyad : form.dyads)
    accumulate(vectors.mul(loc, dyad.x, vectors.dot(loc, dyad.y, x)));
  return result;
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
