//===- Arguments.h - kernel arguments from the command line -----*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// What --arg says: arrays read from files, outputs to be made, and scalars.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_TOOLS_PTX_SIM_ARGUMENTS_H
#define DELTA_TOOLS_PTX_SIM_ARGUMENTS_H

#include "delta/Runtime/NdArray.h"
#include "delta/Simulator/Launch.h"

#include <optional>
#include <string>
#include <vector>

namespace delta::ptxsim {

/// One argument: an array in simulated memory, or a value.
struct Argument {
  std::optional<runtime::DType> dtype; ///< of an array
  runtime::Shape shape;
  sim::DeviceAddress address = 0;
  std::vector<uint8_t> scalar; ///< the bytes of a value
  bool isOutput = false;
};

/// Reads a number of a grid or block: "X", "X,Y" or "X,Y,Z".
runtime::Expected<sim::Dim3> parseDim3(const std::string &text);

/// Makes the argument that `text` describes: FILE.npy[:DTYPE], out:SHAPE:DTYPE
/// or scalar:TYPE:VALUE. Arrays are placed in `memory` under a name with
/// `index` in it.
runtime::Expected<Argument> makeArgument(const std::string &text,
                                         unsigned index, sim::Memory &memory);

/// Writes an array argument to an .npy file; bf16 is widened to f32.
runtime::Status saveArgument(const Argument &argument, const std::string &path,
                             const sim::Memory &memory);

} // namespace delta::ptxsim

#endif // DELTA_TOOLS_PTX_SIM_ARGUMENTS_H
