//===- ParseItems.cpp - syntax of declarations and statements -------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// One function an item. A declaration with an error is kept, marked invalid, so
// that uses of its name say nothing.
//
//===----------------------------------------------------------------------===//

#include "ParserImpl.h"

using namespace llvm;

namespace delta::spec {

using Kind = Token::Kind;

void Parser::parseDims(SmallVectorImpl<Stmt *> &items) {
  SMLoc start = consume().getLoc();
  do {
    bool valid;
    Identifier id = parseNewName("a dim's name", valid);
    if (!id.isValid())
      return skipToStatement();
    // A reserved dim is K or V, or is used no further.
    if (!valid)
      continue;
    auto *decl = create<DimDecl>(id);
    items.push_back(create<DeclareStmt>(decl, rangeFrom(start)));
    start = peek().getLoc();
  } while (consumeIf(Kind::Comma));
}

void Parser::parseArguments(SmallVectorImpl<Stmt *> &items, bool param) {
  SMLoc start = consume().getLoc();
  do {
    if (!parseArgument(items, param, start))
      skipToStatement(/*stopAtComma=*/true);
    start = peek().getLoc();
  } while (consumeIf(Kind::Comma));
}

/// Parses one declaration of an `in` or `param` list.
bool Parser::parseArgument(SmallVectorImpl<Stmt *> &items, bool param,
                           SMLoc start) {
  bool valid;
  Identifier id =
      parseNewName(param ? "a param's name" : "an input's name", valid);
  if (!id.isValid())
    return false;
  auto *decl = create<ArgumentDecl>(id, param);
  if (!valid)
    decl->setInvalid();
  // Declared even if the rest is broken: its uses are no errors then.
  auto *stmt = create<DeclareStmt>(decl, id.getRange());
  items.push_back(stmt);
  auto parseRest = [&] {
    if (peek().is(Kind::LBracket)) {
      SMLoc open = consume().getLoc();
      decl->familyId = parseReference("the dim of the micro-steps");
      if (!decl->familyId.isValid() ||
          !expect(Kind::RBracket, " after the dim of the micro-steps"))
        return false;
      if (param) {
        error(open, "a param has no micro-steps; only an input can be a family")
            .range(rangeFrom(open));
        decl->setInvalid();
      }
    }
    if (!expect(Kind::Colon, " after '" + id.name + "'"))
      return false;
    if (!consumeIf(Kind::Scalar)) {
      decl->dimId = parseReference("'scalar' or a dim");
      if (!decl->dimId.isValid())
        return false;
    }
    if (peek().is(Kind::In) && peek(1).is(Kind::LBracket))
      return parseRange(decl->valueRange);
    return true;
  };
  bool parsed = parseRest();
  if (!parsed)
    decl->setInvalid();
  *stmt = DeclareStmt(decl, rangeFrom(start));
  return parsed;
}

void Parser::parseAttr(SmallVectorImpl<Stmt *> &items) {
  parseOneAttr(items);
  if (peek().is(Kind::Comma))
    error(peek().getLoc(), "attrs have no list; write 'attr' before each");
  while (peek().is(Kind::Comma))
    parseOneAttr(items);
}

/// Parses an attr after its keyword, or after a comma that should be one.
void Parser::parseOneAttr(SmallVectorImpl<Stmt *> &items) {
  SMLoc start = consume().getLoc();
  bool valid;
  Identifier id = parseNewName("an attr's name", valid);
  if (!id.isValid())
    return skipToStatement();
  Expr *value = nullptr;
  std::optional<ValueRange> range;
  if (consumeIf(Kind::Equal)) {
    value = parseValue("'='");
    valid &= value != nullptr;
  }
  if (peek().is(Kind::In) && peek(1).is(Kind::LBracket) && !parseRange(range)) {
    valid = false;
    skipToStatement();
  }
  if (!value && valid && !range && !peek().startsLine &&
      !peek().isAny(Kind::Semicolon, Kind::RBrace, Kind::Comma) &&
      !startsStatement()) {
    errorExpected("'=' or 'in' after '" + id.name + "'");
    valid = false;
    skipToStatement();
  }
  auto *decl = create<AttrDecl>(id, value, range);
  if (!valid)
    decl->setInvalid();
  items.push_back(create<DeclareStmt>(decl, rangeFrom(start)));
}

void Parser::parseState(SmallVectorImpl<Stmt *> &items) {
  SMLoc start = consume().getLoc();
  bool valid;
  Identifier id = parseNewName("the state's name", valid);
  if (!id.isValid())
    return skipToStatement();
  Identifier rows, cols;
  auto parseRest = [&] {
    if (!expect(Kind::Colon, " after '" + id.name + "'"))
      return false;
    rows = parseReference("the state's first dim");
    if (!rows.isValid())
      return false;
    if (!peek().isIdentifier("x")) {
      // `KxV` is one name.
      auto [first, second] = rows.name.split('x');
      if (!first.empty() && !second.empty())
        error(rows.loc, "'" + rows.name + "' is one name; write '" + first +
                            " x " + second + "' with blanks")
            .range(rows.getRange());
      else
        errorExpected("'x' and the state's second dim");
      rows = Identifier();
      return false;
    }
    consume();
    cols = parseReference("the state's second dim");
    return cols.isValid();
  };
  if (!parseRest()) {
    valid = false;
    skipToStatement();
  }
  auto *decl = create<StateDecl>(id, rows, cols);
  if (!valid)
    decl->setInvalid();
  items.push_back(create<DeclareStmt>(decl, rangeFrom(start)));
}

template <typename Decl, typename DeclStmt>
void Parser::parseDefinition(StringRef what, SmallVectorImpl<Stmt *> &items) {
  SMLoc start = consume().getLoc();
  bool valid;
  Identifier id = parseNewName(what, valid);
  if (!id.isValid())
    return skipToStatement();
  Expr *value = nullptr;
  if (expect(Kind::Equal, " after '" + id.name + "'"))
    value = parseValue("'='");
  else
    skipToStatement();
  auto *decl = create<Decl>(id, value);
  if (!valid || !value)
    decl->setInvalid();
  items.push_back(create<DeclStmt>(decl, rangeFrom(start)));
}

void Parser::parseLet(SmallVectorImpl<Stmt *> &items) {
  parseDefinition<LetDecl, LetStmt>("the let's name", items);
}

void Parser::parseOut(SmallVectorImpl<Stmt *> &items) {
  parseDefinition<OutDecl, OutStmt>("the out's name", items);
}

void Parser::parseAssign(SmallVectorImpl<Stmt *> &items) {
  Identifier target = makeIdentifier(consume());
  consume(); // '='
  Expr *value = parseValue("'='");
  items.push_back(create<AssignStmt>(target, value, rangeFrom(target.loc)));
}

void Parser::parseFor(SmallVectorImpl<Stmt *> &items) {
  SMLoc start = consume().getLoc();
  bool valid = false;
  Identifier id, dim;
  auto parseHead = [&] {
    // `for in n`: the name is missing.
    id = parseNewName("the loop's variable", valid);
    if (!id.isValid() ||
        !expect(Kind::In, " after the loop's variable '" + id.name + "'"))
      return false;
    dim = parseReference("the dim of the micro-steps");
    return dim.isValid();
  };
  bool headParsed = parseHead();
  SMLoc open = peek().getLoc();
  if (!headParsed || !expect(Kind::LBrace, " after '" + dim.name + "'")) {
    headParsed = false;
    skipToStatement(/*stopAtComma=*/false, /*stopAtBrace=*/true);
    open = peek().getLoc();
    if (!consumeIf(Kind::LBrace))
      return;
  }
  auto *var = create<LoopVarDecl>(id, dim);
  if (!valid || !headParsed)
    var->setInvalid();
  SmallVector<Stmt *> body;
  parseItems(body, /*inLoop=*/true);
  if (!consumeIf(Kind::RBrace) && !diagnostics.isFull() &&
      position != lastErrorPosition)
    error(peek().getLoc(), "expected '}' at the end of 'for', found end of "
                           "file")
        .note(open, "to match this '{'");
  items.push_back(create<ForStmt>(var, recurrence.copy(ArrayRef<Stmt *>(body)),
                                  rangeFrom(start)));
}

/// Parses `in [lo, hi]`. A range that makes no sense is reported and dropped.
/// Returns false if there is no telling where it ends.
bool Parser::parseRange(std::optional<ValueRange> &range) {
  consume(); // 'in'
  SMLoc start = consume().getLoc();
  ValueRange parsed;
  Token lowToken = peek(), highToken;
  auto parseBounds = [&] {
    if (!parseBound(parsed.low) || !expect(Kind::Comma, " between the bounds"))
      return false;
    highToken = peek();
    return parseBound(parsed.high) &&
           expect(Kind::RBracket, " after the bounds");
  };
  if (!parseBounds()) {
    while (!startsStatement() &&
           !peek().isAny(Kind::RBracket, Kind::RBrace, Kind::End))
      consume();
    return consumeIf(Kind::RBracket);
  }
  parsed.range = rangeFrom(start);
  constexpr double infinity = std::numeric_limits<double>::infinity();
  if (parsed.low == infinity)
    error(lowToken.getLoc(), "'inf' cannot be a lower bound")
        .range(parsed.range);
  else if (parsed.high == -infinity)
    error(highToken.getLoc(), "'-inf' cannot be an upper bound")
        .range(parsed.range);
  else if (parsed.low > parsed.high)
    error(lowToken.getLoc(),
          "the range is empty: its lower bound " + formatNumber(parsed.low) +
              " is above its upper bound " + formatNumber(parsed.high))
        .range(parsed.range);
  else
    range = parsed;
  return true;
}

bool Parser::parseBound(double &bound) {
  bool negative = consumeIf(Kind::Minus);
  if (peek().is(Kind::Number)) {
    bound = consume().value;
  } else if (consumeIf(Kind::Inf)) {
    bound = std::numeric_limits<double>::infinity();
  } else {
    errorExpected("a number or 'inf'");
    return false;
  }
  if (negative)
    bound = -bound;
  return true;
}

/// Parses the expression of a statement; skips the rest of it after an error.
Expr *Parser::parseValue(const Twine &after) {
  if ((startsStatement() &&
       (peek().startsLine || !peek().is(Kind::Identifier))) ||
      peek().isAny(Kind::Semicolon, Kind::RBrace)) {
    errorExpected("an expression after " + after);
    return nullptr;
  }
  Expr *value = parseExpr();
  if (!value) {
    skipToStatement();
    return nullptr;
  }
  const Token &token = peek();
  if (startsStatement() ||
      token.isAny(Kind::Semicolon, Kind::RBrace, Kind::End, Kind::In))
    return value;
  // A stray name on a new line is a statement gone wrong, not an operand.
  if (token.startsLine && token.is(Kind::Identifier))
    return value;
  if (token.isAny(Kind::Identifier, Kind::Number, Kind::LParen))
    error(token.getLoc(), "expected an operator before " + describe(token) +
                              "; a product is written with '*'")
        .range(token.getRange());
  else if (token.isAny(Kind::RParen, Kind::RBracket))
    error(token.getLoc(), "unmatched " + describe(token));
  else
    errorExpected("an operator or the next statement");
  skipToStatement();
  return nullptr;
}

} // namespace delta::spec
