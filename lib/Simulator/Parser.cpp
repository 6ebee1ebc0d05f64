//===- Parser.cpp - parsing of PTX ----------------------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A recursive-descent parser. Names are resolved while parsing: registers and
// variables must be declared before use, labels need not. The first error ends
// it.
//
//===----------------------------------------------------------------------===//

#include "ParserImpl.h"

#include <cstring>
#include <map>

namespace delta::sim::ptx {

using runtime::Expected;
using runtime::Status;

std::string place(const File &file, uint32_t line, uint32_t column) {
  return file.name + ":" + std::to_string(line) + ":" + std::to_string(column) +
         ": error: ";
}

namespace {

constexpr uint64_t kMaxVariableBytes = uint64_t(1) << 32;

} // namespace

std::optional<Space> Parser::spaceFromName(std::string_view name) {
  if (name == ".global")
    return Space::Global;
  if (name == ".shared" || name == ".shared::cta")
    return Space::Shared;
  if (name == ".local")
    return Space::Local;
  if (name == ".param")
    return Space::Param;
  if (name == ".const")
    return Space::Const;
  return std::nullopt;
}

Status Parser::parse() {
  while (token.kind != Token::End)
    if (!topLevel())
      return error;
  return Status();
}

bool Parser::skipSection() {
  // .section NAME { ... }: debug data, of no meaning here.
  Token start = token;
  while (token.kind != Token::End && !token.is('{'))
    advance();
  unsigned depth = 0;
  while (token.kind != Token::End) {
    if (token.is('{'))
      ++depth;
    if (token.is('}') && --depth == 0) {
      advance();
      return true;
    }
    advance();
  }
  return fail(start, "this section has no end");
}

bool Parser::topLevel() {
  if (token.is(".version")) {
    advance();
    if (token.kind != Token::Float && token.kind != Token::Integer)
      return fail(token, "expected a version such as 8.0, but found ", found());
    advance();
    return true;
  }
  if (token.is(".target")) {
    uint32_t line = token.line;
    advance();
    if (token.kind == Token::Identifier)
      file.target = std::string(token.text);
    while (token.kind != Token::End && token.line == line)
      advance();
    return true;
  }
  if (token.is(".address_size")) {
    advance();
    Token at = token;
    uint64_t size;
    if (!expectInteger(size, "an address size"))
      return false;
    if (size != 64)
      return fail(at, "address size ", size, " is not supported; 64 is");
    return true;
  }
  if (token.is(".file") || token.is(".loc")) {
    uint32_t line = token.line;
    while (token.kind != Token::End && token.line == line)
      advance();
    return true;
  }
  if (token.is(".section"))
    return skipSection();
  if (token.is(".pragma")) {
    while (token.kind != Token::End && !token.is(';'))
      advance();
    return expect(';', "after .pragma");
  }
  if (consume(';'))
    return true;
  bool isExtern = false;
  while (token.is(".visible") || token.is(".extern") || token.is(".weak") ||
         token.is(".common") || token.is(".FORCE_INLINE")) {
    isExtern |= token.is(".extern");
    advance();
  }
  if (token.is(".entry") || token.is(".func"))
    return function(token.is(".entry"));
  if (token.kind == Token::Identifier && spaceFromName(token.text)) {
    Variable variable;
    variable.isExtern = isExtern;
    // Extern globals belong to other modules; only dynamic shared memory has a
    // meaning here, what uses the others is diagnosed there.
    do {
      Variable next = variable;
      if (!declaration(next))
        return false;
      moduleVariables[next.name] = static_cast<uint32_t>(file.variables.size());
      file.variables.push_back(std::move(next));
      variable = file.variables.back();
      variable.initial.clear();
      variable.relocations.clear();
    } while (consume(','));
    return expect(';', "after a declaration");
  }
  return fail(token,
              "expected a directive, a variable or a function, but "
              "found ",
              found());
}

bool Parser::declaration(Variable &variable) {
  // The space and type may have been read already, for `a, b` lists.
  bool first = variable.name.empty();
  if (first) {
    variable.space = *spaceFromName(token.text);
    advance();
    while (token.kind == Token::Identifier && token.text[0] == '.') {
      if (token.is(".align")) {
        advance();
        Token at = token;
        if (!expectInteger(variable.alignment, "an alignment"))
          return false;
        if (variable.alignment == 0 || variable.alignment > 65536 ||
            (variable.alignment & (variable.alignment - 1)))
          return fail(at, "alignment ", variable.alignment,
                      " is not a power of two up to 65536");
        continue;
      }
      if (token.is(".ptr")) { // .ptr .global .align 16, about what it points to
        advance();
        while (token.kind == Token::Identifier &&
               (spaceFromName(token.text) || token.is(".align"))) {
          bool align = token.is(".align");
          advance();
          uint64_t ignored;
          if (align && !expectInteger(ignored, "an alignment"))
            return false;
        }
        continue;
      }
      if (token.is(".volatile") || token.is(".managed")) {
        advance();
        continue;
      }
      if (token.is(".v2") || token.is(".v4")) {
        return fail(token, "vector variables are not supported; declare an "
                           "array");
      }
      Type type = typeFromName(token.text.substr(1));
      if (type == Type::None || type == Type::Pred)
        return fail(token, "'", token.text, "' is not a type of a variable");
      variable.type = type;
      variable.alignment = std::max<uint64_t>(variable.alignment, sizeOf(type));
      advance();
    }
  }
  if (token.kind != Token::Identifier)
    return fail(token, "expected the name of a variable, but found ", found());
  variable.name = std::string(token.text);
  variable.line = token.line;
  Token at = token;
  advance();
  uint64_t count = 1;
  variable.isArray = false;
  bool open = false;
  while (consume('[')) {
    variable.isArray = true;
    if (consume(']')) {
      open = true;
      continue;
    }
    uint64_t dim;
    if (!expectInteger(dim, "the size of an array"))
      return false;
    if (dim > kMaxVariableBytes || (dim && count > kMaxVariableBytes / dim))
      return fail(at, "array '", variable.name, "' is too large");
    count *= dim;
    if (!expect(']', "after the size of an array"))
      return false;
  }
  variable.bytes = count * sizeOf(variable.type);
  if (variable.bytes > kMaxVariableBytes)
    return fail(at, "array '", variable.name, "' is too large");
  if (token.is('=')) {
    if (variable.space != Space::Global && variable.space != Space::Const)
      return fail(token, "a variable in .", nameOf(variable.space),
                  " cannot have an initial value");
    advance();
    uint64_t offset = 0;
    if (!initializer(variable, offset, 0))
      return false;
    if (open)
      variable.bytes = offset;
    if (offset > variable.bytes)
      return fail(at, "too many initial values for '", variable.name, "'");
    variable.initial.resize(variable.bytes);
  } else if (open) {
    variable.bytes = 0;
    if (!variable.isExtern && variable.space != Space::Param)
      return fail(at, "array '", variable.name, "' has no size");
  }
  return true;
}

bool Parser::initializer(Variable &variable, uint64_t &offset, unsigned depth) {
  if (depth > kMaxDepth)
    return fail(token, "braces are nested too deeply");
  if (consume('{')) {
    if (consume('}'))
      return true;
    do {
      if (!initializer(variable, offset, depth + 1))
        return false;
    } while (consume(','));
    return expect('}', "after initial values");
  }
  unsigned size = sizeOf(variable.type);
  uint64_t bits = 0;
  if (token.kind == Token::Identifier) {
    std::string name(token.text);
    Token at = token;
    advance();
    if (name == "generic") {
      if (!expect('(', "after generic"))
        return false;
      name = std::string(token.text);
      advance();
      if (!expect(')', "after a name"))
        return false;
    }
    if (size != 8)
      return fail(at, "an address needs an element of 64 bits");
    variable.relocations.emplace_back(offset, name);
    if (consume('+') && !expectInteger(bits, "an offset"))
      return false;
  } else {
    Operand value;
    if (!literal(value))
      return false;
    double number;
    float narrow;
    std::memcpy(&number, &value.value, sizeof number);
    if (variable.type == Type::F64 && value.kind == Operand::Integer) {
      number = double(value.value);
      std::memcpy(&bits, &number, sizeof bits);
    } else if (variable.type == Type::F32 && value.kind != Operand::Float32) {
      narrow =
          value.kind == Operand::Integer ? float(value.value) : float(number);
      std::memcpy(&bits, &narrow, sizeof narrow);
    } else {
      bits = static_cast<uint64_t>(value.value);
    }
  }
  if (offset + size > kMaxVariableBytes)
    return fail(token, "too many initial values");
  if (variable.initial.size() < offset + size)
    variable.initial.resize(offset + size);
  std::memcpy(variable.initial.data() + offset, &bits, size);
  offset += size;
  return true;
}

bool Parser::threadCounts(uint32_t (&counts)[3]) {
  counts[0] = counts[1] = counts[2] = 1;
  for (unsigned i = 0; i < 3; ++i) {
    Token at = token;
    uint64_t value;
    if (!expectInteger(value, "a number of threads"))
      return false;
    if (value == 0 || value > 65536)
      return fail(at, value, " is not a number of threads");
    counts[i] = static_cast<uint32_t>(value);
    if (!consume(','))
      break;
  }
  return true;
}

bool Parser::parameters(std::vector<Variable> &params) {
  if (!expect('(', "before parameters"))
    return false;
  if (consume(')'))
    return true;
  do {
    if (token.is(".reg"))
      return fail(token, "parameters in registers are not supported");
    if (!token.is(".param"))
      return fail(token, "expected a parameter, but found ", found());
    Variable variable;
    if (!declaration(variable))
      return false;
    params.push_back(std::move(variable));
  } while (consume(','));
  return expect(')', "after parameters");
}

bool Parser::function(bool isEntry) {
  advance();
  Function function;
  function.isEntry = isEntry;
  if (!isEntry && token.is('(') && !parameters(function.results))
    return false;
  if (token.kind != Token::Identifier)
    return fail(token, "expected the name of a function, but found ", found());
  function.name = std::string(token.text);
  function.line = token.line;
  advance();
  if (token.is('(') && !parameters(function.params))
    return false;
  while (token.kind == Token::Identifier) {
    if (token.is(".maxntid") || token.is(".reqntid")) {
      auto &counts =
          token.is(".maxntid") ? function.maxThreads : function.requiredThreads;
      advance();
      if (!threadCounts(counts))
        return false;
    } else if (token.is(".minnctapersm") || token.is(".maxnctapersm") ||
               token.is(".maxnreg") || token.is(".maxclusterrank")) {
      advance();
      uint64_t ignored;
      if (!expectInteger(ignored, "a number"))
        return false;
    } else if (token.is(".noreturn") || token.is(".blocksareclusters") ||
               token.is(".unique") || token.is(".explicitcluster")) {
      advance();
    } else if (token.is(".pragma")) {
      while (token.kind != Token::End && !token.is(';'))
        advance();
      advance();
    } else {
      return fail(token, "'", token.text,
                  "' is not supported in the head of a function");
    }
  }
  if (consume(';'))
    return true; // a declaration
  file.functions.push_back(std::move(function));
  fn = &file.functions.back();
  labelAlias.clear();
  scopes.clear();
  scopes.emplace_back();
  for (const auto *list : {&fn->results, &fn->params})
    for (const Variable &param : *list) {
      scopes.back().variables[param.name] =
          static_cast<uint32_t>(fn->variables.size());
      fn->variables.push_back(param);
    }
  return body();
}

Expected<std::unique_ptr<File>> parse(std::string_view text, std::string name) {
  auto file = std::make_unique<File>();
  file->text = std::string(text);
  file->name = std::move(name);
  Parser parser(*file);
  Status status = parser.parse();
  if (!status.ok())
    return status;
  return file;
}

} // namespace delta::sim::ptx
