//===- Decoder.h - from syntax to executable form ---------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Decodes one kernel: opcodes are taken apart, operands checked and resolved,
// handlers chosen. What is not understood is an error that names the place.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_LIB_SIMULATOR_DECODER_H
#define DELTA_LIB_SIMULATOR_DECODER_H

#include "Ops.h"
#include "Parser.h"
#include "WarpOps.h"

#include <map>

namespace delta::sim {

/// Fills in the targets where divergent branches meet again, and which
/// registers may be read before they are written.
void analyzeControlFlow(KernelProgram &program);

class Decoder {
public:
  Decoder(const ptx::File &file, const ptx::Function &function);

  runtime::Status decode(KernelProgram &result);

private:
  using Operand = ptx::Operand;
  using Type = ptx::Type;

  // --- The opcode ------------------------------------------------------------

  /// Splits the opcode into base, types and other modifiers.
  void split();
  /// Removes a modifier; false when it is not there.
  bool take(std::string_view modifier);
  /// Removes the first modifier that starts with `prefix`.
  bool takePrefix(std::string_view prefix, std::string_view *whole = nullptr);
  /// An error unless all modifiers were taken.
  bool noModifiersLeft();
  /// An error unless there are so many operands and types.
  bool operands(unsigned count);
  bool operandsBetween(unsigned least, unsigned most);
  bool types(unsigned count);
  Modifiers floatModifiers();

  // --- Operands --------------------------------------------------------------

  template <typename... Parts> bool fail(const Parts &...parts) {
    if (status.ok())
      status = runtime::Status::error(
          ptx::place(file, current->line, current->column), parts...);
    return false;
  }
  bool unsupported();
  std::string describe(const Operand &operand) const;

  uint32_t slotOfRegister(uint32_t index);
  uint32_t constant(uint64_t bits, bool wide);
  uint32_t special(Special special, bool wide);
  uint32_t allocate(bool wide);
  void read(uint32_t registerIndex) { regs.reads.push_back(registerIndex); }
  void write(uint32_t registerIndex) { regs.writes.push_back(registerIndex); }

  /// The bits of an immediate as a value of `type`.
  bool immediate(const Operand &operand, Type type, uint64_t &bits);
  /// A register, immediate or special register of the type's size.
  bool source(const Operand &operand, Type type, uint32_t &slot);
  /// A register of the type's size; `_` goes to a slot that nobody reads.
  bool destination(const Operand &operand, Type type, uint32_t &slot);
  /// The slot of a register at least as wide as the type; false for every
  /// other operand.
  bool wideRegister(const Operand &operand, Type type, uint32_t &slot,
                    bool &wide);
  /// Registers at least as wide as the type, as ld, st and cvt allow.
  bool wideSource(const Operand &operand, Type type, uint32_t &slot,
                  bool &wide);
  bool wideDestination(const Operand &operand, Type type, uint32_t &slot,
                       bool &wide);
  bool predicateSource(const Operand &operand, uint32_t &number, bool &negated);
  bool predicateDestination(const Operand &operand, uint32_t &number);
  /// [base + offset] into op[field] and imm.
  bool address(const Operand &operand, ptx::Space space, unsigned field,
               int64_t &offset, bool &wide);
  bool variableAddress(const Operand &operand, uint64_t &offset,
                       uint32_t &globalVariable, ptx::Space &space);
  /// The space a variable lies in: .param variables of the body are local.
  ptx::Space spaceOf(const Operand &variable) const;
  bool label(const Operand &operand, uint32_t &target);
  /// 16-bit or packed registers for fragments.
  bool fragment(const Operand &operand, unsigned count, Type type,
                unsigned field, bool isDestination);

  /// op[0] = op[1..count] of one type.
  bool plain(unsigned sources, Type type);
  bool setHandler(Handler handler);

  // --- Instructions ----------------------------------------------------------

  using Method = bool (Decoder::*)();
  static const std::map<std::string_view, Method> &methods();
  bool decodeInstruction();

  bool decodeArithmetic();
  bool decodeFloating(Op op, unsigned sources);
  bool decodeMul();
  bool decodeMad();
  bool decodeFma();
  bool decodeDiv();
  bool decodeIntegerOnly();
  bool decodeMul24();
  bool decodeDp4a();
  bool decodeCarry();
  bool decodeLogic();
  bool decodeShift();
  bool decodeShf();
  bool decodeBitCount();
  bool decodeBitField();
  bool decodePrmt();
  bool decodeLop3();
  bool decodeSpecialFunction();
  bool decodeCopysign();
  bool decodeTestp();
  bool decodeMov();
  bool decodeMovVector();
  bool decodeSelp();
  bool decodeSlct();
  bool decodeCompare(bool isSet);
  bool decodeSetp() { return decodeCompare(false); }
  bool decodeSet() { return decodeCompare(true); }
  bool decodeCvt();
  bool decodeCvta();
  bool decodeIsspacep();

  bool decodeLd();
  bool decodeSt();
  bool memoryAccess(bool isStore);
  bool decodeAtom();
  bool decodeRed();
  bool atomic(bool returns);
  bool decodePrefetch();
  bool decodeCreatePolicy();
  bool decodeCp();
  bool decodeLdmatrix();
  bool decodeStmatrix();
  bool matrixMove(bool isStore);
  bool takeSpace(ptx::Space &space);
  void takeCacheHints();

  bool decodeMma();
  bool decodeMovmatrix();
  bool decodeBra();
  bool decodeBrx();
  bool decodeExit();
  bool decodeTrap();
  bool decodeNothing();
  bool decodeBar();
  bool decodeShfl();
  bool decodeVote();
  bool decodeMatch();
  bool decodeRedux();
  bool decodeActivemask();
  bool decodeElect();
  bool decodeUnsupported() { return unsupported(); }

  void layOut();
  void findVariables(const Operand &operand);

  const ptx::File &file;
  const ptx::Function &function;
  const OpSelectors &selectors = opSelectors();
  runtime::Status status;
  KernelProgram *program = nullptr;

  // The instruction at work.
  const ptx::Instruction *current = nullptr;
  Inst inst;
  InstRegisters regs;
  std::string_view base;
  std::vector<std::string_view> modifiers;
  std::vector<Type> typeList;

  // The register file.
  std::vector<uint32_t> registerSlots; ///< kNone: not yet placed
  std::map<std::pair<bool, uint64_t>, uint32_t> constants;
  std::map<std::pair<bool, uint32_t>, uint32_t> globalConstants;
  std::map<std::pair<Special, bool>, uint32_t> specials;
  uint32_t junk[2] = {kNone, kNone};
  uint32_t junkPredicate = kNone;

  // Addresses of variables: of the function's, and the module's shared ones.
  std::vector<uint64_t> localOffsets;
  std::map<uint32_t, uint64_t> moduleShared;
  std::vector<uint32_t> sharedUsed;
};

} // namespace delta::sim

#endif // DELTA_LIB_SIMULATOR_DECODER_H
