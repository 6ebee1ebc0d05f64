//===- Input.h - finding and reading what to compile ------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// SPEC on the command line: a library name, a file, or standard input; a spec
// in the language or a module as text or bytecode.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_DRIVER_INPUT_H
#define DELTA_DRIVER_INPUT_H

#include "delta/Driver/Report.h"

#include "llvm/Support/MemoryBuffer.h"

#include <memory>
#include <optional>
#include <string>

namespace delta::driver {

/// A text and whether it is a module; its identifier is shown in messages.
struct Input {
  std::unique_ptr<llvm::MemoryBuffer> buffer;
  bool isModule = false;
};

/// Reads `name`: "-" is standard input, a library spec's name that spec,
/// anything else a file. `standardInput` is what that holds, when it has been
/// read before. Reports what cannot be read and suggests the nearest
/// library name.
llvm::FailureOr<Input>
readInput(llvm::StringRef name, Reporter &reporter,
          const std::optional<std::string> &standardInput = std::nullopt);

/// Whether the text is a module rather than a spec: bytecode, or its first word
/// is one that only a module begins with.
bool looksLikeModule(llvm::StringRef text);

} // namespace delta::driver

#endif // DELTA_DRIVER_INPUT_H
