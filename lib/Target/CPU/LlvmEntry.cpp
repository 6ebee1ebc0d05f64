//===- LlvmEntry.cpp - The C entry points of a CPU kernel -----------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Wraps the kernel @NAME of a module in the LLVM dialect, whose memrefs have
// become descriptors, into functions that take bare pointers and check what
// can be checked:
//
//   int delta_NAME_range(in, out, dims, attrs, workspace, bytes,
//                        begin, end, vblocks)
//   int delta_NAME(in, out, dims, attrs, workspace, bytes)
//   size_t delta_NAME_workspace_bytes(void), int64_t delta_NAME_panels(void)
//
// Test: test/Target/CPU/cpu-to-llvm.mlir, test/Integration/cpu/aot.test.
//
//===----------------------------------------------------------------------===//

#include "delta/Dialect/Delta/IR/Delta.h"
#include "delta/Target/CPU/Codegen.h"
#include "delta/Target/CPU/KernelArrays.h"
#include "delta/Target/CPU/Launch.h"
#include "delta/Target/CPU/Passes.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"

#define DEBUG_TYPE "delta-cpu-entry"

namespace mlir::delta {
#define GEN_PASS_DEF_CPUENTRY
#include "delta/Target/CPU/Passes.h.inc"
} // namespace mlir::delta

using namespace mlir;
using namespace mlir::delta;

SmallVector<ArgAttr> mlir::delta::getInputArrays(SignatureAttr signature) {
  SmallVector<ArgAttr> arrays;
  for (ArgAttr arg : signature.getAllArgs())
    if (arg.getKind() == ArgKind::In || arg.getKind() == ArgKind::Param)
      arrays.push_back(arg);
  if (signature.getOption("fn") == "backward")
    llvm::append_range(arrays, signature.getArgs(ArgKind::Checkpoint));
  return arrays;
}

SmallVector<ArgAttr> mlir::delta::getOutputArrays(SignatureAttr signature) {
  SmallVector<ArgAttr> arrays = signature.getArgs(ArgKind::Out);
  llvm::append_range(arrays, signature.getArgs(ArgKind::Sum));
  if (signature.getOption("fn") != "backward")
    llvm::append_range(arrays, signature.getArgs(ArgKind::Checkpoint));
  return arrays;
}

int64_t mlir::delta::getTokensPerCheckpoint(SignatureAttr signature) {
  return signature.getIntOption("chunk").value_or(1) *
         signature.getIntOption("save_every").value_or(1);
}

namespace {

/// Builds the entry points of one kernel.
class EntryBuilder {
public:
  EntryBuilder(ModuleOp module, LLVM::LLVMFuncOp kernel,
               SignatureAttr signature, int64_t workspace, int64_t panels,
               const ::delta::cpu::CpuTarget &target)
      : module(module), kernel(kernel), signature(signature),
        workspace(workspace), panels(panels), target(target),
        b(kernel.getLoc(), module.getContext()),
        name(::delta::cpu::getEntryName(module)),
        ptr(LLVM::LLVMPointerType::get(module.getContext())),
        i64(b.getI64Type()), i32(b.getI32Type()) {}

  void build();

private:
  Value num(int64_t value) { return LLVM::ConstantOp::create(b, i64, value); }
  Value mul(Value x, Value y) { return LLVM::MulOp::create(b, x, y); }
  Value cmp(LLVM::ICmpPredicate predicate, Value x, Value y) {
    return LLVM::ICmpOp::create(b, predicate, x, y);
  }
  /// Element `index` of an array of `type`.
  Value load(Type type, Value array, int64_t index) {
    Value at = LLVM::GEPOp::create(b, ptr, type, array,
                                   ArrayRef<LLVM::GEPArg>{int32_t(index)});
    return LLVM::LoadOp::create(b, type, at);
  }
  LLVM::LLVMFuncOp startFunction(StringRef suffix, Type result,
                                 ArrayRef<Type> arguments);
  /// Returns `status` when `condition` holds, else goes on behind it.
  void returnIf(Value condition, int status);
  /// Number of elements of an argument's array.
  Value countElements(ArgAttr arg);
  void appendMemref(SmallVectorImpl<Value> &operands, Value pointer,
                    Value count);
  void buildRange();
  void buildWhole();
  void buildConstant(StringRef suffix, int64_t value);
  /// Calls the kernel with denormals flushed to zero.
  void callKernel(ArrayRef<Value> operands);

  ModuleOp module;
  LLVM::LLVMFuncOp kernel;
  SignatureAttr signature;
  int64_t workspace, panels;
  const ::delta::cpu::CpuTarget &target;
  ImplicitLocOpBuilder b;
  std::string name;
  Type ptr, i64, i32;
  LLVM::LLVMFuncOp range;
  Value sizeB, sizeT, sizeH;
};

} // namespace

LLVM::LLVMFuncOp EntryBuilder::startFunction(StringRef suffix, Type result,
                                             ArrayRef<Type> arguments) {
  b.setInsertionPointToEnd(module.getBody());
  auto type = LLVM::LLVMFunctionType::get(result, arguments);
  auto function = LLVM::LLVMFuncOp::create(b, name + suffix.str(), type);
  b.setInsertionPointToStart(function.addEntryBlock(b));
  return function;
}

void EntryBuilder::returnIf(Value condition, int status) {
  Block *here = b.getBlock();
  Block *bad = b.createBlock(here->getParent());
  LLVM::ReturnOp::create(
      b, ValueRange{LLVM::ConstantOp::create(b, i32, int64_t(status))});
  Block *good = b.createBlock(here->getParent());
  b.setInsertionPointToEnd(here);
  LLVM::CondBrOp::create(b, condition, bad, good);
  b.setInsertionPointToStart(good);
}

Value EntryBuilder::countElements(ArgAttr arg) {
  int64_t known = 1;
  for (StringAttr axis : arg.getAxes())
    known *= signature.getDim(axis).value_or(1);
  if (arg.getFamily())
    known *= signature.getDim(arg.getFamily()).value_or(1);
  Value count = mul(sizeH, num(known));
  if (arg.getKind() == ArgKind::Param)
    return count;
  count = mul(sizeB, count);
  switch (arg.getKind()) {
  case ArgKind::State:
  case ArgKind::Sum:
    return count;
  case ArgKind::Checkpoint: {
    // One in every so many tokens, from the first on.
    Value every = num(getTokensPerCheckpoint(signature));
    Value chunks = LLVM::UDivOp::create(
        b, LLVM::AddOp::create(b, sizeT, LLVM::SubOp::create(b, every, num(1))),
        every);
    return mul(chunks, count);
  }
  default:
    return mul(sizeT, count);
  }
}

void EntryBuilder::appendMemref(SmallVectorImpl<Value> &operands, Value pointer,
                                Value count) {
  // Allocated and aligned pointer, offset, size, stride.
  operands.append({pointer, pointer, num(0), count, num(1)});
}

void EntryBuilder::callKernel(ArrayRef<Value> operands) {
  if (!target.isX86()) {
    LLVM::CallOp::create(b, kernel, operands);
    return;
  }
  // Denormals cost a hundred cycles each and states that decay are full of
  // them: set flush-to-zero and denormals-are-zero, and put back what was.
  Value saved, changed;
  {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(&range.getBody().front());
    Value one = num(1);
    saved = LLVM::AllocaOp::create(b, ptr, i32, one);
    changed = LLVM::AllocaOp::create(b, ptr, i32, one);
  }
  auto call = [&](StringRef intrinsic, Value at) {
    LLVM::CallIntrinsicOp::create(b, b.getStringAttr(intrinsic),
                                  ValueRange{at});
  };
  call("llvm.x86.sse.stmxcsr", saved);
  Value control = LLVM::LoadOp::create(b, i32, saved);
  Value flush = LLVM::ConstantOp::create(b, i32, int64_t(0x8040));
  LLVM::StoreOp::create(b, LLVM::OrOp::create(b, control, flush), changed);
  call("llvm.x86.sse.ldmxcsr", changed);
  LLVM::CallOp::create(b, kernel, operands);
  call("llvm.x86.sse.ldmxcsr", saved);
}

void EntryBuilder::buildRange() {
  using P = LLVM::ICmpPredicate;
  range = startFunction("_range", i32,
                        {ptr, ptr, ptr, ptr, ptr, i64, i64, i64, i64});
  auto argument = [&](unsigned index) { return range.getArgument(index); };
  Value in = argument(0), out = argument(1), dims = argument(2),
        attrs = argument(3), arena = argument(4), bytes = argument(5),
        begin = argument(6), end = argument(7), vblocks = argument(8);

  // Dims: B, T, H are any, the others as compiled.
  sizeB = load(i64, dims, 0);
  sizeT = load(i64, dims, 1);
  sizeH = load(i64, dims, 2);
  Value zero = num(0);
  for (Value size : {sizeB, sizeT, sizeH})
    returnIf(cmp(P::slt, size, zero), ::delta::cpu::kBadDims);
  for (auto [index, dim] : llvm::enumerate(signature.getDimNames()))
    returnIf(
        cmp(P::ne, load(i64, dims, 3 + index), num(*signature.getDim(dim))),
        ::delta::cpu::kBadDims);

  // A kernel without workspace takes any pointer, null too.
  if (workspace > 0) {
    returnIf(cmp(P::ult, bytes, num(workspace)), ::delta::cpu::kBadWorkspace);
    Value address = LLVM::PtrToIntOp::create(b, i64, arena);
    Value low = LLVM::AndOp::create(b, address,
                                    num(::delta::cpu::kWorkspaceAlignment - 1));
    Value bad =
        LLVM::OrOp::create(b, cmp(P::ne, low, zero), cmp(P::eq, address, zero));
    returnIf(bad, ::delta::cpu::kBadWorkspace);
  }
  Value items = mul(mul(sizeB, sizeH), vblocks);
  for (Value bad : {cmp(P::slt, vblocks, num(1)),
                    cmp(P::sgt, vblocks, num(panels)), cmp(P::slt, begin, zero),
                    cmp(P::sgt, begin, end), cmp(P::sgt, end, items)})
    returnIf(bad, ::delta::cpu::kBadRange);

  // Pointers; null is fine where an array has no elements.
  SmallVector<Value> operands;
  Value null = LLVM::ZeroOp::create(b, ptr);
  auto appendArray = [&](ArgAttr arg, Value array, int64_t index) {
    Value pointer = load(ptr, array, index), count = countElements(arg);
    Value bad = LLVM::AndOp::create(b, cmp(P::eq, pointer, null),
                                    cmp(P::ne, count, zero));
    returnIf(bad, ::delta::cpu::kBadPointer);
    appendMemref(operands, pointer, count);
  };
  // An optional array: `present` tells whether it may be touched.
  auto appendState = [&](Value array, int64_t index, Value &present) {
    Value pointer = load(ptr, array, index);
    present = cmp(P::ne, pointer, null);
    appendMemref(operands, pointer, countElements(signature.getState()));
  };
  int64_t index = 0;
  for (ArgAttr arg : getInputArrays(signature))
    appendArray(arg, in, index++);
  Value hasInit, hasFinal;
  appendState(in, index, hasInit);
  index = 0;
  for (ArgAttr arg : getOutputArrays(signature))
    appendArray(arg, out, index++);
  appendState(out, index, hasFinal);
  for (auto [index, arg] : llvm::enumerate(signature.getArgs(ArgKind::Attr)))
    operands.push_back(load(b.getF64Type(), attrs, index));
  operands.append({sizeB, sizeT, sizeH, hasInit, hasFinal});
  appendMemref(operands, arena, num(workspace));
  operands.append({begin, end, vblocks});

  callKernel(operands);
  // Streaming stores are ordered before whatever tells others we are done.
  bool streams = false;
  kernel.walk([&](LLVM::StoreOp op) { streams |= op.getNontemporal(); });
  if (streams)
    LLVM::FenceOp::create(b, LLVM::AtomicOrdering::seq_cst);
  Value ok = LLVM::ConstantOp::create(b, i32, int64_t(::delta::cpu::kOk));
  LLVM::ReturnOp::create(b, ValueRange{ok});
}

void EntryBuilder::buildWhole() {
  LLVM::LLVMFuncOp function =
      startFunction("", i32, {ptr, ptr, ptr, ptr, ptr, i64});
  SmallVector<Value> operands(function.getArguments());
  Value dims = operands[2];
  Value items = mul(load(i64, dims, 0), load(i64, dims, 2));
  // Negative sizes are the range function's to report.
  operands.append({num(0), items, num(1)});
  auto call = LLVM::CallOp::create(b, range, operands);
  LLVM::ReturnOp::create(b, call.getResults());
}

void EntryBuilder::buildConstant(StringRef suffix, int64_t value) {
  startFunction(suffix, i64, {});
  LLVM::ReturnOp::create(b, ValueRange{num(value)});
}

void EntryBuilder::build() {
  buildRange();
  buildWhole();
  buildConstant("_workspace_bytes", workspace);
  buildConstant("_panels", panels);
}

/// The kernel's outs and workspace overlap nothing else, so loads may move
/// across stores to them. The two states may be one array and say nothing.
static void markNoAlias(LLVM::LLVMFuncOp kernel, SignatureAttr signature) {
  unsigned arrays = getInputArrays(signature).size();
  auto mark = [&](unsigned array, unsigned scalars) {
    // The aligned pointer of a descriptor of five.
    kernel.setArgAttr(5 * array + scalars + 1, "llvm.noalias",
                      UnitAttr::get(kernel.getContext()));
  };
  ++arrays; // initial state
  unsigned outs = getOutputArrays(signature).size();
  for (unsigned out = 0; out < outs; ++out)
    mark(arrays++, 0);
  ++arrays; // final state
  mark(arrays, signature.getArgs(ArgKind::Attr).size() + 5);
}

LogicalResult
mlir::delta::addCpuEntryPoints(ModuleOp module,
                               const ::delta::cpu::CpuTarget &target) {
  SignatureAttr signature = getSignature(module);
  if (!signature)
    return module.emitError()
           << "expects '" << kSignatureAttr << "' on the module";
  LLVM::LLVMFuncOp kernel;
  for (auto function : module.getOps<LLVM::LLVMFuncOp>())
    if (function->hasAttr("delta.workspace"))
      kernel = function;
  if (!kernel)
    return module.emitError() << "expects a kernel: an 'llvm.func' with the "
                                 "attribute 'delta.workspace'";
  auto workspace = kernel->getAttrOfType<IntegerAttr>("delta.workspace");
  auto panels = kernel->getAttrOfType<IntegerAttr>("delta.panels");
  if (!workspace || !panels)
    return kernel.emitError() << "expects 'delta.workspace' and "
                                 "'delta.panels' to be integers";
  for (StringAttr dim : signature.getDimNames())
    if (!signature.getDim(dim))
      return module.emitError() << "expects the size of dim '" << dim.getValue()
                                << "' in '" << kSignatureAttr << "'";
  if (module.lookupSymbol(::delta::cpu::getEntryName(module) + "_range"))
    return kernel.emitError() << "has entry points already";
  unsigned arrays =
      getInputArrays(signature).size() + getOutputArrays(signature).size() + 3;
  unsigned expected = 5 * arrays + signature.getArgs(ArgKind::Attr).size() + 8;
  if (kernel.getNumArguments() != expected)
    return kernel.emitError()
           << "expects " << expected << " arguments for the signature, but has "
           << kernel.getNumArguments();

  markNoAlias(kernel, signature);
  kernel.setLinkage(LLVM::Linkage::Internal);
  kernel.setNoInline(true);
  EntryBuilder(module, kernel, signature, workspace.getInt(), panels.getInt(),
               target)
      .build();
  return success();
}

namespace {
struct CpuEntryPass : mlir::delta::impl::CpuEntryBase<CpuEntryPass> {
  using CpuEntryBase::CpuEntryBase;
  void runOnOperation() override {
    llvm::Expected<::delta::cpu::CpuTarget> target =
        ::delta::cpu::CpuTarget::get(targetCpu);
    if (!target) {
      getOperation().emitError() << llvm::toString(target.takeError());
      return signalPassFailure();
    }
    if (failed(addCpuEntryPoints(getOperation(), *target)))
      signalPassFailure();
  }
};
} // namespace
