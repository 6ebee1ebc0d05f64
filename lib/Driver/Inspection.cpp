//===- Inspection.cpp - what a compilation says of itself -----------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Dumps, explanations, the work of a token, times.
//
//===----------------------------------------------------------------------===//

#include "delta/Driver/Compilation.h"

#include "delta/Analysis/EventChain.h"
#include "delta/Analysis/Explain.h"
#include "delta/Analysis/WorkCount.h"
#include "delta/Driver/Output.h"
#include "delta/Driver/Signature.h"
#include "delta/Target/CPU/ChunkToMapped/Passes.h"
#include "delta/Target/NVPTX/ChunkToMapped/Passes.h"

#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/Path.h"

#include <chrono>

using namespace llvm;
using mlir::delta::SignatureAttr;
using mlir::delta::Stage;

namespace delta::driver {

LogicalResult Compilation::dump() {
  if (options.explain && failed(explain()))
    return failure();
  if (options.dumpDir.empty())
    return success();
  if (std::error_code code = sys::fs::create_directories(options.dumpDir))
    return reporter.error("cannot write '" + options.dumpDir +
                          "': " + code.message());
  SmallString<128> path(options.dumpDir);
  sys::path::append(path, Twine("0") + Twine(static_cast<int>(getStage()) + 1) +
                              "-" + mlir::delta::stringifyStage(getStage()) +
                              ".mlir");
  std::string text;
  raw_string_ostream(text) << *module << '\n';
  return writeOutput(path, text, /*binary=*/false, reporter);
}

LogicalResult Compilation::explain() {
  switch (getStage()) {
  case Stage::Events:
    return mlir::delta::explainEvents(*module, reporter.getStream());
  case Stage::Chunk:
    if (failed(mlir::delta::explainChunk(*module, reporter.getStream())))
      return failure();
    if (isForGpu())
      return mlir::delta::explainGpuMapping(*module, gpuMapping,
                                            reporter.getStream());
    return success();
  case Stage::Mapped:
    if (!isForGpu())
      mlir::delta::explainCpuMapping(*module, reporter.getStream());
    return success();
  default:
    return success();
  }
}

LogicalResult Compilation::explainFurther() {
  if (!options.explain)
    return success();
  if (getStage() == Stage::Step && failed(lowerTo(Stage::Events)))
    return failure();
  if (getStage() != Stage::Events || fn == Fn::Decode)
    return success();
  SignatureAttr signature = getSignature();
  for (const std::string &name : driver::getDimNames(*module)) {
    if (signature.getDim(name))
      continue;
    reporter.note("with -D " + name +
                  "=SIZE the chunk program is explained, too");
    return success();
  }
  return lowerTo(isForGpu() ? Stage::Chunk : Stage::Mapped);
}

FailureOr<double> Compilation::countFlopsPerToken() {
  if (fn == Fn::Decode) {
    if (getStage() > Stage::Events)
      return 0.0;
    if (failed(lowerTo(Stage::Events)))
      return failure();
    FailureOr<mlir::delta::EventChain> chain =
        mlir::delta::buildEventChain(mlir::delta::getRecurrence(*module));
    if (failed(chain))
      return failure();
    double state = 1;
    SignatureAttr signature = getSignature();
    for (mlir::StringAttr axis : signature.getState().getAxes())
      state *=
          static_cast<double>(signature.getDim(axis.getValue()).value_or(0));
    return state *
           static_cast<double>(chain->decays.size() + 2 * chain->reads.size() +
                               2 * chain->writes.size());
  }
  if (getStage() > Stage::Chunk)
    return 0.0;
  if (failed(lowerTo(Stage::Chunk)))
    return failure();
  mlir::delta::WorkCount work = mlir::delta::countWork(*module);
  // What a larger chunk does beyond this is its own affair.
  work.tokens = 16;
  return work.flopsPerToken();
}

LogicalResult Compilation::timed(StringRef name,
                                 function_ref<LogicalResult()> body) {
  auto begin = std::chrono::steady_clock::now();
  LogicalResult result = body();
  std::chrono::duration<double> taken =
      std::chrono::steady_clock::now() - begin;
  times.emplace_back(name.str(), taken.count());
  return result;
}

void Compilation::printTiming() {
  if (!options.timing)
    return;
  double sum = 0;
  for (auto &[name, seconds] : times) {
    reporter.getStream() << format("timing %-10s %9.2f ms\n", name.c_str(),
                                   1e3 * seconds);
    sum += seconds;
  }
  reporter.getStream() << format("timing %-10s %9.2f ms\n", "total", 1e3 * sum);
}

} // namespace delta::driver
