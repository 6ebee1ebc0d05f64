//===- FuzzMain.h - a mutation fuzzer without dependencies ------*- C++ -*-===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Drives a function with mutations of given seeds for a given time. The stream
// of inputs depends on the seed number alone, so a finding can be had again;
// the input at work is kept in a file that survives a crash.
//
//===----------------------------------------------------------------------===//

#ifndef DELTA_TEST_FUZZ_FUZZMAIN_H
#define DELTA_TEST_FUZZ_FUZZMAIN_H

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

namespace delta::fuzz {

using Bytes = std::string;

/// Changes a few places of `data`: bits, bytes, numbers that stand at borders,
/// whole ranges removed, repeated or taken from `other`, and words of `tokens`.
inline void mutate(Bytes &data, const Bytes &other,
                   const std::vector<Bytes> &tokens, std::mt19937_64 &random) {
  auto below = [&](size_t n) { return n ? random() % n : 0; };
  for (size_t edits = 1 + below(4); edits > 0; --edits) {
    size_t at = below(data.size() + 1);
    size_t length = std::min<size_t>(data.size() - at, 1 + below(32));
    switch (below(8)) {
    case 0:
      if (at < data.size())
        data[at] = static_cast<char>(data[at] ^ (1 << below(8)));
      break;
    case 1:
      if (at < data.size())
        data[at] = static_cast<char>(random());
      break;
    case 2: {
      static const uint64_t kBorders[] = {0,          1,          0x7f,
                                          0xff,       0x7fff,     0xffff,
                                          0x7fffffff, 0xffffffff, ~uint64_t(0)};
      uint64_t value = kBorders[below(std::size(kBorders))];
      size_t size = std::min<size_t>(size_t(1) << below(4), data.size() - at);
      std::memcpy(data.data() + at, &value, size);
      break;
    }
    case 3:
      data.erase(at, length);
      break;
    case 4:
      data.insert(at, data.substr(at, length));
      break;
    case 5:
      data.insert(at, other.substr(below(other.size() + 1), length));
      break;
    case 6:
      if (!tokens.empty())
        data.replace(at, below(length + 1), tokens[below(tokens.size())]);
      break;
    case 7:
      data.resize(at);
      break;
    }
  }
}

/// Runs `target` on mutated `seeds`: [--seconds=N] [--seed=N] [--keep=FILE], or
/// once on each FILE given. Returns the exit status; a finding is a crash, or
/// `target` returning false.
template <typename Target>
int fuzzMain(int argc, char **argv, const std::vector<Bytes> &seeds,
             const std::vector<Bytes> &tokens, Target target) {
  double seconds = 10;
  uint64_t seed = 0;
  std::string keep;
  std::vector<std::string> files;
  for (int i = 1; i < argc; ++i) {
    std::string argument = argv[i];
    if (argument.rfind("--seconds=", 0) == 0)
      seconds = std::atof(argument.c_str() + 10);
    else if (argument.rfind("--seed=", 0) == 0)
      seed = std::strtoull(argument.c_str() + 7, nullptr, 10);
    else if (argument.rfind("--keep=", 0) == 0)
      keep = argument.substr(7);
    else
      files.push_back(argument);
  }
  for (const std::string &file : files) {
    std::ifstream in(file, std::ios::binary);
    Bytes data((std::istreambuf_iterator<char>(in)), {});
    if (!target(data))
      return 1;
  }
  if (!files.empty())
    return 0;

  std::mt19937_64 random(seed);
  std::vector<Bytes> pool = seeds;
  using Clock = std::chrono::steady_clock;
  auto end = Clock::now() + std::chrono::duration<double>(seconds);
  uint64_t runs = 0;
  while (Clock::now() < end) {
    Bytes data = pool[random() % pool.size()];
    mutate(data, pool[random() % pool.size()], tokens, random);
    if (!keep.empty()) {
      std::ofstream out(keep, std::ios::binary | std::ios::trunc);
      out.write(data.data(), static_cast<std::streamsize>(data.size()));
    }
    auto begin = Clock::now();
    bool good = target(data);
    if (Clock::now() - begin > std::chrono::seconds(10)) {
      std::cerr << "input " << runs << " took more than 10 s\n";
      good = false;
    }
    if (!good) {
      std::cerr << "finding at input " << runs << " of seed " << seed << '\n';
      return 1;
    }
    // Walk away from the seeds slowly, within a bounded pool.
    if (random() % 16 == 0 && data.size() < 100000) {
      if (pool.size() < 200)
        pool.push_back(std::move(data));
      else
        pool[seeds.size() + random() % (pool.size() - seeds.size())] =
            std::move(data);
    }
    ++runs;
  }
  std::cout << runs << " inputs, no finding\n";
  return 0;
}

} // namespace delta::fuzz

#endif // DELTA_TEST_FUZZ_FUZZMAIN_H
