//===- RunOptions.cpp - the options of a run ------------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// From texts to values; every refusal names the option and says what would do.
//
//===----------------------------------------------------------------------===//

#include "RunOptions.h"

#include "delta/Runtime/Suggest.h"

#include <charconv>
#include <cmath>
#include <cstring>
#include <sys/stat.h>
#include <unistd.h>

namespace delta::run {

using runtime::Status;

const char *nameOf(DeviceKind kind) {
  return kind == DeviceKind::Cpu   ? "cpu"
         : kind == DeviceKind::Sim ? "sim"
                                   : "cuda";
}

template <typename T>
static std::optional<T> parseNumber(const std::string &text) {
  T value{};
  const char *end = text.data() + text.size();
  auto [rest, code] = std::from_chars(text.data(), end, value);
  if (code != std::errc() || rest != end)
    return std::nullopt;
  return value;
}

/// What is known to keep `path` from being written.
static Status checkOutput(const std::string &path) {
  struct stat info;
  auto fail = [&](const auto &...why) {
    return Status::error("cannot write '", path, "': ", why...);
  };
  if (stat(path.c_str(), &info) == 0) {
    if (S_ISDIR(info.st_mode))
      return fail("it is a directory");
    // Renaming over a protected file would succeed.
    if (access(path.c_str(), W_OK) != 0)
      return fail(std::strerror(errno));
    return {};
  }
  size_t slash = path.rfind('/');
  if (slash == std::string::npos || slash == 0)
    return {};
  std::string folder = path.substr(0, slash);
  if (stat(folder.c_str(), &info) != 0 || !S_ISDIR(info.st_mode))
    return fail("there is no folder '", folder, "'");
  return {};
}

static Status readDevice(const RunFlags &flags, RunOptions &options) {
  std::string name = flags.device.value_or("cpu");
  if (name == "cpu")
    options.device = DeviceKind::Cpu;
  else if (name == "sim")
    options.device = DeviceKind::Sim;
  else if (name == "cuda")
    options.device = DeviceKind::Cuda;
  else
    return Status::error("--device: unknown device '", name,
                         "'; expected cpu, sim or cuda",
                         runtime::didYouMean(name, {"cpu", "sim", "cuda"}));
  if (flags.bench && options.device == DeviceKind::Sim)
    return Status::error("--bench measures time, which the simulator does not "
                         "have; --stats=FILE writes what it counts");
  options.stats = flags.stats.value_or("");
  if (!options.stats.empty() && options.device != DeviceKind::Sim)
    return Status::error("--stats writes the simulator's counters; device '",
                         name, "' has none");
  return {};
}

runtime::Expected<RunOptions> readRunOptions(const RunFlags &flags,
                                             const char *threads) {
  RunOptions options;
  if (Status status = readDevice(flags, options); !status.ok())
    return status;
  options.input = flags.input.value_or("");
  options.output = flags.output.value_or("");
  options.reference = flags.reference;
  options.emulate = flags.emulate;
  options.grad = flags.grad;
  options.check = flags.check;
  options.bench = flags.bench;
  if (options.input.empty() && !flags.random)
    return Status::error("there are no arrays to run on; give --input FILE.npz "
                         "or --random=B=1,T=256,H=2,K=64,V=64,seed=0");
  if (!options.input.empty() && flags.random)
    return Status::error("--input and --random exclude each other");
  if (options.reference && options.bench)
    return Status::error("--bench measures the kernel, which --reference does "
                         "not run");
  if (options.emulate && options.reference)
    return Status::error("--emulate and --reference exclude each other; "
                         "--emulate --check compares the two");
  if (options.emulate && (options.bench || !options.stats.empty()))
    return Status::error(options.bench ? "--bench" : "--stats",
                         " is about the kernel, which --emulate does not run");
  if (flags.random) {
    runtime::Expected<runtime::RandomOptions> parsed =
        runtime::parseRandomOptions(*flags.random);
    if (!parsed)
      return parsed.error();
    options.random = std::move(*parsed);
  }
  if (flags.tolerance) {
    std::optional<double> value = parseNumber<double>(*flags.tolerance);
    if (!value || !std::isfinite(*value) || *value < 0)
      return Status::error("--tolerance: expected a number of at least 0, but "
                           "got '",
                           *flags.tolerance, "'");
    if (!options.check)
      return Status::error("--tolerance means nothing without --check");
    options.tolerance = value;
  }
  if (options.output == "-")
    return Status::error("--output: arrays do not go to standard output; give "
                         "a file");
  if (!options.output.empty())
    if (Status status = checkOutput(options.output); !status.ok())
      return status;
  if (!options.stats.empty())
    if (Status status = checkOutput(options.stats); !status.ok())
      return status;
  if (threads && *threads) {
    std::optional<unsigned> count = parseNumber<unsigned>(threads);
    if (!count || *count < 1 || *count > 4096)
      return Status::error("DELTA_NUM_THREADS: expected a number from 1 to "
                           "4096, but got '",
                           threads, "'");
    options.threads = *count;
  }
  return options;
}

} // namespace delta::run
