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

#include "CompilerCall.h"

#include "delta/Driver/Compilation.h"
#include "delta/Driver/Emission.h"
#include "delta/Driver/Options.h"
#include "delta/Runtime/Suggest.h"
#include "delta/Spec/Library.h"

#include "llvm/ADT/StringExtras.h"

#include <algorithm>
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
      {"target", &flags.target},
      {"fn", &flags.fn},
      {"precision", &flags.precision},
      {"chunk", &flags.chunk},
      {"mapping", &flags.mapping},
      {"assume", &flags.assume},
      {"mcpu", &flags.mcpu},           {"save-every", &flags.saveEvery},
      {"save-budget", &flags.saveBudget}};
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

} // namespace

delta_status capi::run(const char *spec, const char *text,
                       const delta_option *options, size_t count, bool explain,
                       std::string *remarks, char **error, CompilerBody body) {
  // LLVM's registries are filled in when they are first used.
  static std::mutex mutex;
  std::lock_guard<std::mutex> lock(mutex);
  if (error)
    *error = nullptr;
  std::string messages;
  raw_string_ostream os(messages);
  Reporter reporter("", os);
  auto work = [&]() -> LogicalResult {
    CompilerFlags flags;
    flags.input = text ? "-" : spec;
    flags.explain = explain;
    if (failed(readOptions(options, count, flags, reporter)))
      return failure();
    FailureOr<CompilerOptions> parsed = parseCompilerOptions(flags, reporter);
    if (failed(parsed))
      return failure();
    if (text)
      parsed->standardInput = text;
    else if (StringRef(spec) == "-")
      return reporter.error("standard input is not read here; the functions "
                            "for texts take a text");
    return body(*parsed, reporter);
  };
  if (succeeded(work())) {
    if (remarks)
      *remarks = std::move(messages);
    return DELTA_OK;
  }
  if (error)
    *error = strdup(StringRef(messages).rtrim().str().c_str());
  return static_cast<delta_status>(reporter.getFailureStatus());
}

namespace {

/// Gives bytes to the caller.
delta_status giveBytes(const std::string &bytes, void **data, size_t *size,
                       char **error) {
  void *copy = std::malloc(std::max<size_t>(bytes.size(), 1));
  if (!copy) {
    if (error)
      *error = strdup("out of memory");
    return DELTA_ERROR;
  }
  std::memcpy(copy, bytes.data(), bytes.size());
  *data = copy;
  *size = bytes.size();
  return DELTA_OK;
}

delta_status compile(const char *spec, const char *text,
                     const delta_option *options, size_t count, void **bundle,
                     size_t *size, char **error) {
  FailureOr<std::string> bytes = failure();
  delta_status status =
      capi::run(spec, text, options, count, /*explain=*/false, nullptr, error,
                [&](const CompilerOptions &parsed, Reporter &reporter) {
                  bytes = emitBundle(parsed, reporter);
                  return success(succeeded(bytes));
                });
  return status ? status : giveBytes(*bytes, bundle, size, error);
}

delta_status emit(const char *spec, const char *text, const char *artefact,
                  const delta_option *options, size_t count, void **data,
                  size_t *size, char **explanation, char **error) {
  FailureOr<std::string> contents = std::string();
  std::string remarks;
  delta_status status = capi::run(
      spec, text, options, count, /*explain=*/explanation != nullptr, &remarks,
      error, [&](const CompilerOptions &parsed, Reporter &reporter) {
        std::optional<Artefact> wanted;
        if (artefact) {
          FailureOr<Artefact> known = parseArtefact(artefact, reporter);
          if (failed(known))
            return failure();
          wanted = *known;
        }
        if (wanted == Artefact::Bundle)
          return reporter.error("delta_compile makes bundles");
        if (failed(requireOneKernel(parsed, reporter)))
          return failure();
        Compilation compilation(parsed, reporter);
        if (failed(compilation.load()))
          return failure();
        if (wanted) {
          contents = emitArtefact(compilation, *wanted, "", reporter);
          if (failed(contents))
            return failure();
        }
        return compilation.explainFurther();
      });
  if (status)
    return status;
  if (artefact && (status = giveBytes(*contents, data, size, error)))
    return status;
  if (explanation)
    *explanation = strdup(remarks.c_str());
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

delta_status delta_emit(const char *spec, const char *artefact,
                        const delta_option *options, size_t num_options,
                        void **data, size_t *size, char **explanation,
                        char **error) {
  return emit(spec, nullptr, artefact, options, num_options, data, size,
              explanation, error);
}

delta_status delta_emit_text(const char *text, const char *artefact,
                             const delta_option *options, size_t num_options,
                             void **data, size_t *size, char **explanation,
                             char **error) {
  return emit(nullptr, text, artefact, options, num_options, data, size,
              explanation, error);
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
