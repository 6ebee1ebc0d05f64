//===- NpzCopy.cpp - read an archive, write what was understood -----------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// delta-npz-copy IN.npz [OUT.npz]: reads every array and writes them again, so
// that tests can hold our reader and writer against NumPy's.
//
//===----------------------------------------------------------------------===//

#include "delta/Runtime/Npz.h"

#include <deque>
#include <iostream>

using namespace delta::runtime;

static int fail(const std::string &message) {
  std::cerr << "delta-npz-copy: error: " << message << '\n';
  return 1;
}

int main(int argc, char **argv) {
  if (argc < 2 || argc > 3)
    return fail("expected IN.npz [OUT.npz]");
  Expected<NpzReader> reader = NpzReader::open(argv[1]);
  if (!reader)
    return fail(reader.message());
  std::deque<NdArray> arrays;
  std::vector<NamedArray> named;
  for (const std::string &name : reader->names()) {
    Expected<NdArray> array = reader->read(name);
    if (!array)
      return fail(array.message());
    std::cout << name << ": " << nameOf(array->dtype()) << ' '
              << toString(array->shape()) << '\n';
    arrays.push_back(std::move(*array));
    named.emplace_back(name, &arrays.back());
  }
  if (argc == 3)
    if (Status status = writeNpz(argv[2], named); !status.ok())
      return fail(status.message());
  return 0;
}
