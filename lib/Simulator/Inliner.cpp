//===- Inliner.cpp - calls become the bodies of their functions -----------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A call is replaced by a copy of its function with registers, labels and
// variables of its own. Parameters are the caller's .param variables, which are
// local memory; a return is a branch behind the copy.
//
//===----------------------------------------------------------------------===//

#include "Inliner.h"

namespace delta::sim::ptx {

using runtime::Status;

namespace {

constexpr size_t kMaxInstructions = 1 << 20;
constexpr unsigned kMaxDepth = 16;

/// Where a copy's names begin, and what its parameters stand for.
struct Copy {
  uint32_t registers = 0, labels = 0;
  std::vector<uint32_t> variables;
  uint32_t end = 0; ///< the label behind it
};

class Inliner {
public:
  Inliner(const File &file, Function &to) : file(file), to(to) {}

  Status run(const Function &from);

private:
  template <typename... Parts>
  bool fail(const Instruction &at, const Parts &...parts) {
    if (status.ok())
      status = Status::error(place(file, at.line, at.column), parts...);
    return false;
  }
  bool body(const Function &from, const Copy *copy, unsigned depth);
  bool call(const Instruction &inst, const Copy *copy, unsigned depth);
  bool bind(const Instruction &inst, const Operand &list,
            const std::vector<Variable> &formal, const char *what,
            std::vector<uint32_t> &variables);
  const Function *find(std::string_view name) const;
  static void rename(Operand &operand, const Copy &copy);

  const File &file;
  Function &to;
  Status status;
};

const Function *Inliner::find(std::string_view name) const {
  for (const Function &function : file.functions)
    if (!function.isEntry && function.name == name)
      return &function;
  return nullptr;
}

void Inliner::rename(Operand &operand, const Copy &copy) {
  switch (operand.kind) {
  case Operand::Register:
    operand.index += copy.registers;
    break;
  case Operand::Label:
    operand.index += copy.labels;
    break;
  case Operand::Variable:
    if (!operand.global)
      operand.index = copy.variables[operand.index];
    break;
  default:
    break;
  }
  for (Operand &element : operand.elements)
    rename(element, copy);
}

bool Inliner::bind(const Instruction &inst, const Operand &list,
                   const std::vector<Variable> &formal, const char *what,
                   std::vector<uint32_t> &variables) {
  if (list.elements.size() != formal.size())
    return fail(inst, "'", inst.opcode, "' has ", list.elements.size(), " ",
                what, "s; the function has ", formal.size());
  for (size_t i = 0; i < formal.size(); ++i) {
    const Operand &actual = list.elements[i];
    if (actual.kind != Operand::Variable || actual.global)
      return fail(inst, "a ", what, " of '", inst.opcode,
                  "' must be a .param variable");
    const Variable &variable = to.variables[actual.index];
    if (variable.space != Space::Param || variable.bytes != formal[i].bytes)
      return fail(inst, what, " '", variable.name, "' of ", variable.bytes,
                  " bytes does not match '", formal[i].name, "' of ",
                  formal[i].bytes);
    variables.push_back(actual.index);
  }
  return true;
}

bool Inliner::call(const Instruction &inst, const Copy *copy, unsigned depth) {
  if (inst.guard >= 0)
    return fail(inst, "a call under a predicate is not supported; branch "
                      "around it");
  // (results), name, (arguments): both lists may be missing.
  static const Operand empty;
  const Operand *results = &empty, *name = nullptr, *arguments = &empty;
  std::vector<Operand> operands = inst.operands;
  if (copy)
    for (Operand &operand : operands)
      if (operand.kind == Operand::Vector)
        rename(operand, *copy);
  for (const Operand &operand : operands) {
    if (operand.kind == Operand::Vector)
      (name ? arguments : results) = &operand;
    else if (!name)
      name = &operand;
    else
      return fail(inst, "indirect calls are not supported");
  }
  if (!name || name->kind != Operand::Label)
    return fail(inst, "indirect calls are not supported");
  const Function *callee = find(name->text);
  if (!callee)
    return fail(inst, "function '", name->text, "' has no body in this file");
  if (depth >= kMaxDepth)
    return fail(inst, "calls are nested more than ", kMaxDepth,
                " deep; recursion is not supported");
  Copy inner;
  inner.registers = static_cast<uint32_t>(to.registers.size());
  to.registers.insert(to.registers.end(), callee->registers.begin(),
                      callee->registers.end());
  inner.labels = static_cast<uint32_t>(to.labels.size());
  for (Label label : callee->labels) {
    for (uint32_t &target : label.branchTargets)
      target += inner.labels;
    label.target = -1; // set while copying
    to.labels.push_back(std::move(label));
  }
  if (!bind(inst, *results, callee->results, "result", inner.variables) ||
      !bind(inst, *arguments, callee->params, "argument", inner.variables))
    return false;
  for (size_t i = inner.variables.size(); i < callee->variables.size(); ++i) {
    inner.variables.push_back(static_cast<uint32_t>(to.variables.size()));
    to.variables.push_back(callee->variables[i]);
  }
  inner.end = static_cast<uint32_t>(to.labels.size());
  to.labels.push_back({callee->name, -1, inst.line, {}});
  if (!body(*callee, &inner, depth + 1))
    return false;
  to.labels[inner.end].target = static_cast<int64_t>(to.body.size());
  return true;
}

bool Inliner::body(const Function &from, const Copy *copy, unsigned depth) {
  // Instructions move, so labels are set as they are passed.
  std::vector<std::vector<uint32_t>> labelsAt(from.body.size() + 1);
  for (uint32_t i = 0; i < from.labels.size(); ++i)
    if (from.labels[i].target >= 0)
      labelsAt[size_t(from.labels[i].target)].push_back(i);
  for (size_t i = 0; i <= from.body.size(); ++i) {
    for (uint32_t label : labelsAt[i])
      to.labels[label + (copy ? copy->labels : 0)].target =
          static_cast<int64_t>(to.body.size());
    if (i == from.body.size())
      break;
    if (to.body.size() >= kMaxInstructions)
      return fail(from.body[i], "there are more than ", kMaxInstructions,
                  " instructions after inlining");
    Instruction inst = from.body[i];
    std::string_view base = inst.opcode.substr(0, inst.opcode.find('.'));
    if (base == "call") {
      if (!call(inst, copy, depth))
        return false;
      continue;
    }
    if (copy) {
      for (Operand &operand : inst.operands)
        rename(operand, *copy);
      if (inst.guard >= 0)
        inst.guard += static_cast<int32_t>(copy->registers);
      if (base == "ret") {
        Operand end;
        end.kind = Operand::Label;
        end.index = copy->end;
        end.text = to.labels[copy->end].name;
        inst.opcode = "bra";
        inst.operands = {end};
      }
    }
    to.body.push_back(std::move(inst));
  }
  return true;
}

Status Inliner::run(const Function &from) {
  to = from;
  to.body.clear();
  body(from, nullptr, 0);
  return status;
}

} // namespace

bool hasCalls(const Function &function) {
  for (const Instruction &inst : function.body)
    if (inst.opcode.substr(0, inst.opcode.find('.')) == "call")
      return true;
  return false;
}

Status inlineCalls(const File &file, const Function &from, Function &to) {
  return Inliner(file, to).run(from);
}

} // namespace delta::sim::ptx
