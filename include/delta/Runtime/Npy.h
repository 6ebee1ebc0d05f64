//===- Npy.h - NumPy's .npy format ------------------------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Reads .npy streams of versions 1 to 3 into C-ordered native arrays and writes
// version 1 headers. The header parser is strict: what NumPy would not have
// written is an error, and no byte is trusted before it was checked.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_RUNTIME_NPY_H
#define DELTA_RUNTIME_NPY_H

#include "delta/Runtime/NdArray.h"

#include <functional>
#include <string>
#include <string_view>

namespace delta::runtime {

/// What an .npy header says.
struct NpyHeader {
  DType dtype = DType::F32; ///< in memory; long double becomes F64
  size_t itemSize = 4;      ///< bytes of one stored element
  bool bigEndian = false;
  bool fortranOrder = false;
  Shape shape;
};

/// Parses the header's dictionary text (after magic, version and length).
/// Errors: anything but the keys descr, fortran_order and shape, an element
/// type that is not a bool, integer or float, negative or overflowing shapes.
Expected<NpyHeader> parseNpyHeader(std::string_view text);

/// Fills the buffer with the stream's next `size` bytes and returns how many
/// there were: fewer only at the end.
using ByteReader = std::function<Expected<size_t>(void *buffer, size_t size)>;

/// Reads one array from a stream of exactly `streamSize` bytes. Fortran-ordered
/// and byte-swapped data come out C-ordered and native. Errors: bad magic or
/// header, a size other than what the header needs, a short stream.
Expected<NdArray> readNpy(const ByteReader &read, uint64_t streamSize);

/// The bytes that precede the data of `array` in an .npy file. The type must
/// not be BF16, which .npy cannot hold.
std::string makeNpyHeader(const NdArray &array);

} // namespace delta::runtime

#endif // DELTA_RUNTIME_NPY_H
