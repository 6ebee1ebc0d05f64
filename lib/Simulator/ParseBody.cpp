//===- ParseBody.cpp - parsing of statements and operands -----------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Bodies of functions: registers, labels and instructions in nested scopes.
// Ranges of registers (`%r<100>`) take room only for those that are used.
//
//===----------------------------------------------------------------------===//

#include "ParserImpl.h"

namespace delta::sim::ptx {

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

} // namespace delta::sim::ptx
