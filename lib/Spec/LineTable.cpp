//===- LineTable.cpp - MLIR locations of source places --------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A table of the places where lines begin.
//
//===----------------------------------------------------------------------===//

#include "LineTable.h"

#include "llvm/ADT/STLExtras.h"

using namespace llvm;

namespace delta::spec {

LineTable::LineTable(const Recurrence &recurrence, const SourceMgr &sources,
                     mlir::MLIRContext *context) {
  const MemoryBuffer *buffer = sources.getMemoryBuffer(
      sources.FindBufferContainingLoc(recurrence.getLoc()));
  fileName = mlir::StringAttr::get(context, buffer->getBufferIdentifier());
  StringRef text = buffer->getBuffer();
  lineStarts.push_back(text.begin());
  for (size_t at = text.find('\n'); at != StringRef::npos;
       at = text.find('\n', at + 1))
    lineStarts.push_back(text.begin() + at + 1);
}

mlir::Location LineTable::locate(SMLoc loc) const {
  if (!loc.isValid())
    return mlir::UnknownLoc::get(fileName.getContext());
  auto next = llvm::upper_bound(lineStarts, loc.getPointer());
  return mlir::FileLineColLoc::get(fileName, next - lineStarts.begin(),
                                   loc.getPointer() - *std::prev(next) + 1);
}

} // namespace delta::spec
