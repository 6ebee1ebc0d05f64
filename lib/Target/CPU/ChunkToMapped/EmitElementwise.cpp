//===- EmitElementwise.cpp - Loops over rows and vectors of columns -------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Elementwise values, masks, broadcasts and scans are evaluated at a cursor,
// one vector of columns in one row; a group of roots shares the loop nest.
// Running products are carried from row to row in registers.
//
//===----------------------------------------------------------------------===//

#include "Emitter.h"
#include "delta/Target/CPU/Passes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/Matchers.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::cpumap;

/// Vectors of columns that a loop body works on: enough independent work, and
/// few enough for registers and code size.
static constexpr int64_t kBlockVectors = 4;

//===----------------------------------------------------------------------===//
// Evaluation at a cursor
//===----------------------------------------------------------------------===//

Value Emitter::getScalar(Value value) {
  if (Value known = scalars.lookup(value))
    return known;
  FloatAttr constant;
  if (matchPattern(value, m_Constant(&constant)))
    return arith::ConstantOp::create(b, loc, constant);
  return {};
}

/// Lanes in columns before the row's index (`diagonal`: up to it).
Value Emitter::evalTrueBelow(Cursor &cursor, bool diagonal) {
  return dynamicMask(add(sub(cursor.row, globalCol(cursor)), diagonal ? 1 : 0),
                     g.lanes);
}

Value Emitter::evalBroadcast(BroadcastOp op, Cursor &cursor) {
  Value input = op.getInput();
  if (getRank(input) == 0)
    return splat(getScalar(input));
  if (op.getDim() == 0)
    return splat(loadElement(input, cursor.row));
  // One value a column: the same in every row.
  if (isa<BlockArgument>(input) && !plan.getBuffer(input))
    return loadArgument(cast<BlockArgument>(input), cursor);
  const Buffer *buffer = plan.getBuffer(input);
  Operand operand = getOperand(input, cursor.panel, !buffer->panelLocal);
  return loadOperand(operand, idx(0), cursor.col);
}

Value cpumap::getScanKey(Operation *op) {
  // Running products of one value are one, inclusive or not.
  if (isa<PrefixProductOp, TotalProductOp>(op))
    return op->getOperand(0);
  return op->getResult(0);
}

Value Emitter::evalScan(Operation *op, Cursor &cursor) {
  if (isa<PrefixSumOp, LinearScanOp, TokenSumOp>(op)) {
    // `before` and `after` are what the row takes over and hands on.
    Value key = getScanKey(op), before = cursor.before.lookup(key);
    Value x = eval(op->getOperand(0), cursor);
    if (auto scan = dyn_cast<LinearScanOp>(op)) {
      Value w = eval(scan.getFactors(), cursor);
      Value sum = scan.getExclusive() ? before : addf(before, x);
      cursor.after[key] =
          scan.getExclusive() ? fma(w, before, x) : mulf(w, sum);
      return sum;
    }
    Value sum = addf(before, x);
    cursor.after[key] = sum;
    auto prefix = dyn_cast<PrefixSumOp>(op);
    return prefix && prefix.getExclusive() ? before : sum;
  }
  if (auto prefix = dyn_cast<PrefixProductOp>(op)) {
    Value key = prefix.getInput();
    if (prefix.getExclusive())
      return cursor.before.lookup(key);
    Value &after = cursor.after[key];
    if (!after) {
      Value product = mulf(cursor.before.lookup(key), eval(key, cursor));
      cursor.after[key] = product;
      return product;
    }
    return after;
  }
  // The products from each column's token to this row's, row by row:
  // running[j] *= w[row] for j < row, and column `row` begins.
  auto mask = cast<DecayMaskOp>(op);
  Value key = mask.getResult();
  Value before = cursor.before.lookup(key);
  Value below = evalTrueBelow(cursor, false);
  Value upTo = evalTrueBelow(cursor, true);
  Value zero = zeroVector(), one = constantVector(1.0);
  Value first = one;
  if (mask.getCol() == Position::Before)
    first =
        loadOperand(getOperand(mask.getW(), false, true), idx(0), cursor.col);
  auto select = [&](Value condition, Value x, Value y) -> Value {
    return arith::SelectOp::create(b, loc, condition, x, y);
  };
  Value w = splat(loadElement(mask.getW(), cursor.row));
  Value after = select(below, mulf(before, w), select(upTo, first, zero));
  cursor.after[key] = after;
  if (mask.getRow() == Position::After)
    return mask.getDiagonal() ? after : select(below, after, zero);
  return select(below, before,
                mask.getDiagonal() ? select(upTo, one, zero) : zero);
}

Value Emitter::compute(Value value, Cursor &cursor) {
  if (auto argument = dyn_cast<BlockArgument>(value))
    return loadArgument(argument, cursor);
  Operation *op = value.getDefiningOp();
  DenseElementsAttr elements;
  if (matchPattern(op, m_Constant(&elements)))
    return arith::ConstantOp::create(
        b, loc,
        DenseElementsAttr::get(
            VectorType::get({g.lanes}, elements.getElementType()),
            elements.getSplatValue<Attribute>()));
  auto select = [&](Value condition, Value x, Value y) -> Value {
    return arith::SelectOp::create(b, loc, condition, x, y);
  };
  return TypeSwitch<Operation *, Value>(op)
      .Case<IdentityRowsOp>([&](IdentityRowsOp rows) {
        Value x = eval(rows.getInput(), cursor);
        Value identity = constantVector(rows.getValue().convertToDouble());
        // All lanes of a matrix's row exist or none; a vector mask, not a
        // branch that depends on the row.
        Value exists = dynamicMask(getRank(value) == 1
                                       ? sub(valid, cursor.col)
                                       : mul(sub(valid, cursor.row), g.lanes),
                                   g.lanes);
        return select(exists, x, identity);
      })
      .Case<CausalMaskOp>([&](CausalMaskOp mask) {
        return select(evalTrueBelow(cursor, mask.getDiagonal()),
                      eval(mask.getInput(), cursor), zeroVector());
      })
      .Case<SetDiagonalOp>([&](SetDiagonalOp set) {
        Value x = eval(set.getInput(), cursor);
        Value diagonal = splat(loadElement(set.getDiagonal(), cursor.row));
        return select(evalTrueBelow(cursor, false), x,
                      select(evalTrueBelow(cursor, true), diagonal, x));
      })
      .Case<BroadcastOp>([&](BroadcastOp broadcast) {
        return evalBroadcast(broadcast, cursor);
      })
      .Case<PrefixProductOp, DecayMaskOp, PrefixSumOp, LinearScanOp>(
          [&](auto) { return evalScan(op, cursor); })
      .Case<SigmoidOp>([&](SigmoidOp sigmoid) {
        Value x = eval(sigmoid.getInput(), cursor);
        return buildSigmoid(b, loc, x);
      })
      .Case<SoftplusOp>([&](SoftplusOp softplus) {
        Value x = eval(softplus.getInput(), cursor);
        return buildSoftplus(b, loc, x);
      })
      .Default([&](Operation *other) -> Value {
        IRMapping mapping;
        for (Value operand : other->getOperands())
          mapping.map(operand, eval(operand, cursor));
        Operation *clone = other->cloneWithoutRegions(mapping);
        Type element = getElementTypeOrSelf(value.getType());
        clone->getResult(0).setType(VectorType::get({g.lanes}, element));
        b.insert(clone);
        clone->setLoc(loc);
        return clone->getResult(0);
      });
}

Value Emitter::eval(Value value, Cursor &cursor) {
  if (Value known = cursor.known.lookup(value))
    return known;
  Value result;
  if (getRank(value) == 0)
    result = splat(getScalar(value));
  else if (value == plan.state || plan.getBuffer(value) ||
           (value == plan.checkpoint && plan.readsCheckpointInPlace))
    result = loadOperand(getOperand(value, cursor.panel, true), cursor.row,
                         cursor.col);
  else
    result = compute(value, cursor);
  cursor.known[value] = result;
  return result;
}

void Emitter::emitRoots(ArrayRef<Root> roots, Cursor &cursor) {
  auto zeroBeyond = [&](Value vector) -> Value {
    if (!cursor.mask)
      return vector;
    return arith::SelectOp::create(b, loc, cursor.mask, vector, zeroVector());
  };
  for (const Root &root : roots) {
    switch (root.kind) {
    case Root::Total:
      break;
    case Root::Store: {
      Value vector = cursor.known.lookup(root.value);
      if (!vector)
        vector = compute(root.value, cursor);
      cursor.known[root.value] = vector;
      storeVector(zeroBeyond(vector), view(*plan.getBuffer(root.value)),
                  cursor.row, cursor.col);
      break;
    }
    case Root::Out:
      storeOut(root.out, eval(root.value, cursor), cursor);
      break;
    case Root::Sum: {
      Value memref = view(plan.sumBuffers[root.out]);
      Value total = addf(loadVector(memref, cursor.row, cursor.col),
                         zeroBeyond(eval(root.value, cursor)));
      storeVector(total, memref, cursor.row, cursor.col);
      break;
    }
    case Root::State:
      storeVector(zeroBeyond(eval(root.value, cursor)), stateView, cursor.row,
                  cursor.col);
      break;
    }
  }
}

//===----------------------------------------------------------------------===//
// Elementwise groups
//===----------------------------------------------------------------------===//

/// The scans that evaluating a group's roots runs, by key.
static void collectScans(Value value, bool isRoot, const Plan &plan,
                         llvm::SetVector<Value> &keys) {
  Operation *op = value.getDefiningOp();
  if (!op || (!isRoot && !plan.isInline(value)))
    return;
  if (isRowScan(op))
    keys.insert(getScanKey(op));
  for (Value operand : op->getOperands())
    if (getRank(operand) == getRank(value))
      collectScans(operand, false, plan, keys);
}

void Emitter::emitZeroColumns(const Buffer &buffer, int64_t from) {
  if (from >= buffer.stride)
    return;
  Value memref = view(buffer);
  loop(0, buffer.rows, 1, [&](Value row) {
    for (int64_t col = from; col < buffer.stride; col += g.lanes)
      storeVector(zeroVector(), memref, row, idx(col));
  });
}

/// Does the scan with this key begin with 0 rather than 1?
static bool isSum(Value key) {
  return isa_and_nonnull<DecayMaskOp, PrefixSumOp, LinearScanOp, TokenSumOp>(
      key.getDefiningOp());
}

void Emitter::emitElementwise(const Unit &unit) {
  if (unit.roots.empty())
    return;
  bool inPanel = unit.slice == Slice::Panel;
  llvm::SetVector<Value> keys;
  for (const Root &root : unit.roots) {
    if (root.kind == Root::Total) {
      Operation *total = root.value.getDefiningOp();
      keys.insert(getScanKey(total));
      // Scans that nothing else reads run in the same loop.
      collectScans(total->getOperand(0), false, plan, keys);
    } else {
      collectScans(root.value, root.kind == Root::Store, plan, keys);
    }
  }

  // `count` vectors of columns; the last has `tail` lanes if not 0.
  auto emitBlock = [&](Value col, int64_t count, int64_t tail) {
    SmallVector<Value> cols, masks, carried;
    for (int64_t v = 0; v < count; ++v) {
      cols.push_back(add(col, v * g.lanes));
      Value mask;
      if (inPanel && g.hasPartialPanel())
        mask = dynamicMask(sub(idx(g.stateCols), add(colBase, cols.back())),
                           g.lanes);
      else if (!inPanel && tail && v == count - 1)
        mask = constantMask(tail);
      masks.push_back(mask);
    }
    for (Value key : keys)
      for (int64_t v = 0; v < count; ++v)
        carried.push_back(constantVector(isSum(key) ? 0.0 : 1.0));
    auto cursorAt = [&](Value row, int64_t v) {
      Cursor cursor;
      cursor.row = row;
      cursor.col = cols[v];
      cursor.mask = masks[v];
      cursor.panel = inPanel;
      return cursor;
    };
    carried = loop(0, unit.rows, 1, carried,
                   [&](Value i, ValueRange running) -> SmallVector<Value> {
                     Value row = unit.reverse ? sub(idx(unit.rows - 1), i) : i;
                     SmallVector<Value> next(running.size());
                     for (int64_t v = 0; v < count; ++v) {
                       Cursor cursor = cursorAt(row, v);
                       for (auto [k, key] : llvm::enumerate(keys))
                         cursor.before[key] = running[k * count + v];
                       emitRoots(unit.roots, cursor);
                       for (auto [k, key] : llvm::enumerate(keys)) {
                         if (!cursor.after.lookup(key)) {
                           if (isSum(key))
                             evalScan(key.getDefiningOp(), cursor);
                           else
                             cursor.after[key] = mulf(cursor.before.lookup(key),
                                                      eval(key, cursor));
                         }
                         next[k * count + v] = cursor.after.lookup(key);
                       }
                     }
                     return next;
                   });
    for (const Root &root : unit.roots) {
      if (root.kind != Root::Total)
        continue;
      Value key = getScanKey(root.value.getDefiningOp());
      int64_t k = llvm::find(keys, key) - keys.begin();
      for (int64_t v = 0; v < count; ++v) {
        Value product = carried[k * count + v];
        if (masks[v])
          product =
              arith::SelectOp::create(b, loc, masks[v], product, zeroVector());
        storeVector(product, view(*plan.getBuffer(root.value)), idx(0),
                    cols[v]);
      }
    }
  };

  if (inPanel) {
    emitBlock(idx(0), g.panelVectors, 0);
    return;
  }
  int64_t full = unit.cols / g.lanes, tail = unit.cols % g.lanes;
  int64_t blocks = full / kBlockVectors;
  if (full == kBlockVectors && tail)
    blocks = 0;
  loop(0, blocks * kBlockVectors * g.lanes, kBlockVectors * g.lanes,
       [&](Value col) { emitBlock(col, kBlockVectors, 0); });
  int64_t rest = full - blocks * kBlockVectors + (tail ? 1 : 0);
  if (rest)
    emitBlock(idx(blocks * kBlockVectors * g.lanes), rest, tail);
  for (const Root &root : unit.roots)
    if (const Buffer *buffer = plan.getBuffer(root.value);
        buffer && (root.kind == Root::Store || root.kind == Root::Total))
      emitZeroColumns(*buffer, g.roundUpToVector(buffer->cols));
}

//===----------------------------------------------------------------------===//
// Sums, scans of vectors, numbers
//===----------------------------------------------------------------------===//

void Emitter::emitSum(const Unit &unit) {
  auto sum = cast<SumOp>(unit.op);
  auto [rows, cols] = getShape(sum.getInput());
  bool toScalar = getRank(sum.getInput()) == 1;
  int64_t full = cols / g.lanes, tail = cols % g.lanes;
  // One vector of partial sums a row; their lanes are added up together.
  auto sumRow = [&](Value row) -> Value {
    auto evalAt = [&](Value col, Value mask) {
      Cursor cursor;
      cursor.row = row;
      cursor.col = col;
      cursor.mask = mask;
      Value x = eval(sum.getInput(), cursor);
      if (mask)
        x = arith::SelectOp::create(b, loc, mask, x, zeroVector());
      return x;
    };
    Value total = loop(0, full * g.lanes, g.lanes, {zeroVector()},
                       [&](Value col, ValueRange acc) -> SmallVector<Value> {
                         return {addf(acc[0], evalAt(col, Value()))};
                       })[0];
    if (tail)
      total = addf(total, evalAt(idx(full * g.lanes), constantMask(tail)));
    return total;
  };
  if (toScalar) {
    Value total = sumLanes(sumRow(idx(0)))[0];
    scalars[sum.getResult()] = vector::ExtractOp::create(b, loc, total, 0);
    return;
  }
  const Buffer *buffer = plan.getBuffer(sum.getResult());
  Value memref = view(*buffer);
  auto emitRows = [&](Value row, int64_t count) {
    SmallVector<Value> totals;
    for (int64_t r = 0; r < count; ++r)
      totals.push_back(sumRow(add(row, r)));
    storeVector(sumLanes(totals)[0], memref, idx(0), row);
  };
  int64_t main = rows / g.lanes * g.lanes;
  loop(0, main, g.lanes, [&](Value row) { emitRows(row, g.lanes); });
  if (rows > main)
    emitRows(idx(main), rows - main);
}

void Emitter::emitVectorScan(const Unit &unit) {
  Value input = unit.op->getOperand(0), result = unit.op->getResult(0);
  int64_t size = getShape(input).second;
  bool isTotal = isa<TotalProductOp>(unit.op);
  bool isProduct = isTotal || isa<PrefixProductOp>(unit.op);
  bool exclusive = unit.op->hasAttr("exclusive");
  bool reverse = unit.op->hasAttr("reverse");
  auto scan = dyn_cast<LinearScanOp>(unit.op);
  Value memref = isTotal ? Value() : view(*plan.getBuffer(result));
  Value total = loop(0, size, 1, {constantScalar(isProduct ? 1.0 : 0.0)},
                     [&](Value i, ValueRange running) -> SmallVector<Value> {
                       Value at = reverse ? sub(idx(size - 1), i) : i;
                       Value x = loadElement(input, at), before = running[0];
                       Value after =
                           isProduct ? mulf(before, x) : addf(before, x);
                       Value value = exclusive ? before : after;
                       if (scan) {
                         Value w = loadElement(scan.getFactors(), at);
                         after = exclusive ? fma(w, before, x) : mulf(w, after);
                       }
                       if (!isTotal)
                         memref::StoreOp::create(b, loc, value, memref,
                                                 ValueRange{idx(0), at});
                       return {after};
                     })[0];
  if (isTotal) {
    scalars[result] = total;
    return;
  }
  for (int64_t col = size; col < plan.getBuffer(result)->stride; ++col)
    memref::StoreOp::create(b, loc, constantScalar(0.0), memref,
                            ValueRange{idx(0), idx(col)});
}

void Emitter::emitDiagonal(const Unit &unit) {
  Value input = unit.op->getOperand(0), result = unit.op->getResult(0);
  const Buffer &buffer = *plan.getBuffer(result);
  Value memref = view(buffer), source = view(*plan.getBuffer(input));
  emitZeroColumns(buffer, buffer.cols / g.lanes * g.lanes);
  loop(0, buffer.cols, 1, [&](Value i) {
    memref::StoreOp::create(b, loc, loadScalar(source, i, i), memref,
                            ValueRange{idx(0), i});
  });
}

void Emitter::emitScalar(const Unit &unit) {
  Value result = unit.op->getResult(0);
  if (auto sigmoid = dyn_cast<SigmoidOp>(unit.op)) {
    scalars[result] = buildSigmoid(b, loc, getScalar(sigmoid.getInput()));
  } else if (auto softplus = dyn_cast<SoftplusOp>(unit.op)) {
    scalars[result] = buildSoftplus(b, loc, getScalar(softplus.getInput()));
  } else if (auto broadcast = dyn_cast<BroadcastOp>(unit.op)) {
    scalars[result] = getScalar(broadcast.getInput());
  } else {
    IRMapping mapping;
    for (Value operand : unit.op->getOperands())
      mapping.map(operand, getScalar(operand));
    Operation *clone = b.clone(*unit.op, mapping);
    clone->setLoc(loc);
    scalars[result] = clone->getResult(0);
  }
}

void Emitter::emitCopy(const Unit &unit) {
  // One number a token, strided in memory.
  const Buffer *buffer = plan.getBuffer(unit.value);
  Value memref = view(*buffer), array = arrays.lookup(unit.value);
  loop(0, buffer->cols, 1, [&](Value i) {
    Value row = min(i, sub(valid, idx(1)));
    Value at = add(arrayBase.lookup(unit.value),
                   mul(row, arrayRowStride.lookup(unit.value)));
    Value number =
        convert(memref::LoadOp::create(b, loc, array, at), g.compute);
    memref::StoreOp::create(b, loc, number, memref, ValueRange{idx(0), i});
  });
  for (int64_t col = buffer->cols; col < buffer->stride; ++col)
    memref::StoreOp::create(b, loc, constantScalar(0.0), memref,
                            ValueRange{idx(0), idx(col)});
}

void Emitter::emitSumScalar(const Unit &unit) {
  Value memref = view(plan.sumBuffers[unit.out]);
  Value total = addf(loadScalar(memref, idx(0), idx(0)), getScalar(unit.value));
  memref::StoreOp::create(b, loc, total, memref, ValueRange{idx(0), idx(0)});
}

void Emitter::emitOutScalars(const Unit &unit) {
  Value array = outArrays[plan.outPlaces[unit.out].array];
  auto type =
      cast<FloatType>(cast<MemRefType>(array.getType()).getElementType());
  loop(idx(0), ownedRows, 1, ValueRange{},
       [&](Value i, ValueRange) -> SmallVector<Value> {
         Value number = convert(loadElement(unit.value, i), type);
         Value at = add(outBase[unit.out], mul(i, outRowStride[unit.out]));
         memref::StoreOp::create(b, loc, number, array, at);
         return {};
       });
}
