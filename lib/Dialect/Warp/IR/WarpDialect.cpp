//===- WarpDialect.cpp - The warp dialect, its types and attributes -------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Registration, the verifiers of the tensor encodings, and arrays in shared
// memory: syntax, constraints and sizes.
//
//===----------------------------------------------------------------------===//

#include "delta/Dialect/Warp/IR/Warp.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;
using namespace mlir::delta::warp;

#include "delta/Dialect/Warp/IR/WarpDialect.cpp.inc"
#include "delta/Dialect/Warp/IR/WarpEnums.cpp.inc"

#define GET_ATTRDEF_CLASSES
#include "delta/Dialect/Warp/IR/WarpAttrs.cpp.inc"

#define GET_TYPEDEF_CLASSES
#include "delta/Dialect/Warp/IR/WarpTypes.cpp.inc"

void WarpDialect::initialize() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "delta/Dialect/Warp/IR/WarpAttrs.cpp.inc"
      >();
  addTypes<
#define GET_TYPEDEF_LIST
#include "delta/Dialect/Warp/IR/WarpTypes.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "delta/Dialect/Warp/IR/WarpOps.cpp.inc"
      >();
}

//===----------------------------------------------------------------------===//
// Tensor encodings
//===----------------------------------------------------------------------===//

RankedTensorType mlir::delta::warp::getFragmentType(int64_t rows, int64_t cols,
                                                    Type elementType) {
  return RankedTensorType::get({rows, cols}, elementType,
                               FragmentAttr::get(elementType.getContext()));
}

RankedTensorType mlir::delta::warp::getAlongType(int64_t size, Axis axis,
                                                 Type elementType) {
  return RankedTensorType::get({size}, elementType,
                               AlongAttr::get(elementType.getContext(), axis));
}

bool mlir::delta::warp::isFragment(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  return tensor && isa_and_nonnull<FragmentAttr>(tensor.getEncoding());
}

std::optional<Axis> mlir::delta::warp::getAlongAxis(Type type) {
  if (auto tensor = dyn_cast<RankedTensorType>(type))
    if (auto along = dyn_cast_or_null<AlongAttr>(tensor.getEncoding()))
      return along.getAxis();
  return std::nullopt;
}

/// Can lanes hold elements of this type?
static bool isRegisterType(Type type) {
  return type.isF32() || type.isBF16() || type.isF16() || type.isInteger(32) ||
         type.isInteger(1);
}

static LogicalResult
verifySpread(ArrayRef<int64_t> shape, Type elementType, size_t rank,
             StringRef encoding, function_ref<InFlightDiagnostic()> emitError) {
  if (shape.size() != rank)
    return emitError() << "expects a tensor of rank " << rank << " for "
                       << encoding << ", but got rank " << shape.size();
  for (int64_t size : shape)
    if (ShapedType::isDynamic(size) || size <= 0 || size % 8)
      return emitError() << "expects sizes that are multiples of 8 for "
                         << encoding << ", but got "
                         << (ShapedType::isDynamic(size) ? "?" : Twine(size));
  if (!isRegisterType(elementType))
    return emitError() << "expects elements f32, bf16, f16, i32 or i1 for "
                       << encoding << ", but got " << elementType;
  return success();
}

LogicalResult FragmentAttr::verifyEncoding(
    ArrayRef<int64_t> shape, Type elementType,
    function_ref<InFlightDiagnostic()> emitError) const {
  return verifySpread(shape, elementType, 2, "#delta_warp.fragment", emitError);
}

LogicalResult
AlongAttr::verifyEncoding(ArrayRef<int64_t> shape, Type elementType,
                          function_ref<InFlightDiagnostic()> emitError) const {
  return verifySpread(shape, elementType, 1, "#delta_warp.along", emitError);
}

//===----------------------------------------------------------------------===//
// SharedType
//===----------------------------------------------------------------------===//

Type SharedType::parse(AsmParser &parser) {
  SmallVector<int64_t> shape;
  Type elementType;
  bool swizzle = false;
  int64_t pad = 0;
  SMLoc loc = parser.getCurrentLocation();
  if (parser.parseLess() ||
      parser.parseDimensionList(shape, /*allowDynamic=*/false) ||
      parser.parseType(elementType))
    return {};
  if (succeeded(parser.parseOptionalComma())) {
    if (succeeded(parser.parseOptionalKeyword("swizzle")))
      swizzle = true;
    else if (parser.parseKeyword("pad", ", or 'swizzle'") ||
             parser.parseInteger(pad))
      return {};
  }
  if (parser.parseGreater())
    return {};
  return getChecked([&] { return parser.emitError(loc); }, parser.getContext(),
                    shape, elementType, swizzle, pad);
}

void SharedType::print(AsmPrinter &printer) const {
  printer << "<";
  for (int64_t size : getShape())
    printer << size << "x";
  printer << getElementType();
  if (getSwizzle())
    printer << ", swizzle";
  if (getPad())
    printer << ", pad " << getPad();
  printer << ">";
}

LogicalResult SharedType::verify(function_ref<InFlightDiagnostic()> emitError,
                                 ArrayRef<int64_t> shape, Type elementType,
                                 bool swizzle, int64_t pad) {
  if (shape.empty()) // shared_c1
    return emitError() << "expects at least one axis";
  int64_t elements = 1;
  for (int64_t size : shape) // shared_c1
    if (size <= 0 || llvm::MulOverflow(elements, size, elements) ||
        elements > (int64_t(1) << 31))
      return emitError() << "expects positive sizes with a product of at most "
                            "2147483648";
  if (!elementType.isF32() && !elementType.isBF16() && !elementType.isF16() &&
      !elementType.isInteger(32)) // shared_c1
    return emitError() << "expects elements f32, bf16, f16 or i32, but got "
                       << elementType;
  if (pad < 0 || pad > (1 << 20)) // shared_c1
    return emitError() << "expects 'pad' to be from 0 to 1048576, but got "
                       << pad;
  if (!swizzle)
    return success();
  if (pad) // shared_c2
    return emitError() << "expects no 'pad' with 'swizzle'";
  int64_t bytes = shape.back() * elementType.getIntOrFloatBitWidth() / 8;
  if (bytes < 32 || !llvm::isPowerOf2_64(bytes)) // shared_c2
    return emitError() << "expects swizzled rows of a power of two of bytes, "
                          "at least 32, but got "
                       << bytes;
  return success();
}

int64_t SharedType::getElementBytes() const {
  return getElementType().getIntOrFloatBitWidth() / 8;
}

int64_t SharedType::getRowBytes() const {
  return (getShape().back() + getPad()) * getElementBytes();
}

int64_t SharedType::getBytes() const {
  int64_t bytes = getRowBytes();
  for (int64_t size : getShape().drop_back())
    bytes *= size;
  return bytes;
}

int64_t SharedType::getSwizzledSegment(int64_t segment, int64_t row) const {
  if (!getSwizzle())
    return segment;
  auto [divisor, modulus, factor] = getSwizzleTerms();
  return segment ^ (row / divisor % modulus * factor);
}

SharedType::SwizzleTerms SharedType::getSwizzleTerms() const {
  // Rows of a tile at one column are read together: 16 bytes of eight rows of
  // 16-bit elements (ldmatrix), 32 bytes of four rows of 32-bit elements.
  int64_t group = getElementBytes() == 2 ? 16 : 32;
  int64_t groupsALine = 128 / group, groupsARow = getRowBytes() / group;
  return {std::max<int64_t>(1, groupsALine / groupsARow),
          std::min(groupsALine, groupsARow), group / 16};
}
