//===- Decoder.cpp - from syntax to executable form -----------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The frame of decoding: layout of variables, registers and constants, operands
// of all kinds. The instructions are in the Decode*.cpp files.
//
//===----------------------------------------------------------------------===//

#include "Decoder.h"
#include "delta/Runtime/Suggest.h"

#include <algorithm>
#include <cstring>

namespace delta::sim {

using ptx::Operand;
using ptx::Space;
using ptx::Type;
using runtime::Status;

namespace {

uint64_t alignTo(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

/// The widest frame of a thread that the ISA's machines have.
constexpr uint64_t kMaxLocalBytes = 512 * 1024;
constexpr uint64_t kMaxParamBytes = 32764;

} // namespace

Decoder::Decoder(const ptx::File &file, const ptx::Function &function)
    : file(file), function(function) {}

// --- Layout ------------------------------------------------------------------

void Decoder::findVariables(const Operand &operand) {
  if (operand.kind == Operand::Variable && operand.global) {
    const ptx::Variable &variable = file.variables[operand.index];
    if (variable.space == Space::Shared &&
        std::find(sharedUsed.begin(), sharedUsed.end(), operand.index) ==
            sharedUsed.end())
      sharedUsed.push_back(operand.index);
  }
  for (const Operand &element : operand.elements)
    findVariables(element);
}

void Decoder::layOut() {
  for (const ptx::Instruction &i : function.body)
    for (const Operand &operand : i.operands)
      findVariables(operand);
  uint64_t shared = 0, local = 0, param = 0, dynamicAlignment = 16;
  bool dynamic = false;
  auto place = [&](const ptx::Variable &v) {
    shared = alignTo(shared, v.alignment);
    uint64_t at = shared;
    shared += v.bytes;
    program->shared.push_back(
        {v.name, static_cast<uint32_t>(at), static_cast<uint32_t>(v.bytes)});
    return at;
  };
  for (size_t i = 0; i < function.variables.size(); ++i) {
    const ptx::Variable &v = function.variables[i];
    uint64_t offset = 0;
    bool forCalls = v.space == Space::Param && i >= function.params.size();
    switch (forCalls ? Space::Local : v.space) {
    case Space::Param:
      param = alignTo(param, v.alignment);
      offset = param;
      if (param <= kMaxParamBytes) {
        program->info.params.push_back(
            {v.name, static_cast<uint32_t>(v.bytes),
             static_cast<uint32_t>(v.alignment),
             std::string(ptx::nameOf(v.type)) +
                 (v.isArray ? "[" + std::to_string(v.bytes) + "]" : "")});
        program->paramOffsets.push_back(static_cast<uint32_t>(param));
      }
      param += v.bytes;
      break;
    case Space::Shared:
      if (v.isExtern && v.bytes == 0)
        break;
      offset = place(v);
      break;
    default:
      local = alignTo(local, v.alignment);
      offset = local;
      local += v.bytes;
      break;
    }
    localOffsets.push_back(offset);
    if (param > kMaxParamBytes || local > kMaxLocalBytes ||
        shared > UINT32_MAX / 2) {
      status = Status::error(
          ptx::place(file, v.line, 1), "variables in .", ptx::nameOf(v.space),
          " take more than a machine has, up to '", v.name, "'");
      return;
    }
  }
  for (uint32_t index : sharedUsed) {
    const ptx::Variable &v = file.variables[index];
    if (v.isExtern || v.bytes == 0) {
      dynamic = true;
      dynamicAlignment = std::max(dynamicAlignment, v.alignment);
    } else {
      moduleShared[index] = place(v);
      if (shared > UINT32_MAX / 2) {
        status = Status::error(ptx::place(file, v.line, 1),
                               "shared memory takes more than a machine has");
        return;
      }
    }
  }
  uint64_t start = alignTo(shared, dynamicAlignment);
  for (uint32_t index : sharedUsed) {
    const ptx::Variable &v = file.variables[index];
    if (v.isExtern || v.bytes == 0) {
      moduleShared[index] = start;
      program->shared.push_back({v.name, static_cast<uint32_t>(start), 0});
    }
  }
  program->dynamicSharedOffset = static_cast<uint32_t>(start);
  program->info.staticSharedBytes = static_cast<uint32_t>(shared);
  program->info.usesDynamicShared = dynamic;
  program->info.localBytes = static_cast<uint32_t>(local);
  program->localBytes = static_cast<uint32_t>(alignTo(local, 16));
  program->paramBytes = static_cast<uint32_t>(param);
}

// --- The whole kernel --------------------------------------------------------

Status Decoder::decode(KernelProgram &result) {
  program = &result;
  program->info.name = function.name;
  std::copy(std::begin(function.maxThreads), std::end(function.maxThreads),
            program->info.maxThreads);
  std::copy(std::begin(function.requiredThreads),
            std::end(function.requiredThreads), program->info.requiredThreads);
  program->numPredicates = 2; // false and true
  registerSlots.assign(function.registers.size(), kNone);
  layOut();
  if (!status.ok())
    return status;
  for (const ptx::Register &r : function.registers)
    program->registerNames.push_back(r.name);
  for (const ptx::Instruction &i : function.body) {
    current = &i;
    inst = Inst();
    regs = InstRegisters();
    inst.line = i.line;
    if (i.guard >= 0) {
      inst.guard = slotOfRegister(static_cast<uint32_t>(i.guard));
      inst.guardNegated = i.guardNegated;
      read(static_cast<uint32_t>(i.guard));
    }
    if (!decodeInstruction())
      return status;
    program->code.push_back(inst);
    program->opcodes.push_back(i.opcode);
    program->registers.push_back(std::move(regs));
  }
  // Falling off the end is a return.
  Inst end;
  end.run = ops::exit;
  end.always = true;
  end.cls = InstructionClass::Control;
  end.line = function.body.empty() ? function.line : function.body.back().line;
  program->code.push_back(end);
  program->opcodes.push_back("ret");
  program->registers.emplace_back();
  program->info.numInstructions =
      static_cast<uint32_t>(program->code.size() - 1);
  analyzeControlFlow(*program);
  return Status();
}

bool Decoder::decodeInstruction() {
  split();
  auto it = methods().find(base);
  if (it == methods().end()) {
    std::vector<std::string> names;
    for (const auto &entry : methods())
      names.emplace_back(entry.first);
    return fail("unknown instruction '", current->opcode, "'",
                runtime::didYouMean(base, names));
  }
  if (!(this->*it->second)())
    return false;
  if (!inst.run)
    return unsupported();
  return true;
}

// --- The opcode --------------------------------------------------------------

void Decoder::split() {
  modifiers.clear();
  typeList.clear();
  std::string_view rest = current->opcode;
  size_t dot = rest.find('.');
  base = rest.substr(0, dot);
  while (dot != std::string_view::npos) {
    rest.remove_prefix(dot + 1);
    dot = rest.find('.');
    std::string_view part = rest.substr(0, dot);
    Type type = ptx::typeFromName(part);
    if (type != Type::None)
      typeList.push_back(type);
    else
      modifiers.push_back(part);
  }
}

bool Decoder::take(std::string_view modifier) {
  auto it = std::find(modifiers.begin(), modifiers.end(), modifier);
  if (it == modifiers.end())
    return false;
  modifiers.erase(it);
  return true;
}

bool Decoder::takePrefix(std::string_view prefix, std::string_view *whole) {
  for (auto it = modifiers.begin(); it != modifiers.end(); ++it)
    if (it->substr(0, prefix.size()) == prefix) {
      if (whole)
        *whole = *it;
      modifiers.erase(it);
      return true;
    }
  return false;
}

bool Decoder::unsupported() {
  return fail("instruction '", current->opcode,
              "' is not supported by the simulator");
}

bool Decoder::noModifiersLeft() {
  if (modifiers.empty())
    return true;
  return fail("modifier '.", modifiers.front(), "' of '", current->opcode,
              "' is not supported");
}

bool Decoder::operands(unsigned count) { return operandsBetween(count, count); }

bool Decoder::operandsBetween(unsigned least, unsigned most) {
  size_t have = current->operands.size();
  if (have >= least && have <= most)
    return true;
  if (least == most)
    return fail("'", current->opcode, "' has ", have, " operands; expected ",
                least);
  return fail("'", current->opcode, "' has ", have, " operands; expected ",
              least, " to ", most);
}

bool Decoder::types(unsigned count) {
  if (typeList.size() == count)
    return true;
  return fail("'", current->opcode, "' names ", typeList.size(),
              " types; expected ", count);
}

Modifiers Decoder::floatModifiers() {
  Modifiers m;
  m.ftz = take("ftz");
  m.sat = take("sat");
  m.relu = take("relu");
  m.nan = take("NaN");
  m.approx = take("approx") || take("full");
  if (take("rn"))
    m.rounding = Rounding::Rn;
  else if (take("rz"))
    m.rounding = Rounding::Rz;
  else if (take("rm"))
    m.rounding = Rounding::Rm;
  else if (take("rp"))
    m.rounding = Rounding::Rp;
  else if (take("rna"))
    m.rounding = Rounding::Rna;
  return m;
}

bool Decoder::setHandler(Handler handler) {
  if (!handler)
    return unsupported();
  inst.run = handler;
  return true;
}

const std::map<std::string_view, Decoder::Method> &Decoder::methods() {
  static const std::map<std::string_view, Method> table = {
      {"abs", &Decoder::decodeArithmetic},
      {"activemask", &Decoder::decodeActivemask},
      {"add", &Decoder::decodeArithmetic},
      {"addc", &Decoder::decodeCarry},
      {"and", &Decoder::decodeLogic},
      {"applypriority", &Decoder::decodeNothing},
      {"atom", &Decoder::decodeAtom},
      {"bar", &Decoder::decodeBar},
      {"barrier", &Decoder::decodeBar},
      {"bfe", &Decoder::decodeBitField},
      {"bfi", &Decoder::decodeBitField},
      {"bfind", &Decoder::decodeBitCount},
      {"bra", &Decoder::decodeBra},
      {"brev", &Decoder::decodeBitCount},
      {"brkpt", &Decoder::decodeTrap},
      {"brx", &Decoder::decodeBrx},
      {"call", &Decoder::decodeUnsupported},
      {"clz", &Decoder::decodeBitCount},
      {"cnot", &Decoder::decodeLogic},
      {"copysign", &Decoder::decodeCopysign},
      {"cos", &Decoder::decodeSpecialFunction},
      {"cp", &Decoder::decodeCp},
      {"createpolicy", &Decoder::decodeCreatePolicy},
      {"cvt", &Decoder::decodeCvt},
      {"cvta", &Decoder::decodeCvta},
      {"discard", &Decoder::decodeNothing},
      {"div", &Decoder::decodeDiv},
      {"dp4a", &Decoder::decodeDp4a},
      {"elect", &Decoder::decodeElect},
      {"ex2", &Decoder::decodeSpecialFunction},
      {"exit", &Decoder::decodeExit},
      {"fence", &Decoder::decodeNothing},
      {"fma", &Decoder::decodeFma},
      {"griddepcontrol", &Decoder::decodeNothing},
      {"isspacep", &Decoder::decodeIsspacep},
      {"ld", &Decoder::decodeLd},
      {"ldmatrix", &Decoder::decodeLdmatrix},
      {"ldu", &Decoder::decodeLd},
      {"lg2", &Decoder::decodeSpecialFunction},
      {"lop3", &Decoder::decodeLop3},
      {"mad", &Decoder::decodeMad},
      {"mad24", &Decoder::decodeMul24},
      {"match", &Decoder::decodeMatch},
      {"max", &Decoder::decodeArithmetic},
      {"mbarrier", &Decoder::decodeUnsupported},
      {"membar", &Decoder::decodeNothing},
      {"min", &Decoder::decodeArithmetic},
      {"mma", &Decoder::decodeMma},
      {"mov", &Decoder::decodeMov},
      {"movmatrix", &Decoder::decodeMovmatrix},
      {"mul", &Decoder::decodeMul},
      {"mul24", &Decoder::decodeMul24},
      {"nanosleep", &Decoder::decodeNothing},
      {"neg", &Decoder::decodeArithmetic},
      {"not", &Decoder::decodeLogic},
      {"or", &Decoder::decodeLogic},
      {"pmevent", &Decoder::decodeNothing},
      {"popc", &Decoder::decodeBitCount},
      {"prefetch", &Decoder::decodePrefetch},
      {"prefetchu", &Decoder::decodePrefetch},
      {"prmt", &Decoder::decodePrmt},
      {"rcp", &Decoder::decodeSpecialFunction},
      {"red", &Decoder::decodeRed},
      {"redux", &Decoder::decodeRedux},
      {"rem", &Decoder::decodeIntegerOnly},
      {"ret", &Decoder::decodeExit},
      {"rsqrt", &Decoder::decodeSpecialFunction},
      {"sad", &Decoder::decodeIntegerOnly},
      {"selp", &Decoder::decodeSelp},
      {"set", &Decoder::decodeSet},
      {"setmaxnreg", &Decoder::decodeUnsupported},
      {"setp", &Decoder::decodeSetp},
      {"shf", &Decoder::decodeShf},
      {"shfl", &Decoder::decodeShfl},
      {"shl", &Decoder::decodeShift},
      {"shr", &Decoder::decodeShift},
      {"sin", &Decoder::decodeSpecialFunction},
      {"slct", &Decoder::decodeSlct},
      {"sqrt", &Decoder::decodeSpecialFunction},
      {"st", &Decoder::decodeSt},
      {"stmatrix", &Decoder::decodeStmatrix},
      {"sub", &Decoder::decodeArithmetic},
      {"subc", &Decoder::decodeCarry},
      {"tanh", &Decoder::decodeSpecialFunction},
      {"testp", &Decoder::decodeTestp},
      {"trap", &Decoder::decodeTrap},
      {"vote", &Decoder::decodeVote},
      {"wgmma", &Decoder::decodeUnsupported},
      {"xor", &Decoder::decodeLogic}};
  return table;
}

} // namespace delta::sim
