//===- EmitTranspose.cpp - Matrices with rows and columns exchanged -------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Square blocks of as many rows as a vector has lanes, in registers: in step s
// rows i and i + 2^s exchange the lanes whose numbers differ in bit s.
//
//===----------------------------------------------------------------------===//

#include "Emitter.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::cpumap;

void Emitter::transposeBlock(MutableArrayRef<Value> rows) {
  int64_t lanes = g.lanes;
  for (int64_t bit = 1; bit < lanes; bit *= 2) {
    SmallVector<int64_t> low, high;
    for (int64_t lane = 0; lane < lanes; ++lane) {
      low.push_back(lane & bit ? lanes + (lane ^ bit) : lane);
      high.push_back(lane & bit ? lanes + lane : lane ^ bit);
    }
    for (int64_t i = 0; i < lanes; ++i) {
      if (i & bit)
        continue;
      Value x = rows[i], y = rows[i + bit];
      rows[i] = shuffle(x, y, low);
      rows[i + bit] = shuffle(x, y, high);
    }
  }
}

void Emitter::emitTranspose(const Unit &unit) {
  Value input = unit.op->getOperand(0), result = unit.op->getResult(0);
  auto [rows, cols] = getShape(input);
  Operand source = getOperand(input, false, false);
  const Buffer &buffer = *plan.getBuffer(result);
  Value target = view(buffer);
  // Rows that do not exist are zero columns, columns that do not are no rows.
  auto blockAt = [&](Value row, int64_t numRows, Value col, int64_t numCols) {
    SmallVector<Value> block;
    for (int64_t i = 0; i < g.lanes; ++i)
      block.push_back(i < numRows ? loadOperand(source, add(row, i), col)
                                  : zeroVector());
    transposeBlock(block);
    for (int64_t i = 0; i < numCols; ++i)
      storeVector(block[i], target, add(col, i), row);
  };
  auto rowsAt = [&](Value row, int64_t numRows) {
    int64_t main = cols / g.lanes * g.lanes;
    loop(0, main, g.lanes,
         [&](Value col) { blockAt(row, numRows, col, g.lanes); });
    if (cols > main)
      blockAt(row, numRows, idx(main), cols - main);
  };
  int64_t main = rows / g.lanes * g.lanes;
  loop(0, main, g.lanes, [&](Value row) { rowsAt(row, g.lanes); });
  if (rows > main)
    rowsAt(idx(main), rows - main);
  emitZeroColumns(buffer, g.roundUpToVector(rows));
}
