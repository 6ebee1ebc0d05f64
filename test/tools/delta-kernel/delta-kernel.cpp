//===- delta-kernel.cpp - Compiles and runs a mapped CPU kernel -----------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// A tool of the tests: compiles a module of stage mapped or llvm in process and
// runs it on an .npz of arrays named as the signature names them, with any
// split of the work; or shows what it became. It is not installed.
//
//===----------------------------------------------------------------------===//

#include "delta/Dialect/Delta/IR/Delta.h"
#include "delta/Runtime/Npz.h"
#include "delta/Runtime/ThreadPool.h"
#include "delta/Target/CPU/Aot.h"
#include "delta/Target/CPU/Codegen.h"
#include "delta/Target/CPU/Jit.h"
#include "delta/Target/CPU/KernelArrays.h"
#include "delta/Target/CPU/Passes.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/InitAllDialects.h"
#include "mlir/InitAllExtensions.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Support/FileUtilities.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/SourceMgr.h"

#include <algorithm>
#include <chrono>

using namespace llvm;
using delta::runtime::DType;
using delta::runtime::NdArray;
using mlir::delta::ArgAttr;
using mlir::delta::ArgKind;
using mlir::delta::SignatureAttr;

static cl::OptionCategory category("delta-kernel options");
static cl::opt<std::string> file(cl::Positional, cl::init("-"), cl::desc("IR"),
                                 cl::cat(category));
static cl::opt<std::string> input("input", cl::desc("arrays (.npz)"),
                                  cl::cat(category));
static cl::opt<std::string> output("output", cl::desc("where results go"),
                                   cl::cat(category));
static cl::opt<std::string>
    emit("emit",
         cl::desc("ir, asm, obj, so or header, to --output (obj, so) "
                  "or standard output"),
         cl::cat(category));
static cl::opt<std::string> cpu("cpu", cl::desc("CPU that --emit is for"),
                                cl::cat(category));
static cl::list<std::string> attrs("attr", cl::desc("NAME=VALUE"),
                                   cl::cat(category));
static cl::list<int64_t> sizes("sizes", cl::CommaSeparated,
                               cl::desc("B,T,H (default: from the arrays)"),
                               cl::cat(category));
static cl::opt<unsigned> threads("jobs", cl::init(0), cl::cat(category));
static cl::opt<int64_t>
    vblocks("vblocks", cl::init(0),
            cl::desc("call the entry once for each item with this split"),
            cl::cat(category));
static cl::opt<unsigned> repeat("repeat", cl::init(0),
                                cl::desc("time this many runs"),
                                cl::cat(category));
static cl::opt<bool> inPlace("in-place",
                             cl::desc("the final state replaces the initial"),
                             cl::cat(category));
static cl::opt<bool> noFinal("no-final", cl::desc("no final state"),
                             cl::cat(category));

static int fail(const Twine &message) {
  errs() << "delta-kernel: error: " << message << '\n';
  return 1;
}

static DType getDType(mlir::Type type) {
  return type.isF64()   ? DType::F64
         : type.isF32() ? DType::F32
         : type.isF16() ? DType::F16
                        : DType::BF16;
}

/// Shape of an argument's array, with B, T, H in `tokens`.
static delta::runtime::Shape getShape(SignatureAttr signature, ArgAttr arg,
                                      ArrayRef<int64_t> tokens) {
  delta::runtime::Shape shape;
  if (arg.getKind() != ArgKind::Param)
    shape.push_back(tokens[0]);
  if (arg.getKind() == ArgKind::In || arg.getKind() == ArgKind::Out)
    shape.push_back(tokens[1]);
  if (arg.getFamily())
    shape.push_back(*signature.getDim(arg.getFamily()));
  shape.push_back(tokens[2]);
  if (arg.getKind() == ArgKind::Checkpoint) {
    int64_t every = mlir::delta::getTokensPerCheckpoint(signature);
    shape.push_back((tokens[1] + every - 1) / every);
  }
  for (mlir::StringAttr axis : arg.getAxes())
    shape.push_back(*signature.getDim(axis));
  return shape;
}

/// The arrays of a call and the pointers to them.
struct Arrays {
  std::vector<NdArray> arrays;
  std::vector<std::string> outNames;
  std::vector<size_t> outs; // indices in arrays
  std::vector<const void *> in;
  std::vector<void *> out;
  std::vector<int64_t> dims;
  std::vector<double> attrs;
};

static int loadArrays(SignatureAttr signature, Arrays &call) {
  auto reader = delta::runtime::NpzReader::open(input);
  if (!reader)
    return fail(reader.message());
  call.dims.assign(sizes.begin(), sizes.end());
  call.arrays.reserve(2 * signature.getAllArgs().size() + 4);
  auto read = [&](StringRef key, ArgAttr arg) -> int {
    auto array = reader->read(key.str());
    if (!array)
      return fail(array.message());
    if (call.dims.empty() && arg.getKind() == ArgKind::In)
      call.dims = {array->shape()[0], array->shape()[1],
                   array->shape()[arg.getFamily() ? 3 : 2]};
    delta::runtime::Shape shape = getShape(signature, arg, call.dims);
    if (shape != array->shape())
      return fail("expects '" + key + "' of shape " +
                  delta::runtime::toString(shape));
    auto converted = array->convertTo(getDType(arg.getType()));
    if (!converted)
      return fail(converted.message());
    call.arrays.push_back(std::move(*converted));
    call.in.push_back(call.arrays.back().data());
    return 0;
  };
  for (ArgAttr arg : mlir::delta::getInputArrays(signature))
    if (int code = read(arg.getName(), arg))
      return code;
  ArgAttr state = signature.getState();
  bool hasInit = reader->contains("initial_state");
  if (!hasInit)
    call.in.push_back(nullptr);
  else if (int code = read("initial_state", state))
    return code;
  size_t initial = call.arrays.size() - 1;

  auto allocate = [&](StringRef name, ArgAttr arg) {
    auto array = NdArray::zeros(getDType(arg.getType()),
                                getShape(signature, arg, call.dims));
    // What a kernel does not write must show.
    memset(array->data(), 0xff, array->sizeInBytes());
    call.arrays.push_back(std::move(*array));
    call.outs.push_back(call.arrays.size() - 1);
    call.outNames.push_back(name.str());
    call.out.push_back(call.arrays.back().data());
  };
  for (ArgAttr arg : mlir::delta::getOutputArrays(signature))
    allocate(arg.getName(), arg);
  if (noFinal) {
    call.out.push_back(nullptr);
  } else if (inPlace && hasInit) {
    call.outs.push_back(initial);
    call.outNames.push_back("final_state");
    call.out.push_back(call.arrays[initial].data());
  } else {
    allocate("final_state", state);
  }
  for (mlir::StringAttr dim : signature.getDimNames())
    call.dims.push_back(*signature.getDim(dim));
  for (ArgAttr arg : signature.getArgs(ArgKind::Attr)) {
    call.attrs.push_back(1.0);
    for (StringRef attr : attrs) {
      auto [name, text] = attr.split('=');
      if (name == arg.getName() && text.getAsDouble(call.attrs.back()))
        return fail("expects --attr NAME=VALUE, but got '" + attr + "'");
    }
  }
  return 0;
}

static double now() {
  using namespace std::chrono;
  return duration<double>(steady_clock::now().time_since_epoch()).count();
}

int main(int argc, char **argv) {
  InitLLVM init(argc, argv);
  cl::HideUnrelatedOptions(category);
  cl::ParseCommandLineOptions(argc, argv, "delta: runs a mapped kernel\n");

  mlir::DialectRegistry registry;
  mlir::registerAllDialects(registry);
  mlir::registerAllExtensions(registry);
  registry.insert<mlir::delta::DeltaDialect>();
  mlir::MLIRContext context(registry);
  context.printOpOnDiagnostic(false);
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

  if (!emit.empty()) {
    auto target = delta::cpu::CpuTarget::get(cpu);
    if (!target)
      return fail(toString(target.takeError()));
    if (emit == "header")
      return static_cast<int>(delta::cpu::emitHeader(*module, outs()));
    if (emit == "so")
      return static_cast<int>(
          delta::cpu::emitSharedLibrary(*module, *target, output));
    if (emit == "obj") {
      std::error_code error;
      raw_fd_ostream stream(output, error);
      if (error)
        return fail("cannot write '" + output + "': " + error.message());
      return static_cast<int>(delta::cpu::emitObject(*module, *target, stream));
    }
    mlir::FailureOr<std::string> text =
        emit == "asm" ? delta::cpu::compileToAssembly(*module, *target)
                      : delta::cpu::compileToLLVMIRText(*module, *target);
    if (failed(text))
      return 1;
    outs() << *text;
    return 0;
  }

  double start = now();
  auto kernel = delta::cpu::JitKernel::compile(*module);
  if (!kernel)
    return 1;
  if (repeat)
    outs() << "compile_s=" << now() - start << '\n';
  const delta::cpu::KernelEntry &entry = kernel->getEntry();
  if (input.empty()) {
    outs() << "workspace=" << entry.workspaceBytes << " panels=" << entry.panels
           << '\n';
    return 0;
  }
  Arrays call;
  if (int code = loadArrays(signature, call))
    return code;
  delta::runtime::ThreadPool pool(threads);
  delta::cpu::Launcher launcher(entry, pool);
  auto run = [&]() -> int {
    if (!vblocks)
      return launcher(call.in.data(), call.out.data(), call.dims.data(),
                      call.attrs.data());
    auto workspace = NdArray::zeros(
        DType::U8, {static_cast<int64_t>(entry.workspaceBytes) + 64});
    memset(workspace->data(), 0xff, workspace->sizeInBytes());
    int64_t items = call.dims[0] * call.dims[2] * vblocks;
    // Backwards, so that nothing can lean on the order.
    for (int64_t item = items; item-- > 0;)
      if (int code =
              entry.range(call.in.data(), call.out.data(), call.dims.data(),
                          call.attrs.data(), workspace->data(),
                          entry.workspaceBytes, item, item + 1, vblocks))
        return code;
    return 0;
  };
  if (int code = run())
    return fail(delta::cpu::describeStatus(code));
  if (repeat) {
    std::vector<double> times;
    for (unsigned i = 0; i < repeat; ++i) {
      double begin = now();
      run();
      times.push_back(now() - begin);
    }
    std::sort(times.begin(), times.end());
    outs() << "median_s=" << times[times.size() / 2] << " best_s=" << times[0]
           << '\n';
  }
  if (output.empty())
    return 0;
  std::vector<delta::runtime::NamedArray> named;
  std::vector<NdArray> converted;
  converted.reserve(call.outs.size());
  for (auto [index, name] : zip(call.outs, call.outNames)) {
    auto array = call.arrays[index].convertTo(
        call.arrays[index].dtype() == DType::F64 ? DType::F64 : DType::F32);
    converted.push_back(std::move(*array));
    named.emplace_back(name, &converted.back());
  }
  if (auto status = delta::runtime::writeNpz(output, named); !status.ok())
    return fail(status.message());
  return 0;
}
