//===- Memory.h - simulated global memory -----------------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The global memory that simulated kernels read and write. Every allocation
// lies in a part of the address space of its own, so that a pointer that leaves
// one cannot reach another, and every byte knows whether it was ever written.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_SIMULATOR_MEMORY_H
#define DELTA_SIMULATOR_MEMORY_H

#include "delta/Runtime/Status.h"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace delta::sim {

/// A 64-bit address as kernels see it; 0 is no address.
using DeviceAddress = uint64_t;

/// Simulated global memory. Not safe for concurrent use by the host; kernels
/// under `launch` may access it from several threads.
class Memory {
public:
  static constexpr unsigned kWindowBits = 36; ///< address space of each one
  static constexpr unsigned kMaxAllocations = 2000;

  Memory() = default;
  Memory(Memory &&) = default;
  Memory &operator=(Memory &&) = default;

  /// Makes `bytes` of uninitialised memory whose address is a multiple of
  /// `alignment`, and not of twice that, so that a kernel that relies on more
  /// is found. `name` is what findings call it. Fails when the alignment is not
  /// a power of two up to 65536, there are too many allocations, or the host
  /// has not the memory.
  runtime::Expected<DeviceAddress>
  allocate(uint64_t bytes, uint64_t alignment = 256, std::string name = {});

  /// Makes all allocations go away; their addresses become invalid.
  void clear() {
    allocations.clear();
    variables.clear();
  }

  /// Copies from the host, and marks the bytes as initialised. Fails when the
  /// range is not inside one allocation.
  runtime::Status write(DeviceAddress address, const void *data,
                        uint64_t bytes);

  /// Copies to the host; bytes that nobody wrote come out as zeros.
  runtime::Status read(DeviceAddress address, void *data, uint64_t bytes) const;

  /// Sets bytes to `value` and marks them as initialised.
  runtime::Status fill(DeviceAddress address, uint8_t value, uint64_t bytes);

  /// The offset in the range of the first byte that was never written; nothing
  /// when all were, or the range is invalid.
  std::optional<uint64_t> firstUninitialized(DeviceAddress address,
                                             uint64_t bytes) const;

  /// One allocation; the simulator's own view.
  struct Allocation {
    DeviceAddress base = 0;
    uint64_t bytes = 0;
    std::string name;
    bool readOnly = false;
    bool allInitialized = false; ///< by one host write of everything
    std::unique_ptr<uint8_t, void (*)(void *)> data{nullptr, std::free};
    /// One byte of shadow a byte: 1 once it was written.
    std::unique_ptr<uint8_t, void (*)(void *)> shadow{nullptr, std::free};
  };

  /// The allocation whose window `address` lies in, null when there is none;
  /// the address may still be outside of its bytes.
  Allocation *find(DeviceAddress address) {
    uint64_t index = (address >> kWindowBits) - 1;
    return index < allocations.size() ? &allocations[index] : nullptr;
  }
  const Allocation *find(DeviceAddress address) const {
    return const_cast<Memory *>(this)->find(address);
  }

  /// Where the variables of a module live, by the module's identity; they are
  /// made by its first launch and keep their values until `clear`.
  std::map<const void *, std::vector<DeviceAddress>> variables;

private:
  runtime::Expected<Allocation *> range(DeviceAddress address, uint64_t bytes,
                                        const char *what) const;

  std::vector<Allocation> allocations; ///< window i + 1 holds number i
};

} // namespace delta::sim

#endif // DELTA_SIMULATOR_MEMORY_H
