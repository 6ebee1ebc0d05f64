//===- Suggest.cpp - the nearest known name -------------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Edit distance with swaps of neighbours, over three rolling rows.
//
//===----------------------------------------------------------------------===//

#include "delta/Runtime/Suggest.h"

#include <algorithm>
#include <cctype>

namespace delta::runtime {

static int lower(char c) { return std::tolower(static_cast<unsigned char>(c)); }

unsigned editDistance(std::string_view a, std::string_view b) {
  std::vector<unsigned> before(b.size() + 1), above(b.size() + 1),
      row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j)
    above[j] = static_cast<unsigned>(j);
  for (size_t i = 1; i <= a.size(); ++i) {
    row[0] = static_cast<unsigned>(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      bool same = lower(a[i - 1]) == lower(b[j - 1]);
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + !same});
      if (i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) &&
          lower(a[i - 2]) == lower(b[j - 1]))
        row[j] = std::min(row[j], before[j - 2] + 1);
    }
    before.swap(above);
    above.swap(row);
  }
  return above[b.size()];
}

std::string nearestName(std::string_view name,
                        const std::vector<std::string> &candidates) {
  // Quadratic work on a name of a megabyte would look like a hang.
  if (name.size() > 200)
    return "";
  unsigned limit =
      std::max<unsigned>(1, static_cast<unsigned>(name.size()) / 3);
  // A name of one letter is as near to every other.
  if (name.size() < 2)
    limit = 0;
  std::string nearest;
  for (const std::string &candidate : candidates) {
    unsigned distance = editDistance(name, candidate);
    if (distance > limit)
      continue;
    nearest = candidate;
    if (distance == 0)
      break;
    limit = distance - 1;
  }
  return nearest;
}

std::string didYouMean(std::string_view name,
                       const std::vector<std::string> &candidates) {
  std::string nearest = nearestName(name, candidates);
  return nearest.empty() ? "" : "; did you mean '" + nearest + "'?";
}

} // namespace delta::runtime
