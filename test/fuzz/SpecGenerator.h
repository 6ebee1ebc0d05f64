//===- SpecGenerator.h - well-typed specs from bytes ------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Bytes choose productions of a typed grammar, so that a fuzzer reaches what
// lies behind the parser. Types mostly fit; whether a step is in the class is
// left to chance.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_TEST_FUZZ_SPECGENERATOR_H
#define DELTA_TEST_FUZZ_SPECGENERATOR_H

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace delta::fuzz {

class SpecGenerator {
public:
  explicit SpecGenerator(const std::string &bytes) : bytes(bytes) {}

  std::string run() {
    static const char *const stateDims[][2] = {
        {"K", "V"}, {"K", "K"}, {"V", "K"}, {"d", "V"}};
    const auto &dims = stateDims[below(4)];
    rows = dims[0];
    cols = dims[1];
    std::string text = "recurrence generated {\ndim d, n\nin q: K, k: K, v: V, "
                       "w: V, x: d, f[n]: K, h[n]: V, s: scalar\n"
                       "param u: K, c: scalar\nattr a = K ^ -0.5\nstate S: " +
                       rows + " x " + cols + "\n";
    values = {{{"K", ""}, {"q", "k", "u", "f[0]"}},
              {{"V", ""}, {"v", "w", "h[1]"}},
              {{"d", ""}, {"x"}},
              {{"", ""}, {"s", "c", "a", "2", "0.5", "n", "K"}},
              {{rows, cols}, {"S"}}};
    for (size_t i = 0, e = 1 + below(6); i < e; ++i)
      text += statement(i);
    return text + "out o = " + column(cols, 3) + "\n}\n";
  }

private:
  using Key = std::pair<std::string, std::string>;

  unsigned below(unsigned n) {
    if (position >= bytes.size())
      return 0;
    return static_cast<unsigned char>(bytes[position++]) % n;
  }
  const std::string &pick(const std::vector<std::string> &list) {
    return list[below(list.size())];
  }
  std::string dim() { return pick({"K", "V", "d"}); }

  std::string statement(size_t index) {
    std::string name = "t" + std::to_string(index);
    switch (below(5)) {
    case 0: {
      Key key{below(2) ? dim() : "", below(3) ? "" : dim()};
      std::string value = any(key, 3);
      values[key].push_back(name);
      return "let " + name + " = " + value + "\n";
    }
    case 1:
      return "for j in n { S = " + matrix(rows, cols, 3) + " }\n";
    case 2:
      return "out " + name + " = " + column(dim(), 3) + "\n";
    default:
      return "S = " + matrix(rows, cols, 4) + "\n";
    }
  }

  std::string any(const Key &key, int depth) {
    if (key.first.empty() && key.second.empty())
      return scalar(depth);
    if (key.second.empty())
      return column(key.first, depth);
    if (key.first.empty())
      return column(key.second, depth) + "^T";
    return matrix(key.first, key.second, depth);
  }
  /// A value of that type by name, if there is one.
  std::string leaf(const Key &key, const std::string &otherwise) {
    auto it = values.find(key);
    return it == values.end() ? otherwise : pick(it->second);
  }

  std::string scalar(int depth) {
    if (depth <= 0)
      return leaf({"", ""}, "1");
    std::string d = dim();
    switch (below(8)) {
    case 0:
      return "dot(" + column(d, depth - 1) + ", " + column(d, depth - 1) + ")";
    case 1:
      return "sum(" + column(d, depth - 1) + ")";
    case 2:
      return "(" + column(d, depth - 1) + "^T * " + column(d, depth - 1) + ")";
    case 3:
      return function() + "(" + scalar(depth - 1) + ")";
    case 4:
      return "(" + scalar(depth - 1) + pick({" + ", " - ", " * ", " / "}) +
             scalar(depth - 1) + ")";
    default:
      return leaf({"", ""}, "1");
    }
  }

  std::string column(const std::string &d, int depth) {
    if (depth <= 0)
      return leaf({d, ""}, "x");
    std::string other = dim();
    switch (below(12)) {
    case 0:
    case 1:
      return "(" + column(d, depth - 1) + pick({" + ", " - ", " .* ", " ./ "}) +
             column(d, depth - 1) + ")";
    case 2:
      return "(" + scalar(depth - 1) + pick({" + ", " * ", " .* "}) +
             column(d, depth - 1) + ")";
    case 3:
      return "(" + matrix(d, other, depth - 1) + " * " +
             column(other, depth - 1) + ")";
    case 4:
      return "(" + column(other, depth - 1) + "^T * " +
             matrix(other, d, depth - 1) + ")^T";
    case 5:
      return function() + "(" + column(d, depth - 1) + ")";
    case 6:
      return "(" + column(d, depth - 1) + " ^ 2)";
    case 7:
    case 8:
      return "(" + matrix(rows, d, depth - 1) + "^T * " +
             column(rows, depth - 1) + ")";
    default:
      return leaf({d, ""}, "x");
    }
  }

  std::string matrix(const std::string &r, const std::string &c, int depth) {
    bool square = r == c;
    if (depth <= 0)
      return leaf({r, c}, "(" + column(r, 0) + " * " + column(c, 0) + "^T)");
    std::string d = dim();
    switch (below(12)) {
    case 0:
    case 1:
      return "(" + matrix(r, c, depth - 1) + pick({" + ", " - "}) +
             matrix(r, c, depth - 1) + ")";
    case 2:
      return "(" + scalar(depth - 1) + " * " + matrix(r, c, depth - 1) + ")";
    case 3:
    case 4:
      return "(" + column(r, depth - 1) + " * " + column(c, depth - 1) + "^T)";
    case 5:
      return "(" + matrix(r, d, depth - 1) + " * " + matrix(d, c, depth - 1) +
             ")";
    case 6:
    case 7:
      return "(diag(" + column(r, depth - 1) + ") * " +
             matrix(r, c, depth - 1) + ")";
    case 8:
      return matrix(c, r, depth - 1) + "^T";
    case 9:
      return square ? "eye(" + r + ")"
                    : "(" + matrix(r, c, depth - 1) + " .* 2)";
    case 10:
      return square ? "diag(" + column(r, depth - 1) + ")"
                    : "(-" + matrix(r, c, depth - 1) + ")";
    default:
      return leaf({r, c}, "(" + column(r, 0) + " * " + column(c, 0) + "^T)");
    }
  }

  std::string function() {
    return pick({"exp", "exp2", "sigmoid", "softplus", "silu", "tanh", "relu",
                 "abs", "-", "l2norm", "log", "sqrt", "rsqrt"});
  }

  const std::string &bytes;
  size_t position = 0;
  std::string rows, cols;
  std::map<Key, std::vector<std::string>> values;
};

} // namespace delta::fuzz

#endif // DELTA_TEST_FUZZ_SPECGENERATOR_H
