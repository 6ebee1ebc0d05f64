//===- BundleRun.cpp - running a bundle -----------------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// One function of a bundle, or the two of gradients, on the CPU or a device.
//
//===----------------------------------------------------------------------===//

#include "BundleRun.h"

#include "BundleRequest.h"
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
#include <cstdio>
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
// Running
//===----------------------------------------------------------------------===//

std::string join(const std::vector<std::string> &words) {
  std::string text;
  for (const std::string &word : words)
    text += (text.empty() ? "" : ", ") + word;
  return text;
}

/// The target whose kernel is run: --target, or what suits the device best.
Expected<std::string> chooseTarget(const std::vector<std::string> &targets,
                                   const Request &request,
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
  return device->chooseTarget(targets);
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

/// What a run needs before its kernels.
struct Setup {
  runtime::Device *device = nullptr; // null: the CPU
  std::string target;
  std::vector<double> attrs;
  runtime::BoundArrays arrays;
};

/// Everything is about `bundle`. Nothing after an error, which was reported.
static std::optional<Setup> setUp(const Bundle &bundle, const Request &request,
                                  runtime::Device *device) {
  Setup setup;
  setup.device = device;
  if (Status dims = checkDims(bundle, request.dims); !dims.ok())
    return fail(dims.message()), std::nullopt;
  Expected<std::string> target =
      chooseTarget(bundle.targets(), request, device);
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
  outcome = runKernel(setup.device, bundle.signature, **kernel, name, request,
                      setup.arrays, *invocation);
  if (outcome.status != 0)
    return std::nullopt;
  return invocation->takeResults();
}

static int runGradients(const Bundle &forward, const Bundle &backward,
                        const Request &request, runtime::Device *device) {
  if (Status status = checkPair(forward, backward); !status.ok())
    return fail(status.message());
  std::optional<Setup> setup = setUp(forward, request, device);
  if (!setup)
    return kFailure;
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

/// The forward and the backward that are in one bundle.
static Expected<std::pair<Bundle, Bundle>>
openGradients(const Bundle &bundle, const Request &request,
              const runtime::Device *device) {
  std::vector<std::string> targets;
  for (const runtime::GradientPair &pair : bundle.gradients)
    targets.push_back(pair.target);
  if (targets.empty())
    return Status::error(
        "--grad: the bundle has no gradients; make it with delta-compile "
        "--fn=forward,backward, or give the bundles of a forward that saves "
        "states (--save-every=1) and of its backward (--fn=backward)");
  Expected<std::string> target = chooseTarget(targets, request, device);
  if (!target)
    return target.error();
  const runtime::GradientPair *pair = bundle.findGradients(*target);
  if (!pair)
    return Status::error("the bundle has no gradients for target '", *target,
                         "'; it has gradients for ", join(targets));
  Expected<Bundle> forward = runtime::readBundle(pair->forward, "forward");
  if (!forward)
    return forward.error();
  Expected<Bundle> backward = runtime::readBundle(pair->backward, "backward");
  if (!backward)
    return backward.error();
  return std::pair(std::move(*forward), std::move(*backward));
}

int runBundle(const std::vector<std::string> &arguments) {
  Expected<Request> request = readRequest(arguments);
  if (!request)
    return fail(request.message());
  std::vector<Bundle> bundles;
  for (const std::string &path : request->bundles) {
    Expected<Bundle> bundle = runtime::readBundleFile(path);
    if (!bundle)
      return fail(bundle.message());
    bundles.push_back(std::move(*bundle));
  }
  std::unique_ptr<runtime::Device> device;
  if (request->options.device != DeviceKind::Cpu) {
    Outcome outcome;
    device = openDevice(request->options, outcome);
    if (!device)
      return fail(outcome.message, outcome.status);
  }
  if (request->options.grad && bundles.size() == 1) {
    Expected<std::pair<Bundle, Bundle>> pair =
        openGradients(bundles.front(), *request, device.get());
    if (!pair)
      return fail(pair.message());
    return runGradients(pair->first, pair->second, *request, device.get());
  }
  if (request->options.grad) {
    // In either order.
    if (bundles[0].signature.backward)
      std::swap(bundles[0], bundles[1]);
    return runGradients(bundles[0], bundles[1], *request, device.get());
  }
  std::optional<Setup> setup = setUp(bundles[0], *request, device.get());
  if (!setup)
    return kFailure;
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
