//===- Ops.h - selection of instruction handlers ----------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What the decoder asks for and the files of handlers answer. Arithmetic is
// compiled once for any processor and, on x86-64, once more for AVX2; both
// compute the same bits.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_LIB_SIMULATOR_OPS_H
#define DELTA_LIB_SIMULATOR_OPS_H

#include "Program.h"

namespace delta::sim {

enum class Op : uint8_t {
  // Integer.
  Add,
  Sub,
  MulLo,
  MulHi,
  MulWide,
  MadLo,
  MadHi,
  MadWide,
  Mul24,
  Mad24,
  Sad,
  Div,
  Rem,
  Abs,
  Neg,
  Min,
  Max,
  And,
  Or,
  Xor,
  Not,
  Cnot,
  Shl,
  Shr,
  ShfLeftWrap,
  ShfLeftClamp,
  ShfRightWrap,
  ShfRightClamp,
  Popc,
  Clz,
  Bfind,
  BfindShift,
  Brev,
  Bfe,
  Bfi,
  Prmt,
  Lop3,
  AddCc,
  Addc,
  AddcCc,
  SubCc,
  Subc,
  SubcCc,
  Dp4aUU,
  Dp4aUS,
  Dp4aSU,
  Dp4aSS,
  // Floating.
  Mul,
  Fma,
  Rcp,
  Sqrt,
  Rsqrt,
  Sin,
  Cos,
  Lg2,
  Ex2,
  Tanh,
  Copysign,
  Testp,
  // Any.
  Mov,
  Selp,
  Slct,
  Pack,
  Unpack,
  MovPred,
  AndPred,
  OrPred,
  XorPred,
  NotPred
};

enum class Rounding : uint8_t { None, Rn, Rz, Rm, Rp, Rna };

struct Modifiers {
  Rounding rounding = Rounding::None;
  bool ftz = false, sat = false, approx = false, nan = false, relu = false;
  bool toInteger = false; ///< .rni and friends
};

enum class Compare : uint8_t {
  Eq,
  Ne,
  Lt,
  Le,
  Gt,
  Ge,
  Lo,
  Ls,
  Hi,
  Hs,
  Equ,
  Neu,
  Ltu,
  Leu,
  Gtu,
  Geu,
  Num,
  Nan
};

enum class BoolOp : uint8_t { None, And, Or, Xor };

/// Handlers of arithmetic; null for a combination the ISA does not have.
struct OpSelectors {
  /// op[0] = f(op[1], op[2], op[3]) on integers; predicates and moves too.
  Handler (*integer)(Op op, ptx::Type type);
  /// The same on f32 and f64.
  Handler (*floating)(Op op, ptx::Type type, const Modifiers &modifiers);
  /// The same on f16, bf16 and pairs of them.
  Handler (*half)(Op op, ptx::Type type, const Modifiers &modifiers);
  /// op[0] | op[1] = compare(op[2], op[3]) combined with predicate op[4], which
  /// inst.flags negates, by inst.kind (a BoolOp). With `set`, op[0] is a
  /// register of type `to`.
  Handler (*compare)(Compare compare, ptx::Type type, bool ftz);
  /// op[0] = convert(op[1]); the slots' widths may differ from the types'.
  Handler (*convert)(ptx::Type to, ptx::Type from, const Modifiers &modifiers,
                     bool wideTo, bool wideFrom);
  /// op[0] = two converted values, op[1] in the upper half.
  Handler (*convertPair)(ptx::Type to, const Modifiers &modifiers);
  /// mma.sync: accumulators op[0..], then A, B and C; see OpsMatrix.cpp.
  Handler (*mma)(unsigned k, ptx::Type input, ptx::Type accumulator);
};

const OpSelectors &opSelectorsBase();
#ifdef DELTA_SIM_HAS_AVX2
const OpSelectors &opSelectorsAvx2();
#endif

/// The set for this processor.
const OpSelectors &opSelectors();

} // namespace delta::sim

#endif // DELTA_LIB_SIMULATOR_OPS_H
