//===- Sha256.h - SHA-256 of bytes -----------------------------*- C++ -*--===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The hash by which the parts of a bundle are recognised and verified.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_RUNTIME_SHA256_H
#define DELTA_RUNTIME_SHA256_H

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

namespace delta::runtime {

using Sha256 = std::array<uint8_t, 32>;

/// FIPS 180-4.
Sha256 sha256(std::string_view bytes);

/// 64 lower-case hexadecimal digits.
std::string toHex(const Sha256 &hash);

} // namespace delta::runtime

#endif // DELTA_RUNTIME_SHA256_H
