//===- ParserImpl.h - the recursive-descent parser --------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The parser's class. Parser.cpp has recovery and what is common to all items,
// ParseItems.cpp the items one by one, ParseExpr.cpp the expressions.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_LIB_SPEC_PARSERIMPL_H
#define DELTA_LIB_SPEC_PARSERIMPL_H

#include "Internal.h"
#include "Lexer.h"
#include <limits>

namespace delta::spec {

/// Parses one buffer. Where something is wrong, a message is reported, and
/// parsing goes on at the next statement.
class Parser {
public:
  Parser(llvm::StringRef text, Recurrence &recurrence,
         DiagnosticEngine &diagnostics, NameSet &skippedNames);

  void parseFile();
  Expr *parseWholeExpression();

private:
  // Tokens.
  const Token &peek(size_t ahead = 0) const {
    return tokens[std::min(position + ahead, tokens.size() - 1)];
  }
  const Token &previous() const { return tokens[position ? position - 1 : 0]; }
  Token consume() {
    Token token = peek();
    position = std::min(position + 1, tokens.size() - 1);
    return token;
  }
  bool consumeIf(Token::Kind kind) {
    if (!peek().is(kind))
      return false;
    consume();
    return true;
  }

  // Errors.
  DiagnosticEngine::Builder error(llvm::SMLoc loc, const llvm::Twine &message);
  void errorExpected(const llvm::Twine &what);
  bool expect(Token::Kind kind, const llvm::Twine &where);
  bool startsStatement(size_t ahead = 0) const;
  bool isCompoundAssignment() const;
  bool isBrokenStatement() const;
  void skipToStatement(bool stopAtComma = false, bool stopAtBrace = false);

  // Names.
  Identifier makeIdentifier(const Token &token) const {
    return {token.text, token.getLoc()};
  }
  Identifier parseNewName(const llvm::Twine &what, bool &valid);
  Identifier parseReference(const llvm::Twine &what);

  // Items.
  void parseItem(llvm::SmallVectorImpl<Stmt *> &items, bool inLoop);
  void parseItems(llvm::SmallVectorImpl<Stmt *> &items, bool inLoop);
  void parseStrayName(llvm::SmallVectorImpl<Stmt *> &items);
  void skipNestedLoop();
  bool parseByKeyword(Token::Kind keyword,
                      llvm::SmallVectorImpl<Stmt *> &items);
  void parseDims(llvm::SmallVectorImpl<Stmt *> &items);
  void parseArguments(llvm::SmallVectorImpl<Stmt *> &items, bool param);
  bool parseArgument(llvm::SmallVectorImpl<Stmt *> &items, bool param,
                     llvm::SMLoc start);
  void parseAttr(llvm::SmallVectorImpl<Stmt *> &items);
  void parseOneAttr(llvm::SmallVectorImpl<Stmt *> &items);
  void parseState(llvm::SmallVectorImpl<Stmt *> &items);
  /// `keyword name = value`; `what` is the name's.
  template <typename Decl, typename DeclStmt>
  void parseDefinition(llvm::StringRef what,
                       llvm::SmallVectorImpl<Stmt *> &items);
  void parseLet(llvm::SmallVectorImpl<Stmt *> &items);
  void parseOut(llvm::SmallVectorImpl<Stmt *> &items);
  void parseAssign(llvm::SmallVectorImpl<Stmt *> &items);
  void parseFor(llvm::SmallVectorImpl<Stmt *> &items);
  bool parseRange(std::optional<ValueRange> &range);
  bool parseBound(double &bound);
  Expr *parseValue(const llvm::Twine &after);
  llvm::SMRange rangeFrom(llvm::SMLoc start) const {
    return {start, previous().getEnd()};
  }

  // Expressions; null after an error.
  Expr *parseExpr();
  Expr *parseTerm();
  Expr *parseUnary();
  Expr *parsePower();
  Expr *parseExponent();
  Expr *parsePostfix();
  Expr *parseIndex(Expr *base);
  Expr *parsePrimary();
  Expr *parseCall(Function function);
  Expr *parseEye();
  Expr *parseParenthesised();
  bool enterNesting(llvm::SMLoc loc);

  template <typename T, typename... Args> T *create(Args &&...args) {
    return recurrence.create<T>(std::forward<Args>(args)...);
  }

  Recurrence &recurrence;
  DiagnosticEngine &diagnostics;
  NameSet &skippedNames;
  std::vector<Token> tokens;
  size_t position = 0;
  unsigned nesting = 0;
  /// Where the last error was reported; a second one there would be a cascade.
  size_t lastErrorPosition = std::numeric_limits<size_t>::max();
};

} // namespace delta::spec

#endif // DELTA_LIB_SPEC_PARSERIMPL_H
