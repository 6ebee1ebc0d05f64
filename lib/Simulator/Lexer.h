//===- Lexer.h - tokens of PTX ----------------------------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Splits PTX text into identifiers (opcodes and directives with their dots),
// literals and punctuation.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_LIB_SIMULATOR_LEXER_H
#define DELTA_LIB_SIMULATOR_LEXER_H

#include <cstdint>
#include <string_view>

namespace delta::sim::ptx {

struct Token {
  enum Kind : uint8_t {
    End,
    Identifier, ///< also directives (".reg") and specials ("%tid.x")
    Integer,    ///< value
    Float,      ///< value: the bits of a double
    Float32,    ///< value: the bits of a float
    String,     ///< text without quotes
    Punctuation,
    Bad ///< text: a byte that starts no token, or a bad literal
  };
  Kind kind = End;
  std::string_view text;
  uint64_t value = 0;
  uint32_t line = 1, column = 1;

  bool is(char c) const {
    return kind == Punctuation && text.size() == 1 && text[0] == c;
  }
  bool is(std::string_view word) const {
    return kind == Identifier && text == word;
  }
};

class Lexer {
public:
  explicit Lexer(std::string_view text) : text(text) {}

  /// The next token; End at the end, again and again.
  Token next();

  /// Skips the rest of the line `line` (for directives that end with it) when
  /// still on it.
  void skipLine(uint32_t onLine);

private:
  void skipBlanks();
  Token number(Token token);

  std::string_view text;
  size_t pos = 0;
  uint32_t line = 1;
  size_t lineStart = 0;
};

} // namespace delta::sim::ptx

#endif // DELTA_LIB_SIMULATOR_LEXER_H
