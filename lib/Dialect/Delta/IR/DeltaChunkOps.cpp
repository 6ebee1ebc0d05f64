//===- DeltaChunkOps.cpp - Verifiers and syntax of the chunk program -------===//
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

StringRef DecayGramOp::getMask(unsigned a, unsigned b) {
  return cast<StringAttr>(getMasks()[a * getCols().size() + b]).getValue();
}

Value DecayGramOp::getGram(unsigned a, unsigned b) {
  if (getMask(a, b) == "none")
    return {};
  unsigned index = 0;
  for (unsigned pair = 0; pair < a * getCols().size() + b; ++pair)
    if (cast<StringAttr>(getMasks()[pair]).getValue() != "none")
      ++index;
  return getGrams()[index];
}

LogicalResult DecayGramOp::verify() {
  Type type = getDecay().getType();
  for (Value operand : llvm::concat<Value>(
           llvm::to_vector(getRows()), llvm::to_vector(getCols())))
    if (operand.getType() != type) // decay_gram_c1
      return emitOpError() << "expects every row and column to be " << type
                           << ", but got " << operand.getType();
  if (getRows().empty() || getCols().empty())
    return emitOpError("expects at least one row and one column");
  if (getRowPositions().size() != getRows().size() ||
      getColPositions().size() != getCols().size())
    return emitOpError("expects one position for each row and column");
  for (int32_t position :
       llvm::concat<const int32_t>(getRowPositions(), getColPositions()))
    if (position != 0 && position != 1)
      return emitOpError("expects every position to be before or after");
  if (getMasks().size() != getRows().size() * getCols().size())
    return emitOpError() << "expects "
                         << getRows().size() * getCols().size()
                         << " masks, one a pair, but got "
                         << getMasks().size();
  unsigned results = 0;
  for (unsigned a = 0; a < getRows().size(); ++a)
    for (unsigned b = 0; b < getCols().size(); ++b) {
      StringRef mask = getMask(a, b);
      if (mask != "strict" && mask != "diagonal" && mask != "none")
        return emitOpError() << "expects the masks strict, diagonal or none, "
                                "but got '"
                             << mask << "'";
      results += mask != "none";
      if (mask == "diagonal" && getRowPosition(a) == Position::Before &&
          getColPosition(b) == Position::After) // decay_gram_c2
        return emitOpError("expects no diagonal for a row before and a column "
                           "after the decay");
    }
  if (results != getGrams().size())
    return emitOpError() << "expects " << results
                         << " results, one for each pair that is not none, "
                            "but got "
                         << getGrams().size();
  Axis tokens = getAxes(type)[0];
  for (Value gram : getGrams())
    if (failed(expectAxes(getOperation(), {tokens, tokens}, gram.getType())))
      return failure();
  int64_t leaf = getLeaf();
  if (leaf != tokens.size &&
      (leaf < 1 || !llvm::isPowerOf2_64(leaf) || tokens.size % leaf)) // c3
    return emitOpError() << "expects the leaf to be a power of two that "
                            "divides the chunk of "
                         << tokens.size << " tokens, but got " << leaf;
  return success();
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

ParseResult DecayGramOp::parse(OpAsmParser &parser, OperationState &result) {
  SmallVector<OpAsmParser::UnresolvedOperand> rows, cols;
  OpAsmParser::UnresolvedOperand decay;
  SmallVector<int32_t> rowPositions, colPositions;
  ArrayAttr masks;
  int64_t leaf;
  StringRef schemeText;
  Type type;
  SmallVector<Type> results;
  Builder &builder = parser.getBuilder();
  if (parseSide(parser, "rows", rows, rowPositions) ||
      parseSide(parser, "cols", cols, colPositions) ||
      parser.parseKeyword("decay") || parser.parseLParen() ||
      parser.parseOperand(decay) || parser.parseRParen() ||
      parser.parseKeyword("masks") || parser.parseAttribute(masks) ||
      parser.parseKeyword("leaf") || parser.parseInteger(leaf) ||
      parser.parseKeyword("scheme"))
    return failure();
  llvm::SMLoc schemeLoc = parser.getCurrentLocation();
  if (parser.parseKeyword(&schemeText))
    return failure();
  std::optional<DecayScheme> scheme = symbolizeDecayScheme(schemeText);
  if (!scheme)
    return parser.emitError(schemeLoc)
           << "expects exact or anchored, but got '" << schemeText << "'";
  if (parser.parseOptionalAttrDict(result.attributes) || parser.parseColon() ||
      parser.parseType(type) || parser.parseArrow() ||
      parser.parseTypeList(results))
    return failure();
  if (parser.resolveOperands(rows, type, result.operands) ||
      parser.resolveOperands(cols, type, result.operands) ||
      parser.resolveOperand(decay, type, result.operands))
    return failure();
  auto &properties = result.getOrAddProperties<Properties>();
  properties.operandSegmentSizes = {static_cast<int32_t>(rows.size()),
                                    static_cast<int32_t>(cols.size()), 1};
  properties.rowPositions = builder.getDenseI32ArrayAttr(rowPositions);
  properties.colPositions = builder.getDenseI32ArrayAttr(colPositions);
  properties.masks = masks;
  properties.leaf = builder.getI64IntegerAttr(leaf);
  properties.scheme = DecaySchemeAttr::get(builder.getContext(), *scheme);
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
  printer.printOptionalAttrDict(
      (*this)->getAttrs(), {"operandSegmentSizes", "rowPositions",
                            "colPositions", "masks", "leaf", "scheme"});
  printer << " : " << getDecay().getType() << " -> ";
  llvm::interleaveComma(getGrams().getTypes(), printer);
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
      parser.parseKeyword("leaf") || parser.parseInteger(leaf) ||
      parser.parseOptionalAttrDict(result.attributes) ||
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
  printer.printOptionalAttrDict((*this)->getAttrs(),
                                {"operandSegmentSizes", "leaf"});
  printer << " : " << getBlocks()[0].getType() << ", "
          << getRhs()[0].getType();
}
