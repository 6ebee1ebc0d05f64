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

#include "DecodePlan.h"
#include "DecodeValues.h"
#include "delta/Target/CPU/Decode.h"
#include "delta/Target/CPU/Passes.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
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

namespace {

/// A state's panel in memory: row i starts at memref[base + i * stride].
struct Panel {
  Value memref, base;
  int64_t stride;
};

class DecodeMapper {
public:
  DecodeMapper(const DecodePlan &plan, ModuleOp module)
      : plan(plan), module(module),
        b(plan.events->getLoc(), module.getContext()), values(plan, b, args) {}

  func::FuncOp build();

private:
  /// A slice of the panel's columns that one vector register holds.
  struct Slice {
    int64_t offset, width;
  };
  /// Vectors, one a slice.
  using Columns = SmallVector<Value>;

  func::FuncOp createFunction();
  void emitItem(Value item);
  void emitPanel(Value state, Value column, int64_t width);
  void emitTokens(const Panel &init, const Panel &final, const Panel &arena);
  void emitNoTokens(const Panel &init, const Panel &final);
  /// Coefficients of the writes; stores the outs over columns.
  SmallVector<Columns> emitColumns(Value token, ArrayRef<Columns> reads,
                                   const Scalars &scalars);

  /// What one pass over the panel does.
  struct Pass {
    const Panel *from = nullptr; // null: the state is zero
    const Panel *to = nullptr;   // null: it is not stored
    bool streaming = false;
    Value updateToken; // null: no update
    const Scalars *scalars = nullptr;
    ArrayRef<Columns> coefficients;
    Value readToken; // null: no reads
  };
  SmallVector<Columns> emitPass(const Pass &pass);
  /// A pass into the final state, past the caches where that pays.
  void emitFinalPass(Pass pass);

  // Values that structured control flow carries.
  SmallVector<Value> flatten(ArrayRef<Columns> reads, const Scalars *scalars);
  SmallVector<Columns> unflattenReads(ValueRange flat);
  Scalars unflattenScalars(ValueRange flat, const Scalars &like);

  Value cmp(arith::CmpIPredicate predicate, Value x, Value y) {
    return arith::CmpIOp::create(b, predicate, x, y);
  }
  Value land(Value x, Value y) { return arith::AndIOp::create(b, x, y); }
  /// if (condition) thenBody else elseBody, both returning values of `types`.
  SmallVector<Value> emitIf(Value condition, TypeRange types,
                            function_ref<SmallVector<Value>()> thenBody,
                            function_ref<SmallVector<Value>()> elseBody);
  void emitIf(Value condition, function_ref<void()> body);
  void emitFor(Value from, Value to, function_ref<void(Value)> body);

  const DecodePlan &plan;
  ModuleOp module;
  ImplicitLocOpBuilder b;
  KernelArgs args;
  DecodeValues values;
  Value streaming; // i1: store the final state past the caches
  Value column;    // first column of the panel
  SmallVector<Slice> slices;
};

} // namespace

//===----------------------------------------------------------------------===//
// Control flow
//===----------------------------------------------------------------------===//

SmallVector<Value>
DecodeMapper::emitIf(Value condition, TypeRange types,
                     function_ref<SmallVector<Value>()> thenBody,
                     function_ref<SmallVector<Value>()> elseBody) {
  auto op = scf::IfOp::create(b, types, condition, /*withElseRegion=*/true);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(op.thenBlock());
  SmallVector<Value> results = thenBody();
  if (!types.empty())
    scf::YieldOp::create(b, results);
  b.setInsertionPointToStart(op.elseBlock());
  results = elseBody();
  if (!types.empty())
    scf::YieldOp::create(b, results);
  return llvm::to_vector_of<Value>(op.getResults());
}

void DecodeMapper::emitIf(Value condition, function_ref<void()> body) {
  auto op = scf::IfOp::create(b, condition, /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(op.thenBlock());
  body();
}

void DecodeMapper::emitFor(Value from, Value to,
                           function_ref<void(Value)> body) {
  auto op = scf::ForOp::create(b, from, to, values.index(1));
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(op.getBody());
  body(op.getInductionVar());
}

SmallVector<Value> DecodeMapper::flatten(ArrayRef<Columns> reads,
                                         const Scalars *scalars) {
  SmallVector<Value> flat;
  for (const Columns &read : reads)
    flat.append(read.begin(), read.end());
  if (scalars)
    for (Value value : plan.carried)
      flat.push_back(scalars->lookup(value));
  return flat;
}

SmallVector<DecodeMapper::Columns>
DecodeMapper::unflattenReads(ValueRange flat) {
  SmallVector<Columns> reads;
  for (unsigned read = 0; read < plan.reads.size(); ++read)
    reads.push_back(llvm::to_vector_of<Value>(
        flat.slice(read * slices.size(), slices.size())));
  return reads;
}

Scalars DecodeMapper::unflattenScalars(ValueRange flat, const Scalars &like) {
  Scalars scalars = like;
  ValueRange tail = flat.take_back(plan.carried.size());
  for (auto [value, carried] : llvm::zip(plan.carried, tail))
    scalars[value] = carried;
  return scalars;
}

//===----------------------------------------------------------------------===//
// Passes over the panel
//===----------------------------------------------------------------------===//

SmallVector<DecodeMapper::Columns> DecodeMapper::emitPass(const Pass &pass) {
  unsigned numReads = pass.readToken ? plan.reads.size() : 0;
  SmallVector<Value> zeros;
  for (unsigned read = 0; read < numReads; ++read)
    for (Slice slice : slices)
      zeros.push_back(arith::ConstantOp::create(
          b, b.getZeroAttr(values.vectorOf(slice.width))));

  // The rows' factors, by where they lie.
  SmallVector<ArraySlice> reads, writes;
  std::optional<ArraySlice> decay;
  Value scalarDecay;
  if (pass.readToken)
    for (ReadOp read : plan.reads)
      reads.push_back(values.getRows(read.getX(), pass.readToken));
  if (pass.updateToken) {
    for (WriteOp write : plan.writes)
      writes.push_back(values.getRows(write.getY(), pass.updateToken));
    if (plan.decay && isa<FloatType>(plan.decay.getType()))
      scalarDecay = pass.scalars->lookup(plan.decay);
    else if (plan.decay)
      decay = values.getRows(plan.decay, pass.updateToken);
  }

  auto loop = scf::ForOp::create(b, values.index(0), values.index(plan.rows),
                                 values.index(1), zeros);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(loop.getBody());
  Value row = loop.getInductionVar();
  auto factor = [&](const ArraySlice &rows) {
    return values.loadScalar(rows.memref, values.add(rows.base, row));
  };
  if (decay)
    scalarDecay = factor(*decay);
  SmallVector<Value> writeFactors, readFactors;
  for (const ArraySlice &rows : writes)
    writeFactors.push_back(factor(rows));
  for (const ArraySlice &rows : reads)
    readFactors.push_back(factor(rows));

  auto at = [&](const Panel &panel, int64_t offset) {
    Value start = values.add(panel.base, values.mul(row, panel.stride));
    return values.add(start, values.index(offset));
  };
  SmallVector<Value> sums(loop.getRegionIterArgs().begin(),
                          loop.getRegionIterArgs().end());
  for (auto [position, slice] : llvm::enumerate(slices)) {
    Value m;
    if (pass.from)
      m = values.load(pass.from->memref, at(*pass.from, slice.offset),
                      slice.width);
    else
      m = arith::ConstantOp::create(
          b, b.getZeroAttr(values.vectorOf(slice.width)));
    if (scalarDecay)
      m = arith::MulFOp::create(b, m,
                                values.broadcast(scalarDecay, slice.width));
    for (auto [index, y] : llvm::enumerate(writeFactors))
      m = math::FmaOp::create(b, values.broadcast(y, slice.width),
                              pass.coefficients[index][position], m);
    if (pass.to)
      values.store(m, pass.to->memref, at(*pass.to, slice.offset),
                   pass.streaming);
    for (auto [index, x] : llvm::enumerate(readFactors)) {
      Value &sum = sums[index * slices.size() + position];
      sum = math::FmaOp::create(b, values.broadcast(x, slice.width), m, sum);
    }
  }
  if (!sums.empty())
    scf::YieldOp::create(b, sums);
  if (!pass.readToken)
    return {};
  return unflattenReads(loop.getResults());
}

void DecodeMapper::emitFinalPass(Pass pass) {
  // Streaming stores need vectors that never straddle their own alignment, and
  // pay only in long pieces.
  int64_t width = slices.back().offset + slices.back().width;
  if (plan.columns % plan.lanes != 0 || width < plan.wideColumns) {
    emitPass(pass);
    return;
  }
  emitIf(
      streaming, {},
      [&]() -> SmallVector<Value> {
        pass.streaming = true;
        emitPass(pass);
        return {};
      },
      [&]() -> SmallVector<Value> {
        pass.streaming = false;
        emitPass(pass);
        return {};
      });
}

SmallVector<DecodeMapper::Columns>
DecodeMapper::emitColumns(Value token, ArrayRef<Columns> reads,
                          const Scalars &scalars) {
  SmallVector<Columns> coefficients(plan.writes.size());
  ValueRange outs = RecurrenceOp(plan.events).getYield().getValues();
  for (auto [position, slice] : llvm::enumerate(slices)) {
    DenseMap<Value, Value> memo;
    for (auto [index, read] : llvm::enumerate(plan.reads))
      memo[ReadOp(read).getResult()] = reads[index][position];
    Value first = values.add(column, values.index(slice.offset));
    auto get = [&](Value vector) {
      return values.evaluate(vector, first, slice.width, token, scalars, memo,
                             /*level=*/-1);
    };
    for (auto [index, write] : llvm::enumerate(plan.writes))
      coefficients[index].push_back(get(WriteOp(write).getC()));
    for (unsigned out : plan.columnOuts) {
      Value at = values.add(values.getOutOffset(out, token), first);
      values.store(get(outs[out + 1]), args.outs[out], at);
    }
  }
  return coefficients;
}

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
        direct, {},
        [&]() -> SmallVector<Value> {
          pass.from = &init;
          emitFinalPass(pass);
          return {};
        },
        [&]() -> SmallVector<Value> {
          pass.from = &arena;
          emitFinalPass(pass);
          return {};
        });
  });
}

void DecodeMapper::emitNoTokens(const Panel &init, const Panel &final) {
  emitIf(args.hasFinal, [&]() {
    emitIf(
        args.hasInit, {},
        [&]() -> SmallVector<Value> {
          Pass pass;
          pass.from = &init;
          pass.to = &final;
          emitPass(pass);
          return {};
        },
        [&]() -> SmallVector<Value> {
          Pass pass;
          pass.to = &final;
          emitPass(pass);
          return {};
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
      cmp(arith::CmpIPredicate::sgt, args.T, values.index(0)), {},
      [&]() -> SmallVector<Value> {
        emitTokens(init, final, arena);
        return {};
      },
      [&]() -> SmallVector<Value> {
        emitNoTokens(init, final);
        return {};
      });
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
        cmp(P::ult, panel, values.index(whole)), {},
        [&]() -> SmallVector<Value> {
          emitPanel(state, firstColumn, plan.panelColumns);
          return {};
        },
        [&]() -> SmallVector<Value> {
          emitPanel(state, firstColumn, rest);
          return {};
        });
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
