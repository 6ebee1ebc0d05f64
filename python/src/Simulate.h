//===- Simulate.h - launching in the simulator ------------------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A launch on arrays of the CPU's memory: they are copied to a simulated device
// and back.
//
//===----------------------------------------------------------------------===//

#ifndef DELTAC_SIMULATE_H
#define DELTAC_SIMULATE_H

#include "Handles.h"

#include <string>

namespace deltac {

/// Launches a kernel on a simulated device of this call alone; a finding is a
/// FindingError. Returns the simulator's counters as JSON.
std::string simulate(const Kernel &kernel, const delta_launch &launch);

} // namespace deltac

#endif // DELTAC_SIMULATE_H
