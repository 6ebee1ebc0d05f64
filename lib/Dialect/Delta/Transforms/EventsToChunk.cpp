//===- EventsToChunk.cpp - The chunk program from the events --------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// One rule for every recurrence (chunk_math 2.1). With D decays a token, w the
// token's whole decay and E_l the coefficients of write l:
//
//   G_il[t,u] = sum_d x_i[t,d] y_l[u,d] * (decays between u's write and t's read)
//   z_i  = (x_i .* prefix) S + sum_l G_il E_l
//   E_j  = c_j + sum_i alpha_ji z_i             (a triangular system)
//   S'   = (prod w) S + sum_l (y_l .* suffix)^T E_l
//
// Test: test/Dialect/Delta/Transforms/chunk.mlir
//
//===----------------------------------------------------------------------===//

#include "TokenLifting.h"
#include "delta/Analysis/EventChain.h"
#include "delta/Analysis/LinearForm.h"
#include "delta/Analysis/RangeAnalysis.h"
#include "delta/Dialect/Delta/Transforms/Passes.h"
#include "delta/Dialect/Delta/Transforms/Transforms.h"
#include "delta/Dialect/Delta/Transforms/VectorBuilder.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Dominance.h"
#include "mlir/Transforms/CSE.h"

#define DEBUG_TYPE "delta-chunk"

namespace mlir::delta {
#define GEN_PASS_DEF_DELTACHUNK
#include "delta/Dialect/Delta/Transforms/Passes.h.inc"
} // namespace mlir::delta

using namespace mlir;
using namespace mlir::delta;

/// Nats that one factor anchored at a leaf's start may span in f32.
static constexpr double kAnchoredNats = 64.0;
/// Largest leaf whose pairs are evaluated by running products.
static constexpr int64_t kExactLeaf = 16;

namespace {

enum class DecayKind { None, Scalar, Vector };

class ChunkBuilder {
public:
  ChunkBuilder(SignatureAttr signature, RecurrenceOp events, EventChain chain,
               int64_t tokens, FloatType compute, func::FuncOp function)
      : events(events), chain(std::move(chain)), tokens(tokens),
        compute(compute), builder(OpBuilder::atBlockEnd(&function.front())),
        vectors(builder), lifting(builder, tokens, compute, signature),
        function(function), loc(events.getLoc()) {
    kind = this->chain.decays.empty()        ? DecayKind::None
           : this->chain.hasScalarDecay()    ? DecayKind::Scalar
                                             : DecayKind::Vector;
  }

  LogicalResult run();

private:
  struct Row { // a read
    Value x;   // C x A, masked, premultiplied by earlier decays where needed
    Value bare;
    Position position = Position::After;
    bool premultiplied = false;
  };
  struct Column { // a write
    Value y;
    Value bare;
    Position position = Position::After;
    bool premultiplied = false;
    Value coefficient; // C x B: c for an external write, E once solved
  };

  void bindArguments();
  LogicalResult liftDecays();
  LogicalResult liftReads();
  LogicalResult liftWrites();
  void buildGrams();
  void buildStateReads();
  LogicalResult solve();
  Value readValue(unsigned read);
  Value updateState();

  Value masked(Value value, double identity) {
    return IdentityRowsOp::create(builder, loc, value.getType(), value, valid,
                                  builder.getF64FloatAttr(identity));
  }
  Type matrixType(int64_t rows, int64_t columns) {
    return RankedTensorType::get({rows, columns}, compute);
  }
  /// Product of the lifted decays [begin, end) of a token; null if empty.
  Value decayProduct(unsigned begin, unsigned end) {
    Value product;
    for (unsigned l = begin; l < end; ++l)
      product = vectors.mul(loc, product, decays[l]);
    return product;
  }
  bool sameTokenVisible(unsigned read, unsigned write) {
    return write < chain.reads[read].writes;
  }
  Value &gram(unsigned read, unsigned write) {
    return grams[read * chain.writes.size() + write];
  }

  RecurrenceOp events;
  EventChain chain;
  int64_t tokens;
  FloatType compute;
  OpBuilder builder;
  VectorBuilder vectors;
  TokenLifting lifting;
  func::FuncOp function;
  Location loc;
  DecayKind kind;

  Value state, valid;
  SmallVector<Value> decays; // lifted, masked: C or C x A
  Value decay;               // the token's whole decay
  SmallVector<Row> rows;
  SmallVector<Column> columns;
  SmallVector<LinearForm> forms; // of the feedback writes
  SmallVector<Value> grams;
  SmallVector<Value> stateReads; // of every read: its part from S and externals
};

} // namespace

//===----------------------------------------------------------------------===//
// Per-token values
//===----------------------------------------------------------------------===//

LogicalResult ChunkBuilder::liftDecays() {
  for (DecayOp op : chain.decays) {
    FailureOr<Value> w = lifting.lift(op.getW());
    if (failed(w))
      return failure();
    bool vector = isa<RankedTensorType>(op.getW().getType());
    Value value = lifting.toTokens(*w, op.getW().getType());
    // Mixed kinds: everything becomes a vector over the rows.
    if (kind == DecayKind::Vector && !vector)
      value = vectors.broadcast(
          loc, value,
          matrixType(tokens, cast<RankedTensorType>(state.getType()).getDimSize(0)));
    decays.push_back(masked(value, 1.0));
  }
  decay = decayProduct(0, decays.size());
  return success();
}

LogicalResult ChunkBuilder::liftReads() {
  unsigned last = decays.size();
  for (EventChain::Read &read : chain.reads) {
    FailureOr<Value> x = lifting.lift(read.op.getX());
    if (failed(x))
      return failure();
    Row row;
    row.bare = row.x = masked(lifting.toTokens(*x, read.op.getX().getType()), 0.0);
    if (read.decays < last) {
      row.position = Position::Before;
      // A read between two decays sees the earlier ones of its token.
      if (read.decays > 0) {
        row.x = vectors.mul(loc, row.x, decayProduct(0, read.decays));
        row.premultiplied = true;
      }
    }
    rows.push_back(row);
  }
  return success();
}

LogicalResult ChunkBuilder::liftWrites() {
  unsigned last = decays.size();
  for (EventChain::Write &write : chain.writes) {
    FailureOr<Value> y = lifting.lift(write.op.getY());
    if (failed(y))
      return failure();
    Column column;
    column.bare = column.y =
        masked(lifting.toTokens(*y, write.op.getY().getType()), 0.0);
    if (write.decays < last) {
      if (write.decays == 0) {
        column.position = Position::Before;
      } else {
        column.y = vectors.mul(loc, column.y, decayProduct(write.decays, last));
        column.premultiplied = true;
      }
    }
    if (!write.feedback) {
      FailureOr<Value> c = lifting.lift(write.op.getC());
      if (failed(c))
        return failure();
      column.coefficient =
          masked(lifting.toTokens(*c, write.op.getC().getType()), 0.0);
    }
    columns.push_back(column);
  }
  return success();
}

//===----------------------------------------------------------------------===//
// The chunk's algebra
//===----------------------------------------------------------------------===//

void ChunkBuilder::buildGrams() {
  unsigned numReads = rows.size(), numWrites = columns.size();
  grams.assign(numReads * numWrites, Value());
  if (!numReads || !numWrites)
    return;
  Type square = matrixType(tokens, tokens);
  // Beside a premultiplied event the diagonal is no product of whole decays.
  auto separateDiagonal = [&](unsigned i, unsigned j) {
    return sameTokenVisible(i, j) &&
           (rows[i].premultiplied || columns[j].premultiplied);
  };
  auto diagonal = [&](unsigned i, unsigned j) {
    return sameTokenVisible(i, j) && !separateDiagonal(i, j);
  };
  if (kind == DecayKind::Vector) {
    SmallVector<Value> xs, ys;
    SmallVector<int32_t> rowPositions, colPositions;
    SmallVector<StringRef> masks;
    for (Row &row : rows) {
      xs.push_back(row.x);
      rowPositions.push_back(static_cast<int32_t>(row.position));
    }
    for (Column &column : columns) {
      ys.push_back(column.y);
      colPositions.push_back(static_cast<int32_t>(column.position));
    }
    for (unsigned i = 0; i < numReads; ++i)
      for (unsigned j = 0; j < numWrites; ++j)
        masks.push_back(diagonal(i, j) ? "diagonal" : "strict");
    int64_t leaf = std::min(tokens, kExactLeaf);
    DecayScheme scheme = DecayScheme::Exact;
    // A declared bound that covers a leaf saves the running products in it.
    if (std::optional<double> bound = boundLogDecay(events)) {
      int64_t proved = tokens;
      while (proved >= kExactLeaf && *bound * proved > kAnchoredNats)
        proved = proved % 2 ? 0 : proved / 2;
      if (proved >= kExactLeaf) {
        leaf = proved;
        scheme = DecayScheme::Anchored;
      }
    }
    auto op = DecayGramOp::create(
        builder, loc, SmallVector<Type>(numReads * numWrites, square), xs, ys,
        decay, rowPositions, colPositions, builder.getStrArrayAttr(masks), leaf,
        scheme);
    llvm::copy(op.getGrams(), grams.begin());
  } else {
    for (unsigned i = 0; i < numReads; ++i)
      for (unsigned j = 0; j < numWrites; ++j) {
        Value product =
            MatmulOp::create(builder, loc, square, rows[i].x, columns[j].y,
                             Value(), false, true, false);
        if (kind == DecayKind::Scalar)
          product = vectors.mul(
              loc, product,
              DecayMaskOp::create(builder, loc, square, decay, rows[i].position,
                                  columns[j].position, diagonal(i, j)));
        gram(i, j) = CausalMaskOp::create(builder, loc, square, product,
                                          diagonal(i, j));
      }
  }
  for (unsigned i = 0; i < numReads; ++i)
    for (unsigned j = 0; j < numWrites; ++j)
      if (separateDiagonal(i, j)) {
        Value between = decayProduct(chain.writes[j].decays, chain.reads[i].decays);
        Value x = rows[i].bare;
        if (between)
          x = vectors.mul(loc, x, between);
        gram(i, j) = SetDiagonalOp::create(builder, loc, square, gram(i, j),
                                           vectors.dot(loc, x, columns[j].bare));
      }
}

/// For every read the part that comes from the state and from external writes.
void ChunkBuilder::buildStateReads() {
  for (auto [i, row] : llvm::enumerate(rows)) {
    Type type = matrixType(tokens, cast<RankedTensorType>(state.getType()).getDimSize(1));
    Value x = row.x, prefix;
    if (decay)
      prefix = PrefixProductOp::create(builder, loc, decay.getType(), decay,
                                       row.position == Position::Before, false);
    if (kind == DecayKind::Vector)
      x = vectors.mul(loc, x, prefix);
    Value z = MatmulOp::create(builder, loc, type, x, state, Value(), false,
                               false, false);
    if (kind == DecayKind::Scalar)
      z = vectors.mul(loc, z, prefix);
    for (auto [j, write] : llvm::enumerate(chain.writes))
      if (!write.feedback)
        z = MatmulOp::create(builder, loc, type, gram(i, j),
                             columns[j].coefficient, z, false, false, true);
    stateReads.push_back(z);
  }
}

LogicalResult ChunkBuilder::solve() {
  SmallVector<unsigned> unknowns;
  for (auto [j, write] : llvm::enumerate(chain.writes))
    if (write.feedback)
      unknowns.push_back(j);
  if (unknowns.empty())
    return success();
  // E_j = c_j + sum_i alpha_ji z_i with the z_i written out.
  SmallVector<Value> rhs, blocks;
  OpBuilder before(events.getYield());
  for (unsigned j : unknowns) {
    WriteOp write = chain.writes[j].op;
    LinearForm form = computeLinearForm(write.getC(), before);
    Type type = write.getC().getType();
    Value r;
    if (form.constant) {
      FailureOr<Value> c = lifting.lift(form.constant);
      if (failed(c))
        return failure();
      r = masked(lifting.toTokens(*c, type), 0.0);
    }
    SmallVector<Value> row(unknowns.size());
    for (auto &[read, coefficient] : form.reads) {
      unsigned i = chain.indexOf(read);
      Value alpha;
      if (coefficient) {
        FailureOr<Value> lifted = lifting.lift(coefficient);
        if (failed(lifted))
          return failure();
        // Rows of identity tokens are zero already; only what the token's
        // inputs decide must be masked.
        alpha = VectorBuilder::getConstant(*lifted)
                    ? *lifted
                    : masked(lifting.toTokens(*lifted, coefficient.getType()), 0.0);
      }
      Value z = vectors.mul(loc, stateReads[i], alpha);
      r = r ? vectors.add(loc, r, z) : z;
      for (auto [l, other] : llvm::enumerate(unknowns)) {
        Value block = vectors.mul(loc, gram(i, other), alpha);
        row[l] = row[l] ? vectors.add(loc, row[l], block) : block;
      }
    }
    rhs.push_back(r);
    llvm::append_range(blocks, row);
  }
  SmallVector<Type> types(rhs.size(), rhs[0].getType());
  auto op = TriSolveOp::create(builder, loc, types, blocks, rhs, kExactLeaf, false);
  for (auto [j, value] : llvm::zip(unknowns, op.getUnknowns()))
    columns[j].coefficient = value;
  return success();
}

/// The whole value of a read: its part from the state and all writes.
Value ChunkBuilder::readValue(unsigned read) {
  Value z = stateReads[read];
  for (auto [j, write] : llvm::enumerate(chain.writes))
    if (write.feedback)
      z = MatmulOp::create(builder, loc, z.getType(), gram(read, j),
                           columns[j].coefficient, z, false, false, true);
  return z;
}

Value ChunkBuilder::updateState() {
  auto type = cast<RankedTensorType>(state.getType());
  Value next = state;
  if (decay) {
    Type total = compute;
    if (kind == DecayKind::Vector)
      total = RankedTensorType::get({type.getDimSize(0)}, compute);
    Value gamma = TotalProductOp::create(builder, loc, total, decay);
    next = vectors.mul(loc, vectors.broadcast(loc, gamma, type), next);
  }
  for (Column &column : columns) {
    Value y = column.y, e = column.coefficient;
    if (decay) {
      Value suffix =
          PrefixProductOp::create(builder, loc, decay.getType(), decay,
                                  column.position == Position::After, true);
      if (kind == DecayKind::Vector)
        y = vectors.mul(loc, y, suffix);
      else
        e = vectors.mul(loc, e, suffix);
    }
    next = MatmulOp::create(builder, loc, type, y, e, next, true, false, false);
  }
  return next;
}

LogicalResult ChunkBuilder::run() {
  Block &block = function.front();
  valid = block.getArguments().back();
  state = block.getArgument(block.getNumArguments() - 2);
  lifting.bindArguments(events, block.getArguments());
  if (failed(liftDecays()) || failed(liftReads()) || failed(liftWrites()))
    return failure();
  buildGrams();
  buildStateReads();
  if (failed(solve()))
    return failure();
  // Outs are elementwise in the reads' values.
  for (auto [i, read] : llvm::enumerate(chain.reads)) {
    bool used = llvm::any_of(read.op->getUsers(), [&](Operation *user) {
      return reachesOut(user);
    });
    if (used)
      lifting.bind(read.op.getResult(), readValue(i));
  }
  SmallVector<Value> results{Value()};
  for (Value out : events.getYield().getValues().drop_front()) {
    FailureOr<Value> value = lifting.lift(out);
    if (failed(value))
      return failure();
    results.push_back(lifting.toTokens(*value, out.getType()));
  }
  results[0] = updateState();
  func::ReturnOp::create(builder, loc, results);
  return success();
}

//===----------------------------------------------------------------------===//
// Entry points
//===----------------------------------------------------------------------===//

/// Tokens a chunk when the user leaves the choice: on a CPU the products with
/// the state dominate from 16 tokens on, and the quadratic part grows with C.
static int64_t chooseChunk(SignatureAttr signature) { return 16; }

/// Every dim that an array or the state has must be bound by now.
static LogicalResult checkDims(ModuleOp module, SignatureAttr signature) {
  for (StringAttr name : signature.getDimNames())
    if (!signature.getDim(name))
      return module.emitError()
             << "stage chunk needs the size of dim '" << name.getValue()
             << "'; bind it with -D " << name.getValue() << "=...";
  return success();
}

LogicalResult mlir::delta::convertEventsToChunk(ModuleOp module,
                                                const ChunkOptions &options) {
  if (getStage(module) != Stage::Events)
    return module.emitError("expects a module of stage events");
  SignatureAttr signature = getSignature(module);
  if (failed(checkDims(module, signature)))
    return failure();
  int64_t tokens = options.chunk ? options.chunk : chooseChunk(signature);
  if (tokens < 16 || tokens % 16 || tokens > 128)
    return module.emitError()
           << "the chunk must be a multiple of 16 up to 128 tokens, but got "
           << tokens;
  RecurrenceOp events = getRecurrence(module);
  if (failed(checkColumnLinearity(events)))
    return failure();
  FailureOr<EventChain> chain = buildEventChain(events);
  if (failed(chain))
    return failure();

  MLIRContext *context = module.getContext();
  FloatType compute = options.f64 ? FloatType(Float64Type::get(context))
                                  : FloatType(Float32Type::get(context));
  OpBuilder builder(events);
  func::FuncOp function =
      createChunkFunction(builder, events, signature, tokens, compute);
  ChunkBuilder chunk(signature, events, std::move(*chain), tokens, compute,
                     function);
  if (failed(chunk.run())) {
    function.erase();
    return failure();
  }
  SmallVector<Type> results;
  for (Value value : function.front().getTerminator()->getOperands())
    results.push_back(value.getType());
  function.setFunctionType(FunctionType::get(
      context, function.front().getArgumentTypes(), results));
  events.erase();
  signature = signature.withOption("chunk", builder.getI64IntegerAttr(tokens))
                  .withOption("compute", StringAttr::get(context, options.f64 ? "f64" : "f32"));
  setSignature(module, signature);
  setStage(module, Stage::Chunk);
  IRRewriter rewriter(context);
  DominanceInfo dominance;
  eliminateCommonSubExpressions(rewriter, dominance, module);
  return success();
}

namespace {

struct Chunk : delta::impl::DeltaChunkBase<Chunk> {
  using Base::Base;
  void runOnOperation() override {
    if (compute != "f32" && compute != "f64") {
      getOperation().emitError()
          << "expects compute to be f32 or f64, but got '" << compute << "'";
      return signalPassFailure();
    }
    ChunkOptions options;
    options.chunk = chunk;
    options.f64 = compute == "f64";
    if (failed(convertEventsToChunk(getOperation(), options)))
      signalPassFailure();
  }
};

} // namespace
