//===- AotObject.cpp - Object files and shared libraries ------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The object is made in this process; only a shared library needs a linker,
// which is looked for on PATH.
//
//===----------------------------------------------------------------------===//

#include "delta/Target/CPU/Aot.h"
#include "delta/Target/CPU/Codegen.h"
#include "llvm/ADT/ScopeExit.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Object/ObjectFile.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Program.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;

namespace delta::cpu {

EmitResult emitObject(ModuleOp module, const CpuTarget &target,
                      llvm::raw_ostream &stream) {
  FailureOr<llvm::SmallVector<char, 0>> object =
      compileToObject(module, target);
  if (failed(object))
    return EmitResult::Failed;
  stream.write(object->data(), object->size());
  stream.flush();
  return EmitResult::Ok;
}

/// Does the object call functions that it does not define?
static bool needsLibraries(StringRef bytes) {
  llvm::MemoryBufferRef buffer(bytes, "object");
  auto object = llvm::object::ObjectFile::createObjectFile(buffer);
  if (!object) {
    llvm::consumeError(object.takeError());
    return true;
  }
  for (const llvm::object::SymbolRef &symbol : (*object)->symbols()) {
    auto flags = symbol.getFlags();
    if (!flags) {
      llvm::consumeError(flags.takeError());
      return true;
    }
    // Names such as the PLT's table belong to the linker.
    if (!(*flags & llvm::object::SymbolRef::SF_Undefined) ||
        (*flags & llvm::object::SymbolRef::SF_FormatSpecific))
      continue;
    auto name = symbol.getName();
    if (!name) {
      llvm::consumeError(name.takeError());
      return true;
    }
    if (!name->empty() && *name != "_GLOBAL_OFFSET_TABLE_")
      return true;
  }
  return false;
}

EmitResult emitSharedLibrary(ModuleOp module, const CpuTarget &target,
                             StringRef path) {
  FailureOr<llvm::SmallVector<char, 0>> object =
      compileToObject(module, target);
  if (failed(object))
    return EmitResult::Failed;

  // A compiler driver knows where libm is; lld alone does not.
  std::string linker;
  bool isDriver = true;
  for (StringRef name : {"cc", "gcc", "clang"})
    if (auto found = llvm::sys::findProgramByName(name)) {
      linker = *found;
      break;
    }
  if (linker.empty()) {
    isDriver = false;
    if (!needsLibraries(StringRef(object->data(), object->size())))
      if (auto found = llvm::sys::findProgramByName("ld.lld"))
        linker = *found;
  }
  if (linker.empty()) {
    module.emitError() << "no linker for a shared library: neither cc, gcc nor "
                          "clang is on PATH; an object file needs none";
    return EmitResult::ToolAbsent;
  }

  auto fail = [&](const llvm::Twine &message) {
    module.emitError() << message;
    return EmitResult::Failed;
  };
  // The library is linked beside its place and moved there when it is whole.
  llvm::SmallString<128> objectPath, logPath, linkedPath;
  int descriptor = -1;
  if (std::error_code error = llvm::sys::fs::createTemporaryFile(
          "delta-kernel", "o", descriptor, objectPath))
    return fail("cannot create a temporary file: " + error.message());
  {
    llvm::raw_fd_ostream stream(descriptor, /*shouldClose=*/true);
    stream.write(object->data(), object->size());
    stream.close();
    if (stream.has_error()) {
      stream.clear_error();
      llvm::sys::fs::remove(objectPath);
      return fail("cannot write " + objectPath);
    }
  }
  auto removeFiles = llvm::scope_exit([&] {
    llvm::sys::fs::remove(objectPath);
    if (!logPath.empty())
      llvm::sys::fs::remove(logPath);
    if (!linkedPath.empty())
      llvm::sys::fs::remove(linkedPath);
  });
  if (std::error_code error =
          llvm::sys::fs::createTemporaryFile("delta-link", "log", logPath))
    return fail("cannot create a temporary file: " + error.message());
  if (std::error_code error =
          llvm::sys::fs::createUniqueFile(path + ".%%%%%%", linkedPath)) {
    linkedPath.clear();
    return fail("cannot write '" + path + "': " + error.message());
  }

  llvm::SmallVector<StringRef> arguments = {linker, "-shared", "-o", linkedPath,
                                            objectPath};
  if (isDriver)
    arguments.push_back("-lm");
  std::optional<StringRef> redirects[] = {StringRef(""), StringRef(logPath),
                                          StringRef(logPath)};
  std::string error;
  int status = llvm::sys::ExecuteAndWait(linker, arguments, std::nullopt,
                                         redirects, 0, 0, &error);
  if (status != 0) {
    if (auto log = llvm::MemoryBuffer::getFile(logPath))
      error += (*log)->getBuffer().rtrim();
    return fail(
        "'" + linker + "' could not link the shared library: " +
        (error.empty() ? "exit status " + std::to_string(status) : error));
  }
  if (std::error_code code = llvm::sys::fs::rename(linkedPath, path))
    return fail("cannot write '" + path + "': " + code.message());
  linkedPath.clear();
  return EmitResult::Ok;
}

} // namespace delta::cpu
