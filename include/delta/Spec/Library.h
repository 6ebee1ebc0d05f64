//===- Library.h - the recurrences that come with delta ---------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The specs of the folder specs/, embedded at build time, so that a bare name
// works everywhere without a file.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_SPEC_LIBRARY_H
#define DELTA_SPEC_LIBRARY_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"
#include <optional>

namespace delta::spec {

/// The text of the library spec `name`, or nothing.
std::optional<llvm::StringRef> lookupLibrarySpec(llvm::StringRef name);

/// The names of all library specs, sorted.
llvm::ArrayRef<llvm::StringRef> librarySpecNames();

} // namespace delta::spec

#endif // DELTA_SPEC_LIBRARY_H
