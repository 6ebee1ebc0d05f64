//===- Ptx.h - the syntax of PTX --------------------------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What the parser makes of a PTX file: functions with their registers and
// variables resolved to numbers, and instructions with opcodes still as text.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_LIB_SIMULATOR_PTX_H
#define DELTA_LIB_SIMULATOR_PTX_H

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace delta::sim::ptx {

/// Fundamental types, and the pairs and formats that instructions name.
enum class Type : uint8_t {
  None,
  B8,
  B16,
  B32,
  B64,
  B128,
  U8,
  U16,
  U32,
  U64,
  S8,
  S16,
  S32,
  S64,
  F16,
  F16x2,
  BF16,
  BF16x2,
  TF32,
  F32,
  F64,
  U16x2,
  S16x2,
  Pred
};

/// The type a modifier such as "f32" names, or None.
Type typeFromName(std::string_view name);
const char *nameOf(Type type);
/// Bytes of a value; 0 for predicates.
unsigned sizeOf(Type type);
bool isSigned(Type type);
bool isFloat(Type type);

/// State spaces of variables and accesses.
enum class Space : uint8_t { Generic, Global, Shared, Local, Param, Const };
const char *nameOf(Space space);

struct Operand {
  enum Kind : uint8_t {
    Register, ///< index: into Function::registers
    Special,  ///< text: "%tid.x"
    Integer,  ///< value
    Float,    ///< value: the bits of a double
    Float32,  ///< value: the bits of a float (0f...)
    Variable, ///< index: into Function or Module variables; see `global`
    Label,    ///< index: into Function::labels; also an unknown name
    Vector,   ///< elements
    Address,  ///< elements[0] + value
    Pair,     ///< elements: d|p
    Sink      ///< _
  };
  Kind kind = Integer;
  bool negated = false; ///< !p
  bool global = false;  ///< a variable of the module
  uint32_t index = 0;
  int64_t value = 0;
  std::string_view text; ///< the name as written
  std::vector<Operand> elements;
};

struct Instruction {
  std::string_view opcode; ///< "ld.global.v4.f32"
  std::vector<Operand> operands;
  int32_t guard = -1; ///< a register
  bool guardNegated = false;
  uint32_t line = 0, column = 0;
};

struct Register {
  std::string name;
  Type type = Type::None;
};

struct Variable {
  std::string name;
  Space space = Space::Global;
  Type type = Type::B8;
  uint64_t bytes = 0; ///< 0 for an extern array
  uint64_t alignment = 1;
  bool isExtern = false;
  bool isArray = false;
  std::vector<uint8_t> initial; ///< empty: zero
  /// Addresses of variables to put into `initial`: offset, name.
  std::vector<std::pair<uint64_t, std::string>> relocations;
  uint32_t line = 0;
};

struct Label {
  std::string_view name;
  int64_t target = -1; ///< an instruction; -1 when not defined
  uint32_t line = 0;
  /// For a .branchtargets declaration: the labels.
  std::vector<uint32_t> branchTargets;
};

struct Function {
  std::string name;
  bool isEntry = false;
  std::vector<Variable> results; ///< of a .func
  std::vector<Variable> params;
  /// Results and params first, then what the body declares.
  std::vector<Variable> variables;
  std::vector<Register> registers;
  std::vector<Label> labels;
  std::vector<Instruction> body;
  uint32_t maxThreads[3] = {0, 0, 0}, requiredThreads[3] = {0, 0, 0};
  uint32_t line = 0;
};

struct File {
  std::string text; ///< what all string_views point into
  std::string name;
  std::string target;
  std::vector<Variable> variables;
  std::vector<Function> functions;
};

} // namespace delta::sim::ptx

#endif // DELTA_LIB_SIMULATOR_PTX_H
