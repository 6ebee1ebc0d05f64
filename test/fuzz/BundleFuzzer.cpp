//===- BundleFuzzer.cpp - fuzzing of the bundle reader --------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Reads mutated bundles: as they are, with the container's numbers and hashes
// put right again, and their manifests alone. Anything but a bundle or a worded
// error is a finding.
//
//===----------------------------------------------------------------------===//

#include "FuzzMain.h"
#include "delta/Runtime/Bundle.h"
#include "delta/Runtime/Invocation.h"
#include "delta/Runtime/Sha256.h"

using namespace delta::runtime;
using delta::fuzz::Bytes;

namespace {

bool sensible(const std::string &message) {
  return !message.empty() && message.back() != '.' && message.size() < 5000;
}

Bundle makeBundle(bool gpu) {
  Bundle bundle;
  bundle.compiler = "0.1.0";
  bundle.llvm = "22";
  bundle.signature.name = "fuzzed";
  bundle.signature.dims = {{"K", 16}, {"V", 32}, {"n", 2}};
  Argument in;
  in.name = "k";
  in.axes = {"K"};
  in.family = "n";
  Argument gate = in;
  gate.name = "g";
  gate.family.clear();
  gate.range = {-std::numeric_limits<double>::infinity(), 0};
  Argument attr;
  attr.kind = ArgKind::Attr;
  attr.name = "scale";
  attr.defaultText = "K ^ -0.5";
  attr.defaultValue = 0.25;
  Argument state = in;
  state.kind = ArgKind::State;
  state.name = "S";
  state.family.clear();
  state.axes = {"K", "V"};
  Argument out = state;
  out.kind = ArgKind::Out;
  out.name = "o";
  out.axes = {"V"};
  bundle.signature.args = {in, gate, attr, state, out};
  BundleKernel kernel;
  kernel.target = gpu ? "sm_90a" : "cpu";
  kernel.fn = "forward";
  kernel.entry = "delta_fuzzed";
  kernel.compute = "bf16";
  kernel.options = {{"chunk", "16"}};
  kernel.triple = "x86_64-pc-linux-gnu";
  kernel.cpuFeatures = {"avx2"};
  if (gpu) {
    kernel.launches = {{"delta_fuzzed_first", 64, 0, 1, 32},
                       {"delta_fuzzed", 128, 1024, 2, 0}};
    kernel.workspace = {{512, true, true, 16}, {128, false, true, 0}};
  }
  if (gpu)
    kernel.images = {{KernelImage::Cubin, "cubin"}, {KernelImage::Ptx, "ptx"}};
  else
    kernel.images = {{KernelImage::SharedObject, "so"}};
  bundle.kernels = {kernel};
  return bundle;
}

/// The bundle's questions are answered, and it can be written again.
bool useBundle(const Bundle &bundle) {
  (void)bundle.signature.arrayDims();
  (void)bundle.signature.inputs();
  (void)bundle.targets();
  if (Expected<std::vector<double>> attrs = chooseAttrs(bundle.signature, {});
      !attrs && !sensible(attrs.message()))
    return false;
  Expected<std::string> bytes = writeBundle(bundle);
  return static_cast<bool>(bytes);
}

bool readContainer(const Bytes &data) {
  Expected<Bundle> bundle = readBundle(data, "in");
  return bundle ? useBundle(*bundle) : sensible(bundle.message());
}

/// Makes sizes and the manifest's hash agree, so that what is behind them is
/// reached.
Bytes repair(Bytes data) {
  if (data.size() < 64)
    return data;
  uint64_t size = data.size(), manifest = 0;
  std::memcpy(&data[16], &size, 8);
  std::memcpy(&manifest, &data[24], 8);
  if (manifest > size - 64)
    return data;
  Sha256 hash = sha256(std::string_view(data).substr(64, manifest));
  std::memcpy(&data[32], hash.data(), hash.size());
  return data;
}

bool readText(const Bytes &data) {
  Bundle bundle;
  std::vector<std::vector<size_t>> images;
  std::vector<BlobRecord> blobs;
  Status status = readManifest(data, bundle, images, blobs);
  if (!status.ok())
    return sensible(status.message());
  for (const std::vector<size_t> &kernel : images)
    for (size_t blob : kernel)
      if (blob >= blobs.size())
        return false;
  return true;
}

} // namespace

int main(int argc, char **argv) {
  std::vector<Bytes> seeds;
  for (bool gpu : {false, true}) {
    Bundle bundle = makeBundle(gpu);
    Expected<std::string> bytes = writeBundle(bundle);
    if (!bytes) {
      std::cerr << bytes.message() << '\n';
      return 1;
    }
    seeds.push_back(*bytes);
    std::vector<std::vector<size_t>> images{{0, 0}};
    BlobRecord blob{64, 1, toHex(sha256(""))};
    seeds.push_back(writeManifest(bundle, images, {blob}));
  }
  std::vector<Bytes> tokens = {"null",
                               "[",
                               "]",
                               "{",
                               "}",
                               "\"\"",
                               ":",
                               ",",
                               "-1",
                               "1e400",
                               "18446744073709551616",
                               "0.5",
                               "true",
                               "\"in\"",
                               "\"param\"",
                               "\"state\"",
                               "\"family\": \"K\",",
                               "\"blob\": 7",
                               "\\u0000",
                               "\xff",
                               Bytes(1000, '['),
                               Bytes("\x89"
                                     "DLTB\r\n\x1a")};
  return delta::fuzz::fuzzMain(
      argc, argv, seeds, tokens, [](const Bytes &data) {
        return readContainer(data) && readContainer(repair(data)) &&
               readText(data);
      });
}
