//===- Compiler.cpp - compiling recurrences -------------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The C functions over the driver. It is compiler code: no exceptions, and all
// messages go into the text of the error.
//
//===----------------------------------------------------------------------===//

#include "delta-c/Compiler.h"

#include "delta/Driver/Emission.h"
#include "delta/Driver/Options.h"
#include "delta/Runtime/Suggest.h"
#include "delta/Spec/Library.h"

#include "llvm/ADT/StringExtras.h"

#include <cstdlib>
#include <cstring>
#include <mutex>

using namespace llvm;
using namespace delta;
using namespace delta::driver;

namespace {

/// Puts the options into the form of the command line.
LogicalResult readOptions(const delta_option *options, size_t count,
                          CompilerFlags &flags, Reporter &reporter) {
  const std::pair<const char *, std::string *> single[] = {
      {"target", &flags.target},       {"fn", &flags.fn},
      {"precision", &flags.precision}, {"chunk", &flags.chunk},
      {"mapping", &flags.mapping},     {"assume", &flags.assume},
      {"mcpu", &flags.mcpu}};
  const std::pair<const char *, std::vector<std::string> *> repeated[] = {
      {"D", &flags.dims}, {"dtype", &flags.dtypes}, {"attr", &flags.attrs}};
  for (size_t i = 0; i < count; ++i) {
    StringRef name(options[i].name ? options[i].name : "");
    if (!options[i].value)
      return reporter.error("option '" + name + "' has no value");
    bool known = false;
    std::vector<std::string> names;
    for (auto &[option, text] : single) {
      names.push_back(option);
      if (name != option)
        continue;
      known = true;
      *text = options[i].value;
    }
    for (auto &[option, texts] : repeated) {
      names.push_back(option);
      if (name != option)
        continue;
      known = true;
      texts->push_back(options[i].value);
    }
    if (known)
      continue;
    std::string hint = runtime::didYouMean(name.str(), names);
    return reporter.error(
        "unknown option '" + name + "'" +
        (hint.empty() ? "; expected " + join(names, ", ") : hint));
  }
  return success();
}

delta_status compile(const char *spec, const char *text,
                     const delta_option *options, size_t count, void **bundle,
                     size_t *size, char **error) {
  // LLVM's registries are filled in when they are first used.
  static std::mutex mutex;
  std::lock_guard<std::mutex> lock(mutex);
  if (error)
    *error = nullptr;
  std::string messages;
  raw_string_ostream os(messages);
  Reporter reporter("", os);
  auto run = [&]() -> FailureOr<std::string> {
    CompilerFlags flags;
    flags.input = text ? "-" : spec;
    if (failed(readOptions(options, count, flags, reporter)))
      return failure();
    FailureOr<CompilerOptions> parsed = parseCompilerOptions(flags, reporter);
    if (failed(parsed))
      return failure();
    if (text)
      parsed->standardInput = text;
    else if (StringRef(spec) == "-")
      return reporter.error("standard input is not read here; "
                            "delta_compile_text takes a text");
    return emitBundle(*parsed, reporter);
  };
  FailureOr<std::string> bytes = run();
  if (failed(bytes)) {
    if (error)
      *error = strdup(StringRef(messages).rtrim().str().c_str());
    return static_cast<delta_status>(reporter.getFailureStatus());
  }
  void *copy = std::malloc(bytes->size());
  if (!copy) {
    if (error)
      *error = strdup("out of memory");
    return DELTA_ERROR;
  }
  std::memcpy(copy, bytes->data(), bytes->size());
  *bundle = copy;
  *size = bytes->size();
  return DELTA_OK;
}

} // namespace

extern "C" {

delta_status delta_compile(const char *spec, const delta_option *options,
                           size_t num_options, void **bundle, size_t *size,
                           char **error) {
  return compile(spec, nullptr, options, num_options, bundle, size, error);
}

delta_status delta_compile_text(const char *text, const delta_option *options,
                                size_t num_options, void **bundle, size_t *size,
                                char **error) {
  return compile(nullptr, text, options, num_options, bundle, size, error);
}

size_t delta_num_library_specs(void) { return spec::librarySpecNames().size(); }

// The texts are string literals of the library: they end with a zero.
const char *delta_get_library_spec_name(size_t index) {
  ArrayRef<StringRef> names = spec::librarySpecNames();
  return index < names.size() ? names[index].data() : nullptr;
}

const char *delta_get_library_spec(const char *name) {
  std::optional<StringRef> text = spec::lookupLibrarySpec(name);
  return text ? text->data() : nullptr;
}

} // extern "C"
