//===- StepGradient.cpp - Reverse mode, token by token --------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Walks every sequence backwards with the state's cotangent. States are kept
// at the start of every segment of about sqrt(T) tokens and computed again
// inside it, so that memory grows as the root of T.
//
//===----------------------------------------------------------------------===//

#include "Arguments.h"
#include "Tape.h"

#include <algorithm>
#include <cmath>

using namespace delta::reference;
using namespace mlir::delta;
using llvm::failure;
using llvm::FailureOr;
using llvm::LogicalResult;
using llvm::success;

namespace {

/// One out: its value and the array of its cotangents, maybe none.
struct Cotangent {
  unsigned slot;
  llvm::ArrayRef<double> data;
  int64_t size;
};

/// A step with everything that a sequence needs to walk it.
struct Kernel {
  std::vector<Binding> arguments;
  std::vector<Cotangent> outs;
  unsigned state = 0, nextState = 0;
  int64_t stateRows = 0, stateCols = 0;
};

/// Where the gradients of a sequence go. An `in` has its place in the array of
/// all; a param or attr has one for each sequence, to be added up in order.
struct Targets {
  std::vector<double *> arrays; ///< by number of the argument
  int64_t sequence;
};

class Walker {
public:
  Walker(const Tape &tape, const Kernel &kernel, const Problem &problem,
         int64_t b, int64_t h, unsigned numSlots)
      : tape(tape), kernel(kernel), problem(problem), b(b), h(h),
        frame(numSlots), adjoints(numSlots) {}

  /// `state` holds the initial state, `cotangent` the final state's cotangent
  /// and then the initial state's.
  void run(const double *state, double *cotangent, const Targets &targets);

private:
  /// Computes token t from the state in `S`, which becomes the next one.
  void step(int64_t t, Matrix &S) {
    for (const Binding &binding : kernel.arguments)
      frame[binding.slot] = loadToken(binding, problem, b, t, h);
    frame[kernel.state] = S;
    tape.run(frame);
    S = frame[kernel.nextState].densified();
  }
  void stepBack(int64_t t, Matrix &dS, const Targets &targets);

  const Tape &tape;
  const Kernel &kernel;
  const Problem &problem;
  int64_t b, h;
  Frame frame;
  Adjoints adjoints;
};

} // namespace

void Walker::stepBack(int64_t t, Matrix &dS, const Targets &targets) {
  for (Adjoint &adjoint : adjoints)
    adjoint.clear();
  adjoints[kernel.nextState].add(dS);
  for (const Cotangent &out : kernel.outs) {
    if (out.data.empty())
      continue;
    Matrix value = Matrix::dense(out.size, 1);
    const double *from =
        out.data.data() + ((b * problem.T + t) * problem.H + h) * out.size;
    std::copy(from, from + out.size, value.data());
    adjoints[out.slot].add(value);
  }
  tape.runBack(frame, adjoints);
  for (auto [number, binding] : llvm::enumerate(kernel.arguments)) {
    const Adjoint &adjoint = adjoints[binding.slot];
    if (adjoint.isZero())
      continue;
    Matrix value = adjoint.dense();
    int64_t rows = binding.isFamily ? binding.family : 1;
    for (int64_t j = 0; j < rows; ++j) {
      double *to = targets.arrays[number];
      to += binding.kind == ArgKind::In ? offsetOf(binding, problem, b, t, h, j)
                                        : targets.sequence * binding.size;
      for (int64_t i = 0; i < binding.size; ++i)
        to[i] += value.data()[j * binding.size + i];
    }
  }
  const Adjoint &state = adjoints[kernel.state];
  dS = state.isZero() ? Matrix::dense(kernel.stateRows, kernel.stateCols)
                      : state.dense();
}

void Walker::run(const double *state, double *cotangent,
                 const Targets &targets) {
  Matrix S = Matrix::dense(kernel.stateRows, kernel.stateCols), dS = S;
  std::copy(state, state + S.size(), S.data());
  std::copy(cotangent, cotangent + dS.size(), dS.data());
  int64_t T = problem.T;
  int64_t length = std::max<int64_t>(1, std::llround(std::sqrt(T)));
  std::vector<Matrix> starts;
  for (int64_t t = 0; t < T; ++t) {
    if (t % length == 0)
      starts.push_back(S);
    step(t, S);
  }
  for (int64_t first = (T - 1) / length * length; T > 0 && first >= 0;
       first -= length) {
    std::vector<Matrix> states{starts[first / length]};
    int64_t end = std::min(T, first + length);
    for (int64_t t = first; t + 1 < end; ++t) {
      Matrix next = states.back();
      step(t, next);
      states.push_back(std::move(next));
    }
    for (int64_t t = end - 1; t >= first; --t) {
      step(t, states[t - first]);
      stepBack(t, dS, targets);
    }
  }
  std::copy(dS.data(), dS.data() + dS.size(), cotangent);
}

/// Finds the outs with a cotangent.
static LogicalResult bindCotangents(RecurrenceOp recurrence, Program &program,
                                    const Problem &problem,
                                    const Cotangents &cotangents,
                                    Kernel &kernel) {
  auto module = mlir::cast<mlir::ModuleOp>(recurrence->getParentOp());
  mlir::Operation *yield = recurrence.getYield();
  kernel.nextState = program.slot(yield->getOperand(0));
  for (auto [index, out] :
       llvm::enumerate(recurrence.getSignature().getArgs(ArgKind::Out))) {
    FailureOr<int64_t> size = getSize(module, program, out);
    if (failed(size))
      return failure();
    llvm::ArrayRef<double> data = cotangents.outs.lookup(out.getName());
    int64_t count = problem.B * problem.T * problem.H * *size;
    if (!data.empty() && static_cast<int64_t>(data.size()) != count)
      return mlir::emitError(module.getLoc())
             << "expects the cotangent of '" << out.getName().getValue()
             << "' to have " << count << " elements, but got " << data.size();
    kernel.outs.push_back(
        {program.slot(yield->getOperand(index + 1)), data, *size});
  }
  return success();
}

/// Adds the values of all sequences in order, those of every head apart unless
/// there is one for all of them.
static std::vector<double> sumSequences(const std::vector<double> &values,
                                        const Problem &problem, int64_t size,
                                        bool overHeads) {
  int64_t heads = overHeads ? 1 : problem.H;
  std::vector<double> result(heads * size, 0);
  for (int64_t i = 0; i < problem.B * problem.H; ++i)
    for (int64_t d = 0; d < size; ++d)
      result[(i % problem.H) % heads * size + d] += values[i * size + d];
  return result;
}

LogicalResult delta::reference::differentiate(mlir::ModuleOp module,
                                              const Problem &problem,
                                              const Cotangents &cotangents,
                                              Gradients &result) {
  std::optional<Stage> stage = getStage(module);
  SignatureAttr signature = getSignature(module);
  RecurrenceOp recurrence = getRecurrence(module);
  if (!stage || !signature || !recurrence)
    return mlir::emitError(module.getLoc(),
                           "the reference differentiates a module of stage "
                           "step or events");
  if (failed(checkDims(module, problem)))
    return failure();
  Tape tape(problem.dims);
  Program &program = tape.getProgram();
  Kernel kernel;
  if (failed(bindTokens(recurrence, program, problem, kernel.arguments)))
    return failure();
  kernel.state = program.slot(recurrence.getStateArgument());
  ArgAttr state = signature.getState();
  FailureOr<int64_t> rows = program.getDim(module, state.getAxes()[0]);
  FailureOr<int64_t> cols = program.getDim(module, state.getAxes()[1]);
  if (failed(rows) || failed(cols) ||
      failed(tape.compile(*recurrence.getBodyBlock())) ||
      failed(bindCotangents(recurrence, program, problem, cotangents, kernel)))
    return failure();
  kernel.stateRows = *rows;
  kernel.stateCols = *cols;

  int64_t sequences = problem.B * problem.H, stateSize = *rows * *cols;
  std::vector<double> initial(sequences * stateSize, 0);
  result.initialState = initial;
  for (auto [given, values, what] :
       {std::tuple(problem.initialState, &initial, "initial state"),
        {cotangents.finalState, &result.initialState,
         "cotangent of the final state"}}) {
    if (given.empty())
      continue;
    if (given.size() != values->size())
      return mlir::emitError(module.getLoc())
             << "expects the " << what << " to have " << values->size()
             << " elements, but got " << given.size();
    llvm::copy(given, values->begin());
  }

  // A param or attr has a value for every sequence until all are there.
  std::vector<std::vector<double>> parts(kernel.arguments.size());
  std::vector<double *> arrays;
  for (auto [number, binding] : llvm::enumerate(kernel.arguments)) {
    int64_t count = binding.size;
    if (binding.kind == ArgKind::In)
      count *= problem.B * problem.T * problem.H * binding.family;
    else
      count *= sequences;
    parts[number].assign(count, 0);
    arrays.push_back(parts[number].data());
  }
  forEachSequence(sequences, problem.threads, [&](int64_t i) {
    Walker(tape, kernel, problem, i / problem.H, i % problem.H,
           program.numSlots())
        .run(initial.data() + i * stateSize,
             result.initialState.data() + i * stateSize, {arrays, i});
  });
  for (auto [number, binding] : llvm::enumerate(kernel.arguments)) {
    if (binding.kind == ArgKind::In)
      result.arrays[binding.name] = std::move(parts[number]);
    else if (binding.kind == ArgKind::Param)
      result.arrays[binding.name] =
          sumSequences(parts[number], problem, binding.size, false);
    else
      result.attrs[binding.name] =
          sumSequences(parts[number], problem, 1, true).front();
  }
  return success();
}
