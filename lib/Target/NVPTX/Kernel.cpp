//===- Kernel.cpp - A GPU kernel and its interface ------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// One place knows the order of a kernel's arguments in the stage `mapped`;
// mappings build through it and the lowering checks against it.
//
//===----------------------------------------------------------------------===//

#include "delta/Target/NVPTX/Kernel.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"

using namespace mlir;
using namespace mlir::delta;
using ::delta::gpu::GpuTarget;

//===----------------------------------------------------------------------===//
// Facts
//===----------------------------------------------------------------------===//

DictionaryAttr GpuKernelFacts::getAttr(MLIRContext *context) const {
  Builder builder(context);
  SmallVector<NamedAttribute> entries = {
      builder.getNamedAttr("name", builder.getStringAttr(name)),
      builder.getNamedAttr("threads", builder.getI64IntegerAttr(threads)),
      builder.getNamedAttr("shared_bytes",
                           builder.getI64IntegerAttr(sharedBytes)),
      builder.getNamedAttr("v_blocks", builder.getI64IntegerAttr(vBlocks)),
      builder.getNamedAttr("min_ctas", builder.getI64IntegerAttr(minCtas))};
  if (tokens)
    entries.push_back(
        builder.getNamedAttr("tokens", builder.getI64IntegerAttr(tokens)));
  return builder.getDictionaryAttr(entries);
}

FailureOr<GpuKernelFacts> GpuKernelFacts::get(Operation *kernel) {
  auto dictionary = kernel->getAttrOfType<DictionaryAttr>(kKernelAttr);
  if (!dictionary)
    return kernel->emitError() << "expects the dictionary '" << kKernelAttr
                               << "' with the facts of its launch";
  GpuKernelFacts facts;
  auto name = dictionary.getAs<StringAttr>("name");
  if (!name || name != kernel->getAttr("sym_name"))
    return kernel->emitError()
           << "expects '" << kKernelAttr << "' to repeat the kernel's name";
  facts.name = name.str();
  auto take = [&](StringRef field, int64_t least,
                  int64_t &value) -> LogicalResult {
    auto number = dictionary.getAs<IntegerAttr>(field);
    if (!number || number.getInt() < least)
      return kernel->emitError()
             << "expects '" << field << "' in '" << kKernelAttr
             << "' to be an integer of at least " << least;
    value = number.getInt();
    return success();
  };
  if (failed(take("threads", 1, facts.threads)) ||
      failed(take("shared_bytes", 0, facts.sharedBytes)) ||
      failed(take("v_blocks", 1, facts.vBlocks)) ||
      failed(take("min_ctas", 1, facts.minCtas)) ||
      (dictionary.contains("tokens") &&
       failed(take("tokens", 1, facts.tokens))))
    return failure();
  return facts;
}

//===----------------------------------------------------------------------===//
// Workspace
//===----------------------------------------------------------------------===//

static FailureOr<GpuWorkspacePart> readWorkspacePart(Attribute attribute) {
  auto dictionary = dyn_cast<DictionaryAttr>(attribute);
  if (!dictionary)
    return failure();
  auto bytes = dictionary.getAs<IntegerAttr>("bytes");
  auto dims = dictionary.getAs<ArrayAttr>("dims");
  auto tokens = dictionary.getAs<IntegerAttr>("tokens");
  if (!bytes || !dims || bytes.getInt() < 0 || bytes.getInt() % 16 != 0)
    return failure();
  GpuWorkspacePart part{bytes.getInt(), /*ofB=*/false, /*ofH=*/false};
  for (Attribute dim : dims) {
    auto name = dyn_cast<StringAttr>(dim);
    if (name && name == "B" && !part.ofB)
      part.ofB = true;
    else if (name && name == "H" && !part.ofH)
      part.ofH = true;
    else if (name && name == "T" && !part.tokens && tokens &&
             tokens.getInt() > 0)
      part.tokens = tokens.getInt();
    else
      return failure();
  }
  return part;
}

FailureOr<SmallVector<GpuWorkspacePart>>
mlir::delta::getGpuWorkspace(ModuleOp module) {
  SmallVector<GpuWorkspacePart> parts;
  for (auto device : module.getOps<gpu::GPUModuleOp>()) {
    Attribute attribute = device->getAttr(kWorkspaceAttr);
    if (!attribute)
      continue;
    auto list = dyn_cast<ArrayAttr>(attribute);
    for (Attribute entry : list ? list.getValue() : ArrayRef<Attribute>()) {
      FailureOr<GpuWorkspacePart> part = readWorkspacePart(entry);
      if (failed(part)) {
        list = {};
        break;
      }
      parts.push_back(*part);
    }
    if (!list)
      return device.emitError()
             << "expects '" << kWorkspaceAttr
             << "' to be a list of dictionaries with 'bytes', a multiple of "
                "16, "
                "'dims', each of \"B\", \"H\" and \"T\" once at most, and with "
                "\"T\" a positive number of 'tokens'";
  }
  return parts;
}

unsigned mlir::delta::addGpuWorkspacePart(ModuleOp module,
                                          const GpuWorkspacePart &part) {
  Builder builder(module.getContext());
  gpu::GPUModuleOp device = *module.getOps<gpu::GPUModuleOp>().begin();
  SmallVector<Attribute> parts, dims;
  if (auto list = device->getAttrOfType<ArrayAttr>(kWorkspaceAttr))
    llvm::append_range(parts, list);
  if (part.ofB)
    dims.push_back(builder.getStringAttr("B"));
  if (part.ofH)
    dims.push_back(builder.getStringAttr("H"));
  if (part.tokens)
    dims.push_back(builder.getStringAttr("T"));
  SmallVector<NamedAttribute> entries = {
      builder.getNamedAttr("bytes", builder.getI64IntegerAttr(part.bytes)),
      builder.getNamedAttr("dims", builder.getArrayAttr(dims))};
  if (part.tokens)
    entries.push_back(
        builder.getNamedAttr("tokens", builder.getI64IntegerAttr(part.tokens)));
  parts.push_back(builder.getDictionaryAttr(entries));
  device->setAttr(kWorkspaceAttr, builder.getArrayAttr(parts));
  return parts.size() - 1;
}

Value GpuKernel::getWorkspaceOffset(OpBuilder &builder, unsigned number) const {
  Location loc = function->getLoc();
  auto index = [&](int64_t value) {
    return arith::ConstantIndexOp::create(builder, loc, value);
  };
  FailureOr<SmallVector<GpuWorkspacePart>> parts =
      getGpuWorkspace(function->getParentOfType<ModuleOp>());
  assert(succeeded(parts) && number < parts->size() && "no such part");
  Value offset = index(0);
  for (const GpuWorkspacePart &part : ArrayRef(*parts).take_front(number)) {
    Value bytes = index(part.bytes);
    if (part.ofB)
      bytes = arith::MulIOp::create(builder, loc, bytes, B);
    if (part.ofH)
      bytes = arith::MulIOp::create(builder, loc, bytes, H);
    if (part.tokens)
      bytes = arith::MulIOp::create(
          builder, loc, bytes,
          arith::CeilDivUIOp::create(builder, loc, T, index(part.tokens)));
    offset = arith::AddIOp::create(builder, loc, offset, bytes);
  }
  return offset;
}

//===----------------------------------------------------------------------===//
// Building
//===----------------------------------------------------------------------===//

std::string mlir::delta::getGpuEntryName(StringRef name, StringRef fn) {
  return ("delta_" + name + "_" + fn).str();
}

SmallVector<Type> mlir::delta::getGpuKernelTypes(SignatureAttr signature) {
  Builder builder(signature.getContext());
  SmallVector<Type> types;
  auto array = [&](Type element) {
    types.push_back(MemRefType::get({ShapedType::kDynamic}, element));
  };
  for (ArgAttr arg : signature.getAllArgs())
    if (arg.getKind() == ArgKind::In || arg.getKind() == ArgKind::Param)
      array(arg.getType());
  bool backward = signature.getOption("fn") == "backward";
  auto checkpoints = [&] {
    for (ArgAttr arg : signature.getArgs(ArgKind::Checkpoint))
      array(arg.getType());
  };
  if (backward)
    checkpoints();
  array(signature.getState().getType());
  for (ArgKind kind : {ArgKind::Out, ArgKind::Sum})
    for (ArgAttr arg : signature.getArgs(kind))
      array(arg.getType());
  if (!backward)
    checkpoints();
  array(signature.getState().getType());
  types.append(signature.getArgs(ArgKind::Attr).size(), builder.getF32Type());
  array(builder.getI8Type());
  types.append(3, builder.getIndexType());
  return types;
}

/// The module's `gpu.module` for the target, made if need be.
static gpu::GPUModuleOp getOrCreateGpuModule(ModuleOp module, StringRef name,
                                             const GpuTarget &target) {
  auto existing = module.getOps<gpu::GPUModuleOp>();
  if (!existing.empty())
    return *existing.begin();
  MLIRContext *context = module.getContext();
  module->setAttr(gpu::GPUDialect::getContainerModuleAttrName(),
                  UnitAttr::get(context));
  OpBuilder builder = OpBuilder::atBlockEnd(module.getBody());
  Attribute chip =
      NVVM::NVVMTargetAttr::get(context, /*optLevel=*/3, target.getTriple(),
                                target.getName(), target.getFeatures());
  return gpu::GPUModuleOp::create(builder, module.getLoc(), name,
                                  builder.getArrayAttr(chip));
}

GpuKernel mlir::delta::createGpuKernel(ModuleOp module, SignatureAttr signature,
                                       StringRef name,
                                       const GpuKernelFacts &facts,
                                       const GpuTarget &target) {
  MLIRContext *context = module.getContext();
  for (StringRef dialect : {"gpu", "memref", "nvvm"})
    context->getOrLoadDialect(dialect);
  gpu::GPUModuleOp device = getOrCreateGpuModule(module, name, target);
  OpBuilder builder = OpBuilder::atBlockEnd(device.getBody());
  auto type =
      FunctionType::get(context, getGpuKernelTypes(signature), TypeRange());
  GpuKernel kernel;
  kernel.function =
      gpu::GPUFuncOp::create(builder, module.getLoc(), facts.name, type);
  kernel.function->setAttr(gpu::GPUDialect::getKernelFuncAttrName(),
                           builder.getUnitAttr());
  kernel.function->setAttr(kKernelAttr, facts.getAttr(context));
  kernel.function.setKnownBlockSizeAttr(builder.getDenseI32ArrayAttr(
      {static_cast<int32_t>(facts.threads), 1, 1}));
  Block *body = &kernel.function.getBody().front();
  builder.setInsertionPointToEnd(body);
  gpu::ReturnOp::create(builder, module.getLoc());

  unsigned next = 0;
  auto take = [&]() -> Value { return body->getArgument(next++); };
  for (ArgAttr arg : signature.getAllArgs())
    if (arg.getKind() == ArgKind::In || arg.getKind() == ArgKind::Param)
      kernel.inputs.push_back(take());
  bool backward = signature.getOption("fn") == "backward";
  bool saved = !signature.getArgs(ArgKind::Checkpoint).empty();
  if (saved && backward)
    kernel.checkpoints = take();
  kernel.initialState = take();
  for (size_t i = 0; i < signature.getArgs(ArgKind::Out).size(); ++i)
    kernel.outs.push_back(take());
  for (size_t i = 0; i < signature.getArgs(ArgKind::Sum).size(); ++i)
    kernel.sums.push_back(take());
  if (saved && !backward)
    kernel.checkpoints = take();
  kernel.finalState = take();
  for (size_t i = 0; i < signature.getArgs(ArgKind::Attr).size(); ++i)
    kernel.attrs.push_back(take());
  kernel.workspace = take();
  kernel.B = take();
  kernel.T = take();
  kernel.H = take();
  return kernel;
}

Value GpuKernel::getInput(SignatureAttr signature, ArgAttr arg) const {
  unsigned position = 0;
  for (ArgAttr other : signature.getAllArgs()) {
    if (other == arg)
      break;
    position +=
        other.getKind() == ArgKind::In || other.getKind() == ArgKind::Param;
  }
  return inputs[position];
}

Value GpuKernel::getAttr(SignatureAttr signature, ArgAttr arg) const {
  unsigned position = 0;
  for (ArgAttr other : signature.getArgs(ArgKind::Attr)) {
    if (other == arg)
      break;
    ++position;
  }
  return attrs[position];
}

//===----------------------------------------------------------------------===//
// Looking at modules
//===----------------------------------------------------------------------===//

SmallVector<Operation *> mlir::delta::getGpuKernels(ModuleOp module) {
  SmallVector<Operation *> kernels;
  for (auto device : module.getOps<gpu::GPUModuleOp>())
    for (Operation &op : *device.getBody())
      if (op.hasAttr(kKernelAttr))
        kernels.push_back(&op);
  return kernels;
}

FailureOr<GpuTarget> mlir::delta::getGpuTarget(ModuleOp module) {
  SignatureAttr signature = getSignature(module);
  if (!signature)
    return module.emitError()
           << "expects the attribute '" << kSignatureAttr << "'";
  StringRef name = signature.getOption("target", "cpu");
  if (name == "cpu")
    return module.emitError()
           << "expects a kernel mapped for a GPU, but got one for the cpu";
  llvm::Expected<GpuTarget> target = GpuTarget::get(name);
  if (!target)
    return module.emitError() << llvm::toString(target.takeError());
  return *target;
}

/// The kernel's arguments and facts.
static LogicalResult verifyKernel(gpu::GPUFuncOp kernel,
                                  SignatureAttr signature,
                                  const GpuTarget &target) {
  FailureOr<GpuKernelFacts> facts = GpuKernelFacts::get(kernel);
  if (failed(facts))
    return failure();
  if (facts->threads > target.getThreadsPerCta())
    return kernel.emitError()
           << "asks for " << facts->threads << " threads a CTA; "
           << target.getName() << " has at most " << target.getThreadsPerCta();
  if (facts->sharedBytes > target.getSharedPerCta())
    return kernel.emitError()
           << "asks for " << facts->sharedBytes
           << " bytes of shared memory a CTA; " << target.getName()
           << " has at most " << target.getSharedPerCta();
  if (facts->sharedBytes % 16 != 0)
    return kernel.emitError() << "expects 'shared_bytes' to be a multiple of "
                                 "16, but it is "
                              << facts->sharedBytes;
  SmallVector<Type> expected = getGpuKernelTypes(signature);
  if (kernel.getNumArguments() != expected.size())
    return kernel.emitError() << "expects " << expected.size()
                              << " arguments for the signature, but has "
                              << kernel.getNumArguments();
  for (auto [index, type] : llvm::enumerate(expected))
    if (kernel.getArgument(index).getType() != type)
      return kernel.emitError()
             << "expects argument " << index << " to be of type " << type
             << ", but it has type " << kernel.getArgument(index).getType();
  return success();
}

LogicalResult mlir::delta::verifyMappedGpuModule(ModuleOp module) {
  std::optional<Stage> stage = getStage(module);
  if (stage != Stage::Mapped)
    return module.emitError()
           << "expects a module of stage mapped, but got "
           << (stage ? stringifyStage(*stage) : "one without a stage");
  FailureOr<GpuTarget> target = getGpuTarget(module);
  if (failed(target))
    return failure();
  SignatureAttr signature = getSignature(module);
  for (StringAttr dim : signature.getDimNames())
    if (!signature.getDim(dim))
      return module.emitError() << "expects the size of dim '" << dim.getValue()
                                << "' in '" << kSignatureAttr << "'";
  auto devices = module.getOps<gpu::GPUModuleOp>();
  if (!llvm::hasSingleElement(devices))
    return module.emitError() << "expects one 'gpu.module', which holds the "
                                 "kernels";
  if (failed(getGpuWorkspace(module)))
    return failure();
  bool any = false;
  for (auto function : (*devices.begin()).getOps<gpu::GPUFuncOp>()) {
    if (!function.isKernel())
      continue;
    any = true;
    if (failed(verifyKernel(function, signature, *target)))
      return failure();
  }
  if (!any)
    return module.emitError() << "expects a kernel in the 'gpu.module'";
  return success();
}
