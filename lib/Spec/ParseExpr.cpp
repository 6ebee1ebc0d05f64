//===- ParseExpr.cpp - syntax of expressions ------------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// One function a level of the grammar, null after an error. Only parentheses
// and unary minus recurse without a bound of their own, so only they are
// counted.
//
//===----------------------------------------------------------------------===//

#include "ParserImpl.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"

using namespace llvm;

namespace delta::spec {

using Kind = Token::Kind;

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

} // namespace delta::spec
