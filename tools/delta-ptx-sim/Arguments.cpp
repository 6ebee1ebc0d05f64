//===- Arguments.cpp - kernel arguments from the command line -------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Parsing of argument descriptions, and .npy files.
//
//===----------------------------------------------------------------------===//

#include "Arguments.h"

#include "delta/Runtime/Npy.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>

namespace delta::ptxsim {

using runtime::DType;
using runtime::Expected;
using runtime::NdArray;
using runtime::Shape;
using runtime::Status;

namespace {

constexpr uint64_t kAlignment = 256; // as device allocators give

bool parseUnsigned(const std::string &text, uint64_t &value) {
  if (text.empty() || text[0] < '0' || text[0] > '9')
    return false;
  errno = 0;
  char *end = nullptr;
  value = std::strtoull(text.c_str(), &end, 0);
  return *end == 0 && errno == 0;
}

std::vector<std::string> splitAt(const std::string &text, const char *marks) {
  std::vector<std::string> parts(1);
  for (char c : text) {
    if (std::strchr(marks, c))
      parts.emplace_back();
    else
      parts.back() += c;
  }
  return parts;
}

Expected<NdArray> readFile(const std::string &path) {
  std::ifstream in(path, std::ios::binary);
  if (!in)
    return Status::error("cannot read '", path, "': ", std::strerror(errno));
  in.seekg(0, std::ios::end);
  auto size = in.tellg();
  in.seekg(0);
  if (size < 0)
    return Status::error("cannot read '", path, "'");
  Expected<NdArray> array = runtime::readNpy(
      [&](void *buffer, size_t count) -> Expected<size_t> {
        in.read(static_cast<char *>(buffer),
                static_cast<std::streamsize>(count));
        return static_cast<size_t>(in.gcount());
      },
      static_cast<uint64_t>(size));
  if (!array)
    return Status::error("'", path, "': ", array.message());
  return array;
}

Expected<Argument> makeOutput(const std::string &text, unsigned index,
                              sim::Memory &memory) {
  std::vector<std::string> parts = splitAt(text, ":");
  if (parts.size() != 3)
    return Status::error("'", text,
                         "': expected out:SHAPE:DTYPE, such as "
                         "out:4,64:f32");
  Argument argument;
  argument.isOutput = true;
  if (!parts[1].empty())
    for (const std::string &dim : splitAt(parts[1], ",x")) {
      uint64_t value;
      if (!parseUnsigned(dim, value) || value > INT64_MAX)
        return Status::error("'", text, "': '", dim, "' is not a dimension");
      argument.shape.push_back(static_cast<int64_t>(value));
    }
  argument.dtype = runtime::dtypeFromName(parts[2]);
  if (!argument.dtype)
    return Status::error("'", text, "': unknown type '", parts[2],
                         "'; expected f64, f32, f16, bf16, i8 to i64, u8 to "
                         "u64 or bool");
  std::optional<int64_t> count = runtime::numElementsOf(argument.shape);
  if (!count || *count > INT64_MAX / 8)
    return Status::error("'", text, "': the array is too large");
  Expected<sim::DeviceAddress> address =
      memory.allocate(uint64_t(*count) * runtime::sizeOf(*argument.dtype),
                      kAlignment, "argument " + std::to_string(index));
  if (!address)
    return Status::error("'", text, "': ", address.message());
  argument.address = *address;
  return argument;
}

template <typename T> std::vector<uint8_t> bytesOf(T value) {
  std::vector<uint8_t> bytes(sizeof value);
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

Expected<Argument> makeScalar(const std::string &text) {
  std::vector<std::string> parts = splitAt(text, ":");
  if (parts.size() != 3)
    return Status::error("'", text,
                         "': expected scalar:TYPE:VALUE, such as "
                         "scalar:f32:0.5");
  const std::string &type = parts[1], &value = parts[2];
  Argument argument;
  char *end = nullptr;
  errno = 0;
  if (type == "f32" || type == "f64" || type == "f16" || type == "bf16") {
    double number = std::strtod(value.c_str(), &end);
    if (value.empty() || *end)
      return Status::error("'", text, "': '", value, "' is not a number");
    argument.scalar = type == "f64"   ? bytesOf(number)
                      : type == "f32" ? bytesOf(static_cast<float>(number))
                      : type == "f16" ? bytesOf(runtime::toF16Bits(number))
                                      : bytesOf(runtime::toBF16Bits(number));
    return argument;
  }
  static const std::pair<const char *, unsigned> widths[] = {
      {"u8", 1},  {"u16", 2}, {"u32", 4}, {"u64", 8}, {"s8", 1},  {"s16", 2},
      {"s32", 4}, {"s64", 8}, {"i8", 1},  {"i16", 2}, {"i32", 4}, {"i64", 8},
      {"b8", 1},  {"b16", 2}, {"b32", 4}, {"b64", 8}};
  for (auto [name, bytes] : widths) {
    if (type != name)
      continue;
    bool minus = !value.empty() && value[0] == '-';
    uint64_t magnitude;
    if (!parseUnsigned(minus ? value.substr(1) : value, magnitude))
      return Status::error("'", text, "': '", value, "' is not an integer");
    // Any value that the width can hold, signed or not.
    uint64_t most = bytes == 8 ? UINT64_MAX : (uint64_t(1) << (8 * bytes)) - 1;
    if (magnitude > (minus ? most / 2 + 1 : most))
      return Status::error("'", text, "': ", value, " does not fit ", type);
    std::vector<uint8_t> all = bytesOf(minus ? 0 - magnitude : magnitude);
    argument.scalar.assign(all.begin(), all.begin() + bytes);
    return argument;
  }
  return Status::error("'", text, "': unknown type '", type,
                       "'; expected u8 to u64, s8 to s64, f16, bf16, f32 or "
                       "f64");
}

} // namespace

Expected<sim::Dim3> parseDim3(const std::string &text) {
  std::vector<std::string> parts = splitAt(text, ",");
  uint64_t values[3] = {1, 1, 1};
  bool good = parts.size() <= 3;
  for (size_t i = 0; i < parts.size() && good; ++i)
    good = parseUnsigned(parts[i], values[i]) && values[i] >= 1 &&
           values[i] <= UINT32_MAX;
  if (!good)
    return Status::error("expected X, X,Y or X,Y,Z of at least 1, but got '",
                         text, "'");
  return sim::Dim3{static_cast<uint32_t>(values[0]),
                   static_cast<uint32_t>(values[1]),
                   static_cast<uint32_t>(values[2])};
}

Expected<Argument> makeArgument(const std::string &text, unsigned index,
                                sim::Memory &memory) {
  if (text.rfind("out:", 0) == 0)
    return makeOutput(text, index, memory);
  if (text.rfind("scalar:", 0) == 0)
    return makeScalar(text);
  std::string path = text;
  std::optional<DType> to;
  size_t colon = text.rfind(':');
  if (colon != std::string::npos) {
    to = runtime::dtypeFromName(text.substr(colon + 1));
    if (to)
      path = text.substr(0, colon);
  }
  Expected<NdArray> array = readFile(path);
  if (!array)
    return array.error();
  if (to && *to != array->dtype()) {
    if (!runtime::isFloat(*to))
      return Status::error("'", text,
                           "': arrays convert to floating types "
                           "only");
    array = array->convertTo(*to);
    if (!array)
      return array.error();
  }
  Argument argument;
  argument.dtype = array->dtype();
  argument.shape = array->shape();
  Expected<sim::DeviceAddress> address = memory.allocate(
      array->sizeInBytes(), kAlignment, "argument " + std::to_string(index));
  if (!address)
    return Status::error("'", path, "': ", address.message());
  argument.address = *address;
  if (Status status =
          memory.write(*address, array->data(), array->sizeInBytes());
      !status.ok())
    return status;
  return argument;
}

Status saveArgument(const Argument &argument, const std::string &path,
                    const sim::Memory &memory) {
  Expected<NdArray> array = NdArray::zeros(*argument.dtype, argument.shape);
  if (!array)
    return array.error();
  if (Status status =
          memory.read(argument.address, array->data(), array->sizeInBytes());
      !status.ok())
    return status;
  if (*argument.dtype == DType::BF16) {
    array = array->convertTo(DType::F32);
    if (!array)
      return array.error();
  }
  std::ofstream out(path, std::ios::binary);
  std::string header = runtime::makeNpyHeader(*array);
  out.write(header.data(), static_cast<std::streamsize>(header.size()));
  out.write(static_cast<const char *>(array->data()),
            static_cast<std::streamsize>(array->sizeInBytes()));
  out.flush();
  if (!out)
    return Status::error("cannot write '", path, "': ", std::strerror(errno));
  return Status();
}

} // namespace delta::ptxsim
