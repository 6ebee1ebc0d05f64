//===- SharedKernel.cpp - CPU kernels in shared objects -------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The bytes go into an anonymous file in memory. The loader tells libraries
// apart by their path, which is the descriptor's number here: so the descriptor
// stays open as long as the library is loaded.
//
//===----------------------------------------------------------------------===//

#include "delta/Target/CPU/SharedKernel.h"

#include "delta/Target/CPU/CpuFeatures.h"

#include <cerrno>
#include <cstring>
#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

namespace delta::cpu {

using runtime::Expected;
using runtime::Status;

Status checkMachine(const runtime::BundleKernel &kernel) {
  std::string arch = kernel.triple.substr(0, kernel.triple.find('-'));
  if (arch != architecture())
    return Status::error("the kernel was made for '", kernel.triple,
                         "', and this process runs on ", architecture());
  std::string missing;
  for (const std::string &feature : kernel.cpuFeatures)
    if (!hasFeature(feature).value_or(false))
      missing += (missing.empty() ? "" : ", ") + feature;
  if (!missing.empty())
    return Status::error("the kernel was made for the CPU '", kernel.cpu,
                         "', and this machine lacks ", missing);
  return {};
}

Expected<std::unique_ptr<SharedKernel>>
SharedKernel::load(const runtime::BundleKernel &kernel) {
  auto fail = [&](const auto &...parts) {
    return Status::error("cannot load kernel '", kernel.entry, "': ", parts...);
  };
  if (Status status = checkMachine(kernel); !status.ok())
    return fail(status.message());
  const runtime::KernelImage *image =
      kernel.find(runtime::KernelImage::SharedObject);
  if (!image)
    return fail("there is no shared object");

  std::unique_ptr<SharedKernel> loaded(new SharedKernel);
  loaded->file = memfd_create(kernel.entry.c_str(), MFD_CLOEXEC);
  if (loaded->file < 0)
    return fail("memfd_create: ", std::strerror(errno));
  for (size_t done = 0; done < image->bytes.size();) {
    ssize_t written = write(loaded->file, image->bytes.data() + done,
                            image->bytes.size() - done);
    if (written < 0 && errno == EINTR)
      continue;
    if (written <= 0)
      return fail("writing it to memory: ", std::strerror(errno));
    done += static_cast<size_t>(written);
  }
  std::string path = "/proc/self/fd/" + std::to_string(loaded->file);
  loaded->library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!loaded->library) {
    const char *why = dlerror();
    return fail(why ? why : "dlopen failed");
  }
  for (const char *suffix : {"_range", "_workspace_bytes", "_panels"})
    if (!dlsym(loaded->library, (kernel.entry + suffix).c_str()))
      return fail("the shared object has no symbol '", kernel.entry, suffix,
                  "'");
  auto lookup = [&](const char *suffix) {
    return dlsym(loaded->library, (kernel.entry + suffix).c_str());
  };
  KernelEntry &entry = loaded->kernelEntry;
  entry.range = reinterpret_cast<RangeFunction>(lookup("_range"));
  entry.workspaceBytes =
      reinterpret_cast<size_t (*)()>(lookup("_workspace_bytes"))();
  entry.panels = reinterpret_cast<int64_t (*)()>(lookup("_panels"))();
  return loaded;
}

SharedKernel::~SharedKernel() {
  if (library)
    dlclose(library);
  if (file >= 0)
    close(file);
}

} // namespace delta::cpu
