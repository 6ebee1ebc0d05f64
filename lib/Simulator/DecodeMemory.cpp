//===- DecodeMemory.cpp - decoding of memory instructions -----------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Loads, stores, atomics, asynchronous copies and matrix movement. Hints about
// caches, ordering and scope are accepted and have no effect: the simulator's
// memory is sequentially consistent within a CTA.
//
//===----------------------------------------------------------------------===//

#include "Decoder.h"

namespace delta::sim {

using ptx::Operand;
using ptx::Space;
using ptx::Type;

bool Decoder::takeSpace(Space &space) {
  static const std::pair<const char *, Space> spaces[] = {
      {"global", Space::Global},      {"shared", Space::Shared},
      {"shared::cta", Space::Shared}, {"local", Space::Local},
      {"param", Space::Param},        {"param::entry", Space::Param},
      {"param::func", Space::Param},  {"const", Space::Const}};
  space = Space::Generic;
  for (auto [name, value] : spaces)
    if (take(name)) {
      space = value;
      return true;
    }
  if (take("shared::cluster")) // one CTA is a cluster of its own
    space = Space::Shared;
  return true;
}

void Decoder::takeCacheHints() {
  for (const char *hint :
       {"weak", "relaxed", "acquire", "release", "acq_rel", "volatile", "mmio",
        "cta",  "cluster", "gpu",     "sys",     "ca",      "cg",       "cs",
        "lu",   "cv",      "wb",      "wt",      "nc",      "unified"})
    while (take(hint)) {
    }
  while (takePrefix("L1::") || takePrefix("L2::")) {
  }
}

bool Decoder::memoryAccess(bool isStore) {
  takeSpace(inst.space);
  bool policy = take("L2::cache_hint");
  takeCacheHints();
  unsigned vector = take("v2") ? 2 : take("v4") ? 4 : take("v8") ? 8 : 1;
  if (!noModifiersLeft() || !types(1) || !operands(policy ? 3 : 2))
    return false;
  Type type = typeList[0];
  unsigned bytes = ptx::sizeOf(type);
  if (bytes == 0 || bytes > 8 || bytes * vector > 32)
    return unsupported();
  inst.vector = static_cast<uint8_t>(vector);
  inst.elementBytes = static_cast<uint8_t>(bytes);
  const Operand &value = current->operands[isStore ? 1 : 0];
  const Operand &at = current->operands[isStore ? 0 : 1];
  const Operand *elements = &value;
  size_t have = 1;
  if (value.kind == Operand::Vector) {
    elements = value.elements.data();
    have = value.elements.size();
  }
  if (have != vector)
    return fail("'", current->opcode, "' moves ", vector, " elements, but has ",
                have, " registers");
  for (unsigned i = 0; i < vector; ++i) {
    bool wide;
    if (isStore) {
      if (!wideSource(elements[i], type, inst.op[i], wide))
        return false;
    } else {
      if (elements[i].kind == Operand::Sink)
        continue; // stays kNone
      if (!wideDestination(elements[i], type, inst.op[i], wide))
        return false;
      // Registers of one access that are wider than the type are extended.
      const Operand &e = elements[i];
      if (ptx::isSigned(type) &&
          ptx::sizeOf(function.registers[e.index].type) > bytes) {
        inst.flags |= ops::kSignExtend;
        inst.kind =
            static_cast<uint8_t>(ptx::sizeOf(function.registers[e.index].type));
      }
    }
    if (wide)
      inst.flags |= ops::kWideRegister;
    else if (inst.flags & ops::kWideRegister)
      return fail("the registers of '", current->opcode,
                  "' differ in their widths");
  }
  // Arguments and results of calls, which were inlined.
  if (inst.space == Space::Param && at.kind == Operand::Address &&
      at.elements[0].kind == Operand::Variable)
    inst.space = spaceOf(at.elements[0]);
  bool wideAddress;
  if (!address(at, inst.space, 8, inst.imm, wideAddress))
    return false;
  inst.wideAddress = wideAddress;
  switch (inst.space) {
  case Space::Shared:
    inst.cls =
        isStore ? InstructionClass::SharedStore : InstructionClass::SharedLoad;
    break;
  case Space::Local:
    inst.cls = InstructionClass::LocalMemory;
    break;
  case Space::Param:
    inst.cls = InstructionClass::ParamLoad;
    if (isStore)
      return fail("parameters of a kernel cannot be stored to");
    break;
  default:
    inst.cls =
        isStore ? InstructionClass::GlobalStore : InstructionClass::GlobalLoad;
    break;
  }
  if (isStore && inst.space == Space::Const)
    return fail("constants cannot be stored to");
  return setHandler(isStore ? ops::store : ops::load);
}

bool Decoder::decodeLd() { return memoryAccess(false); }
bool Decoder::decodeSt() {
  if (take("async") || take("bulk"))
    return unsupported();
  return memoryAccess(true);
}

bool Decoder::atomic(bool returns) {
  inst.cls = InstructionClass::Atomic;
  if (take("async"))
    return unsupported();
  takeSpace(inst.space);
  takeCacheHints();
  take("noftz");
  static const std::pair<const char *, ops::AtomicOp> names[] = {
      {"add", ops::AtomicOp::Add},   {"min", ops::AtomicOp::Min},
      {"max", ops::AtomicOp::Max},   {"inc", ops::AtomicOp::Inc},
      {"dec", ops::AtomicOp::Dec},   {"and", ops::AtomicOp::And},
      {"or", ops::AtomicOp::Or},     {"xor", ops::AtomicOp::Xor},
      {"exch", ops::AtomicOp::Exch}, {"cas", ops::AtomicOp::Cas}};
  bool found = false;
  ops::AtomicOp op = ops::AtomicOp::Add;
  for (auto [name, value] : names)
    if (take(name)) {
      op = value;
      found = true;
      break;
    }
  if (!found || !noModifiersLeft() || !types(1))
    return found ? false : unsupported();
  Type type = typeList[0];
  unsigned bytes = ptx::sizeOf(type);
  bool arithmetic = op == ops::AtomicOp::Add || op == ops::AtomicOp::Min ||
                    op == ops::AtomicOp::Max;
  if ((bytes != 4 && bytes != 8) || type == Type::F16x2 ||
      type == Type::BF16x2 ||
      (ptx::isFloat(type) && op != ops::AtomicOp::Add &&
       op != ops::AtomicOp::Exch) ||
      (arithmetic && (type == Type::B32 || type == Type::B64)))
    return unsupported();
  unsigned sources = op == ops::AtomicOp::Cas ? 2 : 1;
  unsigned first = returns ? 1 : 0;
  if (!operands(first + 1 + sources))
    return false;
  inst.kind = static_cast<uint8_t>(op);
  inst.target = static_cast<uint32_t>(type);
  inst.elementBytes = static_cast<uint8_t>(bytes);
  if (returns && current->operands[0].kind != Operand::Sink &&
      !destination(current->operands[0], type, inst.op[0]))
    return false;
  for (unsigned i = 0; i < sources; ++i)
    if (!source(current->operands[first + 1 + i], type, inst.op[1 + i]))
      return false;
  bool wide;
  if (!address(current->operands[first], inst.space, 8, inst.imm, wide))
    return false;
  inst.wideAddress = wide;
  if (inst.space != Space::Shared)
    program->globalAtomics = true;
  return setHandler(ops::atomic);
}

bool Decoder::decodeAtom() { return atomic(true); }
bool Decoder::decodeRed() { return atomic(false); }

bool Decoder::decodePrefetch() {
  inst.cls = InstructionClass::Control;
  if (take("tensormap"))
    return unsupported();
  return setHandler(ops::nothing);
}

bool Decoder::decodeCreatePolicy() {
  // A policy is an opaque value that only hints use.
  inst.cls = InstructionClass::Move;
  if (!operandsBetween(1, 3) ||
      !destination(current->operands[0], Type::B64, inst.op[0]))
    return false;
  inst.op[1] = constant(0, true);
  return setHandler(selectors.integer(Op::Mov, Type::B64));
}

bool Decoder::decodeCp() {
  inst.cls = InstructionClass::AsyncCopy;
  if (take("reduce") || take("bulk") || !take("async") || take("mbarrier"))
    return unsupported();
  if (take("commit_group"))
    return noModifiersLeft() && operands(0) && setHandler(ops::asyncCommit);
  if (take("wait_all")) {
    inst.imm = -1;
    return noModifiersLeft() && operands(0) && setHandler(ops::asyncWait);
  }
  if (take("wait_group")) {
    if (!noModifiersLeft() || !operands(1))
      return false;
    const Operand &count = current->operands[0];
    if (count.kind != Operand::Integer || count.value < 0)
      return fail("'", current->opcode, "' needs a constant number of groups");
    inst.imm = count.value;
    return setHandler(ops::asyncWait);
  }
  bool ca = take("ca"), cg = take("cg");
  if (ca == cg)
    return unsupported();
  bool shared = take("shared") || take("shared::cta");
  bool global = take("global");
  if (!shared || !global)
    return fail("'", current->opcode, "' must copy from .global to .shared");
  bool policy = take("L2::cache_hint");
  takeCacheHints();
  if (!noModifiersLeft() || !operandsBetween(policy ? 4 : 3, policy ? 5 : 4))
    return false;
  const Operand &size = current->operands[2];
  if (size.kind != Operand::Integer ||
      (size.value != 4 && size.value != 8 && size.value != 16))
    return fail("'", current->opcode, "' copies 4, 8 or 16 bytes");
  if (cg && size.value != 16)
    return fail("'", current->opcode, "' copies 16 bytes; use .ca for ",
                size.value);
  inst.elementBytes = static_cast<uint8_t>(size.value);
  size_t extra = current->operands.size() - (policy ? 1 : 0);
  if (extra == 4) {
    const Operand &source = current->operands[3];
    bool negated = false;
    if (source.kind == Operand::Register &&
        function.registers[source.index].type == Type::Pred) {
      if (!predicateSource(source, inst.op[1], negated))
        return false;
      inst.flags = static_cast<uint8_t>(1 | (negated ? 2 : 0));
    } else if (!this->source(source, Type::U32, inst.op[1])) {
      return false;
    }
  }
  int64_t sharedOffset;
  bool wideShared, wideGlobal;
  if (!address(current->operands[0], Space::Shared, 0, sharedOffset,
               wideShared) ||
      !address(current->operands[1], Space::Global, 8, inst.imm, wideGlobal))
    return false;
  inst.target = static_cast<uint32_t>(sharedOffset);
  inst.wideAddress = wideShared;
  return setHandler(ops::asyncCopy);
}

bool Decoder::matrixMove(bool isStore) {
  inst.cls =
      isStore ? InstructionClass::MatrixStore : InstructionClass::MatrixLoad;
  inst.space = Space::Shared;
  if (!take("sync") || !take("aligned"))
    return fail("'", current->opcode, "' needs .sync.aligned");
  if (!take("m8n8"))
    return unsupported();
  unsigned count = take("x1") ? 1 : take("x2") ? 2 : take("x4") ? 4 : 0;
  inst.kind = take("trans");
  if (!take("shared") && !take("shared::cta"))
    inst.space = Space::Generic;
  if (!count || !modifiers.empty() || typeList.size() != 1 ||
      typeList[0] != Type::B16)
    return unsupported();
  inst.vector = static_cast<uint8_t>(count);
  if (!operands(2))
    return false;
  bool wide;
  return fragment(current->operands[isStore ? 1 : 0], count, Type::B32, 0,
                  !isStore) &&
         address(current->operands[isStore ? 0 : 1], inst.space, 8, inst.imm,
                 wide) &&
         (inst.wideAddress = wide, true) &&
         setHandler(isStore ? ops::storeMatrix : ops::loadMatrix);
}

bool Decoder::decodeLdmatrix() { return matrixMove(false); }
bool Decoder::decodeStmatrix() { return matrixMove(true); }

} // namespace delta::sim
