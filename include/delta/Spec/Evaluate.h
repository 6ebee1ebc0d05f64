//===- Evaluate.h - values of constant expressions --------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// An attr's default is an expression of numbers, dims and earlier attrs, such
// as `K ^ -0.5`. Its value is known when the dims are; these functions compute
// it from the text that travels with the IR.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_SPEC_EVALUATE_H
#define DELTA_SPEC_EVALUATE_H

#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/Error.h"

#include <string>

namespace delta::spec {

/// Evaluates `text`, an expression of the spec language, in float64. Names are
/// looked up in `dims` and then in `attrs`. Fails, with a sentence, on a syntax
/// error, an unknown name, a value that is not scalar, and a result that is not
/// finite.
llvm::Expected<double> evaluateConstant(llvm::StringRef text,
                                        const llvm::StringMap<int64_t> &dims,
                                        const llvm::StringMap<double> &attrs);

/// The names that `text` is computed from, in order of first use. Empty for a
/// text with a syntax error.
llvm::SmallVector<std::string> getConstantNames(llvm::StringRef text);

} // namespace delta::spec

#endif // DELTA_SPEC_EVALUATE_H
