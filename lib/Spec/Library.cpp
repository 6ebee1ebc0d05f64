//===- Library.cpp - the recurrences that come with delta -----------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Lookup in the table that the build generates from the folder specs/.
//
//===----------------------------------------------------------------------===//

#include "delta/Spec/Library.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallVector.h"

using namespace llvm;

namespace delta::spec {

namespace {
struct Entry {
  StringRef name;
  StringRef text;
};
} // namespace

static const Entry entries[] = {
#include "LibrarySpecs.inc"
};

std::optional<StringRef> lookupLibrarySpec(StringRef name) {
  const Entry *it = llvm::find_if(
      entries, [&](const Entry &entry) { return entry.name == name; });
  if (it == std::end(entries))
    return std::nullopt;
  return it->text;
}

ArrayRef<StringRef> librarySpecNames() {
  static const SmallVector<StringRef> names = [] {
    SmallVector<StringRef> result;
    for (const Entry &entry : entries)
      result.push_back(entry.name);
    llvm::sort(result);
    return result;
  }();
  return names;
}

} // namespace delta::spec
