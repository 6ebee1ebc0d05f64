//===- ImportSignature.h - the interface of a recurrence --------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Declarations as the module attribute `delta.signature` has them.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_LIB_SPEC_IMPORTSIGNATURE_H
#define DELTA_LIB_SPEC_IMPORTSIGNATURE_H

#include "delta/Dialect/Delta/IR/Delta.h"
#include "delta/Spec/Import.h"

namespace delta::spec {

/// Every input, param, attr, state and out in source order. Null after an
/// error about `options`, which is emitted at the recurrence.
mlir::delta::SignatureAttr importSignature(const Recurrence &recurrence,
                                           const llvm::SourceMgr &sources,
                                           mlir::MLIRContext *context,
                                           const ImportOptions &options);

} // namespace delta::spec

#endif // DELTA_LIB_SPEC_IMPORTSIGNATURE_H
