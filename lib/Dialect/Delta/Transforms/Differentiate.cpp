//===- Differentiate.cpp - The backward chunk program ---------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Reverse-mode differentiation of one chunk. The kernel walks the chunks from
// the last to the first and carries the state's cotangent; the state at a
// chunk's start is a checkpoint that the forward kernel has saved. What the
// chunk computed on its way forward is computed again.
//
// Test: test/Dialect/Delta/Transforms/differentiate.mlir
//
//===----------------------------------------------------------------------===//

#include "delta/Dialect/Delta/Transforms/Adjoint.h"
#include "delta/Dialect/Delta/Transforms/Passes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Dominance.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/Transforms/CSE.h"
#include "llvm/ADT/StringSet.h"

namespace mlir::delta {
#define GEN_PASS_DEF_DELTADIFFERENTIATE
#define GEN_PASS_DEF_DELTASAVESTATES
#include "delta/Dialect/Delta/Transforms/Passes.h.inc"
} // namespace mlir::delta

using namespace mlir;
using namespace mlir::delta;

//===----------------------------------------------------------------------===//
// Signatures
//===----------------------------------------------------------------------===//

/// The program of a module of stage chunk, which must be a forward one.
static FailureOr<func::FuncOp> getForwardProgram(ModuleOp module) {
  if (getStage(module) != Stage::Chunk)
    return module.emitError("expects a module of stage chunk");
  StringRef fn = getSignature(module).getOption("fn", "forward");
  if (fn != "forward")
    return module.emitError()
           << "expects the program of fn forward, but got that of " << fn;
  auto functions = module.getOps<func::FuncOp>();
  if (functions.empty() || !llvm::hasSingleElement(functions) ||
      !(*functions.begin()).getBody().hasOneBlock())
    return module.emitError("expects one function of one block, as a chunk "
                            "program is");
  return *functions.begin();
}

static ArgAttr makeArg(ArgKind kind, const Twine &name, Type type,
                       ArrayRef<StringAttr> axes, StringAttr family = {}) {
  MLIRContext *context = type.getContext();
  return ArgAttr::get(context, kind, StringAttr::get(context, name), type, axes,
                      family, ArrayAttr(), StringAttr());
}

/// What is computed in f64 keeps its states and sums in it too.
static Type getWideType(SignatureAttr signature) {
  MLIRContext *context = signature.getContext();
  if (signature.getOption("compute") == "f64")
    return Float64Type::get(context);
  return Float32Type::get(context);
}

static ArgAttr makeCheckpoint(SignatureAttr signature) {
  std::string name = "checkpoints";
  while (signature.lookup(name))
    name += "_";
  return makeArg(ArgKind::Checkpoint, name, getWideType(signature),
                 signature.getState().getAxes());
}

/// The backward program's signature; fails when two of its names are one.
static FailureOr<SignatureAttr>
makeBackwardSignature(ModuleOp module, SignatureAttr forward, int64_t every) {
  SmallVector<ArgAttr> args, outs, sums;
  Type wide = getWideType(forward);
  for (ArgAttr arg : forward.getAllArgs()) {
    std::string gradient = "d_" + arg.getName().str();
    if (arg.getKind() == ArgKind::In) {
      args.push_back(arg);
      outs.push_back(makeArg(ArgKind::Out, gradient, arg.getType(),
                             arg.getAxes(), arg.getFamily()));
    } else if (arg.getKind() == ArgKind::Param) {
      args.push_back(arg);
      sums.push_back(makeArg(ArgKind::Sum, gradient, wide, arg.getAxes()));
    } else if (arg.getKind() == ArgKind::Attr) {
      sums.push_back(makeArg(ArgKind::Sum, gradient, wide, {}));
    }
  }
  for (ArgAttr out : forward.getArgs(ArgKind::Out))
    args.push_back(makeArg(ArgKind::In, "d" + out.getName().getValue(),
                           out.getType(), out.getAxes()));
  llvm::append_range(args, forward.getArgs(ArgKind::Attr));
  args.push_back(makeCheckpoint(forward));
  args.push_back(forward.getState());
  llvm::append_range(args, outs);
  llvm::append_range(args, sums);
  llvm::StringSet<> names;
  for (ArgAttr arg : args)
    if (!names.insert(arg.getName()).second)
      return module.emitError()
             << "'" << arg.getName().getValue()
             << "' is needed as the name of a gradient or cotangent; give the "
                "argument of that name another one";
  Builder builder(module.getContext());
  return forward.withArgs(args)
      .withOption("fn", builder.getStringAttr("backward"))
      .withOption("save_every", builder.getI64IntegerAttr(every));
}

//===----------------------------------------------------------------------===//
// delta-save-states
//===----------------------------------------------------------------------===//

static LogicalResult checkSaveEvery(ModuleOp module, int64_t every) {
  if (every >= 1)
    return success();
  return module.emitError()
         << "expects states to be saved every 1 chunks or more, but got "
         << every;
}

LogicalResult mlir::delta::saveStates(ModuleOp module, int64_t every) {
  if (failed(getForwardProgram(module)) ||
      failed(checkSaveEvery(module, every)))
    return failure();
  SignatureAttr signature = getSignature(module);
  if (!signature.getArgs(ArgKind::Checkpoint).empty())
    return module.emitError("saves its states already");
  // Behind the other arguments that are read, before the state.
  SmallVector<ArgAttr> args;
  for (ArgAttr arg : signature.getAllArgs()) {
    if (arg.getKind() == ArgKind::State)
      args.push_back(makeCheckpoint(signature));
    args.push_back(arg);
  }
  Builder builder(module.getContext());
  setSignature(module, signature.withArgs(args).withOption(
                           "save_every", builder.getI64IntegerAttr(every)));
  return success();
}

//===----------------------------------------------------------------------===//
// delta-differentiate
//===----------------------------------------------------------------------===//

namespace {

class BackwardBuilder {
public:
  BackwardBuilder(func::FuncOp forward, SignatureAttr signature,
                  SignatureAttr backward)
      : forward(forward), signature(signature), backward(backward),
        builder(forward) {}

  FailureOr<func::FuncOp> run();

private:
  ArgAttr getArg(BlockArgument argument) {
    return lookupArg(signature, argument);
  }
  LogicalResult checkProgram();
  void createFunction();
  void findUnmasked(Cotangents &cotangents);
  void finish(Cotangents &cotangents);

  func::FuncOp forward, function;
  SignatureAttr signature, backward;
  OpBuilder builder;
  IRMapping mapping; // from the forward program's values
  SmallVector<Value> outCotangents;
  Value stateCotangent, valid;
  SmallVector<Operation *> body; // the forward program, cloned
};

} // namespace

LogicalResult BackwardBuilder::checkProgram() {
  unsigned last = forward.getNumArguments();
  auto expected = signature.getArgs(ArgKind::Out).size() + 1;
  Operation *terminator = forward.front().getTerminator();
  if (last < 2 || !forward.getArgument(last - 1).getType().isIndex() ||
      !getArg(forward.getArgument(last - 2)) ||
      getArg(forward.getArgument(last - 2)).getKind() != ArgKind::State)
    return forward.emitOpError("expects the state and the number of tokens as "
                               "its last arguments");
  for (BlockArgument argument : forward.getArguments().drop_back())
    if (!getArg(argument))
      return forward.emitOpError()
             << "expects '" << kArgNameAttr << "' of argument "
             << argument.getArgNumber() << " to name an entry of the signature";
  if (terminator->getNumOperands() != expected)
    return terminator->emitOpError()
           << "expects the state and " << expected - 1
           << " outs as the signature has, but got "
           << terminator->getNumOperands() << " values";
  return success();
}

/// The function with all arguments, and the forward program in it.
void BackwardBuilder::createFunction() {
  SmallVector<Type> types;
  SmallVector<DictionaryAttr> attrs;
  auto add = [&](Type type, StringAttr name) {
    NamedAttrList list;
    if (name)
      list.set(kArgNameAttr, name);
    types.push_back(type);
    attrs.push_back(list.getDictionary(builder.getContext()));
  };
  for (BlockArgument argument : forward.getArguments().drop_back(2)) {
    types.push_back(argument.getType());
    attrs.push_back(forward.getArgAttrDict(argument.getArgNumber()));
  }
  Operation *terminator = forward.front().getTerminator();
  for (auto [out, value] : llvm::zip(signature.getArgs(ArgKind::Out),
                                     terminator->getOperands().drop_front()))
    add(value.getType(), builder.getStringAttr("d" + out.getName().getValue()));
  ArgAttr state = signature.getState();
  Type stateType = terminator->getOperand(0).getType();
  add(stateType, backward.getArgs(ArgKind::Checkpoint).front().getName());
  add(stateType, state.getName());
  add(builder.getIndexType(), StringAttr());
  function = func::FuncOp::create(builder, forward.getLoc(), forward.getName(),
                                  builder.getFunctionType(types, {}));
  Block *block = function.addEntryBlock();
  for (auto [index, dict] : llvm::enumerate(attrs))
    function.setArgAttrs(index, dict);
  builder.setInsertionPointToStart(block);

  unsigned shared = forward.getNumArguments() - 2, next = shared;
  for (unsigned i = 0; i < shared; ++i)
    mapping.map(forward.getArgument(i), block->getArgument(i));
  for (size_t i = 0; i + 1 < terminator->getNumOperands(); ++i)
    outCotangents.push_back(block->getArgument(next++));
  mapping.map(forward.getArgument(shared), block->getArgument(next++));
  stateCotangent = block->getArgument(next++);
  valid = block->getArgument(next);
  mapping.map(forward.getArgument(shared + 1), valid);
  for (Operation &op : forward.front().without_terminator())
    body.push_back(builder.clone(op, mapping));
}

/// Rows behind the last token hold anything in the `in`s, and in what is
/// computed from them row by row until identity_rows masks it.
void BackwardBuilder::findUnmasked(Cotangents &cotangents) {
  for (BlockArgument argument : forward.getArguments().drop_back())
    if (getArg(argument).getKind() == ArgKind::In)
      cotangents.setUnmasked(mapping.lookup(argument));
  for (Operation *op : body) {
    bool rowwise =
        op->hasTrait<OpTrait::Elementwise>() || isa<BroadcastOp, SumOp>(op);
    if (rowwise && llvm::any_of(op->getOperands(), [&](Value operand) {
          return cotangents.isUnmasked(operand);
        }))
      cotangents.setUnmasked(op->getResult(0));
  }
}

/// Returns the state's cotangent, those of the `in`s, and the sums.
void BackwardBuilder::finish(Cotangents &cotangents) {
  Location loc = function.getLoc();
  BlockArgument state = forward.getArgument(forward.getNumArguments() - 2);
  SmallVector<Value> results{cotangents.getOrZero(loc, mapping.lookup(state))};
  SmallVector<DictionaryAttr> attrs{builder.getDictionaryAttr({})};
  auto give = [&](bool perToken) {
    for (BlockArgument argument : forward.getArguments().drop_back(2)) {
      ArgAttr arg = getArg(argument);
      if ((arg.getKind() == ArgKind::In) != perToken)
        continue;
      Value value = cotangents.getOrZero(loc, mapping.lookup(argument));
      // Rows behind the last token are not stored.
      if (perToken)
        while (auto rows = value.getDefiningOp<IdentityRowsOp>())
          value = rows.getInput();
      results.push_back(value);
      NamedAttrList list;
      list.set(kArgNameAttr,
               builder.getStringAttr("d_" + arg.getName().getValue()));
      if (Attribute micro =
              forward.getArgAttr(argument.getArgNumber(), kMicroAttr))
        list.set(kMicroAttr, micro);
      attrs.push_back(list.getDictionary(builder.getContext()));
    }
  };
  give(/*perToken=*/true);
  give(/*perToken=*/false);
  func::ReturnOp::create(builder, loc, results);
  function.setFunctionType(builder.getFunctionType(
      function.front().getArgumentTypes(), ValueRange(results).getTypes()));
  for (auto [index, dict] : llvm::enumerate(attrs))
    function.setResultAttrs(index, dict);
}

FailureOr<func::FuncOp> BackwardBuilder::run() {
  if (failed(checkProgram()))
    return failure();
  createFunction();
  Cotangents cotangents(builder, valid);
  findUnmasked(cotangents);
  Operation *terminator = forward.front().getTerminator();
  cotangents.add(function.getLoc(), mapping.lookup(terminator->getOperand(0)),
                 stateCotangent);
  for (auto [value, cotangent] :
       llvm::zip(terminator->getOperands().drop_front(), outCotangents)) {
    Location loc = value.getLoc();
    Value masked = cotangent;
    if (isa<RankedTensorType>(cotangent.getType()))
      masked =
          IdentityRowsOp::create(builder, loc, cotangent.getType(), cotangent,
                                 valid, builder.getF64FloatAttr(0.0));
    cotangents.add(loc, mapping.lookup(value), masked);
  }
  for (Operation *op : llvm::reverse(body)) {
    bool plain = false, log = false;
    for (Value result : op->getResults()) {
      plain |= static_cast<bool>(cotangents.get(result));
      log |= static_cast<bool>(cotangents.getLog(result));
    }
    if (!plain && !log)
      continue;
    auto rule = dyn_cast<AdjointInterface>(op);
    if (!rule) {
      op->emitError() << "'" << op->getName()
                      << "' has no rule for its gradient";
      function.erase();
      return failure();
    }
    cotangents.setOperation(op);
    if (plain)
      rule.buildAdjoint(cotangents);
    if (log)
      rule.buildLogAdjoint(cotangents);
  }
  finish(cotangents);
  return function;
}

/// The forward program without outs: from a chunk's inputs and the state at its
/// start to the state at its end.
static func::FuncOp createStates(func::FuncOp forward) {
  func::FuncOp states = forward.clone();
  states.setSymName((forward.getSymName() + kStatesSuffix).str());
  states.setPrivate();
  Operation *terminator = states.front().getTerminator();
  while (terminator->getNumOperands() > 1)
    terminator->eraseOperand(terminator->getNumOperands() - 1);
  states.removeResAttrsAttr();
  states.setFunctionType(FunctionType::get(states.getContext(),
                                           states.getArgumentTypes(),
                                           terminator->getOperandTypes()));
  return states;
}

/// (a x) p and (a x + b y) p where a p, b p are there: (a p) x + (b p) y. The
/// rules multiply a product's cotangent by each factor, and that of a running
/// product p by p once more.
static void reuseProducts(func::FuncOp function) {
  auto findProduct = [](Value a, Value p, Operation *before) -> Value {
    for (Operation *user : a.getUsers())
      if (auto product = dyn_cast<arith::MulFOp>(user))
        if ((product.getLhs() == a && product.getRhs() == p) ||
            (product.getRhs() == a && product.getLhs() == p))
          if (product->isBeforeInBlock(before))
            return product;
    return {};
  };
  OpBuilder b(function.getContext());
  // Nothing is created before all of it is found.
  struct Part {
    Value scaled, rest;
  };
  for (auto product :
       llvm::make_early_inc_range(function.getOps<arith::MulFOp>())) {
    for (auto [sum, p] : {std::make_pair(product.getLhs(), product.getRhs()),
                          std::make_pair(product.getRhs(), product.getLhs())}) {
      SmallVector<Value> terms{sum};
      if (auto add = sum.getDefiningOp<arith::AddFOp>())
        terms = {add.getLhs(), add.getRhs()};
      SmallVector<Part> parts;
      if (!sum.hasOneUse())
        continue;
      for (Value term : terms) {
        auto inner = term.getDefiningOp<arith::MulFOp>();
        if (!inner || !term.hasOneUse())
          break;
        for (auto [a, x] : {std::make_pair(inner.getLhs(), inner.getRhs()),
                            std::make_pair(inner.getRhs(), inner.getLhs())})
          if (Value scaled = findProduct(a, p, product);
              scaled && scaled != product.getResult()) {
            parts.push_back({scaled, x});
            break;
          }
      }
      if (parts.size() != terms.size())
        continue;
      b.setInsertionPoint(product);
      Value result;
      for (const Part &part : parts) {
        Value term =
            arith::MulFOp::create(b, product.getLoc(), part.scaled, part.rest);
        result = result ? Value(arith::AddFOp::create(b, product.getLoc(),
                                                      result, term))
                        : term;
      }
      product.replaceAllUsesWith(result);
      product.erase();
      break;
    }
  }
}

LogicalResult mlir::delta::differentiate(ModuleOp module,
                                         const DifferentiateOptions &options) {
  FailureOr<func::FuncOp> forward = getForwardProgram(module);
  if (failed(forward) || failed(checkSaveEvery(module, options.saveEvery)))
    return failure();
  SignatureAttr signature = getSignature(module);
  if (!signature.getArgs(ArgKind::Checkpoint).empty())
    return module.emitError(
        "expects a forward program that does not save its states");
  FailureOr<SignatureAttr> backward =
      makeBackwardSignature(module, signature, options.saveEvery);
  if (failed(backward))
    return failure();
  func::FuncOp states;
  if (options.saveEvery > 1)
    states = createStates(*forward);
  moveScalarFactors(*forward);
  BackwardBuilder builder(*forward, signature, *backward);
  FailureOr<func::FuncOp> function = builder.run();
  if (failed(function)) {
    if (states)
      states.erase();
    return failure();
  }
  forward->erase();
  if (states)
    module.push_back(states);
  setSignature(module, *backward);
  IRRewriter rewriter(module.getContext());
  DominanceInfo dominance;
  eliminateCommonSubExpressions(rewriter, dominance, module);
  reuseProducts(*function);
  for (auto program : module.getOps<func::FuncOp>())
    for (Operation &op :
         llvm::make_early_inc_range(llvm::reverse(program.front())))
      if (isOpTriviallyDead(&op))
        op.erase();
  return success();
}

namespace {

struct Differentiate : delta::impl::DeltaDifferentiateBase<Differentiate> {
  using Base::Base;
  void runOnOperation() override {
    DifferentiateOptions options;
    options.saveEvery = saveEvery;
    if (failed(differentiate(getOperation(), options)))
      signalPassFailure();
  }
};

struct SaveStates : delta::impl::DeltaSaveStatesBase<SaveStates> {
  using Base::Base;
  void runOnOperation() override {
    if (failed(saveStates(getOperation(), every)))
      signalPassFailure();
  }
};

} // namespace
