//===- Lexer.h - tokens of the spec language --------------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Splits a buffer into tokens. Bytes that belong to no token are reported here
// and handed on as a Bad token, about which the parser says nothing more.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_LIB_SPEC_LEXER_H
#define DELTA_LIB_SPEC_LEXER_H

#include "delta/Spec/Diagnostics.h"

namespace delta::spec {

struct Token {
  enum class Kind {
    End,
    /// Bytes that are no token; already reported.
    Bad,
    /// A name that is no keyword; `x` and the function names among them.
    Identifier,
    Number,
    // Keywords.
    Recurrence,
    Dim,
    In,
    Param,
    Attr,
    State,
    Let,
    Out,
    For,
    Scalar,
    Inf,
    // Punctuation.
    LBrace,
    RBrace,
    LBracket,
    RBracket,
    LParen,
    RParen,
    Comma,
    Colon,
    Semicolon,
    Equal,
    Plus,
    Minus,
    Star,
    Slash,
    DotStar,
    DotSlash,
    Caret,
    Quote
  };

  Kind kind = Kind::End;
  llvm::StringRef text;
  /// Number: its value.
  double value = 0;
  /// Whether a newline stands between the token before and this one.
  bool startsLine = false;

  bool is(Kind k) const { return kind == k; }
  template <typename... Kinds> bool isAny(Kinds... kinds) const {
    return ((kind == kinds) || ...);
  }
  bool isIdentifier(llvm::StringRef name) const {
    return kind == Kind::Identifier && text == name;
  }
  bool isKeyword() const {
    return kind >= Kind::Recurrence && kind <= Kind::Inf;
  }
  llvm::SMLoc getLoc() const {
    return llvm::SMLoc::getFromPointer(text.begin());
  }
  llvm::SMLoc getEnd() const { return llvm::SMLoc::getFromPointer(text.end()); }
  llvm::SMRange getRange() const { return {getLoc(), getEnd()}; }
};

/// How a token is called in `expected ...`: `'{'`, `a name`.
llvm::StringRef describe(Token::Kind kind);
/// How a token is called in `found ...`: quoted text, or `end of file`.
std::string describe(const Token &token);

/// Whether `name` is a keyword or another reserved word; functions included.
bool isReserved(llvm::StringRef name);
/// The keywords of the language.
llvm::ArrayRef<llvm::StringRef> getKeywords();

class Lexer {
public:
  /// `text` must be followed by a readable byte in memory, as the contents of
  /// a MemoryBuffer are.
  Lexer(llvm::StringRef text, DiagnosticEngine &diagnostics)
      : text(text), diagnostics(diagnostics) {}

  Token next();

private:
  bool skipBlanks();
  Token lexNumber();
  Token lexBadBytes();
  Token make(Token::Kind kind, size_t length);
  llvm::SMLoc locAt(size_t position) const {
    return llvm::SMLoc::getFromPointer(text.begin() + position);
  }
  char peek(size_t ahead = 0) const {
    return position + ahead < text.size() ? text[position + ahead] : '\0';
  }

  llvm::StringRef text;
  DiagnosticEngine &diagnostics;
  size_t position = 0;
  bool startsLine = true;
};

} // namespace delta::spec

#endif // DELTA_LIB_SPEC_LEXER_H
