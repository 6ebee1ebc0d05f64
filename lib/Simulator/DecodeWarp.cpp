//===- DecodeWarp.cpp - control flow and warp instructions ----------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Branches, barriers, exchange between lanes, and mma.
//
//===----------------------------------------------------------------------===//

#include "Decoder.h"

namespace delta::sim {

using ptx::Operand;
using ptx::Type;

bool Decoder::decodeBra() {
  inst.cls = InstructionClass::Control;
  inst.always = true;
  inst.uniform = take("uni");
  return noModifiersLeft() && operands(1) &&
         label(current->operands[0], inst.target) && setHandler(ops::branch);
}

bool Decoder::decodeBrx() {
  inst.cls = InstructionClass::Control;
  inst.always = true;
  take("uni");
  if (!take("idx") || !noModifiersLeft() || !operands(2) ||
      !source(current->operands[0], Type::U32, inst.op[0]))
    return status.ok() ? unsupported() : false;
  const Operand &table = current->operands[1];
  if (table.kind != Operand::Label ||
      function.labels[table.index].branchTargets.empty())
    return fail(describe(table), " is not a list of branch targets");
  BranchTable targets;
  for (uint32_t index : function.labels[table.index].branchTargets) {
    int64_t at = function.labels[index].target;
    if (at < 0)
      return fail("label '", function.labels[index].name, "' is not defined");
    targets.push_back(static_cast<uint32_t>(at));
  }
  inst.imm = static_cast<int64_t>(program->branchTables.size());
  program->branchTables.push_back(std::move(targets));
  return setHandler(ops::branchIndexed);
}

bool Decoder::decodeExit() {
  inst.cls = InstructionClass::Control;
  take("uni");
  return noModifiersLeft() && operands(0) && setHandler(ops::exit);
}

bool Decoder::decodeTrap() {
  inst.cls = InstructionClass::Control;
  return noModifiersLeft() && operands(0) && setHandler(ops::trap);
}

bool Decoder::decodeNothing() {
  inst.cls = base == "membar" || base == "fence" ? InstructionClass::Barrier
                                                 : InstructionClass::Control;
  return setHandler(ops::nothing);
}

bool Decoder::decodeBar() {
  inst.cls = InstructionClass::Barrier;
  bool bar = base == "bar";
  take("cta");
  if (take("cluster"))
    return unsupported();
  if (take("warp")) {
    return take("sync") && noModifiersLeft() && operands(1) &&
           source(current->operands[0], Type::U32, inst.op[0]) &&
           setHandler(ops::warpBarrier);
  }
  bool sync = take("sync"), arrive = take("arrive"), red = take("red");
  bool aligned = take("aligned") || bar;
  inst.flags = static_cast<uint8_t>((arrive ? 1 : 0) | (aligned ? 2 : 0));
  if (int(sync) + int(arrive) + int(red) != 1)
    return unsupported();
  unsigned first = 0;
  if (red) {
    if (take("popc"))
      inst.kind = 1;
    else if (take("and"))
      inst.kind = 2;
    else if (take("or"))
      inst.kind = 3;
    else
      return unsupported();
    if (!types(1) || !operandsBetween(3, 4))
      return false;
    if (inst.kind == 1
            ? !destination(current->operands[0], Type::U32, inst.op[2])
            : !predicateDestination(current->operands[0], inst.op[2]))
      return false;
    bool negated = false;
    if (!predicateSource(current->operands.back(), inst.op[3], negated))
      return false;
    inst.flags |= negated ? 4 : 0;
    first = 1;
  }
  size_t ids = current->operands.size() - (red ? 2 : 0);
  if (!noModifiersLeft())
    return false;
  if (ids < 1 || ids > 2 || (arrive && ids != 2))
    return fail("'", current->opcode, "' needs a barrier",
                arrive ? " and a number of threads" : "");
  return source(current->operands[first], Type::U32, inst.op[0]) &&
         (ids < 2 ||
          source(current->operands[first + 1], Type::U32, inst.op[1])) &&
         setHandler(ops::barrier);
}

bool Decoder::decodeShfl() {
  inst.cls = InstructionClass::Shuffle;
  if (!take("sync"))
    return fail("'", current->opcode,
                "' without .sync does not exist on these machines");
  if (take("up"))
    inst.kind = 0;
  else if (take("down"))
    inst.kind = 1;
  else if (take("bfly"))
    inst.kind = 2;
  else if (take("idx"))
    inst.kind = 3;
  else
    return unsupported();
  if (!noModifiersLeft() || !types(1) || !operands(5))
    return false;
  const Operand &to = current->operands[0];
  const Operand *value = &to;
  if (to.kind == Operand::Pair) {
    value = &to.elements[0];
    if (!predicateDestination(to.elements[1], inst.op[1]))
      return false;
  }
  if (!destination(*value, Type::B32, inst.op[0]) ||
      !source(current->operands[1], Type::B32, inst.op[2]))
    return false;
  for (unsigned i = 2; i <= 4; ++i)
    if (!source(current->operands[i], Type::U32, inst.op[i + 1]))
      return false;
  return setHandler(ops::shuffle);
}

bool Decoder::decodeVote() {
  inst.cls = InstructionClass::Shuffle;
  if (!take("sync"))
    return fail("'", current->opcode,
                "' without .sync does not exist on these machines");
  if (take("all"))
    inst.kind = 0;
  else if (take("any"))
    inst.kind = 1;
  else if (take("uni"))
    inst.kind = 2;
  else if (take("ballot"))
    inst.kind = 3;
  else
    return unsupported();
  bool negated = false;
  if (!noModifiersLeft() || !types(1) || !operands(3) ||
      (inst.kind == 3
           ? !destination(current->operands[0], Type::B32, inst.op[0])
           : !predicateDestination(current->operands[0], inst.op[0])) ||
      !predicateSource(current->operands[1], inst.op[1], negated) ||
      !source(current->operands[2], Type::U32, inst.op[2]))
    return false;
  inst.flags = negated;
  return setHandler(ops::vote);
}

bool Decoder::decodeMatch() {
  inst.cls = InstructionClass::Shuffle;
  bool all = take("all");
  if ((!all && !take("any")) || !take("sync") || !types(1) || !operands(3))
    return status.ok() ? unsupported() : false;
  const Operand &to = current->operands[0];
  const Operand *value = &to;
  if (to.kind == Operand::Pair) {
    value = &to.elements[0];
    if (!predicateDestination(to.elements[1], inst.op[1]))
      return false;
  }
  inst.flags = static_cast<uint8_t>((all ? 1 : 0) |
                                    (ptx::sizeOf(typeList[0]) == 8 ? 2 : 0));
  return noModifiersLeft() && destination(*value, Type::B32, inst.op[0]) &&
         source(current->operands[1], typeList[0], inst.op[2]) &&
         source(current->operands[2], Type::U32, inst.op[3]) &&
         setHandler(ops::match);
}

bool Decoder::decodeRedux() {
  inst.cls = InstructionClass::Shuffle;
  static const char *const names[] = {"add", "min", "max", "and", "or", "xor"};
  bool found = false;
  for (unsigned i = 0; i < std::size(names); ++i)
    if (take(names[i])) {
      inst.kind = static_cast<uint8_t>(i);
      found = true;
    }
  if (!found || !take("sync") || !types(1) || ptx::isFloat(typeList[0]) ||
      ptx::sizeOf(typeList[0]) != 4)
    return status.ok() ? unsupported() : false;
  inst.flags = ptx::isSigned(typeList[0]);
  return noModifiersLeft() && operands(3) &&
         destination(current->operands[0], Type::B32, inst.op[0]) &&
         source(current->operands[1], Type::B32, inst.op[1]) &&
         source(current->operands[2], Type::U32, inst.op[2]) &&
         setHandler(ops::redux);
}

bool Decoder::decodeActivemask() {
  inst.cls = InstructionClass::Shuffle;
  return noModifiersLeft() && operands(1) &&
         destination(current->operands[0], Type::B32, inst.op[0]) &&
         setHandler(ops::activemask);
}

bool Decoder::decodeElect() {
  inst.cls = InstructionClass::Shuffle;
  if (!take("sync") || !noModifiersLeft() || !operands(2))
    return status.ok() ? unsupported() : false;
  const Operand &to = current->operands[0];
  if (to.kind != Operand::Pair)
    return fail("the result of '", current->opcode, "' is d|p");
  return destination(to.elements[0], Type::B32, inst.op[0]) &&
         predicateDestination(to.elements[1], inst.op[1]) &&
         source(current->operands[1], Type::U32, inst.op[2]) &&
         setHandler(ops::elect);
}

bool Decoder::decodeMovmatrix() {
  inst.cls = InstructionClass::Shuffle;
  if (!take("sync") || !take("aligned") || !take("m8n8") || !take("trans") ||
      !noModifiersLeft() || !types(1) || typeList[0] != Type::B16)
    return status.ok() ? unsupported() : false;
  return plain(1, Type::B32) && setHandler(ops::movmatrix);
}

bool Decoder::decodeMma() {
  inst.cls = InstructionClass::Mma;
  if (!take("sync") || !take("aligned"))
    return fail("'", current->opcode, "' needs .sync.aligned");
  unsigned k = take("m16n8k16")  ? 16
               : take("m16n8k8") ? 8
               : take("m16n8k4") ? 4
                                 : 0;
  if (!k || !take("row") || !take("col") || !noModifiersLeft())
    return status.ok() ? unsupported() : false;
  // .dtype.atype.btype.ctype
  if (!types(4) || !operands(4))
    return false;
  Type d = typeList[0], a = typeList[1], b = typeList[2], c = typeList[3];
  if (a != b || c != d || (d != Type::F32 && d != Type::F16))
    return unsupported();
  bool half = d == Type::F16;
  bool packed = a == Type::F16 || a == Type::BF16;
  if (!packed && a != Type::TF32)
    return unsupported();
  unsigned tiles = k / (packed ? 8 : 4);
  unsigned accumulators = half ? 2 : 4;
  Type accumulatorType = half ? Type::B32 : Type::F32;
  unsigned atA = accumulators, atB = atA + 2 * tiles, atC = atB + tiles;
  if (!setHandler(selectors.mma(k, a, d)))
    return false;
  inst.flops = 16 * 8 * k * 2;
  return fragment(current->operands[0], accumulators, accumulatorType, 0,
                  true) &&
         fragment(current->operands[1], 2 * tiles, Type::B32, atA, false) &&
         fragment(current->operands[2], tiles, Type::B32, atB, false) &&
         fragment(current->operands[3], accumulators, accumulatorType, atC,
                  false);
}

} // namespace delta::sim
