//===- EmitSolve.cpp - Unit triangular systems ----------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Block substitution in register tiles. A tile holds a few tokens' unknowns,
// ordered by token and then by unknown; it starts from the right-hand sides,
// takes in all earlier tokens as a product, and is solved in registers:
//
//   acc[t, j] = R_j[t] + sum_l sum_{u < tile} A_jl[t, u] E_l[u]
//   for each (t, j) in order: acc[later] += A[later, (t, j)] * acc[t, j]
//
// The transposed system runs the same way from the last token to the first.
//
//===----------------------------------------------------------------------===//

#include "Emitter.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::cpumap;

Emitter::Tile Emitter::loadSolveTile(TriSolveOp solve, Value token,
                                     int64_t tokens, Value col, int64_t vectors,
                                     bool inPanel) {
  Tile tile;
  for (int64_t t = 0; t < tokens; ++t)
    for (Value rhs : solve.getRhs())
      for (int64_t v = 0; v < vectors; ++v)
        tile.push_back(loadOperand(getOperand(rhs, inPanel, true),
                                   add(token, t), add(col, v * g.lanes)));
  return tile;
}

void Emitter::storeSolveTile(const Tile &tile, TriSolveOp solve, Value token,
                             int64_t tokens, Value col, int64_t vectors,
                             bool inPanel) {
  int64_t m = solve.getRhs().size();
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t j = 0; j < m; ++j) {
      Operand unknown = getOperand(solve.getUnknowns()[j], inPanel, true);
      for (int64_t v = 0; v < vectors; ++v)
        storeVector(tile[(t * m + j) * vectors + v], unknown.memref,
                    add(token, t), add(col, v * g.lanes));
    }
}

void Emitter::emitSolveTile(TriSolveOp solve, Value token, int64_t tokens,
                            Value col, int64_t vectors, bool inPanel) {
  int64_t m = solve.getRhs().size();
  auto block = [&](int64_t j, int64_t l) {
    return getOperand(solve.getBlocks()[j * m + l], inPanel, false).memref;
  };
  Tile tile = loadSolveTile(solve, token, tokens, col, vectors, inPanel);
  for (int64_t l = 0; l < m; ++l) {
    SmallVector<LeftRow> left;
    for (int64_t t = 0; t < tokens; ++t)
      for (int64_t j = 0; j < m; ++j)
        left.push_back({block(j, l), add(token, t)});
    tile = accumulate(
        tile, left, getOperand(solve.getUnknowns()[l], inPanel, true), col,
        vectors, idx(0), token, std::nullopt, std::min<int64_t>(tokens, 4));
  }
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t l = 0; l < m; ++l) {
      int64_t solved = t * m + l;
      for (int64_t later = solved + 1; later < tokens * m; ++later) {
        Value number = splat(loadScalar(block(later % m, l),
                                        add(token, later / m), add(token, t)));
        for (int64_t v = 0; v < vectors; ++v)
          tile[later * vectors + v] = fma(number, tile[solved * vectors + v],
                                          tile[later * vectors + v]);
      }
    }
  storeSolveTile(tile, solve, token, tokens, col, vectors, inPanel);
}

/// As emitSolveTile for (I - A)^T: the tile takes in all later tokens.
void Emitter::emitTransposedTile(TriSolveOp solve, Value token, int64_t tokens,
                                 Value col, int64_t vectors, bool inPanel) {
  int64_t m = solve.getRhs().size(), size = tokens * m;
  auto block = [&](int64_t l, int64_t j) {
    return getOperand(solve.getBlocks()[l * m + j], inPanel, false).memref;
  };
  Tile tile = loadSolveTile(solve, token, tokens, col, vectors, inPanel);
  for (int64_t l = 0; l < m; ++l) {
    SmallVector<LeftRow> left;
    for (int64_t t = 0; t < tokens; ++t)
      for (int64_t j = 0; j < m; ++j)
        left.push_back({block(l, j), add(token, t), /*transposed=*/true});
    tile = accumulate(
        tile, left, getOperand(solve.getUnknowns()[l], inPanel, true), col,
        vectors, add(token, tokens), idx(getShape(solve.getRhs()[0]).first),
        std::nullopt, std::min<int64_t>(tokens, 4));
  }
  for (int64_t solved = size - 1; solved >= 0; --solved)
    for (int64_t earlier = solved - 1; earlier >= 0; --earlier) {
      Value number =
          splat(loadScalar(block(solved % m, earlier % m),
                           add(token, solved / m), add(token, earlier / m)));
      for (int64_t v = 0; v < vectors; ++v)
        tile[earlier * vectors + v] = fma(number, tile[solved * vectors + v],
                                          tile[earlier * vectors + v]);
    }
  storeSolveTile(tile, solve, token, tokens, col, vectors, inPanel);
}

/// A tile holds some of one token's unknowns. It takes in all unknowns of the
/// earlier tokens and the earlier ones of its own, then it is solved.
void Emitter::emitLongSolve(TriSolveOp solve, Value col, int64_t vectors,
                            bool inPanel) {
  int64_t m = solve.getRhs().size();
  auto block = [&](Value j, Value l) {
    return getOperandOf(solve.getBlocks(), add(mul(j, m), l), inPanel, false)
        .memref;
  };
  auto unknown = [&](Value l) {
    return getOperandOf(solve.getUnknowns(), l, inPanel, true);
  };
  auto emitTile = [&](Value token, Value first, int64_t count) {
    Tile tile;
    for (int64_t j = 0; j < count; ++j) {
      Operand rhs = getOperandOf(solve.getRhs(), add(first, j), inPanel, true);
      for (int64_t v = 0; v < vectors; ++v)
        tile.push_back(loadOperand(rhs, token, add(col, v * g.lanes)));
    }
    auto addUnknowns = [&](Value from, Value to, Value end) {
      return loop(from, to, 1, tile,
                  [&](Value l, ValueRange carried) -> SmallVector<Value> {
                    SmallVector<LeftRow> left;
                    for (int64_t j = 0; j < count; ++j)
                      left.push_back({block(add(first, j), l), token});
                    return accumulate(Tile(carried), left, unknown(l), col,
                                      vectors, idx(0), end, std::nullopt, 1);
                  });
    };
    tile = addUnknowns(idx(0), first, add(token, 1));
    tile = addUnknowns(first, idx(m), token);
    for (int64_t l = 0; l < count; ++l)
      for (int64_t j = l + 1; j < count; ++j) {
        Value number = splat(
            loadScalar(block(add(first, j), add(first, l)), token, token));
        for (int64_t v = 0; v < vectors; ++v)
          tile[j * vectors + v] =
              fma(number, tile[l * vectors + v], tile[j * vectors + v]);
      }
    for (int64_t j = 0; j < count; ++j) {
      Operand solved = unknown(add(first, j));
      for (int64_t v = 0; v < vectors; ++v)
        storeVector(tile[j * vectors + v], solved.memref, token,
                    add(col, v * g.lanes));
    }
  };
  loop(0, getShape(solve.getRhs()[0]).first, 1, [&](Value token) {
    int64_t main = m / g.tileRows * g.tileRows;
    loop(0, main, g.tileRows,
         [&](Value first) { emitTile(token, first, g.tileRows); });
    if (m > main)
      emitTile(token, idx(main), m - main);
  });
}

void Emitter::emitSolve(const Unit &unit) {
  auto solve = cast<TriSolveOp>(unit.op);
  bool inPanel = unit.slice == Slice::Panel;
  int64_t m = solve.getRhs().size();
  int64_t tokens =
      llvm::bit_floor<uint64_t>(std::max<int64_t>(g.tileRows / m, 1));
  auto [rows, cols] = getShape(solve.getRhs()[0]);
  int64_t numTokens = rows;
  // Tiles of several tokens are few instructions when there are few unknowns.
  bool isLong = !solve.getTranspose() && m > g.tileRows &&
                areAlike(solve.getBlocks()) && areAlike(solve.getRhs()) &&
                areAlike(solve.getUnknowns());
  auto emitColumns = [&](Value col, int64_t vectors) {
    if (isLong) {
      emitLongSolve(solve, col, vectors, inPanel);
      return;
    }
    loop(0, numTokens, tokens, [&](Value token) {
      if (solve.getTranspose())
        emitTransposedTile(solve, sub(idx(numTokens - tokens), token), tokens,
                           col, vectors, inPanel);
      else
        emitSolveTile(solve, token, tokens, col, vectors, inPanel);
    });
  };
  if (inPanel) {
    emitColumns(idx(0), g.panelVectors);
    return;
  }
  int64_t vectors = g.roundUpToVector(cols) / g.lanes;
  loop(0, vectors / 2 * 2 * g.lanes, 2 * g.lanes,
       [&](Value col) { emitColumns(col, 2); });
  if (vectors % 2)
    emitColumns(idx((vectors - 1) * g.lanes), 1);
  for (Value unknown : solve.getUnknowns())
    emitZeroColumns(*plan.getBuffer(unknown), vectors * g.lanes);
}
