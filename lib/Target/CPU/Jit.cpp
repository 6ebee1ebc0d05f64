//===- Jit.cpp - Kernels compiled in this process -------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The JIT loads the same object file that ahead-of-time compilation writes, so
// that both run the same instructions; ORC links it against this process.
//
//===----------------------------------------------------------------------===//

#include "delta/Target/CPU/Jit.h"
#include "delta/Target/CPU/Codegen.h"
#include "llvm/ExecutionEngine/Orc/ExecutionUtils.h"
#include "llvm/ExecutionEngine/Orc/LLJIT.h"
#include "llvm/Support/SmallVectorMemoryBuffer.h"

using namespace mlir;

namespace delta::cpu {

struct JitKernel::Impl {
  std::unique_ptr<llvm::orc::LLJIT> jit;
};

JitKernel::JitKernel() = default;
JitKernel::~JitKernel() = default;

std::unique_ptr<JitKernel> JitKernel::compile(ModuleOp module,
                                              const CpuTarget &target) {
  FailureOr<llvm::SmallVector<char, 0>> object =
      compileToObject(module, target);
  if (failed(object))
    return nullptr;
  auto fail = [&](llvm::Error error) -> std::unique_ptr<JitKernel> {
    module.emitError() << "cannot load the compiled kernel: "
                       << llvm::toString(std::move(error));
    return nullptr;
  };

  std::unique_ptr<JitKernel> kernel(new JitKernel());
  kernel->name = getEntryName(module);
  kernel->impl = std::make_unique<Impl>();
  llvm::orc::LLJITBuilder builder;
  // No platform: a kernel has no initialisers and throws nothing.
  builder.setPlatformSetUp(llvm::orc::setUpInactivePlatform);
  llvm::Expected<std::unique_ptr<llvm::orc::LLJIT>> jit = builder.create();
  if (!jit)
    return fail(jit.takeError());
  kernel->impl->jit = std::move(*jit);
  llvm::orc::LLJIT &session = *kernel->impl->jit;
  // Functions of libm that were not expanded.
  auto symbols = llvm::orc::DynamicLibrarySearchGenerator::GetForCurrentProcess(
      session.getDataLayout().getGlobalPrefix());
  if (!symbols)
    return fail(symbols.takeError());
  session.getMainJITDylib().addGenerator(std::move(*symbols));
  if (llvm::Error error =
          session.addObjectFile(std::make_unique<llvm::SmallVectorMemoryBuffer>(
              std::move(*object), kernel->name,
              /*RequiresNullTerminator=*/false)))
    return fail(std::move(error));

  auto range = session.lookup(kernel->name + "_range");
  if (!range)
    return fail(range.takeError());
  kernel->entry.range = range->toPtr<RangeFunction>();
  auto workspace = session.lookup(kernel->name + "_workspace_bytes");
  if (!workspace)
    return fail(workspace.takeError());
  kernel->entry.workspaceBytes = workspace->toPtr<size_t (*)()>()();
  auto panels = session.lookup(kernel->name + "_panels");
  if (!panels)
    return fail(panels.takeError());
  kernel->entry.panels = panels->toPtr<int64_t (*)()>()();
  return kernel;
}

void *JitKernel::lookup(llvm::StringRef suffix) const {
  auto address = impl->jit->lookup(name + suffix.str());
  if (!address) {
    llvm::consumeError(address.takeError());
    return nullptr;
  }
  return address->toPtr<void *>();
}

} // namespace delta::cpu
