//===- EventChain.cpp - The chain of events as a table --------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// See the header.
//
//===----------------------------------------------------------------------===//

#include "delta/Analysis/EventChain.h"
#include "delta/Analysis/LinearForm.h"

using namespace mlir;
using namespace mlir::delta;

unsigned EventChain::indexOf(Value read) const {
  for (auto [index, entry] : llvm::enumerate(reads))
    if (ReadOp(entry.op).getResult() == read)
      return index;
  return reads.size();
}

unsigned EventChain::getRank() const {
  return llvm::count_if(writes, [](const Write &write) { return write.feedback; });
}

bool EventChain::hasScalarDecay() const {
  return llvm::all_of(decays, [](DecayOp decay) {
    return isa<FloatType>(decay.getW().getType());
  });
}

FailureOr<EventChain> mlir::delta::buildEventChain(RecurrenceOp events) {
  EventChain chain;
  Value state = events.getStateArgument();
  while (true) {
    Operation *next = nullptr;
    for (Operation *user : state.getUsers()) {
      if (auto read = dyn_cast<ReadOp>(user)) {
        if (!read->use_empty())
          chain.reads.push_back(
              {read, static_cast<unsigned>(chain.decays.size()),
               static_cast<unsigned>(chain.writes.size())});
        continue;
      }
      // A state nobody uses any more does not branch the chain.
      if (!isa<YieldOp>(user) && user->use_empty())
        continue;
      if (next && next != user) {
        InFlightDiagnostic diag = user->emitError(
            "the state is used by two events, so the events are no chain");
        diag.attachNote(next->getLoc()) << "the other one is here";
        return failure();
      }
      next = user;
    }
    if (!next)
      return events.emitError("the chain of events does not reach the yielded "
                              "state");
    if (isa<YieldOp>(next)) {
      if (events.getYield().getValues()[0] != state)
        return events.emitError("the chain of events does not reach the "
                                "yielded state");
      break;
    }
    if (auto decay = dyn_cast<DecayOp>(next)) {
      chain.decays.push_back(decay);
      state = decay.getResult();
    } else if (auto write = dyn_cast<WriteOp>(next)) {
      chain.writes.push_back({write, static_cast<unsigned>(chain.decays.size()),
                              dependsOnRead(write.getC())});
      state = write.getResult();
    } else {
      return next->emitError() << "'" << next->getName()
                               << "' is no event; expected are decay, read, "
                                  "write and yield";
    }
  }
  // Users come in no particular order; the program's order is deterministic.
  llvm::stable_sort(chain.reads, [](const auto &a, const auto &b) {
    Operation *x = a.op, *y = b.op;
    return x->isBeforeInBlock(y);
  });
  return chain;
}
