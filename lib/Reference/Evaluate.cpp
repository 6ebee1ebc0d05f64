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
};

/// A body with everything that a sequence needs to run it.
struct Kernel {
  Code code;
  unsigned numSlots = 0;
  std::vector<Binding> arguments;
  std::vector<Output> outs;
  unsigned state = 0, nextState = 0;
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
    auto name =
        function.getArgAttrOfType<mlir::StringAttr>(number, kArgNameAttr);
    ArgAttr arg = name ? signature.lookup(name) : ArgAttr();
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
  for (auto [index, out] : llvm::enumerate(kernel.outs))
    if (failed(expect(index + 1, kernel.tokens, out.size)))
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
  for (int64_t t = 0; t < problem.T; t += kernel.tokens) {
    int64_t valid = std::min(kernel.tokens, problem.T - t);
    for (const Binding &binding : kernel.arguments)
      if (t == 0 || binding.kind == ArgKind::In)
        frame[binding.slot] = load(binding, kernel, problem, b, t, h);
    if (kernel.valid)
      frame[*kernel.valid] = Matrix::dense(1, 1, static_cast<double>(valid));
    frame[kernel.state] = std::move(S);
    run(kernel.code, frame);
    S = frame[kernel.nextState].densified();
    for (const Output &out : kernel.outs) {
      Matrix value = frame[out.slot].densified();
      for (int64_t i = 0; i < valid; ++i)
        std::copy(
            value.data() + i * out.size, value.data() + (i + 1) * out.size,
            out.data + ((b * problem.T + t + i) * problem.H + h) * out.size);
    }
  }
  std::copy(S.data(), S.data() + S.size(), state);
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

  Program program(problem.dims);
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

  // Both bodies end with the state, then the outs.
  llvm::SmallVector<ArgAttr> outs = signature.getArgs(ArgKind::Out);
  if (terminator->getNumOperands() != outs.size() + 1)
    return terminator->emitOpError()
           << "expects the state and " << outs.size()
           << " outs as the signature has, but got "
           << terminator->getNumOperands() << " values";
  kernel.nextState = program.slot(terminator->getOperand(0));
  for (auto [index, out] : llvm::enumerate(outs)) {
    FailureOr<int64_t> size = getSize(module, program, out);
    if (failed(size))
      return failure();
    std::vector<double> &data = result.outs[out.getName()];
    data.assign(problem.B * problem.T * problem.H * *size, 0);
    kernel.outs.push_back(
        {program.slot(terminator->getOperand(index + 1)), data.data(), *size});
  }
  kernel.numSlots = program.numSlots();

  ArgAttr state = signature.getState();
  FailureOr<int64_t> rows = program.getDim(module, state.getAxes()[0]);
  FailureOr<int64_t> cols = program.getDim(module, state.getAxes()[1]);
  if (failed(rows) || failed(cols))
    return failure();
  kernel.stateRows = *rows;
  kernel.stateCols = *cols;
  if (*stage == Stage::Chunk && failed(checkResults(terminator, kernel)))
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
