# Part of the delta project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Warp instructions, memory, control flow and counters in the simulator."""

import json

import numpy as np
import pytest

from ptxkernels import HEAD, Ptx

LANES = range(32)


@pytest.fixture(scope="module")
def ptx(tool, tmp_path_factory):
    return Ptx(tool, tmp_path_factory.mktemp("ptx"))


# --- Exchange between lanes ----------------------------------------------------


def shuffle(mode, a, b, c):
    """The ISA's pseudo-code for all lanes."""
    out, ok = [], []
    for lane in LANES:
        segmask, bval, cval = c >> 8 & 31, b[lane] & 31, c & 31
        maxlane = (lane & segmask) | (cval & ~segmask)
        minlane = lane & segmask
        j = {"up": lane - bval, "down": lane + bval, "bfly": lane ^ bval,
             "idx": minlane | (bval & ~segmask)}[mode]
        p = j >= maxlane if mode == "up" else j <= maxlane
        out.append(a[j if p else lane])
        ok.append(int(p))
    return out, ok


@pytest.mark.parametrize("mode", ["up", "down", "bfly", "idx"])
@pytest.mark.parametrize("width", [32, 16, 8])
def test_shuffles(ptx, mode, width):
    rng = np.random.default_rng(width)
    a = rng.integers(0, 1 << 32, 32)
    for b in ([1] * 32, [5] * 32, rng.integers(0, 32, 32)):
        c = (32 - width) << 8 | (0 if mode == "up" else 31)
        d, p = ptx.lanes(
            f"shfl.sync.{mode}.b32 %d0|%d1, %a0, %a1, {c}, 0xffffffff;",
            [("b32", a), ("b32", b)], ["b32", "pred"])
        want, ok = shuffle(mode, a.tolist(), list(b), c)
        assert d.tolist() == want and p.tolist() == ok


def test_votes(ptx):
    p = [lane % 3 == 0 for lane in LANES]
    same = [1] * 32
    ballot, every, some, uni, uniform, low = ptx.lanes(
        "vote.sync.ballot.b32 %d0, %a0, -1; vote.sync.all.pred %d1, %a0, -1;"
        "vote.sync.any.pred %d2, %a0, -1; vote.sync.uni.pred %d3, %a0, -1;"
        "vote.sync.uni.pred %d4, %a1, -1; setp.lt.u32 %q, %tid, 16;"
        "mov.u32 %d5, 0; @%q vote.sync.ballot.b32 %d5, !%a0, 0xffff;",
        [("pred", p), ("pred", same)],
        ["b32", "pred", "pred", "pred", "pred", "b32"], regs=".reg .pred %q;")
    mask = sum(x << i for i, x in enumerate(p))
    assert set(ballot.tolist()) == {mask}
    assert (every[0], some[0], uni[0], uniform[0]) == (0, 1, 0, 1)
    assert low.tolist() == [~mask & 0xffff] * 16 + [0] * 16


def test_match_redux_elect(ptx):
    a = [lane % 5 - 2 for lane in LANES]
    out = ptx.lanes(
        "match.any.sync.b32 %d0, %a0, -1; match.all.sync.b32 %d1|%d2, %a0, -1;"
        "redux.sync.add.s32 %d3, %a0, -1; redux.sync.min.s32 %d4, %a0, -1;"
        "redux.sync.max.u32 %d5, %a0, -1; redux.sync.xor.b32 %d6, %a0, -1;"
        "elect.sync %d7|%d8, -1; activemask.b32 %d9;",
        [("s32", a)], ["b32", "b32", "pred", "s32", "s32", "u32", "b32", "u32",
                       "pred", "b32"])
    xor = 0
    for x in a:
        xor ^= x & 0xffffffff
    for lane in LANES:
        assert out[0][lane] == sum(1 << i for i in LANES if a[i] == a[lane])
        assert [int(o[lane]) for o in out[1:]] == [
            0, 0, sum(a), min(a), max(x & 0xffffffff for x in a), xor, 0,
            int(lane == 0), 0xffffffff]


# --- Control flow --------------------------------------------------------------


def test_divergent_loop(ptx):
    """Every lane loops as often as its number says, around an inner branch."""
    [d] = ptx.lanes("""
      mov.u32 %d0, 0; mov.u32 %i, 0;
      LOOP: setp.ge.u32 %p, %i, %tid; @%p bra END;
      and.b32 %odd, %i, 1; setp.eq.u32 %p, %odd, 1; @%p bra ODD;
      add.u32 %d0, %d0, %i; bra NEXT;
      ODD: add.u32 %d0, %d0, 100;
      NEXT: add.u32 %i, %i, 1; bra LOOP;
      END: vote.sync.ballot.b32 %odd, 1, -1; add.u32 %d0, %d0, %odd;
    """, [], ["u32"], regs=".reg .b32 %i, %odd; .reg .pred %p;")
    want = [sum(100 if i % 2 else i for i in range(lane)) for lane in LANES]
    assert d.tolist() == [(w + 0xffffffff) & 0xffffffff for w in want]


def test_branch_table_and_early_exit(ptx):
    [d] = ptx.lanes("""
      mov.u32 %d0, 7; and.b32 %i, %tid, 3;
      table: .branchtargets A, B, C, A;
      brx.idx %i, table;
      A: add.u32 %d0, %d0, 1; bra JOIN;
      B: add.u32 %d0, %d0, 10; bra JOIN;
      C: add.u32 %d0, %d0, 100;
      JOIN: vote.sync.ballot.b32 %i, 1, -1; popc.b32 %i, %i;
      add.u32 %d0, %d0, %i;
    """, [], ["u32"], regs=".reg .b32 %i;")
    assert d.tolist() == [39 + [1, 10, 100, 1][lane & 3] for lane in LANES]
    # Odd lanes leave; the others go on together.
    text = f"""{HEAD}
    .visible .entry kernel(.param .u64 out) {{
      .reg .b64 %o, %a; .reg .b32 %t, %m; .reg .pred %p;
      mov.u32 %t, %tid.x; and.b32 %m, %t, 1; setp.eq.u32 %p, %m, 1;
      ld.param.u64 %o, [out]; mad.wide.u32 %a, %t, 4, %o;
      st.global.u32 [%a], 0;
      @%p exit;
      activemask.b32 %m; st.global.u32 [%a], %m;
      ret; }}"""
    [d], _ = ptx.run(text, [((32,), "u32")])
    assert d.tolist() == [0x55555555, 0] * 16


def test_scoped_names(ptx):
    """Registers and labels of an inner block hide the outer ones."""
    [d] = ptx.lanes("""
      mov.u32 %d0, %tid; mov.u32 %x, 5;
      { .reg .b32 %x; mov.u32 %x, 7; bra DONE; mov.u32 %x, 9;
        DONE: add.u32 %d0, %d0, %x; }
      { bra DONE; add.u32 %d0, %d0, 1000; DONE: }
      add.u32 %d0, %d0, %x;
    """, [], ["u32"], regs=".reg .b32 %x;")
    assert d.tolist() == [lane + 12 for lane in LANES]


# --- Barriers and atomics ------------------------------------------------------


def test_barrier_reductions(ptx):
    p = [i % 5 == 0 for i in range(96)]
    popc, every, some = ptx.lanes(
        "bar.red.popc.u32 %d0, 0, %a0; bar.red.and.pred %d1, 0, !%a0;"
        "bar.red.or.pred %d2, 0, %a0;", [("pred", p)],
        ["u32", "pred", "pred"], block=96)
    assert set(popc.tolist()) == {sum(p)}
    assert set(every.tolist()) == {0} and set(some.tolist()) == {1}


def test_producer_and_consumer_barriers(ptx):
    """Warp 0 arrives, warp 1 waits: no finding, and the value is there."""
    [d] = ptx.lanes("""
      mov.u32 %s, cell; setp.lt.u32 %p, %tid, 32; mov.u32 %d0, 0;
      and.b32 %l, %tid, 31; mad.lo.u32 %s, %l, 4, %s;
      @!%p bra CONSUME;
      st.shared.u32 [%s], %tid; bar.arrive 3, 64; bra END;
      CONSUME: bar.sync 3, 64; ld.shared.u32 %d0, [%s];
      END:
    """, [], ["u32"], setup=".shared .b32 cell[32];",
        regs=".reg .b32 %s, %l; .reg .pred %p;", block=64)
    assert d.tolist() == [0] * 32 + list(LANES)


def test_atomics(ptx):
    """Lanes go in order."""
    out = ptx.lanes("""
      mov.u32 %s, cell; st.shared.u32 [%s], 10; st.shared.f32 [%s+4], 0f3F800000;
      st.shared.u64 [%s+8], 0; bar.sync 0;
      atom.shared.add.u32 %d0, [%s], %tid;
      atom.shared.add.f32 %f, [%s+4], 0f40000000; mov.b32 %d1, %f;
      atom.shared.exch.b64 %d2, [%s+8], %w;
      bar.sync 0;
      atom.shared.max.s32 %d3, [%s], 1000; atom.shared.cas.b32 %d4, [%s], 1000, %tid;
      red.shared.min.u32 [%s], 3; bar.sync 0; ld.shared.u32 %d5, [%s];
      atom.shared.inc.u32 %d6, [%s], 5;
    """, [], ["u32", "b32", "b64", "s32", "u32", "u32", "u32"],
        setup=".shared .align 8 .b8 cell[16];",
        regs=".reg .b32 %s; .reg .f32 %f; .reg .b64 %w; cvt.u64.u32 %w, %tid.x;")
    total = 10 + sum(LANES)
    assert out[0].tolist() == [10 + sum(range(i)) for i in LANES]
    assert out[1].view(np.float32).tolist() == [1 + 2 * i for i in LANES]
    assert out[2].tolist() == [0] + list(range(31))
    assert out[3].tolist() == [total] + [1000] * 31
    assert out[4].tolist() == [1000] + [0] * 31
    assert set(out[5].tolist()) == {0}
    assert out[6].tolist() == [i % 6 for i in LANES]


def test_global_reduction_over_ctas(ptx):
    """Every CTA adds to one number, in an order that never changes."""
    text = f"""{HEAD}
    .visible .entry kernel(.param .u64 sum, .param .f32 x) {{
      .reg .b64 %o; .reg .f32 %x; .reg .b32 %c;
      ld.param.u64 %o, [sum]; ld.param.f32 %x, [x];
      mov.u32 %c, %ctaid.x; cvt.rn.f32.u32 %x, %c; mul.f32 %x, %x, 0f3DCCCCCD;
      red.global.add.f32 [%o], %x; ret; }}"""
    results = []
    for threads in (1, 2):
        start = np.zeros(1, np.float32)
        path = ptx.folder / f"sum{threads}.npy"
        ptx.run(text, [start, "scalar:f32:0"], grid="50",
                more=[f"--save=0:{path}", f"--threads={threads}"])
        results.append(np.load(path)[0])
    want = np.float32(0)
    for c in range(50):
        for _ in LANES:
            want += np.float32(c) * np.float32(0.1)
    assert results == [want, want]


# --- Memory --------------------------------------------------------------------


def test_vectors_and_extension(ptx):
    x = np.arange(64, dtype=np.uint16) * 1021 + 60000
    text = f"""{HEAD}
    .visible .entry kernel(.param .u64 x, .param .u64 y) {{
      .reg .b64 %x, %y, %w; .reg .b32 %a, %b, %t; .reg .b16 %h<4>;
      ld.param.u64 %x, [x]; ld.param.u64 %y, [y]; mov.u32 %t, %tid.x;
      mad.wide.u32 %x, %t, 8, %x; mad.wide.u32 %y, %t, 32, %y;
      ld.global.v4.u16 {{%h0, _, %h2, %h3}}, [%x];
      st.global.v2.u16 [%y], {{%h0, %h2}};
      ld.global.s16 %a, [%x+2]; ld.global.u8 %b, [%x];
      st.global.v2.b32 [%y+8], {{%a, %b}};
      ld.global.s8 %w, [%x+1]; st.global.b64 [%y+16], %w;
      st.global.u8 [%y+24], %a; st.global.b16 [%y+26], %h3; ret; }}"""
    [y], _ = ptx.run(text, [x, ((16, 32), "u8")], block="16")
    for t in range(16):
        h, row = x[4 * t:4 * t + 4], y[t]
        assert row[0:4].view(np.uint16).tolist() == [h[0], h[2]]
        a = h.view(np.int16)[1]
        assert row[8:12].view(np.int32)[0] == a
        assert row[12:16].view(np.uint32)[0] == h[0] & 255
        assert row[16:24].view(np.int64)[0] == h.view(np.int8)[1]
        assert row[24] == int(a) & 255 and row[26:28].view(np.uint16)[0] == h[3]


def test_spaces_and_generic_addresses(ptx):
    """Local, shared, constant and global variables by generic addresses."""
    setup = (".const .align 4 .u32 table[4] = {1, 20, 0x300, 4000};\n"
             ".global .align 8 .u64 where[2] = {generic(cell), 5};\n"
             ".global .align 4 .u32 cell = 77;\n.shared .b32 smem[64];")
    out = ptx.lanes("""
      .local .align 4 .b8 frame[16];
      mov.u64 %l, frame; cvta.local.u64 %l, %l;
      add.u32 %v, %tid, 500; st.u32 [%l+8], %v; ld.local.u32 %d0, [frame+8];
      mov.u64 %s, smem; cvta.shared.u64 %s, %s; mul.wide.u32 %o, %tid, 4;
      add.u64 %s, %s, %o; st.u32 [%s], %tid; ld.u32 %d1, [%s];
      isspacep.shared %d2, %s; isspacep.local %d3, %s; isspacep.global %d4, %s;
      cvta.to.shared.u64 %o, %s; sub.u64 %o, %s, %o;
      and.b32 %v, %tid, 3; mul.wide.u32 %o, %v, 4; mov.u64 %g, table;
      add.u64 %g, %g, %o; ld.const.u32 %d5, [%g];
      ld.global.u64 %g, [where]; ld.u32 %d6, [%g]; ld.global.u64 %d7, [where+8];
      ld.const.u32 %d8, [table+8];
    """, [], ["u32", "u32", "pred", "pred", "pred", "u32", "u32", "u64", "u32"],
        setup=setup, regs=".reg .b64 %l, %s, %o, %g; .reg .b32 %v;")
    for t in LANES:
        assert [int(o[t]) for o in out] == [
            500 + t, t, 1, 0, 0, [1, 20, 0x300, 4000][t & 3], 77, 5, 0x300]


def test_special_registers(ptx):
    text = f"""{HEAD}
    .visible .entry kernel(.param .u64 out) {{
      .reg .b64 %o; .reg .b32 %r<20>;
      ld.param.u64 %o, [out];
      mov.u32 %r0, %tid.x; mov.u32 %r1, %tid.y; mov.u32 %r2, %tid.z;
      mov.u32 %r3, %ntid.x; mov.u32 %r4, %ntid.y; mov.u32 %r5, %ctaid.x;
      mov.u32 %r6, %ctaid.y; mov.u32 %r7, %nctaid.x; mov.u32 %r8, %laneid;
      mov.u32 %r9, %warpid; mov.u32 %r10, %lanemask_lt; mov.u32 %r11, %lanemask_ge;
      mad.lo.u32 %r12, %r2, %r4, %r1; mad.lo.u32 %r12, %r12, %r3, %r0;
      mad.lo.u32 %r13, %r6, %r7, %r5; mad.lo.u32 %r12, %r13, 48, %r12;
      mad.wide.u32 %o, %r12, 48, %o;
      st.global.v4.u32 [%o], {{%r0, %r1, %r2, %r3}};
      st.global.v4.u32 [%o+16], {{%r4, %r5, %r6, %r7}};
      st.global.v4.u32 [%o+32], {{%r8, %r9, %r10, %r11}}; ret; }}"""
    [d], _ = ptx.run(text, [((6, 48, 12), "u32")], grid="3,2", block="4,6,2")
    for cta in range(6):
        for t in range(48):
            lane = t % 32
            assert d[cta, t].tolist() == [
                t % 4, t // 4 % 6, t // 24, 4, 6, cta % 3, cta // 3, 3, lane,
                t // 32, (1 << lane) - 1, 0xffffffff & -(1 << lane)]


def test_async_copies(ptx):
    """Whole, partial and empty sources; the rest is zeros."""
    text = f"""{HEAD}
    .extern .shared .align 16 .b8 smem[];
    .visible .entry kernel(.param .u64 x, .param .u64 y) {{
      .reg .b64 %x, %y; .reg .b32 %s, %t, %n, %r<4>; .reg .pred %p;
      ld.param.u64 %x, [x]; ld.param.u64 %y, [y]; mov.u32 %t, %tid.x;
      mov.u32 %s, smem; mad.lo.u32 %s, %t, 32, %s;
      mad.wide.u32 %x, %t, 16, %x; mad.wide.u32 %y, %t, 32, %y;
      min.u32 %n, %t, 16;
      cp.async.cg.shared.global [%s], [%x], 16, %n;
      setp.lt.u32 %p, %t, 8;
      cp.async.ca.shared.global.L2::128B [%s+16], [%x], 8;
      cp.async.commit_group;
      cp.async.ca.shared.global [%s+24], [%x+4], 4, %p;
      cp.async.ca.shared.global [%s+28], [%x+8], 4;
      cp.async.commit_group;
      cp.async.wait_group 1;
      ld.shared.v4.b32 {{%r0, %r1, %r2, %r3}}, [%s];
      st.global.v4.b32 [%y], {{%r0, %r1, %r2, %r3}};
      cp.async.wait_all;
      ld.shared.v4.b32 {{%r0, %r1, %r2, %r3}}, [%s+16];
      st.global.v4.b32 [%y+16], {{%r0, %r1, %r2, %r3}}; ret; }}"""
    x = np.random.default_rng(0).integers(1, 255, (32, 16)).astype(np.uint8)
    stats = ptx.folder / "copies.json"
    [y], _ = ptx.run(text, [x, ((32, 32), "u8")],
                     more=["--shared=1024", f"--stats={stats}"])
    for t in LANES:
        n = min(t, 16)
        assert y[t, :n].tolist() == x[t, :n].tolist() and not y[t, n:16].any()
        assert (y[t, 16:24] == x[t, :8]).all()
        # The predicate is ignore-src.
        assert (y[t, 24:28] == (0 if t < 8 else x[t, 4:8])).all()
        assert (y[t, 28:] == x[t, 8:12]).all()
    [counters] = json.loads(stats.read_text())
    assert counters["global_store_bytes"] == 1024
    # The source of a copy is what it reads, in the sectors it touches.
    sizes = [min(t, 16) for t in LANES]
    assert counters["global_load_bytes"] == sum(sizes) + 32 * 8 + 24 * 4 \
        + 32 * 4
    assert counters["global_load_sectors"] == 16 + 16 + 12 + 16


def test_ragged_last_warp(ptx):
    a = np.arange(45)
    [d] = ptx.lanes("add.u32 %d0, %a0, 1; bar.sync 0;", [("u32", a)], ["u32"],
                    block=45)
    assert d.tolist() == list(range(1, 46))


# --- Counters ------------------------------------------------------------------


def counters(ptx, code, ctas=1, block=32, shared=8192):
    text = f"""{HEAD}
    .shared .align 16 .b8 smem[{shared}];
    .visible .entry kernel(.param .u64 x, .param .u64 y) {{
      .reg .b64 %x, %y, %a, %b; .reg .b32 %s, %t, %r<8>; .reg .f32 %f<8>;
      .reg .pred %p;
      ld.param.u64 %x, [x]; ld.param.u64 %y, [y]; mov.u32 %t, %tid.x;
      mov.u32 %s, smem;
      {code}
      ret; }}"""
    path = ptx.folder / "stats.json"
    ptx.run(text, [np.zeros(1 << 14, np.uint8), ((1 << 14,), "u8")],
            grid=str(ctas), block=str(block),
            more=[f"--stats={path}", "--no-uninitialized"])
    [result] = json.loads(path.read_text())
    return result


def test_stats_keys(ptx):
    """The names are a contract."""
    c = counters(ptx, "bar.sync 0; bar.sync 0; ex2.approx.f32 %f0, 0f3F800000;",
                 ctas=3, block=64)
    assert list(c)[:13] == [
        "kernel", "ctas", "threads", "global_load_bytes", "global_store_bytes",
        "global_sectors", "shared_bytes_per_cta", "shared_bank_conflicts",
        "shared_wavefronts", "mma_flops", "instructions", "barriers", "ex2"]
    assert (c["kernel"], c["ctas"], c["threads"]) == ("kernel", 3, 64)
    assert c["shared_bytes_per_cta"] == 8192
    assert c["barriers"] == 3 * 2 * 2 and c["barrier_phases"] == 3 * 2
    assert c["ex2"] == 3 * 64
    assert c["instructions"] == sum(c["instructions_by_class"].values()) \
        == 3 * 2 * 8


@pytest.mark.parametrize("stride,bytes,sectors", [
    (4, 4, 4), (8, 4, 8), (32, 4, 32), (128, 4, 32), (16, 16, 16), (2, 2, 2),
    (0, 4, 1), (64, 8, 32)])
def test_sectors(ptx, stride, bytes, sectors):
    load = {2: "ld.global.u16 %r0", 4: "ld.global.u32 %r0",
            8: "ld.global.v2.u32 {%r0, %r1}",
            16: "ld.global.v4.u32 {%r0, %r1, %r2, %r3}"}[bytes]
    c = counters(ptx, f"mad.wide.u32 %a, %t, {stride}, %x; {load}, [%a];")
    assert c["global_load_bytes"] == 32 * bytes
    assert c["global_sectors"] == sectors


@pytest.mark.parametrize("stride,bytes,wavefronts", [
    (4, 4, 1), (8, 4, 2), (16, 4, 4), (128, 4, 32), (0, 4, 1), (132, 4, 1),
    (2, 2, 1), (8, 8, 2), (16, 8, 4), (16, 16, 4), (32, 16, 8), (128, 16, 32),
    (0, 16, 4)])
def test_bank_conflicts(ptx, stride, bytes, wavefronts):
    load = {2: "ld.shared.u16 %r0", 4: "ld.shared.u32 %r0",
            8: "ld.shared.v2.u32 {%r0, %r1}",
            16: "ld.shared.v4.u32 {%r0, %r1, %r2, %r3}"}[bytes]
    c = counters(ptx, f"mad.lo.u32 %s, %t, {stride}, %s; {load}, [%s];")
    assert c["shared_wavefronts"] == wavefronts
    least = -(-32 * bytes // 128)
    assert c["shared_bank_conflicts"] == max(0, wavefronts - least)


@pytest.mark.parametrize("stride,wavefronts", [(16, 4), (128, 32), (144, 4),
                                               (64, 16)])
def test_matrix_conflicts(ptx, stride, wavefronts):
    """Eight rows of 16 bytes make one matrix and, at best, one wavefront."""
    c = counters(ptx, f"mad.lo.u32 %s, %t, {stride}, %s;"
                 "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r0,%r1,%r2,%r3},"
                 " [%s];")
    assert c["shared_wavefronts"] == wavefronts
    assert c["shared_bank_conflicts"] == wavefronts - 4


def test_mma_flops(ptx):
    c = counters(ptx, "mov.b32 %r0, 0; mov.f32 %f0, 0f00000000;"
                 "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%f0,%f1,%f2,%f3},{%r0,%r0,%r0,%r0},{%r0,%r0},"
                 "{%f0,%f0,%f0,%f0};", ctas=2)
    assert c["mma_flops"] == 2 * 2 * 16 * 8 * 16
