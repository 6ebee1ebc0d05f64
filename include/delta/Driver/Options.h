//===- Options.h - what the tools were asked for ----------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The command line, parsed and validated once. Nothing behind this header reads
// a flag or the environment.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_DRIVER_OPTIONS_H
#define DELTA_DRIVER_OPTIONS_H

#include "delta/Driver/Report.h"
#include "delta/Runtime/Binding.h"

#include "llvm/ADT/StringRef.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace delta::driver {

using runtime::kMaxDim;
using runtime::NamedValues;

/// What delta-compile can emit; stages come first, in their order.
enum class Artefact {
  Step,
  Events,
  Chunk,
  Mapped,
  LLVM,
  Obj,
  So,
  Header,
  Ptx,
  Cubin,
  Bundle
};

llvm::StringRef stringifyArtefact(Artefact artefact);

enum class Fn { Forward, Backward, Decode };

llvm::StringRef stringifyFn(Fn fn);

/// How a spec or module is compiled. An unset optional means that the option
/// was not given: the default, or what the input module says.
struct CompilerOptions {
  /// File, library name, or "-" for standard input.
  std::string input;
  /// What standard input holds, when it has been read before.
  std::optional<std::string> standardInput;
  /// Whether the input was loaded before, and its warnings given.
  bool repeated = false;

  std::optional<std::string> target; ///< "cpu", or the name of a GPU
  std::optional<std::string> mcpu;   ///< LLVM's name of the CPU
  /// The target when neither an option nor a module names one.
  std::string defaultTarget = "cpu";
  std::optional<Fn> fn;
  /// A function that is compiled with the same choices pinned: those that only
  /// it has are no mistake.
  std::optional<Fn> beside;
  /// All targets and functions when several are given, which only a bundle can
  /// hold; `target` and `fn` are unset then.
  std::vector<std::string> targets;
  std::vector<Fn> fns;
  NamedValues<int64_t> dims;
  std::optional<runtime::DType> dtype;
  NamedValues<runtime::DType> dtypeOf;
  NamedValues<double> attrs;
  std::optional<std::string> precision;
  std::optional<int64_t> chunk; ///< none: chosen by the compiler
  NamedValues<std::string> mapping;
  NamedValues<int64_t> assume; ///< B, T, H for the cost model
  /// Bytes a token and head that saved states may take; none: the states of all
  /// chunks are saved.
  std::optional<int64_t> saveBudget;
  /// Chunks from one saved state to the next: for a forward that saves them,
  /// and for the backward that reads them, which finds one by the budget
  /// without it.
  std::optional<int64_t> saveEvery;

  bool explain = false;
  bool timing = false;
  std::string dumpDir; ///< empty: no dumps
  /// Whether MLIR's own flags were parsed, and are to be obeyed.
  bool obeysMlirFlags = false;
};

using runtime::RandomOptions;

// The parsers below report what is wrong, naming the option, and fail.

/// "NAME=VALUE,NAME=VALUE" with integer values; `names`, if any, are the only
/// ones allowed. Duplicates are an error.
llvm::FailureOr<NamedValues<int64_t>>
parseIntegers(llvm::StringRef option, llvm::StringRef text,
              llvm::ArrayRef<llvm::StringRef> names, Reporter &reporter);

llvm::FailureOr<RandomOptions> parseRandom(llvm::StringRef text,
                                           Reporter &reporter);

/// The artefact of that name.
llvm::FailureOr<Artefact> parseArtefact(llvm::StringRef text,
                                        Reporter &reporter);

/// The texts of the command line that `parseCompilerOptions` reads; empty means
/// not given.
struct CompilerFlags {
  std::string input, target, mcpu, fn, precision, chunk, mapping, assume;
  std::string saveBudget, saveEvery, dumpDir;
  std::vector<std::string> dims, dtypes, attrs;
  bool explain = false, timing = false;
};

llvm::FailureOr<CompilerOptions>
parseCompilerOptions(const CompilerFlags &flags, Reporter &reporter);

/// Refuses several targets or functions, which only a bundle can hold.
llvm::LogicalResult requireOneKernel(const CompilerOptions &options,
                                     Reporter &reporter);

} // namespace delta::driver

#endif // DELTA_DRIVER_OPTIONS_H
