//===- Invocation.h - a kernel's arguments, from arrays --------*- C++ -*--===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// From bound arrays to the pointers of one or more launches, and back to named
// results. What launches is a Runner: a CPU kernel on a pool, or a kernel on a
// device.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_RUNTIME_INVOCATION_H
#define DELTA_RUNTIME_INVOCATION_H

#include "delta/Runtime/Binding.h"

#include <string>
#include <utility>
#include <vector>

namespace delta::runtime {

/// The arrays computed: the outs in declared order, then the sums, then
/// final_state (d_initial_state by a backward kernel).
using Results = std::vector<std::pair<std::string, NdArray>>;

/// Tokens [first, first + count) that one launch computes, with the state of
/// sequence number `index`: a batch, or one packed sequence.
struct Sequence {
  int64_t index = 0, first = 0, count = 0;
  int64_t batch = 1;
};

std::vector<Sequence> sequencesOf(const BoundArrays &arrays);

/// The elements of an argument's array that a sequence works on.
struct Slice {
  int64_t offset = 0, count = 0;
};
Slice sliceOf(const Argument &arg, const NdArray &array,
              const Sequence &sequence);

/// Zeroed arrays for all results, of the signature's types or of f64. The
/// checkpoints are none of them.
Expected<Results> makeResults(const Signature &signature,
                              const BoundArrays &arrays, bool asF64);

/// Zeroed arrays for the gradients of the ins and params, of the attrs and of
/// the initial state, in this order. `signature` is the forward one. An in's or
/// state's gradient has its type, a param's or attr's the type `sums`; without
/// that all are f64.
Expected<Results> makeGradients(const Signature &signature,
                                const BoundArrays &arrays,
                                std::optional<DType> sums = std::nullopt);

/// Zeroed room for the checkpoints of a signature that has them.
Expected<NdArray> makeCheckpoints(const Signature &signature,
                                  const BoundArrays &arrays);

/// The gradients of `makeGradients` from the results of a backward kernel: its
/// sums are added up over the sequences, those of an attr over the heads too,
/// in order and in double. Both signatures are needed.
Expected<Results> finishGradients(const Signature &forward,
                                  const Signature &backward,
                                  const BoundArrays &arrays, Results computed);

/// The values of the signature's attrs in declared order: those `given`, else
/// their defaults. Errors: an unknown name, an attr without a value, one whose
/// default is computed from an attr that is given, a value outside its declared
/// range. With `asOptions` they are worded for who gives them as options.
Expected<std::vector<double>> chooseAttrs(const Signature &signature,
                                          const NamedValues<double> &given,
                                          bool asOptions = true);

/// Verifies a value of an attr against its declared range.
Status checkAttr(const Argument &attr, double value);

/// What one launch reads and writes, in the host's memory.
struct Part {
  struct Region {
    void *data = nullptr; ///< null: absent, or not wanted
    size_t bytes = 0;
    std::string name; ///< of the array, for messages
  };
  /// Ins and params, the checkpoints of a backward kernel, the state before.
  std::vector<Region> in;
  /// Outs, sums, the checkpoints of a forward kernel, the state after.
  std::vector<Region> out;
  int64_t B = 0, T = 0, H = 0;
};

/// The arguments of a kernel, as one launch a sequence.
class Invocation {
public:
  /// `arrays` must have the signature's types, and outlive the invocation, as
  /// must `checkpoints`, for a signature that has them.
  static Expected<Invocation> create(const Signature &signature,
                                     const BoundArrays &arrays,
                                     std::vector<double> attrs,
                                     const NdArray *checkpoints = nullptr);

  const std::vector<Part> &parts() const { return launches; }
  const std::vector<double> &attrs() const { return values; }
  /// Bytes of all arrays that the kernel reads or writes.
  int64_t bytes() const { return total; }
  Results takeResults() { return std::move(results); }

private:
  Results results;
  std::vector<Part> launches;
  std::vector<double> values;
  int64_t total = 0;
};

/// Launches a kernel on the arrays of an invocation, again and again.
class Runner {
public:
  virtual ~Runner();

  /// Brings the arrays to where the kernel reads them, once.
  virtual Status begin(const Invocation &invocation);
  /// Launches every part, and waits.
  virtual Status launch(const Invocation &invocation) = 0;
  /// The seconds that one `launch` takes.
  virtual Expected<double> measure(const Invocation &invocation);
  /// Brings the results back to the invocation's arrays.
  virtual Status end(const Invocation &invocation);
};

/// The median of `measure` over about a second: at least 5 launches, at most
/// 10000.
Expected<double> measureMedian(Runner &runner, const Invocation &invocation);

/// The line "bench NAME median_s=... bytes=... gbps=... gflops=... share=..."
/// without its end. `floor` are the seconds that the machine needs at least.
std::string formatBench(const std::string &name, double median, double bytes,
                        double flops, double floor);

} // namespace delta::runtime

#endif // DELTA_RUNTIME_INVOCATION_H
