//===- Caller.h - calling a recurrence from Python --------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// From a Python call to a launch: which array is which argument, do their
// shapes fit, which kernel is it, where do the results go.
//
//===----------------------------------------------------------------------===//

#ifndef DELTAC_CALLER_H
#define DELTAC_CALLER_H

#include "Arrays.h"
#include "Handles.h"

#include <string>
#include <vector>

namespace deltac {

/// Numbers from one to another; both belong to it.
struct Interval {
  int64_t least, most;
  bool contains(int64_t value) const { return least <= value && value <= most; }
};

/// An array argument of the recurrence.
struct ArrayArg {
  std::string name;
  nb::object key; ///< the name, interned
  std::vector<std::string> axes;
  std::vector<int> codes; ///< of axes: kB, kT, kH, or the number of a dim
};

class Caller {
public:
  /// `inputs`, `outs`: (name, axes) of the ins and params, and of the outs;
  /// `state`: the axes of the state; `attrs`: names. `build(dtypes, dims,
  /// device, index, heads, tokens)` makes the Kernel for arrays of those types
  /// and sizes, and says for which numbers of heads (B * H) and tokens it is:
  /// (kernel, (least, most), (least, most)). `convert(array, dtype)` makes a
  /// copy that kernels can take. `target` is "", for where the arrays are, or
  /// "sim".
  Caller(nb::list inputs, nb::tuple state, nb::list outs, nb::list attrs,
         std::string target, nb::object build, nb::object convert);

  /// The outs and the final state or None; None when torch has to see the call.
  nb::object call(nb::tuple args, nb::dict kwargs);

  /// The arguments by name after the same checks of names and numbers: a list
  /// of inputs, the initial state, the list of attrs (NaN where not given),
  /// and whether the final state is wanted.
  nb::tuple bind(nb::tuple args, nb::dict kwargs);

  /// Launches on arrays given in order; never looks whether torch watches.
  nb::object launch(nb::list inputs, nb::object initialState,
                    std::vector<double> attrs, bool wantsFinalState);

  /// For the garbage collector: recurrences refer to themselves through
  /// `build`.
  static int traverse(PyObject *self, visitproc visit, void *arg);
  static int clearReferences(PyObject *self);

  /// The simulator's counters of the last call, as JSON; "" without.
  std::string stats;
  /// Arrays that had to be copied for a kernel, of all calls so far.
  size_t numCopies = 0;
  /// Forgets all kernels.
  void clear() { entries.clear(); }
  size_t numKernels() const { return entries.size(); }

private:
  struct Arguments;
  struct Entry {
    std::vector<uint8_t> dtypes;
    std::vector<int64_t> dims;
    Interval heads, tokens;
    Place place;
    nb::object owner;
    Kernel *kernel;
    delta_dtype state;
    std::vector<delta_dtype> outs;
  };

  void parse(nb::tuple &args, nb::dict &kwargs, Arguments &arguments) const;
  nb::object run(Arguments &arguments);
  void learnSizes(const ArrayArg &arg, const ArrayView &view,
                  std::vector<int64_t> &sizes,
                  std::vector<const char *> &from) const;
  Entry &findEntry(const std::vector<ArrayView> &views,
                   const std::vector<int64_t> &sizes, const Place &place);
  std::string listAxes(const ArrayArg &arg,
                       const std::vector<int64_t> &sizes) const;
  ArrayArg makeArg(const std::string &name, nb::tuple axes);
  std::vector<int64_t> shapeOf(const ArrayArg &arg,
                               const std::vector<int64_t> &sizes) const;

  std::vector<ArrayArg> inputs, outs;
  ArrayArg state;
  std::vector<std::pair<std::string, nb::object>> attrs;
  std::vector<std::string> dimNames; ///< behind B, T, H
  std::string target;
  nb::object build, convert;
  std::vector<Entry> entries;
  size_t last = 0;
};

} // namespace deltac

#endif // DELTAC_CALLER_H
