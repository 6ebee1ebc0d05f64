//===- DecodeMap.cpp - The recurrent form on the CPU ----------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Builds the kernel that runs token by token. For a panel of columns, with M
// the state before a token, z its reads, and (d, y, c) its update:
//
//   z = reads of token 0 from the initial state     (and copy it to the arena)
//   for t in 0 .. T-2:
//     c, outs = columns(z)                          (registers)
//     M, z = d .* M + y c^T, M^T x of token t+1     (one pass)
//   c, outs = columns(z)
//   final = d .* M + y c^T
//
// With one token and both states given, the arena is left out: the state is
// read once from memory, once from the cache, and written once. A state larger
// than the caches is stored past them.
//
// Test: test/Target/CPU/decode-map.mlir, decode-map-errors.mlir; numerics:
// test/python/test_decode.py.
//
//===----------------------------------------------------------------------===//

#include "DecodeMapper.h"
#include "delta/Target/CPU/Decode.h"
#include "delta/Target/CPU/Passes.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/Dominance.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/Transforms/CSE.h"

#define DEBUG_TYPE "delta-decode-map"

namespace mlir::delta {
#define GEN_PASS_DEF_DECODEMAP
#include "delta/Target/CPU/Passes.h.inc"
} // namespace mlir::delta

using namespace mlir;
using namespace mlir::delta;

/// States of a call above this many bytes are stored past the caches: they
/// would only push out what is still needed. About what a core has for itself.
static constexpr int64_t kStreamingBytes = 8 << 20;

//===----------------------------------------------------------------------===//
// Tokens, panels, items
//===----------------------------------------------------------------------===//

void DecodeMapper::emitTokens(const Panel &init, const Panel &final,
                              const Panel &arena) {
  using P = arith::CmpIPredicate;
  Value zero = values.index(0), one = values.index(1);
  Value direct =
      land(cmp(P::eq, args.T, one), land(args.hasInit, args.hasFinal));

  Scalars scalars = values.emitToken(zero);
  SmallVector<Type> types;
  for (unsigned read = 0; read < plan.reads.size(); ++read)
    for (Slice slice : slices)
      types.push_back(values.vectorOf(slice.width));
  SmallVector<Value> first = emitIf(
      args.hasInit, types,
      [&]() {
        return emitIf(
            direct, types,
            [&]() {
              Pass pass;
              pass.from = &init;
              pass.readToken = zero;
              return plan.reads.empty() ? SmallVector<Value>()
                                        : flatten(emitPass(pass), nullptr);
            },
            [&]() {
              Pass pass;
              pass.from = &init;
              pass.to = &arena;
              pass.readToken = zero;
              return flatten(emitPass(pass), nullptr);
            });
      },
      [&]() {
        Pass pass;
        pass.to = &arena;
        emitPass(pass);
        SmallVector<Value> zeros;
        for (Type type : types)
          zeros.push_back(arith::ConstantOp::create(b, b.getZeroAttr(type)));
        return zeros;
      });

  // All tokens but the last: the update does the next token's reads.
  Value last = arith::SubIOp::create(b, args.T, one);
  SmallVector<Value> carried = flatten(unflattenReads(first), &scalars);
  auto loop = scf::ForOp::create(b, zero, last, one, carried);
  {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(loop.getBody());
    Value token = loop.getInductionVar(), next = values.add(token, one);
    ValueRange flat = loop.getRegionIterArgs();
    Scalars now = unflattenScalars(flat, scalars);
    SmallVector<Columns> coefficients =
        emitColumns(token, unflattenReads(flat), now);
    Scalars nextScalars = values.emitToken(next);
    Pass pass;
    pass.from = pass.to = &arena;
    pass.updateToken = token;
    pass.scalars = &now;
    pass.coefficients = coefficients;
    pass.readToken = next;
    SmallVector<Value> results = flatten(emitPass(pass), &nextScalars);
    if (!results.empty())
      scf::YieldOp::create(b, results);
  }

  Scalars now = unflattenScalars(loop.getResults(), scalars);
  SmallVector<Columns> coefficients =
      emitColumns(last, unflattenReads(loop.getResults()), now);
  emitIf(args.hasFinal, [&]() {
    Pass pass;
    pass.to = &final;
    pass.updateToken = last;
    pass.scalars = &now;
    pass.coefficients = coefficients;
    emitIf(
        direct,
        [&] {
          pass.from = &init;
          emitFinalPass(pass);
        },
        [&] {
          pass.from = &arena;
          emitFinalPass(pass);
        });
  });
}

void DecodeMapper::emitNoTokens(const Panel &init, const Panel &final) {
  emitIf(args.hasFinal, [&]() {
    emitIf(
        args.hasInit,
        [&] {
          Pass pass;
          pass.from = &init;
          pass.to = &final;
          emitPass(pass);
        },
        [&] {
          Pass pass;
          pass.to = &final;
          emitPass(pass);
        });
  });
}

/// One panel of `width` columns; `state` is the offset of the head's state.
void DecodeMapper::emitPanel(Value state, Value firstColumn, int64_t width) {
  slices.clear();
  for (int64_t offset = 0; offset < width; offset += plan.lanes)
    slices.push_back({offset, std::min<int64_t>(plan.lanes, width - offset)});
  column = firstColumn;
  Value base = values.add(state, firstColumn);
  Panel init = {args.init, base, plan.columns};
  Panel final = {args.final, base, plan.columns};
  Panel arena = {values.view(0, plan.rows * width), values.index(0), width};
  emitIf(
      cmp(arith::CmpIPredicate::sgt, args.T, values.index(0)),
      [&] { emitTokens(init, final, arena); },
      [&] { emitNoTokens(init, final); });
}

void DecodeMapper::emitItem(Value item) {
  using P = arith::CmpIPredicate;
  // item = (sequence * H + head) * vblocks + block
  Value pair = arith::DivUIOp::create(b, item, args.vblocks);
  Value block = arith::RemUIOp::create(b, item, args.vblocks);
  Value sequence = arith::DivUIOp::create(b, pair, args.H);
  Value head = arith::RemUIOp::create(b, pair, args.H);
  Value state = values.mul(pair, plan.rows * plan.columns);
  auto split = [&](Value block) {
    return arith::DivUIOp::create(b, values.mul(block, plan.panels),
                                  args.vblocks);
  };
  Value from = split(block), to = split(values.add(block, values.index(1)));
  auto start = [&](Value panel) {
    values.startItem(sequence, head, cmp(P::eq, panel, values.index(0)));
    return values.mul(panel, plan.panelColumns);
  };
  int64_t whole = plan.columns / plan.panelColumns;
  int64_t rest = plan.columns % plan.panelColumns;

  // Several whole panels at once, as long as there are enough.
  int64_t group = plan.wideColumns / plan.panelColumns;
  if (group > 1) {
    Value wholeTo = arith::MinUIOp::create(b, to, values.index(whole));
    // A block may hold nothing but the last, partial panel.
    wholeTo = arith::MaxUIOp::create(b, wholeTo, from);
    Value groups = arith::DivUIOp::create(
        b, arith::SubIOp::create(b, wholeTo, from), values.index(group));
    emitFor(values.index(0), groups, [&](Value index) {
      Value panel = values.add(from, values.mul(index, group));
      emitPanel(state, start(panel), plan.wideColumns);
    });
    from = values.add(from, values.mul(groups, group));
  }
  // What is left, and the blocks of few panels.
  emitFor(from, to, [&](Value panel) {
    Value firstColumn = start(panel);
    if (rest == 0) {
      emitPanel(state, firstColumn, plan.panelColumns);
      return;
    }
    emitIf(
        cmp(P::ult, panel, values.index(whole)),
        [&] { emitPanel(state, firstColumn, plan.panelColumns); },
        [&] { emitPanel(state, firstColumn, rest); });
  });
}

//===----------------------------------------------------------------------===//
// The kernel
//===----------------------------------------------------------------------===//

func::FuncOp DecodeMapper::createFunction() {
  const SignatureAttr &signature = plan.signature;
  auto array = [](Type element) -> Type {
    return MemRefType::get({ShapedType::kDynamic}, element);
  };
  Type index = b.getIndexType(), i1 = b.getI1Type();
  SmallVector<Type> types;
  for (ArgAttr arg : signature.getAllArgs())
    if (arg.getKind() == ArgKind::In || arg.getKind() == ArgKind::Param)
      types.push_back(array(arg.getType()));
  Type state = array(signature.getState().getType());
  types.push_back(state);
  for (ArgAttr arg : signature.getArgs(ArgKind::Out))
    types.push_back(array(arg.getType()));
  types.push_back(state);
  types.append(signature.getArgs(ArgKind::Attr).size(), b.getF64Type());
  types.append(
      {index, index, index, i1, i1, array(b.getI8Type()), index, index, index});

  b.setInsertionPointToEnd(module.getBody());
  auto function = func::FuncOp::create(
      b, RecurrenceOp(plan.events).getSymName(), b.getFunctionType(types, {}));
  function->setAttr("delta.workspace", b.getI64IntegerAttr(plan.workspace));
  function->setAttr("delta.panels", b.getI64IntegerAttr(plan.panels));
  Block *body = function.addEntryBlock();
  b.setInsertionPointToStart(body);

  Block *events = RecurrenceOp(plan.events).getBodyBlock();
  auto takeInputs = [&](bool attrs, unsigned next) {
    for (BlockArgument arg : events->getArguments()) {
      ArgKind kind = plan.getArg(arg).getKind();
      if (kind != ArgKind::State && (kind == ArgKind::Attr) == attrs)
        args.inputs[arg] = body->getArgument(next++);
    }
    return next;
  };
  unsigned next = takeInputs(/*attrs=*/false, 0);
  args.init = body->getArgument(next++);
  for (unsigned out = 0; out < signature.getArgs(ArgKind::Out).size(); ++out)
    args.outs.push_back(body->getArgument(next++));
  args.final = body->getArgument(next++);
  next = takeInputs(/*attrs=*/true, next);
  for (Value *value : {&args.B, &args.T, &args.H, &args.hasInit, &args.hasFinal,
                       &args.arena, &args.begin, &args.end, &args.vblocks})
    *value = body->getArgument(next++);
  return function;
}

func::FuncOp DecodeMapper::build() {
  using P = arith::CmpIPredicate;
  func::FuncOp function = createFunction();
  // Large, aligned, and not in place: lines that were just read are in the
  // cache anyway.
  Type element = plan.signature.getState().getType();
  int64_t bytes = element.getIntOrFloatBitWidth() / 8;
  Value size = values.mul(arith::MulIOp::create(b, args.B, args.H),
                          plan.rows * plan.columns * bytes);
  Value address = memref::ExtractAlignedPointerAsIndexOp::create(b, args.final);
  Value source = memref::ExtractAlignedPointerAsIndexOp::create(b, args.init);
  Value low =
      arith::AndIOp::create(b, address, values.index(plan.lanes * bytes - 1));
  streaming =
      land(cmp(P::sgt, size, values.index(kStreamingBytes)),
           land(cmp(P::eq, low, values.index(0)), cmp(P::ne, address, source)));
  emitFor(args.begin, args.end, [&](Value item) { emitItem(item); });
  func::ReturnOp::create(b);
  return function;
}

LogicalResult mlir::delta::convertEventsToDecode(
    ModuleOp module, const ::delta::cpu::CpuTarget &target, StringRef compute) {
  std::optional<Stage> stage = getStage(module);
  RecurrenceOp events = getRecurrence(module);
  if (stage != Stage::Events || !events)
    return module.emitError()
           << "expects a module of stage events, but got "
           << (stage ? stringifyStage(*stage) : "one without a stage");
  if (!compute.empty() && compute != "f32" && compute != "f64")
    return module.emitError()
           << "expects to compute in f32 or f64, but got '" << compute << "'";
  if (failed(hoistReads(events)))
    return failure();
  FailureOr<DecodePlan> plan = planDecode(module, target, compute);
  if (failed(plan))
    return failure();
  func::FuncOp function = DecodeMapper(*plan, module).build();

  Builder builder(module.getContext());
  SignatureAttr signature = plan->signature;
  signature = signature.withOption("fn", builder.getStringAttr("decode"));
  signature = signature.withOption("target", builder.getStringAttr("cpu"));
  compute = plan->computeType.isF64() ? "f64" : "f32";
  signature = signature.withOption("compute", builder.getStringAttr(compute));
  events.erase();
  setSignature(module, signature);
  setStage(module, Stage::Mapped);

  IRRewriter rewriter(module.getContext());
  DominanceInfo dominance(function);
  eliminateCommonSubExpressions(rewriter, dominance, function);
  return success();
}

namespace {
struct DecodeMapPass : mlir::delta::impl::DecodeMapBase<DecodeMapPass> {
  using DecodeMapBase::DecodeMapBase;
  void runOnOperation() override {
    llvm::Expected<::delta::cpu::CpuTarget> target =
        ::delta::cpu::CpuTarget::get(targetCpu);
    if (!target) {
      getOperation().emitError() << llvm::toString(target.takeError());
      return signalPassFailure();
    }
    if (failed(convertEventsToDecode(getOperation(), *target, compute)))
      signalPassFailure();
  }
};
} // namespace
