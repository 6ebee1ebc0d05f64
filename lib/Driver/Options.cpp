//===- Options.cpp - what the tools were asked for ------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// From the texts of the command line to values; every refusal names the option,
// what was given and what would do.
//
//===----------------------------------------------------------------------===//

#include "delta/Driver/Options.h"

#include "delta/Runtime/Suggest.h"
#include "delta/Target/NVPTX/GpuTarget.h"

#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringExtras.h"
#include <cmath>

using namespace llvm;

namespace delta::driver {

namespace {

constexpr StringRef kArtefacts[] = {"step", "events", "chunk", "mapped",
                                    "llvm", "obj",    "so",    "header",
                                    "ptx",  "cubin",  "bundle"};
constexpr StringRef kFns[] = {"forward", "backward", "decode"};
constexpr StringRef kPrecisions[] = {"bf16",   "f16", "tf32",
                                     "bf16x3", "f32", "f64"};

bool isName(StringRef text) {
  if (text.empty() || isDigit(text.front()))
    return false;
  return all_of(text, [](char c) { return isAlnum(c) || c == '_'; });
}

std::string didYouMean(StringRef name, ArrayRef<StringRef> candidates) {
  std::vector<std::string> names;
  for (StringRef candidate : candidates)
    names.push_back(candidate.str());
  return runtime::didYouMean(std::string_view(name.data(), name.size()), names);
}

/// The words as "a, b or c".
std::string alternatives(ArrayRef<StringRef> words) {
  std::string text;
  for (auto [i, word] : enumerate(words)) {
    if (i)
      text += i + 1 == words.size() ? " or " : ", ";
    text += word;
  }
  return text;
}

/// Splits "NAME=VALUE"; both must be there.
FailureOr<std::pair<StringRef, StringRef>>
splitPair(StringRef option, StringRef text, Reporter &reporter) {
  auto [name, value] = text.split('=');
  if (!isName(name) || !text.contains('=') || value.empty())
    return reporter.error(option + ": expected NAME=VALUE, but got '" + text +
                          "'");
  return std::pair(name, value);
}

FailureOr<NamedValues<std::string>> parsePairs(StringRef option, StringRef text,
                                               Reporter &reporter) {
  NamedValues<std::string> values;
  SmallVector<StringRef> parts;
  text.split(parts, ',');
  for (StringRef part : parts) {
    FailureOr<std::pair<StringRef, StringRef>> pair =
        splitPair(option, part, reporter);
    if (failed(pair))
      return failure();
    if (!values.insert({pair->first.str(), pair->second.str()}).second)
      return reporter.error(option + ": '" + pair->first + "' is given twice");
  }
  return values;
}

FailureOr<int64_t> parseInteger(StringRef option, StringRef name,
                                StringRef value, Reporter &reporter) {
  int64_t number;
  if (value.getAsInteger(10, number) || number < 0)
    return reporter.error(option + ": expected a number for '" + name +
                          "', but got '" + value + "'");
  return number;
}

FailureOr<runtime::DType> parseDType(StringRef text, Reporter &reporter) {
  std::optional<runtime::DType> dtype =
      runtime::dtypeFromName(std::string_view(text.data(), text.size()));
  if (!dtype || !runtime::isFloat(*dtype))
    return reporter.error("--dtype: expected f32, bf16, f16 or f64, but got '" +
                          text + "'");
  return *dtype;
}

LogicalResult parseDims(const CompilerFlags &flags, CompilerOptions &options,
                        Reporter &reporter) {
  for (StringRef text : flags.dims) {
    // -D=K=64 is as good as -D K=64.
    text.consume_front("=");
    FailureOr<std::pair<StringRef, StringRef>> pair =
        splitPair("-D", text, reporter);
    if (failed(pair))
      return failure();
    auto [name, value] = *pair;
    FailureOr<int64_t> size = parseInteger("-D", name, value, reporter);
    if (failed(size))
      return failure();
    if (*size < 1 || *size > kMaxDim)
      return reporter.error("-D: dim '" + name + "' must be between 1 and " +
                            Twine(kMaxDim) + ", but got " + Twine(*size));
    auto [it, inserted] = options.dims.insert({name.str(), *size});
    if (!inserted && it->second != *size)
      return reporter.error("-D: dim '" + name + "' is given as " +
                            Twine(it->second) + " and as " + Twine(*size));
  }
  return success();
}

LogicalResult parseDTypes(const CompilerFlags &flags, CompilerOptions &options,
                          Reporter &reporter) {
  for (StringRef text : flags.dtypes) {
    auto [name, value] = text.split('=');
    bool ofName = text.contains('=');
    FailureOr<runtime::DType> dtype =
        parseDType(ofName ? value : text, reporter);
    if (failed(dtype))
      return failure();
    if (!ofName) {
      if (options.dtype && *options.dtype != *dtype)
        return reporter.error("--dtype is given as " +
                              Twine(runtime::nameOf(*options.dtype)) +
                              " and as " + runtime::nameOf(*dtype));
      options.dtype = *dtype;
      continue;
    }
    if (!isName(name))
      return reporter.error("--dtype: expected TYPE or NAME=TYPE, but got '" +
                            text + "'");
    auto [it, inserted] = options.dtypeOf.insert({name.str(), *dtype});
    if (!inserted && it->second != *dtype)
      return reporter.error("--dtype: '" + name + "' is given twice");
  }
  return success();
}

LogicalResult parseAttrs(const CompilerFlags &flags, CompilerOptions &options,
                         Reporter &reporter) {
  for (StringRef text : flags.attrs) {
    FailureOr<std::pair<StringRef, StringRef>> pair =
        splitPair("--attr", text, reporter);
    if (failed(pair))
      return failure();
    double value;
    if (pair->second.getAsDouble(value) || !std::isfinite(value))
      return reporter.error("--attr: expected a number for '" + pair->first +
                            "', but got '" + pair->second + "'");
    if (!options.attrs.insert({pair->first.str(), value}).second)
      return reporter.error("--attr: '" + pair->first + "' is given twice");
  }
  return success();
}

LogicalResult parseSaves(const CompilerFlags &flags, CompilerOptions &options,
                         Reporter &reporter) {
  if (!flags.saveBudget.empty() && !flags.saveEvery.empty())
    return reporter.error("--save-budget and --save-every exclude each other: "
                          "the budget is there to choose the distance");
  auto parse = [&](StringRef option, StringRef text, StringRef what,
                   std::optional<int64_t> &value) -> LogicalResult {
    int64_t number;
    if (text.empty())
      return success();
    if (text.getAsInteger(10, number) || number < 1)
      return reporter.error(option + ": expected a positive number of " + what +
                            ", but got '" + text + "'");
    value = number;
    return success();
  };
  if (failed(parse("--save-budget", flags.saveBudget,
                   "bytes for every token and head", options.saveBudget)))
    return failure();
  return parse("--save-every", flags.saveEvery, "chunks", options.saveEvery);
}

LogicalResult parseTarget(StringRef text, CompilerOptions &options,
                          Reporter &reporter) {
  SmallVector<StringRef> targets;
  text.split(targets, ',');
  SmallVector<StringRef> known = {"cpu"};
  append_range(known, gpu::GpuTarget::getNames());
  for (auto [i, target] : enumerate(targets)) {
    if (!is_contained(known, target))
      return reporter.error("--target: unknown target '" + target +
                            "'; expected " + alternatives(known) +
                            didYouMean(target, known));
    if (is_contained(ArrayRef(targets).take_front(i), target))
      return reporter.error("--target: target '" + target + "' is given twice");
  }
  if (targets.size() == 1)
    options.target = text.str();
  else
    for (StringRef target : targets)
      options.targets.push_back(target.str());
  return success();
}

LogicalResult parseFns(StringRef text, CompilerOptions &options,
                       Reporter &reporter) {
  SmallVector<StringRef> names;
  text.split(names, ',');
  for (StringRef name : names) {
    const StringRef *known = find(kFns, name);
    if (known == std::end(kFns))
      return reporter.error("--fn: unknown function '" + name + "'; expected " +
                            alternatives(kFns) + didYouMean(name, kFns));
    Fn fn = static_cast<Fn>(known - kFns);
    if (is_contained(options.fns, fn))
      return reporter.error("--fn: '" + name + "' is given twice");
    options.fns.push_back(fn);
  }
  if (options.fns.size() == 1) {
    options.fn = options.fns.front();
    options.fns.clear();
  }
  return success();
}

} // namespace

StringRef stringifyArtefact(Artefact artefact) {
  return kArtefacts[static_cast<int>(artefact)];
}

StringRef stringifyFn(Fn fn) { return kFns[static_cast<int>(fn)]; }

FailureOr<NamedValues<int64_t>> parseIntegers(StringRef option, StringRef text,
                                              ArrayRef<StringRef> names,
                                              Reporter &reporter) {
  FailureOr<NamedValues<std::string>> pairs =
      parsePairs(option, text, reporter);
  if (failed(pairs))
    return failure();
  NamedValues<int64_t> values;
  for (auto &[name, value] : *pairs) {
    if (!names.empty() && !is_contained(names, name))
      return reporter.error(option + ": unknown name '" + name +
                            "'; expected " + alternatives(names));
    FailureOr<int64_t> number = parseInteger(option, name, value, reporter);
    if (failed(number))
      return failure();
    values[name] = *number;
  }
  return values;
}

FailureOr<RandomOptions> parseRandom(StringRef text, Reporter &reporter) {
  runtime::Expected<RandomOptions> options =
      runtime::parseRandomOptions(std::string_view(text.data(), text.size()));
  if (!options)
    return reporter.error(options.message());
  return std::move(*options);
}

FailureOr<Artefact> parseArtefact(StringRef text, Reporter &reporter) {
  for (auto [i, name] : enumerate(kArtefacts))
    if (text == name)
      return static_cast<Artefact>(i);
  return reporter.error("--emit: unknown stage or artefact '" + text +
                        "'; expected " + alternatives(kArtefacts) +
                        didYouMean(text, kArtefacts));
}

FailureOr<CompilerOptions> parseCompilerOptions(const CompilerFlags &flags,
                                                Reporter &reporter) {
  CompilerOptions options;
  options.input = flags.input;
  options.explain = flags.explain;
  options.timing = flags.timing;
  options.dumpDir = flags.dumpDir;
  if (!flags.target.empty() &&
      failed(parseTarget(flags.target, options, reporter)))
    return failure();

  if (!flags.mcpu.empty())
    options.mcpu = flags.mcpu;
  if (!flags.fn.empty() && failed(parseFns(flags.fn, options, reporter)))
    return failure();

  if (failed(parseDims(flags, options, reporter)) ||
      failed(parseDTypes(flags, options, reporter)) ||
      failed(parseAttrs(flags, options, reporter)) ||
      failed(parseSaves(flags, options, reporter)))
    return failure();

  if (!flags.precision.empty()) {
    if (!is_contained(kPrecisions, flags.precision))
      return reporter.error("--precision: unknown precision '" +
                            flags.precision + "'; expected " +
                            alternatives(kPrecisions));
    options.precision = flags.precision;
  }
  if (!flags.chunk.empty() && flags.chunk != "auto") {
    int64_t chunk;
    if (StringRef(flags.chunk).getAsInteger(10, chunk) ||
        (chunk != 16 && chunk != 32 && chunk != 64))
      return reporter.error("--chunk: expected auto, 16, 32 or 64, but got '" +
                            flags.chunk + "'");
    options.chunk = chunk;
  }
  if (!flags.mapping.empty()) {
    FailureOr<NamedValues<std::string>> mapping =
        parsePairs("--mapping", flags.mapping, reporter);
    if (failed(mapping))
      return failure();
    options.mapping = std::move(*mapping);
  }
  if (!flags.assume.empty()) {
    FailureOr<NamedValues<int64_t>> assume =
        parseIntegers("--assume", flags.assume, {"B", "T", "H"}, reporter);
    if (failed(assume))
      return failure();
    options.assume = std::move(*assume);
  }
  return options;
}

LogicalResult requireOneKernel(const CompilerOptions &options,
                               Reporter &reporter) {
  if (options.targets.size() > 1)
    return reporter.error("--target: several targets are for --emit=bundle");
  if (options.fns.size() > 1)
    return reporter.error("--fn: several functions are for --emit=bundle");
  return success();
}

} // namespace delta::driver
