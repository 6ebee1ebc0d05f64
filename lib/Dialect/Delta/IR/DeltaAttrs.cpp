//===- DeltaAttrs.cpp - Attributes of the delta dialect -------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Syntax, verification and accessors of #delta.dims, #delta.arg and
// #delta.signature.
//
//===----------------------------------------------------------------------===//

#include "delta/Dialect/Delta/IR/Delta.h"
#include "mlir/IR/Builders.h"
#include "llvm/ADT/SetVector.h"
#include "llvm/ADT/SmallString.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/Format.h"

#include <cmath>
#include <limits>

using namespace mlir;
using namespace mlir::delta;

//===----------------------------------------------------------------------===//
// Names: bare identifiers where they look like one, strings otherwise.
//===----------------------------------------------------------------------===//

static ParseResult parseName(AsmParser &parser, StringAttr &name) {
  std::string text;
  if (succeeded(parser.parseOptionalKeywordOrString(&text))) {
    name = StringAttr::get(parser.getContext(), text);
    return success();
  }
  return parser.emitError(parser.getCurrentLocation(), "expects a name");
}

static ParseResult parseNames(AsmParser &parser,
                              SmallVectorImpl<StringAttr> &names,
                              AsmParser::Delimiter delimiter) {
  return parser.parseCommaSeparatedList(delimiter, [&] {
    return parseName(parser, names.emplace_back());
  });
}

static void printNames(AsmPrinter &printer, ArrayRef<StringAttr> names) {
  llvm::interleaveComma(names, printer, [&](StringAttr name) {
    printer.printKeywordOrString(name.getValue());
  });
}

//===----------------------------------------------------------------------===//
// DimsAttr
//===----------------------------------------------------------------------===//

Attribute DimsAttr::parse(AsmParser &parser, Type) {
  SmallVector<StringAttr> names;
  if (parseNames(parser, names, AsmParser::Delimiter::LessGreater))
    return {};
  return DimsAttr::get(parser.getContext(), names);
}

void DimsAttr::print(AsmPrinter &printer) const {
  printer << '<';
  printNames(printer, getNames());
  printer << '>';
}

//===----------------------------------------------------------------------===//
// ArgAttr
//===----------------------------------------------------------------------===//

double ArgAttr::getLo() const {
  if (!getRange())
    return -std::numeric_limits<double>::infinity();
  return cast<FloatAttr>(getRange()[0]).getValueAsDouble();
}

double ArgAttr::getHi() const {
  if (!getRange())
    return std::numeric_limits<double>::infinity();
  return cast<FloatAttr>(getRange()[1]).getValueAsDouble();
}

/// A bound: a number, `inf` or `-inf`.
static ParseResult parseBound(AsmParser &parser, double &value) {
  bool negative = succeeded(parser.parseOptionalMinus());
  if (succeeded(parser.parseOptionalKeyword("inf")))
    value = std::numeric_limits<double>::infinity();
  else if (parser.parseFloat(value))
    return failure();
  if (negative)
    value = -value;
  return success();
}

static void printBound(AsmPrinter &printer, double value) {
  if (std::isinf(value))
    printer << (value < 0 ? "-inf" : "inf");
  else {
    // The shortest text that reads back as the same number, with the dot that
    // the parser wants.
    SmallString<32> text;
    for (int digits : {6, 15, 17}) {
      text.clear();
      llvm::raw_svector_ostream os(text);
      os << llvm::format("%.*g", digits, value);
      double back;
      if (!StringRef(text).getAsDouble(back) && back == value)
        break;
    }
    size_t exponent = text.str().find('e');
    if (text.str().take_front(exponent).find('.') == StringRef::npos) {
      size_t at = std::min(exponent, text.size());
      text.insert(text.begin() + at, {'.', '0'});
    }
    printer << text;
  }
}

Attribute ArgAttr::parse(AsmParser &parser, Type) {
  MLIRContext *context = parser.getContext();
  StringAttr name, family, defaultValue;
  SmallVector<StringAttr> axes;
  std::optional<ArgKind> kind;
  Type type;
  ArrayAttr range;
  llvm::SMLoc loc = parser.getCurrentLocation();
  auto parseField = [&]() -> ParseResult {
    StringRef key;
    llvm::SMLoc keyLoc = parser.getCurrentLocation();
    if (parser.parseKeyword(&key) || parser.parseEqual())
      return failure();
    if (key == "kind") {
      std::string text;
      llvm::SMLoc kindLoc = parser.getCurrentLocation();
      if (parser.parseKeywordOrString(&text))
        return failure();
      kind = symbolizeArgKind(text);
      if (!kind)
        return parser.emitError(kindLoc)
               << "expects in, param, attr, state, out, checkpoint or sum, "
                  "but got '"
               << text << "'";
      return success();
    }
    if (key == "name")
      return parseName(parser, name);
    if (key == "family")
      return parseName(parser, family);
    if (key == "default") {
      std::string text;
      if (parser.parseString(&text))
        return failure();
      defaultValue = StringAttr::get(context, text);
      return success();
    }
    if (key == "type")
      return parser.parseType(type);
    if (key == "axes")
      return parseNames(parser, axes, AsmParser::Delimiter::Square);
    if (key == "range") {
      double lo, hi;
      if (parser.parseLSquare() || parseBound(parser, lo) ||
          parser.parseComma() || parseBound(parser, hi) ||
          parser.parseRSquare())
        return failure();
      range = Builder(context).getF64ArrayAttr({lo, hi});
      return success();
    }
    return parser.emitError(keyLoc) << "unknown field '" << key << "'";
  };
  if (parser.parseCommaSeparatedList(AsmParser::Delimiter::LessGreater,
                                     parseField))
    return {};
  if (!kind || !name || !type) {
    parser.emitError(loc, "expects the fields kind, name and type");
    return {};
  }
  return ArgAttr::get(context, *kind, name, type, axes, family, range,
                      defaultValue);
}

void ArgAttr::print(AsmPrinter &printer) const {
  printer << "<kind = " << stringifyArgKind(getKind()) << ", name = ";
  printer.printString(getName().getValue());
  printer << ", type = " << getType();
  if (!getAxes().empty()) {
    printer << ", axes = [";
    printNames(printer, getAxes());
    printer << ']';
  }
  if (getFamily()) {
    printer << ", family = ";
    printer.printKeywordOrString(getFamily().getValue());
  }
  if (getRange()) {
    printer << ", range = [";
    printBound(printer, getLo());
    printer << ", ";
    printBound(printer, getHi());
    printer << ']';
  }
  if (getDefaultValue()) {
    printer << ", default = ";
    printer.printString(getDefaultValue().getValue());
  }
  printer << '>';
}

//===----------------------------------------------------------------------===//
// SignatureAttr
//===----------------------------------------------------------------------===//

Attribute SignatureAttr::parse(AsmParser &parser, Type) {
  ArrayAttr args;
  DictionaryAttr dims, options;
  llvm::SMLoc loc = parser.getCurrentLocation();
  auto parseField = [&]() -> ParseResult {
    StringRef key;
    llvm::SMLoc keyLoc = parser.getCurrentLocation();
    if (parser.parseKeyword(&key) || parser.parseEqual())
      return failure();
    if (key == "args")
      return parser.parseAttribute(args);
    if (key == "dims")
      return parser.parseAttribute(dims);
    if (key == "options")
      return parser.parseAttribute(options);
    return parser.emitError(keyLoc) << "unknown field '" << key << "'";
  };
  if (parser.parseCommaSeparatedList(AsmParser::Delimiter::LessGreater,
                                     parseField))
    return {};
  if (!args) {
    parser.emitError(loc, "expects the field args");
    return {};
  }
  return SignatureAttr::getChecked([&] { return parser.emitError(loc); },
                                   parser.getContext(), args, dims, options);
}

void SignatureAttr::print(AsmPrinter &printer) const {
  printer << "<args = " << getArgs();
  if (getDims())
    printer << ", dims = " << getDims();
  if (getOptions())
    printer << ", options = " << getOptions();
  printer << '>';
}

LogicalResult
SignatureAttr::verify(function_ref<InFlightDiagnostic()> emitError,
                      ArrayAttr args, DictionaryAttr dims,
                      DictionaryAttr options) {
  llvm::StringSet<> names;
  unsigned states = 0, outs = 0, checkpoints = 0;
  for (Attribute attr : args) {
    auto arg = dyn_cast<ArgAttr>(attr);
    if (!arg)
      return emitError() << "expects args to be #delta.arg, but got " << attr;
    if (!names.insert(arg.getName()).second)
      return emitError() << "expects distinct names, but got '"
                         << arg.getName().getValue() << "' twice";
    if (!isa<FloatType>(arg.getType()))
      return emitError() << "expects '" << arg.getName().getValue()
                         << "' to have a float type, but got "
                         << arg.getType();
    bool isState = arg.getKind() == ArgKind::State;
    states += isState;
    outs += arg.getKind() == ArgKind::Out;
    checkpoints += arg.getKind() == ArgKind::Checkpoint;
    isState |= arg.getKind() == ArgKind::Checkpoint;
    if (isState ? arg.getAxes().size() != 2 : arg.getAxes().size() > 1)
      return emitError() << "expects '" << arg.getName().getValue() << "' to have "
                         << (isState ? "two axes" : "at most one axis")
                         << ", but got " << arg.getAxes().size();
    if (arg.getKind() == ArgKind::Attr && !arg.getAxes().empty())
      return emitError() << "expects attr '" << arg.getName().getValue()
                         << "' to be a scalar";
    if (arg.getFamily() && arg.getKind() != ArgKind::In &&
        arg.getKind() != ArgKind::Out)
      return emitError() << "expects only an in or out to be a family, but "
                            "got '"
                         << arg.getName().getValue() << "'";
    if (arg.getDefaultValue() && arg.getKind() != ArgKind::Attr)
      return emitError() << "expects only an attr to have a default, but got '"
                         << arg.getName().getValue() << "'";
    if (ArrayAttr range = arg.getRange())
      if (range.size() != 2 || !isa<FloatAttr>(range[0]) ||
          !isa<FloatAttr>(range[1]) || !(arg.getLo() <= arg.getHi()))
        return emitError() << "expects the range of '"
                           << arg.getName().getValue()
                           << "' to be two numbers, low then high";
  }
  if (states != 1)
    return emitError() << "expects exactly one state, but got " << states;
  if (checkpoints > 1)
    return emitError() << "expects at most one checkpoint, but got "
                       << checkpoints;
  if (outs == 0)
    return emitError() << "expects at least one out";
  if (dims)
    for (NamedAttribute dim : dims) {
      auto size = dyn_cast<IntegerAttr>(dim.getValue());
      if (!size || size.getInt() < 1)
        return emitError() << "expects dim '" << dim.getName().getValue()
                           << "' to be a positive integer, but got "
                           << dim.getValue();
    }
  return success();
}

SmallVector<ArgAttr> SignatureAttr::getAllArgs() const {
  return llvm::map_to_vector(getArgs(),
                             [](Attribute attr) { return cast<ArgAttr>(attr); });
}

SmallVector<ArgAttr> SignatureAttr::getArgs(ArgKind kind) const {
  return llvm::to_vector(llvm::make_filter_range(
      getAllArgs(), [&](ArgAttr arg) { return arg.getKind() == kind; }));
}

ArgAttr SignatureAttr::getState() const {
  SmallVector<ArgAttr> states = getArgs(ArgKind::State);
  return states.empty() ? ArgAttr() : states.front();
}

ArgAttr SignatureAttr::lookup(StringRef name) const {
  for (ArgAttr arg : getAllArgs())
    if (arg.getName() == name)
      return arg;
  return {};
}

std::optional<int64_t> SignatureAttr::getDim(StringRef name) const {
  if (DictionaryAttr dims = getDims())
    if (auto size = dims.getAs<IntegerAttr>(name))
      return size.getInt();
  return std::nullopt;
}

SmallVector<StringAttr> SignatureAttr::getDimNames() const {
  llvm::SetVector<StringAttr> names;
  for (ArgAttr arg : getAllArgs()) {
    if (arg.getFamily())
      names.insert(arg.getFamily());
    names.insert(arg.getAxes().begin(), arg.getAxes().end());
  }
  return names.takeVector();
}

static DictionaryAttr withEntry(MLIRContext *context, DictionaryAttr dict,
                                StringRef name, Attribute value) {
  NamedAttrList entries(dict);
  entries.set(name, value);
  return entries.getDictionary(context);
}

SignatureAttr SignatureAttr::withDim(StringRef name, int64_t size) const {
  MLIRContext *context = getContext();
  return get(context, getArgs(),
             withEntry(context, getDims(), name,
                       IntegerAttr::get(IntegerType::get(context, 64), size)),
             getOptions());
}

SignatureAttr SignatureAttr::withOption(StringRef name, Attribute value) const {
  return get(getContext(), getArgs(), getDims(),
             withEntry(getContext(), getOptions(), name, value));
}

SignatureAttr SignatureAttr::withArgs(ArrayRef<ArgAttr> args) const {
  SmallVector<Attribute> attrs(args.begin(), args.end());
  return get(getContext(), ArrayAttr::get(getContext(), attrs), getDims(),
             getOptions());
}

StringRef SignatureAttr::getOption(StringRef name, StringRef fallback) const {
  if (DictionaryAttr options = getOptions())
    if (auto text = options.getAs<StringAttr>(name))
      return text.getValue();
  return fallback;
}

std::optional<int64_t> SignatureAttr::getIntOption(StringRef name) const {
  if (DictionaryAttr options = getOptions())
    if (auto value = options.getAs<IntegerAttr>(name))
      return value.getInt();
  return std::nullopt;
}
