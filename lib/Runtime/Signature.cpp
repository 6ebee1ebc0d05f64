//===- Signature.cpp - what a kernel takes and gives ----------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Questions about signatures.
//
//===----------------------------------------------------------------------===//

#include "delta/Runtime/Signature.h"

#include <algorithm>
#include <cassert>

namespace delta::runtime {

static constexpr const char *kKinds[] = {"in",  "param",      "attr", "state",
                                         "out", "checkpoint", "sum"};

const char *nameOf(ArgKind kind) { return kKinds[static_cast<int>(kind)]; }

std::optional<ArgKind> argKindFromName(std::string_view name) {
  for (size_t i = 0; i < std::size(kKinds); ++i)
    if (name == kKinds[i])
      return static_cast<ArgKind>(i);
  return std::nullopt;
}

std::vector<std::string> Argument::arrayAxes() const {
  std::vector<std::string> names;
  switch (kind) {
  case ArgKind::Attr:
    return names;
  case ArgKind::Param:
    names = {"H"};
    break;
  case ArgKind::State:
  case ArgKind::Sum:
    names = {"B", "H"};
    break;
  case ArgKind::Checkpoint:
    names = {"B", "H", kCheckpointAxis};
    break;
  case ArgKind::In:
  case ArgKind::Out:
    names = {"B", "T"};
    if (!family.empty())
      names.push_back(family);
    names.push_back("H");
    break;
  }
  names.insert(names.end(), axes.begin(), axes.end());
  return names;
}

bool Argument::isDim(size_t i) const {
  size_t leading = kind == ArgKind::Param                           ? 1
                   : kind == ArgKind::State || kind == ArgKind::Sum ? 2
                   : family.empty()                                 ? 3
                                                                    : 4;
  return i >= leading || (!family.empty() && i == 2);
}

const Argument *Signature::lookup(std::string_view name) const {
  auto it = std::find_if(args.begin(), args.end(),
                         [&](const Argument &arg) { return arg.name == name; });
  return it == args.end() ? nullptr : &*it;
}

const Argument &Signature::state() const {
  auto it = std::find_if(args.begin(), args.end(), [](const Argument &arg) {
    return arg.kind == ArgKind::State;
  });
  assert(it != args.end() && "a recurrence has a state");
  return *it;
}

const Argument *Signature::checkpoint() const {
  std::vector<const Argument *> found = ofKind(ArgKind::Checkpoint);
  return found.empty() ? nullptr : found.front();
}

std::vector<const Argument *> Signature::ofKind(ArgKind kind) const {
  std::vector<const Argument *> found;
  for (const Argument &arg : args)
    if (arg.kind == kind)
      found.push_back(&arg);
  return found;
}

std::vector<const Argument *> Signature::inputs() const {
  std::vector<const Argument *> found;
  for (const Argument &arg : args)
    if (arg.isInput())
      found.push_back(&arg);
  return found;
}

std::vector<std::string> Signature::arrayDims() const {
  std::vector<std::string> names;
  auto add = [&](const std::string &name) {
    if (std::find(names.begin(), names.end(), name) == names.end())
      names.push_back(name);
  };
  for (const Argument &arg : args) {
    if (!arg.family.empty())
      add(arg.family);
    for (const std::string &axis : arg.axes)
      add(axis);
  }
  return names;
}

} // namespace delta::runtime
