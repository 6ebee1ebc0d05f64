//===- BundleRequest.cpp - the command line for bundles -------------------===//
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

#include "BundleRequest.h"

#include "delta/Runtime/Suggest.h"

#include <charconv>
#include <cmath>
#include <cstdlib>

namespace delta::run {

using runtime::Expected;
using runtime::Status;

namespace {

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

} // namespace

Expected<Request> readRequest(const std::vector<std::string> &words) {
  ParsedArguments arguments = parseArguments(words);
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
  if (request.options.grad && count > 2)
    return Status::error("--grad runs a bundle with gradients (delta-compile "
                         "--fn=forward,backward), or two, a forward that saves "
                         "states (--save-every=1) and the backward that reads "
                         "them (--fn=backward), but ",
                         count, " are given");
  if (request.options.grad && request.fn)
    return Status::error("--fn means nothing with --grad, which runs forward "
                         "and backward");
  return request;
}

std::string findSpec(const std::vector<std::string> &arguments) {
  ParsedArguments parsed = parseArguments(arguments);
  // Help is the compiling half's to give.
  for (const ParsedArguments::Option &option : parsed.options)
    if (option.name.compare(0, 4, "help") == 0 || option.name == "version" ||
        option.name == "h")
      return "";
  return parsed.positional.empty() ? "" : parsed.positional.front();
}

} // namespace delta::run
