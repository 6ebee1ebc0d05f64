//===- SpecFuzzer.cpp - fuzzing of the spec front end ---------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Parses mutated specs. Findings are crashes, hangs, errors without words,
// a result beside an error or none without one, a printed form that is another
// recurrence, and an import that does not verify.
//
//===----------------------------------------------------------------------===//

#include "FuzzMain.h"
#include "SpecGenerator.h"
#include "delta/Spec/Evaluate.h"
#include "delta/Spec/Import.h"
#include "delta/Spec/Library.h"
#include "delta/Spec/Parser.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/Verifier.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/SourceMgr.h"
#include "llvm/Support/raw_ostream.h"

using namespace llvm;
using delta::fuzz::Bytes;
using delta::spec::Diagnostic;
using delta::spec::Severity;

/// A spec with what the library has none of.
static constexpr StringLiteral extraSeed = R"(
recurrence extra { dim n, d; # A comment: é.
  in q: K in [-1, 1], k[n]: K, x: d, s[n]: scalar in [0, inf]
  param u: K, c: scalar attr a in [-inf, 2.5e-1] attr b = K ^ -(0.5 + a) / 2
  state S : K x K
  let M = (diag(exp(q)) - 0.3 * l2norm(q) * q^T) .* 2 ./ c; let N = M' * eye(K)
  S = ((S^T * M) * N)^T * 0.1 + M^T * N * S / 4
  for j in n { let r = k[j]^T * S; S = S - s[j] * k[j] * (r - q')^T^T }
  out o = -(q^T * S)^T + 2 .* (S^T * N * u) .* (1 ./ (1 + q^2))
  out p = sum(min(x, s[0])) + max(a, -b) + dot(x, sigmoid(tanh(x))) + k[1]^T*q
}
)";

static bool reject(const Twine &reason) {
  errs() << reason << '\n';
  return false;
}

/// Parses `text`; `good` becomes false on a finding.
static std::unique_ptr<delta::spec::Recurrence>
parse(SourceMgr &sources, StringRef text, bool &good) {
  unsigned id = sources.AddNewSourceBuffer(
      MemoryBuffer::getMemBufferCopy(text, "fuzz.delta"), SMLoc());
  StringRef buffer = sources.getMemoryBuffer(id)->getBuffer();
  unsigned errors = 0;
  std::string shown;
  raw_string_ostream os(shown);
  auto recurrence =
      delta::spec::parse(sources, id, [&](const Diagnostic &diagnostic) {
        errors += diagnostic.severity == Severity::Error;
        StringRef message = diagnostic.message;
        const char *at = diagnostic.loc.getPointer();
        if (message.empty() || message.ends_with(".") ||
            message.contains("''\n") || message.size() > 600)
          good = reject("bad message: " + message);
        if (at && (at < buffer.begin() || at > buffer.end()))
          good = reject("place outside the text: " + message);
        if (!at && diagnostic.severity != Severity::Note)
          good = reject("no place: " + message);
        printDiagnostic(os, sources, diagnostic);
      });
  if (!recurrence == !errors)
    good = reject(errors ? "a result beside errors" : "no result, no error");
  if (shown.size() > 200000)
    good = reject("too much is printed");
  return recurrence;
}

static std::string print(const delta::spec::Recurrence &recurrence) {
  std::string text;
  raw_string_ostream os(text);
  recurrence.print(os, /*types=*/true);
  return text;
}

/// Runs the front end and the importer on `data`.
static bool check(const Bytes &data, mlir::MLIRContext &context) {
  SourceMgr sources;
  bool good = true;
  auto recurrence = parse(sources, data, good);
  if (!good || !recurrence)
    return good;

  // The canonical form is the same recurrence. It may be longer than a file.
  std::string text = print(*recurrence);
  if (text.size() <= delta::spec::kFileLimit) {
    auto again = parse(sources, text, good);
    if (!good || !again)
      return reject("the printed form is in error:\n" + text);
    if (print(*again) != text)
      return reject("the printed form is another recurrence:\n" + text);
  }

  StringMap<int64_t> dims;
  for (const auto *dim : recurrence->getDims())
    dims[dim->getName()] = 4;
  StringMap<double> attrs;
  for (const auto *attr : recurrence->getAttrs()) {
    attrs[attr->getName()] = 0.5;
    if (!attr->defaultValue)
      continue;
    auto value =
        delta::spec::evaluateConstant(attr->defaultValue->str(), dims, attrs);
    if (!value)
      consumeError(value.takeError());
  }

  auto module = delta::spec::importRecurrence(*recurrence, sources, &context);
  if (!module || failed(mlir::verify(*module)))
    return reject("the import does not verify:\n" + text);
  return true;
}

int main(int argc, char **argv) {
  std::vector<Bytes> seeds{extraSeed.str()};
  for (StringRef name : delta::spec::librarySpecNames())
    seeds.push_back(delta::spec::lookupLibrarySpec(name)->str());
  std::vector<Bytes> tokens{"recurrence",
                            "dim",
                            "in",
                            "param",
                            "attr",
                            "state",
                            "let",
                            "out",
                            "for",
                            "scalar",
                            "inf",
                            "T",
                            "K",
                            "V",
                            "x",
                            "S",
                            "q",
                            "k",
                            "v",
                            "o",
                            "j",
                            "exp(",
                            "exp2(",
                            "log(",
                            "sqrt(",
                            "rsqrt(",
                            "abs(",
                            "relu(",
                            "sigmoid(",
                            "silu(",
                            "tanh(",
                            "min(",
                            "softplus(",
                            "max(",
                            "dot(",
                            "sum(",
                            "l2norm(",
                            "diag(",
                            "eye(K)",
                            "S^T",
                            "S^T * q",
                            "k * v^T",
                            "^T",
                            "'",
                            "^",
                            "^2",
                            "^-0.5",
                            ".*",
                            "./",
                            "*",
                            "/",
                            "+",
                            "-",
                            "(",
                            ")",
                            "[",
                            "]",
                            "{",
                            "}",
                            ",",
                            ":",
                            ";",
                            "=",
                            " in [-inf, 0]",
                            "[0]",
                            "[j]",
                            "[n]",
                            "// ",
                            "# ",
                            "\n",
                            "1",
                            "0.5",
                            "1e308",
                            "1e309",
                            "1e-400",
                            "99999999999999999999",
                            "\xc3\x97",
                            "\xff",
                            "let z = S^T * k\n",
                            "S = S + k * v^T\n",
                            "((((((((((((((((",
                            "))))))))))))))))",
                            "----------------",
                            "''''''''"};
  mlir::MLIRContext context;
  context.disableMultithreading();
  return delta::fuzz::fuzzMain(
      argc, argv, seeds, tokens, [&](const Bytes &data) {
        if (!check(data, context))
          return false;
        // The same bytes as choices of a typed grammar.
        Bytes generated = delta::fuzz::SpecGenerator(data).run();
        return check(generated, context) ||
               reject("from the generated spec:\n" + generated);
      });
}
