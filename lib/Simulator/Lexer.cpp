//===- Lexer.cpp - tokens of PTX ------------------------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A hand-written scanner; it never fails, bad input is a Bad token.
//
//===----------------------------------------------------------------------===//

#include "Lexer.h"

#include <cstdlib>
#include <cstring>
#include <string>

namespace delta::sim::ptx {

namespace {

bool isDigit(char c) { return c >= '0' && c <= '9'; }
bool startsName(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         c == '$' || c == '%';
}
bool continuesName(char c) { return startsName(c) || isDigit(c); }

int hexDigit(char c) {
  if (isDigit(c))
    return c - '0';
  if (c >= 'a' && c <= 'f')
    return c - 'a' + 10;
  if (c >= 'A' && c <= 'F')
    return c - 'A' + 10;
  return -1;
}

/// Reads all of `digits` in `base`; false on a foreign digit or overflow.
bool parseInteger(std::string_view digits, unsigned base, uint64_t &value) {
  if (digits.empty())
    return false;
  value = 0;
  for (char c : digits) {
    int digit = hexDigit(c);
    if (digit < 0 || unsigned(digit) >= base ||
        value > (UINT64_MAX - unsigned(digit)) / base)
      return false;
    value = value * base + unsigned(digit);
  }
  return true;
}

} // namespace

void Lexer::skipBlanks() {
  while (pos < text.size()) {
    char c = text[pos];
    if (c == '\n') {
      ++pos;
      ++line;
      lineStart = pos;
    } else if (c == ' ' || c == '\t' || c == '\r') {
      ++pos;
    } else if (c == '/' && text.substr(pos, 2) == "//") {
      size_t end = text.find('\n', pos);
      pos = end == std::string_view::npos ? text.size() : end;
    } else if (c == '/' && text.substr(pos, 2) == "/*") {
      size_t end = text.find("*/", pos + 2);
      size_t stop = end == std::string_view::npos ? text.size() : end + 2;
      for (; pos < stop; ++pos)
        if (text[pos] == '\n') {
          ++line;
          lineStart = pos + 1;
        }
    } else {
      return;
    }
  }
}

void Lexer::skipLine(uint32_t onLine) {
  if (line != onLine)
    return;
  size_t end = text.find('\n', pos);
  pos = end == std::string_view::npos ? text.size() : end;
}

Token Lexer::number(Token token) {
  size_t begin = pos;
  // The extent: letters and digits, a decimal point, and the sign of an
  // exponent of a decimal literal.
  bool prefixed = text[pos] == '0' && pos + 1 < text.size() &&
                  std::strchr("xXbBfFdD", text[pos + 1]);
  while (pos < text.size()) {
    char c = text[pos];
    bool exponentSign = !prefixed && (c == '+' || c == '-') && pos > begin &&
                        (text[pos - 1] == 'e' || text[pos - 1] == 'E');
    if (!isDigit(c) && !(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') &&
        !(c == '.' && !prefixed) && !exponentSign)
      break;
    ++pos;
  }
  token.text = text.substr(begin, pos - begin);
  std::string_view s = token.text;
  char second = s.size() > 1 && s[0] == '0' ? s[1] : 0;
  token.kind = Token::Bad;
  if (second == 'f' || second == 'F' || second == 'd' || second == 'D') {
    bool wide = second == 'd' || second == 'D';
    if (s.size() == (wide ? 18u : 10u) &&
        parseInteger(s.substr(2), 16, token.value))
      token.kind = wide ? Token::Float : Token::Float32;
    return token;
  }
  if (!prefixed && s.find_first_of(".eE") != std::string_view::npos) {
    std::string copy(s);
    char *end = nullptr;
    double value = std::strtod(copy.c_str(), &end);
    if (*end == 0) {
      std::memcpy(&token.value, &value, sizeof value);
      token.kind = Token::Float;
    }
    return token;
  }
  if (!s.empty() && (s.back() == 'U' || s.back() == 'u'))
    s.remove_suffix(1);
  bool good;
  if (second == 'x' || second == 'X')
    good = parseInteger(s.substr(2), 16, token.value);
  else if (second == 'b' || second == 'B')
    good = parseInteger(s.substr(2), 2, token.value);
  else if (s.size() > 1 && s[0] == '0')
    good = parseInteger(s.substr(1), 8, token.value);
  else
    good = parseInteger(s, 10, token.value);
  if (good)
    token.kind = Token::Integer;
  return token;
}

Token Lexer::next() {
  skipBlanks();
  Token token;
  token.line = line;
  token.column = static_cast<uint32_t>(pos - lineStart) + 1;
  if (pos >= text.size())
    return token;
  char c = text[pos];
  if (isDigit(c))
    return number(token);
  size_t begin = pos;
  bool directive =
      c == '.' && pos + 1 < text.size() && continuesName(text[pos + 1]);
  if (startsName(c) || directive) {
    ++pos;
    while (pos < text.size()) {
      char d = text[pos];
      if (continuesName(d)) {
        ++pos;
      } else if (d == '.' && pos + 1 < text.size() &&
                 continuesName(text[pos + 1])) {
        ++pos;
      } else if (d == ':' && pos + 2 < text.size() && text[pos + 1] == ':' &&
                 continuesName(text[pos + 2])) {
        pos += 2;
      } else {
        break;
      }
    }
    token.kind = Token::Identifier;
    token.text = text.substr(begin, pos - begin);
    return token;
  }
  if (c == '"') {
    size_t end = text.find_first_of("\"\n", pos + 1);
    if (end == std::string_view::npos || text[end] == '\n') {
      token.kind = Token::Bad;
      token.text = text.substr(pos, 1);
      ++pos;
      return token;
    }
    token.kind = Token::String;
    token.text = text.substr(pos + 1, end - pos - 1);
    pos = end + 1;
    return token;
  }
  token.kind = std::strchr("{}()[]<>,;:@!|+-*/=~&^?", c) && c
                   ? Token::Punctuation
                   : Token::Bad;
  token.text = text.substr(pos, 1);
  ++pos;
  return token;
}

} // namespace delta::sim::ptx
