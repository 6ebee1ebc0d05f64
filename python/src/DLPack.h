//===- DLPack.h - the part of DLPack's ABI that is used here ----*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Structures of DLPack 1.x with its table of C functions, by which a framework
// shows its tensors without a Python call each. Field for field as the standard
// lays them out; names are ours.
//
//===----------------------------------------------------------------------===//

#ifndef DELTAC_DLPACK_H
#define DELTAC_DLPACK_H

#include <cstdint>

namespace deltac::dl {

enum DeviceType : int32_t { CPU = 1, CUDA = 2 };
enum TypeCode : uint8_t { Float = 2, BFloat = 4 };

struct Device {
  int32_t type;
  int32_t index;
};

struct DataType {
  uint8_t code;
  uint8_t bits;
  uint16_t lanes;
};

struct Tensor {
  void *data;
  Device device;
  int32_t rank;
  DataType dtype;
  int64_t *shape;
  int64_t *strides; // in elements; null: row-major without gaps
  uint64_t byteOffset;
};

struct Version {
  uint32_t major, minor;
};

struct ManagedTensor {
  Version version;
  void *context;
  void (*deleter)(ManagedTensor *self);
  uint64_t flags;
  Tensor tensor;
};

struct ExchangeHeader {
  Version version;
  ExchangeHeader *previous;
};

/// What the capsule `__dlpack_c_exchange_api__` of an array's type points to.
struct ExchangeTable {
  ExchangeHeader header;
  int (*allocate)(Tensor *prototype, ManagedTensor **out, void *context,
                  void (*setError)(void *context, const char *kind,
                                   const char *message));
  int (*fromObject)(void *object, ManagedTensor **out);
  int (*toObject)(ManagedTensor *tensor, void **object);
  int (*view)(void *object, Tensor *out); // may be null
  int (*currentStream)(int32_t deviceType, int32_t index, void **stream);
};

} // namespace deltac::dl

#endif // DELTAC_DLPACK_H
