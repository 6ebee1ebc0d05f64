//===- Parser.cpp - parsing of PTX ----------------------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A recursive-descent parser. Names are resolved while parsing: registers and
// variables must be declared before use, labels need not. Ranges of registers
// (`%r<100>`) take room only for those that are used. The first error ends it.
//
//===----------------------------------------------------------------------===//

#include "Parser.h"
#include "Lexer.h"

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
constexpr size_t kMaxDepth = 64;

/// What a pair of braces opens.
struct Scope {
  struct Range {
    std::string prefix;
    uint64_t count;
    Type type;
  };
  std::vector<Range> ranges;
  std::unordered_map<std::string, uint32_t> registers, variables;
  std::unordered_map<std::string_view, uint32_t> labels;
};

class Parser {
public:
  explicit Parser(File &file) : file(file), lexer(file.text) { advance(); }

  Status parse();

private:
  void advance() { token = lexer.next(); }

  /// Records the first error at `at`; always false.
  template <typename... Parts>
  bool fail(const Token &at, const Parts &...parts) {
    if (error.ok())
      error = Status::error(place(file, at.line, at.column), parts...);
    return false;
  }
  std::string found() const {
    if (token.kind == Token::End)
      return "the end of the file";
    return "'" + std::string(token.text) + "'";
  }
  bool consume(char c) {
    if (!token.is(c))
      return false;
    advance();
    return true;
  }
  bool expect(char c, const char *where) {
    if (consume(c))
      return true;
    return fail(token, "expected '", c, "' ", where, ", but found ", found());
  }
  bool expectInteger(uint64_t &value, const char *what) {
    if (token.kind != Token::Integer)
      return fail(token, "expected ", what, ", but found ", found());
    value = token.value;
    advance();
    return true;
  }

  bool topLevel();
  bool skipSection();
  bool function(bool isEntry);
  bool parameters(std::vector<Variable> &params);
  bool threadCounts(uint32_t (&counts)[3]);
  bool declaration(Variable &variable);
  bool initializer(Variable &variable, uint64_t &offset, unsigned depth);
  bool body();
  bool statement();
  bool bodyDirective();
  bool registers();
  bool branchTargets(uint32_t label);
  bool instruction();
  bool operand(Operand &operand, unsigned depth = 0);
  bool nameOperand(Operand &operand);
  bool literal(Operand &operand);
  bool address(Operand &operand);
  bool parenthesised(Operand &operand, unsigned depth);

  bool findRegister(std::string_view name, uint32_t &index);
  uint32_t label(std::string_view name);
  void closeScope();
  static std::optional<Space> spaceFromName(std::string_view name);

  File &file;
  Lexer lexer;
  Token token;
  Status error;
  Function *fn = nullptr;
  std::vector<Scope> scopes;
  std::vector<uint32_t> labelAlias; ///< of fn's labels; itself when none
  std::unordered_map<std::string, uint32_t> moduleVariables;
};

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
  std::vector<Variable> results;
  if (!isEntry && token.is('(') && !parameters(results))
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
  for (const Variable &param : fn->params) {
    scopes.back().variables[param.name] =
        static_cast<uint32_t>(fn->variables.size());
    fn->variables.push_back(param);
  }
  return body();
}

bool Parser::body() {
  Token start = token;
  if (!expect('{', "before the body of a function"))
    return false;
  size_t outermost = scopes.size();
  scopes.emplace_back();
  while (true) {
    if (token.kind == Token::End)
      return fail(start, "this function has no end");
    if (consume('{')) {
      if (scopes.size() > kMaxDepth)
        return fail(token, "blocks are nested too deeply");
      scopes.emplace_back();
      continue;
    }
    if (consume('}')) {
      closeScope();
      if (scopes.size() == outermost)
        break;
      continue;
    }
    if (!statement())
      return false;
  }
  // Labels of inner blocks that nobody defined were passed outwards.
  for (uint32_t i = 0; i < fn->labels.size(); ++i) {
    uint32_t to = i;
    while (labelAlias[to] != to)
      to = labelAlias[to];
    fn->labels[i].target = fn->labels[to].target;
    fn->labels[i].branchTargets = fn->labels[to].branchTargets;
  }
  return true;
}

void Parser::closeScope() {
  Scope scope = std::move(scopes.back());
  scopes.pop_back();
  for (auto &[name, index] : scope.labels) {
    if (fn->labels[index].target >= 0 ||
        !fn->labels[index].branchTargets.empty())
      continue;
    auto [it, inserted] = scopes.back().labels.try_emplace(name, index);
    if (!inserted)
      labelAlias[index] = it->second;
  }
}

uint32_t Parser::label(std::string_view name) {
  auto [it, inserted] = scopes.back().labels.try_emplace(
      name, static_cast<uint32_t>(fn->labels.size()));
  if (inserted) {
    // A label that an outer block already has is that one, until this block
    // defines its own.
    fn->labels.push_back({name, -1, token.line, {}});
    labelAlias.push_back(it->second);
  }
  return it->second;
}

bool Parser::statement() {
  if (token.kind == Token::Identifier && token.text[0] == '.')
    return bodyDirective();
  if (consume(';'))
    return true;
  if (token.is('@'))
    return instruction();
  if (token.kind != Token::Identifier)
    return fail(token, "expected an instruction, but found ", found());
  Token name = token;
  Lexer saved = lexer;
  Token following = lexer.next();
  if (following.is(':')) {
    advance();
    uint32_t index = label(name.text);
    Label &defined = fn->labels[index];
    if (defined.target >= 0)
      return fail(name, "label '", name.text, "' is defined twice");
    defined.target = static_cast<int64_t>(fn->body.size());
    defined.line = name.line;
    if (token.is(".branchtargets"))
      return branchTargets(index);
    if (token.is(".calltargets") || token.is(".callprototype"))
      return fail(token, "indirect calls are not supported");
    return true;
  }
  lexer = saved;
  return instruction();
}

bool Parser::branchTargets(uint32_t index) {
  advance();
  do {
    if (token.kind != Token::Identifier)
      return fail(token, "expected a label, but found ", found());
    uint32_t target = label(token.text);
    fn->labels[index].branchTargets.push_back(target);
    advance();
  } while (consume(','));
  return expect(';', "after .branchtargets");
}

bool Parser::bodyDirective() {
  if (token.is(".reg"))
    return registers();
  if (token.is(".loc") || token.is(".file")) {
    uint32_t line = token.line;
    while (token.kind != Token::End && token.line == line)
      advance();
    return true;
  }
  if (token.is(".pragma")) {
    while (token.kind != Token::End && !token.is(';'))
      advance();
    return expect(';', "after .pragma");
  }
  if (token.is(".section"))
    return skipSection();
  if (!spaceFromName(token.text))
    return fail(token, "unknown directive '", token.text, "'");
  Variable variable;
  do {
    if (!declaration(variable))
      return false;
    scopes.back().variables[variable.name] =
        static_cast<uint32_t>(fn->variables.size());
    fn->variables.push_back(variable);
    variable.initial.clear();
  } while (consume(','));
  return expect(';', "after a declaration");
}

bool Parser::registers() {
  advance();
  if (token.is(".v2") || token.is(".v4"))
    return fail(token, "vector registers are not supported; use scalar ones");
  Type type = token.kind == Token::Identifier && token.text[0] == '.'
                  ? typeFromName(token.text.substr(1))
                  : Type::None;
  if (type == Type::None)
    return fail(token, "expected the type of registers, but found ", found());
  if (type == Type::B128)
    return fail(token, "registers of 128 bits are not supported");
  advance();
  do {
    if (token.kind != Token::Identifier)
      return fail(token, "expected the name of a register, but found ",
                  found());
    std::string name(token.text);
    advance();
    if (consume('<')) {
      uint64_t count;
      if (!expectInteger(count, "a number of registers") ||
          !expect('>', "after a number of registers"))
        return false;
      scopes.back().ranges.push_back({name, count, type});
    } else {
      scopes.back().registers[name] =
          static_cast<uint32_t>(fn->registers.size());
      fn->registers.push_back({name, type});
    }
  } while (consume(','));
  return expect(';', "after registers");
}

bool Parser::findRegister(std::string_view name, uint32_t &index) {
  std::string key(name);
  for (size_t s = scopes.size(); s-- > 0;) {
    Scope &scope = scopes[s];
    auto it = scope.registers.find(key);
    if (it != scope.registers.end()) {
      index = it->second;
      return true;
    }
    for (const Scope::Range &range : scope.ranges) {
      size_t length = range.prefix.size();
      if (name.size() <= length || name.size() > length + 10 ||
          name.substr(0, length) != range.prefix)
        continue;
      uint64_t number = 0;
      bool digits = true;
      for (char c : name.substr(length)) {
        digits &= c >= '0' && c <= '9';
        number = number * 10 + uint64_t(c - '0');
      }
      if (!digits || (name[length] == '0' && name.size() > length + 1) ||
          number >= range.count)
        continue;
      index = static_cast<uint32_t>(fn->registers.size());
      fn->registers.push_back({key, range.type});
      scope.registers[key] = index;
      return true;
    }
  }
  return false;
}

bool Parser::instruction() {
  Instruction inst;
  if (consume('@')) {
    inst.guardNegated = consume('!');
    uint32_t index;
    if (token.kind != Token::Identifier || !findRegister(token.text, index))
      return fail(token, "expected a predicate register, but found ", found());
    if (fn->registers[index].type != Type::Pred)
      return fail(token, "'", token.text, "' is not a predicate");
    inst.guard = static_cast<int32_t>(index);
    advance();
  }
  if (token.kind != Token::Identifier)
    return fail(token, "expected an instruction, but found ", found());
  inst.opcode = token.text;
  inst.line = token.line;
  inst.column = token.column;
  advance();
  while (!token.is(';')) {
    if (!inst.operands.empty() && !expect(',', "between operands"))
      return false;
    inst.operands.emplace_back();
    if (!operand(inst.operands.back()))
      return false;
  }
  advance();
  fn->body.push_back(std::move(inst));
  return true;
}

bool Parser::literal(Operand &operand) {
  bool minus = false;
  while (token.is('-') || token.is('+')) {
    minus ^= token.is('-');
    advance();
  }
  operand.text = token.text;
  switch (token.kind) {
  case Token::Integer:
    operand.kind = Operand::Integer;
    operand.value = static_cast<int64_t>(minus ? 0 - token.value : token.value);
    break;
  case Token::Float:
  case Token::Float32: {
    bool wide = token.kind == Token::Float;
    operand.kind = wide ? Operand::Float : Operand::Float32;
    uint64_t sign = minus ? uint64_t(1) << (wide ? 63 : 31) : 0;
    operand.value = static_cast<int64_t>(token.value ^ sign);
    break;
  }
  default:
    return fail(token, "expected an operand, but found ", found());
  }
  advance();
  return true;
}

bool Parser::parenthesised(Operand &operand, unsigned depth) {
  // The lists of a call; a sign or an expression in parentheses has one entry.
  advance();
  operand.kind = Operand::Vector;
  operand.text = "(";
  if (consume(')'))
    return true;
  do {
    operand.elements.emplace_back();
    if (!this->operand(operand.elements.back(), depth + 1))
      return false;
  } while (consume(','));
  return expect(')', "after a list");
}

bool Parser::operand(Operand &operand, unsigned depth) {
  if (depth > kMaxDepth)
    return fail(token, "operands are nested too deeply");
  if (token.is('(')) {
    return parenthesised(operand, depth);
  }
  if (token.is('{')) {
    operand.kind = Operand::Vector;
    operand.text = token.text;
    advance();
    do {
      operand.elements.emplace_back();
      if (!this->operand(operand.elements.back(), depth + 1))
        return false;
    } while (consume(','));
    return expect('}', "after a vector");
  }
  if (token.is('['))
    return address(operand);
  if (token.is('!')) {
    advance();
    if (!nameOperand(operand))
      return false;
    operand.negated = true;
    return true;
  }
  if (token.kind != Token::Identifier)
    return literal(operand);
  if (!nameOperand(operand))
    return false;
  if (token.is('|')) {
    advance();
    Operand first = std::move(operand);
    operand = Operand();
    operand.kind = Operand::Pair;
    operand.text = first.text;
    operand.elements.push_back(std::move(first));
    operand.elements.emplace_back();
    return nameOperand(operand.elements.back());
  }
  if (operand.kind == Operand::Variable && (token.is('+') || token.is('-'))) {
    Operand offset;
    if (!literal(offset))
      return false;
    operand.value = offset.value;
  }
  return true;
}

bool Parser::nameOperand(Operand &operand) {
  if (token.kind != Token::Identifier)
    return fail(token, "expected an operand, but found ", found());
  std::string_view name = token.text;
  operand.text = name;
  if (name == "_") {
    operand.kind = Operand::Sink;
  } else if (name == "WARP_SZ") {
    operand.kind = Operand::Integer;
    operand.value = 32;
  } else if (findRegister(name, operand.index)) {
    operand.kind = Operand::Register;
  } else if (name[0] == '%') {
    operand.kind = Operand::Special;
  } else {
    std::string key(name);
    for (size_t s = scopes.size(); s-- > 0;) {
      auto it = scopes[s].variables.find(key);
      if (it != scopes[s].variables.end()) {
        operand.kind = Operand::Variable;
        operand.index = it->second;
        advance();
        return true;
      }
    }
    auto it = moduleVariables.find(key);
    if (it != moduleVariables.end()) {
      operand.kind = Operand::Variable;
      operand.global = true;
      operand.index = it->second;
    } else {
      operand.kind = Operand::Label;
      operand.index = label(name);
    }
  }
  advance();
  return true;
}

bool Parser::address(Operand &operand) {
  operand.kind = Operand::Address;
  operand.text = token.text;
  advance();
  operand.elements.emplace_back();
  Operand &base = operand.elements.back();
  if (token.kind == Token::Identifier) {
    if (!nameOperand(base))
      return false;
  } else if (!literal(base)) {
    return false;
  }
  if (token.is(','))
    return fail(token, "tensor and texture addresses are not supported");
  if (token.is('+') || token.is('-')) {
    Operand offset;
    if (!literal(offset))
      return false;
    operand.value = offset.value;
  }
  return expect(']', "after an address");
}

} // namespace

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
