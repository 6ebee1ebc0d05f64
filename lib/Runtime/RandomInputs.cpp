//===- RandomInputs.cpp - reproducible random inputs ----------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A counter-based generator: no state, so arrays can be made in any order. The
// transcendental functions are written out in IEEE basic operations because
// those of math libraries differ in the last bits; this file is compiled
// without contraction into fused multiply-adds for the same reason.
//
//===----------------------------------------------------------------------===//

#include "delta/Runtime/RandomInputs.h"

#include <algorithm>
#include <cmath>

namespace delta::runtime {

namespace {

/// A bijection of 64 bits whose outputs for consecutive inputs look independent
/// (the finaliser of splitmix64).
uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

/// The key of an array's stream: a hash of its name, mixed with the seed.
uint64_t streamKey(const std::string &name, uint64_t seed) {
  uint64_t hash = 0xcbf29ce484222325;
  for (char c : name)
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return mix(hash ^ mix(seed));
}

/// The sum of twelve uniform numbers: variance 1, near enough to normal, and
/// exact in integer arithmetic.
double normalAt(uint64_t key, uint64_t index) {
  int64_t sum = 0;
  for (uint64_t word = 0; word < 3; ++word) {
    uint64_t bits = mix(key ^ mix(3 * index + word));
    for (int part = 0; part < 4; ++part)
      sum += (bits >> (16 * part)) & 0xffff;
  }
  return static_cast<double>(2 * sum - 12 * 65535) / 131072.0;
}

constexpr double kLn2 = 0.6931471805599453;

/// exp(x) for |x| <= 6, to about 1e-15.
double portableExp(double x) {
  int k = static_cast<int>(std::floor(x / kLn2 + 0.5));
  double r = x - k * kLn2;
  double term = 1, sum = 1;
  for (int n = 1; n <= 16; ++n) {
    term = term * r / n;
    sum += term;
  }
  return std::ldexp(sum, k);
}

/// log(y) for y > 0, to about 1e-15 absolute.
double portableLog(double y) {
  int k;
  double m = std::frexp(y, &k);
  if (m < 0.7071067811865476) {
    m *= 2;
    --k;
  }
  double s = (m - 1) / (m + 1), square = s * s, power = s, sum = 0;
  for (int n = 1; n <= 25; n += 2) {
    sum += power / n;
    power *= square;
  }
  return 2 * sum + k * kLn2;
}

double sigmoid(double x) { return 1 / (1 + portableExp(-x)); }
double logSigmoid(double x) { return -portableLog(1 + portableExp(-x)); }

/// Scales every row of `width` values to length 1.
void normalizeRows(float *data, int64_t count, int64_t width) {
  for (int64_t row = 0; width > 0 && row < count; row += width) {
    double sum = 0;
    for (int64_t i = row; i < row + width; ++i)
      sum += static_cast<double>(data[i]) * data[i];
    if (sum == 0)
      continue;
    double length = std::sqrt(sum);
    for (int64_t i = row; i < row + width; ++i)
      data[i] = static_cast<float>(data[i] / length);
  }
}

} // namespace

Expected<NdArray> makeRandom(const RandomArray &array, uint64_t seed) {
  Expected<NdArray> result = NdArray::uninitialized(DType::F32, array.shape);
  if (!result)
    return result;
  uint64_t key = streamKey(array.name, seed);
  bool logDecay = array.hi <= 0;
  bool unit = array.kind == RandomKind::Unit && !logDecay;
  bool fill = std::isfinite(array.lo) && std::isfinite(array.hi) && !unit;
  float *data = result->as<float>();
  int64_t count = result->numElements();
  for (int64_t i = 0; i < count; ++i) {
    double value = normalAt(key, static_cast<uint64_t>(i));
    if (fill)
      value = array.lo + (array.hi - array.lo) * sigmoid(value);
    else if (logDecay)
      value = array.hi + logSigmoid(value);
    else if (array.kind == RandomKind::Fraction)
      value = sigmoid(value);
    data[i] = static_cast<float>(value);
  }
  if (unit)
    normalizeRows(data, count, array.shape.empty() ? 1 : array.shape.back());
  float lo = static_cast<float>(array.lo), hi = static_cast<float>(array.hi);
  for (int64_t i = 0; i < count; ++i)
    data[i] = std::min(std::max(data[i], lo), hi);
  return result;
}

} // namespace delta::runtime
