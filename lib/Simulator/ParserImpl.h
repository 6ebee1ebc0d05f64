//===- ParserImpl.h - the parser's class ------------------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The members are in Parser.cpp (the file and its declarations) and
// ParseBody.cpp (statements and operands).
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_LIB_SIMULATOR_PARSERIMPL_H
#define DELTA_LIB_SIMULATOR_PARSERIMPL_H

#include "Lexer.h"
#include "Parser.h"

namespace delta::sim::ptx {

constexpr size_t kMaxDepth = 64; ///< of nested braces

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

  runtime::Status parse();

private:
  void advance() { token = lexer.next(); }

  /// Records the first error at `at`; always false.
  template <typename... Parts>
  bool fail(const Token &at, const Parts &...parts) {
    if (error.ok())
      error = runtime::Status::error(place(file, at.line, at.column), parts...);
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
  runtime::Status error;
  Function *fn = nullptr;
  std::vector<Scope> scopes;
  std::vector<uint32_t> labelAlias; ///< of fn's labels; itself when none
  std::unordered_map<std::string, uint32_t> moduleVariables;
};

} // namespace delta::sim::ptx

#endif // DELTA_LIB_SIMULATOR_PARSERIMPL_H
