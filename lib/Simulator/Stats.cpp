//===- Stats.cpp - the simulator's counters -------------------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Names of the counters, and JSON.
//
//===----------------------------------------------------------------------===//

#include "delta/Simulator/Stats.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

namespace delta::sim {

const char *nameOf(InstructionClass cls) {
  static const char *const names[] = {
      "mma",          "matrix_load", "matrix_store", "shared_load",
      "shared_store", "async_copy",  "global_load",  "global_store",
      "local_memory", "param_load",  "atomic",       "special",
      "float32",      "float64",     "float16",      "convert",
      "shuffle",      "integer",     "move",         "control",
      "barrier"};
  return names[static_cast<size_t>(cls)];
}

void Stats::add(const Stats &other) {
  globalLoadBytes += other.globalLoadBytes;
  globalStoreBytes += other.globalStoreBytes;
  globalSectors += other.globalSectors;
  globalLoadSectors += other.globalLoadSectors;
  globalStoreSectors += other.globalStoreSectors;
  sharedBankConflicts += other.sharedBankConflicts;
  sharedWavefronts += other.sharedWavefronts;
  mmaFlops += other.mmaFlops;
  instructions += other.instructions;
  barriers += other.barriers;
  barrierPhases += other.barrierPhases;
  divergentBranches += other.divergentBranches;
  ex2 += other.ex2;
  for (size_t i = 0; i < byClass.size(); ++i)
    byClass[i] += other.byClass[i];
}

namespace {

std::string quoted(const std::string &text) {
  static const char hex[] = "0123456789abcdef";
  std::string out = "\"";
  for (char c : text) {
    auto u = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (u < 0x20) {
      out += "\\u00";
      out += hex[u >> 4];
      out += hex[u & 15];
    } else {
      out += c;
    }
  }
  return out + "\"";
}

} // namespace

std::string toJson(const std::vector<Stats> &launches) {
  std::ostringstream os;
  os << "[";
  for (size_t i = 0; i < launches.size(); ++i) {
    const Stats &s = launches[i];
    os << (i ? ",\n" : "\n") << "  {\n    \"kernel\": " << quoted(s.kernel);
    auto field = [&](const char *name, uint64_t value) {
      os << ",\n    \"" << name << "\": " << value;
    };
    field("ctas", s.ctas);
    field("threads", s.threads);
    field("global_load_bytes", s.globalLoadBytes);
    field("global_store_bytes", s.globalStoreBytes);
    field("global_sectors", s.globalSectors);
    field("shared_bytes_per_cta", s.sharedBytesPerCta);
    field("shared_bank_conflicts", s.sharedBankConflicts);
    field("shared_wavefronts", s.sharedWavefronts);
    field("mma_flops", s.mmaFlops);
    field("instructions", s.instructions);
    field("barriers", s.barriers);
    field("ex2", s.ex2);
    field("global_load_sectors", s.globalLoadSectors);
    field("global_store_sectors", s.globalStoreSectors);
    field("barrier_phases", s.barrierPhases);
    field("divergent_branches", s.divergentBranches);
    os << ",\n    \"instructions_by_class\": {";
    for (size_t c = 0; c < s.byClass.size(); ++c)
      os << (c ? ", " : "") << '"' << nameOf(static_cast<InstructionClass>(c))
         << "\": " << s.byClass[c];
    os << "}\n  }";
  }
  os << (launches.empty() ? "]\n" : "\n]\n");
  return os.str();
}

runtime::Status writeStats(const std::string &path,
                           const std::vector<Stats> &launches) {
  std::ofstream out(path);
  out << toJson(launches);
  out.flush();
  if (!out)
    return runtime::Status::error("cannot write '", path,
                                  "': ", std::strerror(errno));
  return runtime::Status();
}

} // namespace delta::sim
