//===- WarpOps.td - Operations of the warp dialect -------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_WARP_OPS_TD
#define DELTA_WARP_OPS_TD

include "delta/Dialect/Warp/IR/WarpDialect.td"
include "mlir/IR/CommonTypeConstraints.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

class Warp_Op<string mnemonic, list<Trait> traits = []>
    : Op<Warp_Dialect, mnemonic, traits>;

def Warp_IsFragment : CPred<
    "::llvm::isa_and_nonnull<::mlir::delta::warp::FragmentAttr>("
    "::llvm::cast<::mlir::RankedTensorType>($_self).getEncoding())">;
def Warp_IsAlong : CPred<
    "::llvm::isa_and_nonnull<::mlir::delta::warp::AlongAttr>("
    "::llvm::cast<::mlir::RankedTensorType>($_self).getEncoding())">;
def Warp_RankedTensor : CPred<"::llvm::isa<::mlir::RankedTensorType>($_self)">;
def Warp_Fragment : Type<And<[Warp_RankedTensor, Warp_IsFragment]>, "fragment">;
def Warp_Along : Type<And<[Warp_RankedTensor, Warp_IsAlong]>, "vector along a fragment's axis">;
def Warp_Value : Type<And<[Warp_RankedTensor, Or<[Warp_IsFragment, Warp_IsAlong]>]>,
                      "fragment or vector along one">;
def Warp_Shared : Type<CPred<"::llvm::isa<::mlir::delta::warp::SharedType>($_self)">, "shared array">;
def Warp_Global : MemRefRankOf<[AnyType], [1]>;

//===----------------------------------------------------------------------===//
// Who am I
//===----------------------------------------------------------------------===//

def Warp_WarpIdOp : Warp_Op<"warp_id", [Pure]> {
  let summary = "index of the warp in its block";
  let results = (outs Index:$result);
  let assemblyFormat = "attr-dict";
}

def Warp_RenewLanesOp : Warp_Op<"renew_lanes", [MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "index of the warp; what depends on lanes is computed anew";
  let description = [{
    The value of warp_id. Up to the end of the block, nothing that is computed
    from the warp's or the lane's number (addresses, positions, masks) is taken
    over from before, so that it needs no registers there: compilers would move
    all of it in front of the kernel's loops. `round` is a number that changes
    with every iteration of the loop around, below 2^40. `warp` is the warp's
    index as warp_id gave it: the new one is made of it, without another exchange
    between lanes.
  }];
  let arguments = (ins Index:$round, Optional<Index>:$warp);
  let results = (outs Index:$result);
  let assemblyFormat = "$round (`of` $warp^)? attr-dict";
}

def Warp_FollowOp : Warp_Op<"follow", [Pure, AllTypesMatch<["value", "result"]>]> {
  let summary = "a value that is not used before another one is there";
  let description = [{
    ```mlir
    %next = delta_warp.follow %factor, %sum : tensor<16x16xbf16, #delta_warp.fragment>, tensor<16x16xf32, #delta_warp.fragment>
    ```

    The first value, bit for bit. Assemblers fill every register that they may have
    with work that could be done early; what is made of the result waits for the
    second value instead. One bitwise instruction a register of the first. Without
    a renew_lanes before it in the block there is nothing to hide behind, and the
    value is taken as it is. An index that follows makes a load wait.
  }];
  let arguments = (ins AnyTypeOf<[Warp_Value, Index]>:$value, Warp_Value:$earlier);
  let results = (outs AnyTypeOf<[Warp_Value, Index]>:$result);
  let assemblyFormat = "$value `,` $earlier attr-dict `:` type($value) `,` type($earlier)";
}

def Warp_PositionsOp : Warp_Op<"positions", [Pure]> {
  let summary = "0, 1, 2, ... along an axis";
  let description = [{
    ```mlir
    %i = delta_warp.positions : tensor<16xi32, #delta_warp.along<rows>>
    ```

    `lanes` is a warp's index by renew_lanes: positions, and masks made of them,
    stay behind it.

    Constraints:
    - C1: elements are i32.
  }];
  let arguments = (ins Optional<Index>:$lanes);
  let results = (outs Warp_Along:$result);
  let assemblyFormat = "(`of` $lanes^)? attr-dict `:` type($result)";
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Between layouts
//===----------------------------------------------------------------------===//

def Warp_SplatOp : Warp_Op<"splat", [Pure]> {
  let summary = "a number in every element";
  let description = [{
    Constraints:
    - C1: the number has the result's element type.
  }];
  let arguments = (ins AnyType:$input);
  let results = (outs Warp_Value:$result);
  let assemblyFormat = "$input attr-dict `:` type($input) `->` type($result)";
  let hasVerifier = 1;
}

def Warp_ExpandOp : Warp_Op<"expand", [Pure]> {
  let summary = "repeats a vector along a fragment's other axis";
  let description = [{
    `along<rows>`: result[i, j] = input[i]; `along<cols>`: result[i, j] = input[j].

    Constraints:
    - C1: the sizes along the vector's axis and the element types agree.
  }];
  let arguments = (ins Warp_Along:$input);
  let results = (outs Warp_Fragment:$result);
  let assemblyFormat = "$input attr-dict `:` type($input) `->` type($result)";
  let hasVerifier = 1;
}

def Warp_CollapseOp : Warp_Op<"collapse", [Pure]> {
  let summary = "the row, or column, that a fragment repeats";
  let description = [{
    The inverse of expand, for a fragment whose rows (result `along<cols>`) or
    columns (result `along<rows>`) are all equal; renames registers only.

    Constraints:
    - C1: the sizes along the vector's axis and the element types agree.
  }];
  let arguments = (ins Warp_Fragment:$input);
  let results = (outs Warp_Along:$result);
  let assemblyFormat = "$input attr-dict `:` type($input) `->` type($result)";
  let hasVerifier = 1;
}

def Warp_ConvertOp : Warp_Op<"convert", [Pure]> {
  let summary = "the same vector along the other axis";
  let description = [{
    From `along<rows>` to `along<cols>` or back, by shuffles.

    Constraints:
    - C1: shapes and element types agree, the axes differ.
  }];
  let arguments = (ins Warp_Along:$input);
  let results = (outs Warp_Along:$result);
  let assemblyFormat = "$input attr-dict `:` type($input) `->` type($result)";
  let hasVerifier = 1;
}

def Warp_SumOp : Warp_Op<"sum", [Pure]> {
  let summary = "sums of a fragment's rows, or of its columns";
  let description = [{
    tensor<RxC, fragment> -> tensor<R, along<rows>>: every lane adds its own
    elements in ascending order of columns, then the four lanes of a row add
    theirs (exclusive-or of 1, then 2), so the order is fixed. To
    tensor<C, along<cols>>, the sums of columns: own rows, then the eight lanes
    (exclusive-or of 4, 8, then 16).

    Constraints:
    - C1: the sizes along the result's axis and the element types (f32) agree.
  }];
  let arguments = (ins Warp_Fragment:$input);
  let results = (outs Warp_Along:$result);
  let assemblyFormat = "$input attr-dict `:` type($input) `->` type($result)";
  let hasVerifier = 1;
}

def Warp_ElementOp : Warp_Op<"element", [Pure]> {
  let summary = "one element of a vector, in every lane";
  let description = [{
    `result = input[position]`, broadcast to the warp.

    Constraints:
    - C1: the position lies in the vector; the result has its element type.
  }];
  let arguments = (ins Warp_Along:$input, I64Attr:$position);
  let results = (outs AnyType:$result);
  let assemblyFormat = "$input `[` $position `]` attr-dict `:` type($input) `->` type($result)";
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Rows moving between lanes
//===----------------------------------------------------------------------===//

def Warp_ShuffleRowsOp : Warp_Op<"shuffle_rows", [Pure, AllTypesMatch<["input", "result"]>]> {
  let summary = "exchanges rows at a power-of-two distance";
  let description = [{
    `result[i, ...] = input[i ^ distance, ...]` on a fragment or on a vector
    along rows. Distances 1, 2 and 4 exchange lanes, larger ones only rename
    registers.

    Constraints:
    - C1: `distance` is a power of two below the number of rows; the number of
      rows is a power of two.
  }];
  let arguments = (ins Warp_Value:$input, I64Attr:$distance);
  let results = (outs Warp_Value:$result);
  let assemblyFormat = "$input `by` $distance attr-dict `:` type($input)";
  let hasVerifier = 1;
}

def Warp_SplitRowsOp : Warp_Op<"split_rows", [Pure, AllTypesMatch<["right", "left"]>]> {
  let summary = "separates the right and the left rows of blocks of 2 * distance";
  let description = [{
    A fragment of 16 rows becomes two of 8: the rows i with `i & distance`
    (right halves of the blocks) and those without (left halves). Slot s of
    `right` holds row `(s | d) + (s & d ? 0 : 8)`, slot s of `left` row
    `(s & ~d) + (s & d ? 8 : 0)` for d = distance of 1, 2, 4; for d = 8 rows
    s + 8 and s. That order costs one exchange of lanes a register.

    Constraints:
    - C1: the input has 16 rows, the results 8, columns and element types agree;
      `distance` is 1, 2, 4 or 8.
  }];
  let arguments = (ins Warp_Fragment:$input, I64Attr:$distance);
  let results = (outs Warp_Fragment:$right, Warp_Fragment:$left);
  let assemblyFormat = "$input `by` $distance attr-dict `:` type($input) `->` type($right)";
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// Row of the 16 that slot `slot` of `right` holds.
    static int64_t getRightRow(int64_t slot, int64_t distance);
    /// Row of the 16 that slot `slot` of `left` holds.
    static int64_t getLeftRow(int64_t slot, int64_t distance);
  }];
}

def Warp_ShuffleColsOp : Warp_Op<"shuffle_cols", [Pure, AllTypesMatch<["input", "result"]>]> {
  let summary = "exchanges columns at a power-of-two distance";
  let description = [{
    `result[..., j] = input[..., j ^ distance]` on a fragment or on a vector
    along columns. Distances 2 and 4 exchange lanes, the others only rename
    registers.

    Constraints:
    - C1: elements are f32; `distance` is a power of two below the number of
      columns, which is a power of two.
  }];
  let arguments = (ins Warp_Value:$input, I64Attr:$distance);
  let results = (outs Warp_Value:$result);
  let assemblyFormat = "$input `by` $distance attr-dict `:` type($input)";
  let hasVerifier = 1;
}

def Warp_SplitColsOp : Warp_Op<"split_cols", [Pure, AllTypesMatch<["right", "left"]>]> {
  let summary = "separates the right and the left columns of blocks of 2 * distance";
  let description = [{
    split_rows along the other axis: a fragment of 16 columns becomes two of 8,
    with the same slots.

    Constraints:
    - C1: the input has 16 columns, the results 8, rows and element types agree;
      `distance` is 1, 2, 4 or 8.
  }];
  let arguments = (ins Warp_Fragment:$input, I64Attr:$distance);
  let results = (outs Warp_Fragment:$right, Warp_Fragment:$left);
  let assemblyFormat = "$input `by` $distance attr-dict `:` type($input) `->` type($right)";
  let hasVerifier = 1;
}

def Warp_MergeColsOp : Warp_Op<"merge_cols", [Pure, AllTypesMatch<["right", "left"]>]> {
  let summary = "the inverse of split_cols";
  let description = [{
    Constraints:
    - C1: elements are f32, the operands have 8 columns, the result 16, and rows
      agree; `distance` is 1, 2, 4 or 8.
  }];
  let arguments = (ins Warp_Fragment:$right, Warp_Fragment:$left, I64Attr:$distance);
  let results = (outs Warp_Fragment:$result);
  let assemblyFormat = "$right `,` $left `by` $distance attr-dict `:` type($right) `->` type($result)";
  let hasVerifier = 1;
}

def Warp_ExtractOp : Warp_Op<"extract", [Pure]> {
  let summary = "a part of a fragment or of a vector along one";
  let description = [{
    `result[i, j] = input[i + offset0, j + offset1]`; renames registers only.

    Constraints:
    - C1: as many offsets as axes, multiples of 8, and the part lies inside.
  }];
  let arguments = (ins Warp_Value:$input, DenseI64ArrayAttr:$offsets);
  let results = (outs Warp_Value:$result);
  let assemblyFormat = "$input $offsets attr-dict `:` type($input) `->` type($result)";
  let hasVerifier = 1;
}

def Warp_ConcatOp : Warp_Op<"concat", [Pure]> {
  let summary = "fragments one behind the other along an axis";
  let description = [{
    Renames registers only. `axis` 0 puts rows under rows, 1 columns beside
    columns (for vectors, 0).

    Constraints:
    - C1: sizes add up along the axis and agree along the other; same layout
      and element type.
  }];
  let arguments = (ins Variadic<Warp_Value>:$inputs, I64Attr:$axis);
  let results = (outs Warp_Value:$result);
  let assemblyFormat = "`axis` $axis $inputs attr-dict `:` type($inputs) `->` type($result)";
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Matrix products
//===----------------------------------------------------------------------===//

def Warp_MmaOp : Warp_Op<"mma", [Pure, AllTypesMatch<["acc", "result"]>]> {
  let summary = "acc + lhs * rhs^T by matrix instructions";
  let description = [{
    lhs is MxD, rhs NxD, acc MxN (f32): both operands are fragments of rows, and
    columns are contracted in ascending order. `native`: bf16 or f16 elements.
    `tf32` and `bf16x3`: f32 elements, rounded to tf32 (to nearest, ties away),
    or split in a high and a low bf16 part with three products (high * low,
    low * high, high * high, in this order).

    Constraints:
    - C1: M is a multiple of 16, N of 8, D of 8 and the shapes fit.
    - C2: the element types of lhs and rhs agree and fit `operand`.
  }];
  let arguments = (ins Warp_Fragment:$lhs, Warp_Fragment:$rhs, Warp_Fragment:$acc,
                       DefaultValuedAttr<Warp_Operand, "::mlir::delta::warp::Operand::Native">:$operand);
  let results = (outs Warp_Fragment:$result);
  let assemblyFormat = "$lhs `,` $rhs `,` $acc ($operand^)? attr-dict `:` type($lhs) `,` type($rhs) `,` type($acc)";
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Shared memory
//===----------------------------------------------------------------------===//

def Warp_AllocSharedOp : Warp_Op<"alloc_shared", [MemoryEffects<[MemAlloc]>]> {
  let summary = "an array in the block's shared memory";
  let description = [{
    Stands at the start of the kernel. `offset`, in bytes from the start of the
    dynamic shared memory and a multiple of 16, is set by
    delta-place-shared; arrays that are never alive together may overlap.

    Constraints:
    - C1: the offset is not negative and a multiple of 16.
  }];
  let arguments = (ins OptionalAttr<I64Attr>:$offset);
  let results = (outs Warp_Shared:$result);
  let assemblyFormat = "(`at` $offset^)? attr-dict `:` type($result)";
  let hasVerifier = 1;
}

def Warp_SharedLoadOp : Warp_Op<"shared_load", [MemoryEffects<[MemRead]>]> {
  let summary = "reads a tile of shared memory into registers";
  let description = [{
    `indices` has one entry an axis of the array: which matrix, first row, first
    column. Fragment: `result[i, j] = array[..., row + i, col + j]`, with
    `transpose` `array[..., row + j, col + i]` (ldmatrix does both for 16-bit
    elements). Vector: `result[i] = array[..., first + i]` along the last axis.
    The element type stays.

    Constraints:
    - C1: one index an axis; the tile has the array's element type.
    - C2: the tile fits the array's last axes; `transpose` is for fragments.
    - C3: for fragments, rows of 16-bit elements are a multiple of 16 bytes
      apart, rows of 32-bit elements of 8.

    First rows and columns of fragments must be multiples of 8.
  }];
  let arguments = (ins Warp_Shared:$array, Variadic<Index>:$indices, UnitAttr:$transpose);
  let results = (outs Warp_Value:$result);
  let assemblyFormat = "$array `[` $indices `]` (`transpose` $transpose^)? attr-dict `:` type($array) `->` type($result)";
  let hasVerifier = 1;
}

def Warp_SharedStoreOp : Warp_Op<"shared_store", [MemoryEffects<[MemWrite]>]> {
  let summary = "writes a tile of registers to shared memory";
  let description = [{
    As shared_load, with its constraints. A vector's copies in several lanes are
    written once.
  }];
  let arguments = (ins Warp_Value:$value, Warp_Shared:$array, Variadic<Index>:$indices, UnitAttr:$transpose);
  let assemblyFormat = "$value `,` $array `[` $indices `]` (`transpose` $transpose^)? attr-dict `:` type($value) `,` type($array)";
  let hasVerifier = 1;
}

def Warp_StoreLevelOp : Warp_Op<"store_level", [MemoryEffects<[MemWrite]>]> {
  let summary = "writes one level of a dyadic Gram where it belongs";
  let description = [{
    `value` is 8x8: right rows (split_rows' slots) against left rows at
    `distance`. Element (s, t) is written to (right row of s, left row of t) of
    a 16x16 matrix when both lie in the same block of 2 * distance rows;
    the others mean nothing and are dropped. For an array of bf16 or f16 the
    elements are rounded to nearest even.

    Constraints:
    - C1: the value is 8x8 of f32; `distance` is 1, 2, 4 or 8.
    - C2: the array holds 16x16 matrices of f32, bf16 or f16, with one index an
      axis; those of row and column are 0 or another multiple of 16.
  }];
  let arguments = (ins Warp_Fragment:$value, Warp_Shared:$array, Variadic<Index>:$indices, I64Attr:$distance);
  let assemblyFormat = "$value `,` $array `[` $indices `]` `by` $distance attr-dict `:` type($value) `,` type($array)";
  let hasVerifier = 1;
}

def Warp_StorePairsOp : Warp_Op<"store_pairs", [MemoryEffects<[MemWrite]>]> {
  let summary = "writes the pairs of a causal matrix level by level";
  let description = [{
    Element (i, j), j < i, of the 16x16 `value`, whose highest different bit is
    2^l, is written to (l, i, j) behind `indices`, with `transpose` to (l, j, i).
    Nothing else is written: what the matrices of the levels hold beside their
    pairs stays. Elements are rounded to nearest even for an array of bf16 or
    f16.

    Constraints:
    - C1: the value is 16x16 of f32.
    - C2: the array ends in 4x16x16 of f32, bf16 or f16, with one index an axis;
      the last three are 0.
  }];
  let arguments = (ins Warp_Fragment:$value, Warp_Shared:$array, Variadic<Index>:$indices, UnitAttr:$transpose);
  let assemblyFormat = "$value `,` $array `[` $indices `]` (`transpose` $transpose^)? attr-dict `:` type($value) `,` type($array)";
  let hasVerifier = 1;
}

def Warp_InverseOp : Warp_Op<"inverse", [AttrSizedOperandSegments, MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "(I - A)^-1 of a block system that is lower triangular in time";
  let description = [{
    `source` holds m matrices of 16 x 16m (f32): `source[lead..., j]` is the
    equation of unknown j, its columns from 16 l the block A_jl that multiplies
    unknown l. With the unknowns ordered by token, then by j, A is strictly
    lower triangular; what lies elsewhere is not read. `target`, of the same
    shape in the operands' type, receives the inverse, zeros above the diagonal
    included. Forward substitution, one column a lane, in f32; with one step of
    the two halves on the diagonal alone, and what is below them is products of
    numbers split in two for tf32. One warp executes it, the one that wrote
    `source`; it orders its own accesses. Systems of more than two steps are
    solved in place: `source` holds nothing of use afterwards.

    Constraints:
    - C1: both arrays end in m x 16 x 16m, with one index for every axis but
      the last three; `steps` is m, from 1 to 16.
    - C2: the source is f32, the target f32, bf16 or f16.
  }];
  let arguments = (ins Warp_Shared:$source, Variadic<Index>:$sourceIndices,
                       Warp_Shared:$target, Variadic<Index>:$targetIndices, I64Attr:$steps);
  let assemblyFormat = [{
    $source `[` $sourceIndices `]` `to` $target `[` $targetIndices `]` `steps` $steps attr-dict
    `:` type($source) `,` type($target)
  }];
  let hasVerifier = 1;
}

def Warp_FillSharedOp : Warp_Op<"fill_shared", [MemoryEffects<[MemWrite]>]> {
  let summary = "the whole block sets an array to zero";
  let arguments = (ins Warp_Shared:$array);
  let assemblyFormat = "$array attr-dict `:` type($array)";
}

//===----------------------------------------------------------------------===//
// Global memory
//===----------------------------------------------------------------------===//

def Warp_AsyncLoadOp : Warp_Op<"async_load", [MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "the block, or some of its warps, copy rows from global to shared memory";
  let description = [{
    For row i of `rows`: array[..., i, 0 : width] = source[offset + i * stride :
    ... + width] when i < valid, else zeros (nothing is read). For an array
    whose last axis counts the rows themselves (one number a row) `width` is
    absent and array[..., i] = source[offset + i * stride]. `indices` are those
    of the leading axes; rows behind a matrix's last one are the next matrix's
    when the last index is a constant. Arrives after async_commit and async_wait, and a
    barrier for the other threads; rows that cannot be copied asynchronously
    (less than 4 aligned bytes) are copied at once.

    `alignment`, in elements, divides offset and stride. With `warps`, it is
    that many warps from `from` on that execute the operation.

    Constraints:
    - C1: leading indices for every axis but the rows' and columns'; the
      element types agree; `rows` and `width` fit the array.
    - C2: the alignment is positive.
    - C3: the numbers of warps are not negative.
  }];
  let arguments = (ins Warp_Global:$source, Index:$offset, Index:$stride, Index:$valid,
                       Warp_Shared:$array, Variadic<Index>:$indices,
                       I64Attr:$rows, OptionalAttr<I64Attr>:$width, I64Attr:$alignment,
                       DefaultValuedAttr<I64Attr, "0">:$warps,
                       DefaultValuedAttr<I64Attr, "0">:$firstWarp);
  let assemblyFormat = [{
    $source `[` $offset `]` `stride` $stride `valid` $valid `to` $array `[` $indices `]`
    `rows` $rows (`width` $width^)? `alignment` $alignment
    (`warps` $warps^ `from` $firstWarp)? attr-dict `:` type($source) `,` type($array)
  }];
  let hasVerifier = 1;
}

def Warp_AsyncCopyOp : Warp_Op<"async_copy", [MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "the block, or some of its warps, copy a part of a shared array as it lies";
  let description = [{
    What copy_out wrote at byte `offset` of `source`: the part of `array` behind
    `indices`, row after row without what pads the rows, swizzled as it is. When
    `present` is 0 nothing is read and the part is filled with zeros. Arrives as
    async_load's rows do; `warps` and `from` are as there.

    Constraints:
    - C1: the source is of i8.
    - C2: indices are those of some of the leading axes; rows are multiples of
      16 bytes.
    - C3: the numbers of warps are not negative.

    The offset is a multiple of 16.
  }];
  let arguments = (ins Warp_Global:$source, Index:$offset, Index:$present,
                       Warp_Shared:$array, Variadic<Index>:$indices,
                       DefaultValuedAttr<I64Attr, "0">:$warps,
                       DefaultValuedAttr<I64Attr, "0">:$firstWarp);
  let assemblyFormat = [{
    $source `[` $offset `]` `present` $present `to` $array `[` $indices `]`
    (`warps` $warps^ `from` $firstWarp)? attr-dict `:` type($source) `,` type($array)
  }];
  let hasVerifier = 1;
}

def Warp_CopyOutOp : Warp_Op<"copy_out", [MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "one warp copies a part of a shared array to global memory as it lies";
  let description = [{
    The bytes that async_copy takes back. Sixteen bytes a lane.

    Constraints:
    - C1: the target is of i8.
    - C2: as async_copy's.

    The offset is a multiple of 16.
  }];
  let arguments = (ins Warp_Shared:$array, Variadic<Index>:$indices,
                       Warp_Global:$target, Index:$offset);
  let assemblyFormat = [{
    $array `[` $indices `]` `to` $target `[` $offset `]` attr-dict
    `:` type($array) `,` type($target)
  }];
  let hasVerifier = 1;
}

def Warp_AsyncCommitOp : Warp_Op<"async_commit", [MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "ends a group of asynchronous copies";
  let assemblyFormat = "attr-dict";
}

def Warp_AsyncWaitOp : Warp_Op<"async_wait", [MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "waits until at most `pending` of this thread's groups are under way";
  let description = [{
    Constraints:
    - C1: `pending` is from 0 to 7.
  }];
  let arguments = (ins I64Attr:$pending);
  let assemblyFormat = "$pending attr-dict";
  let hasVerifier = 1;
}

def Warp_WarpBarrierOp : Warp_Op<"warp_barrier", [MemoryEffects<[MemRead, MemWrite]>]> {
  let summary = "orders the shared-memory accesses of one warp's lanes";
  let assemblyFormat = "attr-dict";
}

def Warp_GlobalLoadOp : Warp_Op<"global_load", [AttrSizedOperandSegments, MemoryEffects<[MemRead]>]> {
  let summary = "reads a tile of global memory into registers";
  let description = [{
    `strides` and `valid` have one entry an axis of the result:
    result[i, j] = source[offset + i * strides[0] + j * strides[1]] for
    i < valid[0] and j < valid[1], else 0, without reading. A vector has one
    axis.

    Constraints:
    - C1: the element types agree; one stride and one limit an axis.
  }];
  let arguments = (ins Warp_Global:$source, Index:$offset, Variadic<Index>:$strides, Variadic<Index>:$valid);
  let results = (outs Warp_Value:$result);
  let assemblyFormat = "$source `[` $offset `]` `strides` `(` $strides `)` `valid` `(` $valid `)` attr-dict `:` type($source) `->` type($result)";
  let hasVerifier = 1;
}

def Warp_GlobalStoreOp : Warp_Op<"global_store", [AttrSizedOperandSegments, MemoryEffects<[MemWrite]>]> {
  let summary = "writes a tile of registers to global memory";
  let description = [{
    As global_load; elements outside `valid` are not written. Axis 0 of a
    fragment with stride 1 (an out, held with the state's columns as rows) is
    written in whole 32-byte sectors where alignment allows. `alignment`, in
    elements, divides offset and all strides but 1. A vector's copies in several
    lanes are written once.

    Constraints:
    - C1: the element types agree; one stride and one limit an axis.
    - C2: the alignment is positive.
  }];
  let arguments = (ins Warp_Value:$value, Warp_Global:$target, Index:$offset, Variadic<Index>:$strides, Variadic<Index>:$valid,
                       DefaultValuedAttr<I64Attr, "1">:$alignment);
  let assemblyFormat = "$value `,` $target `[` $offset `]` `strides` `(` $strides `)` `valid` `(` $valid `)` attr-dict `:` type($value) `,` type($target)";
  let hasVerifier = 1;
}

#endif // DELTA_WARP_OPS_TD
