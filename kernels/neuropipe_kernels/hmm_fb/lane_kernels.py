"""Forward-backward for up to 8 states: Triton kernels in which one lane is one chunk.

Legend: P transition, e likelihood of a bin over its largest state's, a filtered vector, b
backward vector, M transfer matrix of a chunk. Layouts: S sequences, T bins, n chunks a
sequence, K states, all contiguous.

A lane takes its chunk in blocks of B bins, loaded together and kept in registers: the latency of
loads is waited for once a block, and 4 or 8 states fill whole cache lines although each lane reads
bins of its own. What is left of the chunk, up to B bins, is a block with a mask.
"""

# ruff: noqa: RUF005 - unrolled loops grow tuples by adding to them

from __future__ import annotations

import triton
import triton.language as tl

from neuropipe_kernels.hmm_fb.lane_blocks import (
    advance,
    filtered,
    last_posterior,
    likelihood,
    likelihoods,
    load_block,
    smooth,
    store_block,
)
from neuropipe_kernels.lanes import (
    chunk_bounds,
    fill,
    load_row,
    load_table,
    mat_mat,
    mat_vec,
    power_of_two,
    row_sum,
    scale,
    select,
    store_row,
    vec_mat,
)

LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def _identity(b_like, K: tl.constexpr):
    """Identity matrix a lane; b_like: [L]."""
    b_M = ()
    for i in tl.static_range(K * K):
        b_M = b_M + fill(b_like, 1.0 if i % (K + 1) == 0 else 0.0, 1)
    return b_M


@triton.jit(do_not_specialize=["T", "n", "n_rows", "stride_P"])
def transfer_kernel(
    p_ll, p_turned, p_P, p_lengths, p_M, p_scale, T, n, n_rows, stride_P,
    RAGGED: tl.constexpr, TURNED: tl.constexpr, K: tl.constexpr, L: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    """Transfer matrix of each chunk.

    p_ll: (S, T, K) log likelihoods; p_turned: (S, n_rows, K, n), written when TURNED: the
    same with chunks side by side, row = bin of the chunk; p_P: (K, K), or (S, K, K) with
    stride_P = K * K; p_lengths: (S,) int64, not read unless RAGGED; p_M: (S, n, K, K)
    written; p_scale: (S, n) float64 written, the log factor taken out of M.
    """
    i_s = tl.program_id(1).to(tl.int64)
    i_chunk = tl.program_id(0) * L + tl.arange(0, L)
    m_lane = i_chunk < n
    # Spare lanes repeat the last chunk, so that only stores need a mask.
    n_bins = tl.load(p_lengths + i_s) if RAGGED else T.to(tl.int64)
    o_start, o_size = chunk_bounds(tl.minimum(i_chunk, n - 1), n, n_bins)
    n_blocks = (n_bins - 1) // n // B
    b_rest = (o_size - n_blocks * B).to(tl.int32)
    p_row = p_ll + (i_s * T + o_start + 1) * K
    p_copy = p_turned + i_s * n_rows * K * n + i_chunk
    b_P = load_table(p_P + i_s * stride_P, K * K)
    b_M = _identity(tl.zeros((L,), p_ll.dtype.element_ty), K)
    b_log = tl.zeros((L,), tl.float64)
    b_exponent = tl.zeros((L,), tl.int32)
    t = n_blocks * 0
    while t < n_blocks:
        b_ll = load_block(p_row, K, None, n, False, K, B)
        if TURNED:
            store_block(p_copy, K * n, b_ll, m_lane, None, n, K, B)
        b_M, b_log, b_exponent = advance(b_M, b_log, b_exponent, b_ll, b_P, None, K, B)
        p_row += B * K
        p_copy += B * K * n
        t += 1
    b_ll = load_block(p_row, K, b_rest, n, False, K, B)
    if TURNED:
        store_block(p_copy, K * n, b_ll, m_lane, b_rest, n, K, B)
    b_M, b_log, b_exponent = advance(b_M, b_log, b_exponent, b_ll, b_P, b_rest, K, B)
    o_chunk = i_s * n + i_chunk
    store_row(p_M + o_chunk * (K * K), b_M, m_lane, K * K)
    tl.store(p_scale + o_chunk, b_log + b_exponent.to(tl.float64) * LN2, mask=m_lane)


@triton.jit(do_not_specialize=["n_out", "G"])
def product_kernel(
    p_M, p_scale, p_M_out, p_scale_out, n_out, G,
    K: tl.constexpr, L: tl.constexpr, U: tl.constexpr,
):  # fmt: skip
    """Product of each run of G transfer matrices, U of them loaded ahead.

    p_M: (n_out * G, K, K); p_scale: (n_out * G,) float64; p_M_out: (n_out, K, K) written;
    p_scale_out: (n_out,) float64 written. Sequences are joined: G divides the chunks of one.
    """
    i_out = (tl.program_id(0) * L + tl.arange(0, L)).to(tl.int64)
    m_lane = i_out < n_out
    o_in = tl.minimum(i_out, n_out - 1) * G
    b_M = _identity(tl.zeros((L,), p_M.dtype.element_ty), K)
    b_log = tl.zeros((L,), tl.float64)
    b_exponent = tl.zeros((L,), tl.int32)
    b_ahead, b_scale = (), ()
    for u in tl.static_range(U):
        o_ahead = o_in + tl.minimum(u, G - 1)
        b_ahead = b_ahead + load_row(p_M + o_ahead * (K * K), K * K)
        b_scale = b_scale + (tl.load(p_scale + o_ahead),)
    g = 0
    while g < G:
        b_later, b_scale_later = (), ()
        for u in tl.static_range(U):
            b_k, b_factor = power_of_two(row_sum(b_M, K))
            b_M = scale(b_M, b_factor, K * K)
            b_exponent += b_k
            b_new = mat_mat(b_M, b_ahead[u * K * K : (u + 1) * K * K], K)
            o_ahead = o_in + tl.minimum(g + u + U, G - 1)
            b_later = b_later + load_row(p_M + o_ahead * (K * K), K * K)
            b_scale_later = b_scale_later + (tl.load(p_scale + o_ahead),)
            b_M = select(g + u < G, b_new, b_M, K * K)
            b_log += tl.where(g + u < G, b_scale[u], 0.0)
        b_ahead, b_scale = b_later, b_scale_later
        g += U
    store_row(p_M_out + i_out * (K * K), b_M, m_lane, K * K)
    tl.store(p_scale_out + i_out, b_log + b_exponent.to(tl.float64) * LN2, mask=m_lane)


@triton.jit(do_not_specialize=["T", "n_in", "G", "stride_pi"])
def spread_kernel(
    p_M, p_scale, p_a, p_b, p_a_out, p_b_out, p_ll, p_pi, p_evidence, p_b_first,
    T, n_in, G, stride_pi,
    TOP: tl.constexpr, K: tl.constexpr, L: tl.constexpr, U: tl.constexpr,
):  # fmt: skip
    """Carry vectors through runs of G chunks: forward in programs 0 of axis 1, backward in 1.

    p_M: (n_in * G, K, K); p_a, p_b: (n_in, K) vectors entering each run from the left and
    from the right, not read when TOP; p_a_out, p_b_out: (n_in * G, K) written, the same for
    each chunk. When TOP a run is a sequence: p_ll: (S, T, K); p_pi: (K,) or (S, K) with
    stride_pi = K; p_scale: (n_in * G,) float64; p_evidence: (S,) float64 written;
    p_b_first: (S, K) written, the backward vector at bin 0.
    """
    i_in = (tl.program_id(0) * L + tl.arange(0, L)).to(tl.int64)
    m_lane = i_in < n_in
    i_in = tl.minimum(i_in, n_in - 1)
    if tl.program_id(1) == 0:
        if TOP:
            b_first = ()
            b_ll = load_row(p_ll + i_in * T * K, K)
            b_pi = load_row(p_pi + i_in * stride_pi, K)
            for i in tl.static_range(K):
                b_first = b_first + (b_ll[i] + tl.log(b_pi[i]),)
            b_a, b_top = likelihood(b_first, K)
        else:
            b_a = load_row(p_a + i_in * K, K)
        b_a, b_log = _carry(b_a, p_M, p_scale, p_a_out, i_in * G, G, m_lane, True, TOP, K, U)
        if TOP:
            b_log += b_top.to(tl.float64) + tl.log(row_sum(b_a, K).to(tl.float64))
            tl.store(p_evidence + i_in, b_log, mask=m_lane)
    else:
        if TOP:
            b_b = fill(tl.zeros((L,), p_M.dtype.element_ty), 1.0, K)
        else:
            b_b = load_row(p_b + i_in * K, K)
        b_b, _ = _carry(b_b, p_M, p_scale, p_b_out, i_in * G, G, m_lane, False, False, K, U)
        if TOP:
            store_row(p_b_first + i_in * K, b_b, m_lane, K)


@triton.jit
def _carry(
    b_v, p_M, p_scale, p_out, o_first, G, m_lane,
    FORWARD: tl.constexpr, SUM: tl.constexpr, K: tl.constexpr, U: tl.constexpr,
):  # fmt: skip
    """Carry a vector through a run of G chunks, storing it before each; U matrices loaded ahead.

    Returns the vector that leaves the run and, when SUM, the log factor taken out of it.
    """
    b_log = tl.zeros_like(m_lane).to(tl.float64)
    b_exponent = tl.zeros_like(m_lane).to(tl.int32)
    b_ahead, b_scale = (), ()
    for u in tl.static_range(U):
        o_ahead = o_first + _place(u, G, FORWARD)
        b_ahead = b_ahead + load_row(p_M + o_ahead * (K * K), K * K)
        if SUM:
            b_scale = b_scale + (tl.load(p_scale + o_ahead),)
    g = 0
    while g < G:
        b_later, b_scale_later = (), ()
        for u in tl.static_range(U):
            b_k, b_factor = power_of_two(row_sum(b_v, K))
            b_v = scale(b_v, b_factor, K)
            b_exponent += b_k
            o_now = o_first + _place(g + u, G, FORWARD)
            store_row(p_out + o_now * K, b_v, m_lane & (g + u < G), K)
            b_M = b_ahead[u * K * K : (u + 1) * K * K]
            b_new = vec_mat(b_v, b_M, K) if FORWARD else mat_vec(b_M, b_v, K)
            b_v = select(g + u < G, b_new, b_v, K)
            o_ahead = o_first + _place(g + u + U, G, FORWARD)
            b_later = b_later + load_row(p_M + o_ahead * (K * K), K * K)
            if SUM:
                b_log += tl.where(g + u < G, b_scale[u], 0.0)
                b_scale_later = b_scale_later + (tl.load(p_scale + o_ahead),)
        b_ahead, b_scale = b_later, b_scale_later
        g += U
    return b_v, b_log + b_exponent.to(tl.float64) * LN2


@triton.jit
def _place(g, G, FORWARD: tl.constexpr):
    """Chunk of a run that is passed in step g; steps past the end stay at the last one."""
    g = tl.minimum(g, G - 1)
    return g if FORWARD else G - 1 - g


@triton.jit(do_not_specialize=["T", "n", "n_rows", "stride_P"])
def smooth_kernel(
    p_ll, p_P, p_lengths, p_a, p_b, p_work, p_state, p_count, p_keep, T, n, n_rows, stride_P,
    RAGGED: tl.constexpr, TURNED: tl.constexpr, K: tl.constexpr, L: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    """Posteriors of each chunk's bins and its share of the derivative by P.

    p_ll: (S, T, K), or (S, n_rows, K, n) when TURNED; p_P: (K, K), or (S, K, K) with
    stride_P = K * K; p_lengths: (S,) int64, not read unless RAGGED; p_a, p_b: (S, n, K)
    vectors entering each chunk from the left and from the right;
    p_work: laid out as p_ll, written: the posteriors, each one bin before the likelihood in
    its place; p_state itself unless TURNED. p_state: (S, T, K), the sequence's last bin
    written; p_count: (S, programs, K, K) float64 written, one share a program;
    p_keep: (S, n_rows // B + 1, n, K) scratch, the filtered vector before each block.

    The forward sweep keeps only those vectors; the backward sweep makes a block's others again,
    which costs a second read of the likelihoods instead of writing and reading all vectors.

    A lane writes the bins from the one before its chunk to the last but one, so no two
    lanes share a bin; the last chunk also writes the sequence's last bin.
    """
    i_s = tl.program_id(1).to(tl.int64)
    i_chunk = tl.program_id(0) * L + tl.arange(0, L)
    m_lane = i_chunk < n
    m_last = i_chunk == n - 1
    i_chunk = tl.minimum(i_chunk, n - 1)
    n_bins = tl.load(p_lengths + i_s) if RAGGED else T.to(tl.int64)
    o_start, o_size = chunk_bounds(i_chunk, n, n_bins)
    n_blocks = (n_bins - 1) // n // B
    if TURNED:
        p_row = p_ll + i_s * n_rows * K * n + i_chunk
        p_out = p_work + i_s * n_rows * K * n + i_chunk
        step = K * n
    else:
        p_row = p_ll + (i_s * T + o_start + 1) * K
        p_out = p_work + (i_s * T + o_start) * K
        step = K
    p_kept = p_keep + (i_s * (n_rows // B + 1) * n + i_chunk) * K
    b_P = load_table(p_P + i_s * stride_P, K * K)
    b_a = load_row(p_a + (i_s * n + i_chunk) * K, K)
    t = n_blocks * 0
    while t < n_blocks:
        store_row(p_kept, b_a, m_lane, K)
        b_e = likelihoods(load_block(p_row, step, None, n, TURNED, K, B), K, B)
        b_a = filtered(b_a, b_e, b_P, K, B)[B * K :]
        p_row += B * step
        p_kept += K * n
        t += 1
    store_row(p_kept, b_a, m_lane, K)

    p_out += t * B * step
    b_b = load_row(p_b + (i_s * n + i_chunk) * K, K)
    b_count = fill(b_b[0], 0.0, K * K)
    # Lanes read back what they stored themselves; the barrier only keeps the compiler's order.
    tl.debug_barrier()
    while t >= 0:
        b_rest = (o_size - t * B).to(tl.int32)
        b_a = load_row(p_kept, K)
        b_e = likelihoods(load_block(p_row, step, b_rest, n, TURNED, K, B), K, B)
        b_all = filtered(b_a, b_e, b_P, K, B)
        if t == n_blocks:
            p_end = p_state + (i_s * T + o_start + o_size) * K
            store_row(p_end, last_posterior(b_all, b_b, b_rest, K, B), m_lane & m_last, K)
        b_b, b_count = smooth(
            p_out, step, b_all, b_b, b_e, b_P, b_count, b_rest, m_lane, n, TURNED, K, B
        )  # fmt: skip
        p_row -= B * step
        p_out -= B * step
        p_kept -= K * n
        t -= 1
    o_count = (i_s * tl.num_programs(0) + tl.program_id(0)) * (K * K)
    for i in tl.static_range(K * K):
        b_share = tl.where(m_lane, b_count[i], 0.0).to(tl.float64)
        tl.store(p_count + o_count + i, tl.sum(b_share, 0))
