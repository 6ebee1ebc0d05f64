//===- Explain.cpp - What was derived, in plain words ---------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// See the header.
//
//===----------------------------------------------------------------------===//

#include "delta/Analysis/Explain.h"
#include "delta/Analysis/EventChain.h"
#include "delta/Analysis/RangeAnalysis.h"
#include "delta/Analysis/WorkCount.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "llvm/Support/Format.h"

#include <cmath>

using namespace mlir;
using namespace mlir::delta;

/// Prints an operand as the formula a reader would write, a few levels deep.
static void printFormula(Value value, SignatureAttr signature,
                         llvm::raw_ostream &os, int depth = 6) {
  if (auto arg = dyn_cast<BlockArgument>(value)) {
    unsigned index = 0;
    for (ArgAttr entry : signature.getAllArgs()) {
      if (entry.getKind() == ArgKind::State || entry.getKind() == ArgKind::Out)
        continue;
      if (index++ == arg.getArgNumber()) {
        os << entry.getName().getValue();
        return;
      }
    }
    os << signature.getState().getName().getValue();
    return;
  }
  Operation *op = value.getDefiningOp();
  auto operand = [&](unsigned i) {
    printFormula(op->getOperand(i), signature, os, depth - 1);
  };
  if (depth == 0) {
    os << "...";
  } else if (auto constant = dyn_cast<arith::ConstantOp>(op)) {
    if (auto number = dyn_cast<FloatAttr>(constant.getValue()))
      os << llvm::format("%g", number.getValueAsDouble());
    else
      os << constant.getValue();
  } else if (isa<BroadcastOp>(op)) {
    operand(0);
  } else if (isa<arith::NegFOp>(op)) {
    os << '-';
    operand(0);
  } else if (isa<arith::AddFOp, arith::SubFOp, arith::MulFOp, arith::DivFOp>(
                 op)) {
    bool paren = !isa<arith::MulFOp>(op);
    bool scalar = isa<FloatType>(value.getType()) ||
                  op->getOperand(0).getDefiningOp<BroadcastOp>() ||
                  op->getOperand(1).getDefiningOp<BroadcastOp>();
    os << (paren ? "(" : "");
    operand(0);
    os << (isa<arith::AddFOp>(op)   ? " + "
           : isa<arith::SubFOp>(op) ? " - "
           : isa<arith::DivFOp>(op) ? " / "
           : scalar                 ? "*"
                                    : " .* ");
    operand(1);
    os << (paren ? ")" : "");
  } else if (auto dim = dyn_cast<DimOp>(op)) {
    os << dim.getName();
  } else if (isa<MicroOp>(op)) {
    operand(0);
    os << "[";
    if (auto index = op->getOperand(1).getDefiningOp<arith::ConstantIndexOp>())
      os << index.value();
    os << "]";
  } else if (auto read = dyn_cast<ReadOp>(op)) {
    os << "read(";
    operand(1);
    os << ")";
  } else {
    os << op->getName().stripDialect() << '(';
    for (unsigned i = 0; i < op->getNumOperands(); ++i) {
      os << (i ? ", " : "");
      operand(i);
    }
    os << ')';
  }
}

LogicalResult mlir::delta::explainEvents(ModuleOp module,
                                         llvm::raw_ostream &os) {
  RecurrenceOp events = getRecurrence(module);
  SignatureAttr signature = getSignature(module);
  FailureOr<EventChain> chain = buildEventChain(events);
  if (failed(chain))
    return failure();
  auto formula = [&](Value value) { printFormula(value, signature, os); };
  os << "recurrence " << events.getSymName() << "\n  events of one token:\n";
  // Reads stand before the event that follows their state.
  auto printReads = [&](unsigned decays, unsigned writes) {
    for (auto &read : chain->reads)
      if (read.decays == decays && read.writes == writes) {
        os << "    read   S^T ";
        formula(read.op.getX());
        os << '\n';
      }
  };
  unsigned decays = 0, writes = 0;
  printReads(0, 0);
  while (decays < chain->decays.size() || writes < chain->writes.size()) {
    bool write =
        writes < chain->writes.size() && chain->writes[writes].decays == decays;
    if (write) {
      WriteOp op = chain->writes[writes].op;
      os << "    write  S + ";
      formula(op.getY());
      os << " * (";
      formula(op.getC());
      os << ")^T" << (chain->writes[writes].feedback ? "   (feedback)" : "")
         << '\n';
      ++writes;
    } else {
      DecayOp op = chain->decays[decays];
      bool scalar = isa<FloatType>(op.getW().getType());
      os << "    decay  " << (scalar ? "" : "diag(");
      formula(op.getW());
      os << (scalar ? "" : ")") << " S\n";
      ++decays;
    }
    printReads(decays, writes);
  }
  unsigned rank = chain->getRank();
  os << "  transition: "
     << (chain->decays.empty()     ? "identity"
         : chain->hasScalarDecay() ? "scalar decay"
                                   : "diagonal decay")
     << " plus rank " << rank << '\n';
  if (rank == 0)
    os << "  no write depends on the state: no triangular solve\n";
  for (auto &write : chain->writes)
    for (auto &read : chain->reads)
      if (write.feedback && write.op.getY() == read.op.getX()) {
        os << "  tied: ";
        formula(read.op.getX());
        os << " is read and written, so reads and writes share their factors\n";
        break;
      }
  if (chain->decays.empty()) {
    os << "  decay: none, so no exponential and no factor is needed\n";
  } else if (chain->hasScalarDecay()) {
    os << "  decay: a scalar a token, so pairs of tokens share a C x C mask of "
          "running products, each in [0, 1] for a decay in [0, 1]\n";
  } else {
    std::optional<double> bound = boundLogDecay(events);
    if (bound)
      os << llvm::format(
          "  decay: declared ranges prove |log w| <= %.4g a token\n", *bound);
    else
      os << "  decay: no declared range bounds log w, so nothing is assumed: "
            "every factor is a product of w over an interval of tokens\n";
  }
  return success();
}

LogicalResult mlir::delta::explainChunk(ModuleOp module,
                                        llvm::raw_ostream &os) {
  WorkCount work = countWork(module);
  SignatureAttr signature = getSignature(module);
  DecayGramOp gram;
  bool scalar = false, wholeSolve = false;
  module.walk([&](Operation *op) {
    if (auto found = dyn_cast<DecayGramOp>(op))
      gram = found;
    scalar |= isa<DecayMaskOp>(op);
    // Rank-0 programs with a decay have no mask when nothing is written.
    if (auto prefix = dyn_cast<PrefixProductOp>(op))
      scalar |= cast<RankedTensorType>(prefix.getType()).getRank() == 1;
    wholeSolve |= isa<TriSolveOp>(op);
  });
  int64_t leaf = gram ? gram.getLeaf() : work.tokens;
  os << "  chunk of " << work.tokens << " tokens, state " << work.rows << " x "
     << work.columns << ", computed in " << signature.getOption("compute")
     << '\n';
  if (gram && gram.getScheme() == DecayScheme::Anchored)
    os << "  decay: the declared range keeps 1/prefix below e^64 over leaves "
          "of "
       << leaf
       << " tokens, so one factor anchored at a leaf's start is allowed; a "
          "target may still halve them, as the CPU does at no cost\n";
  else if (gram)
    os << "  decay: dyadic; tokens in different leaves of " << leaf
       << " are split at a block's midpoint, inside a leaf products over the "
          "tokens between; no factor exceeds 1 for a decay in [0, 1] and none "
          "is divided by\n";
  os << "  matrix products a chunk: " << work.g << " Grams (g = 2 C^2 K), "
     << work.s << " mixes (s = 2 C^2 V), " << work.h
     << " with the state (h = 2 C K V)";
  if (wholeSolve)
    os << ", one triangular solve of " << work.tokens * work.solve << " rows";
  os << '\n';
  double bytes = getBytesPerToken(signature);
  os << llvm::format("  bytes a token: %.0f, so %.1f FLOP a byte\n", bytes,
                     bytes ? work.flopsPerToken() / bytes : 0.0);
  const char *decay =
      gram ? (gram.getScheme() == DecayScheme::Anchored ? "anchored" : "dyadic")
      : scalar ? "scalar"
               : "none";
  os << "chunk C=" << work.tokens << " form=" << (work.solve ? "solve" : "none")
     << " decay=" << decay << " leaf=" << leaf << " g=" << work.g
     << " s=" << work.s << " h=" << work.h << " solve=" << work.solve
     << llvm::format(" flops_per_token=%.0f\n", work.flopsPerToken());
  if (work.isBackward) {
    const ProductCount &again = work.recomputed;
    os << "backward g=" << work.g - again.g << " s=" << work.s - again.s
       << " h=" << work.h - again.h << ", computed again g=" << again.g
       << " s=" << again.s << " h=" << again.h << '\n';
  }
  return success();
}
