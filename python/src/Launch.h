//===- Launch.h - launching on given arrays ---------------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The launch as the C API has it, for the kernels of gradients: all arrays are
// there, dense and of the kernel's types, results included.
//
//===----------------------------------------------------------------------===//

#ifndef DELTAC_LAUNCH_H
#define DELTAC_LAUNCH_H

#include "Arrays.h"
#include "Handles.h"

namespace deltac {

/// B, T and H of a launch, from the shapes of its arrays of tokens.
struct TokenSizes {
  int64_t batch = 0, tokens = 0, heads = 0;
};
TokenSizes sizesOf(const Kernel &kernel, const delta_launch &launch);

/// Launches on arrays at `place`; a GPU gets a workspace and the current
/// stream.
void launchAt(const Place &place, const Kernel &kernel, const TokenSizes &sizes,
              delta_launch &launch);

/// Launches a kernel; what does not fit is an error in the run time's words.
/// Returns the simulator's counters as JSON, "" of other devices.
std::string launchKernel(Kernel &kernel, nb::list inputs,
                         nb::object initialState, nb::list outputs,
                         nb::object finalState, nb::list sums,
                         nb::object checkpoints, std::vector<double> attrs);

} // namespace deltac

#endif // DELTAC_LAUNCH_H
