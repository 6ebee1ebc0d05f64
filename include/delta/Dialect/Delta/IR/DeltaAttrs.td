//===- DeltaAttrs.td - Attributes of the delta dialect -----*- tablegen -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef DELTA_ATTRS_TD
#define DELTA_ATTRS_TD

include "delta/Dialect/Delta/IR/DeltaDialect.td"
include "mlir/IR/AttrTypeBase.td"
include "mlir/IR/EnumAttr.td"

class Delta_Attr<string name, string attrMnemonic> : AttrDef<Delta_Dialect, name> {
  let mnemonic = attrMnemonic;
}

class Delta_Enum<string name, string desc, list<I32EnumAttrCase> cases>
    : I32EnumAttr<name, desc, cases> {
  let cppNamespace = "::mlir::delta";
  let genSpecializedAttr = 0;
}

def Delta_ArgKind : Delta_Enum<"ArgKind", "what an argument of a kernel is", [
  I32EnumAttrCase<"In", 0, "in">, I32EnumAttrCase<"Param", 1, "param">,
  I32EnumAttrCase<"Attr", 2, "attr">, I32EnumAttrCase<"State", 3, "state">,
  I32EnumAttrCase<"Out", 4, "out">,
  I32EnumAttrCase<"Checkpoint", 5, "checkpoint">,
  I32EnumAttrCase<"Sum", 6, "sum">]>;

def Delta_Position : Delta_Enum<"Position",
    "where an event of a token stands relative to the token's decay", [
  I32EnumAttrCase<"Before", 0, "before">, I32EnumAttrCase<"After", 1, "after">]>;
def Delta_PositionAttr : EnumAttr<Delta_Dialect, Delta_Position, "position">;

def Delta_DecayScheme : Delta_Enum<"DecayScheme",
    "how a decay-Gram is evaluated inside a leaf", [
  I32EnumAttrCase<"Exact", 0, "exact">, I32EnumAttrCase<"Anchored", 1, "anchored">]>;
def Delta_DecaySchemeAttr : EnumAttr<Delta_Dialect, Delta_DecayScheme, "decay_scheme">;

def Delta_DimsAttr : Delta_Attr<"Dims", "dims"> {
  let summary = "Names of a tensor's axes";
  let description = [{
    Encoding of the tensors of the stages `step` and `events`: one name an
    axis. Two dims agree when their names do, never because of their size.

    ```mlir
    tensor<?xf64, #delta.dims<K>>
    tensor<?x?xf64, #delta.dims<K, V>>
    ```
  }];
  let parameters = (ins ArrayRefParameter<"::mlir::StringAttr">:$names);
  let hasCustomAssemblyFormat = 1;
}

def Delta_ArgAttr : Delta_Attr<"Arg", "arg"> {
  let summary = "One argument, state or result of a recurrence";
  let description = [{
    `kind` is in, param, attr, state, out, checkpoint or sum; `axes` the names
    of the dims of one token's value (none for a scalar, two for the state and
    a checkpoint); `family` the dim of a micro-step family; `type` the type in
    memory (`f32`, `bf16`, `f16` or `f64`); `range` the declared closed range;
    `default` the text of an attr's default, a constant expression of the
    specification language.

    A `checkpoint` is the state at the start of every so many chunks, which a
    forward kernel writes and a backward kernel reads: an array [B, H, count,
    A, A']. A `sum` is a result of a backward kernel, one value a batch and
    head, summed over the tokens: an array [B, H, dim].

    ```mlir
    #delta.arg<kind = in, name = "g", type = f32, range = [0xFFF0000000000000, 0.0]>
    ```
  }];
  let parameters = (ins
    EnumParameter<Delta_ArgKind>:$kind,
    "::mlir::StringAttr":$name,
    "::mlir::Type":$type,
    OptionalArrayRefParameter<"::mlir::StringAttr">:$axes,
    OptionalParameter<"::mlir::StringAttr">:$family,
    OptionalParameter<"::mlir::ArrayAttr">:$range,
    OptionalParameter<"::mlir::StringAttr">:$defaultValue);
  let hasCustomAssemblyFormat = 1;
  let extraClassDeclaration = [{
    /// Declared range as [lo, hi]; (-inf, inf) when none is declared.
    double getLo() const;
    double getHi() const;
    bool hasRange() const { return static_cast<bool>(getRange()); }
  }];
}

def Delta_SignatureAttr : Delta_Attr<"Signature", "signature"> {
  let summary = "Interface and decisions of a module";
  let description = [{
    `args`: every in, param, attr, state and out, in declared order (an array
    of `#delta.arg`), a checkpoint where there are any, and the sums of a
    backward kernel. `dims`: sizes known so far, by name. `options`: what the
    stage was made for and with: `fn` ("forward", "backward" or "decode"),
    `target` ("cpu"), `compute` (the type computed in), `chunk`, `save_every`
    (chunks between two checkpoints) and so on; a later stage has more of them.

    ```mlir
    delta.signature = #delta.signature<
      args = [#delta.arg<kind = in, name = "q", type = f32, axes = [K]>],
      dims = {K = 64}, options = {fn = "forward"}>
    ```
  }];
  let parameters = (ins
    "::mlir::ArrayAttr":$args,
    OptionalParameter<"::mlir::DictionaryAttr">:$dims,
    OptionalParameter<"::mlir::DictionaryAttr">:$options);
  let hasCustomAssemblyFormat = 1;
  let genVerifyDecl = 1;
  let extraClassDeclaration = [{
    /// The arguments of one kind, in declared order.
    ::llvm::SmallVector<ArgAttr> getArgs(ArgKind kind) const;
    /// All arguments.
    ::llvm::SmallVector<ArgAttr> getAllArgs() const;
    /// The state's entry; null when there is none.
    ArgAttr getState() const;
    /// The argument of that name; null when there is none.
    ArgAttr lookup(::llvm::StringRef name) const;
    /// Size of a dim, if known.
    ::std::optional<int64_t> getDim(::llvm::StringRef name) const;
    /// Every dim name used by any argument, in order of first use.
    ::llvm::SmallVector<::mlir::StringAttr> getDimNames() const;
    /// A copy with dim `name` set to `size`.
    SignatureAttr withDim(::llvm::StringRef name, int64_t size) const;
    /// A copy with option `name` set.
    SignatureAttr withOption(::llvm::StringRef name, ::mlir::Attribute value) const;
    /// A copy with these arguments.
    SignatureAttr withArgs(::llvm::ArrayRef<ArgAttr> args) const;
    /// String option, or `fallback`.
    ::llvm::StringRef getOption(::llvm::StringRef name, ::llvm::StringRef fallback = "") const;
    /// Integer option, if present.
    ::std::optional<int64_t> getIntOption(::llvm::StringRef name) const;
  }];
}

#endif // DELTA_ATTRS_TD
