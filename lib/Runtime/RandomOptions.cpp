//===- RandomOptions.cpp - the --random option ----------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// From "B=1,T=256,K=64" to sizes; every refusal says what would do.
//
//===----------------------------------------------------------------------===//

#include "delta/Runtime/Binding.h"

#include <charconv>

namespace delta::runtime {

static bool isName(std::string_view text) {
  auto isLetter = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
  };
  if (text.empty() || !isLetter(text.front()))
    return false;
  for (char c : text)
    if (!isLetter(c) && !(c >= '0' && c <= '9'))
      return false;
  return true;
}

Expected<RandomOptions> parseRandomOptions(std::string_view text) {
  RandomOptions options;
  NamedValues<int64_t> values;
  for (size_t begin = 0; begin <= text.size();) {
    size_t end = std::min(text.find(',', begin), text.size());
    std::string_view part = text.substr(begin, end - begin);
    begin = end + 1;
    size_t equals = part.find('=');
    if (equals == std::string_view::npos || equals + 1 == part.size() ||
        !isName(part.substr(0, equals)))
      return Status::error("--random: expected NAME=VALUE, but got '", part,
                           "'");
    std::string name(part.substr(0, equals));
    std::string_view number = part.substr(equals + 1);
    int64_t value = 0;
    auto [rest, code] =
        std::from_chars(number.data(), number.data() + number.size(), value);
    if (code != std::errc() || rest != number.data() + number.size() ||
        value < 0)
      return Status::error("--random: expected a number for '", name,
                           "', but got '", number, "'");
    if (!values.emplace(name, value).second)
      return Status::error("--random: '", name, "' is given twice");
  }
  for (auto &[name, value] : values) {
    // Data of the benchmark sizes are far below; more is a slip of the hand.
    if (name != "seed" && value > (int64_t(1) << 31))
      return Status::error("--random: '", name, "' is ", value,
                           "; at most 2147483648 is accepted");
    if (name == "B")
      options.B = value;
    else if (name == "T")
      options.T = value;
    else if (name == "H")
      options.H = value;
    else if (name == "seed")
      options.seed = static_cast<uint64_t>(value);
    else if (value < 1 || value > kMaxDim)
      return Status::error("--random: dim '", name, "' must be between 1 and ",
                           kMaxDim, ", but got ", value);
    else
      options.dims[name] = value;
  }
  return options;
}

} // namespace delta::runtime
