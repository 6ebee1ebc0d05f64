//===- Ptxas.cpp - From PTX to a cubin ------------------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Runs NVIDIA's assembler in a folder of its own and reads its report, in which
// a kernel has three lines:
//
//   ptxas info    : Compiling entry function 'delta_f_decode' for 'sm_90a'
//   ptxas info    : Function properties for delta_f_decode
//       0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
//   ptxas info    : Used 40 registers, used 1 barriers, 1024 bytes smem
//
//===----------------------------------------------------------------------===//

#include "delta/Target/NVPTX/Codegen.h"
#include "llvm/ADT/ScopeExit.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/Process.h"
#include "llvm/Support/Program.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;

namespace delta::gpu {

std::string formatReport(const KernelReport &report, const GpuTarget &target) {
  std::string text;
  llvm::raw_string_ostream(text)
      << report.kernel << " arch=" << target.getName()
      << " registers=" << report.registers
      << " stack_bytes=" << report.stackBytes
      << " spill_bytes=" << report.spillBytes
      << " shared_bytes=" << report.sharedBytes
      << " ctas_per_sm=" << report.ctasPerSM;
  return text;
}

std::string findPtxas() {
  if (auto found = llvm::sys::findProgramByName("ptxas"))
    return *found;
  SmallVector<std::string> roots;
  for (const char *variable : {"CUDA_HOME", "CUDA_PATH", "CUDA_ROOT"})
    if (std::optional<std::string> root = llvm::sys::Process::GetEnv(variable))
      roots.push_back(*root);
  // Who says where CUDA is means that one and no other.
  if (roots.empty())
    roots.push_back("/usr/local/cuda");
  for (const std::string &root : roots) {
    llvm::SmallString<128> folder(root);
    llvm::sys::path::append(folder, "bin");
    if (auto found = llvm::sys::findProgramByName("ptxas", {folder}))
      return *found;
  }
  return {};
}

/// The number before `unit` in a line such as "16 bytes stack frame".
static int64_t takeNumber(StringRef line, StringRef unit) {
  StringRef before = line.take_front(line.find(unit)).rtrim();
  int64_t number = 0;
  if (!line.contains(unit) ||
      before.substr(before.find_last_of(" ,:\t") + 1).getAsInteger(10, number))
    return 0;
  return number;
}

/// Reads the log into the reports by name. Static shared memory only.
static llvm::StringMap<KernelReport> readLog(StringRef log) {
  llvm::StringMap<KernelReport> reports;
  KernelReport *current = nullptr;
  SmallVector<StringRef> lines;
  log.split(lines, '\n');
  for (StringRef line : lines) {
    size_t at = line.find("Compiling entry function '");
    if (at != StringRef::npos) {
      StringRef name = line.substr(at).split('\'').second.split('\'').first;
      current = &reports[name];
      current->kernel = name.str();
      continue;
    }
    if (!current)
      continue;
    if (line.contains("bytes stack frame")) {
      current->stackBytes = takeNumber(line, "bytes stack frame");
      current->spillBytes = takeNumber(line, "bytes spill stores") +
                            takeNumber(line, "bytes spill loads");
    } else if (line.contains("Used ")) {
      current->registers = takeNumber(line, "registers");
      current->sharedBytes = takeNumber(line, "bytes smem");
    }
  }
  return reports;
}

static std::error_code writeFile(StringRef path, StringRef text) {
  std::error_code error;
  llvm::raw_fd_ostream stream(path, error);
  if (error)
    return error;
  stream << text;
  stream.close();
  error = stream.error();
  stream.clear_error();
  return error;
}

static AssembleResult assembleOnce(ModuleOp module, StringRef ptx,
                                   Cubin &cubin) {
  auto fail = [&](const llvm::Twine &message) {
    module.emitError() << message;
    return AssembleResult::Failed;
  };
  FailureOr<GpuTarget> target = mlir::delta::getGpuTarget(module);
  if (failed(target))
    return AssembleResult::Failed;
  std::string ptxas = findPtxas();
  if (ptxas.empty()) {
    module.emitError() << "ptxas, which makes a cubin of PTX, is neither on "
                          "PATH nor under CUDA_HOME, or /usr/local/cuda "
                          "without it; "
                          "--emit=ptx needs none";
    return AssembleResult::ToolAbsent;
  }

  llvm::SmallString<128> folder;
  if (std::error_code error =
          llvm::sys::fs::createUniqueDirectory("delta-ptxas", folder))
    return fail("cannot create a temporary folder: " + error.message());
  auto removeFolder =
      llvm::scope_exit([&] { llvm::sys::fs::remove_directories(folder); });
  auto inFolder = [&](StringRef name) {
    llvm::SmallString<128> path(folder);
    llvm::sys::path::append(path, name);
    return path;
  };
  auto source = inFolder("kernel.ptx"), result = inFolder("kernel.cubin"),
       logPath = inFolder("log");
  if (std::error_code error = writeFile(source, ptx))
    return fail("cannot write '" + source + "': " + error.message());

  std::string arch = ("-arch=" + target->getName()).str();
  StringRef arguments[] = {ptxas, "-v", "-O3", arch, "-o", result, source};
  std::optional<StringRef> redirects[] = {StringRef(""), StringRef(logPath),
                                          StringRef(logPath)};
  std::string error;
  int status = llvm::sys::ExecuteAndWait(ptxas, arguments, std::nullopt,
                                         redirects, 0, 0, &error);
  auto log = llvm::MemoryBuffer::getFile(logPath);
  if (status != 0) {
    if (log)
      error += (*log)->getBuffer().rtrim();
    return fail(
        "'" + ptxas + "' could not assemble the PTX: " +
        (error.empty() ? "exit status " + std::to_string(status) : error));
  }
  auto bytes = llvm::MemoryBuffer::getFile(result, /*IsText=*/false,
                                           /*RequiresNullTerminator=*/false);
  if (!log || !bytes)
    return fail("'" + ptxas + "' left no cubin");
  cubin.bytes = (*bytes)->getBuffer().str();

  cubin.kernels.clear();
  llvm::StringMap<KernelReport> reports = readLog((*log)->getBuffer());
  for (Operation *kernel : mlir::delta::getGpuKernels(module)) {
    FailureOr<mlir::delta::GpuKernelFacts> facts =
        mlir::delta::GpuKernelFacts::get(kernel);
    if (failed(facts))
      return AssembleResult::Failed;
    auto found = reports.find(facts->name);
    if (found == reports.end())
      return fail("'" + ptxas + "' says nothing about the kernel '" +
                  facts->name + "'");
    KernelReport report = found->second;
    report.sharedBytes += facts->sharedBytes;
    report.ctasPerSM = target->getOccupancy(facts->threads, report.registers,
                                            report.sharedBytes);
    cubin.kernels.push_back(report);
  }
  return AssembleResult::Ok;
}

/// The text with the kernels that spill limited to `fewer` registers less than
/// they took. Empty where none of them has a line to say so.
static std::string limitRegisters(StringRef ptx, const Cubin &cubin,
                                  int64_t fewer) {
  static constexpr llvm::StringLiteral kOccupancy = ".minnctapersm";
  std::string text = ptx.str();
  bool changed = false;
  for (const KernelReport &kernel : cubin.kernels) {
    size_t at = text.find(".entry " + kernel.kernel + "(");
    if (kernel.spillBytes == 0 || at == std::string::npos)
      continue;
    size_t body = text.find('{', at), line = text.find(kOccupancy, at);
    if (line == std::string::npos || line > body)
      continue;
    text.replace(line, text.find('\n', line) - line,
                 ".maxnreg " + std::to_string(kernel.registers - fewer));
    changed = true;
  }
  return changed ? text : std::string();
}

static int64_t getSpills(const Cubin &cubin) {
  int64_t bytes = 0;
  for (const KernelReport &kernel : cubin.kernels)
    bytes += kernel.spillBytes;
  return bytes;
}

AssembleResult assemble(ModuleOp module, StringRef ptx, Cubin &cubin) {
  AssembleResult result = assembleOnce(module, ptx, cubin);
  // The assembler orders instructions for the registers that it may use, and
  // then finds that a few are missing: with a smaller number to begin with
  // there are often enough.
  Cubin first = cubin;
  for (int64_t fewer : {1, 3, 7, 19, 32, 51}) {
    if (result != AssembleResult::Ok || getSpills(cubin) == 0)
      break;
    std::string limited = limitRegisters(ptx, first, fewer);
    Cubin attempt;
    if (limited.empty() ||
        assembleOnce(module, limited, attempt) != AssembleResult::Ok)
      break;
    if (getSpills(attempt) < getSpills(cubin))
      cubin = attempt;
  }
  return result;
}

} // namespace delta::gpu
