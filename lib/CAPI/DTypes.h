//===- DTypes.h - element types of the C interface --------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_LIB_CAPI_DTYPES_H
#define DELTA_LIB_CAPI_DTYPES_H

#include "delta-c/Runtime.h"
#include "delta/Runtime/NdArray.h"

#include <optional>

namespace delta::capi {

/// The run time's name of a type; nothing for a number that is none.
inline std::optional<runtime::DType> toDType(delta_dtype dtype) {
  switch (dtype) {
  case DELTA_F64:
    return runtime::DType::F64;
  case DELTA_F32:
    return runtime::DType::F32;
  case DELTA_F16:
    return runtime::DType::F16;
  case DELTA_BF16:
    return runtime::DType::BF16;
  }
  return std::nullopt;
}

/// The type that arrays of kernels have, for C.
inline delta_dtype fromDType(runtime::DType dtype) {
  switch (dtype) {
  case runtime::DType::F64:
    return DELTA_F64;
  case runtime::DType::F16:
    return DELTA_F16;
  case runtime::DType::BF16:
    return DELTA_BF16;
  default:
    return DELTA_F32;
  }
}

} // namespace delta::capi

#endif // DELTA_LIB_CAPI_DTYPES_H
