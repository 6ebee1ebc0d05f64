//===- Parser.h - parsing of PTX --------------------------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// From PTX text to ptx::File.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_LIB_SIMULATOR_PARSER_H
#define DELTA_LIB_SIMULATOR_PARSER_H

#include "Ptx.h"
#include "delta/Runtime/Status.h"

#include <memory>
#include <optional>

namespace delta::sim::ptx {

/// Parses a file. The error is worded "NAME:LINE:COL: error: ...".
runtime::Expected<std::unique_ptr<File>> parse(std::string_view text,
                                               std::string name);

/// "NAME:LINE:COL: error: " to begin a message with.
std::string place(const File &file, uint32_t line, uint32_t column);

} // namespace delta::sim::ptx

#endif // DELTA_LIB_SIMULATOR_PARSER_H
