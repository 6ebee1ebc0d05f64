//===- Npz.h - archives of named arrays -------------------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Reads and writes NumPy's .npz: a zip archive with one .npy member an array.
// Every error names the file and, where there is one, the array.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_RUNTIME_NPZ_H
#define DELTA_RUNTIME_NPZ_H

#include "delta/Runtime/NdArray.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace delta::runtime {

/// An opened archive. Arrays are decoded when they are asked for, so that
/// members nobody needs cost nothing.
class NpzReader {
public:
  /// Opens the archive and checks its table of contents. Errors: unreadable,
  /// not a zip archive, members that are not .npy, duplicate names, encryption,
  /// compression other than deflate, sizes that cannot be true.
  static Expected<NpzReader> open(const std::string &path);

  /// The same on bytes in memory, which must outlive the reader; `name` stands
  /// for the file in messages.
  static Expected<NpzReader> openBytes(const void *data, size_t size,
                                       const std::string &name);

  NpzReader(NpzReader &&) noexcept;
  NpzReader &operator=(NpzReader &&) noexcept;
  ~NpzReader();

  const std::string &path() const;

  /// The arrays' names in the archive's order, without ".npy".
  const std::vector<std::string> &names() const;

  bool contains(const std::string &name) const;

  /// Decodes one array. Errors: no such array, malformed or truncated data, a
  /// checksum that does not agree.
  Expected<NdArray> read(const std::string &name) const;

private:
  struct Impl;
  explicit NpzReader(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl;
};

using NamedArray = std::pair<std::string, const NdArray *>;

/// Writes the arrays, in order, as an uncompressed .npz whose bytes depend on
/// the arrays alone. BF16 and F16 arrays are written as F32. The file appears
/// whole or not at all: it is written beside its place and renamed. To what
/// must not be renamed over, a pipe, /dev/null or a link, the bytes are written.
Status writeNpz(const std::string &path, const std::vector<NamedArray> &arrays);

} // namespace delta::runtime

#endif // DELTA_RUNTIME_NPZ_H
