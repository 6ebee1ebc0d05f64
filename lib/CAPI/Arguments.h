//===- Arguments.h - what is said of arguments in C -------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Bundles and specs describe their arguments alike.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_LIB_CAPI_ARGUMENTS_H
#define DELTA_LIB_CAPI_ARGUMENTS_H

#include "DTypes.h"
#include "delta/Runtime/Signature.h"

#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace delta::capi {

/// What a delta_arg_info points to besides its argument.
struct ArgTexts {
  std::vector<std::string> names;
  std::vector<const char *> axes;
  std::vector<int64_t> sizes; ///< -1 where it is not known
};

inline std::vector<ArgTexts> makeTexts(const runtime::Signature &signature) {
  std::vector<ArgTexts> result;
  for (const runtime::Argument &arg : signature.args) {
    ArgTexts texts;
    texts.names = arg.arrayAxes();
    for (size_t i = 0; i < texts.names.size(); ++i) {
      auto it = signature.dims.find(texts.names[i]);
      bool known = arg.isDim(i) && it != signature.dims.end();
      texts.sizes.push_back(known ? it->second : -1);
    }
    result.push_back(std::move(texts));
  }
  // Only now do the names stay where they are.
  for (ArgTexts &texts : result)
    for (const std::string &name : texts.names)
      texts.axes.push_back(name.c_str());
  return result;
}

/// All but the default.
inline delta_arg_info describe(const runtime::Argument &arg,
                               const ArgTexts &texts) {
  constexpr double kInf = std::numeric_limits<double>::infinity();
  delta_arg_info info = {};
  info.name = arg.name.c_str();
  info.kind = static_cast<delta_arg_kind>(arg.kind);
  info.dtype = fromDType(arg.dtype);
  info.rank = texts.axes.size();
  info.axes = texts.axes.data();
  info.sizes = texts.sizes.data();
  info.has_range = arg.range.has_value();
  info.lo = arg.range ? arg.range->first : -kInf;
  info.hi = arg.range ? arg.range->second : kInf;
  info.default_text = arg.defaultText.c_str();
  info.every = arg.every;
  return info;
}

} // namespace delta::capi

#endif // DELTA_LIB_CAPI_ARGUMENTS_H
