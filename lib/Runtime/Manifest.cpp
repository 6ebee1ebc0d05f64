//===- Manifest.cpp - the JSON in a bundle --------------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Reads and writes manifests. What is read is checked field by field, and
// whatever is used later has a bound; an error says where and what was
// expected. Fields that this version does not know are left alone.
//
//===----------------------------------------------------------------------===//

#include "delta/Runtime/Bundle.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <limits>

namespace delta::runtime {

namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMaxEntries = 1024; ///< of any list
constexpr size_t kMaxLaunches = 16;  ///< of a function
constexpr int64_t kMaxTokens = int64_t(1) << 32;
constexpr double kInf = std::numeric_limits<double>::infinity();

//===----------------------------------------------------------------------===//
// Reading
//===----------------------------------------------------------------------===//

/// Ends the reading with a worded error; it does not leave readManifest.
struct Malformed {
  std::string message;
};

/// A value of the manifest and the way to it.
class Field {
public:
  Field(const Json &value, std::string path)
      : value(value), path(std::move(path)) {}

  template <typename... Parts>
  [[noreturn]] void fail(const Parts &...parts) const {
    std::ostringstream os;
    if (!path.empty())
      os << path << ": ";
    (os << ... << parts);
    throw Malformed{os.str()};
  }
  [[noreturn]] void expected(const std::string &what) const {
    fail("expected ", what, ", but got ", describe());
  }

  /// The member `name`; an error when there is none.
  Field get(const char *name) const {
    requireObject();
    auto it = value.find(name);
    if (it == value.end())
      fail("'", name, "' is missing");
    return Field(*it, path.empty() ? name : path + "." + name);
  }
  /// The same; nothing when there is none.
  std::optional<Field> find(const char *name) const {
    requireObject();
    if (!value.contains(name))
      return std::nullopt;
    return get(name);
  }

  int64_t integer(int64_t lo, int64_t hi) const {
    bool fits = value.is_number_integer() &&
                !(value.is_number_unsigned() &&
                  value.get<uint64_t>() > uint64_t(1) << 62);
    if (!fits || value.get<int64_t>() < lo || value.get<int64_t>() > hi)
      expected("an integer between " + std::to_string(lo) + " and " +
               std::to_string(hi));
    return value.get<int64_t>();
  }
  double number() const {
    if (!value.is_number() || !std::isfinite(value.get<double>()))
      expected("a number");
    return value.get<double>();
  }
  bool isNull() const { return value.is_null(); }
  std::string text(size_t limit = 4096) const {
    if (!value.is_string() ||
        value.get_ref<const std::string &>().size() > limit ||
        value.get_ref<const std::string &>().find('\0') != std::string::npos)
      expected("a string of at most " + std::to_string(limit) + " bytes");
    return value.get<std::string>();
  }
  /// A name such as an identifier of C.
  std::string name() const {
    std::string name = text(200);
    bool good = !name.empty() && !(name[0] >= '0' && name[0] <= '9');
    for (char c : name)
      good &= (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
              (c >= '0' && c <= '9') || c == '_';
    if (!good)
      expected("a name");
    return name;
  }
  DType floatType() const {
    std::optional<DType> dtype = dtypeFromName(text());
    if (!dtype || !isFloat(*dtype))
      expected("f32, bf16, f16 or f64");
    return *dtype;
  }
  /// The elements of a list.
  std::vector<Field> list(size_t atLeast = 0,
                          size_t atMost = kMaxEntries) const {
    if (!value.is_array() || value.size() < atLeast || value.size() > atMost)
      expected("a list of " + std::to_string(atLeast) + " to " +
               std::to_string(atMost) + " entries");
    std::vector<Field> fields;
    for (size_t i = 0; i < value.size(); ++i)
      fields.emplace_back(value[i], path + "[" + std::to_string(i) + "]");
    return fields;
  }
  /// The members of an object.
  std::vector<std::pair<std::string, Field>> members() const {
    requireObject();
    if (value.size() > kMaxEntries)
      expected("at most " + std::to_string(kMaxEntries) + " members");
    std::vector<std::pair<std::string, Field>> fields;
    for (auto it = value.begin(); it != value.end(); ++it)
      fields.emplace_back(it.key(), Field(it.value(), path + "." + it.key()));
    return fields;
  }

private:
  void requireObject() const {
    if (!value.is_object())
      expected("an object");
  }
  std::string describe() const {
    if (value.is_structured())
      return value.is_array()
                 ? "a list of " + std::to_string(value.size()) + " entries"
                 : "an object";
    std::string text =
        value.dump(-1, ' ', true, Json::error_handler_t::replace);
    if (text.size() > 80)
      return text.substr(0, 60) + "... (" + std::to_string(text.size()) +
             " bytes)";
    return text;
  }

  const Json &value;
  std::string path;
};

Argument readArgument(const Field &field, const Signature &signature) {
  Argument arg;
  std::optional<ArgKind> kind = argKindFromName(field.get("kind").text());
  if (!kind)
    field.get("kind").expected(
        "in, param, attr, state, out, checkpoint or sum");
  arg.kind = *kind;
  arg.name = field.get("name").name();
  if (signature.lookup(arg.name))
    field.get("name").fail("'", arg.name, "' is there twice");
  if (arg.kind != ArgKind::Attr) {
    arg.dtype = field.get("dtype").floatType();
    bool state = arg.kind == ArgKind::State || arg.kind == ArgKind::Checkpoint;
    for (const Field &axis :
         field.get("axes").list(state ? 2 : 0, state ? 2 : 1))
      arg.axes.push_back(axis.name());
  }
  if (std::optional<Field> family = field.find("family")) {
    if (arg.kind != ArgKind::In && arg.kind != ArgKind::Out)
      family->fail("only an in or out can be a family");
    arg.family = family->name();
  }
  for (const std::string &dim : arg.arrayAxes())
    if (std::find(arg.axes.begin(), arg.axes.end(), dim) != arg.axes.end() ||
        dim == arg.family)
      if (!signature.dims.count(dim))
        field.fail("dim '", dim, "' has no size");
  if (std::optional<Field> range = field.find("range")) {
    std::vector<Field> bounds = range->list(2, 2);
    double lo = bounds[0].isNull() ? -kInf : bounds[0].number();
    double hi = bounds[1].isNull() ? kInf : bounds[1].number();
    if (lo > hi)
      range->fail("the lower bound is above the upper one");
    arg.range = {lo, hi};
  }
  if (arg.kind == ArgKind::Checkpoint)
    arg.every = field.get("every").integer(1, kMaxDim * kMaxDim);
  if (std::optional<Field> value = field.find("default")) {
    if (arg.kind != ArgKind::Attr)
      value->fail("only an attr has a default");
    arg.defaultText = value->get("text").text();
    arg.defaultValue = value->get("value").number();
    for (const Field &name : value->get("attrs").list()) {
      const Argument *other = signature.lookup(name.name());
      if (!other || other->kind != ArgKind::Attr)
        name.expected("an earlier attr");
      arg.defaultAttrs.push_back(other->name);
    }
  }
  return arg;
}

void readSignature(const Field &root, Signature &signature) {
  signature.name = root.get("recurrence").name();
  for (auto &[name, size] : root.get("dims").members())
    signature.dims[name] = size.integer(1, kMaxDim);
  for (const Field &field : root.get("args").list(2))
    signature.args.push_back(readArgument(field, signature));
  if (signature.ofKind(ArgKind::State).size() != 1)
    root.get("args").fail("expected exactly one state");
  if (signature.ofKind(ArgKind::Out).empty())
    root.get("args").fail("expected at least one out");
}

bool isHex(const std::string &text) {
  return text.size() == 64 && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

/// "sm_80", "sm_90a".
bool isGpuTarget(const std::string &text) {
  return text.size() > 4 && text.size() < 9 && text.compare(0, 3, "sm_") == 0 &&
         std::all_of(
             text.begin() + 3, text.end() - 1,
             [](char c) { return c >= '0' && c <= '9'; }) &&
         ((text.back() >= '0' && text.back() <= '9') || text.back() == 'a');
}

KernelLaunch readLaunch(const Field &field, std::string entry) {
  KernelLaunch launch;
  launch.entry = std::move(entry);
  launch.threads = field.get("threads").integer(32, 1024);
  if (launch.threads % 32 != 0)
    field.get("threads").expected("a multiple of 32");
  launch.sharedBytes = field.get("shared_bytes").integer(0, 1 << 20);
  launch.vBlocks = field.get("v_blocks").integer(1, kMaxDim);
  return launch;
}

WorkspacePart readWorkspacePart(const Field &field) {
  WorkspacePart part;
  part.bytes = field.get("bytes").integer(0, int64_t(1) << 40);
  if (part.bytes % kGpuAlignment != 0)
    field.get("bytes").expected("a multiple of " +
                                std::to_string(kGpuAlignment));
  for (const Field &dim : field.get("dims").list(0, 3)) {
    std::string name = dim.name();
    if (name == "B" && !part.ofB)
      part.ofB = true;
    else if (name == "H" && !part.ofH)
      part.ofH = true;
    else if (name == "T" && !part.tokens)
      part.tokens = field.get("tokens").integer(1, kMaxTokens);
    else
      dim.expected("each of B, H and T once at most");
  }
  return part;
}

void readGpu(const Field &gpu, int64_t abi, BundleKernel &kernel) {
  if (abi == kFirstKernelAbi) {
    KernelLaunch launch = readLaunch(gpu, kernel.entry);
    int64_t bytes = gpu.get("workspace_bytes").integer(0, int64_t(1) << 32);
    if (bytes > 0)
      kernel.workspace.push_back({bytes * launch.vBlocks, true, true, 0});
    kernel.launches.push_back(std::move(launch));
    return;
  }
  for (const Field &field : gpu.get("launches").list(1, kMaxLaunches)) {
    KernelLaunch launch = readLaunch(field, field.get("entry").name());
    launch.tokens = field.get("tokens").integer(0, kMaxTokens);
    for (const KernelLaunch &other : kernel.launches)
      if (other.entry == launch.entry)
        field.get("entry").fail("'", launch.entry, "' is launched twice");
    kernel.launches.push_back(std::move(launch));
  }
  for (const Field &field : gpu.get("workspace").list(0, kMaxLaunches))
    kernel.workspace.push_back(readWorkspacePart(field));
}

BundleKernel readKernel(const Field &field, size_t numBlobs, int64_t abi,
                        std::vector<size_t> &images) {
  BundleKernel kernel;
  kernel.target = field.get("target").text();
  if (!kernel.isCpu() && !isGpuTarget(kernel.target))
    field.get("target").expected("cpu or sm_NN");
  kernel.fn = field.get("fn").name();
  kernel.entry = field.get("entry").name();
  kernel.compute = field.get("compute").text(16);
  kernel.flopsPerToken = field.get("flops_per_token").number();
  for (auto &[name, value] : field.get("options").members())
    kernel.options[name] = value.text();
  for (const Field &entry : field.get("images").list(1, 8)) {
    std::string name = entry.get("format").text();
    KernelImage image;
    bool known = false;
    for (KernelImage::Format format :
         {KernelImage::SharedObject, KernelImage::Cubin, KernelImage::Ptx}) {
      // A CPU has shared objects, a GPU the others.
      if (name != nameOf(format) ||
          (format == KernelImage::SharedObject) != kernel.isCpu())
        continue;
      image.format = format;
      known = true;
    }
    if (!known)
      entry.get("format").expected(kernel.isCpu() ? "so" : "cubin or ptx");
    if (kernel.find(image.format))
      entry.fail("a second image of format '", name, "'");
    images.push_back(
        entry.get("blob").integer(0, static_cast<int64_t>(numBlobs) - 1));
    kernel.images.push_back(std::move(image));
  }
  if (kernel.isCpu()) {
    Field cpu = field.get("cpu");
    kernel.triple = cpu.get("triple").text();
    kernel.cpu = cpu.get("name").text();
    for (const Field &feature : cpu.get("features").list())
      kernel.cpuFeatures.push_back(feature.text(64));
    return kernel;
  }
  readGpu(field.get("gpu"), abi, kernel);
  return kernel;
}

GradientPair readGradients(const Field &field, size_t numBlobs,
                           std::vector<size_t> &images) {
  GradientPair pair;
  pair.target = field.get("target").text();
  if (pair.target != "cpu" && !isGpuTarget(pair.target))
    field.get("target").expected("cpu or sm_NN");
  for (const char *fn : {"forward", "backward"})
    images.push_back(
        field.get(fn).integer(0, static_cast<int64_t>(numBlobs) - 1));
  return pair;
}

void readRoot(const Field &root, Bundle &bundle,
              std::vector<std::vector<size_t>> &images,
              std::vector<BlobRecord> &blobs) {
  int64_t abi = root.get("abi").integer(0, 1 << 20);
  if (abi < kFirstKernelAbi || abi > kKernelAbi)
    root.get("abi").fail("the kernels are called by version ", abi,
                         " of the interface, and this run time knows versions ",
                         kFirstKernelAbi, " to ", kKernelAbi);
  Field compiler = root.get("compiler");
  bundle.compiler = compiler.get("version").text(64);
  bundle.llvm = compiler.get("llvm").text(64);
  readSignature(root, bundle.signature);
  for (const Field &field : root.get("blobs").list()) {
    BlobRecord blob;
    constexpr int64_t kMax = int64_t(1) << 40;
    blob.offset = field.get("offset").integer(0, kMax);
    blob.size = field.get("size").integer(1, kMax);
    blob.sha256 = field.get("sha256").text();
    if (!isHex(blob.sha256))
      field.get("sha256").expected("64 hexadecimal digits");
    blobs.push_back(std::move(blob));
  }
  for (const Field &field : root.get("kernels").list(1)) {
    images.emplace_back();
    BundleKernel kernel = readKernel(field, blobs.size(), abi, images.back());
    if (bundle.find(kernel.target, kernel.fn))
      field.fail("a second kernel for ", kernel.target, ", ", kernel.fn);
    bundle.signature.backward |= kernel.fn == "backward";
    bundle.kernels.push_back(std::move(kernel));
  }
  std::optional<Field> gradients = root.find("gradients");
  if (!gradients)
    return;
  for (const Field &field : gradients->list()) {
    images.emplace_back();
    GradientPair pair = readGradients(field, blobs.size(), images.back());
    if (bundle.findGradients(pair.target))
      field.fail("second gradients for ", pair.target);
    bundle.gradients.push_back(std::move(pair));
  }
}

//===----------------------------------------------------------------------===//
// Writing
//===----------------------------------------------------------------------===//

Json toJson(const Argument &arg) {
  Json json;
  json["kind"] = nameOf(arg.kind);
  json["name"] = arg.name;
  if (arg.kind != ArgKind::Attr) {
    json["dtype"] = nameOf(arg.dtype);
    json["axes"] = arg.axes;
  }
  if (!arg.family.empty())
    json["family"] = arg.family;
  if (arg.range) {
    // JSON has no infinity.
    auto bound = [](double x) { return std::isinf(x) ? Json() : Json(x); };
    json["range"] = {bound(arg.range->first), bound(arg.range->second)};
  }
  if (arg.every)
    json["every"] = arg.every;
  if (arg.defaultValue)
    json["default"] = {{"text", arg.defaultText},
                       {"value", *arg.defaultValue},
                       {"attrs", arg.defaultAttrs}};
  return json;
}

Json gpuToJson(const BundleKernel &kernel) {
  Json json = {{"alignment", kGpuAlignment},
               {"launches", Json::array()},
               {"workspace", Json::array()}};
  for (const KernelLaunch &launch : kernel.launches)
    json["launches"].push_back({{"entry", launch.entry},
                                {"threads", launch.threads},
                                {"shared_bytes", launch.sharedBytes},
                                {"v_blocks", launch.vBlocks},
                                {"tokens", launch.tokens}});
  for (const WorkspacePart &part : kernel.workspace) {
    Json dims = Json::array();
    if (part.ofB)
      dims.push_back("B");
    if (part.ofH)
      dims.push_back("H");
    if (part.tokens)
      dims.push_back("T");
    Json entry = {{"bytes", part.bytes}, {"dims", std::move(dims)}};
    if (part.tokens)
      entry["tokens"] = part.tokens;
    json["workspace"].push_back(std::move(entry));
  }
  return json;
}

Json toJson(const BundleKernel &kernel, const std::vector<size_t> &blobs) {
  Json json;
  json["target"] = kernel.target;
  json["fn"] = kernel.fn;
  json["entry"] = kernel.entry;
  json["compute"] = kernel.compute;
  json["flops_per_token"] = kernel.flopsPerToken;
  json["options"] = Json::object();
  for (auto &[name, value] : kernel.options)
    json["options"][name] = value;
  if (kernel.isCpu())
    json["cpu"] = {{"triple", kernel.triple},
                   {"name", kernel.cpu},
                   {"features", kernel.cpuFeatures}};
  else
    json["gpu"] = gpuToJson(kernel);
  json["images"] = Json::array();
  for (size_t i = 0; i < kernel.images.size(); ++i)
    json["images"].push_back(
        {{"format", nameOf(kernel.images[i].format)}, {"blob", blobs[i]}});
  return json;
}

} // namespace

Status readManifest(std::string_view text, Bundle &bundle,
                    std::vector<std::vector<size_t>> &images,
                    std::vector<BlobRecord> &blobs) {
  try {
    Json root = Json::parse(text.begin(), text.end());
    readRoot(Field(root, ""), bundle, images, blobs);
    return {};
  } catch (const Malformed &error) {
    return Status::error(error.message);
  } catch (const Json::parse_error &error) {
    return Status::error("it is no JSON: an error at byte ", error.byte);
  } catch (const std::exception &) {
    // A number beyond all types, or no memory.
    return Status::error("it cannot be read as JSON");
  }
}

std::string writeManifest(const Bundle &bundle,
                          const std::vector<std::vector<size_t>> &images,
                          const std::vector<BlobRecord> &blobs) {
  Json root;
  root["abi"] = kKernelAbi;
  root["compiler"] = {
      {"name", "delta"}, {"version", bundle.compiler}, {"llvm", bundle.llvm}};
  root["recurrence"] = bundle.signature.name;
  root["dims"] = Json::object();
  for (auto &[name, size] : bundle.signature.dims)
    root["dims"][name] = size;
  root["args"] = Json::array();
  for (const Argument &arg : bundle.signature.args)
    root["args"].push_back(toJson(arg));
  root["kernels"] = Json::array();
  for (size_t i = 0; i < bundle.kernels.size(); ++i)
    root["kernels"].push_back(toJson(bundle.kernels[i], images[i]));
  for (size_t i = 0; i < bundle.gradients.size(); ++i) {
    const std::vector<size_t> &pair = images[bundle.kernels.size() + i];
    root["gradients"].push_back({{"target", bundle.gradients[i].target},
                                 {"forward", pair[0]},
                                 {"backward", pair[1]}});
  }
  root["blobs"] = Json::array();
  for (const BlobRecord &blob : blobs)
    root["blobs"].push_back({{"offset", blob.offset},
                             {"size", blob.size},
                             {"sha256", blob.sha256}});
  // The text has no bytes that are no UTF-8: names are ASCII.
  return root.dump(2, ' ', true, Json::error_handler_t::replace) + "\n";
}

} // namespace delta::runtime
