//===- LineTable.h - MLIR locations of source places ------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// SourceMgr finds a column by walking back to the start of the line, which
// takes quadratic time on the long lines of generated specs; this does not.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_LIB_SPEC_LINETABLE_H
#define DELTA_LIB_SPEC_LINETABLE_H

#include "delta/Spec/AST.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/Location.h"
#include "llvm/Support/SourceMgr.h"

namespace delta::spec {

class LineTable {
public:
  /// For the buffer of `sources` that `recurrence` was parsed from.
  LineTable(const Recurrence &recurrence, const llvm::SourceMgr &sources,
            mlir::MLIRContext *context);

  /// The file, line and column of `loc`; columns count bytes from 1.
  mlir::Location locate(llvm::SMLoc loc) const;

private:
  mlir::StringAttr fileName;
  std::vector<const char *> lineStarts;
};

} // namespace delta::spec

#endif // DELTA_LIB_SPEC_LINETABLE_H
