//===- SavePlan.cpp - what a forward saves for its backward ---------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Saved bytes fall as 1 / (C N), and work grows as soon as N is more than 1: so
// the smallest N within the budget is the plan.
//
//===----------------------------------------------------------------------===//

#include "delta/Driver/SavePlan.h"

#include "delta/Target/NVPTX/ChunkToMapped/Passes.h"
#include "llvm/Support/Format.h"

#include <cmath>

using namespace llvm;
using mlir::delta::ArgAttr;
using mlir::delta::ArgKind;
using mlir::delta::SignatureAttr;

namespace delta::driver {

/// The plan with N = 1.
static SavePlan makePlan(SignatureAttr signature, int64_t tokens,
                         const CompilerOptions &options) {
  SavePlan plan;
  plan.tokens = tokens;
  ArrayRef<mlir::StringAttr> axes = signature.getState().getAxes();
  plan.rows = signature.getDim(axes[0]).value_or(1);
  plan.cols = signature.getDim(axes[1]).value_or(1);
  bool wide = signature.getOption("compute") == "f64";
  for (ArgAttr arg : signature.getAllArgs()) {
    if (arg.getKind() == ArgKind::Attr)
      continue;
    int64_t bytes = arg.getType().getIntOrFloatBitWidth() / 8;
    wide |= bytes == 8 && signature.getOption("compute").empty();
    if (arg.getKind() != ArgKind::In)
      continue;
    for (mlir::StringAttr axis : arg.getAxes())
      bytes *= signature.getDim(axis).value_or(1);
    if (arg.getFamily())
      bytes *= signature.getDim(arg.getFamily()).value_or(1);
    plan.inputBytes += static_cast<double>(bytes);
  }
  plan.elementBytes = wide ? 8
                      : signature.getOption("target", "cpu") == "cpu"
                          ? 4
                          : mlir::delta::getGpuSavedBytes(
                                signature, options.precision.value_or(""));
  plan.budget = options.saveBudget ? static_cast<double>(*options.saveBudget)
                                   : std::max(plan.inputBytes, 1.0);
  return plan;
}

/// The distance that the budget asks for.
static int64_t getDistance(const SavePlan &plan) {
  return std::max<int64_t>(1, std::ceil(plan.bytesPerToken() / plan.budget));
}

bool fitsBudget(SignatureAttr signature, int64_t tokens,
                const CompilerOptions &options) {
  return getDistance(makePlan(signature, tokens, options)) == 1;
}

FailureOr<SavePlan> planSaves(SignatureAttr signature,
                              const CompilerOptions &options,
                              Reporter &reporter) {
  SavePlan plan =
      makePlan(signature, signature.getIntOption("chunk").value_or(1), options);
  const int64_t most = kMaxSaveEvery;
  if (options.saveEvery) {
    if (*options.saveEvery > most)
      return reporter.error("--save-every=" + Twine(*options.saveEvery) +
                            " is not available; states are saved every " +
                            Twine(most) + " chunks at most");
    plan.every = *options.saveEvery;
    return plan;
  }
  // Without a budget, what is fastest.
  if (!options.saveBudget)
    return plan;
  int64_t distance = getDistance(plan);
  plan.every = std::min(distance, most);
  if (distance > most) {
    std::string least;
    raw_string_ostream(least)
        << format("%.0f", std::ceil(plan.bytesPerToken()));
    return reporter.error(
        "--save-budget=" + Twine(*options.saveBudget) +
        ": no plan saves so little: a state has " + Twine(plan.stateBytes()) +
        " bytes and is saved every " + Twine(plan.tokens * plan.every) +
        " tokens at most, which takes " + least +
        " bytes for every token and head; give --save-budget=" + least +
        " or more");
  }
  return plan;
}

void explainSaves(const SavePlan &plan, raw_ostream &os) {
  os << "  saved for the gradients: the state at the start of every "
     << (plan.every == 1 ? "" : (Twine(plan.every) + "-th ").str())
     << "chunk; everything else is computed again\n";
  os << "save every=" << plan.every << " C=" << plan.tokens
     << " state_bytes=" << plan.stateBytes()
     << format(" bytes_per_token=%g", plan.bytesPerToken()) << " (" << plan.rows
     << " * " << plan.cols << " * " << plan.elementBytes << " / ("
     << plan.tokens << " * " << plan.every << "))"
     << format(" input_bytes_per_token=%g\n", plan.inputBytes);
}

} // namespace delta::driver
