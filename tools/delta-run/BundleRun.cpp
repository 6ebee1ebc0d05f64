//===- BundleRun.cpp - running a bundle -----------------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The command line is that of the compiling half; options of the compiler are
// refused, since a bundle is compiled already.
//
//===----------------------------------------------------------------------===//

#include "BundleRun.h"

#include "DeviceRun.h"
#include "delta/Runtime/Bundle.h"
#include "delta/Runtime/Check.h"
#include "delta/Runtime/Invocation.h"
#include "delta/Runtime/MachineLimits.h"
#include "delta/Runtime/Suggest.h"
#include "delta/Runtime/ThreadPool.h"
#include "delta/Target/CPU/SharedKernel.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace delta::run {

using runtime::Argument;
using runtime::Bundle;
using runtime::BundleKernel;
using runtime::Expected;
using runtime::NamedValues;
using runtime::Status;

namespace {

int fail(const std::string &message, int status = kFailure) {
  std::fprintf(stderr, "delta-run: error: %s\n", message.c_str());
  return status;
}

//===----------------------------------------------------------------------===//
// The command line
//===----------------------------------------------------------------------===//

enum class OptionKind { Value, Flag };

struct OptionInfo {
  const char *name;
  OptionKind kind;
  /// Of the compiler only.
  bool compiling;
};

constexpr OptionInfo kOptions[] = {
    {"input", OptionKind::Value, false},
    {"output", OptionKind::Value, false},
    {"random", OptionKind::Value, false},
    {"device", OptionKind::Value, false},
    {"stats", OptionKind::Value, false},
    {"tolerance", OptionKind::Value, false},
    {"target", OptionKind::Value, false},
    {"fn", OptionKind::Value, false},
    {"attr", OptionKind::Value, false},
    {"D", OptionKind::Value, false},
    {"reference", OptionKind::Flag, false},
    {"emulate", OptionKind::Flag, false},
    {"check", OptionKind::Flag, false},
    {"bench", OptionKind::Flag, false},
    {"grad", OptionKind::Flag, false},
    {"help", OptionKind::Flag, false},
    {"version", OptionKind::Flag, false},
    {"dtype", OptionKind::Value, true},
    {"precision", OptionKind::Value, true},
    {"chunk", OptionKind::Value, true},
    {"mapping", OptionKind::Value, true},
    {"assume", OptionKind::Value, true},
    {"mcpu", OptionKind::Value, true},
    {"save-budget", OptionKind::Value, true},
    {"save-every", OptionKind::Value, true},
    {"dump-dir", OptionKind::Value, true},
    {"explain", OptionKind::Flag, true},
    {"timing", OptionKind::Flag, true},
};

const OptionInfo *findOption(const std::string &name) {
  for (const OptionInfo &option : kOptions)
    if (name == option.name)
      return &option;
  return nullptr;
}

/// The arguments, taken apart as LLVM's command line does: -x and --x are one,
/// a value follows '=' or is the next argument, -DK=64 is -D K=64.
struct ParsedArguments {
  struct Option {
    std::string name;
    std::optional<std::string> value;
  };
  std::vector<Option> options;
  std::vector<std::string> positional;
};

ParsedArguments parseArguments(const std::vector<std::string> &arguments) {
  ParsedArguments parsed;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string &argument = arguments[i];
    if (argument == "--") {
      parsed.positional.insert(parsed.positional.end(),
                               arguments.begin() + i + 1, arguments.end());
      break;
    }
    if (argument.size() < 2 || argument[0] != '-') {
      parsed.positional.push_back(argument);
      continue;
    }
    std::string text = argument.substr(argument[1] == '-' ? 2 : 1);
    ParsedArguments::Option option;
    size_t equals = text.find('=');
    if (text.size() > 1 && text[0] == 'D' && !findOption(text)) {
      option.name = "D";
      option.value = text.substr(text[1] == '=' ? 2 : 1);
    } else if (equals != std::string::npos) {
      option.name = text.substr(0, equals);
      option.value = text.substr(equals + 1);
    } else {
      option.name = text;
      const OptionInfo *info = findOption(text);
      if (info && info->kind == OptionKind::Value && i + 1 < arguments.size())
        option.value = arguments[++i];
    }
    parsed.options.push_back(std::move(option));
  }
  return parsed;
}

/// What is to be run, and how.
struct Request {
  RunFlags flags;
  RunOptions options;
  std::vector<std::string> bundles;
  std::optional<std::string> target, fn;
  NamedValues<int64_t> dims;
  NamedValues<double> attrs;
};

/// Splits "NAME=VALUE" into a name and a number.
template <typename T>
Status parsePair(const char *option, const std::string &text,
                 std::pair<std::string, T> &pair) {
  size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0 || equals + 1 == text.size())
    return Status::error(option, ": expected NAME=VALUE, but got '", text, "'");
  pair.first = text.substr(0, equals);
  const char *begin = text.data() + equals + 1,
             *end = text.data() + text.size();
  auto [rest, code] = std::from_chars(begin, end, pair.second);
  bool finite = true;
  if constexpr (std::is_floating_point_v<T>)
    finite = std::isfinite(pair.second);
  if (code != std::errc() || rest != end || !finite)
    return Status::error(option, ": expected a number for '", pair.first,
                         "', but got '", begin, "'");
  return {};
}

Status readOption(const std::string &name,
                  const std::optional<std::string> &value, Request &request) {
  const OptionInfo *info = findOption(name);
  if (!info) {
    std::vector<std::string> known;
    for (const OptionInfo &option : kOptions)
      known.push_back(option.name);
    return Status::error("unknown option '--", name, "'",
                         runtime::didYouMean(name, known));
  }
  if (info->compiling)
    return Status::error("--", name,
                         " is an option of the compiler, and a bundle is "
                         "compiled already");
  if (info->kind == OptionKind::Value && !value)
    return Status::error("--", name, " needs a value");
  if (info->kind == OptionKind::Flag && value)
    return Status::error("--", name, " has no value, but got '", *value, "'");
  RunFlags &flags = request.flags;
  for (auto [option, text] : {std::pair("input", &flags.input),
                              {"output", &flags.output},
                              {"random", &flags.random},
                              {"device", &flags.device},
                              {"stats", &flags.stats},
                              {"tolerance", &flags.tolerance},
                              {"target", &request.target},
                              {"fn", &request.fn}})
    if (name == option) {
      *text = value;
      return {};
    }
  for (auto [option, flag] : {std::pair("reference", &flags.reference),
                              {"emulate", &flags.emulate},
                              {"check", &flags.check},
                              {"bench", &flags.bench},
                              {"grad", &flags.grad}})
    if (name == option) {
      *flag = true;
      return {};
    }
  if (name == "attr") {
    std::pair<std::string, double> attr;
    if (Status status = parsePair("--attr", *value, attr); !status.ok())
      return status;
    if (!request.attrs.insert(attr).second)
      return Status::error("--attr: '", attr.first, "' is given twice");
    return {};
  }
  std::pair<std::string, int64_t> dim;
  if (Status status = parsePair("-D", *value, dim); !status.ok())
    return status;
  request.dims.insert(dim);
  return {};
}

Expected<Request> readRequest(const ParsedArguments &arguments) {
  Request request;
  for (const ParsedArguments::Option &option : arguments.options)
    if (Status status = readOption(option.name, option.value, request);
        !status.ok())
      return status;
  request.bundles = arguments.positional;
  if (!request.flags.grad && request.bundles.size() > 1)
    return Status::error("more than one bundle is given: '", request.bundles[0],
                         "' and '", request.bundles[1], "'");
  Expected<RunOptions> options =
      readRunOptions(request.flags, std::getenv("DELTA_NUM_THREADS"));
  if (!options)
    return options.error();
  request.options = std::move(*options);
  if (request.options.check || request.options.reference ||
      request.options.emulate)
    return Status::error(request.options.check       ? "--check"
                         : request.options.reference ? "--reference"
                                                     : "--emulate",
                         " needs what the recurrence means, and a bundle does "
                         "not say; give the spec");
  size_t count = request.bundles.size();
  if (request.options.grad && count != 2)
    return Status::error("--grad runs two bundles, a forward that saves states "
                         "(delta-compile --save-every=1) and the backward that "
                         "reads them (--fn=backward), but ",
                         count, count == 1 ? " is" : " are", " given");
  if (request.options.grad && request.fn)
    return Status::error("--fn means nothing with --grad, which runs forward "
                         "and backward");
  return request;
}

//===----------------------------------------------------------------------===//
// Running
//===----------------------------------------------------------------------===//

std::string join(const std::vector<std::string> &words) {
  std::string text;
  for (const std::string &word : words)
    text += (text.empty() ? "" : ", ") + word;
  return text;
}

/// The target whose kernel is run: --target, or what suits the device best.
Expected<std::string> chooseTarget(const Bundle &bundle, const Request &request,
                                   const runtime::Device *device) {
  if (request.target) {
    if ((*request.target == "cpu") == !device)
      return *request.target;
    return Status::error("target '", *request.target,
                         "' does not run on device '",
                         nameOf(request.options.device), "'");
  }
  if (!device)
    return std::string("cpu");
  return device->chooseTarget(bundle.targets());
}

/// The kernel to run: --fn, by default forward or the only one there is.
Expected<const BundleKernel *> chooseKernel(const Bundle &bundle,
                                            const std::string &target,
                                            const Request &request) {
  if (bundle.signature.checkpoint() && !request.options.grad)
    return Status::error("the bundle has a kernel for gradients, which take a "
                         "forward and a backward; --grad runs both, of two "
                         "bundles or from the spec");
  std::vector<std::string> fns;
  for (const BundleKernel &kernel : bundle.kernels)
    if (kernel.target == target)
      fns.push_back(kernel.fn);
  if (fns.empty())
    return Status::error("the bundle has no kernel for target '", target,
                         "'; it has kernels for ", join(bundle.targets()));
  std::string fn = request.fn.value_or(
      std::find(fns.begin(), fns.end(), "forward") == fns.end() ? fns[0]
                                                                : "forward");
  if (const BundleKernel *kernel = bundle.find(target, fn))
    return kernel;
  return Status::error("--fn: the bundle has no function '", fn,
                       "' for target '", target, "'; it has ", join(fns));
}

Status checkDims(const Bundle &bundle, const NamedValues<int64_t> &given) {
  const NamedValues<int64_t> &dims = bundle.signature.dims;
  for (auto &[name, size] : given) {
    auto it = dims.find(name);
    if (it != dims.end() && it->second != size)
      return Status::error("-D: dim '", name, "' is ", it->second,
                           " in the bundle, so it cannot be ", size);
    if (it != dims.end() || name == "K" || name == "V")
      continue;
    std::vector<std::string> names;
    for (auto &entry : dims)
      names.push_back(entry.first);
    return Status::error("-D: the recurrence has no dim '", name, "'",
                         runtime::didYouMean(name, names));
  }
  return {};
}

std::optional<runtime::BoundArrays>
bindInputs(const runtime::Signature &signature, const RunOptions &options) {
  auto report = [](const std::string &message) { fail(message); };
  std::optional<runtime::BoundArrays> bound;
  if (options.random) {
    bound = runtime::makeRandomArrays(signature, signature.arrayDims(),
                                      *options.random, signature.dims, report,
                                      options.grad);
  } else {
    Expected<runtime::NpzReader> file = runtime::NpzReader::open(options.input);
    if (!file) {
      fail(file.message());
      return std::nullopt;
    }
    bound = runtime::bindArrays(signature, *file, signature.dims, report,
                                options.grad);
  }
  if (!bound)
    return std::nullopt;
  bound->dims = signature.dims;
  Status status = runtime::convertArrays(signature, *bound, /*keep=*/false);
  if (!status.ok()) {
    fail(status.message());
    return std::nullopt;
  }
  return bound;
}

Status writeResults(const std::string &path, const runtime::Results &results) {
  if (path.empty())
    return {};
  std::vector<runtime::NamedArray> named;
  for (auto &[name, array] : results)
    named.emplace_back(name, &array);
  return runtime::writeNpz(path, named);
}

/// Prints a line on standard output; what cannot be written is an error.
Status printLine(const std::string &line) {
  if (std::printf("%s\n", line.c_str()) < 0 || std::fflush(stdout) != 0)
    return Status::error("cannot write '-': ", std::strerror(errno));
  return {};
}

double countFlops(const BundleKernel &kernel,
                  const runtime::BoundArrays &arrays) {
  return kernel.flopsPerToken * static_cast<double>(arrays.B) * arrays.T *
         arrays.H;
}

Status runOnCpu(const runtime::Signature &signature, const BundleKernel &kernel,
                const std::string &name, const Request &request,
                runtime::BoundArrays &arrays, runtime::Invocation &invocation) {
  Expected<std::unique_ptr<cpu::SharedKernel>> loaded =
      cpu::SharedKernel::load(kernel);
  if (!loaded)
    return loaded.error();
  std::vector<int64_t> sizes;
  for (const std::string &dim : signature.arrayDims())
    sizes.push_back(arrays.dims[dim]);
  runtime::ThreadPool pool(request.options.threads);
  cpu::Runner runner((*loaded)->entry(), std::move(sizes), pool);
  if (Status status = runner.launch(invocation); !status.ok())
    return status;
  if (!request.options.bench)
    return {};
  Expected<double> median = runtime::measureMedian(runner, invocation);
  if (!median)
    return median.error();
  double bytes = static_cast<double>(invocation.bytes());
  double flops = countFlops(kernel, arrays);
  runtime::MachineLimits limits =
      runtime::measureMachineLimits(pool, kernel.compute == "f64");
  return printLine(runtime::formatBench(name, *median, bytes, flops,
                                        limits.floor(bytes, flops)));
}

/// Runs a kernel on the device, or on the CPU without one, as `name`.
Outcome runKernel(runtime::Device *device, const runtime::Signature &signature,
                  const BundleKernel &kernel, const std::string &name,
                  const Request &request, runtime::BoundArrays &arrays,
                  runtime::Invocation &invocation) {
  if (device)
    return runOnDevice(*device, request.options, name, kernel,
                       countFlops(kernel, arrays), invocation);
  Status status =
      runOnCpu(signature, kernel, name, request, arrays, invocation);
  return status.ok() ? Outcome{} : Outcome{kFailure, status.message()};
}

//===----------------------------------------------------------------------===//
// Gradients
//===----------------------------------------------------------------------===//

bool sameArray(const Argument &a, const Argument &b) {
  return a.kind == b.kind && a.dtype == b.dtype && a.axes == b.axes &&
         a.family == b.family && a.every == b.every;
}

/// Whether the backward differentiates the forward, and reads what it saves.
Status checkPair(const Bundle &forward, const Bundle &backward) {
  const runtime::Signature &from = forward.signature, &to = backward.signature;
  if (!from.checkpoint() || from.backward)
    return Status::error("--grad: neither bundle has a forward that saves "
                         "states; delta-compile --save-every=1 makes one");
  if (!to.backward)
    return Status::error("--grad: neither bundle has a backward; delta-compile "
                         "--fn=backward makes one");
  if (from.name != to.name || from.dims != to.dims)
    return Status::error("--grad: the bundles are of '", from.name, "' and '",
                         to.name,
                         "', or of other sizes; both must be made of "
                         "one recurrence with the same -D");
  const Argument &saved = *from.checkpoint(), &read = *to.checkpoint();
  if (saved.every != read.every)
    return Status::error("--grad: a state is saved every ", saved.every,
                         " tokens, but read every ", read.every,
                         "; give both the same --chunk and --save-every");
  std::vector<const Argument *> shared = from.inputs();
  shared.push_back(&saved);
  shared.push_back(&from.state());
  for (const Argument *arg : shared) {
    const Argument *other = to.lookup(arg->name);
    if (!other || !sameArray(*arg, *other))
      return Status::error("--grad: '", arg->name,
                           "' is not the same array in "
                           "both bundles; give both the same options");
  }
  return {};
}

} // namespace

std::string findSpec(const std::vector<std::string> &arguments) {
  ParsedArguments parsed = parseArguments(arguments);
  // Help is the compiling half's to give.
  for (const ParsedArguments::Option &option : parsed.options)
    if (option.name.compare(0, 4, "help") == 0 || option.name == "version" ||
        option.name == "h")
      return "";
  return parsed.positional.empty() ? "" : parsed.positional.front();
}

/// What a run needs before its kernels.
struct Setup {
  std::unique_ptr<runtime::Device> device;
  std::string target;
  std::vector<double> attrs;
  runtime::BoundArrays arrays;
};

/// Everything is about `bundle`. Nothing after an error, which was reported:
/// `status` is what to exit with.
static std::optional<Setup> setUp(const Bundle &bundle, const Request &request,
                                  int &status) {
  Setup setup;
  status = kFailure;
  if (Status dims = checkDims(bundle, request.dims); !dims.ok())
    return fail(dims.message()), std::nullopt;
  if (request.options.device != DeviceKind::Cpu) {
    Outcome outcome;
    setup.device = openDevice(request.options, outcome);
    if (!setup.device) {
      status = fail(outcome.message, outcome.status);
      return std::nullopt;
    }
  }
  Expected<std::string> target =
      chooseTarget(bundle, request, setup.device.get());
  if (!target)
    return fail(target.message()), std::nullopt;
  setup.target = *target;
  // An unknown function is said before arrays are read.
  if (Expected<const BundleKernel *> kernel =
          chooseKernel(bundle, setup.target, request);
      !kernel)
    return fail(kernel.message()), std::nullopt;
  Expected<std::vector<double>> attrs =
      runtime::chooseAttrs(bundle.signature, request.attrs);
  if (!attrs)
    return fail(attrs.message()), std::nullopt;
  setup.attrs = std::move(*attrs);
  std::optional<runtime::BoundArrays> arrays =
      bindInputs(bundle.signature, request.options);
  if (!arrays)
    return std::nullopt;
  setup.arrays = std::move(*arrays);
  return setup;
}

/// Runs one function of one bundle; the results, unless `outcome` has an error.
static std::optional<runtime::Results>
runFunction(const Bundle &bundle, const Request &request, Setup &setup,
            const std::string &name, const runtime::NdArray *checkpoints,
            Outcome &outcome) {
  outcome.status = kFailure;
  Expected<const BundleKernel *> kernel =
      chooseKernel(bundle, setup.target, request);
  if (!kernel) {
    outcome.message = kernel.message();
    return std::nullopt;
  }
  Expected<runtime::Invocation> invocation = runtime::Invocation::create(
      bundle.signature, setup.arrays, setup.attrs, checkpoints);
  if (!invocation) {
    outcome.message = invocation.message();
    return std::nullopt;
  }
  outcome = runKernel(setup.device.get(), bundle.signature, **kernel, name,
                      request, setup.arrays, *invocation);
  if (outcome.status != 0)
    return std::nullopt;
  return invocation->takeResults();
}

static int runGradients(const Bundle &forward, const Bundle &backward,
                        const Request &request) {
  if (Status status = checkPair(forward, backward); !status.ok())
    return fail(status.message());
  int status;
  std::optional<Setup> setup = setUp(forward, request, status);
  if (!setup)
    return status;
  Expected<runtime::NdArray> checkpoints =
      runtime::makeCheckpoints(forward.signature, setup->arrays);
  if (!checkpoints)
    return fail(checkpoints.message());
  const std::string &name = forward.signature.name;
  Outcome outcome;
  if (!runFunction(forward, request, *setup, name + "_forward", &*checkpoints,
                   outcome))
    return fail(outcome.message, outcome.status);
  std::optional<runtime::Results> computed = runFunction(
      backward, request, *setup, name + "_backward", &*checkpoints, outcome);
  if (!computed)
    return fail(outcome.message, outcome.status);
  Expected<runtime::Results> gradients =
      runtime::finishGradients(forward.signature, backward.signature,
                               setup->arrays, std::move(*computed));
  if (!gradients)
    return fail(gradients.message());
  Status written = writeResults(request.options.output, *gradients);
  return written.ok() ? 0 : fail(written.message());
}

int runBundle(const std::vector<std::string> &arguments) {
  Expected<Request> request = readRequest(parseArguments(arguments));
  if (!request)
    return fail(request.message());
  std::vector<Bundle> bundles;
  for (const std::string &path : request->bundles) {
    Expected<Bundle> bundle = runtime::readBundleFile(path);
    if (!bundle)
      return fail(bundle.message());
    bundles.push_back(std::move(*bundle));
  }
  if (request->options.grad) {
    // In either order.
    if (bundles[0].signature.backward)
      std::swap(bundles[0], bundles[1]);
    return runGradients(bundles[0], bundles[1], *request);
  }
  int status;
  std::optional<Setup> setup = setUp(bundles[0], *request, status);
  if (!setup)
    return status;
  Outcome outcome;
  std::optional<runtime::Results> results =
      runFunction(bundles[0], *request, *setup, bundles[0].signature.name,
                  nullptr, outcome);
  if (!results)
    return fail(outcome.message, outcome.status);
  Status written = writeResults(request->options.output, *results);
  return written.ok() ? 0 : fail(written.message());
}

} // namespace delta::run
