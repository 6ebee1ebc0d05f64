//===- EmitTwoKernels.cpp - The slices as kernels of their own ------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The frames of the free slice's kernel and of the state slice's, and what goes
// from one to the other: a record of every chunk in the workspace, byte for
// byte as the shared arrays hold it.
//
// Test: test/Target/NVPTX/ChunkToMapped/two-kernels.test.
//
//===----------------------------------------------------------------------===//

#include "Emitter.h"
#include "llvm/Support/SaveAndRestore.h"

using namespace mlir;
using namespace mlir::delta;
using namespace mlir::delta::gpumap;

SmallVector<Value> Emitter::emitStateWindow(Value number, ValueRange state) {
  window = number;
  warp::AsyncWaitOp::create(b, 0);
  renewLanes(number);
  auto role = scf::IfOp::create(b, TypeRange(state), prepares,
                                /*withElseRegion=*/true);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(role.thenBlock());
  llvm::SaveAndRestore one(copyWarps, int64_t(1));
  llvm::SaveAndRestore behind(firstCopyWarp, mapping.warps);
  // The other warps have no registers for where this one copies from and to.
  warp::RenewLanesOp::create(b, b.getIndexType(), number, /*warp=*/Value());
  Value next = add(window, index(1));
  auto chunks =
      scf::ForOp::create(b, index(0), index(mapping.window), index(1));
  {
    OpBuilder::InsertionGuard inner(b);
    b.setInsertionPointToStart(chunks.getBody());
    Value number = chunks.getInductionVar();
    emitRecordLoads(next, number);
    emitChunkLoads(next, number, [](const StagedInput &) { return true; });
  }
  warp::AsyncCommitOp::create(b);
  // No state here.
  Value zero = zeros(fragment(mapping.rowsPerWarp, 16));
  scf::YieldOp::create(b, SmallVector<Value>(state.size(), zero));
  b.setInsertionPointToStart(role.elseBlock());
  scf::YieldOp::create(b, emitChunks(state, [] {}));
  return role.getResults();
}

Value Emitter::getRecordBase(Value chunkNumber) {
  // [B, H, chunks, recordBytes]
  Value count = arith::CeilDivUIOp::create(b, kernel.T, index(program.chunk));
  Value sequence = add(mul(batch, kernel.H), head);
  return add(kernel.getWorkspaceOffset(b, recordPart),
             mul(add(mul(sequence, count), chunkNumber), arrays.recordBytes));
}

void Emitter::emitRecordStores() {
  Value number = add(mul(window, mapping.window), chunk);
  auto some = scf::IfOp::create(
      b,
      compare(arith::CmpIPredicate::ult, mul(number, program.chunk), kernel.T),
      /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(some.thenBlock());
  Value base = getRecordBase(number);
  auto write = [&](Value array, ValueRange at, int64_t offset) {
    warp::CopyOutOp::create(b, array, at, kernel.workspace,
                            add(base, index(offset)));
  };
  for (auto [place, array] : llvm::zip_equal(arrays.transfers, transferArrays))
    write(array,
          place.over >= 0
              ? SmallVector<Value>{getStageOf(arrays.inputs[place.over]), chunk}
              : getTransferIndices(),
          place.recordOffset);
  for (auto [place, array] : llvm::zip_equal(arrays.systems, systemInverses))
    write(array, getTransferIndices(), place.recordOffset);
}

void Emitter::emitRecordLoads(Value windowNumber, Value chunkOfWindow) {
  Value stage = getStage(windowNumber, 2);
  Value number = getChunkNumber(windowNumber, chunkOfWindow);
  Value present = getValidTokens(mul(number, program.chunk));
  Value base = getRecordBase(number);
  auto read = [&](Value array, int64_t offset) {
    warp::AsyncCopyOp::create(b, kernel.workspace, add(base, index(offset)),
                              present, array, ValueRange{stage, chunkOfWindow},
                              copyWarps, firstCopyWarp);
  };
  for (auto [place, array] : llvm::zip_equal(arrays.transfers, transferArrays))
    read(array, place.recordOffset);
  for (auto [place, array] : llvm::zip_equal(arrays.systems, systemInverses))
    read(array, place.recordOffset);
}

void Emitter::emitFreeKernel() {
  emitParamLoads();
  emitLoads(window, [](const StagedInput &) { return true; });
  warp::AsyncWaitOp::create(b, 0);
  emitFreeSlice();
  renewLanes(window);
  chunk = warpId;
  emitRecordStores();
}
