//===- delta-run.cpp - runs a recurrence on arrays ------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A bundle is run here, in a process without LLVM. For anything else this
// process becomes the half that compiles, a program of its own.
//
//===----------------------------------------------------------------------===//

#include "BundleRequest.h"
#include "BundleRun.h"
#include "delta/Runtime/Bundle.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <unistd.h>

/// The program that compiles: beside this one's folder, built or installed.
static std::string findCompilingHalf() {
  std::error_code error;
  std::filesystem::path self =
      std::filesystem::read_symlink("/proc/self/exe", error);
  return self.parent_path().parent_path() / "libexec" / "delta" /
         "delta-run-spec";
}

int main(int argc, char **argv) {
  std::vector<std::string> arguments(argv + 1, argv + argc);
  std::string spec = delta::run::findSpec(arguments);
  if (!spec.empty() && delta::runtime::isBundleFile(spec))
    return delta::run::runBundle(arguments);
  std::string program = findCompilingHalf();
  execv(program.c_str(), argv);
  std::fprintf(stderr,
               "delta-run: error: the compiler cannot be started: '%s': %s; a "
               "bundle runs without it\n",
               program.c_str(), std::strerror(errno));
  return 3;
}
