"""Best state path for up to 8 states: Triton kernels in which one lane is one chunk of time.

Legend: d best score of a path ending in a state, M best score from the state before a chunk
to its last state (both relative, with the offset kept apart), ptr packed pointers: BITS bits
for each state. Layouts: S sequences, T bins, n chunks a sequence, K states, all contiguous.
"""

# ruff: noqa: RUF005 - unrolled loops grow tuples by adding to them

from __future__ import annotations

import triton
import triton.language as tl

from neuropipe_kernels.lanes import (
    chunk_bounds,
    load_row,
    load_table,
    max_mat,
    max_vec,
    row_max,
    store_row,
)


@triton.jit
def _shift(b_x, K: tl.constexpr):
    """Subtract the largest of K blocks, returned too; 0 stands in for a largest of -inf."""
    b_top = row_max(b_x, K)
    b_top = tl.where(b_top == float("-inf"), 0.0, b_top)
    b_row = ()
    for i in tl.static_range(K):
        b_row = b_row + (b_x[i] - b_top,)
    return b_row, b_top


@triton.jit
def _load_log(p_table, N: tl.constexpr):
    """Load N probabilities as a tuple of logarithms; p_table: scalar pointer."""
    b_table = load_table(p_table, N)
    b_log = ()
    for i in tl.static_range(N):
        b_log = b_log + (tl.log(b_table[i]),)
    return b_log


@triton.jit(do_not_specialize=["T", "n", "stride_P"])
def transfer_kernel(
    p_ll, p_P, p_lengths, p_M, p_scale, T, n, stride_P,
    RAGGED: tl.constexpr, K: tl.constexpr, L: tl.constexpr,
):  # fmt: skip
    """Max-plus transfer matrix of each chunk.

    p_ll: (S, T, K) log likelihoods; p_P: (K, K), or (S, K, K) with stride_P = K * K;
    p_lengths: (S,) int64, not read unless RAGGED; p_M: (S, n, K, K) written;
    p_scale: (S, n) float64 written, the offset taken out of M.
    """
    i_s = tl.program_id(1).to(tl.int64)
    i_chunk = tl.program_id(0) * L + tl.arange(0, L)
    m_lane = i_chunk < n
    n_bins = tl.load(p_lengths + i_s) if RAGGED else T.to(tl.int64)
    o_start, o_size = chunk_bounds(tl.minimum(i_chunk, n - 1), n, n_bins)
    n_steps = (n_bins - 1 + n - 1) // n
    p_row = p_ll + (i_s * T + o_start + (o_size > 0).to(tl.int64)) * K
    b_P = _load_log(p_P + i_s * stride_P, K * K)
    b_zero = tl.zeros((L,), p_ll.dtype.element_ty)
    b_M = ()
    for i in tl.static_range(K * K):
        b_M = b_M + (b_zero + (0.0 if i % (K + 1) == 0 else float("-inf")),)
    b_log = tl.zeros((L,), tl.float64)
    b_next = load_row(p_row, K)
    t = n_steps * 0
    while t < n_steps:
        b_ll, b_top = _shift(b_next, K)
        m_now = t < o_size
        p_row += K * (t + 1 < o_size).to(tl.int32)
        b_next = load_row(p_row, K)
        b_step, b_shift = _shift(max_mat(b_M, b_P, K), K * K)
        b_new = ()
        for i in tl.static_range(K * K):
            b_new = b_new + (tl.where(m_now, b_step[i] + b_ll[i % K], b_M[i]),)
        b_M = b_new
        b_log += tl.where(m_now, b_top.to(tl.float64) + b_shift, 0.0)
        t += 1
    o_chunk = i_s * n + i_chunk
    store_row(p_M + o_chunk * (K * K), b_M, m_lane, K * K)
    tl.store(p_scale + o_chunk, b_log, mask=m_lane)


@triton.jit(do_not_specialize=["n_out", "G"])
def product_kernel(p_M, p_scale, p_M_out, p_scale_out, n_out, G, K: tl.constexpr, L: tl.constexpr):
    """Max-plus product of each run of G transfer matrices.

    p_M: (n_out * G, K, K); p_scale: (n_out * G,) float64; p_M_out: (n_out, K, K) written;
    p_scale_out: (n_out,) float64 written. Sequences are joined: G divides the chunks of one.
    """
    i_out = (tl.program_id(0) * L + tl.arange(0, L)).to(tl.int64)
    m_lane = i_out < n_out
    o_in = tl.minimum(i_out, n_out - 1) * G
    p_in = p_M + o_in * (K * K)
    b_M = load_row(p_in, K * K)
    b_log = tl.load(p_scale + o_in)
    p_in += K * K * (G > 1)
    b_next = load_row(p_in, K * K)
    g = 1
    while g < G:
        b_now = b_next
        p_in += K * K * (g + 1 < G)
        b_next = load_row(p_in, K * K)
        b_M, b_shift = _shift(max_mat(b_M, b_now, K), K * K)
        b_log += tl.load(p_scale + o_in + g) + b_shift
        g += 1
    store_row(p_M_out + i_out * (K * K), b_M, m_lane, K * K)
    tl.store(p_scale_out + i_out, b_log, mask=m_lane)


@triton.jit(do_not_specialize=["T", "n_in", "G", "stride_pi"])
def spread_kernel(
    p_M, p_scale, p_d, p_d_out, p_ll, p_pi, p_score, p_last, T, n_in, G, stride_pi,
    TOP: tl.constexpr, K: tl.constexpr, L: tl.constexpr,
):  # fmt: skip
    """Carry scores forward through runs of G chunks.

    p_M: (n_in * G, K, K); p_d: (n_in, K) entering each run, not read when TOP; p_d_out:
    (n_in * G, K) written, entering each chunk. When TOP a run is a sequence: p_ll: (S, T, K);
    p_pi: (K,) or (S, K) with stride_pi = K; p_scale: (n_in * G,) float64; p_score: (S,)
    float64 written; p_last: (S,) int32 written, the last bin's state.
    """
    i_in = (tl.program_id(0) * L + tl.arange(0, L)).to(tl.int64)
    m_lane = i_in < n_in
    i_in = tl.minimum(i_in, n_in - 1)
    b_log = tl.zeros((L,), tl.float64)
    if TOP:
        b_ll = load_row(p_ll + i_in * T * K, K)
        b_pi = load_row(p_pi + i_in * stride_pi, K)
        b_d = ()
        for i in tl.static_range(K):
            b_d = b_d + (b_ll[i] + tl.log(b_pi[i]),)
    else:
        b_d = load_row(p_d + i_in * K, K)
    o_chunk = i_in * G
    b_M = load_row(p_M + o_chunk * (K * K), K * K)
    g = 0
    while g < G:
        b_d, b_shift = _shift(b_d, K)
        store_row(p_d_out + o_chunk * K, b_d, m_lane, K)
        if TOP:
            b_log += tl.load(p_scale + o_chunk) + b_shift
        o_chunk += (g + 1 < G).to(tl.int64)
        b_now = b_M
        b_M = load_row(p_M + o_chunk * (K * K), K * K)
        b_d = max_vec(b_d, b_now, K)
        g += 1
    if TOP:
        b_best = b_d[0]
        b_last = tl.zeros((L,), tl.int32)
        for i in tl.static_range(1, K):
            b_last = tl.where(b_d[i] > b_best, i, b_last)
            b_best = tl.maximum(b_best, b_d[i])
        tl.store(p_score + i_in, b_log + b_best, mask=m_lane)
        tl.store(p_last + i_in, b_last, mask=m_lane)


@triton.jit(do_not_specialize=["T", "n", "n_rows", "stride_P"])
def point_kernel(
    p_ll, p_P, p_lengths, p_d, p_ptr, p_map, T, n, n_rows, stride_P,
    RAGGED: tl.constexpr, K: tl.constexpr, BITS: tl.constexpr, L: tl.constexpr,
):  # fmt: skip
    """For each bin and state the best state one bin before, packed; and each chunk's map.

    p_ll: (S, T, K); p_P: (K, K), or (S, K, K) with stride_P = K * K; p_lengths: (S,) int64,
    not read unless RAGGED; p_d: (S, n, K) scores entering each chunk; p_ptr: (S, n_rows, n)
    uint8 or int32 written, row = bin of the chunk, so that lanes store side by side;
    p_map: (S, n) int32 written, for each last state the state before the chunk, packed.
    """
    i_s = tl.program_id(1).to(tl.int64)
    i_chunk = tl.program_id(0) * L + tl.arange(0, L)
    m_lane = i_chunk < n
    i_chunk = tl.minimum(i_chunk, n - 1)
    n_bins = tl.load(p_lengths + i_s) if RAGGED else T.to(tl.int64)
    o_start, o_size = chunk_bounds(i_chunk, n, n_bins)
    n_steps = (n_bins - 1 + n - 1) // n
    p_row = p_ll + (i_s * T + o_start + (o_size > 0).to(tl.int64)) * K
    p_out = p_ptr + i_s * n_rows * n + i_chunk
    b_P = _load_log(p_P + i_s * stride_P, K * K)
    b_d = load_row(p_d + (i_s * n + i_chunk) * K, K)
    b_map = tl.zeros((L,), tl.int32)
    for i in tl.static_range(K):
        b_map |= i << (BITS * i)
    b_next = load_row(p_row, K)
    t = n_steps * 0
    while t < n_steps:
        b_ll, _ = _shift(b_next, K)
        m_now = t < o_size
        p_row += K * (t + 1 < o_size).to(tl.int32)
        b_next = load_row(p_row, K)
        b_new = ()
        b_ptr = tl.zeros((L,), tl.int32)
        b_map_new = tl.zeros((L,), tl.int32)
        for j in tl.static_range(K):
            b_best = b_d[0] + b_P[j]
            b_from = tl.zeros((L,), tl.int32)
            for i in tl.static_range(1, K):
                b_path = b_d[i] + b_P[i * K + j]
                b_from = tl.where(b_path > b_best, BITS * i, b_from)
                b_best = tl.maximum(b_best, b_path)
            b_ptr |= (b_from // BITS) << (BITS * j)
            b_map_new |= ((b_map >> b_from) & ((1 << BITS) - 1)) << (BITS * j)
            b_new = b_new + (b_best + b_ll[j],)
        b_new, _ = _shift(b_new, K)
        b_held = ()
        for j in tl.static_range(K):
            b_held = b_held + (tl.where(m_now, b_new[j], b_d[j]),)
        b_d = b_held
        b_map = tl.where(m_now, b_map_new, b_map)
        tl.store(p_out, b_ptr.to(p_ptr.dtype.element_ty), mask=m_lane & m_now)
        p_out += n
        t += 1
    tl.store(p_map + i_s * n + i_chunk, b_map, mask=m_lane)


@triton.jit(do_not_specialize=["n_out", "G"])
def compose_kernel(
    p_map, p_map_out, n_out, G, K: tl.constexpr, BITS: tl.constexpr, L: tl.constexpr
):
    """Join the maps of each run of G chunks.

    p_map: (n_out * G,) int32, for each last state the state before, packed; p_map_out:
    (n_out,) int32 written. Sequences are joined: G divides the chunks of one.
    """
    i_out = (tl.program_id(0) * L + tl.arange(0, L)).to(tl.int64)
    m_lane = i_out < n_out
    p_in = p_map + tl.minimum(i_out, n_out - 1) * G
    b_map = tl.zeros((L,), tl.int32)
    for j in tl.static_range(K):
        b_map |= j << (BITS * j)
    g = G
    b_next = tl.load(p_in + G - 1)
    while g > 0:
        b_now = b_next
        g -= 1
        b_next = tl.load(p_in + tl.maximum(g - 1, 0))
        b_new = tl.zeros((L,), tl.int32)
        for j in tl.static_range(K):
            b_via = (b_map >> (BITS * j)) & ((1 << BITS) - 1)
            b_new |= ((b_now >> (BITS * b_via)) & ((1 << BITS) - 1)) << (BITS * j)
        b_map = b_new
    tl.store(p_map_out + i_out, b_map, mask=m_lane)


@triton.jit(do_not_specialize=["n_in", "G"])
def link_kernel(p_map, p_end, p_end_out, p_first, n_in, G, BITS: tl.constexpr, L: tl.constexpr):
    """Last state of each chunk, from the last state of each run of G chunks.

    p_map: (n_in * G,) int32 packed; p_end: (n_in,) int32; p_end_out: (n_in * G,) int32
    written; p_first: (n_in,) int32 written, the state before each run.
    """
    i_in = (tl.program_id(0) * L + tl.arange(0, L)).to(tl.int64)
    m_lane = i_in < n_in
    i_in = tl.minimum(i_in, n_in - 1)
    b_state = tl.load(p_end + i_in)
    g = G
    b_next = tl.load(p_map + i_in * G + G - 1)
    while g > 0:
        b_now = b_next
        g -= 1
        b_next = tl.load(p_map + i_in * G + tl.maximum(g - 1, 0))
        tl.store(p_end_out + i_in * G + g, b_state, mask=m_lane)
        b_state = (b_now >> (BITS * b_state)) & ((1 << BITS) - 1)
    tl.store(p_first + i_in, b_state, mask=m_lane)


@triton.jit(do_not_specialize=["T", "n", "n_rows"])
def walk_kernel(
    p_ptr, p_lengths, p_end, p_state, T, n, n_rows,
    RAGGED: tl.constexpr, BITS: tl.constexpr, L: tl.constexpr,
):  # fmt: skip
    """Write the path of each chunk from its last bin back.

    p_ptr: (S, n_rows, n) packed pointers; p_lengths: (S,) int64, not read unless RAGGED;
    p_end: (S, n) int32; p_state: (S, T) int64 written up to each length.
    """
    i_s = tl.program_id(1).to(tl.int64)
    i_chunk = tl.program_id(0) * L + tl.arange(0, L)
    m_lane = i_chunk < n
    n_bins = tl.load(p_lengths + i_s) if RAGGED else T.to(tl.int64)
    o_start, o_size = chunk_bounds(tl.minimum(i_chunk, n - 1), n, n_bins)
    n_steps = (n_bins - 1 + n - 1) // n
    b_state = tl.load(p_end + i_s * n + i_chunk, mask=m_lane, other=0)
    p_out = p_state + i_s * T + o_start
    p_in = p_ptr + i_s * n_rows * n + i_chunk
    t = n_steps
    b_next = tl.load(p_in + (t - 1) * n, mask=m_lane & (t <= o_size) & (t > 0), other=0)
    while t > 0:
        m_now = m_lane & (t <= o_size)
        b_ptr = b_next.to(tl.int32)
        b_next = tl.load(p_in + (t - 2) * n, mask=m_lane & (t - 1 <= o_size) & (t > 1), other=0)
        tl.store(p_out + t, b_state.to(tl.int64), mask=m_now)
        b_state = tl.where(m_now, (b_ptr >> (BITS * b_state)) & ((1 << BITS) - 1), b_state)
        t -= 1
    tl.store(p_out, b_state.to(tl.int64), mask=m_lane & (i_chunk == 0))
