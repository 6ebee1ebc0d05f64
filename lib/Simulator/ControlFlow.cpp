//===- ControlFlow.cpp - reconvergence and unset registers ----------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Lanes that part at a branch meet at its immediate post-dominator, found by
// iterating over the reversed flow graph (Cooper, Harvey, Kennedy). A forward
// analysis finds the registers that are certainly written before each use, so
// that only the others are watched while running.
//
//===----------------------------------------------------------------------===//

#include "Decoder.h"

#include <algorithm>

namespace delta::sim {

namespace {

struct Block {
  uint32_t begin = 0, end = 0; ///< instructions
  std::vector<uint32_t> successors, predecessors;
};

class Graph {
public:
  explicit Graph(KernelProgram &program) : program(program) { build(); }

  void findReconvergence();
  void findUnsetRegisters();

private:
  void build();
  void connect(uint32_t from, uint32_t to) {
    blocks[from].successors.push_back(to);
    blocks[to].predecessors.push_back(from);
  }
  bool endsBlock(const Inst &inst) const {
    return inst.run == ops::branch || inst.run == ops::branchIndexed ||
           inst.run == ops::exit || inst.run == ops::trap;
  }

  KernelProgram &program;
  std::vector<Block> blocks; ///< the last one is the exit
  std::vector<uint32_t> blockOf;
};

void Graph::build() {
  const std::vector<Inst> &code = program.code;
  uint32_t size = static_cast<uint32_t>(code.size());
  std::vector<bool> leader(size + 1, false);
  leader[0] = true;
  for (uint32_t i = 0; i < size; ++i) {
    if (!endsBlock(code[i]))
      continue;
    leader[i + 1] = true;
    if (code[i].run == ops::branch)
      leader[code[i].target] = true;
    if (code[i].run == ops::branchIndexed)
      for (uint32_t target : program.branchTables[size_t(code[i].imm)])
        leader[target] = true;
  }
  blockOf.assign(size + 1, 0);
  for (uint32_t i = 0; i < size; ++i) {
    if (leader[i]) {
      if (!blocks.empty())
        blocks.back().end = i;
      blocks.emplace_back();
      blocks.back().begin = i;
    }
    blockOf[i] = static_cast<uint32_t>(blocks.size()) - 1;
  }
  blocks.back().end = size;
  uint32_t exit = static_cast<uint32_t>(blocks.size());
  blocks.emplace_back();
  for (uint32_t b = 0; b < exit; ++b) {
    const Inst &last = code[blocks[b].end - 1];
    bool guarded = last.guard != kNone;
    bool leaves = last.run == ops::exit || last.run == ops::trap;
    if (leaves)
      connect(b, exit);
    if (last.run == ops::branch)
      connect(b, blockOf[last.target]);
    if (last.run == ops::branchIndexed)
      for (uint32_t target : program.branchTables[size_t(last.imm)])
        connect(b, blockOf[target]);
    if (guarded || !endsBlock(last))
      connect(b, blocks[b].end < size ? blockOf[blocks[b].end] : exit);
  }
}

void Graph::findReconvergence() {
  uint32_t count = static_cast<uint32_t>(blocks.size()), exit = count - 1;
  // Postorder of the reversed graph from the exit, without recursion.
  std::vector<uint32_t> order(count, kNone), sequence;
  std::vector<std::pair<uint32_t, size_t>> stack{{exit, 0}};
  std::vector<bool> seen(count, false);
  seen[exit] = true;
  while (!stack.empty()) {
    auto &[block, next] = stack.back();
    if (next < blocks[block].predecessors.size()) {
      uint32_t to = blocks[block].predecessors[next++];
      if (!seen[to]) {
        seen[to] = true;
        stack.emplace_back(to, 0);
      }
      continue;
    }
    order[block] = static_cast<uint32_t>(sequence.size());
    sequence.push_back(block);
    stack.pop_back();
  }
  std::vector<uint32_t> idom(count, kNone);
  idom[exit] = exit;
  for (bool changed = true; changed;) {
    changed = false;
    for (size_t i = sequence.size(); i-- > 0;) {
      uint32_t block = sequence[i], best = kNone;
      if (block == exit)
        continue;
      for (uint32_t s : blocks[block].successors) {
        if (idom[s] == kNone)
          continue;
        uint32_t other = s;
        if (best == kNone) {
          best = other;
          continue;
        }
        while (best != other) {
          while (order[best] < order[other])
            best = idom[best];
          while (order[other] < order[best])
            other = idom[other];
        }
      }
      if (best != idom[block]) {
        idom[block] = best;
        changed = true;
      }
    }
  }
  for (uint32_t b = 0; b < exit; ++b) {
    Inst &last = program.code[blocks[b].end - 1];
    if (last.run != ops::branch && last.run != ops::branchIndexed)
      continue;
    // From where no way leads out, lanes do not meet again.
    uint32_t meet = idom[b];
    last.reconverge =
        meet == kNone || meet == exit ? kNone : blocks[meet].begin;
  }
}

void Graph::findUnsetRegisters() {
  size_t numRegisters = program.registerNames.size();
  size_t words = (numRegisters + 63) / 64;
  uint32_t exit = static_cast<uint32_t>(blocks.size()) - 1;
  using Set = std::vector<uint64_t>;
  auto has = [](const Set &set, uint32_t r) {
    return (set[r / 64] >> (r % 64)) & 1;
  };
  // Walks a block with the registers that are set at its start.
  auto walk = [&](uint32_t block, Set &set, bool mark) {
    for (uint32_t i = blocks[block].begin; i < blocks[block].end; ++i) {
      const InstRegisters &regs = program.registers[i];
      bool anySet = regs.reads.empty();
      for (uint32_t r : regs.reads) {
        anySet |= has(set, r);
        if (!has(set, r)) {
          if (mark) {
            program.code[i].checked = true;
            program.tracked[r] = true;
          }
        }
      }
      if (program.code[i].guard == kNone && (!regs.copies || anySet))
        for (uint32_t r : regs.writes)
          set[r / 64] |= uint64_t(1) << (r % 64);
    }
  };
  program.tracked.assign(numRegisters, false);
  std::vector<Set> in(blocks.size());
  std::vector<bool> reached(blocks.size(), false);
  std::vector<uint32_t> work{0};
  in[0].assign(words, 0);
  reached[0] = true;
  while (!work.empty()) {
    uint32_t block = work.back();
    work.pop_back();
    Set set = in[block];
    walk(block, set, false);
    for (uint32_t s : blocks[block].successors) {
      if (s == exit)
        continue;
      if (!reached[s]) {
        reached[s] = true;
        in[s] = set;
        work.push_back(s);
        continue;
      }
      bool changed = false;
      for (size_t w = 0; w < words; ++w) {
        uint64_t meet = in[s][w] & set[w];
        changed |= meet != in[s][w];
        in[s][w] = meet;
      }
      if (changed)
        work.push_back(s);
    }
  }
  for (uint32_t b = 0; b < exit; ++b)
    if (reached[b])
      walk(b, in[b], true);
  for (size_t i = 0; i < program.code.size(); ++i) {
    for (uint32_t r : program.registers[i].writes)
      if (program.tracked[r])
        program.code[i].checked = true;
    if (!program.code[i].checked)
      program.registers[i] = InstRegisters();
    else
      program.mayReadUnset = true;
  }
}

} // namespace

void analyzeControlFlow(KernelProgram &program) {
  Graph graph(program);
  graph.findReconvergence();
  graph.findUnsetRegisters();
}

} // namespace delta::sim
