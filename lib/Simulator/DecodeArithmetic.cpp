//===- DecodeArithmetic.cpp - decoding of arithmetic ----------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Integer and floating instructions, moves, comparisons and conversions.
//
//===----------------------------------------------------------------------===//

#include "Decoder.h"

#include <algorithm>

namespace delta::sim {

using ptx::Operand;
using ptx::Type;

namespace {

bool isHalf(Type type) { return type >= Type::F16 && type <= Type::BF16x2; }
bool isPlainFloat(Type type) { return type == Type::F32 || type == Type::F64; }

/// The flags that OpsHalf.cpp reads.
uint8_t halfFlags(const Modifiers &m) {
  return static_cast<uint8_t>((m.ftz ? 1 : 0) | (m.sat ? 2 : 0) |
                              (m.relu ? 4 : 0) | (m.nan ? 8 : 0));
}

} // namespace

bool Decoder::decodeFloating(Op op, unsigned sources) {
  Type type = typeList[0];
  Modifiers m = floatModifiers();
  if (!noModifiersLeft() || !plain(sources, type))
    return false;
  if (isHalf(type)) {
    inst.cls = InstructionClass::Float16;
    inst.flags = halfFlags(m);
    return setHandler(selectors.half(op, type, m));
  }
  inst.cls =
      type == Type::F64 ? InstructionClass::Float64 : InstructionClass::Float32;
  inst.kind = static_cast<uint8_t>(op);
  inst.flags = static_cast<uint8_t>((m.ftz ? 1 : 0) | (m.sat ? 2 : 0) |
                                    (static_cast<unsigned>(m.rounding) << 2));
  return setHandler(selectors.floating(op, type, m));
}

bool Decoder::decodeArithmetic() {
  static const std::map<std::string_view, std::pair<Op, unsigned>> table = {
      {"add", {Op::Add, 2}}, {"sub", {Op::Sub, 2}}, {"min", {Op::Min, 2}},
      {"max", {Op::Max, 2}}, {"neg", {Op::Neg, 1}}, {"abs", {Op::Abs, 1}}};
  auto [op, sources] = table.at(base);
  if (!types(1))
    return false;
  Type type = typeList[0];
  if (ptx::isFloat(type))
    return decodeFloating(op, sources);
  if ((base == "add" || base == "sub") && take("cc")) {
    op = base == "add" ? Op::AddCc : Op::SubCc;
  }
  return noModifiersLeft() && plain(sources, type) &&
         setHandler(selectors.integer(op, type));
}

bool Decoder::decodeMul() {
  if (!types(1))
    return false;
  Type type = typeList[0];
  if (ptx::isFloat(type))
    return decodeFloating(Op::Mul, 2);
  if (take("wide")) {
    Type wide = ptx::sizeOf(type) == 2
                    ? (ptx::isSigned(type) ? Type::S32 : Type::U32)
                    : (ptx::isSigned(type) ? Type::S64 : Type::U64);
    return noModifiersLeft() && operands(3) &&
           destination(current->operands[0], wide, inst.op[0]) &&
           source(current->operands[1], type, inst.op[1]) &&
           source(current->operands[2], type, inst.op[2]) &&
           setHandler(selectors.integer(Op::MulWide, type));
  }
  Op op;
  if (take("lo"))
    op = Op::MulLo;
  else if (take("hi"))
    op = Op::MulHi;
  else
    return fail("'", current->opcode, "' needs .lo, .hi or .wide");
  return noModifiersLeft() && plain(2, type) &&
         setHandler(selectors.integer(op, type));
}

bool Decoder::decodeMad() {
  if (!types(1))
    return false;
  Type type = typeList[0];
  if (ptx::isFloat(type))
    return decodeFloating(Op::Fma, 3);
  if (take("wide")) {
    Type wide = ptx::sizeOf(type) == 2
                    ? (ptx::isSigned(type) ? Type::S32 : Type::U32)
                    : (ptx::isSigned(type) ? Type::S64 : Type::U64);
    return noModifiersLeft() && operands(4) &&
           destination(current->operands[0], wide, inst.op[0]) &&
           source(current->operands[1], type, inst.op[1]) &&
           source(current->operands[2], type, inst.op[2]) &&
           source(current->operands[3], wide, inst.op[3]) &&
           setHandler(selectors.integer(Op::MadWide, type));
  }
  Op op;
  if (take("lo"))
    op = Op::MadLo;
  else if (take("hi"))
    op = Op::MadHi;
  else
    return fail("'", current->opcode, "' needs .lo, .hi or .wide");
  return noModifiersLeft() && plain(3, type) &&
         setHandler(selectors.integer(op, type));
}

bool Decoder::decodeFma() {
  return types(1) && (ptx::isFloat(typeList[0]) || unsupported()) &&
         decodeFloating(Op::Fma, 3);
}

bool Decoder::decodeDiv() {
  if (!types(1))
    return false;
  if (!ptx::isFloat(typeList[0]))
    return decodeIntegerOnly();
  if (!decodeFloating(Op::Div, 2))
    return false;
  inst.cls = InstructionClass::Special;
  return true;
}

bool Decoder::decodeIntegerOnly() {
  Op op = base == "div" ? Op::Div : base == "rem" ? Op::Rem : Op::Sad;
  return types(1) && noModifiersLeft() &&
         plain(op == Op::Sad ? 3 : 2, typeList[0]) &&
         setHandler(selectors.integer(op, typeList[0]));
}

bool Decoder::decodeMul24() {
  // The upper bits of a 48-bit product are what .hi asks for: unused by now.
  if (!take("lo"))
    return unsupported();
  bool mad = base == "mad24";
  return types(1) && noModifiersLeft() && plain(mad ? 3 : 2, typeList[0]) &&
         setHandler(
             selectors.integer(mad ? Op::Mad24 : Op::Mul24, typeList[0]));
}

bool Decoder::decodeDp4a() {
  if (!types(2) || !noModifiersLeft() || !plain(3, Type::U32))
    return false;
  bool a = ptx::isSigned(typeList[0]), b = ptx::isSigned(typeList[1]);
  return setHandler(selectors.integer(a ? (b ? Op::Dp4aSS : Op::Dp4aSU)
                                        : (b ? Op::Dp4aUS : Op::Dp4aUU),
                                      Type::U32));
}

bool Decoder::decodeCarry() {
  bool cc = take("cc");
  Op op = base == "addc" ? (cc ? Op::AddcCc : Op::Addc)
                         : (cc ? Op::SubcCc : Op::Subc);
  return types(1) && noModifiersLeft() && plain(2, typeList[0]) &&
         setHandler(selectors.integer(op, typeList[0]));
}

bool Decoder::decodeLogic() {
  static const std::map<std::string_view, std::pair<Op, Op>> table = {
      {"and", {Op::And, Op::AndPred}},
      {"or", {Op::Or, Op::OrPred}},
      {"xor", {Op::Xor, Op::XorPred}},
      {"not", {Op::Not, Op::NotPred}},
      {"cnot", {Op::Cnot, Op::Cnot}}};
  auto [op, predicateOp] = table.at(base);
  bool one = op == Op::Not || op == Op::Cnot;
  if (!types(1) || !noModifiersLeft())
    return false;
  Type type = typeList[0];
  if (type != Type::Pred)
    return plain(one ? 1 : 2, type) && setHandler(selectors.integer(op, type));
  if (op == Op::Cnot)
    return unsupported();
  bool negated = false, second = false;
  if (!operands(one ? 2 : 3) ||
      !predicateDestination(current->operands[0], inst.op[0]) ||
      !predicateSource(current->operands[1], inst.op[1], negated) ||
      (!one && !predicateSource(current->operands[2], inst.op[2], second)))
    return false;
  inst.flags = static_cast<uint8_t>((negated ? 1 : 0) | (second ? 2 : 0));
  return setHandler(selectors.integer(predicateOp, type));
}

bool Decoder::decodeShift() {
  Op op = base == "shl" ? Op::Shl : Op::Shr;
  return types(1) && noModifiersLeft() && operands(3) &&
         destination(current->operands[0], typeList[0], inst.op[0]) &&
         source(current->operands[1], typeList[0], inst.op[1]) &&
         source(current->operands[2], Type::U32, inst.op[2]) &&
         setHandler(selectors.integer(op, typeList[0]));
}

bool Decoder::decodeShf() {
  bool left = take("l");
  if (!left && !take("r"))
    return fail("'", current->opcode, "' needs .l or .r");
  bool clamp = take("clamp");
  if (!clamp && !take("wrap"))
    return fail("'", current->opcode, "' needs .clamp or .wrap");
  return types(1) && noModifiersLeft() && plain(3, Type::B32) &&
         setHandler(selectors.integer(
             left ? (clamp ? Op::ShfLeftClamp : Op::ShfLeftWrap)
                  : (clamp ? Op::ShfRightClamp : Op::ShfRightWrap),
             Type::B32));
}

bool Decoder::decodeBitCount() {
  if (!types(1))
    return false;
  Type type = typeList[0];
  if (ptx::sizeOf(type) < 4)
    return unsupported();
  Op op = base == "popc"   ? Op::Popc
          : base == "clz"  ? Op::Clz
          : base == "brev" ? Op::Brev
                           : Op::Bfind;
  if (op == Op::Bfind && take("shiftamt"))
    op = Op::BfindShift;
  return noModifiersLeft() && operands(2) &&
         destination(current->operands[0], op == Op::Brev ? type : Type::U32,
                     inst.op[0]) &&
         source(current->operands[1], type, inst.op[1]) &&
         setHandler(selectors.integer(op, type));
}

bool Decoder::decodeBitField() {
  bool insert = base == "bfi";
  if (!types(1) || !noModifiersLeft() || !operands(insert ? 5 : 4))
    return false;
  Type type = typeList[0];
  unsigned values = insert ? 2 : 1;
  if (!destination(current->operands[0], type, inst.op[0]))
    return false;
  for (unsigned i = 1; i <= values; ++i)
    if (!source(current->operands[i], type, inst.op[i]))
      return false;
  for (unsigned i = values + 1; i <= values + 2; ++i)
    if (!source(current->operands[i], Type::U32, inst.op[i]))
      return false;
  return setHandler(selectors.integer(insert ? Op::Bfi : Op::Bfe, type));
}

bool Decoder::decodePrmt() {
  static const char *const modes[] = {"f4e", "b4e", "rc8",
                                      "ecl", "ecr", "rc16"};
  for (unsigned i = 0; i < std::size(modes); ++i)
    if (take(modes[i]))
      inst.kind = static_cast<uint8_t>(i + 1);
  if (!types(1) || !noModifiersLeft() || !plain(3, Type::B32))
    return false;
  // Bytes move unchanged, and a source that a constant selector does not name
  // is not read: compilers put there whatever they like.
  const Operand &selector = current->operands[3];
  if (selector.kind == Operand::Integer && inst.kind == 0) {
    regs.copies = true;
    bool named[2] = {false, false};
    for (unsigned n = 0; n < 16; n += 4)
      named[(selector.value >> (n + 2)) & 1] = true;
    for (unsigned i = 0; i < 2; ++i) {
      const Operand &operand = current->operands[1 + i];
      if (named[i] || operand.kind != Operand::Register)
        continue;
      auto it =
          std::find(regs.reads.rbegin(), regs.reads.rend(), operand.index);
      if (it != regs.reads.rend())
        regs.reads.erase(std::next(it).base());
    }
  }
  return setHandler(selectors.integer(Op::Prmt, Type::B32));
}

bool Decoder::decodeLop3() {
  if (!types(1) || !noModifiersLeft() || !operands(5))
    return false;
  const Operand &table = current->operands[4];
  if (table.kind != Operand::Integer || table.value < 0 || table.value > 255)
    return fail("the table of '", current->opcode,
                "' must be a constant from 0 to 255");
  inst.imm = table.value;
  if (!destination(current->operands[0], Type::B32, inst.op[0]))
    return false;
  for (unsigned i = 1; i <= 3; ++i)
    if (!source(current->operands[i], Type::B32, inst.op[i]))
      return false;
  return setHandler(selectors.integer(Op::Lop3, Type::B32));
}

bool Decoder::decodeSpecialFunction() {
  static const std::map<std::string_view, Op> table = {
      {"rcp", Op::Rcp}, {"sqrt", Op::Sqrt}, {"rsqrt", Op::Rsqrt},
      {"sin", Op::Sin}, {"cos", Op::Cos},   {"lg2", Op::Lg2},
      {"ex2", Op::Ex2}, {"tanh", Op::Tanh}};
  if (!types(1) || !decodeFloating(table.at(base), 1))
    return false;
  inst.cls = InstructionClass::Special;
  return true;
}

bool Decoder::decodeCopysign() {
  return types(1) && isPlainFloat(typeList[0]) &&
         decodeFloating(Op::Copysign, 2);
}

bool Decoder::decodeTestp() {
  static const char *const tests[] = {"finite",     "infinite", "number",
                                      "notanumber", "normal",   "subnormal"};
  bool found = false;
  for (unsigned i = 0; i < std::size(tests); ++i)
    if (take(tests[i])) {
      inst.kind = static_cast<uint8_t>(i);
      found = true;
    }
  if (!found || !types(1) || !isPlainFloat(typeList[0]))
    return unsupported();
  inst.cls = InstructionClass::Float32;
  return noModifiersLeft() && operands(2) &&
         predicateDestination(current->operands[0], inst.op[0]) &&
         source(current->operands[1], typeList[0], inst.op[1]) &&
         setHandler(selectors.floating(Op::Testp, typeList[0], Modifiers()));
}

// --- Moves and selections ----------------------------------------------------

bool Decoder::decodeMovVector() {
  const Operand &to = current->operands[0], &from = current->operands[1];
  bool unpack = to.kind == Operand::Vector;
  const Operand &vector = unpack ? to : from;
  const Operand &whole = unpack ? from : to;
  if (whole.kind == Operand::Vector)
    return fail("'", current->opcode, "' moves between a vector and a scalar");
  Type type = typeList[0];
  size_t count = vector.elements.size();
  unsigned bytes = ptx::sizeOf(type);
  if ((count != 2 && count != 4) || bytes % count != 0)
    return fail("a value of type .", ptx::nameOf(type), " does not split into ",
                count, " parts");
  unsigned part = bytes / static_cast<unsigned>(count);
  Type partType = part == 1 ? Type::B8 : part == 2 ? Type::B16 : Type::B32;
  inst.vector = static_cast<uint8_t>(count);
  inst.elementBytes = static_cast<uint8_t>(part);
  regs.copies = true;
  if (unpack) {
    if (!source(whole, type, inst.op[0]))
      return false;
    for (size_t i = 0; i < count; ++i) {
      bool wide;
      if (vector.elements[i].kind == Operand::Sink)
        continue;
      if (part == 1
              ? !wideDestination(vector.elements[i], partType, inst.op[1 + i],
                                 wide)
              : !destination(vector.elements[i], partType, inst.op[1 + i]))
        return false;
    }
    return setHandler(selectors.integer(Op::Unpack, type));
  }
  if (!destination(whole, type, inst.op[0]))
    return false;
  for (size_t i = 0; i < count; ++i) {
    bool wide;
    if (part == 1
            ? !wideSource(vector.elements[i], partType, inst.op[1 + i], wide)
            : !source(vector.elements[i], partType, inst.op[1 + i]))
      return false;
  }
  return setHandler(selectors.integer(Op::Pack, type));
}

bool Decoder::decodeMov() {
  inst.cls = InstructionClass::Move;
  if (!types(1) || !noModifiersLeft() || !operands(2))
    return false;
  Type type = typeList[0];
  const Operand &to = current->operands[0], &from = current->operands[1];
  if (type == Type::Pred) {
    bool negated = false;
    if (!predicateDestination(to, inst.op[0]) ||
        !predicateSource(from, inst.op[1], negated))
      return false;
    inst.flags = negated;
    regs.copies = true;
    return setHandler(selectors.integer(Op::MovPred, type));
  }
  if (to.kind == Operand::Vector || from.kind == Operand::Vector)
    return decodeMovVector();
  if (from.kind == Operand::Special) {
    static const std::map<std::string_view, unsigned> clocks = {
        {"%clock", 0},       {"%clock_hi", 1},       {"%clock64", 2},
        {"%globaltimer", 3}, {"%globaltimer_lo", 0}, {"%globaltimer_hi", 1}};
    auto it = clocks.find(from.text);
    if (it != clocks.end()) {
      inst.kind = static_cast<uint8_t>(it->second);
      inst.flags = ptx::sizeOf(type) == 8;
      return destination(to, type, inst.op[0]) && setHandler(ops::clock);
    }
    // Dimensions once were 16 bits wide.
    if (ptx::sizeOf(type) == 2) {
      bool wide;
      return source(from, Type::U32, inst.op[1]) &&
             wideDestination(to, type, inst.op[0], wide) &&
             setHandler(selectors.integer(Op::Mov, Type::B16));
    }
  }
  regs.copies = true;
  return destination(to, type, inst.op[0]) && source(from, type, inst.op[1]) &&
         setHandler(selectors.integer(Op::Mov, type));
}

bool Decoder::decodeSelp() {
  inst.cls = InstructionClass::Move;
  bool negated = false;
  if (!types(1) || !noModifiersLeft() || !operands(4) ||
      !destination(current->operands[0], typeList[0], inst.op[0]) ||
      !source(current->operands[1], typeList[0], inst.op[1]) ||
      !source(current->operands[2], typeList[0], inst.op[2]) ||
      !predicateSource(current->operands[3], inst.op[3], negated))
    return false;
  inst.flags = negated;
  return setHandler(selectors.integer(Op::Selp, typeList[0]));
}

bool Decoder::decodeSlct() {
  inst.cls = InstructionClass::Move;
  bool ftz = take("ftz");
  if (!types(2) || !noModifiersLeft() || !operands(4))
    return false;
  Type selector = typeList[1];
  if (selector != Type::S32 && selector != Type::F32)
    return unsupported();
  inst.flags =
      static_cast<uint8_t>((selector == Type::F32 ? 1 : 0) | (ftz ? 2 : 0));
  return destination(current->operands[0], typeList[0], inst.op[0]) &&
         source(current->operands[1], typeList[0], inst.op[1]) &&
         source(current->operands[2], typeList[0], inst.op[2]) &&
         source(current->operands[3], selector, inst.op[3]) &&
         setHandler(selectors.integer(Op::Slct, typeList[0]));
}

// --- Comparisons -------------------------------------------------------------

bool Decoder::decodeCompare(bool isSet) {
  static const char *const comparisons[] = {
      "eq", "ne",  "lt",  "le",  "gt",  "ge",  "lo",  "ls",  "hi",
      "hs", "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan"};
  bool ftz = take("ftz");
  bool found = false;
  Compare compare = Compare::Eq;
  for (unsigned i = 0; i < std::size(comparisons) && !found; ++i)
    if (take(comparisons[i])) {
      compare = static_cast<Compare>(i);
      found = true;
    }
  if (!found)
    return fail("'", current->opcode, "' names no comparison");
  BoolOp combine = take("and")   ? BoolOp::And
                   : take("or")  ? BoolOp::Or
                   : take("xor") ? BoolOp::Xor
                                 : BoolOp::None;
  unsigned count = combine == BoolOp::None ? 3 : 4;
  if (!noModifiersLeft() || !types(isSet ? 2 : 1) || !operands(count))
    return false;
  Type type = typeList[isSet ? 1 : 0];
  inst.cls = ptx::isFloat(type) ? InstructionClass::Float32
                                : InstructionClass::Integer;
  inst.kind = static_cast<uint8_t>(combine);
  const Operand &to = current->operands[0];
  if (isSet) {
    Type result = typeList[0];
    if (ptx::sizeOf(result) != 4)
      return unsupported();
    inst.flags = static_cast<uint8_t>(2 | (result == Type::F32 ? 4 : 0));
    if (!destination(to, result, inst.op[0]))
      return false;
  } else if (to.kind == Operand::Pair) {
    for (unsigned i = 0; i < 2; ++i)
      if (!predicateDestination(to.elements[i], inst.op[i]))
        return false;
  } else if (!predicateDestination(to, inst.op[0])) {
    return false;
  }
  if (!source(current->operands[1], type, inst.op[2]) ||
      !source(current->operands[2], type, inst.op[3]))
    return false;
  if (combine != BoolOp::None) {
    bool negated = false;
    if (!predicateSource(current->operands[3], inst.op[4], negated))
      return false;
    inst.flags |= negated;
  }
  return setHandler(selectors.compare(compare, type, ftz));
}

// --- Conversions -------------------------------------------------------------

bool Decoder::decodeCvt() {
  inst.cls = InstructionClass::Convert;
  Modifiers m = floatModifiers();
  static const std::pair<const char *, Rounding> integral[] = {
      {"rni", Rounding::Rn},
      {"rzi", Rounding::Rz},
      {"rmi", Rounding::Rm},
      {"rpi", Rounding::Rp}};
  for (auto [name, rounding] : integral)
    if (take(name)) {
      m.rounding = rounding;
      m.toInteger = true;
    }
  if (take("satfinite"))
    return unsupported();
  if (!noModifiersLeft() || !types(2))
    return false;
  Type to = typeList[0], from = typeList[1];
  if (to == Type::F16x2 || to == Type::BF16x2) {
    if (from != Type::F32 ||
        (m.rounding != Rounding::Rn && m.rounding != Rounding::Rz) || m.sat ||
        m.toInteger)
      return unsupported();
    return operands(3) && destination(current->operands[0], to, inst.op[0]) &&
           source(current->operands[1], from, inst.op[1]) &&
           source(current->operands[2], from, inst.op[2]) &&
           setHandler(selectors.convertPair(to, m));
  }
  if (ptx::sizeOf(to) > 8 || ptx::sizeOf(from) > 8 || from == Type::Pred ||
      to == Type::Pred || from == Type::F16x2 || from == Type::BF16x2 ||
      from == Type::TF32 || from == Type::U16x2 || to == Type::U16x2)
    return unsupported();
  // The ISA wants a rounding where something can be lost.
  bool narrows = ptx::isFloat(to) && ptx::isFloat(from) &&
                 ptx::sizeOf(to) < ptx::sizeOf(from);
  bool crosses = ptx::isFloat(to) != ptx::isFloat(from);
  if ((narrows || crosses) && m.rounding == Rounding::None)
    return fail("'", current->opcode, "' needs a rounding, such as .",
                ptx::isFloat(to) ? "rn" : "rzi");
  if (!ptx::isFloat(to) && crosses && !m.toInteger)
    return fail("'", current->opcode,
                "' needs an integer rounding: .rni, .rzi, .rmi or .rpi");
  if (!ptx::isFloat(to))
    m.toInteger = false; // implied
  bool wideTo, wideFrom;
  if (!operands(2) ||
      !wideDestination(current->operands[0], to, inst.op[0], wideTo) ||
      !wideSource(current->operands[1], from, inst.op[1], wideFrom))
    return false;
  inst.kind = static_cast<uint8_t>(to);
  inst.flags = static_cast<uint8_t>(from);
  inst.imm = int64_t(m.rounding) | (m.ftz ? 16 : 0) | (m.sat ? 32 : 0) |
             (m.relu ? 64 : 0) | (m.toInteger ? 128 : 0);
  const Operand &d = current->operands[0];
  if (d.kind == Operand::Register &&
      ptx::sizeOf(function.registers[d.index].type) <= 2)
    inst.vector = 2; // results are cut to 16 bits
  return setHandler(selectors.convert(to, from, m, wideTo, wideFrom));
}

bool Decoder::decodeCvta() {
  inst.cls = InstructionClass::Move;
  inst.kind = take("to");
  if (!takeSpace(inst.space) || !noModifiersLeft() || !types(1) || !operands(2))
    return false;
  if (ptx::sizeOf(typeList[0]) != 8)
    return fail("'", current->opcode, "' needs 64 bits");
  return destination(current->operands[0], Type::U64, inst.op[0]) &&
         source(current->operands[1], Type::U64, inst.op[1]) &&
         setHandler(ops::convertAddress);
}

bool Decoder::decodeIsspacep() {
  return takeSpace(inst.space) && noModifiersLeft() && operands(2) &&
         predicateDestination(current->operands[0], inst.op[0]) &&
         source(current->operands[1], Type::U64, inst.op[1]) &&
         setHandler(ops::isSpace);
}

} // namespace delta::sim
