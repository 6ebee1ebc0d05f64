//===- Spec.cpp - interfaces of specs -------------------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The C functions that tell what a spec takes and gives before it is compiled,
// and what compiled code depends on besides its spec and options.
//
//===----------------------------------------------------------------------===//

#include "Arguments.h"
#include "CompilerCall.h"

#include "delta/Driver/Compilation.h"
#include "delta/Driver/Execution.h"
#include "delta/Driver/Signature.h"
#include "delta/Spec/Evaluate.h"
#include "delta/Target/CPU/CpuTarget.h"
#include "delta/Target/NVPTX/GpuTarget.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Config/llvm-config.h"

#include <cstring>
#include <limits>
#include <link.h>

using namespace llvm;
using namespace delta;
using namespace delta::driver;
using runtime::ArgKind;

/// A signature and what the questions about it are answered with.
struct delta_spec {
  runtime::Signature signature;
  std::vector<capi::ArgTexts> args;
  std::vector<std::string> dims;
  std::string warnings;
};

/// Evaluates the defaults of attrs as far as the dims that they need are known.
static LogicalResult evaluateDefaults(Compilation &compilation,
                                      runtime::Signature &signature,
                                      Reporter &reporter) {
  NamedValues<double> values;
  SmallVector<std::string> unknown;
  for (const std::string &dim : compilation.getDimNames())
    if (!signature.dims.count(dim))
      unknown.push_back(dim);
  for (runtime::Argument &arg : signature.args) {
    if (arg.kind != ArgKind::Attr || arg.defaultText.empty())
      continue;
    bool computable = none_of(
        spec::getConstantNames(arg.defaultText), [&](const std::string &name) {
          const runtime::Argument *used = signature.lookup(name);
          return used ? !values.count(name) : is_contained(unknown, name);
        });
    if (!computable)
      continue;
    FailureOr<double> value =
        evaluateDefault(arg, signature.dims, values, reporter);
    if (failed(value))
      return failure();
    arg.defaultValue = values[arg.name] = *value;
  }
  return success();
}

static delta_status readSpec(const char *spec, const char *text,
                             const delta_option *options, size_t count,
                             delta_spec **result, char **error) {
  auto made = std::make_unique<delta_spec>();
  delta_status status = capi::run(
      spec, text, options, count, /*explain=*/false, &made->warnings, error,
      [&](const CompilerOptions &parsed, Reporter &reporter) {
        Compilation compilation(parsed, reporter);
        if (failed(compilation.load()))
          return failure();
        made->signature = toRuntimeSignature(compilation.getSignature(),
                                             compilation.getName());
        made->dims = compilation.getDimNames();
        return evaluateDefaults(compilation, made->signature, reporter);
      });
  if (status)
    return status;
  made->args = capi::makeTexts(made->signature);
  *result = made.release();
  return DELTA_OK;
}

/// The linker's hash of the library that this function is in.
static std::string findBuildId() {
  struct Search {
    uintptr_t address;
    std::string id;
  } search{reinterpret_cast<uintptr_t>(&findBuildId), ""};
  dl_iterate_phdr(
      [](dl_phdr_info *info, size_t, void *data) -> int {
        auto &search = *static_cast<Search *>(data);
        bool here = false;
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const ElfW(Phdr) &header = info->dlpi_phdr[i];
          uintptr_t begin = info->dlpi_addr + header.p_vaddr;
          here |= header.p_type == PT_LOAD && search.address >= begin &&
                  search.address < begin + header.p_memsz;
        }
        if (!here)
          return 0;
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const ElfW(Phdr) &header = info->dlpi_phdr[i];
          if (header.p_type != PT_NOTE)
            continue;
          auto *at =
              reinterpret_cast<const char *>(info->dlpi_addr + header.p_vaddr);
          const char *end = at + header.p_memsz;
          while (at + sizeof(ElfW(Nhdr)) <= end) {
            ElfW(Nhdr) note;
            std::memcpy(&note, at, sizeof(note));
            const char *name = at + sizeof(note);
            const char *contents = name + (note.n_namesz + 3) / 4 * 4;
            if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 &&
                std::memcmp(name, "GNU", 4) == 0)
              search.id = toHex(StringRef(contents, note.n_descsz),
                                /*LowerCase=*/true);
            at = contents + (note.n_descsz + 3) / 4 * 4;
          }
        }
        return 1;
      },
      &search);
  return search.id;
}

extern "C" {

delta_status delta_spec_open(const char *spec, const delta_option *options,
                             size_t num_options, delta_spec **result,
                             char **error) {
  return readSpec(spec, nullptr, options, num_options, result, error);
}

delta_status delta_spec_read(const char *text, const delta_option *options,
                             size_t num_options, delta_spec **result,
                             char **error) {
  return readSpec(nullptr, text, options, num_options, result, error);
}

void delta_spec_close(delta_spec *spec) { delete spec; }

const char *delta_spec_name(const delta_spec *spec) {
  return spec->signature.name.c_str();
}

const char *delta_spec_warnings(const delta_spec *spec) {
  return spec->warnings.c_str();
}

size_t delta_spec_num_dims(const delta_spec *spec) { return spec->dims.size(); }

const char *delta_spec_get_dim(const delta_spec *spec, size_t index) {
  return index < spec->dims.size() ? spec->dims[index].c_str() : nullptr;
}

size_t delta_spec_num_args(const delta_spec *spec) { return spec->args.size(); }

delta_status delta_spec_get_arg(const delta_spec *spec, size_t index,
                                delta_arg_info *info, char **error) {
  auto fail = [&](const Twine &message) {
    if (error)
      *error = strdup(message.str().c_str());
    return DELTA_ERROR;
  };
  if (error)
    *error = nullptr;
  if (index >= spec->args.size())
    return fail("there is no argument number " + Twine(index) + "; there are " +
                Twine(spec->args.size()));
  if (info->struct_size < sizeof(size_t))
    return fail("struct_size is not set");
  const runtime::Argument &arg = spec->signature.args[index];
  delta_arg_info values = capi::describe(arg, spec->args[index]);
  values.struct_size = info->struct_size;
  values.has_default = !arg.defaultText.empty();
  values.default_value =
      arg.defaultValue.value_or(std::numeric_limits<double>::quiet_NaN());
  std::memcpy(info, &values, std::min(info->struct_size, sizeof(values)));
  return DELTA_OK;
}

const char *delta_build_id(void) {
  static const std::string id = std::string(DELTA_VERSION "-") + findBuildId() +
                                "-llvm" LLVM_VERSION_STRING;
  return id.c_str();
}

const char *delta_host_cpu(void) {
  static const std::string text = [] {
    cpu::CpuTarget host = cpu::CpuTarget::host();
    return (host.getTriple() + " " + host.getCpu() + " " + host.getFeatures())
        .str();
  }();
  return text.c_str();
}

int64_t delta_target_multiprocessors(const char *target) {
  if (!gpu::GpuTarget::isKnown(target))
    return 0;
  return cantFail(gpu::GpuTarget::get(target)).getNumSMs();
}

} // extern "C"
