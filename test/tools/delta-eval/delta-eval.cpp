//===- delta-eval.cpp - Runs the reference on a module of any stage -------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A tool of the tests: evaluates IR of stage step, events or chunk in float64
// on an .npz of arrays named as the signature names them. It is not installed.
//
//===----------------------------------------------------------------------===//

#include "delta/Dialect/Delta/IR/Delta.h"
#include "delta/Reference/Reference.h"
#include "delta/Runtime/Npz.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Support/FileUtilities.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/SourceMgr.h"

using namespace llvm;
using delta::runtime::DType;
using delta::runtime::NdArray;
using delta::runtime::NpzReader;
using mlir::delta::ArgAttr;
using mlir::delta::ArgKind;
using mlir::delta::SignatureAttr;

static cl::OptionCategory category("delta-eval options");
static cl::opt<std::string> file(cl::Positional, cl::init("-"), cl::desc("IR"),
                                 cl::cat(category));
static cl::opt<std::string> input("input", cl::Required,
                                  cl::desc("arrays (.npz)"), cl::cat(category));
static cl::opt<std::string> output("output", cl::desc("where results go"),
                                   cl::cat(category));
static cl::list<std::string> attrs("attr", cl::desc("NAME=VALUE"),
                                   cl::cat(category));
static cl::list<std::string>
    dims("D", cl::Prefix, cl::desc("NAME=SIZE of a dim that no array has"),
         cl::cat(category));
static cl::opt<unsigned> threads("jobs", cl::init(0),
                                 cl::desc("threads (0: one a processor)"),
                                 cl::cat(category));

static int fail(const Twine &message) {
  errs() << "delta-eval: error: " << message << '\n';
  return 1;
}

/// Names of an argument's axes beyond T and H, as in the array.
static SmallVector<StringRef> getDims(ArgAttr arg) {
  SmallVector<StringRef> names;
  switch (arg.getKind()) {
  case ArgKind::Param:
    names = {"H"};
    break;
  case ArgKind::State:
  case ArgKind::Sum:
    names = {"B", "H"};
    break;
  case ArgKind::Checkpoint:
    names = {"B", "H", "checkpoints"};
    break;
  case ArgKind::In:
  case ArgKind::Out:
    names = {"B", "T"};
    if (arg.getFamily())
      names.push_back(arg.getFamily());
    names.push_back("H");
    break;
  case ArgKind::Attr:
    break;
  }
  for (mlir::StringAttr axis : arg.getAxes())
    names.push_back(axis);
  return names;
}

int main(int argc, char **argv) {
  InitLLVM init(argc, argv);
  cl::HideUnrelatedOptions(category);
  cl::ParseCommandLineOptions(
      argc, argv, "delta: evaluates IR in float64, as the reference does\n");

  mlir::MLIRContext context;
  context.printOpOnDiagnostic(false);
  context.loadDialect<mlir::delta::DeltaDialect, mlir::arith::ArithDialect,
                      mlir::func::FuncDialect, mlir::math::MathDialect,
                      mlir::tensor::TensorDialect>();
  SourceMgr sources;
  std::string message;
  auto buffer = mlir::openInputFile(file, &message);
  if (!buffer)
    return fail(message);
  sources.AddNewSourceBuffer(std::move(buffer), SMLoc());
  mlir::SourceMgrDiagnosticHandler handler(sources, &context);
  auto module = mlir::parseSourceFile<mlir::ModuleOp>(sources, &context);
  if (!module)
    return 1;
  SignatureAttr signature = mlir::delta::getSignature(*module);
  if (!signature)
    return fail("'" + file + "' has no delta.signature");

  // Arrays as doubles; every dim is what the first array that has it says.
  auto reader = NpzReader::open(input);
  if (!reader)
    return fail(reader.message());
  StringMap<int64_t> sizes;
  for (StringRef dim : dims) {
    auto [name, text] = dim.split('=');
    if (text.getAsInteger(10, sizes[name]))
      return fail("expects -D NAME=SIZE, but got '" + dim + "'");
  }
  bool backward = signature.getOption("fn") == "backward";
  std::vector<std::pair<std::string, NdArray>> arrays;
  for (ArgAttr arg : signature.getAllArgs()) {
    StringRef name = arg.getName();
    bool isState = arg.getKind() == ArgKind::State;
    if (arg.getKind() == ArgKind::Out || arg.getKind() == ArgKind::Attr ||
        arg.getKind() == ArgKind::Sum ||
        (arg.getKind() == ArgKind::Checkpoint && !backward))
      continue;
    std::string key = isState ? "initial_state" : name.str();
    if (isState && !reader->contains(key))
      continue;
    auto array = reader->read(key);
    if (!array)
      return fail(array.message());
    SmallVector<StringRef> names = getDims(arg);
    if (array->rank() != static_cast<int64_t>(names.size()))
      return fail("expects '" + key + "' to have " + Twine(names.size()) +
                  " axes, but got " + Twine(array->rank()));
    for (auto [dim, size] : zip(names, array->shape()))
      if (sizes.try_emplace(dim, size).first->second != size)
        return fail("expects axis " + dim + " of '" + key + "' to be " +
                    Twine(sizes[dim]) + ", but got " + Twine(size));
    auto doubles = array->convertTo(DType::F64);
    if (!doubles)
      return fail(doubles.message());
    arrays.emplace_back(key, std::move(*doubles));
  }

  delta::reference::Problem problem;
  problem.B = sizes.lookup("B");
  problem.T = sizes.lookup("T");
  problem.H = sizes.lookup("H");
  problem.dims = sizes;
  problem.threads = threads;
  for (auto &[name, array] : arrays) {
    ArrayRef<double> data(array.as<double>(), array.numElements());
    if (name == "initial_state")
      problem.initialState = data;
    else
      problem.arrays[name] = data;
  }
  for (StringRef attr : attrs) {
    auto [name, text] = attr.split('=');
    if (text.getAsDouble(problem.attrs[name]))
      return fail("expects --attr NAME=VALUE, but got '" + attr + "'");
  }
  delta::reference::Result result;
  if (failed(delta::reference::evaluate(*module, problem, result)))
    return 1;
  if (output.empty())
    return 0;

  std::vector<NdArray> results;
  std::vector<std::string> names;
  for (ArgAttr arg : signature.getAllArgs()) {
    bool isState = arg.getKind() == ArgKind::State;
    bool saved = arg.getKind() == ArgKind::Checkpoint && !backward;
    if (!isState && !saved && arg.getKind() != ArgKind::Out &&
        arg.getKind() != ArgKind::Sum)
      continue;
    if (saved) {
      int64_t span = *signature.getIntOption("chunk") *
                     signature.getIntOption("save_every").value_or(1);
      sizes["checkpoints"] = (problem.T + span - 1) / span;
    }
    delta::runtime::Shape shape;
    for (StringRef dim : getDims(arg))
      shape.push_back(sizes.lookup(dim));
    auto array = NdArray::zeros(DType::F64, shape);
    if (!array)
      return fail(array.message());
    StringRef name = arg.getName();
    copy(isState ? result.finalState
         : saved ? result.checkpoints
                 : result.outs[name],
         array->as<double>());
    results.push_back(std::move(*array));
    names.push_back(isState ? "final_state" : name.str());
  }
  std::vector<delta::runtime::NamedArray> named;
  for (auto [name, array] : zip(names, results))
    named.emplace_back(name, &array);
  if (auto status = delta::runtime::writeNpz(output, named); !status.ok())
    return fail(status.message());
  return 0;
}
