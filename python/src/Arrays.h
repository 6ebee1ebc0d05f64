//===- Arrays.h - arrays of Python ------------------------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// NumPy arrays, torch tensors and whatever else speaks DLPack, seen without a
// copy; and new arrays of the same kind.
//
//===----------------------------------------------------------------------===//

#ifndef DELTAC_ARRAYS_H
#define DELTAC_ARRAYS_H

#include "Common.h"
#include "DLPack.h"

#include <nanobind/ndarray.h>

#include <cstdlib>
#include <memory>

namespace deltac {

constexpr size_t kMaxRank = 8;

/// Where an array comes from, which is where results go.
enum class Framework { NumPy, Torch };

struct Place {
  Framework framework = Framework::NumPy;
  dl::Device device{dl::CPU, 0};
  bool operator==(const Place &other) const {
    return framework == other.framework && device.type == other.device.type &&
           (device.type == dl::CPU || device.index == other.device.index);
  }
  bool operator!=(const Place &other) const { return !(*this == other); }
  std::string describe() const;
};

/// An array as it lies in memory.
struct ArrayView {
  char *data = nullptr;
  delta_dtype dtype = DELTA_F32;
  size_t rank = 0;
  int64_t shape[kMaxRank];
  int64_t strides[kMaxRank]; ///< in elements
  Place place;

  int64_t count() const;
  bool isDense() const;
  std::string describeShape() const;
};

size_t sizeOf(delta_dtype dtype);
const char *longNameOf(delta_dtype dtype); // "float32"

/// What an object is, seen from here.
enum class Kind {
  Array,    ///< read
  Indirect, ///< a tensor that has no memory to look at, or that something
            ///< watches: autograd, a tracer, a subclass
  NotAnArray,
};

/// Holds what keeps a view valid during a call.
class ArrayReader {
public:
  /// Looks at `object`; `name` stands for it in errors. A type that kernels
  /// do not know is a TypeError.
  Kind read(PyObject *object, const char *name, ArrayView &view);

  /// Whether the object is a tensor of torch, but a subclass's or one on a
  /// device that kernels do not run on.
  static bool isIndirect(PyObject *object);

private:
  std::vector<nb::ndarray<nb::ro>> kept;
};

/// What the module has to know of torch: types and functions of its own, given
/// by deltac/_torch.py when torch is there.
struct Torch {
  PyObject *tensorType = nullptr, *parameterType = nullptr;
  PyObject *isGradEnabled = nullptr, *isWatched = nullptr;
  PyObject *empty = nullptr; ///< empty(shape, dtype name, device index)
  PyObject *stream =
      nullptr; ///< stream(device index): the current one's address
  dl::ExchangeTable *table = nullptr;
};
Torch &torch();
void setTorch(nb::object tensorType, nb::object parameterType,
              nb::object isGradEnabled, nb::object isWatched, nb::object empty,
              nb::object stream, bool usesTable);

/// Whether an operator of torch has to be called rather than the kernel: a
/// gradient is wanted, or a mode or transformation is active.
bool isWatched(PyObject *const *objects, size_t count);

/// A new array; its memory in `data`.
nb::object makeArray(const Place &place, delta_dtype dtype,
                     const std::vector<int64_t> &shape, void **data);

/// The current stream of a CUDA device as torch sees it.
void *currentStream(int32_t index);

/// Memory for copies, aligned to 64 bytes.
using Scratch = std::unique_ptr<char, void (*)(void *)>;
Scratch allocateScratch(size_t bytes);

/// A dense copy of a view, in the CPU's memory.
Scratch packDense(const ArrayView &view);

} // namespace deltac

#endif // DELTAC_ARRAYS_H
