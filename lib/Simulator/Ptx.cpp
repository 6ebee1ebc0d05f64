//===- Ptx.cpp - names of PTX types and spaces ----------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Tables of the fundamental types.
//
//===----------------------------------------------------------------------===//

#include "Ptx.h"

namespace delta::sim::ptx {

namespace {

struct TypeInfo {
  const char *name;
  unsigned bytes;
};

constexpr TypeInfo kTypes[] = {
    {"", 0},      {"b8", 1},    {"b16", 2},    {"b32", 4},  {"b64", 8},
    {"b128", 16}, {"u8", 1},    {"u16", 2},    {"u32", 4},  {"u64", 8},
    {"s8", 1},    {"s16", 2},   {"s32", 4},    {"s64", 8},  {"f16", 2},
    {"f16x2", 4}, {"bf16", 2},  {"bf16x2", 4}, {"tf32", 4}, {"f32", 4},
    {"f64", 8},   {"u16x2", 4}, {"s16x2", 4},  {"pred", 0}};

} // namespace

Type typeFromName(std::string_view name) {
  if (name.empty())
    return Type::None;
  for (unsigned i = 1; i < std::size(kTypes); ++i)
    if (name == kTypes[i].name)
      return static_cast<Type>(i);
  return Type::None;
}

const char *nameOf(Type type) {
  return kTypes[static_cast<unsigned>(type)].name;
}

unsigned sizeOf(Type type) { return kTypes[static_cast<unsigned>(type)].bytes; }

bool isSigned(Type type) { return type >= Type::S8 && type <= Type::S64; }

bool isFloat(Type type) { return type >= Type::F16 && type <= Type::F64; }

const char *nameOf(Space space) {
  switch (space) {
  case Space::Generic:
    return "generic";
  case Space::Global:
    return "global";
  case Space::Shared:
    return "shared";
  case Space::Local:
    return "local";
  case Space::Param:
    return "param";
  case Space::Const:
    return "const";
  }
  return "";
}

} // namespace delta::sim::ptx
