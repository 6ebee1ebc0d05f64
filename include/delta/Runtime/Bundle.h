//===- Bundle.h - kernels in one file --------------------------*- C++ -*--===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A bundle holds the kernels of one recurrence, for several targets and
// functions, with all that is needed to call them. docs/Bundle.md describes the
// file format.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_RUNTIME_BUNDLE_H
#define DELTA_RUNTIME_BUNDLE_H

#include "delta/Runtime/Signature.h"

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace delta::runtime {

/// The version of the file format, and of the way kernels are called.
inline constexpr int64_t kBundleFormat = 1;
inline constexpr int64_t kKernelAbi = 2;
/// The first one, which is still read: one kernel a function, and a workspace
/// for each CTA.
inline constexpr int64_t kFirstKernelAbi = 1;

/// Alignment of the arrays that a GPU kernel takes, in bytes.
inline constexpr int64_t kGpuAlignment = 16;

/// A grid has at most this many CTAs along x.
inline constexpr int64_t kMaxGrid = (int64_t(1) << 31) - 1;

/// One form of a kernel's code.
struct KernelImage {
  enum Format : uint8_t {
    SharedObject, ///< "so": ELF, for dlopen
    Cubin,        ///< "cubin": ELF, for the driver
    Ptx           ///< "ptx": text, for the driver or the simulator
  };
  Format format = SharedObject;
  std::string bytes;
};

/// "so", "cubin", "ptx".
const char *nameOf(KernelImage::Format format);

/// One kernel of a function for a GPU, as it is launched: B * H * vBlocks CTAs,
/// or B * H * ceil(T / tokens) * vBlocks.
struct KernelLaunch {
  std::string entry;       ///< name in the images
  int64_t threads = 0;     ///< of a CTA
  int64_t sharedBytes = 0; ///< dynamic, of a CTA
  int64_t vBlocks = 1;     ///< CTAs that share a head's state columns
  int64_t tokens = 0;      ///< that a CTA takes; 0: all of a sequence
};

/// A part of the workspace that the kernels of a function share, one behind the
/// other: `bytes` times the dims that it is made for.
struct WorkspacePart {
  int64_t bytes = 0;
  bool ofB = false, ofH = false;
  int64_t tokens = 0; ///< for every so many tokens of T; 0: once
};

/// One function of the recurrence, compiled for one target.
struct BundleKernel {
  std::string target;  ///< "cpu", "sm_80", "sm_90a"
  std::string fn;      ///< "forward", "decode"
  std::string entry;   ///< CPU: prefix of the symbols; GPU: for messages
  std::string compute; ///< what is computed in: "f32", "bf16"...
  /// Useful FLOPs of a token and head; 0 when not known.
  double flopsPerToken = 0;
  /// What it was compiled with, for information.
  NamedValues<std::string> options;
  std::vector<KernelImage> images;

  // CPU only.
  std::string triple, cpu;
  /// Instruction set extensions that the code may use, as GCC names them.
  std::vector<std::string> cpuFeatures;

  // GPU only.
  std::vector<KernelLaunch> launches; ///< in this order, on one stream
  std::vector<WorkspacePart> workspace;

  bool isCpu() const { return target == "cpu"; }
  /// The image of that format; null when there is none.
  const KernelImage *find(KernelImage::Format format) const;
};

/// The two kernels of gradients for one target. Each is a bundle of its own,
/// since their arguments are not those of the other functions.
struct GradientPair {
  std::string target;
  std::string forward;  ///< also saves states
  std::string backward; ///< reads them
};

struct Bundle {
  Signature signature;  ///< all dims and defaults are known
  std::string compiler; ///< version of delta that made it
  std::string llvm;     ///< version of LLVM it was made with
  std::vector<BundleKernel> kernels;
  std::vector<GradientPair> gradients; ///< at most one for a target
  /// SHA-256 of the manifest in hexadecimal, which covers everything; filled in
  /// by readBundle.
  std::string id;

  /// The kernel for that target and function; null when there is none.
  const BundleKernel *find(std::string_view target, std::string_view fn) const;
  /// The gradients for that target; null when there are none.
  const GradientPair *findGradients(std::string_view target) const;
  /// The targets, or functions, in order of first use.
  std::vector<std::string> targets() const;
  std::vector<std::string> fns() const;
};

/// Whether bytes begin as a bundle does.
bool looksLikeBundle(std::string_view bytes);
/// Whether there is a regular file of that name that begins so.
bool isBundleFile(const std::string &path);

/// Reads a bundle, which must be intact: every byte is accounted for and every
/// hash verified. `name` stands for the file in messages. No promise is made
/// about what the kernels do: load bundles that you trust.
Expected<Bundle> readBundle(std::string_view bytes, const std::string &name);
Expected<Bundle> readBundleFile(const std::string &path);

/// The bytes of a bundle, which depend on its contents alone. The error says
/// what is wrong with the contents: the same is demanded as from a file.
Expected<std::string> writeBundle(const Bundle &bundle);

// The manifest, for the two functions above.

/// A kernel's code as the manifest refers to it.
struct BlobRecord {
  uint64_t offset = 0, size = 0;
  std::string sha256;
};

/// The manifest of a bundle whose kernel i has images[i], as indices of blobs.
/// Behind the kernels' come the gradients': of each the forward and the
/// backward.
std::string writeManifest(const Bundle &bundle,
                          const std::vector<std::vector<size_t>> &images,
                          const std::vector<BlobRecord> &blobs);

/// Reads and validates a manifest; the kernels' images have no bytes yet. The
/// error says where: "kernels[0].threads: expected ...".
Status readManifest(std::string_view text, Bundle &bundle,
                    std::vector<std::vector<size_t>> &images,
                    std::vector<BlobRecord> &blobs);

} // namespace delta::runtime

#endif // DELTA_RUNTIME_BUNDLE_H
