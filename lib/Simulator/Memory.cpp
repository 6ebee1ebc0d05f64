//===- Memory.cpp - simulated global memory -------------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Allocation and the host's access.
//
//===----------------------------------------------------------------------===//

#include "delta/Simulator/Memory.h"

#include <cstring>

namespace delta::sim {

using runtime::Expected;
using runtime::Status;

Expected<DeviceAddress> Memory::allocate(uint64_t bytes, uint64_t alignment,
                                         std::string name) {
  if (alignment == 0 || alignment > 65536 || (alignment & (alignment - 1)))
    return Status::error("alignment ", alignment,
                         " is not a power of two up to 65536");
  // Room for the base's offset and a gap at either end of the window.
  if (bytes > (uint64_t(1) << kWindowBits) - 4 * 65536)
    return Status::error("cannot allocate ", bytes, " bytes at once");
  if (allocations.size() >= kMaxAllocations)
    return Status::error("there are ", allocations.size(),
                         " allocations already");
  Allocation allocation;
  allocation.bytes = bytes;
  allocation.name = std::move(name);
  allocation.base =
      (uint64_t(allocations.size() + 1) << kWindowBits) + 2 * 65536 + alignment;
  auto *data = static_cast<uint8_t *>(std::calloc(1, bytes ? bytes : 1));
  auto *shadow = static_cast<uint8_t *>(std::calloc(1, bytes ? bytes : 1));
  allocation.data = {data, std::free};
  allocation.shadow = {shadow, std::free};
  if (!data || !shadow)
    return Status::error("the host has no memory for an allocation of ", bytes,
                         " bytes");
  allocations.push_back(std::move(allocation));
  return allocations.back().base;
}

Expected<Memory::Allocation *>
Memory::range(DeviceAddress address, uint64_t bytes, const char *what) const {
  const Allocation *allocation = find(address);
  if (!allocation || address < allocation->base || bytes > allocation->bytes ||
      address - allocation->base > allocation->bytes - bytes)
    return Status::error("cannot ", what, " ", bytes,
                         " bytes there: no allocation holds them");
  return const_cast<Allocation *>(allocation);
}

Status Memory::write(DeviceAddress address, const void *data, uint64_t bytes) {
  Expected<Allocation *> found = range(address, bytes, "write");
  if (!found)
    return found.error();
  Allocation *allocation = *found;
  if (bytes == 0)
    return Status();
  uint64_t offset = address - allocation->base;
  std::memcpy(allocation->data.get() + offset, data, bytes);
  std::memset(allocation->shadow.get() + offset, 1, bytes);
  if (bytes == allocation->bytes)
    allocation->allInitialized = true;
  return Status();
}

Status Memory::read(DeviceAddress address, void *data, uint64_t bytes) const {
  Expected<Allocation *> found = range(address, bytes, "read");
  if (!found)
    return found.error();
  if (bytes)
    std::memcpy(data, (*found)->data.get() + (address - (*found)->base), bytes);
  return Status();
}

Status Memory::fill(DeviceAddress address, uint8_t value, uint64_t bytes) {
  Expected<Allocation *> found = range(address, bytes, "fill");
  if (!found)
    return found.error();
  Allocation *allocation = *found;
  uint64_t offset = address - allocation->base;
  std::memset(allocation->data.get() + offset, value, bytes);
  std::memset(allocation->shadow.get() + offset, 1, bytes);
  if (bytes == allocation->bytes)
    allocation->allInitialized = true;
  return Status();
}

std::optional<uint64_t> Memory::firstUninitialized(DeviceAddress address,
                                                   uint64_t bytes) const {
  Expected<Allocation *> found = range(address, bytes, "look at");
  if (!found || bytes == 0)
    return std::nullopt;
  const uint8_t *shadow = (*found)->shadow.get() + (address - (*found)->base);
  const void *first = std::memchr(shadow, 0, bytes);
  if (!first)
    return std::nullopt;
  return static_cast<uint64_t>(static_cast<const uint8_t *>(first) - shadow);
}

} // namespace delta::sim
