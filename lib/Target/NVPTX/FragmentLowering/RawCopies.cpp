//===- RawCopies.cpp - Shared arrays to global memory and back ------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Parts of shared arrays that one kernel leaves for another as they lie, in
// pieces of 16 bytes, one beside the other in global memory.
//
//===----------------------------------------------------------------------===//

#include "Lowering.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::warp;

/// Bytes that a thread copies at once.
static constexpr int64_t kPiece = 16;

/// Hands `copy` the addresses of every piece that `thread` has, those of
/// `threads` lying side by side; `start` is the address in global memory.
void FragmentLowering::copyRaw(
    SharedType type, const TilePosition &position, unsigned lead, Value start,
    Value thread, int64_t threads,
    function_ref<void(Value shared, Value global)> copy) {
  int64_t rows = 1;
  for (int64_t size : type.getShape().drop_back().drop_front(lead))
    rows *= size;
  const int64_t row = type.getShape().back() * type.getElementBytes() / kPiece;
  const int64_t pieces = rows * row;
  const bool padded = type.getPad() != 0;
  Value from = b.createOrFold<arith::AddIOp>(start, toI64(mul(thread, kPiece)));
  for (int64_t first = 0; first < pieces; first += threads) {
    Value place;
    {
      // The lane's own part, once for all copies.
      OpBuilder::InsertionGuard guard(b);
      b.setInsertionPoint(own.first);
      if (!padded) {
        place = add(mul(thread, kPiece), first * kPiece);
      } else {
        Value piece = add(thread, first);
        Value number = b.createOrFold<arith::DivUIOp>(piece, i32(row));
        Value column = b.createOrFold<arith::RemUIOp>(piece, i32(row));
        place = add(mul(number, type.getRowBytes()), mul(column, kPiece));
      }
    }
    Value inside;
    if (first + threads > pieces)
      inside = compare(arith::CmpIPredicate::ult, thread, i32(pieces - first));
    whenTrue(inside, [&] {
      Value global =
          first ? b.createOrFold<arith::AddIOp>(from, i64(first * kPiece))
                : from;
      copy(add(add(place, position.base), position.constant), global);
    });
  }
}

void FragmentLowering::lowerAsyncCopy(AsyncCopyOp op) {
  auto type = cast<SharedType>(op.getArray().getType());
  Value thread = getThread();
  int64_t count = threads;
  if (op.getWarps()) {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPoint(own.first);
    thread = add(thread, -32 * static_cast<int64_t>(op.getFirstWarp()));
    count = 32 * static_cast<int64_t>(op.getWarps());
  }
  Value size;
  if (std::optional<int64_t> least = getBound(op.getPresent(), /*upper=*/false);
      !least || *least < 1)
    size = select(
        compare(arith::CmpIPredicate::ne, toI32(op.getPresent()), i32(0)),
        i32(kPiece), i32(0));
  TilePosition position =
      getPosition(type, getOffset(op.getArray()), op.getIndices());
  Value start = getGlobalAddress(op.getSource(), op.getOffset());
  copyRaw(type, position, op.getIndices().size(), start, thread, count,
          [&](Value shared, Value global) {
            NVVM::CpAsyncOp::create(b, getPointer(shared),
                                    getGlobalPointer(global), kPiece,
                                    NVVM::LoadCacheModifierKind::CG, size);
          });
}

void FragmentLowering::lowerCopyOut(CopyOutOp op) {
  auto type = cast<SharedType>(op.getArray().getType());
  TilePosition position =
      getPosition(type, getOffset(op.getArray()), op.getIndices());
  auto piece = VectorType::get({4}, i32Type);
  copyRaw(type, position, op.getIndices().size(),
          getGlobalAddress(op.getTarget(), op.getOffset()), getLane(), 32,
          [&](Value shared, Value global) {
            LLVM::StoreOp::create(b, loadShared(shared, piece, kPiece),
                                  getGlobalPointer(global), kPiece);
          });
}
