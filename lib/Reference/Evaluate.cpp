//===- Evaluate.cpp - Runs a module over tokens or chunks -----------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Binds the block arguments to slices of the arrays and walks every sequence:
// one batch and head after the other, or several at once on threads.
//
//===----------------------------------------------------------------------===//

#include "Arguments.h"
#include "Program.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"

#include <algorithm>
#include <cmath>
#include <limits>

using namespace delta::reference;
using namespace mlir::delta;
using llvm::failure;
using llvm::FailureOr;
using llvm::LogicalResult;
using llvm::success;

namespace {

/// One out: where it is computed and where it goes.
struct Output {
  unsigned slot;
  double *data;
  int64_t size;
  int64_t family = 1, micro = 0; ///< which micro-step of how many
};

/// A sum over the tokens of a sequence.
struct Sum {
  unsigned slot;
  double *data;
  int64_t size;
};

/// A body with everything that a sequence needs to run it.
struct Kernel {
  Code code;
  unsigned numSlots = 0;
  std::vector<Binding> arguments;
  std::vector<Output> outs;
  std::vector<Sum> sums;
  unsigned state = 0, nextState = 0;
  /// A backward program walks the chunks from the last to the first and has a
  /// slot for the state at a chunk's start.
  bool backward = false;
  unsigned checkpoint = 0;
  const double *savedStates = nullptr;
  /// Where a forward program saves the state of every so many chunks.
  double *saving = nullptr;
  int64_t saveEvery = 1;
  /// Tokens a run, and the slot of how many of them there are (chunk only).
  int64_t tokens = 1;
  std::optional<unsigned> valid;

  int64_t stateRows = 0, stateCols = 0;
};

} // namespace

/// The argument at token t; an `in` of a kernel of many tokens has a row each,
/// and the rows behind the last token are NaN.
static Matrix load(const Binding &binding, const Kernel &kernel,
                   const Problem &problem, int64_t b, int64_t t, int64_t h) {
  if (binding.kind == ArgKind::Attr)
    return Matrix::dense(1, 1, binding.number);
  auto copyRow = [&](Matrix &value, int64_t row, int64_t token, int64_t j) {
    const double *from =
        binding.data + offsetOf(binding, problem, b, token, h, j);
    std::copy(from, from + binding.size, value.data() + row * binding.size);
  };
  if (kernel.valid && binding.kind == ArgKind::In) {
    Matrix value = Matrix::dense(kernel.tokens, binding.size,
                                 std::numeric_limits<double>::quiet_NaN());
    for (int64_t i = 0; i < kernel.tokens && t + i < problem.T; ++i)
      copyRow(value, i, t + i, binding.micro);
    return value;
  }
  return loadToken(binding, problem, b, t, h);
}

//===----------------------------------------------------------------------===//
// Bodies
//===----------------------------------------------------------------------===//

/// A recurrence: its block arguments are the signature's, then the state.
static LogicalResult prepareTokens(RecurrenceOp recurrence, Program &program,
                                   const Problem &problem, Kernel &kernel) {
  if (failed(bindTokens(recurrence, program, problem, kernel.arguments)))
    return failure();
  kernel.state = program.slot(recurrence.getStateArgument());
  return program.compile(*recurrence.getBodyBlock(), kernel.code);
}

/// A tensor's shape; empty for a number.
static llvm::SmallVector<int64_t> getShape(mlir::Type type) {
  auto tensor = mlir::dyn_cast<mlir::RankedTensorType>(type);
  return tensor ? llvm::to_vector(tensor.getShape())
                : llvm::SmallVector<int64_t>();
}

/// A chunk program: its arguments say by name what they are.
static LogicalResult prepareChunks(mlir::func::FuncOp function,
                                   SignatureAttr signature, Program &program,
                                   const Problem &problem, Kernel &kernel) {
  auto module = mlir::cast<mlir::ModuleOp>(function->getParentOp());
  if (function.isDeclaration() || !function.getBody().hasOneBlock())
    return function.emitOpError(
        "is expected to have one block, as a chunk program has");
  bool hasState = false;
  kernel.tokens = 0;
  for (mlir::BlockArgument argument : function.getArguments()) {
    unsigned number = argument.getArgNumber();
    if (argument.getType().isIndex()) {
      kernel.valid = program.slot(argument);
      continue;
    }
    ArgAttr arg = lookupArg(signature, argument);
    if (!arg)
      return function.emitOpError()
             << "expects '" << kArgNameAttr << "' of argument " << number
             << " to name an entry of the signature";
    if (arg.getKind() == ArgKind::State) {
      kernel.state = program.slot(argument);
      hasState = true;
      FailureOr<int64_t> rows = program.getDim(module, arg.getAxes()[0]);
      FailureOr<int64_t> cols = program.getDim(module, arg.getAxes()[1]);
      if (failed(rows) || failed(cols))
        return failure();
      if (getShape(argument.getType()) !=
          llvm::SmallVector<int64_t>({*rows, *cols}))
        return function.emitOpError()
               << "expects the state to be " << *rows << " x " << *cols
               << ", but got " << argument.getType();
      continue;
    }
    if (arg.getKind() == ArgKind::Checkpoint) {
      kernel.checkpoint = program.slot(argument);
      continue;
    }
    FailureOr<Binding> binding = bind(module, program, problem, arg);
    if (failed(binding))
      return failure();
    binding->slot = program.slot(argument);
    binding->isFamily = false;
    auto micro =
        function.getArgAttrOfType<mlir::IntegerAttr>(number, kMicroAttr);
    if (micro)
      binding->micro = micro.getInt();
    if (binding->micro < 0 || binding->micro >= binding->family ||
        (arg.getFamily() && !micro))
      return function.emitOpError()
             << "expects '" << kMicroAttr << "' of argument " << number
             << " to be from 0 to " << binding->family - 1;
    llvm::SmallVector<int64_t> shape = getShape(argument.getType());
    if (arg.getKind() == ArgKind::In) {
      if (shape.empty() || (kernel.tokens && kernel.tokens != shape[0]))
        return function.emitOpError()
               << "expects argument " << number
               << " to have a row for every token of the chunk, but got "
               << argument.getType();
      kernel.tokens = shape[0];
      shape.erase(shape.begin());
    }
    if (shape.size() != arg.getAxes().size() ||
        (!shape.empty() && shape[0] != binding->size))
      return function.emitOpError()
             << "expects argument " << number << " to be '"
             << arg.getName().getValue() << "', but got " << argument.getType();
    kernel.arguments.push_back(*binding);
  }
  if (!hasState || !kernel.valid)
    return function.emitOpError("expects an argument for the state, and one of "
                                "type index for the number of tokens");
  // Without any `in` the outs tell how many tokens a chunk has.
  mlir::TypeRange results = function.getFunctionType().getResults();
  if (kernel.tokens == 0 && results.size() > 1 && !getShape(results[1]).empty())
    kernel.tokens = getShape(results[1])[0];
  if (kernel.tokens <= 0)
    return function.emitOpError("expects arguments over the tokens of a chunk");
  return program.compile(function.getBody().front(), kernel.code);
}

/// Results of a chunk program have the sizes that are copied from them.
static LogicalResult checkResults(mlir::Operation *terminator,
                                  const Kernel &kernel) {
  auto expect = [&](unsigned number, int64_t rows, int64_t cols) {
    mlir::Type type = terminator->getOperand(number).getType();
    int64_t size = 1;
    for (int64_t axis : getShape(type))
      size *= axis;
    if (size == rows * cols)
      return LogicalResult(success());
    return LogicalResult(terminator->emitOpError()
                         << "expects result " << number << " to have " << rows
                         << " x " << cols << " elements, but got " << type);
  };
  if (failed(expect(0, kernel.stateRows, kernel.stateCols)))
    return failure();
  unsigned number = 1;
  for (const Output &out : kernel.outs)
    if (failed(expect(number++, kernel.tokens, out.size)))
      return failure();
  for (const Sum &sum : kernel.sums)
    if (failed(expect(number++, 1, sum.size)))
      return failure();
  return success();
}

/// Walks one sequence. `state` is read before the first token and written
/// after the last.
static void runSequence(const Kernel &kernel, const Problem &problem, int64_t b,
                        int64_t h, double *state) {
  Frame frame(kernel.numSlots);
  Matrix S = Matrix::dense(kernel.stateRows, kernel.stateCols);
  std::copy(state, state + S.size(), S.data());
  int64_t chunks = (problem.T + kernel.tokens - 1) / kernel.tokens;
  int64_t sequence = b * problem.H + h;
  for (int64_t step = 0; step < chunks; ++step) {
    int64_t chunk = kernel.backward ? chunks - 1 - step : step;
    int64_t t = chunk * kernel.tokens;
    int64_t valid = std::min(kernel.tokens, problem.T - t);
    if (kernel.saving && chunk % kernel.saveEvery == 0) {
      int64_t saved = (chunks + kernel.saveEvery - 1) / kernel.saveEvery;
      std::copy(S.data(), S.data() + S.size(),
                kernel.saving +
                    (sequence * saved + chunk / kernel.saveEvery) * S.size());
    }
    for (const Binding &binding : kernel.arguments)
      if (step == 0 || binding.kind == ArgKind::In)
        frame[binding.slot] = load(binding, kernel, problem, b, t, h);
    if (kernel.valid)
      frame[*kernel.valid] = Matrix::dense(1, 1, static_cast<double>(valid));
    if (kernel.backward) {
      Matrix start = Matrix::dense(kernel.stateRows, kernel.stateCols);
      const double *from =
          kernel.savedStates + (sequence * chunks + chunk) * start.size();
      std::copy(from, from + start.size(), start.data());
      frame[kernel.checkpoint] = std::move(start);
    }
    frame[kernel.state] = std::move(S);
    run(kernel.code, frame);
    S = frame[kernel.nextState].densified();
    for (const Output &out : kernel.outs) {
      Matrix value = frame[out.slot].densified();
      for (int64_t i = 0; i < valid; ++i)
        std::copy(
            value.data() + i * out.size, value.data() + (i + 1) * out.size,
            out.data + (((b * problem.T + t + i) * out.family + out.micro) *
                            problem.H +
                        h) *
                           out.size);
    }
    for (const Sum &sum : kernel.sums) {
      Matrix value = frame[sum.slot].densified();
      for (int64_t i = 0; i < sum.size; ++i)
        sum.data[sequence * sum.size + i] += value.data()[i];
    }
  }
  std::copy(S.data(), S.data() + S.size(), state);
}

/// Both kinds of body end with the state, then the outs; gradients with the
/// sums behind them.
static LogicalResult prepareResults(mlir::ModuleOp module,
                                    SignatureAttr signature,
                                    mlir::Operation *terminator,
                                    Program &program, const Problem &problem,
                                    Kernel &kernel, Result &result) {
  llvm::SmallVector<ArgAttr> sums = signature.getArgs(ArgKind::Sum);
  int64_t expected = 1 + sums.size();
  llvm::SmallVector<std::pair<ArgAttr, int64_t>> outs; // and micro-steps
  for (ArgAttr out : signature.getArgs(ArgKind::Out)) {
    int64_t family = 1;
    if (out.getFamily()) {
      FailureOr<int64_t> size = program.getDim(module, out.getFamily());
      if (failed(size))
        return failure();
      family = *size;
    }
    outs.emplace_back(out, family);
    expected += family;
  }
  if (terminator->getNumOperands() != expected)
    return terminator->emitOpError()
           << "expects the state and " << expected - 1
           << " results as the signature has, but got "
           << terminator->getNumOperands() << " values";
  unsigned number = 0;
  kernel.nextState = program.slot(terminator->getOperand(number++));
  for (auto &[out, family] : outs) {
    FailureOr<int64_t> size = getSize(module, program, out);
    if (failed(size))
      return failure();
    std::vector<double> &data = result.outs[out.getName()];
    data.assign(problem.B * problem.T * problem.H * family * *size, 0);
    for (int64_t j = 0; j < family; ++j)
      kernel.outs.push_back({program.slot(terminator->getOperand(number++)),
                             data.data(), *size, family, j});
  }
  for (ArgAttr sum : sums) {
    FailureOr<int64_t> size = getSize(module, program, sum);
    if (failed(size))
      return failure();
    std::vector<double> &data = result.outs[sum.getName()];
    data.assign(problem.B * problem.H * *size, 0);
    kernel.sums.push_back(
        {program.slot(terminator->getOperand(number++)), data.data(), *size});
  }
  return success();
}

/// Finds the saved states that a backward program reads, or makes room for
/// those that a forward one saves.
static LogicalResult prepareCheckpoints(mlir::ModuleOp module,
                                        SignatureAttr signature,
                                        const Problem &problem, Kernel &kernel,
                                        Result &result) {
  llvm::SmallVector<ArgAttr> checkpoints =
      signature.getArgs(ArgKind::Checkpoint);
  if (checkpoints.empty())
    return success();
  kernel.backward = signature.getOption("fn") == "backward";
  kernel.saveEvery = signature.getIntOption("save_every").value_or(1);
  if (kernel.backward && kernel.saveEvery != 1)
    return mlir::emitError(module.getLoc())
           << "the reference evaluates backward programs for which every "
              "chunk's state is saved, but these are saved every "
           << kernel.saveEvery << " chunks";
  int64_t stateSize = kernel.stateRows * kernel.stateCols;
  int64_t span = kernel.tokens * kernel.saveEvery;
  int64_t count =
      problem.B * problem.H * ((problem.T + span - 1) / span) * stateSize;
  llvm::StringRef name = checkpoints.front().getName();
  if (!kernel.backward) {
    result.checkpoints.assign(count, 0);
    kernel.saving = result.checkpoints.data();
    return success();
  }
  auto array = problem.arrays.find(name);
  if (array == problem.arrays.end() ||
      static_cast<int64_t>(array->second.size()) != count)
    return mlir::emitError(module.getLoc())
           << "the reference needs the array '" << name << "' of " << count
           << " elements";
  kernel.savedStates = array->second.data();
  return success();
}

//===----------------------------------------------------------------------===//
// Modules
//===----------------------------------------------------------------------===//

LogicalResult delta::reference::evaluate(mlir::ModuleOp module,
                                         const Problem &problem,
                                         Result &result) {
  std::optional<Stage> stage = getStage(module);
  SignatureAttr signature = getSignature(module);
  if (!stage || !signature || *stage == Stage::Mapped || *stage == Stage::LLVM)
    return mlir::emitError(
        module.getLoc(),
        "the reference evaluates a module of stage step, events or chunk");
  if (failed(checkDims(module, problem)))
    return failure();

  if (problem.operands != Operands::Exact && *stage != Stage::Chunk)
    return mlir::emitError(
        module.getLoc(),
        "a target's precision is emulated for a program of stage chunk only");

  Program program(problem.dims, Rounding(problem.operands));
  Kernel kernel;
  mlir::Operation *terminator;
  if (*stage == Stage::Chunk) {
    auto function = *module.getOps<mlir::func::FuncOp>().begin();
    if (failed(prepareChunks(function, signature, program, problem, kernel)))
      return failure();
    terminator = function.getBody().front().getTerminator();
  } else {
    RecurrenceOp recurrence = getRecurrence(module);
    if (failed(prepareTokens(recurrence, program, problem, kernel)))
      return failure();
    terminator = recurrence.getYield();
  }

  if (failed(prepareResults(module, signature, terminator, program, problem,
                            kernel, result)))
    return failure();
  kernel.numSlots = program.numSlots();

  ArgAttr state = signature.getState();
  FailureOr<int64_t> rows = program.getDim(module, state.getAxes()[0]);
  FailureOr<int64_t> cols = program.getDim(module, state.getAxes()[1]);
  if (failed(rows) || failed(cols))
    return failure();
  kernel.stateRows = *rows;
  kernel.stateCols = *cols;
  if (*stage == Stage::Chunk &&
      (failed(checkResults(terminator, kernel)) ||
       failed(prepareCheckpoints(module, signature, problem, kernel, result))))
    return failure();
  int64_t sequences = problem.B * problem.H, stateSize = *rows * *cols;
  result.finalState.assign(sequences * stateSize, 0);
  if (!problem.initialState.empty()) {
    if (problem.initialState.size() != result.finalState.size())
      return mlir::emitError(module.getLoc())
             << "expects the initial state to have " << sequences * stateSize
             << " elements, but got " << problem.initialState.size();
    llvm::copy(problem.initialState, result.finalState.begin());
  }

  forEachSequence(sequences, problem.threads, [&](int64_t i) {
    runSequence(kernel, problem, i / problem.H, i % problem.H,
                result.finalState.data() + i * stateSize);
  });
  return success();
}
