//===- Bundles.cpp - what is in a bundle ---------------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The C functions that read bundles and answer questions about them.
//
//===----------------------------------------------------------------------===//

#include "Handles.h"

using namespace delta;
using namespace delta::capi;
using runtime::Argument;
using runtime::BundleKernel;
using runtime::Expected;

extern "C" {

uint32_t delta_api_version(void) { return DELTA_API_VERSION; }

const char *delta_version(void) { return DELTA_VERSION; }

void delta_free(void *pointer) { std::free(pointer); }

static delta_status takeBundle(Expected<runtime::Bundle> bundle,
                               delta_bundle **result, char **error) {
  if (!bundle)
    return fail(error, bundle.message());
  *result = new delta_bundle{
      std::make_shared<const LoadedBundle>(std::move(*bundle))};
  return DELTA_OK;
}

delta_status delta_bundle_open(const char *path, delta_bundle **bundle,
                               char **error) {
  return guarded(error, [&] {
    return takeBundle(runtime::readBundleFile(path), bundle, error);
  });
}

delta_status delta_bundle_read(const void *data, size_t size, const char *name,
                               delta_bundle **bundle, char **error) {
  return guarded(error, [&] {
    std::string_view bytes(static_cast<const char *>(data), size);
    return takeBundle(runtime::readBundle(bytes, name ? name : "memory"),
                      bundle, error);
  });
}

void delta_bundle_close(delta_bundle *bundle) { delete bundle; }

const char *delta_bundle_name(const delta_bundle *bundle) {
  return bundle->loaded->bundle.signature.name.c_str();
}

const char *delta_bundle_id(const delta_bundle *bundle) {
  return bundle->loaded->bundle.id.c_str();
}

const char *delta_bundle_compiler(const delta_bundle *bundle) {
  return bundle->loaded->bundle.compiler.c_str();
}

static delta_status outOfRange(const char *what, size_t index, size_t count,
                               char **error) {
  return fail(error, "there is no " + std::string(what) + " number " +
                         std::to_string(index) + "; there are " +
                         std::to_string(count));
}

size_t delta_bundle_num_dims(const delta_bundle *bundle) {
  return bundle->loaded->dims.size();
}

delta_status delta_bundle_get_dim(const delta_bundle *bundle, size_t index,
                                  const char **name, int64_t *size,
                                  char **error) {
  return guarded(error, [&] {
    const auto &dims = bundle->loaded->dims;
    if (index >= dims.size())
      return outOfRange("dim", index, dims.size(), error);
    *name = dims[index].first.c_str();
    *size = dims[index].second;
    return DELTA_OK;
  });
}

size_t delta_bundle_num_args(const delta_bundle *bundle) {
  return bundle->loaded->args.size();
}

delta_status delta_bundle_get_arg(const delta_bundle *bundle, size_t index,
                                  delta_arg_info *info, char **error) {
  return guarded(error, [&] {
    const LoadedBundle &loaded = *bundle->loaded;
    if (index >= loaded.args.size())
      return outOfRange("argument", index, loaded.args.size(), error);
    const Argument &arg = loaded.bundle.signature.args[index];
    delta_arg_info values = describe(arg, loaded.args[index]);
    values.has_default = arg.defaultValue.has_value();
    values.default_value = arg.defaultValue.value_or(0);
    return writeInfo(info, std::move(values), error);
  });
}

size_t delta_bundle_num_kernels(const delta_bundle *bundle) {
  return bundle->loaded->bundle.kernels.size();
}

delta_status delta_bundle_get_kernel(const delta_bundle *bundle, size_t index,
                                     delta_kernel_info *info, char **error) {
  return guarded(error, [&] {
    const auto &kernels = bundle->loaded->bundle.kernels;
    if (index >= kernels.size())
      return outOfRange("kernel", index, kernels.size(), error);
    return writeInfo(info, describe(kernels[index]), error);
  });
}

delta_status delta_bundle_get_launch(const delta_bundle *bundle, size_t kernel,
                                     size_t index, delta_launch_info *info,
                                     char **error) {
  return guarded(error, [&] {
    const auto &kernels = bundle->loaded->bundle.kernels;
    if (kernel >= kernels.size())
      return outOfRange("kernel", kernel, kernels.size(), error);
    const auto &launches = kernels[kernel].launches;
    if (index >= launches.size())
      return outOfRange("launch", index, launches.size(), error);
    return writeInfo(info, describe(launches[index]), error);
  });
}

size_t delta_bundle_num_gradients(const delta_bundle *bundle) {
  return bundle->loaded->bundle.gradients.size();
}

const char *delta_bundle_get_gradient_target(const delta_bundle *bundle,
                                             size_t index) {
  const auto &gradients = bundle->loaded->bundle.gradients;
  return index < gradients.size() ? gradients[index].target.c_str() : nullptr;
}

delta_status delta_bundle_open_gradient(const delta_bundle *bundle,
                                        size_t index, const char *fn,
                                        delta_bundle **part, char **error) {
  return guarded(error, [&] {
    const auto &gradients = bundle->loaded->bundle.gradients;
    if (index >= gradients.size())
      return outOfRange("pair of gradients", index, gradients.size(), error);
    std::string name = fn ? fn : "";
    if (name != "forward" && name != "backward")
      return fail(error, "gradients have no function '" + name +
                             "'; expected forward or backward");
    return takeBundle(runtime::readBundle(name == "forward"
                                              ? gradients[index].forward
                                              : gradients[index].backward,
                                          "gradients"),
                      part, error);
  });
}

const char *delta_bundle_get_kernel_option(const delta_bundle *bundle,
                                           size_t index, const char *name) {
  const auto &kernels = bundle->loaded->bundle.kernels;
  if (index >= kernels.size() || !name)
    return nullptr;
  for (const auto &[key, value] : kernels[index].options)
    if (key == name)
      return value.c_str();
  return nullptr;
}

} // extern "C"
