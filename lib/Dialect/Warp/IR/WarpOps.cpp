//===- WarpOps.cpp - Verifiers of the warp dialect ------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Labels C1, C2, ... are the constraints in the operations' documentation.
//
//===----------------------------------------------------------------------===//

#include "delta/Dialect/Warp/IR/Warp.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/Matchers.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::delta::warp;

#define GET_OP_CLASSES
#include "delta/Dialect/Warp/IR/WarpOps.cpp.inc"

static RankedTensorType getTensor(Value value) {
  return cast<RankedTensorType>(value.getType());
}

/// Fails unless `type` is `expected`.
static LogicalResult expectType(Operation *op, StringRef what, Type expected,
                                Type type) {
  if (type == expected)
    return success();
  return op->emitOpError() << "expects " << what << " to be " << expected
                           << ", but got " << type;
}

/// Fails unless there is one index for each of `axes` axes.
static LogicalResult expectIndices(Operation *op, unsigned axes,
                                   OperandRange indices) {
  if (indices.size() == axes)
    return success();
  return op->emitOpError() << "expects " << axes << " indices, but got "
                           << indices.size();
}

LogicalResult SplatOp::verify() {
  return expectType(*this, "the number",
                    getTensor(getResult()).getElementType(),
                    getInput().getType()); // splat_c1
}

LogicalResult ExpandOp::verify() {
  RankedTensorType result = getTensor(getResult());
  Axis axis = *getAlongAxis(getInput().getType());
  return expectType(*this, "the vector",
                    getAlongType(result.getDimSize(axis == Axis::Rows ? 0 : 1),
                                 axis, result.getElementType()),
                    getInput().getType()); // expand_c1
}

LogicalResult CollapseOp::verify() {
  RankedTensorType input = getTensor(getInput());
  Axis axis = *getAlongAxis(getResult().getType());
  return expectType(*this, "the result",
                    getAlongType(input.getDimSize(axis == Axis::Rows ? 0 : 1),
                                 axis, input.getElementType()),
                    getResult().getType()); // collapse_c1
}

LogicalResult ConvertOp::verify() {
  RankedTensorType input = getTensor(getInput());
  Axis axis = *getAlongAxis(input);
  return expectType(*this, "the result",
                    getAlongType(input.getDimSize(0),
                                 axis == Axis::Rows ? Axis::Cols : Axis::Rows,
                                 input.getElementType()),
                    getResult().getType()); // convert_c1
}

LogicalResult SumOp::verify() {
  RankedTensorType input = getTensor(getInput());
  if (!input.getElementType().isF32()) // sum_c1
    return emitOpError() << "expects elements f32, but got "
                         << input.getElementType();
  Axis axis = *getAlongAxis(getResult().getType());
  return expectType(*this, "the result",
                    getAlongType(input.getDimSize(axis == Axis::Rows ? 0 : 1),
                                 axis, input.getElementType()),
                    getResult().getType()); // sum_c1
}

LogicalResult ElementOp::verify() {
  RankedTensorType input = getTensor(getInput());
  int64_t position = getPosition();
  if (position < 0 || position >= input.getDimSize(0)) // element_c1
    return emitOpError() << "expects a position from 0 to "
                         << input.getDimSize(0) - 1 << ", but got " << position;
  return expectType(*this, "the result", input.getElementType(),
                    getResult().getType()); // element_c1
}

LogicalResult PositionsOp::verify() {
  if (!getTensor(getResult()).getElementType().isInteger(32)) // positions_c1
    return emitOpError() << "expects elements i32, but got "
                         << getTensor(getResult()).getElementType();
  return success();
}

LogicalResult ShuffleRowsOp::verify() {
  RankedTensorType input = getTensor(getInput());
  if (getAlongAxis(input) == Axis::Cols) // shuffle_rows_c1
    return emitOpError("expects a fragment or a vector along rows, but got a "
                       "vector along columns");
  int64_t rows = input.getDimSize(0), distance = getDistance();
  if (!llvm::isPowerOf2_64(rows)) // shuffle_rows_c1
    return emitOpError() << "expects the number of rows to be a power of two, "
                            "but got "
                         << rows;
  if (distance < 1 || distance >= rows ||
      !llvm::isPowerOf2_64(distance)) // shuffle_rows_c1
    return emitOpError() << "expects the distance to be a power of two below "
                         << rows << ", but got " << distance;
  return success();
}

static LogicalResult verifyDistance(Operation *op, int64_t distance) {
  if (distance == 1 || distance == 2 || distance == 4 || distance == 8)
    return success();
  return op->emitOpError()
         << "expects the distance to be 1, 2, 4 or 8, but got " << distance;
}

LogicalResult SplitRowsOp::verify() {
  RankedTensorType input = getTensor(getInput());
  if (failed(verifyDistance(*this, getDistance()))) // split_rows_c1
    return failure();
  if (input.getDimSize(0) != 16) // split_rows_c1
    return emitOpError() << "expects an input of 16 rows, but got "
                         << input.getDimSize(0);
  return expectType(
      *this, "the results",
      getFragmentType(8, input.getDimSize(1), input.getElementType()),
      getRight().getType()); // split_rows_c1
}

LogicalResult ShuffleColsOp::verify() {
  RankedTensorType input = getTensor(getInput());
  if (getAlongAxis(input) == Axis::Rows) // shuffle_cols_c1
    return emitOpError("expects a fragment or a vector along columns, but got "
                       "a vector along rows");
  if (!input.getElementType().isF32()) // shuffle_cols_c1
    return emitOpError() << "expects elements f32, but got "
                         << input.getElementType();
  int64_t cols = input.getShape().back(), distance = getDistance();
  if (!llvm::isPowerOf2_64(cols)) // shuffle_cols_c1
    return emitOpError() << "expects the number of columns to be a power of "
                            "two, but got "
                         << cols;
  if (distance < 1 || distance >= cols ||
      !llvm::isPowerOf2_64(distance)) // shuffle_cols_c1
    return emitOpError() << "expects the distance to be a power of two below "
                         << cols << ", but got " << distance;
  return success();
}

LogicalResult SplitColsOp::verify() {
  RankedTensorType input = getTensor(getInput());
  if (failed(verifyDistance(*this, getDistance()))) // split_cols_c1
    return failure();
  if (input.getDimSize(1) != 16) // split_cols_c1
    return emitOpError() << "expects an input of 16 columns, but got "
                         << input.getDimSize(1);
  return expectType(
      *this, "the results",
      getFragmentType(input.getDimSize(0), 8, input.getElementType()),
      getRight().getType()); // split_cols_c1
}

LogicalResult MergeColsOp::verify() {
  RankedTensorType input = getTensor(getRight());
  if (failed(verifyDistance(*this, getDistance()))) // merge_cols_c1
    return failure();
  if (input.getDimSize(1) != 8 || !input.getElementType().isF32()) // c1
    return emitOpError() << "expects operands of 8 columns of f32, but got "
                         << input;
  return expectType(
      *this, "the result",
      getFragmentType(input.getDimSize(0), 16, input.getElementType()),
      getResult().getType()); // merge_cols_c1
}

int64_t SplitRowsOp::getRightRow(int64_t slot, int64_t distance) {
  if (distance == 8)
    return slot + 8;
  return (slot | distance) + (slot & distance ? 0 : 8);
}

int64_t SplitRowsOp::getLeftRow(int64_t slot, int64_t distance) {
  if (distance == 8)
    return slot;
  return (slot & ~distance) + (slot & distance ? 8 : 0);
}

LogicalResult ExtractOp::verify() {
  RankedTensorType input = getTensor(getInput());
  RankedTensorType result = getTensor(getResult());
  if (input.getEncoding() != result.getEncoding() ||
      input.getElementType() != result.getElementType()) // extract_c1
    return emitOpError() << "expects the layout and element type of " << input
                         << ", but got " << result;
  if (getOffsets().size() != size_t(input.getRank())) // extract_c1
    return emitOpError() << "expects " << input.getRank()
                         << " offsets, but got " << getOffsets().size();
  for (auto [axis, offset] : llvm::enumerate(getOffsets()))
    if (offset < 0 || offset % 8 ||
        offset > input.getDimSize(axis) - result.getDimSize(axis)) // extract_c1
      return emitOpError() << "expects offset " << axis
                           << " to be a multiple of 8 that leaves the part "
                              "inside, but got "
                           << offset;
  return success();
}

LogicalResult ConcatOp::verify() {
  RankedTensorType result = getTensor(getResult());
  if (getInputs().empty()) // concat_c1
    return emitOpError("expects at least one input");
  int64_t axis = getAxis();
  if (axis < 0 || axis >= result.getRank()) // concat_c1
    return emitOpError() << "expects an axis of the result, but got " << axis;
  int64_t total = 0;
  for (Value input : getInputs()) {
    RankedTensorType type = getTensor(input);
    SmallVector<int64_t> shape(result.getShape());
    if (type.getRank() == result.getRank())
      shape[axis] = type.getDimSize(axis);
    if (failed(expectType(*this, "an input",
                          RankedTensorType::get(shape, result.getElementType(),
                                                result.getEncoding()),
                          type))) // concat_c1
      return failure();
    total += shape[axis];
  }
  if (total != result.getDimSize(axis)) // concat_c1
    return emitOpError() << "expects the inputs' sizes to add up to "
                         << result.getDimSize(axis) << ", but got " << total;
  return success();
}

LogicalResult MmaOp::verify() {
  RankedTensorType lhs = getTensor(getLhs()), rhs = getTensor(getRhs());
  RankedTensorType acc = getTensor(getAcc());
  int64_t m = lhs.getDimSize(0), n = rhs.getDimSize(0);
  if (m % 16) // mma_c1
    return emitOpError()
           << "expects lhs to have a multiple of 16 rows, but got " << m;
  if (lhs.getDimSize(1) != rhs.getDimSize(1)) // mma_c1
    return emitOpError() << "expects lhs and rhs to have the same columns, but "
                            "got "
                         << lhs.getDimSize(1) << " and " << rhs.getDimSize(1);
  Type f32 = Float32Type::get(getContext());
  if (failed(expectType(*this, "acc", getFragmentType(m, n, f32), acc)))
    return failure(); // mma_c1
  Type element = lhs.getElementType();
  if (element != rhs.getElementType()) // mma_c2
    return emitOpError()
           << "expects lhs and rhs to have the same element type, "
              "but got "
           << element << " and " << rhs.getElementType();
  bool native = getOperand() == Operand::Native;
  if (native ? !element.isBF16() && !element.isF16() : !element.isF32()) // c2
    return emitOpError() << "expects elements "
                         << (native ? "bf16 or f16" : "f32") << " for "
                         << stringifyOperand(getOperand()) << ", but got "
                         << element;
  return success();
}

//===----------------------------------------------------------------------===//
// Shared memory
//===----------------------------------------------------------------------===//

LogicalResult AllocSharedOp::verify() {
  std::optional<int64_t> offset = getOffset();
  if (offset && (*offset < 0 || *offset % 16)) // alloc_shared_c1
    return emitOpError() << "expects the offset to be a multiple of 16, but "
                            "got "
                         << *offset;
  return success();
}

/// Verifies what shared_load and shared_store have in common.
static LogicalResult verifySharedAccess(Operation *op, RankedTensorType value,
                                        SharedType array, OperandRange indices,
                                        bool transpose) {
  if (value.getElementType() != array.getElementType()) // c1
    return op->emitOpError() << "expects elements " << array.getElementType()
                             << ", but got " << value.getElementType();
  if (failed(expectIndices(op, array.getRank(), indices))) // c1
    return failure();
  if (!isFragment(value)) {
    if (transpose) // c2
      return op->emitOpError("expects 'transpose' only for fragments");
    if (value.getDimSize(0) > array.getShape().back()) // c2
      return op->emitOpError() << "expects at most " << array.getShape().back()
                               << " elements, but got " << value.getDimSize(0);
    return success();
  }
  if (array.getRank() < 2) // c2
    return op->emitOpError("expects an array of rank 2 or more for a fragment");
  int64_t rows = value.getDimSize(transpose ? 1 : 0);
  int64_t cols = value.getDimSize(transpose ? 0 : 1);
  ArrayRef<int64_t> shape = array.getShape();
  if (rows > shape[shape.size() - 2] || cols > shape.back()) // c2
    return op->emitOpError()
           << "expects a tile of at most " << shape[shape.size() - 2] << " x "
           << shape.back() << " in memory, but got " << rows << " x " << cols;
  int64_t alignment = array.getElementBytes() == 2 ? 16 : 8;
  if (array.getRowBytes() % alignment) // c3
    return op->emitOpError()
           << "expects the array's rows to be a multiple of " << alignment
           << " bytes apart, but got " << array.getRowBytes();
  return success();
}

LogicalResult SharedLoadOp::verify() {
  return verifySharedAccess(*this, getTensor(getResult()),
                            cast<SharedType>(getArray().getType()),
                            getIndices(), getTranspose());
}

LogicalResult SharedStoreOp::verify() {
  return verifySharedAccess(*this, getTensor(getValue()),
                            cast<SharedType>(getArray().getType()),
                            getIndices(), getTranspose());
}

/// Does `array` end in 16x16 matrices?
static bool holdsLeaves(SharedType array) {
  ArrayRef<int64_t> shape = array.getShape();
  return shape.size() >= 2 && shape.back() == 16 &&
         shape[shape.size() - 2] == 16;
}

LogicalResult StoreLevelOp::verify() {
  RankedTensorType value = getTensor(getValue());
  auto array = cast<SharedType>(getArray().getType());
  if (failed(verifyDistance(*this, getDistance()))) // store_level_c1
    return failure();
  if (value.getDimSize(0) != 8 || value.getDimSize(1) != 8 ||
      !value.getElementType().isF32()) // store_level_c1
    return emitOpError() << "expects a value of 8x8 f32, but got " << value;
  if (!holdsLeaves(array)) // store_level_c2
    return emitOpError() << "expects an array of 16x16 matrices, but got "
                         << array;
  if (array.getElementType().isInteger(32)) // store_level_c2
    return emitOpError("expects elements f32, bf16 or f16, but got i32");
  return expectIndices(*this, array.getRank(), getIndices()); // c2
}

LogicalResult StorePairsOp::verify() {
  RankedTensorType value = getTensor(getValue());
  auto array = cast<SharedType>(getArray().getType());
  if (value.getDimSize(0) != 16 || value.getDimSize(1) != 16 ||
      !value.getElementType().isF32()) // store_pairs_c1
    return emitOpError() << "expects a value of 16x16 f32, but got " << value;
  ArrayRef<int64_t> shape = array.getShape();
  if (shape.size() < 3 ||
      shape.take_back(3) != ArrayRef<int64_t>{4, 16, 16}) // store_pairs_c2
    return emitOpError() << "expects an array that ends in 4x16x16, but got "
                         << array;
  if (array.getElementType().isInteger(32)) // store_pairs_c2
    return emitOpError("expects elements f32, bf16 or f16, but got i32");
  return expectIndices(*this, array.getRank(), getIndices()); // c2
}

LogicalResult InverseOp::verify() {
  auto source = cast<SharedType>(getSource().getType());
  auto target = cast<SharedType>(getTarget().getType());
  int64_t steps = getSteps();
  if (steps < 1 || steps > 16) // inverse_c1
    return emitOpError() << "expects 1 to 16 steps, but got " << steps;
  for (auto [array, indices] : {std::pair(source, getSourceIndices()),
                                std::pair(target, getTargetIndices())}) {
    ArrayRef<int64_t> shape = array.getShape();
    if (shape.size() < 3 ||
        shape.take_back(3) !=
            ArrayRef<int64_t>{steps, 16, 16 * steps}) // inverse_c1
      return emitOpError() << "expects arrays of " << steps << " matrices 16x"
                           << 16 * steps << ", but got " << Type(array);
    if (failed(expectIndices(*this, array.getRank() - 3, indices))) // c1
      return failure();
  }
  if (!source.getElementType().isF32()) // inverse_c2
    return emitOpError() << "expects a source of f32, but got "
                         << source.getElementType();
  if (target.getElementType().isInteger(32)) // inverse_c2
    return emitOpError("expects a target of f32, bf16 or f16, but got i32");
  return success();
}

//===----------------------------------------------------------------------===//
// Global memory
//===----------------------------------------------------------------------===//

LogicalResult AsyncLoadOp::verify() {
  auto array = cast<SharedType>(getArray().getType());
  ArrayRef<int64_t> shape = array.getShape();
  if (cast<MemRefType>(getSource().getType()).getElementType() !=
      array.getElementType()) // async_load_c1
    return emitOpError() << "expects a source of " << array.getElementType()
                         << ", but got " << getSource().getType();
  unsigned axes = getWidth() ? 2 : 1;
  if (shape.size() < axes) // async_load_c1
    return emitOpError("expects an array of rank 2 or more when 'width' is "
                       "given");
  if (failed(expectIndices(*this, shape.size() - axes, getIndices()))) // c1
    return failure();
  int64_t rows = shape[shape.size() - axes];
  // Of the matrices from a known one too.
  APInt first;
  if (!getIndices().empty() &&
      matchPattern(getIndices().back(), m_ConstantInt(&first)))
    rows *= shape[shape.size() - axes - 1] - first.getSExtValue();
  if (int64_t(getRows()) < 1 || int64_t(getRows()) > rows) // async_load_c1
    return emitOpError() << "expects 1 to " << rows << " rows, but got "
                         << int64_t(getRows());
  if (std::optional<int64_t> width = getWidth())
    if (*width < 1 || *width > shape.back()) // async_load_c1
      return emitOpError() << "expects a width of 1 to " << shape.back()
                           << ", but got " << *width;
  if (int64_t(getAlignment()) < 1) // async_load_c2
    return emitOpError() << "expects a positive alignment, but got "
                         << int64_t(getAlignment());
  if (int64_t(getWarps()) < 0 || int64_t(getFirstWarp()) < 0) // async_load_c3
    return emitOpError("expects numbers of warps that are not negative");
  return success();
}

/// Verifies what async_copy and copy_out have in common.
static LogicalResult verifyRawCopy(Operation *op, Type memory, SharedType array,
                                   OperandRange indices) {
  if (!cast<MemRefType>(memory).getElementType().isInteger(8)) // c1
    return op->emitOpError()
           << "expects global memory of i8, but got " << memory;
  int64_t rank = array.getRank();
  if (static_cast<int64_t>(indices.size()) >= rank) // c2
    return op->emitOpError() << "expects at most " << rank - 1
                             << " indices, but got " << indices.size();
  int64_t bytes = array.getShape().back() * array.getElementBytes();
  if (bytes % 16 || array.getRowBytes() % 16) // c2
    return op->emitOpError() << "expects rows of a multiple of 16 bytes, but "
                                "got "
                             << bytes;
  return success();
}

LogicalResult AsyncCopyOp::verify() {
  if (int64_t(getWarps()) < 0 || int64_t(getFirstWarp()) < 0) // async_copy_c3
    return emitOpError("expects numbers of warps that are not negative");
  return verifyRawCopy(*this, getSource().getType(),
                       cast<SharedType>(getArray().getType()), getIndices());
}

LogicalResult CopyOutOp::verify() {
  return verifyRawCopy(*this, getTarget().getType(),
                       cast<SharedType>(getArray().getType()), getIndices());
}

LogicalResult AsyncWaitOp::verify() {
  int64_t pending = getPending();
  if (pending < 0 || pending > 7) // async_wait_c1
    return emitOpError() << "expects 0 to 7 pending groups, but got "
                         << pending;
  return success();
}

/// Verifies what global_load and global_store have in common.
static LogicalResult verifyGlobalAccess(Operation *op, RankedTensorType value,
                                        Type memory, OperandRange strides,
                                        OperandRange valid) {
  if (cast<MemRefType>(memory).getElementType() != value.getElementType()) // c1
    return op->emitOpError()
           << "expects elements " << cast<MemRefType>(memory).getElementType()
           << ", but got " << value.getElementType();
  if (strides.size() != size_t(value.getRank()) ||
      valid.size() != size_t(value.getRank())) // c1
    return op->emitOpError()
           << "expects " << value.getRank() << " strides and limits, but got "
           << strides.size() << " and " << valid.size();
  return success();
}

LogicalResult GlobalLoadOp::verify() {
  return verifyGlobalAccess(*this, getTensor(getResult()),
                            getSource().getType(), getStrides(), getValid());
}

LogicalResult GlobalStoreOp::verify() {
  if (failed(verifyGlobalAccess(*this, getTensor(getValue()),
                                getTarget().getType(), getStrides(),
                                getValid())))
    return failure();
  if (int64_t(getAlignment()) < 1) // global_store_c2
    return emitOpError() << "expects a positive alignment, but got "
                         << int64_t(getAlignment());
  return success();
}
