//===- DecodeOperands.cpp - resolving operands ----------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Places for registers, constants and special registers, checks of types, and
// addresses of variables.
//
//===----------------------------------------------------------------------===//

#include "Decoder.h"

#include <cstring>

namespace delta::sim {

using ptx::Operand;
using ptx::Space;
using ptx::Type;

// --- Registers and constants -------------------------------------------------

uint32_t Decoder::allocate(bool wide) {
  uint32_t slot = program->registerBytes;
  program->registerBytes += wide ? 8 * kLanes : 4 * kLanes;
  return slot;
}

uint32_t Decoder::slotOfRegister(uint32_t index) {
  uint32_t &slot = registerSlots[index];
  if (slot == kNone) {
    Type type = function.registers[index].type;
    slot = type == Type::Pred ? program->numPredicates++
                              : allocate(ptx::sizeOf(type) == 8);
  }
  return slot;
}

uint32_t Decoder::constant(uint64_t bits, bool wide) {
  auto [it, inserted] = constants.try_emplace({wide, bits}, 0);
  if (inserted) {
    it->second = allocate(wide);
    program->constants.push_back({it->second, wide, bits, kNone, false});
  }
  return it->second;
}

uint32_t Decoder::special(Special special, bool wide) {
  auto [it, inserted] = specials.try_emplace({special, wide}, 0);
  if (inserted) {
    it->second = allocate(wide);
    program->specials.push_back({it->second, wide, special});
  }
  return it->second;
}

std::string Decoder::describe(const Operand &operand) const {
  if (operand.kind == Operand::Address)
    return "the address";
  if (operand.kind == Operand::Vector)
    return "the vector";
  return "'" + std::string(operand.text) + "'";
}

bool Decoder::immediate(const Operand &operand, Type type, uint64_t &bits) {
  double number;
  std::memcpy(&number, &operand.value, sizeof number);
  uint32_t low = static_cast<uint32_t>(operand.value);
  float narrow;
  std::memcpy(&narrow, &low, sizeof narrow);
  if (operand.kind == Operand::Integer) {
    if (type == Type::F64) {
      number = static_cast<double>(operand.value);
      std::memcpy(&bits, &number, sizeof bits);
    } else if (type == Type::F32) {
      narrow = static_cast<float>(operand.value);
      std::memcpy(&low, &narrow, sizeof low);
      bits = low;
    } else {
      bits = static_cast<uint64_t>(operand.value);
    }
  } else if (operand.kind == Operand::Float) {
    if (type == Type::F32) {
      narrow = static_cast<float>(number);
      std::memcpy(&low, &narrow, sizeof low);
      bits = low;
    } else if (ptx::sizeOf(type) == 8) {
      bits = static_cast<uint64_t>(operand.value);
    } else {
      return fail("constant ", describe(operand), " does not suit type .",
                  ptx::nameOf(type));
    }
  } else {
    if (type == Type::F64) {
      number = narrow;
      std::memcpy(&bits, &number, sizeof bits);
    } else {
      bits = low;
    }
  }
  unsigned width = 8 * ptx::sizeOf(type);
  if (width && width < 64)
    bits &= (uint64_t(1) << width) - 1;
  return true;
}

namespace {

struct SpecialName {
  const char *name;
  Special special;
};
constexpr SpecialName kSpecials[] = {
    {"%tid.x", Special::TidX},
    {"%tid.y", Special::TidY},
    {"%tid.z", Special::TidZ},
    {"%ntid.x", Special::NtidX},
    {"%ntid.y", Special::NtidY},
    {"%ntid.z", Special::NtidZ},
    {"%ctaid.x", Special::CtaidX},
    {"%ctaid.y", Special::CtaidY},
    {"%ctaid.z", Special::CtaidZ},
    {"%nctaid.x", Special::NctaidX},
    {"%nctaid.y", Special::NctaidY},
    {"%nctaid.z", Special::NctaidZ},
    {"%laneid", Special::LaneId},
    {"%warpid", Special::WarpId},
    {"%nwarpid", Special::NwarpId},
    {"%lanemask_eq", Special::LanemaskEq},
    {"%lanemask_lt", Special::LanemaskLt},
    {"%lanemask_le", Special::LanemaskLe},
    {"%lanemask_gt", Special::LanemaskGt},
    {"%lanemask_ge", Special::LanemaskGe},
    {"%smid", Special::SmId},
    {"%nsmid", Special::NsmId},
    {"%gridid", Special::GridId},
    {"%dynamic_smem_size", Special::DynamicSharedBytes},
    {"%total_smem_size", Special::TotalSharedBytes},
    // A launch without clusters has clusters of one CTA.
    {"%cluster_ctarank", Special::Zero},
    {"%cluster_ctaid.x", Special::Zero},
    {"%cluster_ctaid.y", Special::Zero},
    {"%cluster_ctaid.z", Special::Zero},
    {"%clusterid.x", Special::CtaidX},
    {"%clusterid.y", Special::CtaidY},
    {"%clusterid.z", Special::CtaidZ}};

} // namespace

bool Decoder::source(const Operand &operand, Type type, uint32_t &slot) {
  bool wide = ptx::sizeOf(type) == 8;
  switch (operand.kind) {
  case Operand::Register: {
    Type have = function.registers[operand.index].type;
    if (have == Type::Pred)
      return fail("predicate ", describe(operand),
                  " stands where a value of type .", ptx::nameOf(type),
                  " is expected");
    if (ptx::sizeOf(have) != ptx::sizeOf(type))
      return fail("register ", describe(operand), " of type .",
                  ptx::nameOf(have), " stands where a value of type .",
                  ptx::nameOf(type), " is expected");
    slot = slotOfRegister(operand.index);
    read(operand.index);
    return true;
  }
  case Operand::Integer:
  case Operand::Float:
  case Operand::Float32: {
    uint64_t bits;
    if (!immediate(operand, type, bits))
      return false;
    slot = constant(bits, wide);
    return true;
  }
  case Operand::Special:
    for (const SpecialName &entry : kSpecials)
      if (operand.text == entry.name) {
        slot = special(entry.special, wide);
        return true;
      }
    return fail("unknown special register ", describe(operand));
  case Operand::Variable: {
    uint64_t offset;
    uint32_t globalVariable;
    Space space;
    if (!variableAddress(operand, offset, globalVariable, space))
      return false;
    if (globalVariable == kNone) {
      slot = constant(offset, wide);
      return true;
    }
    if (!wide)
      return fail("the address of ", describe(operand), " needs 64 bits");
    slot = allocate(true);
    program->constants.push_back({slot, true, offset, globalVariable, false});
    return true;
  }
  case Operand::Label:
    return fail("unknown name ", describe(operand));
  default:
    return fail(describe(operand), " stands where a value of type .",
                ptx::nameOf(type), " is expected");
  }
}

bool Decoder::destination(const Operand &operand, Type type, uint32_t &slot) {
  bool wide = ptx::sizeOf(type) == 8;
  if (operand.kind == Operand::Sink) {
    if (junk[wide] == kNone)
      junk[wide] = allocate(wide);
    slot = junk[wide];
    return true;
  }
  if (operand.kind != Operand::Register)
    return fail(describe(operand), " stands where a register of type .",
                ptx::nameOf(type), " is expected");
  Type have = function.registers[operand.index].type;
  if (have == Type::Pred || ptx::sizeOf(have) != ptx::sizeOf(type))
    return fail("register ", describe(operand), " of type .", ptx::nameOf(have),
                " stands where one of type .", ptx::nameOf(type),
                " is expected");
  slot = slotOfRegister(operand.index);
  write(operand.index);
  return true;
}

bool Decoder::wideRegister(const Operand &operand, Type type, uint32_t &slot,
                           bool &wide) {
  wide = ptx::sizeOf(type) == 8;
  if (operand.kind != Operand::Register)
    return false;
  Type have = function.registers[operand.index].type;
  if (have == Type::Pred || ptx::sizeOf(have) < ptx::sizeOf(type))
    return false;
  wide = ptx::sizeOf(have) == 8;
  slot = slotOfRegister(operand.index);
  return true;
}

bool Decoder::wideSource(const Operand &operand, Type type, uint32_t &slot,
                         bool &wide) {
  if (!wideRegister(operand, type, slot, wide))
    return source(operand, type, slot);
  read(operand.index);
  return true;
}

bool Decoder::wideDestination(const Operand &operand, Type type, uint32_t &slot,
                              bool &wide) {
  if (!wideRegister(operand, type, slot, wide))
    return destination(operand, type, slot);
  write(operand.index);
  return true;
}

bool Decoder::predicateSource(const Operand &operand, uint32_t &number,
                              bool &negated) {
  negated = operand.negated;
  if (operand.kind == Operand::Integer) {
    number = operand.value ? 1 : 0;
    return true;
  }
  if (operand.kind != Operand::Register ||
      function.registers[operand.index].type != Type::Pred)
    return fail(describe(operand), " stands where a predicate is expected");
  number = slotOfRegister(operand.index);
  read(operand.index);
  return true;
}

bool Decoder::predicateDestination(const Operand &operand, uint32_t &number) {
  if (operand.kind == Operand::Sink) {
    if (junkPredicate == kNone)
      junkPredicate = program->numPredicates++;
    number = junkPredicate;
    return true;
  }
  if (operand.kind != Operand::Register || operand.negated ||
      function.registers[operand.index].type != Type::Pred)
    return fail(describe(operand),
                " stands where a predicate register is expected");
  number = slotOfRegister(operand.index);
  write(operand.index);
  return true;
}

Space Decoder::spaceOf(const Operand &operand) const {
  if (operand.global)
    return file.variables[operand.index].space;
  Space space = function.variables[operand.index].space;
  return space == Space::Param && operand.index >= function.params.size()
             ? Space::Local
             : space;
}

bool Decoder::variableAddress(const Operand &operand, uint64_t &offset,
                              uint32_t &globalVariable, Space &space) {
  globalVariable = kNone;
  if (operand.global) {
    const ptx::Variable &variable = file.variables[operand.index];
    space = variable.space;
    if (space == Space::Shared) {
      offset = moduleShared[operand.index];
    } else {
      if (variable.isExtern)
        return fail("variable ", describe(operand),
                    " is defined in another module");
      globalVariable = operand.index;
      offset = 0;
    }
  } else {
    space = spaceOf(operand);
    const ptx::Variable &variable = function.variables[operand.index];
    if (space == Space::Shared && variable.isExtern && variable.bytes == 0)
      return fail("declare ", describe(operand), " outside of the function");
    offset = localOffsets[operand.index];
  }
  offset += static_cast<uint64_t>(operand.value);
  return true;
}

bool Decoder::address(const Operand &operand, Space space, unsigned field,
                      int64_t &offset, bool &wide) {
  if (operand.kind != Operand::Address)
    return fail(describe(operand), " stands where an address is expected");
  const Operand &base = operand.elements[0];
  offset = operand.value;
  wide = true;
  inst.op[field] = kNone;
  if (base.kind == Operand::Integer) {
    offset += base.value;
    return true;
  }
  if (base.kind == Operand::Variable) {
    uint64_t at;
    uint32_t globalVariable;
    Space have;
    if (!variableAddress(base, at, globalVariable, have))
      return false;
    bool isGlobal = have == Space::Global || have == Space::Const;
    if (space != Space::Generic && space != have &&
        !(isGlobal && (space == Space::Global || space == Space::Const)))
      return fail("variable ", describe(base), " is in .", ptx::nameOf(have),
                  ", not in .", ptx::nameOf(space));
    if (space == Space::Generic)
      switch (have) {
      case Space::Shared:
        at += kSharedWindow;
        break;
      case Space::Local:
        at += kLocalWindow;
        break;
      case Space::Param:
        at += kParamWindow;
        break;
      default:
        break;
      }
    if (globalVariable == kNone) {
      offset += static_cast<int64_t>(at);
      return true;
    }
    uint32_t &slot = globalConstants.try_emplace({true, globalVariable}, kNone)
                         .first->second;
    if (slot == kNone) {
      slot = allocate(true);
      program->constants.push_back({slot, true, 0, globalVariable, false});
    }
    offset += static_cast<int64_t>(at);
    inst.op[field] = slot;
    return true;
  }
  if (base.kind != Operand::Register) {
    if (base.kind == Operand::Label)
      return fail("unknown name ", describe(base));
    return fail(describe(base), " cannot be an address");
  }
  Type have = function.registers[base.index].type;
  unsigned bytes = have == Type::Pred ? 0 : ptx::sizeOf(have);
  if (bytes != 4 && bytes != 8)
    return fail("register ", describe(base), " of type .", ptx::nameOf(have),
                " cannot be an address");
  wide = bytes == 8;
  if (!wide && (space == Space::Global || space == Space::Generic))
    return fail("register ", describe(base),
                " has 32 bits; an address in this space needs 64");
  inst.op[field] = slotOfRegister(base.index);
  read(base.index);
  return true;
}

bool Decoder::label(const Operand &operand, uint32_t &target) {
  if (operand.kind != Operand::Label)
    return fail(describe(operand), " stands where a label is expected");
  int64_t at = function.labels[operand.index].target;
  if (at < 0)
    return fail("label ", describe(operand), " is not defined");
  target = static_cast<uint32_t>(at);
  return true;
}

bool Decoder::fragment(const Operand &operand, unsigned count, Type type,
                       unsigned field, bool isDestination) {
  const Operand *elements = &operand;
  size_t have = 1;
  if (operand.kind == Operand::Vector) {
    elements = operand.elements.data();
    have = operand.elements.size();
  }
  if (have != count)
    return fail("'", current->opcode, "' has a fragment of ", have,
                " registers; expected ", count);
  for (unsigned i = 0; i < count; ++i)
    if (isDestination ? !destination(elements[i], type, inst.op[field + i])
                      : !source(elements[i], type, inst.op[field + i]))
      return false;
  return true;
}

bool Decoder::plain(unsigned sources, Type type) {
  if (!operands(sources + 1) ||
      !destination(current->operands[0], type, inst.op[0]))
    return false;
  for (unsigned i = 1; i <= sources; ++i)
    if (!source(current->operands[i], type, inst.op[i]))
      return false;
  return true;
}

} // namespace delta::sim
