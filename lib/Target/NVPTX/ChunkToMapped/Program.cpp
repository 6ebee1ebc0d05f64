//===- Program.cpp - What a chunk program asks of each slice --------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Demands are propagated from the results to the arguments; whatever the state
// slice wants that does not depend on the state's columns is a transfer.
//
//===----------------------------------------------------------------------===//

#include "Program.h"
#include "delta/Dialect/Delta/Transforms/VectorBuilder.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "llvm/ADT/STLExtras.h"

#include <cmath>

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::gpumap;

bool gpumap::isPointwise(Operation *op) {
  return op && !isa<BroadcastOp, arith::ConstantOp>(op) &&
         op->getNumResults() == 1 && op->getNumOperands() > 0 &&
         op->getNumRegions() == 0 && OpTrait::hasElementwiseMappableTraits(op);
}

unsigned gpumap::getRank(Value value) {
  auto tensor = dyn_cast<RankedTensorType>(value.getType());
  return tensor ? tensor.getRank() : 0;
}

int64_t gpumap::getMicro(func::FuncOp program, Value argument) {
  auto micro = program.getArgAttrOfType<IntegerAttr>(
      cast<BlockArgument>(argument).getArgNumber(), kMicroAttr);
  return micro ? micro.getInt() : 0;
}

ArgAttr Program::getArg(Value value) const {
  return lookupArg(signature, value);
}

LogicalResult Program::checkShapes() {
  if (!function.getBody().hasOneBlock())
    return function.emitError("expects a chunk program of one block");
  for (BlockArgument argument : function.getArguments()) {
    if (argument.getType().isIndex()) {
      valid = argument;
      continue;
    }
    ArgAttr arg = getArg(argument);
    if (!arg)
      return function.emitError()
             << "expects argument " << argument.getArgNumber()
             << " to name an entry of the signature with '" << kArgNameAttr
             << "'";
    if (arg.getKind() == ArgKind::State)
      state = argument;
    if (arg.getKind() == ArgKind::In)
      if (auto tensor = dyn_cast<RankedTensorType>(argument.getType()))
        chunk = tensor.getDimSize(0);
  }
  if (!state || !valid)
    return function.emitError(
        "expects a state argument and the number of valid tokens");
  if (std::optional<int64_t> tokens = signature.getIntOption("chunk"))
    chunk = *tokens;
  if (chunk != 16)
    return function.emitError()
           << "the fused kernel takes chunks of 16 tokens, but got " << chunk;
  auto type = cast<RankedTensorType>(state.getType());
  stateRows = type.getDimSize(0);
  stateCols = type.getDimSize(1);
  if (!type.getElementType().isF32())
    return function.emitError() << "the GPU mapping computes in f32, but got "
                                << type.getElementType();
  return success();
}

void Program::findDependences() {
  dependent.insert(state);
  stateShaped.insert(state);
  for (BlockArgument argument : function.getArguments())
    if (argument == valid || getArg(argument).getKind() == ArgKind::In ||
        getArg(argument).getKind() == ArgKind::State)
      perToken.insert(argument);
  for (Operation &op : function.front()) {
    bool depends = llvm::any_of(op.getOperands(),
                                [&](Value v) { return dependent.contains(v); });
    bool tokens = llvm::any_of(op.getOperands(),
                               [&](Value v) { return perToken.contains(v); });
    bool shaped =
        isPointwise(&op) && llvm::any_of(op.getOperands(), [&](Value v) {
          return stateShaped.contains(v);
        });
    if (auto matmul = dyn_cast<MatmulOp>(op))
      shaped = matmul.getTransposeLhs() && !matmul.getTriangular();
    for (Value result : op.getResults()) {
      if (depends)
        dependent.insert(result);
      if (tokens)
        perToken.insert(result);
      if (shaped)
        stateShaped.insert(result);
    }
  }
}

//===----------------------------------------------------------------------===//
// Padding
//===----------------------------------------------------------------------===//

/// Folds a pointwise operation on numbers; none when it is not known.
static std::optional<double> fold(Operation *op,
                                  ArrayRef<std::optional<double>> operands) {
  auto is = [&](double value) {
    return llvm::is_contained(operands, std::optional<double>(value));
  };
  // A product with zero is zero: an infinite partner would have spoilt the
  // tokens that exist as well.
  if (isa<arith::MulFOp>(op) && is(0.0))
    return 0.0;
  if (!llvm::all_of(operands, [](auto x) { return x.has_value(); }))
    return std::nullopt;
  double x = *operands[0], y = operands.size() > 1 ? *operands[1] : 0.0;
  if (isa<arith::AddFOp>(op))
    return x + y;
  if (isa<arith::SubFOp>(op))
    return x - y;
  if (isa<arith::MulFOp>(op))
    return x * y;
  if (isa<arith::DivFOp>(op) && y != 0.0)
    return x / y;
  if (isa<arith::NegFOp>(op))
    return -x;
  if (isa<arith::MaximumFOp>(op))
    return std::max(x, y);
  if (isa<arith::MinimumFOp>(op))
    return std::min(x, y);
  // Exact at these points, whatever the approximation.
  if (x == 0.0) {
    if (isa<math::ExpOp, math::Exp2Op>(op))
      return 1.0;
    if (isa<math::TanhOp, math::AbsFOp, math::SqrtOp>(op))
      return 0.0;
  }
  return std::nullopt;
}

std::optional<double> Program::getPadding(Value value, bool channels) const {
  auto found = padding.find({value, channels});
  if (found != padding.end())
    return found->second;
  std::optional<double> result;
  Operation *op = value.getDefiningOp();
  if (auto argument = dyn_cast<BlockArgument>(value)) {
    ArgAttr arg = getArg(argument);
    bool vector = isa<RankedTensorType>(argument.getType());
    if (arg && vector &&
        (arg.getKind() == ArgKind::In ? !(channels && arg.getAxes().empty())
                                      : channels))
      result = 0.0;
  } else if (isa<arith::ConstantOp>(op)) {
    result = VectorBuilder::getConstant(value);
  } else if (auto broadcast = dyn_cast<BroadcastOp>(op)) {
    // Along the other axis, a vector's numbers have nothing to do with padding.
    std::optional<int64_t> dim = broadcast.getDim();
    if (!dim || (*dim == 1) == channels)
      result = getPadding(broadcast.getInput(), channels);
  } else if (auto identity = dyn_cast<IdentityRowsOp>(op)) {
    double fill = identity.getValue().convertToDouble();
    if (!channels)
      result = fill;
    else if (getPadding(identity.getInput(), true) == fill)
      result = fill;
  } else if (isPointwise(op)) {
    SmallVector<std::optional<double>> operands;
    for (Value operand : op->getOperands())
      operands.push_back(getPadding(operand, channels));
    result = fold(op, operands);
  } else if (auto product = dyn_cast<PrefixProductOp>(op)) {
    if (channels && getPadding(product.getInput(), true) == 1.0)
      result = 1.0;
  }
  padding[{value, channels}] = result;
  return result;
}

Value Program::resolve(Value value) const {
  while (auto identity = value.getDefiningOp<IdentityRowsOp>()) {
    std::optional<double> fill = getPadding(identity.getInput(), false);
    if (!fill || *fill != identity.getValue().convertToDouble())
      break;
    value = identity.getInput();
  }
  return value;
}

//===----------------------------------------------------------------------===//
// Demands
//===----------------------------------------------------------------------===//

LogicalResult Program::reject(Value value, Form form) {
  Operation *op = value.getDefiningOp();
  bool free = isFree(form);
  if (!op)
    return function.emitError()
           << "argument " << cast<BlockArgument>(value).getArgNumber()
           << " is used where the " << (free ? "free" : "state")
           << " slice of a GPU kernel cannot read it";
  return op->emitError() << "'" << op->getName() << "' has no mapping to the "
                         << (free ? "free" : "state")
                         << " slice of a GPU kernel in this place";
}

LogicalResult Program::wantTransfer(Value value, Form form) {
  value = resolve(value);
  if (dependent.contains(value))
    return reject(value, form);
  // A tile as it was loaded needs no copy.
  if (form == Form::Wide && isa<BlockArgument>(value) &&
      getArg(value).getKind() == ArgKind::In) {
    staged.insert(cast<BlockArgument>(value));
    stagedForState.insert(value);
    return success();
  }
  if (failed(want({value, form})))
    return failure();
  transfers.insert({value, form});
  return success();
}

std::optional<std::pair<BlockArgument, double>>
Program::getConstantMultiple(Value value) const {
  auto product = value.getDefiningOp<arith::MulFOp>();
  if (!product)
    return std::nullopt;
  Value x = resolve(product.getLhs()), y = resolve(product.getRhs());
  for (auto [input, factor] : {std::pair(x, y), std::pair(y, x)}) {
    auto argument = dyn_cast<BlockArgument>(input);
    if (auto broadcast = factor.getDefiningOp<BroadcastOp>())
      factor = resolve(broadcast.getInput());
    std::optional<double> number = VectorBuilder::getConstant(factor);
    if (argument && number && getArg(argument).getKind() == ArgKind::In &&
        getArg(argument).getAxes().empty())
      return std::pair(argument, *number);
  }
  return std::nullopt;
}

LogicalResult Program::wantOperands(Operation *op, Form form) {
  for (Value operand : op->getOperands())
    if (failed(want({resolve(operand), form})))
      return failure();
  return success();
}

LogicalResult Program::want(Node node) {
  if (nodes.contains(node))
    return success();
  auto [value, form] = node;
  if (!isFree(form) && form != Form::State && form != Form::Turned) {
    // Numbers and vectors come from arguments, or from the free slice.
    auto argument = dyn_cast<BlockArgument>(value);
    ArgAttr arg = getArg(value);
    bool direct = false;
    if (form == Form::StateNumber)
      direct = isUniform(value);
    else if (form == Form::StateTokens)
      direct = argument && arg.getKind() == ArgKind::In;
    else if (form == Form::Columns)
      direct = isUniform(value);
    if (form == Form::Columns && !direct)
      return reject(value, form);
    // It takes registers, which are short where states are saved.
    if (form == Form::StateTokens && !direct &&
        signature.getArgs(ArgKind::Checkpoint).empty())
      if (auto multiple = getConstantMultiple(value)) {
        argument = multiple->first;
        arg = getArg(argument);
        direct = true;
      }
    if (argument && arg.getKind() == ArgKind::In) {
      staged.insert(argument);
      stagedForState.insert(argument);
    }
    if (!direct) {
      Form source = form == Form::StateNumber   ? Form::Number
                    : form == Form::StateTokens ? Form::Tokens
                                                : Form::Channels;
      if (failed(wantTransfer(value, source)))
        return failure();
    }
    nodes.insert(node);
    return success();
  }

  Operation *op = value.getDefiningOp();
  auto wantAs = [&](Value v, Form f) { return want({resolve(v), f}); };
  LogicalResult result = success();
  if (auto argument = dyn_cast<BlockArgument>(value)) {
    ArgAttr arg = getArg(argument);
    ArgKind kind = arg ? arg.getKind() : ArgKind::Out;
    bool ok = false;
    switch (form) {
    case Form::Number:
      ok = kind == ArgKind::Attr ||
           (kind == ArgKind::Param && arg.getAxes().empty());
      break;
    case Form::Channels:
      ok = kind == ArgKind::Param && arg.getAxes().size() == 1;
      break;
    case Form::Tokens:
      ok = kind == ArgKind::In && arg.getAxes().empty();
      break;
    case Form::Wide:
    case Form::Turned:
      ok = kind == ArgKind::In && arg.getAxes().size() == 1;
      break;
    case Form::State:
      ok = argument == state;
      break;
    default:
      break;
    }
    if (!ok)
      return reject(value, form);
    if (kind == ArgKind::In) {
      staged.insert(argument);
      if (form == Form::Turned)
        stagedForState.insert(argument);
    }
  } else if (isa<arith::ConstantOp>(op)) {
    // Splats and numbers.
  } else if (auto broadcast = dyn_cast<BroadcastOp>(op)) {
    Value input = resolve(broadcast.getInput());
    bool number = !isa<RankedTensorType>(input.getType());
    int64_t dim = broadcast.getDim().value_or(0);
    Form source;
    if (number)
      source = isFree(form) ? Form::Number : Form::StateNumber;
    else if (form == Form::Square)
      source = Form::Tokens;
    else if (form == Form::Wide)
      source = dim == 0 ? Form::Tokens : Form::Channels;
    else if (form == Form::Turned)
      source = dim == 0 ? Form::StateTokens : Form::Columns;
    else if (form == Form::State)
      source = dim == 0 ? Form::StateChannels : Form::Columns;
    else
      return reject(value, form);
    result = want({input, source});
  } else if (isa<IdentityRowsOp>(op)) {
    result = wantAs(op->getOperand(0), form);
  } else if (isPointwise(op)) {
    result = wantOperands(op, form);
  } else if (auto matmul = dyn_cast<MatmulOp>(op)) {
    Value lhs = matmul.getLhs(), rhs = matmul.getRhs(), acc = matmul.getAcc();
    if (form == Form::Square && matmul.getTransposeRhs() &&
        !matmul.getTransposeLhs()) {
      if (failed(wantAs(lhs, Form::Wide)) || failed(wantAs(rhs, Form::Wide)) ||
          (acc && failed(wantAs(acc, Form::Square))))
        return failure();
    } else if (form == Form::Turned && !matmul.getTransposeRhs() &&
               (!matmul.getTransposeLhs() || matmul.getTriangular())) {
      bool read = isStateShaped(rhs);
      if (read && matmul.getTransposeLhs())
        return reject(value, form);
      if (failed(wantTransfer(lhs, read ? Form::Wide : Form::Square)) ||
          failed(wantAs(rhs, read ? Form::State : Form::Turned)) ||
          (acc && failed(wantAs(acc, Form::Turned))))
        return failure();
    } else if (form == Form::State && matmul.getTransposeLhs() &&
               !matmul.getTriangular() && !matmul.getTransposeRhs()) {
      if (failed(wantTransfer(lhs, Form::Wide)) ||
          failed(wantAs(rhs, Form::Turned)) ||
          (acc && failed(wantAs(acc, Form::State))))
        return failure();
    } else {
      return reject(value, form);
    }
  } else if (auto solve = dyn_cast<TriSolveOp>(op)) {
    if (form != Form::Turned)
      return reject(value, form);
    for (Value block : solve.getBlocks())
      if (failed(wantAs(block, Form::Square)))
        return failure();
    systems.insert(op);
    for (Value rhs : solve.getRhs())
      if (failed(wantAs(rhs, Form::Turned)))
        return failure();
  } else if (auto gram = dyn_cast<DecayGramOp>(op)) {
    if (form != Form::Square)
      return reject(value, form);
    for (Value operand : gram->getOperands())
      if (failed(wantAs(operand, Form::Wide)))
        return failure();
  } else if (isa<PrefixProductOp>(op)) {
    if (form != Form::Tokens && form != Form::Wide)
      return reject(value, form);
    result = wantAs(op->getOperand(0), form);
  } else if (isa<TotalProductOp>(op)) {
    if (form == Form::Number)
      result = wantAs(op->getOperand(0), Form::Tokens);
    else if (form == Form::Channels)
      result = wantAs(op->getOperand(0), Form::Wide);
    else
      return reject(value, form);
  } else if (isa<SumOp>(op)) {
    if (form == Form::Tokens)
      result = wantAs(op->getOperand(0), Form::Wide);
    else if (form == Form::Number)
      result = wantAs(op->getOperand(0), Form::Channels);
    else
      return reject(value, form);
  } else if (isa<DecayMaskOp>(op) && form == Form::Square) {
    result = wantAs(op->getOperand(0), Form::Tokens);
  } else if (isa<CausalMaskOp>(op) && form == Form::Square) {
    result = wantAs(op->getOperand(0), Form::Square);
  } else if (auto diagonal = dyn_cast<SetDiagonalOp>(op);
             diagonal && form == Form::Square) {
    if (failed(wantAs(diagonal.getInput(), Form::Square)))
      return failure();
    result = wantAs(diagonal.getDiagonal(), Form::Tokens);
  } else {
    return reject(value, form);
  }
  if (failed(result))
    return failure();
  nodes.insert(node);
  return success();
}

//===----------------------------------------------------------------------===//
// Phases
//===----------------------------------------------------------------------===//

void Program::forEachSource(Node node,
                            llvm::function_ref<void(Node)> fn) const {
  auto [value, form] = node;
  Operation *op = value.getDefiningOp();
  if (!op || isa<arith::ConstantOp>(op))
    return;
  for (Value operand : op->getOperands()) {
    if (operand.getType().isIndex())
      continue;
    Value source = resolve(operand);
    for (Form candidate :
         {Form::Number, Form::Tokens, Form::Channels, Form::Square, Form::Wide})
      if (nodes.contains({source, candidate})) {
        // The one form that the operation takes it in; a form that another
        // user wants is harmless when it is earlier, so test what fits.
        bool wide = form == Form::Wide || form == Form::Channels;
        bool contraction = isa<DecayGramOp, SumOp, MatmulOp>(op);
        bool fits =
            isa<BroadcastOp>(op) ? candidate < Form::Square
            : contraction && form != Form::Number
                ? candidate == Form::Wide ||
                      (isa<MatmulOp>(op) && candidate == Form::Square &&
                       operand == cast<MatmulOp>(op).getAcc())
            : isa<TotalProductOp>(op)
                ? candidate == (wide ? Form::Wide : Form::Tokens)
            : isa<SumOp>(op)       ? candidate == Form::Channels
            : isa<DecayMaskOp>(op) ? candidate == Form::Tokens
            : isa<SetDiagonalOp>(op)
                ? candidate == (operand == op->getOperand(0) ? Form::Square
                                                             : Form::Tokens)
                : candidate == form;
        if (fits)
          fn({source, candidate});
      }
  }
}

void Program::findPhases() {
  for (Node node : nodes) {
    if (!isFree(node.form))
      continue;
    Operation *op = node.value.getDefiningOp();
    int64_t phase = 0;
    forEachSource(node, [&](Node source) {
      int64_t sourcePhase = phases.lookup(source);
      bool loop = source.form == Form::Wide || source.form == Form::Channels;
      bool narrow = node.form != Form::Wide && node.form != Form::Channels;
      // What a loop contracts is there after it.
      phase = std::max(phase, sourcePhase + (loop && narrow ? 1 : 0));
    });
    // A sum of parameters runs before everything.
    if (op && isa<SumOp>(op) && node.form == Form::Number)
      phase = 0;
    phases[node] = phase;
    if (node.form == Form::Wide || node.form == Form::Channels)
      phaseCount = std::max(phaseCount, phase + 1);
  }

  // Users come behind what they use.
  for (Node node : llvm::reverse(nodes)) {
    if (!isFree(node.form))
      continue;
    auto isLoop = [](Node node) {
      return node.form == Form::Wide || node.form == Form::Channels;
    };
    int64_t last = 0;
    if (isLoop(node))
      last = lastLoops[node] = std::max(lastLoops[node], phases[node]);
    else
      forEachSource(node, [&](Node source) {
        if (isLoop(source))
          last = std::max(last, phases.lookup(source));
      });
    forEachSource(node, [&](Node source) {
      if (isLoop(source))
        lastLoops[source] = std::max(lastLoops.lookup(source), last);
    });
  }
}

FailureOr<Program> Program::build(func::FuncOp function,
                                  SignatureAttr signature) {
  Program program;
  program.function = function;
  program.signature = signature;
  if (failed(program.checkShapes()))
    return failure();
  program.findDependences();

  auto results = function.front().getTerminator()->getOperands();
  StringAttr columns = signature.getState().getAxes()[1];
  SmallVector<ArgAttr> outArgs = signature.getArgs(ArgKind::Out);
  for (auto [index, out] : llvm::enumerate(results.drop_front())) {
    program.outs.push_back(out);
    ArrayRef<StringAttr> axes = outArgs[index].getAxes();
    bool turned = axes.size() == 1 && axes[0] == columns;
    (turned ? program.stateOuts : program.freeOuts).push_back(index);
    Form form = turned         ? Form::Turned
                : axes.empty() ? Form::Tokens
                               : Form::Wide;
    if (failed(program.want({program.resolve(out), form})))
      return failure();
  }
  if (failed(program.want({program.resolve(results.front()), Form::State})))
    return failure();
  program.findPhases();
  return program;
}
