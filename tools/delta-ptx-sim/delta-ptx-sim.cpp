//===- delta-ptx-sim.cpp - runs a PTX kernel in the simulator -------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The command line of the simulator: one launch of one kernel, any PTX. Exits
// with 0, with 1 on an error, and with 2 when a checker found something.
//
//===----------------------------------------------------------------------===//

#include "Arguments.h"

#include "delta/Runtime/Suggest.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>

using namespace delta;
using namespace delta::ptxsim;
using runtime::Expected;
using runtime::Status;

namespace {

constexpr const char *kHelp =
    R"(OVERVIEW: delta-ptx-sim: runs a PTX kernel in the simulator

USAGE: delta-ptx-sim FILE.ptx --kernel=NAME [options]

Executes the kernel functionally, checks memory accesses, races, barriers and
asynchronous copies, and counts what it costs. FILE may be '-'. Findings go to
standard error, one a line. Exit status: 0 ok, 1 error, 2 a checker found
something.

LAUNCH:
  --kernel=NAME           The kernel; may be left out when there is only one
  --grid=X,Y,Z            CTAs (default: 1)
  --block=X,Y,Z           Threads of a CTA (default: 1)
  --shared=BYTES          Dynamic shared memory (default: 0)
  --arg=ARGUMENT          One for every parameter, in order:
                            FILE.npy[:DTYPE]    an array; DTYPE converts it
                            out:SHAPE:DTYPE     an array to be written, such as
                                                out:4,64:bf16
                            scalar:TYPE:VALUE   a value, such as scalar:u64:3

OUTPUT:
  --save=INDEX:FILE.npy   Writes the array of the argument of that number,
                          from 0; bf16 is written as f32
  --stats=FILE            Writes the counters as JSON; '-' is standard output
  --list                  Prints the kernels with their parameters, and ends

SIMULATION:
  --seed=N                Another order of warps (default: 0)
  --threads=N             Host threads (default: all)
  --max-findings=N        Findings to print (default: 20)
  --step-limit=N          Warp instructions of a CTA (default: 268435456)
  --no-races              Do not look for races in shared memory
  --no-uninitialized      Do not look for reads of what was never written

  --help                  Prints this
  --version               Prints the version
)";

struct Options {
  std::string file, kernel, stats;
  sim::Dim3 grid, block;
  uint32_t shared = 0;
  std::vector<std::string> arguments;
  std::vector<std::pair<size_t, std::string>> saves;
  sim::LaunchOptions launch;
  bool list = false;
};

Status fail(const Status &status) { return status; }

Expected<uint64_t> number(const std::string &text, uint64_t most) {
  char *end = nullptr;
  errno = 0;
  uint64_t value = std::strtoull(text.c_str(), &end, 0);
  if (text.empty() || text[0] == '-' || *end || errno || value > most)
    return Status::error("expected a number up to ", most, ", but got '", text,
                         "'");
  return value;
}

Status setOption(Options &options, const std::string &name,
                 const std::string &value) {
  auto dims = [&](sim::Dim3 &to) {
    Expected<sim::Dim3> parsed = parseDim3(value);
    if (!parsed)
      return fail(parsed.error());
    to = *parsed;
    return Status();
  };
  auto integer = [&](auto &to, uint64_t most) {
    Expected<uint64_t> parsed = number(value, most);
    if (!parsed)
      return fail(parsed.error());
    to = static_cast<std::decay_t<decltype(to)>>(*parsed);
    return Status();
  };
  if (name == "kernel") {
    options.kernel = value;
  } else if (name == "stats") {
    options.stats = value;
  } else if (name == "grid") {
    return dims(options.grid);
  } else if (name == "block") {
    return dims(options.block);
  } else if (name == "shared") {
    return integer(options.shared, UINT32_MAX);
  } else if (name == "arg") {
    options.arguments.push_back(value);
  } else if (name == "seed") {
    return integer(options.launch.scheduleSeed, UINT64_MAX);
  } else if (name == "threads") {
    return integer(options.launch.threads, 4096);
  } else if (name == "max-findings") {
    return integer(options.launch.maxFindings, 1000000);
  } else if (name == "step-limit") {
    return integer(options.launch.stepLimit, UINT64_MAX);
  } else if (name == "save") {
    size_t colon = value.find(':');
    if (colon == std::string::npos || colon + 1 == value.size())
      return Status::error("expected INDEX:FILE.npy, but got '", value, "'");
    Expected<uint64_t> index = number(value.substr(0, colon), 10000);
    if (!index)
      return index.error();
    options.saves.emplace_back(*index, value.substr(colon + 1));
  }
  return Status();
}

Expected<Options> parseCommandLine(int argc, char **argv) {
  static const std::vector<std::string> valued = {
      "kernel", "grid", "block",   "shared",       "arg",       "save",
      "stats",  "seed", "threads", "max-findings", "step-limit"};
  static const std::vector<std::string> flags = {
      "list", "no-races", "no-uninitialized", "help", "version"};
  Options options;
  for (int i = 1; i < argc; ++i) {
    std::string argument = argv[i];
    if (argument == "-" || argument.empty() || argument[0] != '-') {
      if (!options.file.empty())
        return Status::error("there are two files, '", options.file, "' and '",
                             argument, "'");
      options.file = argument;
      continue;
    }
    size_t start = argument.find_first_not_of('-');
    start = start == std::string::npos ? argument.size() : start;
    size_t equals = argument.find('=');
    std::string name = argument.substr(
        start, equals == std::string::npos ? equals : equals - start);
    auto is = [&](const std::vector<std::string> &names) {
      for (const std::string &n : names)
        if (n == name)
          return true;
      return false;
    };
    if (is(flags) && equals == std::string::npos) {
      options.list |= name == "list";
      if (name == "no-races")
        options.launch.checkRaces = false;
      if (name == "no-uninitialized")
        options.launch.checkUninitialized = false;
      continue;
    }
    if (!is(valued)) {
      std::vector<std::string> all = valued;
      all.insert(all.end(), flags.begin(), flags.end());
      return Status::error("unknown option '", argument, "'",
                           runtime::didYouMean(name, all));
    }
    std::string value;
    if (equals != std::string::npos)
      value = argument.substr(equals + 1);
    else if (++i < argc)
      value = argv[i];
    else
      return Status::error("--", name, " needs a value");
    if (Status status = setOption(options, name, value); !status.ok())
      return Status::error("--", name, ": ", status.message());
  }
  if (options.file.empty())
    return Status::error("there is no PTX file; see --help");
  return options;
}

Expected<std::string> readText(const std::string &file) {
  if (file == "-")
    return std::string(std::istreambuf_iterator<char>(std::cin), {});
  std::ifstream in(file, std::ios::binary);
  if (!in)
    return Status::error("cannot read '", file, "': ", std::strerror(errno));
  return std::string(std::istreambuf_iterator<char>(in), {});
}

void list(const sim::Module &module) {
  for (const sim::KernelInfo &kernel : module.kernels()) {
    std::cout << kernel.name << ": " << kernel.numInstructions
              << " instructions, " << kernel.staticSharedBytes
              << " bytes of static shared memory"
              << (kernel.usesDynamicShared ? " and dynamic shared memory" : "")
              << '\n';
    for (const sim::ParamInfo &param : kernel.params)
      std::cout << "  ." << param.type << ' ' << param.name << '\n';
  }
}

Expected<std::string> chooseKernel(const sim::Module &module,
                                   const Options &options) {
  if (!options.kernel.empty())
    return options.kernel;
  if (module.kernels().size() == 1)
    return module.kernels()[0].name;
  std::string names;
  for (const sim::KernelInfo &kernel : module.kernels())
    names += (names.empty() ? "" : ", ") + kernel.name;
  if (names.empty())
    return Status::error("'", options.file, "' has no kernel");
  return Status::error("'", options.file, "' has several kernels (", names,
                       "); choose one with --kernel");
}

/// Runs everything; the value says whether a checker found something.
Expected<bool> run(const Options &options) {
  Expected<std::string> text = readText(options.file);
  if (!text)
    return text.error();
  Expected<sim::Module> module = sim::Module::parse(*text, options.file);
  if (!module) {
    // The message says where already.
    std::cerr << module.message() << '\n';
    std::exit(1);
  }
  if (options.list) {
    list(*module);
    return false;
  }
  Expected<std::string> kernel = chooseKernel(*module, options);
  if (!kernel)
    return kernel.error();
  sim::Memory memory;
  std::vector<Argument> arguments;
  sim::Params params;
  for (const std::string &description : options.arguments) {
    Expected<Argument> argument = makeArgument(
        description, static_cast<unsigned>(arguments.size()), memory);
    if (!argument)
      return Status::error("--arg: ", argument.message());
    if (argument->dtype)
      params.add(argument->address);
    else
      params.addBytes(argument->scalar);
    arguments.push_back(std::move(*argument));
  }
  for (const auto &[index, path] : options.saves)
    if (index >= arguments.size() || !arguments[index].dtype)
      return Status::error("--save: argument ", index,
                           index < arguments.size() ? " is not an array"
                                                    : " does not exist");
  Expected<sim::LaunchResult> result =
      sim::launch(*module, *kernel, options.grid, options.block, options.shared,
                  params, memory, options.launch);
  if (!result)
    return result.error();
  uint64_t shown = 0;
  for (const sim::Finding &finding : result->findings) {
    std::cerr << sim::format(finding, options.file) << '\n';
    shown += finding.occurrences;
  }
  if (shown < result->totalFindings)
    std::cerr << "delta-ptx-sim: " << result->totalFindings - shown
              << " more findings are not shown\n";
  for (const auto &[index, path] : options.saves)
    if (Status status = saveArgument(arguments[index], path, memory);
        !status.ok())
      return status;
  if (options.stats == "-") {
    std::cout << sim::toJson({result->stats});
  } else if (!options.stats.empty()) {
    if (Status status = sim::writeStats(options.stats, {result->stats});
        !status.ok())
      return status;
  }
  return result->totalFindings != 0;
}

} // namespace

int main(int argc, char **argv) {
  for (int i = 1; i < argc; ++i) {
    std::string argument = argv[i];
    if (argument == "--help" || argument == "-help" || argument == "-h") {
      std::cout << kHelp;
      return 0;
    }
    if (argument == "--version") {
      std::cout << "delta-ptx-sim (delta) " DELTA_VERSION "\n";
      return 0;
    }
  }
  Expected<Options> options = parseCommandLine(argc, argv);
  if (!options) {
    std::cerr << "delta-ptx-sim: error: " << options.message() << '\n';
    return 1;
  }
  Expected<bool> found = run(*options);
  if (!found) {
    std::cerr << "delta-ptx-sim: error: " << found.message() << '\n';
    return 1;
  }
  return *found ? 2 : 0;
}
