//===- Lexer.cpp - tokens of the spec language ----------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The lexer. Newlines are blanks; a number has a digit on both sides of its
// dot, so that `2.*x` is `2 .* x`.
//
//===----------------------------------------------------------------------===//

#include "Lexer.h"

#include "delta/Spec/AST.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSwitch.h"
#include <charconv>
#include <cmath>
#include <limits>

using namespace llvm;

namespace delta::spec {

using Kind = Token::Kind;

static constexpr std::pair<StringLiteral, Kind> keywords[] = {
    {"recurrence", Kind::Recurrence},
    {"dim", Kind::Dim},
    {"in", Kind::In},
    {"param", Kind::Param},
    {"attr", Kind::Attr},
    {"state", Kind::State},
    {"let", Kind::Let},
    {"out", Kind::Out},
    {"for", Kind::For},
    {"scalar", Kind::Scalar},
    {"inf", Kind::Inf}};

static Kind classifyWord(StringRef word) {
  for (const auto &[name, kind] : keywords)
    if (name == word)
      return kind;
  return Kind::Identifier;
}

ArrayRef<StringRef> getKeywords() {
  static const SmallVector<StringRef> names(llvm::map_range(
      keywords, [](const auto &entry) -> StringRef { return entry.first; }));
  return names;
}

bool isReserved(StringRef name) {
  return classifyWord(name) != Kind::Identifier || name == "T" || name == "K" ||
         name == "V" || name == "eye" || lookupFunction(name).has_value();
}

StringRef describe(Kind kind) {
  switch (kind) {
  case Kind::End:
    return "end of file";
  case Kind::Bad:
    return "a token";
  case Kind::Identifier:
    return "a name";
  case Kind::Number:
    return "a number";
  case Kind::Recurrence:
    return "'recurrence'";
  case Kind::Dim:
    return "'dim'";
  case Kind::In:
    return "'in'";
  case Kind::Param:
    return "'param'";
  case Kind::Attr:
    return "'attr'";
  case Kind::State:
    return "'state'";
  case Kind::Let:
    return "'let'";
  case Kind::Out:
    return "'out'";
  case Kind::For:
    return "'for'";
  case Kind::Scalar:
    return "'scalar'";
  case Kind::Inf:
    return "'inf'";
  case Kind::LBrace:
    return "'{'";
  case Kind::RBrace:
    return "'}'";
  case Kind::LBracket:
    return "'['";
  case Kind::RBracket:
    return "']'";
  case Kind::LParen:
    return "'('";
  case Kind::RParen:
    return "')'";
  case Kind::Comma:
    return "','";
  case Kind::Colon:
    return "':'";
  case Kind::Semicolon:
    return "';'";
  case Kind::Equal:
    return "'='";
  case Kind::Plus:
    return "'+'";
  case Kind::Minus:
    return "'-'";
  case Kind::Star:
    return "'*'";
  case Kind::Slash:
    return "'/'";
  case Kind::DotStar:
    return "'.*'";
  case Kind::DotSlash:
    return "'./'";
  case Kind::Caret:
    return "'^'";
  case Kind::Quote:
    return "'''";
  }
  llvm_unreachable("all kinds are handled");
}

std::string describe(const Token &token) {
  if (token.is(Kind::End))
    return "end of file";
  // A name may be as long as the file.
  if (token.text.size() > 40)
    return ("'" + token.text.take_front(37) + "...'").str();
  return ("'" + token.text + "'").str();
}

Token Lexer::make(Kind kind, size_t length) {
  Token token;
  token.kind = kind;
  token.text = text.substr(position, length);
  token.startsLine = startsLine;
  startsLine = false;
  position += length;
  return token;
}

/// Skips blanks and comments. Returns false at the end of the text.
bool Lexer::skipBlanks() {
  while (position < text.size()) {
    char c = text[position];
    if (c == '\n')
      startsLine = true;
    if (isSpace(c)) {
      ++position;
    } else if (c == '#' || (c == '/' && peek(1) == '/')) {
      position = std::min(text.find('\n', position), text.size());
    } else {
      return true;
    }
  }
  return false;
}

static bool isWordStart(char c) { return isAlpha(c) || c == '_'; }
static bool isWordPart(char c) { return isAlnum(c) || c == '_'; }

/// The value of a NUMBER: rounded to nearest, 0 if it is too small, infinity if
/// it is too large.
static double convertNumber(StringRef text) {
  double value = 0;
  auto result = std::from_chars(text.begin(), text.end(), value);
  if (result.ec != std::errc::result_out_of_range)
    return value;
  // Too small or too large? Find the power of ten of the leading digit.
  auto [mantissa, exponentText] = text.split(text.contains('e') ? 'e' : 'E');
  auto [whole, fraction] = mantissa.split('.');
  int64_t magnitude = whole.ltrim('0').size();
  if (magnitude == 0)
    magnitude = -int64_t(fraction.size() - fraction.ltrim('0').size());
  bool negative = exponentText.consume_front("-");
  exponentText.consume_front("+");
  int64_t exponent = 0;
  for (char digit : exponentText)
    exponent = std::min<int64_t>(10 * exponent + (digit - '0'), 1 << 30);
  magnitude += negative ? -exponent : exponent;
  return magnitude > 0 ? std::numeric_limits<double>::infinity() : 0.0;
}

Token Lexer::lexNumber() {
  size_t end = position;
  auto skipDigits = [&] {
    while (end < text.size() && isDigit(text[end]))
      ++end;
  };
  auto isDigitAt = [&](size_t at) {
    return at < text.size() && isDigit(text[at]);
  };
  skipDigits();
  if (end < text.size() && text[end] == '.' && isDigitAt(end + 1)) {
    ++end;
    skipDigits();
  }
  if (end < text.size() && (text[end] == 'e' || text[end] == 'E')) {
    size_t exponent = end + 1;
    if (exponent < text.size() &&
        (text[exponent] == '+' || text[exponent] == '-'))
      ++exponent;
    if (isDigitAt(exponent)) {
      end = exponent;
      skipDigits();
    }
  }
  Token token = make(Kind::Number, end - position);
  token.value = convertNumber(token.text);
  if (!std::isfinite(token.value)) {
    diagnostics
        .error(token.getLoc(),
               "number " + describe(token) + " is too large for a double")
        .range(token.getRange());
    token.value = 0;
  }
  return token;
}

/// What to write instead of a character from outside ASCII, if that is known.
static StringRef getAsciiSpelling(StringRef bytes) {
  return StringSwitch<StringRef>(bytes)
      .Cases({"\u00d7", "\u00b7", "\u22c5"}, "*")
      .Cases({"\u2212", "\u2013", "\u2014"}, "-")
      .Cases({"\u1d40", "\u22a4"}, "^T")
      .Cases({"\u2299", "\u2218"}, ".*")
      .Case("\u00f7", "/")
      .Case("\u00b2", "^2")
      .Case("\u221e", "inf")
      .Cases({"\u2032", "\u2019"}, "'")
      .Default("");
}

/// Reports the byte or bytes at the current position.
Token Lexer::lexBadBytes() {
  size_t length = 1;
  SMLoc loc = locAt(position);
  unsigned char c = text[position];
  StringRef rest = text.substr(position);
  if (c >= 0x80) {
    length = rest.find_if([](char b) { return !(b & 0x80); });
    StringRef bytes = rest.take_front(length);
    // Copied text often comes with one such character; say what it stands for.
    StringRef spelling = getAsciiSpelling(bytes);
    if (position == 0 && bytes == "\xef\xbb\xbf")
      diagnostics.error(loc, "the file begins with a byte order mark; save it "
                             "without");
    else if (!spelling.empty())
      diagnostics.error(loc, "non-ASCII character outside a comment; write '" +
                                 spelling + "'");
    else
      diagnostics.error(loc, "non-ASCII character outside a comment");
  } else if (c < 0x20 || c == 0x7f) {
    length = rest.find_if([&](unsigned char b) { return b != c; });
    diagnostics.error(loc, "unexpected byte 0x" +
                               utohexstr(c, /*LowerCase=*/false, /*Width=*/2));
  } else if (c == '.' && isDigit(peek(1))) {
    length = 1 + rest.drop_front().find_if([](char b) { return !isDigit(b); });
    diagnostics.error(loc, "a number needs a digit before its dot");
  } else if (c == '.' && position > 0 && isDigit(text[position - 1])) {
    diagnostics.error(loc, "a number needs a digit after its dot");
  } else {
    StringRef hint = StringSwitch<StringRef>(rest.take_front())
                         .Case(".", "; elementwise operators are '.*' and './'")
                         .Case("@", "; the product is written '*'")
                         .Case("%", "; comments begin with '//' or '#'")
                         .Default("");
    diagnostics.error(loc, "unexpected character '" + rest.take_front() + "'" +
                               hint);
  }
  return make(Kind::Bad, std::min(length, rest.size()));
}

Token Lexer::next() {
  while (skipBlanks() && !diagnostics.isFull()) {
    char c = text[position];
    if (isWordStart(c)) {
      size_t length = 1;
      while (position + length < text.size() &&
             isWordPart(text[position + length]))
        ++length;
      return make(classifyWord(text.substr(position, length)), length);
    }
    if (isDigit(c))
      return lexNumber();
    switch (c) {
    case '{':
      return make(Kind::LBrace, 1);
    case '}':
      return make(Kind::RBrace, 1);
    case '[':
      return make(Kind::LBracket, 1);
    case ']':
      return make(Kind::RBracket, 1);
    case '(':
      return make(Kind::LParen, 1);
    case ')':
      return make(Kind::RParen, 1);
    case ',':
      return make(Kind::Comma, 1);
    case ':':
      return make(Kind::Colon, 1);
    case ';':
      return make(Kind::Semicolon, 1);
    case '=':
      return make(Kind::Equal, 1);
    case '+':
      return make(Kind::Plus, 1);
    case '-':
      return make(Kind::Minus, 1);
    case '*':
      return make(Kind::Star, 1);
    case '/':
      return make(Kind::Slash, 1);
    case '^':
      return make(Kind::Caret, 1);
    case '\'':
      return make(Kind::Quote, 1);
    case '.':
      if (peek(1) == '*')
        return make(Kind::DotStar, 2);
      if (peek(1) == '/')
        return make(Kind::DotSlash, 2);
      break;
    default:
      break;
    }
    return lexBadBytes();
  }
  position = text.size();
  return make(Kind::End, 0);
}

} // namespace delta::spec
