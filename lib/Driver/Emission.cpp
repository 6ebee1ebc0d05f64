//===- Emission.cpp - artefacts of a compilation --------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Stages are printed as they are; machine code is made from the stage `llvm`.
//
//===----------------------------------------------------------------------===//

#include "delta/Driver/Emission.h"

#include "delta/Target/CPU/Aot.h"
#include "delta/Target/CPU/CpuTarget.h"
#include "delta/Target/NVPTX/Codegen.h"

#include "mlir/Bytecode/BytecodeWriter.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FileUtilities.h"
#include "llvm/Support/MemoryBuffer.h"

using namespace llvm;
using mlir::delta::Stage;

namespace delta::driver {

namespace {

bool wantsBytecode(StringRef output) { return output.ends_with(".mlirbc"); }

std::optional<Stage> getStage(Artefact artefact) {
  switch (artefact) {
  case Artefact::Step:
    return Stage::Step;
  case Artefact::Events:
    return Stage::Events;
  case Artefact::Chunk:
    return Stage::Chunk;
  case Artefact::Mapped:
    return Stage::Mapped;
  case Artefact::LLVM:
    return Stage::LLVM;
  default:
    return std::nullopt;
  }
}

FailureOr<std::string> printModule(mlir::ModuleOp module, StringRef output,
                                   Reporter &reporter) {
  std::string text;
  raw_string_ostream os(text);
  if (!wantsBytecode(output)) {
    module->print(os);
    if (!StringRef(text).ends_with("\n"))
      os << '\n';
    return text;
  }
  if (failed(mlir::writeBytecodeToFile(module, os)))
    return reporter.error("the module cannot be written as bytecode");
  return text;
}

LogicalResult toResult(cpu::EmitResult result, Reporter &reporter) {
  switch (result) {
  case cpu::EmitResult::Ok:
    return success();
  case cpu::EmitResult::Failed:
    return failure();
  case cpu::EmitResult::ToolAbsent:
    return reporter.absent();
  }
  return failure();
}

/// Object, library or header of a module of stage `llvm`.
FailureOr<std::string> emitCode(mlir::ModuleOp module, Artefact artefact,
                                const cpu::CpuTarget &target,
                                Reporter &reporter) {
  if (artefact == Artefact::So)
    return linkSharedLibrary(module, target, reporter);
  std::string contents;
  raw_string_ostream os(contents);
  if (failed(toResult(artefact == Artefact::Obj
                          ? cpu::emitObject(module, target, os)
                          : cpu::emitHeader(module, os),
                      reporter)))
    return failure();
  return contents;
}

bool isForGpu(Artefact artefact) {
  return artefact == Artefact::Ptx || artefact == Artefact::Cubin;
}

/// Refuses machine code of another target than the compilation's.
LogicalResult checkTarget(const Compilation &compilation, Artefact artefact,
                          Reporter &reporter) {
  if (isForGpu(artefact) == compilation.isForGpu())
    return success();
  std::string emit = ("--emit=" + stringifyArtefact(artefact)).str();
  if (isForGpu(artefact))
    return reporter.error(emit + " needs a GPU target; give --target=sm_80 or "
                                 "--target=sm_90a");
  return reporter.error(emit + " is for target 'cpu'; for '" +
                        compilation.getTarget() +
                        "' expected --emit=ptx or --emit=cubin");
}

/// PTX or cubin of a module of stage `llvm`; with --explain the assembler's
/// report of each kernel, too.
FailureOr<std::string> emitGpuCode(Compilation &compilation, Artefact artefact,
                                   Reporter &reporter) {
  mlir::ModuleOp module = compilation.getModule();
  FailureOr<std::string> ptx = failure();
  if (failed(compilation.timed("ptx",
                               [&] {
                                 ptx = gpu::emitPtx(module);
                                 return success(succeeded(ptx));
                               })) ||
      artefact == Artefact::Ptx)
    return ptx;
  gpu::Cubin cubin;
  if (failed(compilation.timed("cubin", [&]() -> LogicalResult {
        switch (gpu::assemble(module, *ptx, cubin)) {
        case gpu::AssembleResult::Ok:
          return success();
        case gpu::AssembleResult::Failed:
          return failure();
        case gpu::AssembleResult::ToolAbsent:
          return reporter.absent();
        }
        return failure();
      })))
    return failure();
  FailureOr<gpu::GpuTarget> target = mlir::delta::getGpuTarget(module);
  if (compilation.wantsExplanation())
    for (const gpu::KernelReport &report : cubin.kernels)
      reporter.getStream() << gpu::formatReport(report, *target) << '\n';
  return std::move(cubin.bytes);
}

} // namespace

/// A linker needs a file; it is read back.
FailureOr<std::string> linkSharedLibrary(mlir::ModuleOp module,
                                         const cpu::CpuTarget &target,
                                         Reporter &reporter) {
  SmallString<128> path;
  if (std::error_code code = sys::fs::createTemporaryFile("delta", "so", path))
    return reporter.error("cannot make a temporary file: " + code.message());
  FileRemover remover(path);
  if (failed(toResult(cpu::emitSharedLibrary(module, target, path), reporter)))
    return failure();
  ErrorOr<std::unique_ptr<MemoryBuffer>> buffer =
      MemoryBuffer::getFile(path, /*IsText=*/false,
                            /*RequiresNullTerminator=*/false);
  if (!buffer)
    return reporter.error("cannot read '" + path +
                          "': " + buffer.getError().message());
  return (*buffer)->getBuffer().str();
}

bool isBinary(Artefact artefact, StringRef output) {
  switch (artefact) {
  case Artefact::Obj:
  case Artefact::So:
  case Artefact::Bundle:
  case Artefact::Cubin:
    return true;
  case Artefact::Header:
  case Artefact::Ptx:
    return false;
  default:
    return wantsBytecode(output);
  }
}

FailureOr<std::string> emitArtefact(Compilation &compilation, Artefact artefact,
                                    StringRef output, Reporter &reporter) {
  if (std::optional<Stage> stage = getStage(artefact)) {
    if (failed(compilation.lowerTo(*stage)))
      return failure();
    return printModule(compilation.getModule(), output, reporter);
  }
  if (failed(checkTarget(compilation, artefact, reporter)) ||
      failed(compilation.lowerTo(Stage::LLVM)))
    return failure();
  if (isForGpu(artefact))
    return emitGpuCode(compilation, artefact, reporter);
  FailureOr<std::string> contents = failure();
  if (failed(compilation.timed(stringifyArtefact(artefact), [&] {
        contents = emitCode(compilation.getModule(), artefact,
                            compilation.getCpuTarget(), reporter);
        return success(succeeded(contents));
      })))
    return failure();
  return contents;
}

} // namespace delta::driver
