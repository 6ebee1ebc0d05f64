//===- Bundle.cpp - kernels in one file -----------------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The container around the manifest: a header of 64 bytes, the manifest, the
// blobs at multiples of 64 with zeros between. No number is trusted before it
// was compared with the file's size.
//
//===----------------------------------------------------------------------===//

#include "delta/Runtime/Bundle.h"

#include "delta/Runtime/Sha256.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <sys/stat.h>

namespace delta::runtime {

namespace {

/// As in PNG: a byte beyond ASCII, both line ends and a Ctrl-Z, so that a
/// transfer as text does not go unnoticed.
constexpr char kMagic[] = "\x89"
                          "DLTB\r\n\x1a";
constexpr size_t kMagicSize = 8;
constexpr size_t kHeaderSize = 64;
constexpr size_t kBlobAlignment = 64;
constexpr uint64_t kMaxManifest = 4 << 20;
constexpr uint64_t kMaxFile = uint64_t(1) << 30;

// Offsets in the header; numbers are little-endian.
constexpr size_t kFormatAt = 8, kHeaderSizeAt = 12, kFileSizeAt = 16,
                 kManifestSizeAt = 24, kHashAt = 32;

uint64_t load(std::string_view bytes, size_t at, int size) {
  uint64_t value = 0;
  for (int i = size - 1; i >= 0; --i)
    value = value << 8 | static_cast<uint8_t>(bytes[at + i]);
  return value;
}

void store(std::string &bytes, size_t at, int size, uint64_t value) {
  for (int i = 0; i < size; ++i)
    bytes[at + i] = static_cast<char>(value >> 8 * i);
}

uint64_t alignUp(uint64_t offset) {
  return (offset + kBlobAlignment - 1) / kBlobAlignment * kBlobAlignment;
}

bool allZero(std::string_view bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](char c) { return c == 0; });
}

/// Gradients are two whole bundles of the same recurrence.
Status checkGradients(const Bundle &outer, const GradientPair &pair,
                      std::string_view fn);

/// A bundle within a bundle has none in it.
Expected<Bundle> read(std::string_view bytes, bool inBundle = false) {
  if (!looksLikeBundle(bytes))
    return Status::error("it is not a bundle");
  if (bytes.size() < kHeaderSize)
    return Status::error("it is truncated: the header has ", kHeaderSize,
                         " bytes, and the file ", bytes.size());
  uint64_t format = load(bytes, kFormatAt, 4);
  if (format != kBundleFormat)
    return Status::error("it has format version ", format,
                         ", and this run time reads version ", kBundleFormat);
  uint64_t headerSize = load(bytes, kHeaderSizeAt, 4);
  if (headerSize != kHeaderSize)
    return Status::error("it is corrupt: the header claims ", headerSize,
                         " bytes instead of ", kHeaderSize);
  uint64_t fileSize = load(bytes, kFileSizeAt, 8);
  if (fileSize > bytes.size())
    return Status::error("it is truncated: ", fileSize,
                         " bytes were written, and ", bytes.size(),
                         " are there");
  if (fileSize < bytes.size())
    return Status::error("it is corrupt: ", bytes.size() - fileSize,
                         " bytes follow its end");
  uint64_t manifestSize = load(bytes, kManifestSizeAt, 8);
  if (manifestSize > kMaxManifest || manifestSize > fileSize - kHeaderSize)
    return Status::error("it is corrupt: the manifest claims ", manifestSize,
                         " bytes");
  std::string_view manifest = bytes.substr(kHeaderSize, manifestSize);
  Sha256 hash = sha256(manifest);
  if (std::memcmp(hash.data(), bytes.data() + kHashAt, hash.size()) != 0)
    return Status::error("it is corrupt: the manifest's hash does not agree");

  Bundle bundle;
  bundle.id = toHex(hash);
  std::vector<std::vector<size_t>> images;
  std::vector<BlobRecord> blobs;
  if (Status status = readManifest(manifest, bundle, images, blobs);
      !status.ok())
    return Status::error("manifest: ", status.message());
  if (inBundle && !bundle.gradients.empty())
    return Status::error("it is in a bundle, and has gradients itself");

  uint64_t end = kHeaderSize + manifestSize;
  std::vector<std::string_view> contents;
  for (size_t i = 0; i < blobs.size(); ++i) {
    const BlobRecord &blob = blobs[i];
    uint64_t begin = alignUp(end);
    // Blobs follow one another in the order of the table.
    if (blob.offset != begin || begin > fileSize ||
        blob.size > fileSize - begin)
      return Status::error("it is corrupt: blob ", i, " claims ", blob.size,
                           " bytes at ", blob.offset);
    std::string_view content = bytes.substr(begin, blob.size);
    if (!allZero(bytes.substr(end, begin - end)) ||
        toHex(sha256(content)) != blob.sha256)
      return Status::error("it is corrupt: the hash of blob ", i,
                           " does not agree");
    contents.push_back(content);
    end = begin + blob.size;
  }
  if (end != fileSize)
    return Status::error("it is corrupt: ", fileSize - end,
                         " bytes belong to no blob");
  for (size_t i = 0; i < bundle.kernels.size(); ++i)
    for (size_t j = 0; j < images[i].size(); ++j)
      bundle.kernels[i].images[j].bytes = contents[images[i][j]];
  for (size_t i = 0; i < bundle.gradients.size(); ++i) {
    GradientPair &pair = bundle.gradients[i];
    pair.forward = contents[images[bundle.kernels.size() + i][0]];
    pair.backward = contents[images[bundle.kernels.size() + i][1]];
    for (const char *fn : {"forward", "backward"})
      if (Status status = checkGradients(bundle, pair, fn); !status.ok())
        return Status::error("gradients[", i, "].", fn, ": ", status.message());
  }
  return bundle;
}

Status checkGradients(const Bundle &outer, const GradientPair &pair,
                      std::string_view fn) {
  std::string_view bytes = fn == "forward" ? pair.forward : pair.backward;
  Expected<Bundle> inner = read(bytes, /*inBundle=*/true);
  if (!inner)
    return inner.error();
  const Signature &signature = inner->signature;
  if (signature.name != outer.signature.name ||
      signature.dims != outer.signature.dims)
    return Status::error("it is of '", signature.name,
                         "', or of other sizes than the bundle around it");
  if (!inner->find(pair.target, fn) || !signature.checkpoint())
    return Status::error("it has no ", fn, " with saved states for ",
                         pair.target);
  return {};
}

} // namespace

const char *nameOf(KernelImage::Format format) {
  switch (format) {
  case KernelImage::SharedObject:
    return "so";
  case KernelImage::Cubin:
    return "cubin";
  case KernelImage::Ptx:
    return "ptx";
  }
  return "";
}

const KernelImage *BundleKernel::find(KernelImage::Format format) const {
  for (const KernelImage &image : images)
    if (image.format == format)
      return &image;
  return nullptr;
}

const BundleKernel *Bundle::find(std::string_view target,
                                 std::string_view fn) const {
  for (const BundleKernel &kernel : kernels)
    if (kernel.target == target && kernel.fn == fn)
      return &kernel;
  return nullptr;
}

const GradientPair *Bundle::findGradients(std::string_view target) const {
  for (const GradientPair &pair : gradients)
    if (pair.target == target)
      return &pair;
  return nullptr;
}

static std::vector<std::string>
collect(const std::vector<BundleKernel> &kernels,
        std::string BundleKernel::*member) {
  std::vector<std::string> names;
  for (const BundleKernel &kernel : kernels)
    if (std::find(names.begin(), names.end(), kernel.*member) == names.end())
      names.push_back(kernel.*member);
  return names;
}

std::vector<std::string> Bundle::targets() const {
  return collect(kernels, &BundleKernel::target);
}

std::vector<std::string> Bundle::fns() const {
  return collect(kernels, &BundleKernel::fn);
}

bool looksLikeBundle(std::string_view bytes) {
  return bytes.substr(0, kMagicSize) == std::string_view(kMagic, kMagicSize);
}

namespace {
struct Close {
  void operator()(std::FILE *file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, Close>;
} // namespace

bool isBundleFile(const std::string &path) {
  // Opening a pipe would take its bytes away from whoever reads it next.
  struct stat info;
  if (stat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode))
    return false;
  File file(std::fopen(path.c_str(), "rb"));
  char begin[kMagicSize];
  return file && std::fread(begin, 1, kMagicSize, file.get()) == kMagicSize &&
         looksLikeBundle({begin, kMagicSize});
}

Expected<Bundle> readBundle(std::string_view bytes, const std::string &name) {
  Expected<Bundle> bundle = read(bytes);
  if (!bundle)
    return Status::error("cannot load bundle '", name, "': ", bundle.message());
  return bundle;
}

Expected<Bundle> readBundleFile(const std::string &path) {
  auto fail = [&](const char *why) {
    return Status::error("cannot load bundle '", path, "': ", why);
  };
  File file(std::fopen(path.c_str(), "rb"));
  if (!file)
    return fail(std::strerror(errno));
  std::string bytes;
  char buffer[1 << 16];
  while (size_t got = std::fread(buffer, 1, sizeof(buffer), file.get())) {
    bytes.append(buffer, got);
    if (bytes.size() > kMaxFile)
      return fail("it is larger than 1 GiB");
    // What is none need not be read to its end.
    if (!looksLikeBundle(bytes))
      break;
  }
  if (std::ferror(file.get()))
    return fail(std::strerror(errno));
  return readBundle(bytes, path);
}

Expected<std::string> writeBundle(const Bundle &bundle) {
  std::vector<std::vector<size_t>> images;
  std::vector<BlobRecord> blobs;
  std::vector<const std::string *> contents;
  auto addBlob = [&](const std::string &bytes) {
    BlobRecord blob;
    blob.size = bytes.size();
    blob.sha256 = toHex(sha256(bytes));
    size_t index = 0;
    while (index < blobs.size() && blobs[index].sha256 != blob.sha256)
      ++index;
    if (index == blobs.size()) {
      blobs.push_back(std::move(blob));
      contents.push_back(&bytes);
    }
    images.back().push_back(index);
  };
  for (const BundleKernel &kernel : bundle.kernels) {
    images.emplace_back();
    for (const KernelImage &image : kernel.images)
      addBlob(image.bytes);
  }
  for (const GradientPair &pair : bundle.gradients) {
    images.emplace_back();
    addBlob(pair.forward);
    addBlob(pair.backward);
  }
  // The offsets depend on the manifest's length, which depends on them: it
  // only grows, and no offset shrinks, so this ends.
  std::string manifest;
  while (true) {
    uint64_t end = kHeaderSize + manifest.size();
    for (BlobRecord &blob : blobs) {
      blob.offset = alignUp(end);
      end = blob.offset + blob.size;
    }
    std::string next = writeManifest(bundle, images, blobs);
    // A shorter one is made up for with blanks, which JSON allows at its end.
    if (next.size() < manifest.size())
      next.resize(manifest.size(), ' ');
    bool done = next.size() == manifest.size();
    manifest = std::move(next);
    if (done)
      break;
  }
  std::string bytes(kHeaderSize, '\0');
  bytes += manifest;
  for (size_t i = 0; i < blobs.size(); ++i) {
    bytes.resize(blobs[i].offset, '\0');
    bytes += *contents[i];
  }
  std::memcpy(bytes.data(), kMagic, kMagicSize);
  store(bytes, kFormatAt, 4, kBundleFormat);
  store(bytes, kHeaderSizeAt, 4, kHeaderSize);
  store(bytes, kFileSizeAt, 8, bytes.size());
  store(bytes, kManifestSizeAt, 8, manifest.size());
  Sha256 hash = sha256(manifest);
  std::memcpy(bytes.data() + kHashAt, hash.data(), hash.size());
  Expected<Bundle> check = read(bytes);
  if (!check)
    return Status::error("the bundle cannot be written: ", check.message());
  return bytes;
}

} // namespace delta::runtime
