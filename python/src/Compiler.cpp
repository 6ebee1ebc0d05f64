//===- Compiler.cpp - the compiler for Python -----------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// delta-c/Compiler.h as a Python module. It is apart from _runtime so that
// bundles run where the compiler's libraries are not.
//
//===----------------------------------------------------------------------===//

#include "Common.h"

#include "delta-c/Compiler.h"

#include <memory>

using namespace deltac;

namespace {

using Options = std::vector<std::pair<std::string, std::string>>;

/// The C form of options; refers to their texts.
std::vector<delta_option> toC(const Options &options) {
  std::vector<delta_option> result;
  for (const auto &[name, value] : options)
    result.push_back({name.c_str(), value.c_str()});
  return result;
}

/// Bytes that the library made.
struct Buffer {
  void *data = nullptr;
  size_t size = 0;
  ~Buffer() { delta_free(data); }
  nb::bytes take() const { return nb::bytes(data, size); }
};

nb::bytes compile(const std::string &text, const Options &options) {
  std::vector<delta_option> given = toC(options);
  Buffer bundle;
  char *error = nullptr;
  delta_status status;
  {
    nb::gil_scoped_release release;
    status = delta_compile_text(text.c_str(), given.data(), given.size(),
                                &bundle.data, &bundle.size, &error);
  }
  check(status, &error);
  return bundle.take();
}

nb::tuple emit(const std::string &text, std::optional<std::string> artefact,
               const Options &options, bool explain) {
  std::vector<delta_option> given = toC(options);
  Buffer data;
  char *error = nullptr, *explanation = nullptr;
  delta_status status;
  {
    nb::gil_scoped_release release;
    status =
        delta_emit_text(text.c_str(), artefact ? artefact->c_str() : nullptr,
                        given.data(), given.size(), &data.data, &data.size,
                        explain ? &explanation : nullptr, &error);
  }
  check(status, &error);
  std::unique_ptr<char, void (*)(void *)> owned(explanation, delta_free);
  return nb::make_tuple(data.take(), explanation ? explanation : "");
}

/// The interface of a spec as a dict: name, warnings, dims, args.
nb::dict describeSpec(const std::string &text, const Options &options) {
  std::vector<delta_option> given = toC(options);
  delta_spec *opened = nullptr;
  char *error = nullptr;
  check(delta_spec_read(text.c_str(), given.data(), given.size(), &opened,
                        &error),
        &error);
  std::unique_ptr<delta_spec, void (*)(delta_spec *)> spec(opened,
                                                           delta_spec_close);
  nb::dict result;
  result["name"] = delta_spec_name(opened);
  result["warnings"] = delta_spec_warnings(opened);
  nb::list dims, args;
  for (size_t i = 0; i < delta_spec_num_dims(opened); ++i)
    dims.append(delta_spec_get_dim(opened, i));
  for (size_t i = 0; i < delta_spec_num_args(opened); ++i) {
    delta_arg_info info = {};
    info.struct_size = sizeof(info);
    check(delta_spec_get_arg(opened, i, &info, &error), &error);
    args.append(describe(info));
  }
  result["dims"] = dims;
  result["args"] = args;
  return result;
}

nb::object librarySpec(const std::string &name) {
  const char *text = delta_get_library_spec(name.c_str());
  return text ? nb::object(nb::str(text)) : nb::none();
}

nb::list librarySpecs() {
  nb::list names;
  for (size_t i = 0; i < delta_num_library_specs(); ++i)
    names.append(delta_get_library_spec_name(i));
  return names;
}

} // namespace

NB_MODULE(_compiler, m) {
  m.doc() = "The compiler; its interface is deltac's Python code.";
  m.def("compile", &compile, nb::arg("text"), nb::arg("options"));
  m.def("emit", &emit, nb::arg("text"), nb::arg("artefact").none(),
        nb::arg("options"), nb::arg("explain"));
  m.def("describe", &describeSpec, nb::arg("text"), nb::arg("options"));
  m.def("library_spec", &librarySpec, nb::arg("name"));
  m.def("library_specs", &librarySpecs);
  m.def("build_id", &delta_build_id);
  m.def("host_cpu", &delta_host_cpu);
  m.def("multiprocessors", &delta_target_multiprocessors, nb::arg("target"));
}
