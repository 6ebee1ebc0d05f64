//===- EmitSegments.cpp - The state behind each segment, backwards --------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A kernel whose state is the cotangent of one: it goes from the last chunk to
// the first one that has a whole segment before it, or a part of one, and
// leaves what it holds behind each segment, in f32, transposed as it is held.
// Segments are counted from the end, as the steps of this walk are: where one
// begins does not depend on the number of chunks, and a window's chunks need no
// branch.
//
//===----------------------------------------------------------------------===//

#include "Emitter.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"

#include <numeric>

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::gpumap;

void Emitter::emitSegments(unsigned part, int64_t every) {
  segmentPart = part;
  segmentChunks = every;
  emitKernel();
}

Value Emitter::turnRound(Value step) {
  Value chunks = arith::CeilDivUIOp::create(b, kernel.T, index(program.chunk));
  return arith::SubIOp::create(b, arith::SubIOp::create(b, chunks, index(1)),
                               step);
}

Value Emitter::countSegments() {
  return arith::CeilDivUIOp::create(b, kernel.T,
                                    index(program.chunk * segmentChunks));
}

Value Emitter::countWalked() {
  Value behind = arith::SubIOp::create(b, countSegments(), index(1));
  return mul(arith::MaxSIOp::create(b, behind, index(0)), segmentChunks);
}

void Emitter::storeSegment(Value segment, ValueRange state) {
  const int64_t A = program.stateRows, B = program.stateCols;
  Value count = countSegments();
  Value number = add(mul(add(mul(batch, kernel.H), head), count), segment);
  Value column = add(firstColumn, warpColumn);
  Value base = add(mul(number, A * B), mul(column, A));
  Value size = mul(mul(mul(kernel.B, kernel.H), count), A * B);
  Value array = memref::ViewOp::create(
      b, MemRefType::get({ShapedType::kDynamic}, b.getF32Type()),
      kernel.workspace, kernel.getWorkspaceOffset(b, segmentPart), size);
  Value left = getOwnColumns(column);
  for (auto [part, value] : llvm::enumerate(state)) {
    const int64_t first = 16 * part;
    warp::GlobalStoreOp::create(
        b, value, array, add(base, index(first)),
        ValueRange{index(A), index(1)},
        ValueRange{left, index(std::min<int64_t>(16, A - first))},
        std::gcd(A, int64_t(16)));
  }
}

void Emitter::emitSegmentStore(Value step, ValueRange state) {
  Value segments = index(segmentChunks);
  Value isFirst = compare(arith::CmpIPredicate::eq,
                          arith::RemUIOp::create(b, step, segments), index(0));
  auto wanted = scf::IfOp::create(b, isFirst, /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(wanted.thenBlock());
  storeSegment(arith::DivUIOp::create(b, step, segments), state);
}

/// What the walk ends with belongs to the sequence's first segment; without any
/// token it is the gradient of the initial state.
void Emitter::emitLastStore(ValueRange state) {
  Value any = compare(arith::CmpIPredicate::ne, kernel.T, index(0));
  Value none = compare(arith::CmpIPredicate::eq, kernel.T, index(0));
  if (prepares) {
    Value never = arith::ConstantIntOp::create(b, 0, 1);
    any = select(prepares, never, any);
    none = select(prepares, never, none);
  }
  {
    auto wanted = scf::IfOp::create(b, any, /*withElseRegion=*/false);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(wanted.thenBlock());
    storeSegment(arith::SubIOp::create(b, countSegments(), index(1)), state);
  }
  auto wanted = scf::IfOp::create(
      b, arith::AndIOp::create(b, none, isNotNull(kernel.finalState)),
      /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(wanted.thenBlock());
  storeFinalState(state);
}
