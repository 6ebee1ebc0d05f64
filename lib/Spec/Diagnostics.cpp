//===- Diagnostics.cpp - errors and warnings of the spec language ---------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Collecting, sorting and printing of diagnostics. The printer is our own
// because LLVM's leaves out the caret on lines that hold non-ASCII comments and
// prints lines of any length.
//
//===----------------------------------------------------------------------===//

#include "delta/Spec/Diagnostics.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/ConvertUTF.h"
#include "llvm/Support/SourceMgr.h"
#include "llvm/Support/raw_ostream.h"

using namespace llvm;

namespace delta::spec {

//===----------------------------------------------------------------------===//
// Printing
//===----------------------------------------------------------------------===//

/// Longer source lines are shown around the caret only.
static constexpr size_t kMaxLineWidth = 160;

namespace {
/// A source line as shown: tabs expanded, bytes that are no text replaced.
struct DisplayLine {
  /// One entry per column; a code point is taken to be one column wide.
  std::vector<std::string> cells;
  /// The column of each byte, and one past the end.
  std::vector<size_t> columnOfByte;
};
} // namespace

/// The number of bytes of the well-formed UTF-8 sequence at `text`'s start, or
/// 0 if there is none.
static size_t getSequenceLength(StringRef text) {
  size_t length = getNumBytesForUTF8(static_cast<UTF8>(text[0]));
  const auto *begin = reinterpret_cast<const UTF8 *>(text.data());
  if (length > text.size() || !isLegalUTF8Sequence(begin, begin + length))
    return 0;
  return length;
}

static DisplayLine layOut(StringRef line) {
  DisplayLine display;
  for (size_t i = 0; i < line.size();) {
    unsigned char c = line[i];
    size_t length = 1;
    size_t column = display.cells.size();
    if (c == '\t') {
      do
        display.cells.push_back(" ");
      while (display.cells.size() % 8 != 0);
    } else if (c < 0x80) {
      display.cells.push_back(c < 0x20 || c == 0x7f ? "?"
                                                    : std::string(1, char(c)));
    } else {
      size_t sequence = getSequenceLength(line.substr(i));
      length = std::max<size_t>(sequence, 1);
      display.cells.push_back(sequence ? line.substr(i, length).str() : "?");
    }
    display.columnOfByte.insert(display.columnOfByte.end(), length, column);
    i += length;
  }
  display.columnOfByte.push_back(display.cells.size());
  return display;
}

/// Prints the line with the caret at byte `caret` of it, and under it the
/// caret and the tildes.
static void printSourceLine(raw_ostream &os, StringRef line, size_t caret,
                            ArrayRef<SMRange> ranges) {
  // Only the surroundings matter, and a line may be the whole file.
  size_t cut = caret > 4 * kMaxLineWidth ? caret - 4 * kMaxLineWidth : 0;
  bool cutFront = cut != 0;
  line = line.drop_front(cut);
  caret -= cut;
  bool cutBack = line.size() > caret + 4 * kMaxLineWidth;
  line = line.take_front(caret + 4 * kMaxLineWidth);

  DisplayLine display = layOut(line);
  size_t caretColumn = display.columnOfByte[std::min(caret, line.size())];
  std::string marks(std::max(display.cells.size(), caretColumn + 1), ' ');
  for (SMRange range : ranges) {
    // The part of the range that lies on this line.
    if (range.End.getPointer() <= line.begin() ||
        range.Start.getPointer() >= line.end())
      continue;
    const char *begin = std::max(range.Start.getPointer(), line.begin());
    const char *end = std::min(range.End.getPointer(), line.end());
    StringRef part = StringRef(begin, end - begin).trim();
    for (size_t i = display.columnOfByte[part.begin() - line.begin()],
                e = display.columnOfByte[part.end() - line.begin()];
         i < e; ++i)
      marks[i] = '~';
  }
  marks[caretColumn] = '^';
  marks.resize(StringRef(marks).rtrim().size());

  size_t begin = 0, end = display.cells.size();
  if (end > kMaxLineWidth) {
    begin =
        caretColumn > kMaxLineWidth / 2 ? caretColumn - kMaxLineWidth / 2 : 0;
    end = std::min(end, begin + kMaxLineWidth);
  }
  cutFront |= begin != 0;
  cutBack |= end != display.cells.size();

  std::string text;
  for (size_t i = begin; i < end; ++i)
    text += display.cells[i];
  StringRef shownMarks =
      StringRef(marks).slice(begin, std::max(end, caretColumn + 1));
  os << (cutFront ? "..." : "") << StringRef(text).rtrim()
     << (cutBack ? "..." : "") << '\n'
     << (cutFront ? "   " : "");
  bool colors = os.has_colors();
  if (colors)
    os.changeColor(raw_ostream::GREEN, /*Bold=*/true);
  os << shownMarks;
  if (colors)
    os.resetColor();
  os << '\n';
}

void printDiagnostic(raw_ostream &os, const SourceMgr &sources,
                     const Diagnostic &diagnostic) {
  bool colors = os.has_colors();
  if (colors)
    os.changeColor(raw_ostream::SAVEDCOLOR, /*Bold=*/true);
  StringRef line;
  size_t offset = 0;
  unsigned buffer = diagnostic.loc.isValid()
                        ? sources.FindBufferContainingLoc(diagnostic.loc)
                        : 0;
  if (buffer) {
    const MemoryBuffer *memory = sources.getMemoryBuffer(buffer);
    const char *loc = diagnostic.loc.getPointer();
    StringRef before(memory->getBufferStart(), loc - memory->getBufferStart());
    StringRef after(loc, memory->getBufferEnd() - loc);
    // Not SourceMgr's columns, which restart at a lone carriage return.
    size_t newline = before.rfind('\n');
    offset = newline == StringRef::npos ? before.size()
                                        : before.size() - newline - 1;
    line = StringRef(loc - offset,
                     offset + std::min(after.find('\n'), after.size()));
    os << memory->getBufferIdentifier() << ':'
       << sources.FindLineNumber(diagnostic.loc, buffer) << ':' << offset + 1
       << ": ";
  }
  switch (diagnostic.severity) {
  case Severity::Error:
    if (colors)
      os.changeColor(raw_ostream::RED, /*Bold=*/true);
    os << "error: ";
    break;
  case Severity::Warning:
    if (colors)
      os.changeColor(raw_ostream::MAGENTA, /*Bold=*/true);
    os << "warning: ";
    break;
  case Severity::Note:
    if (colors)
      os.changeColor(raw_ostream::CYAN, /*Bold=*/true);
    os << "note: ";
    break;
  }
  if (colors) {
    os.resetColor();
    if (diagnostic.severity != Severity::Note)
      os.changeColor(raw_ostream::SAVEDCOLOR, /*Bold=*/true);
  }
  os << diagnostic.message << '\n';
  if (colors)
    os.resetColor();
  if (buffer)
    printSourceLine(os, line.rtrim('\r'),
                    std::min(offset, line.rtrim('\r').size()),
                    diagnostic.ranges);
}

//===----------------------------------------------------------------------===//
// DiagnosticEngine
//===----------------------------------------------------------------------===//

DiagnosticEngine::Builder &DiagnosticEngine::Builder::range(SMRange range) {
  if (range.isValid())
    engine.groups[group].back().ranges.push_back(range);
  return *this;
}

DiagnosticEngine::Builder &
DiagnosticEngine::Builder::note(SMLoc loc, const Twine &message) {
  engine.groups[group].push_back({Severity::Note, loc, {}, message.str()});
  return *this;
}

DiagnosticEngine::Builder DiagnosticEngine::error(SMLoc loc,
                                                  const Twine &message) {
  ++numErrors;
  return add(Severity::Error, loc, message);
}

DiagnosticEngine::Builder DiagnosticEngine::warning(SMLoc loc,
                                                    const Twine &message) {
  return add(Severity::Warning, loc, message);
}

DiagnosticEngine::Builder DiagnosticEngine::add(Severity severity, SMLoc loc,
                                                const Twine &message) {
  groups.push_back({{severity, loc, {}, message.str()}});
  return Builder(*this, groups.size() - 1);
}

void DiagnosticEngine::flush(DiagnosticHandler handler) {
  llvm::stable_sort(groups, [](const Group &a, const Group &b) {
    return a.front().loc.getPointer() < b.front().loc.getPointer();
  });
  unsigned shown = 0;
  for (const Group &group : groups) {
    if (group.front().severity == Severity::Error && shown++ == kErrorLimit)
      break;
    for (const Diagnostic &diagnostic : group)
      handler(diagnostic);
  }
  // Whether there are more is not known: nobody looked for them.
  if (isFull())
    handler({Severity::Note,
             SMLoc(),
             {},
             ("stopping after " + Twine(kErrorLimit) + " errors").str()});
  groups.clear();
}

} // namespace delta::spec
