//===- DeltaChunkOps.cpp - Verifiers and syntax of the chunk program ------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Labels C1, C2, ... are the constraints in the operations' documentation.
//
//===----------------------------------------------------------------------===//

#include "ShapeUtils.h"
#include "delta/Dialect/Delta/IR/Delta.h"
#include "mlir/IR/Builders.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::delta;

LogicalResult TotalProductOp::verify() {
  SmallVector<Axis> axes = getAxes(getInput().getType());
  return expectAxes(getOperation(), ArrayRef(axes).drop_front(),
                    getResult().getType()); // total_product_c1
}

LogicalResult DecayMaskOp::verify() {
  Axis tokens = getAxes(getW().getType())[0];
  if (failed(expectAxes(getOperation(), {tokens, tokens},
                        getResult().getType()))) // decay_mask_c1
    return failure();
  if (getDiagonal() && getRow() == Position::Before &&
      getCol() == Position::After) // decay_mask_c2
    return emitOpError("expects no diagonal for a row before and a column "
                       "after the decay");
  return success();
}

LogicalResult MatmulOp::verify() {
  SmallVector<Axis> lhs = getAxes(getLhs().getType());
  SmallVector<Axis> rhs = getAxes(getRhs().getType());
  if (getTransposeLhs())
    std::swap(lhs[0], lhs[1]);
  if (getTransposeRhs())
    std::swap(rhs[0], rhs[1]);
  if (lhs[1] != rhs[0]) // matmul_c1
    return emitOpError() << "expects the contracted axes to agree, but got "
                         << lhs[1] << " and " << rhs[0];
  if (failed(expectAxes(getOperation(), {lhs[0], rhs[1]},
                        getResult().getType())))
    return failure();
  if (getAcc() && getAcc().getType() != getResult().getType())
    return emitOpError() << "expects acc to be " << getResult().getType()
                         << ", but got " << getAcc().getType();
  return success();
}

//===----------------------------------------------------------------------===//
// DecayGramOp
//===----------------------------------------------------------------------===//

/// Number of pairs (a, b) that are not masked `none` before pair number `end`.
static unsigned countPairs(ArrayAttr masks, unsigned end) {
  unsigned count = 0;
  for (unsigned pair = 0; pair < end; ++pair)
    count += cast<StringAttr>(masks[pair]).getValue() != "none";
  return count;
}

StringRef DecayGramOp::getMask(unsigned a, unsigned b) {
  return cast<StringAttr>(getMasks()[a * getCols().size() + b]).getValue();
}

Value DecayGramOp::getGram(unsigned a, unsigned b) {
  if (getMask(a, b) == "none")
    return {};
  return getGrams()[countPairs(getMasks(), a * getCols().size() + b)];
}

/// What a decay_gram and its adjoint have in common (decay_gram C1 to C3);
/// `grams` are the C x C matrices of the pairs, called `what`.
template <typename OpTy>
static LogicalResult verifyPairs(OpTy op, ValueRange grams, StringRef what) {
  Type type = op.getDecay().getType();
  for (Value operand : llvm::concat<Value>(llvm::to_vector(op.getRows()),
                                           llvm::to_vector(op.getCols())))
    if (operand.getType() != type) // decay_gram_c1
      return op.emitOpError() << "expects every row and column to be " << type
                              << ", but got " << operand.getType();
  if (op.getRows().empty() || op.getCols().empty())
    return op.emitOpError("expects at least one row and one column");
  if (op.getRowPositions().size() != op.getRows().size() ||
      op.getColPositions().size() != op.getCols().size())
    return op.emitOpError("expects one position for each row and column");
  for (int32_t position : llvm::concat<const int32_t>(op.getRowPositions(),
                                                      op.getColPositions()))
    if (position != 0 && position != 1)
      return op.emitOpError("expects every position to be before or after");
  unsigned pairs = op.getRows().size() * op.getCols().size();
  if (op.getMasks().size() != pairs)
    return op.emitOpError() << "expects " << pairs
                            << " masks, one a pair, but got "
                            << op.getMasks().size();
  for (unsigned a = 0; a < op.getRows().size(); ++a)
    for (unsigned b = 0; b < op.getCols().size(); ++b) {
      StringRef mask = op.getMask(a, b);
      if (mask != "strict" && mask != "diagonal" && mask != "none")
        return op.emitOpError() << "expects the masks strict, diagonal or "
                                   "none, but got '"
                                << mask << "'";
      if (mask == "diagonal" && op.getRowPosition(a) == Position::Before &&
          op.getColPosition(b) == Position::After) // decay_gram_c2
        return op.emitOpError("expects no diagonal for a row before and a "
                              "column after the decay");
    }
  unsigned expected = countPairs(op.getMasks(), pairs);
  if (expected != grams.size())
    return op.emitOpError() << "expects " << expected << " " << what
                            << ", one for each pair that is not none, but got "
                            << grams.size();
  Axis tokens = getAxes(type)[0];
  for (Value gram : grams)
    if (failed(expectAxes(op, {tokens, tokens}, gram.getType())))
      return failure();
  int64_t leaf = op.getLeaf();
  if (leaf != tokens.size && (leaf < 1 || !llvm::isPowerOf2_64(leaf) ||
                              tokens.size % leaf)) // decay_gram_c3
    return op.emitOpError() << "expects the leaf to be a power of two that "
                               "divides the chunk of "
                            << tokens.size << " tokens, but got " << leaf;
  return success();
}

LogicalResult DecayGramOp::verify() {
  return verifyPairs(*this, getGrams(), "results");
}

/// name(%a, %b) [before, after]
static ParseResult
parseSide(OpAsmParser &parser, StringRef keyword,
          SmallVectorImpl<OpAsmParser::UnresolvedOperand> &operands,
          SmallVectorImpl<int32_t> &positions) {
  if (parser.parseKeyword(keyword) ||
      parser.parseOperandList(operands, OpAsmParser::Delimiter::Paren))
    return failure();
  return parser.parseCommaSeparatedList(
      AsmParser::Delimiter::Square, [&]() -> ParseResult {
        StringRef text;
        llvm::SMLoc loc = parser.getCurrentLocation();
        if (parser.parseKeyword(&text))
          return failure();
        std::optional<Position> position = symbolizePosition(text);
        if (!position)
          return parser.emitError(loc)
                 << "expects before or after, but got '" << text << "'";
        positions.push_back(static_cast<int32_t>(*position));
        return success();
      });
}

static void printSide(OpAsmPrinter &printer, StringRef keyword,
                      OperandRange operands, ArrayRef<int32_t> positions) {
  printer << keyword << '(' << operands << ") [";
  llvm::interleaveComma(positions, printer, [&](int32_t position) {
    printer << stringifyPosition(static_cast<Position>(position));
  });
  printer << ']';
}

namespace {
/// The text that a decay_gram and its adjoint share.
struct PairSyntax {
  SmallVector<OpAsmParser::UnresolvedOperand> rows, cols, cotangents;
  OpAsmParser::UnresolvedOperand decay;
  SmallVector<int32_t> rowPositions, colPositions;
  ArrayAttr masks;
  int64_t leaf;
  DecayScheme scheme;

  /// rows(...) [...] cols(...) [...] decay(%w) [cotangents(...)]
  /// masks [...] leaf N scheme S
  ParseResult parse(OpAsmParser &parser, bool adjoint) {
    StringRef text;
    if (parseSide(parser, "rows", rows, rowPositions) ||
        parseSide(parser, "cols", cols, colPositions) ||
        parser.parseKeyword("decay") || parser.parseLParen() ||
        parser.parseOperand(decay) || parser.parseRParen())
      return failure();
    if (adjoint && (parser.parseKeyword("cotangents") ||
                    parser.parseOperandList(cotangents,
                                            OpAsmParser::Delimiter::Paren)))
      return failure();
    if (parser.parseKeyword("masks") || parser.parseAttribute(masks) ||
        parser.parseKeyword("leaf") || parser.parseInteger(leaf) ||
        parser.parseKeyword("scheme"))
      return failure();
    llvm::SMLoc loc = parser.getCurrentLocation();
    if (parser.parseKeyword(&text))
      return failure();
    std::optional<DecayScheme> parsed = symbolizeDecayScheme(text);
    if (!parsed)
      return parser.emitError(loc)
             << "expects exact or anchored, but got '" << text << "'";
    scheme = *parsed;
    return success();
  }

  template <typename OpTy> void setProperties(OperationState &result) {
    Builder builder(result.getContext());
    auto &properties = result.getOrAddProperties<typename OpTy::Properties>();
    properties.rowPositions = builder.getDenseI32ArrayAttr(rowPositions);
    properties.colPositions = builder.getDenseI32ArrayAttr(colPositions);
    properties.masks = masks;
    properties.leaf = builder.getI64IntegerAttr(leaf);
    properties.scheme = DecaySchemeAttr::get(builder.getContext(), scheme);
  }
};
} // namespace

/// Not in the dictionary behind the operation: they have a text of their own.
static constexpr StringRef kPairAttrs[] = {
    "operandSegmentSizes", "rowPositions", "colPositions", "masks",
    "leaf",                "scheme",       "log"};

ParseResult DecayGramOp::parse(OpAsmParser &parser, OperationState &result) {
  PairSyntax pairs;
  Type type;
  SmallVector<Type> results;
  if (pairs.parse(parser, /*adjoint=*/false) ||
      parser.parseOptionalAttrDict(result.attributes) || parser.parseColon() ||
      parser.parseType(type) || parser.parseArrow() ||
      parser.parseTypeList(results) ||
      parser.resolveOperands(pairs.rows, type, result.operands) ||
      parser.resolveOperands(pairs.cols, type, result.operands) ||
      parser.resolveOperand(pairs.decay, type, result.operands))
    return failure();
  pairs.setProperties<DecayGramOp>(result);
  result.getOrAddProperties<Properties>().operandSegmentSizes = {
      static_cast<int32_t>(pairs.rows.size()),
      static_cast<int32_t>(pairs.cols.size()), 1};
  result.addTypes(results);
  return success();
}

void DecayGramOp::print(OpAsmPrinter &printer) {
  printer << ' ';
  printSide(printer, "rows", getRows(), getRowPositions());
  printer << ' ';
  printSide(printer, "cols", getCols(), getColPositions());
  printer << " decay(" << getDecay() << ") masks " << getMasks() << " leaf "
          << getLeaf() << " scheme " << stringifyDecayScheme(getScheme());
  printer.printOptionalAttrDict((*this)->getAttrs(), kPairAttrs);
  printer << " : " << getDecay().getType() << " -> ";
  llvm::interleaveComma(getGrams().getTypes(), printer);
}

//===----------------------------------------------------------------------===//
// Operations of gradients
//===----------------------------------------------------------------------===//

LogicalResult TokenSumOp::verify() {
  SmallVector<Axis> axes = getAxes(getInput().getType());
  return expectAxes(getOperation(), axes[1],
                    getResult().getType()); // token_sum_c1
}

LogicalResult DiagonalOp::verify() {
  SmallVector<Axis> axes = getAxes(getInput().getType());
  if (axes[0] != axes[1]) // diagonal_c1
    return emitOpError() << "expects a square matrix, but got "
                         << getInput().getType();
  return expectAxes(getOperation(), axes[0], getResult().getType());
}

StringRef DecayGramAdjointOp::getMask(unsigned a, unsigned b) {
  return cast<StringAttr>(getMasks()[a * getCols().size() + b]).getValue();
}

Value DecayGramAdjointOp::getCotangent(unsigned a, unsigned b) {
  if (getMask(a, b) == "none")
    return {};
  return getCotangents()[countPairs(getMasks(), a * getCols().size() + b)];
}

LogicalResult DecayGramAdjointOp::verify() {
  if (failed(verifyPairs(*this, getCotangents(), "cotangents")))
    return failure();
  if (getGradients().size() != getRows().size() + getCols().size() + 1)
    return emitOpError() << "expects a result for each row, each column and "
                            "the decay, but got "
                         << getGradients().size();
  for (Value gradient : getGradients())
    if (gradient.getType() != getDecay().getType())
      return emitOpError() << "expects every result to be "
                           << getDecay().getType() << ", but got "
                           << gradient.getType();
  return success();
}

ParseResult DecayGramAdjointOp::parse(OpAsmParser &parser,
                                      OperationState &result) {
  PairSyntax pairs;
  Type type, square;
  if (pairs.parse(parser, /*adjoint=*/true))
    return failure();
  if (succeeded(parser.parseOptionalKeyword("log")))
    result.getOrAddProperties<Properties>().log =
        parser.getBuilder().getUnitAttr();
  if (parser.parseOptionalAttrDict(result.attributes) || parser.parseColon() ||
      parser.parseType(type) || parser.parseComma() ||
      parser.parseType(square) ||
      parser.resolveOperands(pairs.rows, type, result.operands) ||
      parser.resolveOperands(pairs.cols, type, result.operands) ||
      parser.resolveOperand(pairs.decay, type, result.operands) ||
      parser.resolveOperands(pairs.cotangents, square, result.operands))
    return failure();
  pairs.setProperties<DecayGramAdjointOp>(result);
  result.getOrAddProperties<Properties>().operandSegmentSizes = {
      static_cast<int32_t>(pairs.rows.size()),
      static_cast<int32_t>(pairs.cols.size()), 1,
      static_cast<int32_t>(pairs.cotangents.size())};
  result.addTypes(
      SmallVector<Type>(pairs.rows.size() + pairs.cols.size() + 1, type));
  return success();
}

void DecayGramAdjointOp::print(OpAsmPrinter &printer) {
  printer << ' ';
  printSide(printer, "rows", getRows(), getRowPositions());
  printer << ' ';
  printSide(printer, "cols", getCols(), getColPositions());
  printer << " decay(" << getDecay() << ") cotangents(" << getCotangents()
          << ") masks " << getMasks() << " leaf " << getLeaf() << " scheme "
          << stringifyDecayScheme(getScheme());
  if (getLog())
    printer << " log";
  printer.printOptionalAttrDict((*this)->getAttrs(), kPairAttrs);
  printer << " : " << getDecay().getType() << ", "
          << getCotangents().front().getType();
}

//===----------------------------------------------------------------------===//
// TriSolveOp
//===----------------------------------------------------------------------===//

LogicalResult TriSolveOp::verify() {
  size_t unknowns = getRhs().size();
  if (unknowns == 0 || getBlocks().size() != unknowns * unknowns ||
      getUnknowns().size() != unknowns) // tri_solve_c1
    return emitOpError() << "expects m right-hand sides, m*m blocks and m "
                            "results, but got "
                         << unknowns << ", " << getBlocks().size() << " and "
                         << getUnknowns().size();
  SmallVector<Axis> rhs = getAxes(getRhs()[0].getType());
  for (Value value : getRhs())
    if (value.getType() != getRhs()[0].getType())
      return emitOpError("expects right-hand sides of one type");
  for (Value value : getUnknowns())
    if (value.getType() != getRhs()[0].getType())
      return emitOpError("expects results of the right-hand sides' type");
  for (Value block : getBlocks())
    if (!llvm::equal(getAxes(block.getType()), ArrayRef<Axis>{rhs[0], rhs[0]}))
      return emitOpError() << "expects blocks of " << rhs[0] << " x " << rhs[0]
                           << ", but got " << block.getType();
  if (getLeaf() < 1)
    return emitOpError() << "expects a positive leaf, but got " << getLeaf();
  return success();
}

ParseResult TriSolveOp::parse(OpAsmParser &parser, OperationState &result) {
  SmallVector<OpAsmParser::UnresolvedOperand> blocks, rhs;
  int64_t leaf;
  Type blockType, rhsType;
  if (parser.parseKeyword("blocks") ||
      parser.parseOperandList(blocks, OpAsmParser::Delimiter::Paren) ||
      parser.parseKeyword("rhs") ||
      parser.parseOperandList(rhs, OpAsmParser::Delimiter::Paren) ||
      parser.parseKeyword("leaf") || parser.parseInteger(leaf))
    return failure();
  if (succeeded(parser.parseOptionalKeyword("transpose")))
    result.getOrAddProperties<Properties>().transpose =
        parser.getBuilder().getUnitAttr();
  if (parser.parseOptionalAttrDict(result.attributes) ||
      parser.parseColonType(blockType) || parser.parseComma() ||
      parser.parseType(rhsType) ||
      parser.resolveOperands(blocks, blockType, result.operands) ||
      parser.resolveOperands(rhs, rhsType, result.operands))
    return failure();
  auto &properties = result.getOrAddProperties<Properties>();
  properties.operandSegmentSizes = {static_cast<int32_t>(blocks.size()),
                                    static_cast<int32_t>(rhs.size())};
  properties.leaf = parser.getBuilder().getI64IntegerAttr(leaf);
  result.addTypes(SmallVector<Type>(rhs.size(), rhsType));
  return success();
}

void TriSolveOp::print(OpAsmPrinter &printer) {
  printer << " blocks(" << getBlocks() << ") rhs(" << getRhs() << ") leaf "
          << getLeaf();
  if (getTranspose())
    printer << " transpose";
  printer.printOptionalAttrDict((*this)->getAttrs(),
                                {"operandSegmentSizes", "leaf", "transpose"});
  printer << " : " << getBlocks()[0].getType() << ", "
          << getRhs()[0].getType();
}
