//===- PtxFuzzer.cpp - fuzzing of the PTX simulator -----------------------===//
//
// Part of the delta project, under the Apache License v2.0 with LLVM
// Exceptions. SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// Parses mutated PTX, and runs every kernel that survives for a few steps.
// Anything but a module or a worded error, and a result or findings, is a bug:
// a crash, a hang, an error without a place. Seeds are the files given after
// `--`, else a kernel written here.
//
//===----------------------------------------------------------------------===//

#include "FuzzMain.h"
#include "delta/Simulator/Launch.h"

using namespace delta::sim;
using delta::fuzz::Bytes;

namespace {

const char *const kSeed = R"(.version 8.0
.target sm_80
.address_size 64
.extern .shared .align 16 .b8 dyn[];
.shared .align 4 .f32 part[32];
.global .align 4 .u32 table[4] = {1, 2, 0x3, 4};
.visible .entry kernel(.param .u64 in, .param .u64 out, .param .u32 n)
.maxntid 64, 1, 1
{
  .reg .pred %p<9>;
  .reg .b16 %h<9>;
  .reg .b32 %r<40>;
  .reg .f32 %f<20>;
  .reg .b64 %rd<20>;
  .local .align 8 .b8 frame[16];
  ld.param.u64 %rd1, [in];
  ld.param.u64 %rd2, [out];
  ld.param.u32 %r1, [n];
  cvta.to.global.u64 %rd3, %rd1;
  mov.u32 %r2, %tid.x;
  mul.wide.u32 %rd4, %r2, 4;
  add.s64 %rd5, %rd3, %rd4;
  setp.ge.u32 %p1, %r2, %r1;
  @%p1 bra $L_done;
  ld.global.nc.f32 %f1, [%rd5+0];
  mov.b32 %r3, %f1;
  mov.b32 {%h1, %h2}, %r3;
  fma.rn.ftz.f32 %f2, %f1, 0f3F800000, 0d3FF0000000000000;
  ex2.approx.ftz.f32 %f3, %f2;
  cvt.rn.bf16x2.f32 %r4, %f3, %f1;
  mov.u32 %r5, dyn;
  shl.b32 %r6, %r2, 4;
  add.s32 %r7, %r5, %r6;
  cp.async.cg.shared.global [%r7], [%rd1], 16;
  cp.async.commit_group;
  cp.async.wait_group 0;
  bar.sync 0;
  ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%r8, %r9}, [%r7];
  mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32
    {%f4, %f5, %f6, %f7}, {%r8, %r9}, {%r8}, {%f1, %f1, %f1, %f1};
  shfl.sync.bfly.b32 %r10|%p2, %r4, 1, 31, -1;
  vote.sync.ballot.b32 %r11, %p2, 0xffffffff;
  st.local.u32 [frame], %r11;
  ld.local.u32 %r12, [frame];
  mov.u64 %rd6, table;
  ld.global.u32 %r13, [%rd6+4];
  atom.shared.add.u32 %r14, [part], %r13;
  and.b32 %r15, %r2, 1;
  setp.eq.and.s32 %p3|%p4, %r15, 0, %p1;
  @!%p3 bra $L_odd;
  { .reg .b32 t; selp.b32 t, %r1, %r2, %p4; mov.u32 %r16, t; }
$L_odd:
  ts: .branchtargets $L_a, $L_done;
  brx.idx %r15, ts;
$L_a:
  cvta.to.global.u64 %rd7, %rd2;
  add.s64 %rd8, %rd7, %rd4;
  st.global.f32 [%rd8], %f4;
$L_done:
  ret;
}
)";

bool sensible(const std::string &message) {
  return !message.empty() && message.back() != '.' && message.size() < 100000;
}

bool target(const Bytes &data) {
  auto module = Module::parse(data, "in.ptx");
  if (!module)
    return sensible(module.message()) &&
           module.message().rfind("in.ptx:", 0) == 0;
  for (const KernelInfo &kernel : module->kernels()) {
    Memory memory;
    Params params;
    for (const ParamInfo &param : kernel.params) {
      std::vector<uint8_t> value(param.bytes);
      if (param.bytes == 8) {
        auto address = memory.allocate(4096, 256, param.name);
        if (!address)
          return false;
        (void)memory.fill(*address, 1, 2048).ok();
        std::memcpy(value.data(), &*address, 8);
      } else if (!value.empty()) {
        value[0] = 48;
      }
      params.addBytes(std::move(value));
    }
    LaunchOptions options;
    options.stepLimit = 2000;
    options.threads = 1;
    auto result = launch(*module, kernel.name, {2, 1, 1}, {64, 1, 1}, 2048,
                         params, memory, options);
    if (!result) {
      if (!sensible(result.message()))
        return false;
      continue;
    }
    for (const Finding &finding : result->findings)
      if (!sensible(finding.text))
        return false;
  }
  return true;
}

} // namespace

int main(int argc, char **argv) {
  std::vector<Bytes> seeds = {kSeed};
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
  std::vector<Bytes> tokens = {"%r1",
                               "%rd1",
                               "%f1",
                               "%p1",
                               "%h1",
                               "%rd5",
                               "%tid.x",
                               "%laneid",
                               "%clock64",
                               ".u64",
                               ".s32",
                               ".f16x2",
                               ".bf16",
                               ".f64",
                               ".b8",
                               ".pred",
                               ".v4",
                               ".v2",
                               ".shared",
                               ".global",
                               ".local",
                               ".param",
                               ".const",
                               ".trans",
                               ".x4",
                               ".sync",
                               ".aligned",
                               ".rn",
                               ".rz",
                               ".ftz",
                               ".sat",
                               ".wide",
                               ".lo",
                               ".hi",
                               ".and",
                               ".cc",
                               "{",
                               "}",
                               "[",
                               "]",
                               "_",
                               "|",
                               ";",
                               ",",
                               "@%p1",
                               "@!%p2",
                               "-1",
                               "0xffffffff",
                               "4294967295",
                               "18446744073709551615",
                               "0f7F800000",
                               "1.5",
                               "bra $L_a;",
                               "ret;",
                               "bar.sync 1, 64;",
                               "bar.arrive 2, 64;",
                               "bar.red.popc.u32 "
                               "%r1, 0, %p1;",
                               "exit;",
                               "trap;",
                               "cp.async.wait_all;",
                               "stmatrix",
                               "movmatrix.sync.aligned.m8n8.trans.b16",
                               "redux.sync.add.s32",
                               "prmt.b32",
                               "lop3.b32",
                               "bfe.s32",
                               "div.s32",
                               "rem.u64",
                               "cvt.rni.s64.f32",
                               "cvt.rz.f16.f64",
                               "atom.global.cas.b32",
                               "red.add.f32",
                               "match.any.sync"
                               ".b32",
                               "dyn",
                               "part",
                               "table",
                               "frame",
                               ".align 8",
                               ".entry",
                               ".func",
                               ".reg",
                               "<5>",
                               "$L_done:",
                               "//",
                               "/*",
                               "*/",
                               "\""};
  return delta::fuzz::fuzzMain(argc, argv, seeds, tokens, target);
}
