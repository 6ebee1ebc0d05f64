//===- Parser.cpp - syntax of the spec language ---------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Recursive descent over the grammar of docs/Language.md. After an error the
// parser goes on at the next statement. What it skips may have declared names;
// they are remembered, so that their uses are not reported as unknown.
//
//===----------------------------------------------------------------------===//

#include "Internal.h"
#include "Lexer.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include <limits>

using namespace llvm;

namespace delta::spec {

using Kind = Token::Kind;

namespace {
class Parser {
public:
  Parser(StringRef text, Recurrence &recurrence, DiagnosticEngine &diagnostics,
         NameSet &skippedNames);

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
  bool consumeIf(Kind kind) {
    if (!peek().is(kind))
      return false;
    consume();
    return true;
  }

  // Errors.
  DiagnosticEngine::Builder error(SMLoc loc, const Twine &message);
  void errorExpected(const Twine &what);
  bool expect(Kind kind, const Twine &where);
  bool startsStatement(size_t ahead = 0) const;
  bool isCompoundAssignment() const;
  bool isBrokenStatement() const;
  void skipToStatement(bool stopAtComma = false, bool stopAtBrace = false);

  // Names.
  Identifier makeIdentifier(const Token &token) const {
    return {token.text, token.getLoc()};
  }
  Identifier parseNewName(const Twine &what, bool &valid);
  Identifier parseReference(const Twine &what);

  // Items.
  void parseItem(SmallVectorImpl<Stmt *> &items, bool inLoop);
  void parseItems(SmallVectorImpl<Stmt *> &items, bool inLoop);
  void parseStrayName(SmallVectorImpl<Stmt *> &items);
  void skipNestedLoop();
  bool parseByKeyword(Kind keyword, SmallVectorImpl<Stmt *> &items);
  void parseDims(SmallVectorImpl<Stmt *> &items);
  void parseArguments(SmallVectorImpl<Stmt *> &items, bool param);
  bool parseArgument(SmallVectorImpl<Stmt *> &items, bool param, SMLoc start);
  void parseAttr(SmallVectorImpl<Stmt *> &items);
  void parseOneAttr(SmallVectorImpl<Stmt *> &items);
  void parseState(SmallVectorImpl<Stmt *> &items);
  void parseLet(SmallVectorImpl<Stmt *> &items);
  void parseOut(SmallVectorImpl<Stmt *> &items);
  void parseAssign(SmallVectorImpl<Stmt *> &items);
  void parseFor(SmallVectorImpl<Stmt *> &items);
  bool parseRange(std::optional<ValueRange> &range);
  bool parseBound(double &bound);
  Expr *parseValue(const Twine &after);
  SMRange rangeFrom(SMLoc start) const { return {start, previous().getEnd()}; }

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
  bool enterNesting(SMLoc loc);

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
} // namespace

Parser::Parser(StringRef text, Recurrence &recurrence,
               DiagnosticEngine &diagnostics, NameSet &skippedNames)
    : recurrence(recurrence), diagnostics(diagnostics),
      skippedNames(skippedNames) {
  Lexer lexer(text, diagnostics);
  do
    tokens.push_back(lexer.next());
  while (!tokens.back().is(Kind::End));
}

//===----------------------------------------------------------------------===//
// Errors and recovery
//===----------------------------------------------------------------------===//

DiagnosticEngine::Builder Parser::error(SMLoc loc, const Twine &message) {
  lastErrorPosition = position;
  return diagnostics.error(loc, message);
}

/// Reports that `what` should stand here.
void Parser::errorExpected(const Twine &what) {
  const Token &token = peek();
  if (token.is(Kind::Bad) || position == lastErrorPosition ||
      (token.is(Kind::End) && diagnostics.isFull()))
    return;
  // What is missing at the end of a line is missing there, not on the next.
  if (position > 0 && (token.startsLine || token.is(Kind::End)))
    error(previous().getEnd(),
          "expected " + what +
              (token.is(Kind::End) ? ", found end of file"
                                   : ", found end of line"));
  else
    error(token.getLoc(), "expected " + what + ", found " + describe(token))
        .range(token.getRange());
}

bool Parser::expect(Kind kind, const Twine &where) {
  if (consumeIf(kind))
    return true;
  errorExpected(describe(kind) + where);
  return false;
}

/// Whether a statement begins at the token `ahead` of the current one.
bool Parser::startsStatement(size_t ahead) const {
  const Token &token = peek(ahead);
  switch (token.kind) {
  case Kind::Dim:
  case Kind::Param:
  case Kind::Attr:
  case Kind::State:
  case Kind::Let:
  case Kind::Out:
  case Kind::For:
    return true;
  case Kind::In:
    return !peek(ahead + 1).is(Kind::LBracket);
  case Kind::Identifier:
    return peek(ahead + 1).is(Kind::Equal);
  default:
    return false;
  }
}

/// Whether `S += ...` or the like is here, which the language does not have.
bool Parser::isCompoundAssignment() const {
  return peek().is(Kind::Identifier) &&
         peek(1).isAny(Kind::Plus, Kind::Minus, Kind::Star, Kind::Slash) &&
         peek(2).is(Kind::Equal);
}

/// Whether a statement may begin here although none is recognised: `S += ...`,
/// or two names in a row, of which the first may be a misspelt keyword.
bool Parser::isBrokenStatement() const {
  return isCompoundAssignment() ||
         (peek().is(Kind::Identifier) && peek(1).is(Kind::Identifier) &&
          !peek(1).startsLine);
}

/// Skips to the next statement, or to the end of the block.
void Parser::skipToStatement(bool stopAtComma, bool stopAtBrace) {
  unsigned braces = 0;
  for (;; consume()) {
    const Token &token = peek();
    if (token.is(Kind::End))
      return;
    if (braces == 0) {
      if (token.isAny(Kind::RBrace, Kind::Semicolon) || startsStatement() ||
          (token.startsLine && isBrokenStatement()) ||
          (stopAtComma && token.is(Kind::Comma)) ||
          (stopAtBrace && token.is(Kind::LBrace)))
        return;
    }
    if (token.is(Kind::LBrace))
      ++braces;
    else if (token.is(Kind::RBrace))
      --braces;
    else if (token.is(Kind::Identifier))
      skippedNames.insert(token.text);
  }
}

/// The name that a declaration introduces. `valid` says whether it may be used;
/// a reserved name is reported and returned. Invalid if there is no name.
Identifier Parser::parseNewName(const Twine &what, bool &valid) {
  const Token &token = peek();
  valid = true;
  // A keyword is meant as a name if what follows a name follows it.
  bool keywordAsName =
      token.isKeyword() && !token.startsLine &&
      peek(1).isAny(Kind::Equal, Kind::Colon, Kind::LBracket, Kind::LBrace);
  if (!token.is(Kind::Identifier) && !keywordAsName) {
    errorExpected(what);
    valid = false;
    return Identifier();
  }
  if (token.text == "K" || token.text == "V") {
    error(token.getLoc(),
          "dim '" + token.text + "' is predeclared; choose another name")
        .range(token.getRange());
    valid = false;
  } else if (isReserved(token.text)) {
    error(token.getLoc(),
          "'" + token.text + "' is reserved; choose another name")
        .range(token.getRange());
    valid = false;
  }
  return makeIdentifier(consume());
}

/// A name that must be declared elsewhere.
Identifier Parser::parseReference(const Twine &what) {
  if (!peek().is(Kind::Identifier)) {
    errorExpected(what);
    return Identifier();
  }
  return makeIdentifier(consume());
}

//===----------------------------------------------------------------------===//
// Items
//===----------------------------------------------------------------------===//

void Parser::parseFile() {
  while (peek().is(Kind::Bad))
    consume();
  if (!consumeIf(Kind::Recurrence)) {
    const Token &token = peek();
    if (token.is(Kind::Identifier) && peek(1).is(Kind::Identifier) &&
        findNearest(token.text, {"recurrence"}) == "recurrence") {
      error(token.getLoc(),
            "unknown word '" + token.text + "'; did you mean 'recurrence'?")
          .range(token.getRange());
      consume();
    } else {
      if (token.is(Kind::End) && !diagnostics.isFull())
        error(token.getLoc(), "expected 'recurrence', found end of file");
      else
        errorExpected("'recurrence'");
      return;
    }
  }
  bool valid;
  recurrence.id = parseNewName("the recurrence's name", valid);
  SMLoc open = peek().getLoc();
  if (!expect(Kind::LBrace, " after the recurrence's name")) {
    skipToStatement(/*stopAtComma=*/false, /*stopAtBrace=*/true);
    open = peek().getLoc();
    if (!consumeIf(Kind::LBrace) && !startsStatement())
      return;
  }
  parseItems(recurrence.items, /*inLoop=*/false);
  if (!consumeIf(Kind::RBrace)) {
    if (!diagnostics.isFull())
      error(peek().getLoc(), "expected '}' at the end of the recurrence, found "
                             "end of file")
          .note(open, "to match this '{'");
    return;
  }
  if (!peek().isAny(Kind::End, Kind::Bad))
    error(peek().getLoc(), "expected end of file after the recurrence, found " +
                               describe(peek()) +
                               "; a file holds exactly one recurrence");
}

/// Parses items up to the closing brace or the end of the file.
void Parser::parseItems(SmallVectorImpl<Stmt *> &items, bool inLoop) {
  while (!peek().isAny(Kind::RBrace, Kind::End)) {
    size_t start = position;
    parseItem(items, inLoop);
    consumeIf(Kind::Semicolon);
    // Whatever happened, get on.
    if (position == start)
      consume();
  }
}

void Parser::parseItem(SmallVectorImpl<Stmt *> &items, bool inLoop) {
  const Token &token = peek();
  if (token.is(Kind::Identifier) && peek(1).is(Kind::Equal)) {
    parseAssign(items);
    return;
  }
  if (token.is(Kind::Identifier)) {
    parseStrayName(items);
    return;
  }
  if (token.is(Kind::For) && inLoop) {
    error(token.getLoc(), "'for' loops do not nest").range(token.getRange());
    skipNestedLoop();
    return;
  }
  if (inLoop && startsStatement() && !token.is(Kind::Let))
    error(token.getLoc(), "'" + token.text +
                              "' is not allowed inside 'for', which holds "
                              "lets and assignments only")
        .range(token.getRange());
  if (parseByKeyword(token.kind, items))
    return;
  if (!token.is(Kind::Bad) && position != lastErrorPosition)
    error(token.getLoc(), "expected a statement, found " + describe(token))
        .range(token.getRange());
  consume();
  skipToStatement();
}

/// Skips a `for` with its block.
void Parser::skipNestedLoop() {
  unsigned braces = 0;
  for (; !peek().is(Kind::End); consume()) {
    if (peek().is(Kind::Identifier))
      skippedNames.insert(peek().text);
    if (peek().is(Kind::LBrace))
      ++braces;
    if (!peek().is(Kind::RBrace))
      continue;
    if (braces == 0)
      return;
    if (--braces == 0) {
      consume();
      return;
    }
  }
}

/// Parses the item that the current token, taken to be `keyword`, begins.
bool Parser::parseByKeyword(Kind keyword, SmallVectorImpl<Stmt *> &items) {
  switch (keyword) {
  case Kind::Dim:
    parseDims(items);
    return true;
  case Kind::In:
    if (peek(1).is(Kind::LBracket))
      return false;
    parseArguments(items, /*param=*/false);
    return true;
  case Kind::Param:
    parseArguments(items, /*param=*/true);
    return true;
  case Kind::Attr:
    parseAttr(items);
    return true;
  case Kind::State:
    parseState(items);
    return true;
  case Kind::Let:
    parseLet(items);
    return true;
  case Kind::Out:
    parseOut(items);
    return true;
  case Kind::For:
    parseFor(items);
    return true;
  default:
    return false;
  }
}

/// Reports a name that begins no statement, and guesses what was meant.
void Parser::parseStrayName(SmallVectorImpl<Stmt *> &items) {
  const Token &token = peek();
  const Token &following = peek(1);
  if (following.isAny(Kind::Identifier, Kind::Scalar)) {
    // A misspelt keyword: go on as if it were right.
    static constexpr std::pair<StringRef, Kind> starters[] = {
        {"dim", Kind::Dim},   {"in", Kind::In},       {"param", Kind::Param},
        {"attr", Kind::Attr}, {"state", Kind::State}, {"let", Kind::Let},
        {"out", Kind::Out},   {"for", Kind::For}};
    SmallVector<StringRef> names(
        llvm::map_range(starters, [](const auto &s) { return s.first; }));
    StringRef nearest = findNearest(token.text, names);
    if (!nearest.empty()) {
      error(token.getLoc(), "unknown statement '" + token.text +
                                "'; did you mean '" + nearest + "'?")
          .range(token.getRange());
      for (const auto &[name, kind] : starters)
        if (name == nearest)
          parseByKeyword(kind, items);
      return;
    }
  } else if (following.is(Kind::Colon) ||
             (following.is(Kind::LBracket) && peek(4).is(Kind::Colon))) {
    error(token.getLoc(), "expected ',', 'in' or 'param' before the "
                          "declaration of '" +
                              token.text + "'")
        .range(token.getRange());
    skippedNames.insert(token.text);
    skipToStatement();
    return;
  } else if (isCompoundAssignment()) {
    error(following.getLoc(), "there is no '" + following.text + "='; write '" +
                                  token.text + " = " + token.text + " " +
                                  following.text + " ...'")
        .range({following.getLoc(), peek(2).getEnd()});
    consume();
    skipToStatement();
    return;
  }
  error(token.getLoc(), "expected a statement, found " + describe(token))
      .range(token.getRange());
  consume();
  skipToStatement();
}

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

void Parser::parseLet(SmallVectorImpl<Stmt *> &items) {
  SMLoc start = consume().getLoc();
  bool valid;
  Identifier id = parseNewName("the let's name", valid);
  if (!id.isValid())
    return skipToStatement();
  Expr *value = nullptr;
  if (expect(Kind::Equal, " after '" + id.name + "'"))
    value = parseValue("'='");
  else
    skipToStatement();
  auto *decl = create<LetDecl>(id, value);
  if (!valid || !value)
    decl->setInvalid();
  items.push_back(create<LetStmt>(decl, rangeFrom(start)));
}

void Parser::parseOut(SmallVectorImpl<Stmt *> &items) {
  SMLoc start = consume().getLoc();
  bool valid;
  Identifier id = parseNewName("the out's name", valid);
  if (!id.isValid())
    return skipToStatement();
  Expr *value = nullptr;
  if (expect(Kind::Equal, " after '" + id.name + "'"))
    value = parseValue("'='");
  else
    skipToStatement();
  auto *decl = create<OutDecl>(id, value);
  if (!valid || !value)
    decl->setInvalid();
  items.push_back(create<OutStmt>(decl, rangeFrom(start)));
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

//===----------------------------------------------------------------------===//
// Expressions
//===----------------------------------------------------------------------===//

Expr *Parser::parseWholeExpression() {
  Expr *value = parseExpr();
  if (!value)
    return nullptr;
  if (!peek().is(Kind::End)) {
    errorExpected("the end of the expression");
    return nullptr;
  }
  return value;
}

/// Counts one level of parentheses or unary minus.
bool Parser::enterNesting(SMLoc loc) {
  if (nesting < kNestingLimit) {
    ++nesting;
    return true;
  }
  error(loc,
        "the expression nests deeper than " + Twine(kNestingLimit) + " levels");
  return false;
}

static SMRange join(const Expr *lhs, const Expr *rhs) {
  return {lhs->getRange().Start, rhs->getRange().End};
}

Expr *Parser::parseExpr() {
  Expr *lhs = parseTerm();
  while (lhs && peek().isAny(Kind::Plus, Kind::Minus)) {
    Token op = consume();
    Expr *rhs = parseTerm();
    if (!rhs)
      return nullptr;
    lhs = create<BinaryExpr>(op.is(Kind::Plus) ? BinaryOp::Add : BinaryOp::Sub,
                             lhs, rhs, op.getLoc(), join(lhs, rhs));
  }
  return lhs;
}

Expr *Parser::parseTerm() {
  Expr *lhs = parseUnary();
  while (lhs &&
         peek().isAny(Kind::Star, Kind::Slash, Kind::DotStar, Kind::DotSlash)) {
    Token token = consume();
    if (token.is(Kind::Star) && peek().is(Kind::Star)) {
      error(token.getLoc(), "there is no '**'; a power is written '^'")
          .range({token.getLoc(), peek().getEnd()});
      return nullptr;
    }
    BinaryOp op = token.is(Kind::Star)      ? BinaryOp::Mul
                  : token.is(Kind::Slash)   ? BinaryOp::Div
                  : token.is(Kind::DotStar) ? BinaryOp::ElementMul
                                            : BinaryOp::ElementDiv;
    Expr *rhs = parseUnary();
    if (!rhs)
      return nullptr;
    lhs = create<BinaryExpr>(op, lhs, rhs, token.getLoc(), join(lhs, rhs));
  }
  return lhs;
}

Expr *Parser::parseUnary() {
  if (!peek().is(Kind::Minus))
    return parsePower();
  SMLoc loc = consume().getLoc();
  if (!enterNesting(loc))
    return nullptr;
  Expr *operand = parseUnary();
  --nesting;
  if (!operand)
    return nullptr;
  return create<NegateExpr>(operand, loc,
                            SMRange(loc, operand->getRange().End));
}

Expr *Parser::parsePower() {
  Expr *base = parsePostfix();
  if (!base || !peek().is(Kind::Caret))
    return base;
  SMLoc loc = consume().getLoc();
  Expr *exponent = parseExponent();
  if (!exponent)
    return nullptr;
  auto *power =
      create<PowerExpr>(base, exponent, loc,
                        SMRange(base->getRange().Start, previous().getEnd()));
  if (peek().isAny(Kind::Caret, Kind::Quote)) {
    bool transpose = peek().is(Kind::Quote) || peek(1).isIdentifier("T");
    error(peek().getLoc(),
          Twine("powers do not chain; write '(") + shorten(power->str()) +
              (transpose ? ")^T'" : ") ^ ...' or use '*' in the exponent"))
        .range(power->getRange());
    return nullptr;
  }
  return power;
}

Expr *Parser::parseExponent() {
  SMLoc minus = peek().getLoc();
  bool negative = consumeIf(Kind::Minus);
  Expr *exponent = nullptr;
  if (peek().is(Kind::Number)) {
    Token token = consume();
    exponent = create<NumberExpr>(token.text, token.value, token.getRange());
  } else if (peek().is(Kind::LParen)) {
    exponent = parseParenthesised();
  } else if (peek().is(Kind::Identifier) && !lookupFunction(peek().text) &&
             peek().text != "eye" && peek().text != "T") {
    exponent = create<NameExpr>(makeIdentifier(consume()));
  } else {
    errorExpected("a number, a name or '(' after '^'");
  }
  if (exponent && negative)
    exponent = create<NegateExpr>(exponent, minus,
                                  SMRange(minus, exponent->getRange().End));
  return exponent;
}

Expr *Parser::parsePostfix() {
  Expr *expr = parsePrimary();
  while (expr) {
    const Token &token = peek();
    if (token.is(Kind::LBracket)) {
      expr = parseIndex(expr);
      continue;
    }
    bool caret = token.is(Kind::Caret) && peek(1).isIdentifier("T");
    if (!caret && !token.is(Kind::Quote))
      return expr;
    SMLoc loc = consume().getLoc();
    if (caret)
      consume();
    // Two transposes cancel, so that any number of them nests one deep.
    if (auto *transpose = dyn_cast<TransposeExpr>(expr))
      expr = transpose->operand;
    else
      expr =
          create<TransposeExpr>(expr, loc, rangeFrom(expr->getRange().Start));
  }
  return expr;
}

Expr *Parser::parseIndex(Expr *base) {
  auto *name = dyn_cast<NameExpr>(base);
  SMLoc open = consume().getLoc();
  if (!name) {
    error(open, "only the name of a micro-step family can be indexed")
        .range(base->getRange());
    return nullptr;
  }
  Identifier variable;
  uint64_t literal = 0;
  const Token &token = peek();
  if (token.is(Kind::Identifier)) {
    variable = makeIdentifier(consume());
  } else if (token.is(Kind::Number) && llvm::all_of(token.text, isDigit)) {
    if (token.text.getAsInteger(10, literal) ||
        literal > uint64_t(std::numeric_limits<int64_t>::max())) {
      error(token.getLoc(), "index " + describe(token) + " is too large");
      return nullptr;
    }
    consume();
  } else {
    errorExpected("a loop variable or a whole number as index");
    return nullptr;
  }
  if (!peek().is(Kind::RBracket)) {
    errorExpected("']' after the index, which is a loop variable or a whole "
                  "number");
    return nullptr;
  }
  consume();
  return create<IndexExpr>(name->id, variable, literal, open,
                           rangeFrom(base->getRange().Start));
}

Expr *Parser::parseParenthesised() {
  SMLoc open = consume().getLoc();
  if (!enterNesting(open))
    return nullptr;
  Expr *expr = parseExpr();
  --nesting;
  if (!expr)
    return nullptr;
  if (!peek().is(Kind::RParen)) {
    if (!peek().is(Kind::Bad)) {
      SMLoc at = peek().startsLine || peek().is(Kind::End) ? previous().getEnd()
                                                           : peek().getLoc();
      error(at, "expected ')'").note(open, "to match this '('");
    }
    return nullptr;
  }
  consume();
  return expr;
}

Expr *Parser::parsePrimary() {
  const Token &token = peek();
  switch (token.kind) {
  case Kind::Number: {
    Token number = consume();
    return create<NumberExpr>(number.text, number.value, number.getRange());
  }
  case Kind::LParen: {
    SMLoc start = token.getLoc();
    Expr *expr = parseParenthesised();
    if (expr)
      expr->setRange(rangeFrom(start));
    return expr;
  }
  case Kind::Identifier:
    // The next statement, so that the operand is missing.
    if (token.startsLine && peek(1).is(Kind::Equal)) {
      errorExpected("an expression");
      return nullptr;
    }
    break;
  case Kind::Inf:
    error(token.getLoc(), "'inf' is only a bound of a range")
        .range(token.getRange());
    return nullptr;
  default:
    errorExpected("an expression");
    return nullptr;
  }

  if (token.text == "eye")
    return parseEye();
  if (std::optional<Function> function = lookupFunction(token.text))
    return parseCall(*function);
  if (token.text == "T") {
    error(token.getLoc(), "'T' is reserved for the transpose, as in 'x^T'")
        .range(token.getRange());
    return nullptr;
  }
  if (peek(1).is(Kind::LParen) && !peek(1).startsLine) {
    SmallVector<StringRef> names{"eye"};
    for (unsigned i = 0; i <= static_cast<unsigned>(Function::Diag); ++i)
      names.push_back(getSpelling(static_cast<Function>(i)));
    StringRef nearest = findNearest(token.text, names);
    error(token.getLoc(),
          Twine("'") + token.text + "' is not a function; " +
              (nearest.empty() ? Twine("a product is written with '*'")
                               : Twine("did you mean '") + nearest + "'?"))
        .range(token.getRange());
    return nullptr;
  }
  return create<NameExpr>(makeIdentifier(consume()));
}

Expr *Parser::parseCall(Function function) {
  Token name = consume();
  SMLoc open = peek().getLoc();
  if (!peek().is(Kind::LParen)) {
    errorExpected("'(' after the function '" + name.text + "'");
    return nullptr;
  }
  if (!enterNesting(open))
    return nullptr;
  consume();
  SmallVector<Expr *> args;
  do {
    Expr *arg = parseExpr();
    if (!arg) {
      --nesting;
      return nullptr;
    }
    args.push_back(arg);
  } while (consumeIf(Kind::Comma));
  --nesting;
  if (!consumeIf(Kind::RParen)) {
    if (!peek().is(Kind::Bad)) {
      SMLoc at = peek().startsLine || peek().is(Kind::End) ? previous().getEnd()
                                                           : peek().getLoc();
      error(at, "expected ')' after the arguments of '" + name.text + "'")
          .note(open, "to match this '('");
    }
    return nullptr;
  }
  unsigned expected = getNumArguments(function);
  if (args.size() != expected) {
    error(name.getLoc(),
          "'" + name.text + "' takes " +
              (expected == 1 ? "one argument" : "two arguments") + ", but " +
              Twine(args.size()) + (args.size() == 1 ? " is" : " are") +
              " given")
        .range(rangeFrom(name.getLoc()));
    return nullptr;
  }
  return create<CallExpr>(function, recurrence.copy(ArrayRef<Expr *>(args)),
                          rangeFrom(name.getLoc()));
}

Expr *Parser::parseEye() {
  Token name = consume();
  if (!expect(Kind::LParen, " after 'eye'"))
    return nullptr;
  Identifier dim = parseReference("the dim of the identity matrix");
  if (!dim.isValid() || !expect(Kind::RParen, " after the dim"))
    return nullptr;
  return create<EyeExpr>(dim, rangeFrom(name.getLoc()));
}

//===----------------------------------------------------------------------===//
// Entry points
//===----------------------------------------------------------------------===//

void parseRecurrence(StringRef text, Recurrence &recurrence,
                     DiagnosticEngine &diagnostics, NameSet &skippedNames) {
  Parser(text, recurrence, diagnostics, skippedNames).parseFile();
}

Expr *parseExpression(StringRef text, Recurrence &arena,
                      DiagnosticEngine &diagnostics) {
  NameSet skippedNames;
  return Parser(text, arena, diagnostics, skippedNames).parseWholeExpression();
}

StringRef findNearest(StringRef name, ArrayRef<StringRef> candidates) {
  StringRef best;
  // One slip in a short name, two in a longer one, three in a long one.
  unsigned bestDistance = std::min<size_t>(name.size() / 4 + 1, 3) + 1;
  if (name.size() > 64)
    return best;
  for (StringRef candidate : candidates) {
    unsigned distance =
        name.edit_distance(candidate, /*AllowReplacements=*/true, bestDistance);
    // Not when nothing of the name is left.
    if (distance < bestDistance && distance < name.size() &&
        distance < candidate.size()) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

std::string shorten(StringRef text) {
  constexpr size_t limit = 60;
  if (text.size() <= limit)
    return text.str();
  return (text.take_front(limit / 2 - 2) + "..." +
          text.take_back(limit / 2 - 2))
      .str();
}

} // namespace delta::spec
