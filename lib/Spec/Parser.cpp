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

#include "ParserImpl.h"

#include "llvm/ADT/STLExtras.h"

using namespace llvm;

namespace delta::spec {

using Kind = Token::Kind;

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
  auto error = diagnostics.error(loc, message);
  // Errors come in source order, so those that would follow are not shown.
  if (diagnostics.isFull())
    position = tokens.size() - 1;
  lastErrorPosition = position;
  return error;
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
