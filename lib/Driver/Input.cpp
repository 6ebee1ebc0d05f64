//===- Input.cpp - finding and reading what to compile --------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// SPEC on the command line: a library name, a file, or standard input; a spec
// in the language or a module as text or bytecode.
//
//===----------------------------------------------------------------------===//

#include "delta/Driver/Input.h"

#include "delta/Runtime/Bundle.h"
#include "delta/Runtime/Suggest.h"
#include "delta/Spec/Library.h"

#include "mlir/Bytecode/BytecodeReader.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

using namespace llvm;

namespace delta::driver {

bool looksLikeModule(StringRef text) {
  if (mlir::isBytecode(MemoryBufferRef(text, "")))
    return true;
  // Both languages know `//` comments; a line with `#` is a comment of a spec
  // or an alias of a module: in either case the next one decides.
  while (true) {
    text = text.ltrim();
    if (!text.starts_with("//") && !text.starts_with("#"))
      break;
    text = text.drop_until([](char c) { return c == '\n'; });
  }
  StringRef word =
      text.take_while([](char c) { return isAlnum(c) || c == '_'; });
  if (word == "recurrence")
    return false;
  StringRef rest = text.drop_front(word.size());
  return word == "module" || text.starts_with("\"") || text.starts_with("!") ||
         text.starts_with("{-#") || (!word.empty() && rest.starts_with("."));
}

FailureOr<Input> readInput(StringRef name, Reporter &reporter,
                           const std::optional<std::string> &standardInput) {
  Input input;
  if (name == "-" && standardInput) {
    input.buffer = MemoryBuffer::getMemBufferCopy(*standardInput, "<stdin>");
    input.isModule = looksLikeModule(*standardInput);
    return input;
  }
  if (std::optional<StringRef> text = spec::lookupLibrarySpec(name)) {
    input.buffer = MemoryBuffer::getMemBuffer(*text, name.str() + ".delta");
    return input;
  }
  if (name != "-" && sys::fs::is_directory(name))
    return reporter.error("cannot read '" + name + "': it is a directory");
  ErrorOr<std::unique_ptr<MemoryBuffer>> buffer =
      MemoryBuffer::getFileOrSTDIN(name, /*IsText=*/false);
  if (!buffer) {
    std::vector<std::string> names;
    for (StringRef library : spec::librarySpecNames())
      names.push_back(library.str());
    // A bare word was meant as a library name.
    std::string hint;
    if (name != "-" && !sys::fs::exists(name) &&
        sys::path::filename(name) == name && !name.contains('.')) {
      hint = runtime::didYouMean(name.str(), names);
      if (hint.empty())
        hint = "; the library specs are " + join(names, ", ");
      return reporter.error("there is neither a file nor a library spec '" +
                            name + "'" + hint);
    }
    return reporter.error("cannot read '" + name +
                          "': " + buffer.getError().message());
  }
  input.buffer = std::move(*buffer);
  StringRef text = input.buffer->getBuffer();
  if (runtime::looksLikeBundle(std::string_view(text.data(), text.size())))
    return reporter.error(
        name == "-" ? Twine("a bundle cannot be read from standard input; give "
                            "a file to delta-run")
                    : "'" + name +
                          "' is a bundle, which is compiled already; "
                          "delta-run runs it");
  StringRef extension = sys::path::extension(name);
  if (extension == ".delta")
    input.isModule = false;
  else if (extension == ".mlir" || extension == ".mlirbc")
    input.isModule = true;
  else
    input.isModule = looksLikeModule(input.buffer->getBuffer());
  return input;
}

} // namespace delta::driver
