//===- AotHeader.cpp - The C header of a kernel ---------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// Prints what a C programmer needs to call a kernel: the order of the arrays as
// enumerators, their shapes and types, the sizes compiled for, the workspace
// and the meaning of what is returned.
//
//===----------------------------------------------------------------------===//

#include "delta/Dialect/Delta/IR/Delta.h"
#include "delta/Target/CPU/Aot.h"
#include "delta/Target/CPU/Codegen.h"
#include "delta/Target/CPU/KernelArrays.h"
#include "delta/Target/CPU/Launch.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;
using mlir::delta::ArgAttr;
using mlir::delta::ArgKind;
using mlir::delta::SignatureAttr;

namespace delta::cpu {

/// The C type of an array's elements; bf16 and f16 are their bits.
static StringRef getCType(Type type) {
  return type.isF64() ? "double" : type.isF32() ? "float" : "uint16_t";
}

/// The same for readers: "float", "uint16_t (bf16)".
static std::string describeType(Type type) {
  std::string text = getCType(type).str();
  if (!type.isF64() && !type.isF32())
    text += type.isF16() ? " (f16)" : " (bf16)";
  return text;
}

/// "[B, T, n, H, K]" in memory order.
static std::string describeShape(SignatureAttr signature, ArgAttr arg) {
  int64_t tokensPerCheckpoint = mlir::delta::getTokensPerCheckpoint(signature);
  SmallVector<std::string> axes;
  if (arg.getKind() != ArgKind::Param)
    axes.push_back("B");
  if (arg.getKind() == ArgKind::In || arg.getKind() == ArgKind::Out)
    axes.push_back("T");
  if (arg.getFamily())
    axes.push_back(arg.getFamily().getValue().str());
  axes.push_back("H");
  if (arg.getKind() == ArgKind::Checkpoint)
    axes.push_back("ceil(T / " + std::to_string(tokensPerCheckpoint) + ")");
  for (StringAttr axis : arg.getAxes())
    axes.push_back(axis.getValue().str());
  return "[" + llvm::join(axes, ", ") + "]";
}

namespace {
/// Prints one enumeration: names that stand for positions, with comments, and
/// their number. A recurrence's own names get the prefix NAME_KIND_, so they
/// cannot be taken for one of ours.
class Enumeration {
public:
  Enumeration(llvm::raw_ostream &os, StringRef name, StringRef kind)
      : os(os), name(name), kind(kind) {
    os << "enum {\n";
  }
  ~Enumeration() {
    os << "  " << name << "_num_" << kind << "s = " << next << "\n};\n\n";
  }
  void add(StringRef entry, const std::string &comment) {
    addOwn((kind + "_" + entry).str(), comment);
  }
  void addOwn(StringRef entry, const std::string &comment) {
    os << "  " << name << "_" << entry << " = " << next++ << ", /* " << comment
       << " */\n";
  }

private:
  llvm::raw_ostream &os;
  StringRef name, kind;
  unsigned next = 0;
};
} // namespace

EmitResult emitHeader(ModuleOp module, llvm::raw_ostream &os) {
  SignatureAttr signature = mlir::delta::getSignature(module);
  std::string kernel = getKernelName(module);
  if (!signature || kernel.empty()) {
    module.emitError() << "expects a kernel of stage mapped or llvm";
    return EmitResult::Failed;
  }
  std::string name = getEntryName(module);
  std::string guard = StringRef(name).upper() + "_H";
  StringRef fn = signature.getOption("fn", "forward");

  os << "/* " << kernel << ": a kernel made by delta (" << fn << ").\n"
     << " *\n"
     << " * All arrays are row-major and contiguous and need no more than "
        "their\n"
     << " * elements' alignment. B, T and H (sequences, tokens, heads) are "
        "free,\n"
     << " * 0 included; the other sizes are those compiled for. The functions\n"
     << " * keep nothing between calls and may run in several threads at "
        "once,\n"
     << " * each with a workspace of its own.\n"
     << " */\n"
     << "#ifndef " << guard << "\n#define " << guard << "\n\n"
     << "#include <stddef.h>\n#include <stdint.h>\n\n"
     << "#ifdef __cplusplus\nextern \"C\" {\n#endif\n\n";

  bool backward = fn == "backward";
  os << (backward
             ? "/* in[]: inputs, parameters, cotangents of the outputs and the "
               "checkpoints\n * that the forward kernel saved, then the "
               "cotangent of the final state. */\n"
             : "/* in[]: inputs and parameters, then the state to begin with. "
               "*/\n");
  {
    Enumeration in(os, name, "in");
    for (ArgAttr arg : mlir::delta::getInputArrays(signature))
      in.add(arg.getName().getValue(), "const " + describeType(arg.getType()) +
                                           " " + describeShape(signature, arg));
    ArgAttr state = signature.getState();
    in.add("initial_state", "const " + describeType(state.getType()) + " " +
                                describeShape(signature, state) +
                                ", or NULL: zero");
  }
  os << (backward ? "/* out[]: gradients, then the gradient of the initial "
                    "state. */\n"
                  : "/* out[]: outputs, then the state after the last token. "
                    "*/\n");
  {
    Enumeration out(os, name, "out");
    for (ArgAttr arg : mlir::delta::getOutputArrays(signature))
      out.add(arg.getName().getValue(), describeType(arg.getType()) + " " +
                                            describeShape(signature, arg));
    ArgAttr state = signature.getState();
    out.add("final_state",
            describeType(state.getType()) + " " +
                describeShape(signature, state) +
                ", or NULL: not wanted; may be the initial state's array");
  }
  os << "/* dims[] */\n";
  {
    Enumeration dims(os, name, "dim");
    dims.addOwn("sequences", "B");
    dims.addOwn("tokens", "T, of each sequence");
    dims.addOwn("heads", "H");
    for (StringAttr dim : signature.getDimNames())
      dims.add(dim.getValue(),
               "must be " + std::to_string(*signature.getDim(dim)));
  }
  os << "/* attrs[]: every one must be given. */\n";
  {
    Enumeration attrs(os, name, "attr");
    for (ArgAttr arg : signature.getArgs(ArgKind::Attr))
      attrs.add(arg.getName().getValue(),
                arg.getDefaultValue()
                    ? "the specification's default: " +
                          arg.getDefaultValue().getValue().str()
                    : std::string("has no default"));
  }
  os << "/* What the functions return. */\nenum {\n";
  const std::pair<StringRef, KernelStatus> codes[] = {
      {"ok", kOk},
      {"bad_dims", kBadDims},
      {"bad_workspace", kBadWorkspace},
      {"bad_range", kBadRange},
      {"bad_pointer", kBadPointer}};
  for (auto [code, status] : codes)
    os << "  " << name << "_" << code << " = " << int(status)
       << (status == kBadPointer ? "" : ",") << " /* " << describeStatus(status)
       << " */\n";
  os << "};\n\n";

  os << "/* Runs the kernel in the calling thread. `workspace`: at least\n"
     << " * " << name << "_workspace_bytes() bytes, aligned to "
     << kWorkspaceAlignment << "; what it holds\n"
     << " * before and after is of no meaning. */\n"
     << "int " << name << "(const void *const *in, void *const *out,\n"
     << "    const int64_t *dims, const double *attrs, void *workspace,\n"
     << "    size_t workspace_bytes);\n\n"
     << "/* Runs a part of it: work items [begin, end) of B * H * vblocks, "
        "where\n"
     << " * item (b * H + h) * vblocks + j is the j-th block of the state's\n"
     << " * columns of head h of sequence b. 1 <= vblocks <= " << name
     << "_panels().\n"
     << " * Items may run in any order and in several threads; the results "
        "are\n"
     << " * the same bits for any split. */\n"
     << "int " << name << "_range(const void *const *in, void *const *out,\n"
     << "    const int64_t *dims, const double *attrs, void *workspace,\n"
     << "    size_t workspace_bytes, int64_t begin, int64_t end,\n"
     << "    int64_t vblocks);\n\n"
     << "/* Bytes of workspace that a thread needs. */\n"
     << "size_t " << name << "_workspace_bytes(void);\n\n"
     << "/* The most blocks that the state's columns can be split into. */\n"
     << "int64_t " << name << "_panels(void);\n\n"
     << "#ifdef __cplusplus\n}\n#endif\n\n#endif /* " << guard << " */\n";
  os.flush();
  return EmitResult::Ok;
}

} // namespace delta::cpu
