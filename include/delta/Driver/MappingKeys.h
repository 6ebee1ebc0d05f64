//===- MappingKeys.h - what --mapping can pin -------------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// One table of keys for each target and function, from which --help, the parser
// and its complaints are made.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_DRIVER_MAPPINGKEYS_H
#define DELTA_DRIVER_MAPPINGKEYS_H

#include "delta/Driver/Options.h"
#include "delta/Driver/Report.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"

#include <string>

namespace delta::driver {

/// A choice that can be pinned: an integer.
struct MappingKey {
  llvm::StringRef name;
  llvm::StringRef values; ///< the accepted ones, in words
  llvm::StringRef description;
};

/// The keys of a target ("cpu" or a GPU's name) and function; maybe none.
llvm::ArrayRef<MappingKey> getMappingKeys(llvm::StringRef target, Fn fn);

/// The keys of all targets, for --help.
std::string describeMappingKeys();

/// The values of --mapping as integers. Reports names that the target does not
/// know, with the nearest that it does, and what is not a positive integer;
/// ranges are the mapping's to judge, which knows the machine. What only the
/// function `beside` has is passed over.
llvm::FailureOr<NamedValues<int64_t>>
parseMapping(const NamedValues<std::string> &mapping, llvm::StringRef target,
             Fn fn, std::optional<Fn> beside, Reporter &reporter);

} // namespace delta::driver

#endif // DELTA_DRIVER_MAPPINGKEYS_H
