//===- RuntimeTest.cpp - tests of the run-time library --------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Conversions, metrics, random inputs, the thread pool, name suggestions and
// hashes.
// A failed expectation prints its place; the exit status counts them.
//
//===----------------------------------------------------------------------===//

#include "delta/Runtime/Check.h"
#include "delta/Runtime/Invocation.h"
#include "delta/Runtime/NdArray.h"
#include "delta/Runtime/RandomInputs.h"
#include "delta/Runtime/Sha256.h"
#include "delta/Runtime/Suggest.h"
#include "delta/Runtime/ThreadPool.h"

#include <atomic>
#include <cmath>
#include <cstring>
#include <iostream>
#include <limits>

using namespace delta::runtime;

static int failures = 0;

#define EXPECT(condition)                                                      \
  do {                                                                         \
    if (!(condition)) {                                                        \
      std::cerr << __FILE__ << ':' << __LINE__ << ": " #condition "\n";        \
      ++failures;                                                              \
    }                                                                          \
  } while (false)

static void testNarrowFloats() {
  // Every 16-bit pattern survives the way through double.
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    double half = fromF16Bits(static_cast<uint16_t>(bits));
    if (std::isnan(half))
      EXPECT(std::isnan(fromF16Bits(toF16Bits(half))));
    else
      EXPECT(toF16Bits(half) == bits);
    double brain = fromBF16Bits(static_cast<uint16_t>(bits));
    if (std::isnan(brain))
      EXPECT(std::isnan(fromBF16Bits(toBF16Bits(brain))));
    else
      EXPECT(toBF16Bits(brain) == bits);
  }
  // Between two neighbours: the nearest, and the even one from the middle; a
  // hair above the middle is up, which a detour through float would lose.
  for (uint32_t bits = 0; bits < 0x7f80; ++bits) {
    double low = fromBF16Bits(static_cast<uint16_t>(bits));
    double high = bits == 0x7f7f
                      ? std::ldexp(1.0, 128)
                      : fromBF16Bits(static_cast<uint16_t>(bits + 1));
    double middle = low + (high - low) / 2;
    EXPECT(toBF16Bits(middle) == bits + (bits & 1));
    EXPECT(toBF16Bits(std::nextafter(middle, 1e300)) == bits + 1);
    EXPECT(toBF16Bits(std::nextafter(middle, 0)) == bits);
    EXPECT(toBF16Bits(-middle) == (0x8000 | (bits + (bits & 1))));
  }
  for (uint32_t bits = 0; bits < 0x7c00; ++bits) {
    double low = fromF16Bits(static_cast<uint16_t>(bits));
    double high = bits == 0x7bff ? std::ldexp(1.0, 16)
                                 : fromF16Bits(static_cast<uint16_t>(bits + 1));
    double middle = low + (high - low) / 2;
    EXPECT(toF16Bits(middle) == bits + (bits & 1));
    EXPECT(toF16Bits(std::nextafter(middle, 1e300)) == bits + 1);
    EXPECT(toF16Bits(std::nextafter(middle, 0)) == bits);
  }
  EXPECT(fromF16Bits(0x3c00) == 1.0);
  EXPECT(fromBF16Bits(0x3f80) == 1.0);
  EXPECT(fromF16Bits(0x0001) == std::ldexp(1.0, -24));
  EXPECT(toF16Bits(std::numeric_limits<double>::infinity()) == 0x7c00);
  EXPECT(toF16Bits(1e300) == 0x7c00);
  EXPECT(toBF16Bits(-1e300) == 0xff80);
  EXPECT(toF16Bits(1e-300) == 0 && toF16Bits(-1e-300) == 0x8000);
  EXPECT(toBF16Bits(5e-324) == 0);
}

static void testArrays() {
  EXPECT(!numElementsOf({-1}));
  EXPECT(!numElementsOf({int64_t(1) << 62, 4}));
  EXPECT(!numElementsOf({0, int64_t(1) << 62, 4}));
  EXPECT(numElementsOf({0, 5}) == 0 && numElementsOf({}) == 1);
  EXPECT(!NdArray::zeros(DType::F64, {int64_t(1) << 61}));
  EXPECT(!NdArray::uninitialized(DType::F64, {int64_t(1) << 59}));

  Expected<NdArray> array = NdArray::zeros(DType::F32, {3, 5});
  EXPECT(array && reinterpret_cast<uintptr_t>(array->data()) % 64 == 0);
  for (int64_t i = 0; i < 15; ++i)
    array->set(i, i / 7.0 - 1);
  for (DType to : {DType::F64, DType::F16, DType::BF16}) {
    Expected<NdArray> converted = array->convertTo(to);
    Expected<NdArray> back = converted->convertTo(DType::F32);
    EXPECT(converted && back && back->shape() == array->shape());
    double limit = to == DType::F64 ? 0 : to == DType::F16 ? 5e-4 : 4e-3;
    for (int64_t i = 0; i < 15; ++i)
      EXPECT(std::fabs(back->at(i) - array->at(i)) <= limit);
  }
  // The fast path of f32 -> bf16 agrees with the exact one.
  float values[] = {1.00390625f,
                    1.01171875f,
                    3.4e38f,
                    -1e-40f,
                    std::numeric_limits<float>::infinity(),
                    0.1f};
  Expected<NdArray> floats = NdArray::zeros(DType::F32, {6});
  std::memcpy(floats->data(), values, sizeof(values));
  Expected<NdArray> brain = floats->convertTo(DType::BF16);
  for (int i = 0; i < 6; ++i)
    EXPECT(brain->as<uint16_t>()[i] == toBF16Bits(values[i]));

  EXPECT(indexToString({2, 3, 4}, 23) == "(1, 2, 3)");
  EXPECT(indexToString({}, 0) == "()");
  EXPECT(dtypeFromName("bf16") == DType::BF16 && !dtypeFromName("float"));
}

static NdArray vectorOf(std::initializer_list<double> values) {
  NdArray array =
      std::move(*NdArray::zeros(DType::F64, {int64_t(values.size())}));
  int64_t i = 0;
  for (double value : values)
    array.set(i++, value);
  return array;
}

static void testCheck() {
  auto compare = [](const NdArray &x, const NdArray &r) {
    return *compareArrays(x, r);
  };
  CheckResult result = compare(vectorOf({3, 4.5}), vectorOf({3, 4}));
  EXPECT(std::fabs(result.relError - 0.1) < 1e-15 && result.maxAbs == 0.5);
  EXPECT(result.passes(0.11) && !result.passes(0.09));
  EXPECT(formatCheck("o", result, 0.2) ==
         "o rel_err=1.000e-01 max_abs=5.000e-01 ok");
  EXPECT(formatCheck("o", result, 0.05) ==
         "o rel_err=1.000e-01 max_abs=5.000e-01 FAIL");
  // Absolute when the reference is zero, fine when there is nothing.
  EXPECT(compare(vectorOf({3, 4}), vectorOf({0, 0})).relError == 5);
  EXPECT(compare(vectorOf({}), vectorOf({})).passes(0));
  // What f32 cannot tell from zero is zero.
  NdArray zero = std::move(*NdArray::zeros(DType::F32, {1}));
  EXPECT(compare(zero, vectorOf({1e-80})).relError == 1e-80);
  EXPECT(compare(zero, vectorOf({1e-30})).relError == 1);
  // Neither overflow nor underflow of the squares.
  EXPECT(std::fabs(
             compare(vectorOf({2e300, 0}), vectorOf({1e300, 0})).relError - 1) <
         1e-15);
  EXPECT(std::fabs(compare(vectorOf({2e-300}), vectorOf({1e-300})).relError -
                   1) < 1e-15);
  double inf = std::numeric_limits<double>::infinity();
  double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT(!compare(vectorOf({inf}), vectorOf({inf})).passes(inf));
  EXPECT(!compare(vectorOf({nan}), vectorOf({1})).passes(inf));
  EXPECT(!compare(vectorOf({1}), vectorOf({nan})).passes(inf));
  EXPECT(!compareArrays(vectorOf({1}), vectorOf({1, 2})));

  EXPECT(checkLimit("f64") == 1e-11 && checkLimit("bf16") == 1e-2);
  EXPECT(!checkLimit("int8"));

  EXPECT(checkRange(vectorOf({-inf, -1, 0}), -inf, 0).ok());
  EXPECT(checkRange(vectorOf({-1, 0.25}), -inf, 0).message() ==
         "the value at (1) is 0.25, outside its declared range [-inf, 0]");
  EXPECT(checkRange(vectorOf({nan}), -inf, inf).message() ==
         "the value at (0) is NaN");
  EXPECT(checkRange(vectorOf({inf}), -inf, inf).ok());
  // A bound that f32 cannot hold is rounded as the data were.
  Expected<NdArray> f32 = vectorOf({-0.6065306597126334}).convertTo(DType::F32);
  EXPECT(checkRange(*f32, -0.6065306597126334, 0).ok());
}

static void testRandom() {
  auto make = [](const RandomArray &array, uint64_t seed) {
    return std::move(*makeRandom(array, seed));
  };
  NdArray x = make({"x", {100, 100}}, 0), again = make({"x", {100, 100}}, 0);
  EXPECT(!std::memcmp(x.data(), again.data(), x.sizeInBytes()));
  double sum = 0, squares = 0, fourth = 0;
  for (int64_t i = 0; i < x.numElements(); ++i) {
    sum += x.at(i);
    squares += x.at(i) * x.at(i);
    fourth += std::pow(x.at(i), 4);
  }
  EXPECT(std::fabs(sum / 1e4) < 0.04);
  EXPECT(std::fabs(squares / 1e4 - 1) < 0.05);
  EXPECT(std::fabs(fourth / 1e4 - 2.9) < 0.3);
  // Other names and seeds give other values; a longer array begins the same.
  EXPECT(make({"y", {4}}, 0).at(0) != x.at(0));
  EXPECT(make({"x", {4}}, 1).at(0) != x.at(0));
  EXPECT(make({"x", {4}}, 0).at(3) == x.at(3));
  // Bits that every machine must make, reckoned independently.
  double inf = std::numeric_limits<double>::infinity();
  EXPECT(make({"q", {2}}, 0).at(0) == 1.49432373046875);
  EXPECT(make({"g", {2}, RandomKind::Normal, -inf, 0}, 0).at(0) ==
         -1.4479420185089111);
  EXPECT(make({"beta", {9}, RandomKind::Fraction}, 3).at(5) ==
         0.369795024394989);

  NdArray unit = make({"k", {10, 64}, RandomKind::Unit}, 7);
  for (int64_t row = 0; row < 10; ++row) {
    double length = 0;
    for (int64_t i = 0; i < 64; ++i)
      length += unit.at(row * 64 + i) * unit.at(row * 64 + i);
    EXPECT(std::fabs(length - 1) < 1e-6);
  }
  auto within = [&](const NdArray &array, double lo, double hi) {
    for (int64_t i = 0; i < array.numElements(); ++i)
      if (!(array.at(i) > lo && array.at(i) < hi))
        return false;
    return checkRange(array, lo, hi).ok();
  };
  EXPECT(within(make({"beta", {999}, RandomKind::Fraction}, 0), 0, 1));
  EXPECT(within(make({"g", {9, 64}, RandomKind::Unit, -inf, 0}, 0), -inf, 0));
  EXPECT(within(make({"g", {999}, RandomKind::Normal, -5, 0}, 0), -5, 0));
  EXPECT(within(make({"g", {999}, RandomKind::Normal, -inf, -1}, 0), -inf, -1));
}

static void testThreadPool() {
  EXPECT(availableThreads() >= 1);
  for (unsigned threads : {1u, 2u, 3u, 8u}) {
    ThreadPool pool(threads);
    EXPECT(pool.numThreads() == threads);
    for (int64_t items : {0, 1, 2, 7, 8, 100}) {
      for (int round = 0; round < 50; ++round) {
        std::vector<std::atomic<int>> hits(items);
        std::atomic<int> calls(0);
        pool.parallelFor(items, [&](int64_t begin, int64_t end, unsigned t) {
          EXPECT(begin < end && t < threads);
          ++calls;
          for (int64_t i = begin; i < end; ++i)
            ++hits[i];
        });
        EXPECT(calls == std::min<int64_t>(items, threads));
        for (auto &hit : hits)
          EXPECT(hit == 1);
        // Shared: all items once, by whoever comes; jobs of both kinds mixed.
        for (auto &hit : hits)
          hit = 0;
        pool.share(items, [&](int64_t begin, int64_t end, unsigned t) {
          EXPECT(begin < end && t < threads);
          for (int64_t i = begin; i < end; ++i)
            ++hits[i];
        });
        for (auto &hit : hits)
          EXPECT(hit == 1);
      }
    }
  }
}

static void testSuggest() {
  EXPECT(editDistance("kitten", "sitting") == 3);
  EXPECT(editDistance("ab", "ba") == 1 && editDistance("Q", "q") == 0);
  std::vector<std::string> names = {"q", "k", "v", "beta", "initial_state"};
  EXPECT(nearestName("beat", names) == "beta");
  EXPECT(nearestName("K", names) == "k");
  EXPECT(nearestName("x", names).empty());
  EXPECT(nearestName("inital_state", names) == "initial_state");
  EXPECT(nearestName("something", names).empty());
  EXPECT(didYouMean("bta", names) == "; did you mean 'beta'?");
}

static void testSha256() {
  // The examples of FIPS 180-4, and every length around a block's end.
  EXPECT(toHex(sha256("")) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934c"
                              "a495991b7852b855");
  EXPECT(toHex(sha256("abc")) ==
         "ba7816bf8f01cfea414140de5dae2223b00361a396177a"
         "9cb410ff61f20015ad");
  EXPECT(toHex(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopno"
                      "pq")) == "248d6a61d20638b8e5c026930c3e6039a33ce45964ff21"
                                "67f6ecedd419db06c1");
  EXPECT(toHex(sha256(std::string(1000000, 'a'))) ==
         "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  std::string chained;
  for (size_t length = 0; length < 130; ++length)
    chained += toHex(sha256(std::string(length, 'x')));
  EXPECT(toHex(sha256(chained)) ==
         "199af942eba7fa5d1e16d475169eb24018b14e69339c93d26a9ea6d873b4ace6");
}

/// in q: K, param u: K, attr s, state K x V, out o: V.
static Signature makeSignature(bool backward) {
  auto arg = [](ArgKind kind, const char *name, std::vector<std::string> axes) {
    Argument result;
    result.kind = kind;
    result.name = name;
    result.axes = std::move(axes);
    return result;
  };
  Argument checkpoint = arg(ArgKind::Checkpoint, "checkpoints", {"K", "V"});
  checkpoint.every = 4;
  Signature signature;
  signature.backward = backward;
  signature.args = {arg(ArgKind::In, "q", {"K"}),
                    arg(ArgKind::Param, "u", {"K"})};
  if (backward)
    signature.args.push_back(arg(ArgKind::In, "do", {"V"}));
  signature.args.push_back(arg(ArgKind::Attr, "s", {}));
  signature.args.push_back(checkpoint);
  signature.args.push_back(arg(ArgKind::State, "S", {"K", "V"}));
  if (backward) {
    signature.args.push_back(arg(ArgKind::Out, "d_q", {"K"}));
    signature.args.push_back(arg(ArgKind::Sum, "d_u", {"K"}));
    signature.args.push_back(arg(ArgKind::Sum, "d_s", {}));
  } else {
    signature.args.push_back(arg(ArgKind::Out, "o", {"V"}));
  }
  return signature;
}

static void testGradients() {
  constexpr int64_t T = 9, H = 2, K = 2, V = 3;
  BoundArrays arrays;
  arrays.B = 1;
  arrays.T = T;
  arrays.H = H;
  arrays.dims = {{"K", K}, {"V", V}};
  arrays.cuSeqlens = {0, 4, 4, 9};
  arrays.sequences = 3;
  auto add = [&](const char *name, Shape shape) {
    arrays.arrays.try_emplace(
        name, std::move(*NdArray::zeros(DType::F32, std::move(shape))));
  };
  add("q", {1, T, H, K});
  add("u", {H, K});
  add("do", {1, T, H, V});
  Signature forward = makeSignature(false), backward = makeSignature(true);

  // Every sequence has room for its states, and nobody else's.
  Expected<NdArray> saved = makeCheckpoints(forward, arrays);
  EXPECT(saved && saved->shape() == Shape({1, H, T / 4 + 3, K, V}));
  Expected<Invocation> writing =
      Invocation::create(forward, arrays, {1.0}, &*saved);
  Expected<Invocation> reading =
      Invocation::create(backward, arrays, {1.0}, &*saved);
  EXPECT(writing && writing->parts().size() == 3);
  EXPECT(reading && reading->parts().size() == 3);
  const char *end = static_cast<const char *>(saved->data());
  for (size_t i = 0; i < 3; ++i) {
    const Part &part = writing->parts()[i];
    EXPECT(part.in.size() == 3 && part.out.size() == 3);
    const Part::Region &region = part.out[1];
    EXPECT(region.name == "checkpoints");
    EXPECT(part.out[2].name == kFinalState);
    int64_t count = (part.T + 3) / 4;
    EXPECT(region.bytes == count * H * K * V * sizeof(float));
    EXPECT(static_cast<const char *>(region.data) >= end);
    end = static_cast<const char *>(region.data) + region.bytes;
    const Part &other = reading->parts()[i];
    EXPECT(other.in.size() == 5 && other.out.size() == 4);
    EXPECT(other.in[3].data == region.data);
    EXPECT(other.in[4].data == nullptr && other.in[4].name == kFinalCotangent);
    EXPECT(other.out[3].name == "d_initial_state");
  }
  EXPECT(end <=
         static_cast<const char *>(saved->data()) + saved->sizeInBytes());

  // A param's sums are added up over the sequences, an attr's over heads too.
  Results computed = reading->takeResults();
  EXPECT(computed.size() == 4 && computed[1].first == "d_u");
  EXPECT(computed[1].second.shape() == Shape({3, H, K}));
  EXPECT(computed[2].second.shape() == Shape({3, H}));
  for (size_t result : {1, 2})
    for (int64_t i = 0; i < computed[result].second.numElements(); ++i)
      computed[result].second.as<float>()[i] = static_cast<float>(i);
  Expected<Results> gradients =
      finishGradients(forward, backward, arrays, std::move(computed));
  EXPECT(gradients && gradients->size() == 4);
  EXPECT((*gradients)[1].first == "d_u" && (*gradients)[2].first == "d_s");
  EXPECT((*gradients)[1].second.shape() == Shape({H, K}));
  EXPECT((*gradients)[1].second.at(3) == 3 + 7 + 11);
  EXPECT((*gradients)[2].second.shape() == Shape());
  EXPECT((*gradients)[2].second.at(0) == 15);
}

int main() {
  testNarrowFloats();
  testArrays();
  testCheck();
  testRandom();
  testThreadPool();
  testSuggest();
  testSha256();
  testGradients();
  if (failures)
    std::cerr << failures << " expectations failed\n";
  else
    std::cout << "all expectations hold\n";
  return failures != 0;
}
