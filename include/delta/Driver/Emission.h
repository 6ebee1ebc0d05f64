//===- Emission.h - artefacts of a compilation ------------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Lowers a compilation as far as an artefact needs, and makes its bytes.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_DRIVER_EMISSION_H
#define DELTA_DRIVER_EMISSION_H

#include "delta/Driver/Compilation.h"
#include "delta/Driver/Options.h"
#include "delta/Driver/Report.h"
#include "delta/Runtime/Bundle.h"

#include <string>

namespace delta::driver {

/// Whether the artefact's bytes are not text. Modules written to a name ending
/// in .mlirbc are bytecode.
bool isBinary(Artefact artefact, llvm::StringRef output);

/// The bytes of the artefact, for the output `output`.
llvm::FailureOr<std::string> emitArtefact(Compilation &compilation,
                                          Artefact artefact,
                                          llvm::StringRef output,
                                          Reporter &reporter);

/// Lowers a compilation to machine code for its function and target, with all
/// that is needed to call it: a shared library for the CPU, PTX for a GPU, and
/// a cubin beside it when `withCubin` and there is an assembler.
llvm::FailureOr<runtime::BundleKernel>
makeBundleKernel(Compilation &compilation, bool withCubin, Reporter &reporter);

/// The bytes of a bundle with a kernel for every target and function that the
/// options name. Every compilation says for itself what was asked for with
/// --explain and --timing.
llvm::FailureOr<std::string> emitBundle(const CompilerOptions &options,
                                        Reporter &reporter);

/// Links a module of stage `llvm` for a CPU into the bytes of a shared
/// library.
llvm::FailureOr<std::string> linkSharedLibrary(mlir::ModuleOp module,
                                               const cpu::CpuTarget &target,
                                               Reporter &reporter);

} // namespace delta::driver

#endif // DELTA_DRIVER_EMISSION_H
