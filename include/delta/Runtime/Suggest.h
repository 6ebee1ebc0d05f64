//===- Suggest.h - the nearest known name -----------------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Finds, for a name nobody knows, the known one that was probably meant.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_RUNTIME_SUGGEST_H
#define DELTA_RUNTIME_SUGGEST_H

#include <string>
#include <string_view>
#include <vector>

namespace delta::runtime {

/// The number of single-character insertions, deletions, substitutions and
/// swaps of neighbours that turn `a` into `b`; letters' case costs nothing.
unsigned editDistance(std::string_view a, std::string_view b);

/// The candidate nearest to `name`, the first among equals; empty when none is
/// near enough to be a slip (a third of the letters, at least one).
std::string nearestName(std::string_view name,
                        const std::vector<std::string> &candidates);

/// "; did you mean 'NEAREST'?" or nothing, to end an error with.
std::string didYouMean(std::string_view name,
                       const std::vector<std::string> &candidates);

} // namespace delta::runtime

#endif // DELTA_RUNTIME_SUGGEST_H
