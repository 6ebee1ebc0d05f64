//===- NpzFuzzer.cpp - fuzzing of .npz and .npy reading -------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Reads mutated archives and bare .npy streams. Anything but arrays or a worded
// error (a crash, a hang, memory out of proportion) is a finding. Seeds are the
// files given after `--`, else archives made here.
//
//===----------------------------------------------------------------------===//

#include "FuzzMain.h"
#include "delta/Runtime/Npy.h"
#include "delta/Runtime/Npz.h"

#include <cstdio>
#include <unistd.h>

using namespace delta::runtime;
using delta::fuzz::Bytes;

namespace {

/// An array may not need more than deflate can expand, plus a little.
bool inProportion(const NdArray &array, size_t inputSize) {
  return array.sizeInBytes() <= 1040 * (inputSize + 1024);
}

bool sensible(const std::string &message) {
  return !message.empty() && message.back() != '.' && message.size() < 1000;
}

bool readArchive(const Bytes &data) {
  Expected<NpzReader> reader =
      NpzReader::openBytes(data.data(), data.size(), "in.npz");
  if (!reader)
    return sensible(reader.message());
  for (const std::string &name : reader->names()) {
    Expected<NdArray> array = reader->read(name);
    if (array ? !inProportion(*array, data.size()) : !sensible(array.message()))
      return false;
  }
  return true;
}

bool readStream(const Bytes &data) {
  size_t pos = 0;
  ByteReader read = [&](void *buffer, size_t size) -> Expected<size_t> {
    size_t got = std::min(size, data.size() - pos);
    std::memcpy(buffer, data.data() + pos, got);
    pos += got;
    return got;
  };
  Expected<NdArray> array = readNpy(read, data.size());
  return array ? inProportion(*array, data.size()) : sensible(array.message());
}

std::vector<Bytes> makeSeeds() {
  std::vector<Bytes> seeds;
  std::vector<NdArray> arrays;
  for (DType dtype : {DType::F32, DType::F64, DType::I64, DType::Bool})
    for (const Shape &shape : {Shape{}, Shape{3}, Shape{2, 3, 4}, Shape{2, 0}})
      arrays.push_back(std::move(*NdArray::zeros(dtype, shape)));
  std::vector<NamedArray> named;
  for (size_t i = 0; i < arrays.size(); ++i) {
    named.emplace_back("a" + std::to_string(i), &arrays[i]);
    seeds.push_back(makeNpyHeader(arrays[i]) +
                    Bytes(arrays[i].sizeInBytes(), '\1'));
  }
  std::string path = "/tmp/delta-npz-fuzzer-" + std::to_string(getpid());
  for (size_t count : {1, 3, 16}) {
    std::vector<NamedArray> some(named.begin(), named.begin() + count);
    if (Status status = writeNpz(path, some); !status.ok()) {
      std::cerr << status.message() << '\n';
      std::exit(1);
    }
    std::ifstream in(path, std::ios::binary);
    seeds.emplace_back((std::istreambuf_iterator<char>(in)),
                       std::istreambuf_iterator<char>());
  }
  std::remove(path.c_str());
  return seeds;
}

} // namespace

int main(int argc, char **argv) {
  std::vector<Bytes> seeds = makeSeeds();
  // Seed files follow "--".
  for (int i = 1; i < argc; ++i) {
    if (Bytes(argv[i]) != "--")
      continue;
    for (int j = i + 1; j < argc; ++j) {
      std::ifstream in(argv[j], std::ios::binary);
      seeds.emplace_back((std::istreambuf_iterator<char>(in)),
                         std::istreambuf_iterator<char>());
    }
    argc = i;
  }
  std::vector<Bytes> tokens = {"'descr'",
                               "'fortran_order'",
                               "'shape'",
                               "True",
                               "False",
                               "'<f4'",
                               "'>f8'",
                               "'<f16'",
                               "'|O'",
                               "'|b1'",
                               "(",
                               ")",
                               ",",
                               "{",
                               "}",
                               ":",
                               "(2, 3)",
                               "9223372036854775807",
                               "18446744073709551616",
                               "-1",
                               "L",
                               Bytes("\x93NUMPY\x01\x00", 8),
                               Bytes("\x93NUMPY\x02\x00", 8),
                               Bytes("PK\x01\x02", 4),
                               Bytes("PK\x03\x04", 4),
                               Bytes("PK\x05\x06", 4),
                               Bytes("PK\x06\x06", 4),
                               Bytes("PK\x06\x07", 4),
                               ".npy"};
  return delta::fuzz::fuzzMain(
      argc, argv, seeds, tokens,
      [](const Bytes &data) { return readArchive(data) && readStream(data); });
}
