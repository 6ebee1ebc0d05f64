//===- WarpDialect.td - The warp dialect, its types and attributes ---------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_WARP_DIALECT_TD
#define DELTA_WARP_DIALECT_TD

include "mlir/IR/OpBase.td"
include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"
include "mlir/IR/TensorEncoding.td"

def Warp_Dialect : Dialect {
  let name = "delta_warp";
  let cppNamespace = "::mlir::delta::warp";
  let summary = "Tiles spread over the lanes of a warp, and shared memory";
  let description = [{
    What the stage `mapped` of a GPU kernel says beyond arith, math, scf and
    gpu. The program is that of one warp: every tensor belongs to the warp that
    executes the operation, and its encoding says which lane holds what. There
    are few layouts, and one of them serves accumulators, A and B operands of
    the matrix instructions alike (lane l = 4 r + c):

    - `#delta_warp.fragment` on tensor<RxC>: element (i, j) is held by the lane
      with r = i mod 8 and c = (j mod 8) / 2. A fragment of rows is the A
      operand of `mma.sync` as it stands, and the B operand of the product with
      its transpose.
    - `#delta_warp.along<rows>` on tensor<R>: element i is held by the four
      lanes with r = i mod 8: one value a row of a fragment.
    - `#delta_warp.along<cols>` on tensor<C>: element j is held by the eight
      lanes with c = (j mod 8) / 2: one value a column.

    Elementwise operations of arith and math work on such tensors element by
    element. Shared memory is `!delta_warp.shared`; conversions between layouts
    are operations.
  }];
  let useDefaultAttributePrinterParser = 1;
  let useDefaultTypePrinterParser = 1;
  let dependentDialects = ["::mlir::arith::ArithDialect", "::mlir::gpu::GPUDialect"];
}

class Warp_Attr<string name, string attrMnemonic, list<Trait> traits = []>
    : AttrDef<Warp_Dialect, name, traits> {
  let mnemonic = attrMnemonic;
}

def Warp_EncodingMethods : DeclareAttrInterfaceMethods<VerifiableTensorEncoding>;

def Warp_FragmentAttr : Warp_Attr<"Fragment", "fragment", [Warp_EncodingMethods]> {
  let summary = "A matrix spread by rows over the lanes of a warp";
  let description = [{
    Rows and columns are multiples of 8; elements are f32, bf16, f16, i32 or
    i1. See the dialect's description.
  }];
}

def Warp_Axis : I32EnumAttr<"Axis", "axis of a fragment", [
    I32EnumAttrCase<"Rows", 0, "rows">, I32EnumAttrCase<"Cols", 1, "cols">]> {
  let cppNamespace = "::mlir::delta::warp";
  let genSpecializedAttr = 0;
}

def Warp_AlongAttr : Warp_Attr<"Along", "along", [Warp_EncodingMethods]> {
  let summary = "A vector along one axis of fragments";
  let parameters = (ins EnumParameter<Warp_Axis>:$axis);
  let assemblyFormat = "`<` $axis `>`";
}

def Warp_Operand : I32EnumAttr<"Operand", "how mma rounds its operands", [
    I32EnumAttrCase<"Native", 0, "native">, I32EnumAttrCase<"TF32", 1, "tf32">,
    I32EnumAttrCase<"BF16x3", 2, "bf16x3">]> {
  let cppNamespace = "::mlir::delta::warp";
}

def Warp_SharedType : TypeDef<Warp_Dialect, "Shared"> {
  let mnemonic = "shared";
  let summary = "An array in shared memory";
  let description = [{
    Row-major, of rank 1 or more. The last axis is a row; the one before it
    counts rows; the others count matrices. With `swizzle`, rows of at least
    two 16-byte segments have their segments permuted within the row. For 16-bit
    elements, `segment ^ (row mod 8)` for rows of 128 bytes and more and
    `segment ^ ((row / (8 / segments)) mod segments)` for shorter rows, so that
    8 rows at one column lie in different banks. For 32-bit elements it is pairs
    of segments (a row of an 8-column tile) that are permuted in the same way,
    so that 4 rows lie in different banks. `pad` elements follow every row and
    are not part of it.

    Constraints:
    - C1: sizes are positive; elements are f32, bf16, f16 or i32; `pad` is not
      negative.
    - C2: a swizzled row is a power of two of 16-byte segments, at least two.
      With `pad`, there is no swizzle.

    ```mlir
    !delta_warp.shared<2x16x64xbf16, swizzle>
    !delta_warp.shared<16xf32>
    ```
  }];
  let parameters = (ins ArrayRefParameter<"int64_t">:$shape, "::mlir::Type":$elementType,
                        "bool":$swizzle, "int64_t":$pad);
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    unsigned getRank() const { return getShape().size(); }
    int64_t getElementBytes() const;
    /// Bytes from one row to the next.
    int64_t getRowBytes() const;
    /// Bytes of the whole array.
    int64_t getBytes() const;
    /// The 16-byte segment of row `row` that holds what is segment `segment`
    /// without swizzle.
    int64_t getSwizzledSegment(int64_t segment, int64_t row) const;
    /// Swizzle: segment ^ (row / divisor % modulus * factor); powers of two.
    struct SwizzleTerms {
      int64_t divisor, modulus, factor;
    };
    SwizzleTerms getSwizzleTerms() const;
  }];
}

#endif // DELTA_WARP_DIALECT_TD
