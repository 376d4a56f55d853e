"""Forward-backward for 9 to 32 states: Triton kernels that stack chunks as rows of one product.

Signatures, layouts and legend as in ``lane_kernels``, but for its blocks of bins: without p_keep,
B and U (TURNED is never set: rows are whole cache lines here, p_turned is not used and p_work is
p_state); L is the number of chunks a program stacks, and states are padded to 16 or 32 with zero
weights. Products run on tensor cores as three tf32 products (one would err by 1e-3 over a chunk),
float32 only.
"""

from __future__ import annotations

import triton
import triton.language as tl

from neuropipe_kernels.lanes import chunk_bounds, power_of_two

LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def _product(b_x, b_y):
    """Matrix product in float32 accuracy."""
    return tl.dot(b_x, b_y, input_precision="tf32x3")


@triton.jit
def _load_matrix(p_m, K: tl.constexpr, KP: tl.constexpr):
    """Load a (K, K) matrix as [KP, KP], padded with zeros."""
    o_k = tl.arange(0, KP)
    m_k = (o_k[:, None] < K) & (o_k[None, :] < K)
    return tl.load(p_m + o_k[:, None] * K + o_k[None, :], mask=m_k, other=0.0)


@triton.jit
def _load_rows(p_row, K: tl.constexpr, KP: tl.constexpr, OTHER: tl.constexpr):
    """Load K neighbours of each row as [L, KP]; p_row: [L] pointers."""
    o_k = tl.arange(0, KP)
    return tl.load(p_row[:, None] + o_k[None, :], mask=o_k[None, :] < K, other=OTHER)


@triton.jit
def _likelihood(b_ll):
    """Exponentiate each row relative to its largest entry, which is returned too."""
    b_top = tl.max(b_ll, 1)
    return tl.exp(b_ll - b_top[:, None]), b_top


@triton.jit(do_not_specialize=["T", "n", "n_rows", "stride_P"])
def transfer_kernel(
    p_ll, p_turned, p_P, p_lengths, p_M, p_scale, T, n, n_rows, stride_P,
    RAGGED: tl.constexpr, TURNED: tl.constexpr, K: tl.constexpr, L: tl.constexpr, KP: tl.constexpr,
):  # fmt: skip
    """Transfer matrix of each chunk.

    p_ll: (S, T, K) log likelihoods; p_P: (K, K), or (S, K, K) with stride_P = K * K;
    p_lengths: (S,) int64, not read unless RAGGED; p_M: (S, n, K, K) written;
    p_scale: (S, n) float64 written, the log factor taken out of M.

    A row of the stacked tile is one (chunk, start state).
    """
    i_s = tl.program_id(1).to(tl.int64)
    i_chunk = tl.program_id(0) * L + tl.arange(0, L)
    n_bins = tl.load(p_lengths + i_s) if RAGGED else T.to(tl.int64)
    o_start, o_size = chunk_bounds(tl.minimum(i_chunk, n - 1), n, n_bins)
    n_full = (n_bins - 1) // n
    p_row = p_ll + (i_s * T + o_start + (o_size > 0).to(tl.int64)) * K
    o_k = tl.arange(0, KP)
    b_P = _load_matrix(p_P + i_s * stride_P, K, KP)
    b_eye = (o_k[:, None] == o_k[None, :]).to(tl.float32)
    b_M = tl.reshape(tl.broadcast_to(b_eye[None, :, :], (L, KP, KP)), (L * KP, KP))
    b_exponent = tl.zeros((L * KP,), tl.int32)
    b_log = tl.zeros((L,), tl.float64)
    b_next = _load_rows(p_row, K, KP, float("-inf"))
    t = n_full * 0
    while t < n_full:
        b_e, b_top = _likelihood(b_next)
        p_row += K * (t + 1 < o_size).to(tl.int32)
        b_next = _load_rows(p_row, K, KP, float("-inf"))
        b_M = _product(b_M, b_P) * _repeat(b_e, L, KP)
        b_log += b_top
        # A row sum shrinks by at most the smallest entry of P a bin; two bins are safe.
        if t % 2 == 1:
            b_k, b_factor = power_of_two(tl.sum(b_M, 1))
            b_M *= b_factor[:, None]
            b_exponent += b_k
        t += 1
    m_tail = o_size > n_full
    b_e, b_top = _likelihood(b_next)
    b_log += tl.where(m_tail, b_top, 0.0)
    b_step = _product(b_M, b_P) * _repeat(b_e, L, KP)
    m_rows = tl.reshape(tl.broadcast_to(m_tail[:, None], (L, KP)), (L * KP,))
    b_M = tl.where(m_rows[:, None], b_step, b_M)
    b_k, b_factor = power_of_two(tl.sum(b_M, 1))
    b_M *= b_factor[:, None]
    # One factor a chunk: fold what its rows differ by back into them.
    o_from = tl.arange(0, L * KP) % KP
    b_exponent = tl.where(o_from < K, b_exponent + b_k, -(2**30))
    b_common = tl.max(tl.reshape(b_exponent, (L, KP)), 1)
    b_rows = tl.reshape(tl.broadcast_to(b_common[:, None], (L, KP)), (L * KP,))
    b_M *= tl.exp2((b_exponent - b_rows).to(tl.float32))[:, None]
    o_chunk = i_s * n + tl.program_id(0) * L + tl.arange(0, L * KP) // KP
    m_store = (tl.program_id(0) * L + tl.arange(0, L * KP) // KP < n) & (o_from < K)
    p_out = p_M + (o_chunk * K + o_from)[:, None] * K + o_k[None, :]
    tl.store(p_out, b_M, mask=m_store[:, None] & (o_k[None, :] < K))
    tl.store(p_scale + i_s * n + i_chunk, b_log + b_common.to(tl.float64) * LN2, mask=i_chunk < n)


@triton.jit
def _repeat(b_e, L: tl.constexpr, KP: tl.constexpr):
    """Repeat each chunk's row for all its start states: [L, KP] to [L * KP, KP]."""
    return tl.reshape(tl.broadcast_to(b_e[:, None, :], (L, KP, KP)), (L * KP, KP))


@triton.jit(do_not_specialize=["n_out", "G"])
def product_kernel(
    p_M, p_scale, p_M_out, p_scale_out, n_out, G,
    K: tl.constexpr, L: tl.constexpr, KP: tl.constexpr,
):  # fmt: skip
    """Product of each run of G transfer matrices, one run a program.

    p_M: (n_out * G, K, K); p_scale: (n_out * G,) float64; p_M_out: (n_out, K, K) written;
    p_scale_out: (n_out,) float64 written.
    """
    i_out = tl.program_id(0).to(tl.int64)
    b_M = _load_matrix(p_M + i_out * G * K * K, K, KP)
    b_log = tl.load(p_scale + i_out * G)
    b_exponent = tl.load(p_scale + i_out * G).to(tl.int32) * 0
    g = 1
    while g < G:
        b_k, b_factor = power_of_two(tl.max(tl.max(b_M, 1), 0))
        b_next = _load_matrix(p_M + (i_out * G + g) * K * K, K, KP)
        b_M = _product(b_M * b_factor, b_next)
        b_log += tl.load(p_scale + i_out * G + g)
        b_exponent += b_k
        g += 1
    o_k = tl.arange(0, KP)
    m_k = (o_k[:, None] < K) & (o_k[None, :] < K)
    p_out = p_M_out + i_out * K * K + o_k[:, None] * K + o_k[None, :]
    tl.store(p_out, b_M, mask=m_k)
    tl.store(p_scale_out + i_out, b_log + b_exponent.to(tl.float64) * LN2)


@triton.jit(do_not_specialize=["T", "n_in", "G", "stride_pi"])
def spread_kernel(
    p_M, p_scale, p_a, p_b, p_a_out, p_b_out, p_ll, p_pi, p_evidence, p_b_first,
    T, n_in, G, stride_pi,
    TOP: tl.constexpr, K: tl.constexpr, L: tl.constexpr, KP: tl.constexpr,
):  # fmt: skip
    """Carry vectors through a run of G chunks, one run a program; forward and backward.

    p_M: (n_in * G, K, K); p_a, p_b: (n_in, K) vectors entering each run from the left and
    from the right, not read when TOP; p_a_out, p_b_out: (n_in * G, K) written, the same for
    each chunk. When TOP a run is a sequence: p_ll: (S, T, K); p_pi: (K,) or (S, K) with
    stride_pi = K; p_scale: (n_in * G,) float64; p_evidence: (S,) float64 written;
    p_b_first: (S, K) written, the backward vector at bin 0.
    """
    i_in = tl.program_id(0).to(tl.int64)
    o_k = tl.arange(0, KP)
    m_k = o_k < K
    o_first = i_in * G
    o_last = o_first + G - 1
    if tl.program_id(1) == 0:
        b_log = tl.load(p_scale + o_first) * 0.0
        if TOP:
            b_ll = tl.load(p_ll + i_in * T * K + o_k, mask=m_k, other=float("-inf"))
            b_ll += tl.log(tl.load(p_pi + i_in * stride_pi + o_k, mask=m_k, other=1.0))
            b_top = tl.max(b_ll, 0)
            b_a = tl.exp(b_ll - b_top)
            b_log += b_top
        else:
            b_a = tl.load(p_a + i_in * K + o_k, mask=m_k, other=0.0)
        b_M = _load_matrix(p_M + o_first * K * K, K, KP)
        o_chunk = o_first
        while o_chunk <= o_last:
            b_sum = tl.sum(b_a, 0)
            b_a /= b_sum
            tl.store(p_a_out + o_chunk * K + o_k, b_a, mask=m_k)
            if TOP:
                b_log += tl.load(p_scale + o_chunk) + tl.log(b_sum.to(tl.float64))
            b_now = b_M
            o_chunk += 1
            b_M = _load_matrix(p_M + tl.minimum(o_chunk, o_last) * K * K, K, KP)
            b_a = tl.sum(b_a[:, None] * b_now, 0)
        if TOP:
            tl.store(p_evidence + i_in, b_log + tl.log(tl.sum(b_a, 0).to(tl.float64)))
    else:
        if TOP:
            b_b = tl.where(m_k, 1.0, 0.0)
        else:
            b_b = tl.load(p_b + i_in * K + o_k, mask=m_k, other=0.0)
        b_M = _load_matrix(p_M + o_last * K * K, K, KP)
        o_chunk = o_last
        while o_chunk >= o_first:
            b_b /= tl.sum(b_b, 0)
            tl.store(p_b_out + o_chunk * K + o_k, b_b, mask=m_k)
            b_now = b_M
            o_chunk -= 1
            b_M = _load_matrix(p_M + tl.maximum(o_chunk, o_first) * K * K, K, KP)
            b_b = tl.sum(b_now * b_b[None, :], 1)
        if TOP:
            tl.store(p_b_first + i_in * K + o_k, b_b, mask=m_k)


@triton.jit(do_not_specialize=["T", "n", "n_rows", "stride_P"])
def smooth_kernel(
    p_ll, p_P, p_lengths, p_a, p_b, p_work, p_state, p_count, T, n, n_rows, stride_P,
    RAGGED: tl.constexpr, TURNED: tl.constexpr, K: tl.constexpr, L: tl.constexpr, KP: tl.constexpr,
):  # fmt: skip
    """Posteriors of each chunk's bins and its share of the derivative by P.

    p_ll: (S, T, K); p_P: (K, K), or (S, K, K) with stride_P = K * K; p_lengths: (S,) int64,
    not read unless RAGGED; p_a, p_b: (S, n, K) vectors entering each chunk from the left and
    from the right; p_state: (S, T, K) written: first the filtered vectors, then over them
    the posteriors; p_count: (S, programs, K, K) float64 written, one share a program.

    Which row writes which bin: as in ``lane_kernels``.
    """
    i_s = tl.program_id(1).to(tl.int64)
    i_chunk = tl.program_id(0) * L + tl.arange(0, L)
    o_k = tl.arange(0, KP)
    m_out = (i_chunk < n)[:, None] & (o_k[None, :] < K)
    m_last = (i_chunk == n - 1)[:, None] & (o_k[None, :] < K)
    m_chunk = (i_chunk < n)[:, None]
    i_chunk = tl.minimum(i_chunk, n - 1)
    n_bins = tl.load(p_lengths + i_s) if RAGGED else T.to(tl.int64)
    o_start, o_size = chunk_bounds(i_chunk, n, n_bins)
    n_full = (n_bins - 1) // n
    m_tail = (o_size > n_full)[:, None]
    o_row = (i_s * T + o_start) * K
    b_P = _load_matrix(p_P + i_s * stride_P, K, KP)
    b_PT = tl.trans(b_P)
    b_a = _load_rows(p_a + (i_s * n + i_chunk) * K, K, KP, 0.0)
    p_row = p_ll + o_row + K * (o_size > 0).to(tl.int32)
    p_out = p_state + o_row[:, None] + o_k[None, :]
    b_next = _load_rows(p_row, K, KP, float("-inf"))
    t = n_full * 0
    while t < n_full:
        b_e, _ = _likelihood(b_next)
        p_row += K * (t + 1 < o_size).to(tl.int32)
        b_next = _load_rows(p_row, K, KP, float("-inf"))
        tl.store(p_out, b_a, mask=m_out)
        p_out += K
        b_a = _filter(b_a, b_e, b_P)
        t += 1
    tl.store(p_out, b_a, mask=m_out & m_tail)
    b_e, _ = _likelihood(b_next)
    b_a = tl.where(m_tail, _filter(b_a, b_e, b_P), b_a)

    b_b = _load_rows(p_b + (i_s * n + i_chunk) * K, K, KP, 0.0)
    b_g = b_a * b_b
    b_g /= tl.sum(b_g, 1)[:, None]
    p_end = p_state + ((i_s * T + o_start + o_size) * K)[:, None] + o_k[None, :]
    tl.store(p_end, b_g, mask=m_last)
    # Other threads of the program may hold the rows that were just stored.
    tl.debug_barrier()
    b_prev = tl.load(p_out, mask=m_out & m_tail, other=1.0)
    b_e, _ = _likelihood(_load_rows(p_row, K, KP, float("-inf")))
    b_step, b_w = _smooth(b_prev, b_b, b_e, b_PT)
    tl.store(p_out, b_prev * b_step, mask=m_out & m_tail)
    b_b = tl.where(m_tail, b_step, b_b)
    b_w = tl.where(m_tail & m_chunk, b_w, 0.0)
    b_count = _product(tl.trans(b_prev), b_w)
    p_row -= K * (o_size > n_full).to(tl.int32)
    b_next = _load_rows(p_row, K, KP, float("-inf"))
    t = n_full
    while t > 0:
        b_e, _ = _likelihood(b_next)
        p_out -= K
        b_prev = tl.load(p_out, mask=m_out, other=1.0)
        p_row -= K * (t > 1).to(tl.int32)
        b_next = _load_rows(p_row, K, KP, float("-inf"))
        b_b, b_w = _smooth(b_prev, b_b, b_e, b_PT)
        tl.store(p_out, b_prev * b_b, mask=m_out)
        b_count += _product(tl.trans(b_prev), tl.where(m_chunk, b_w, 0.0))
        t -= 1
    o_count = (i_s * tl.num_programs(0) + tl.program_id(0)) * (K * K)
    m_k = (o_k[:, None] < K) & (o_k[None, :] < K)
    p_share = p_count + o_count + o_k[:, None] * K + o_k[None, :]
    tl.store(p_share, b_count.to(tl.float64), mask=m_k)


@triton.jit
def _filter(b_a, b_e, b_P):
    """One bin forward: (a P) e, with a's sum taken out as a power of two."""
    _, b_factor = power_of_two(tl.sum(b_a, 1))
    return _product(b_a, b_P) * (b_e * b_factor[:, None])


@triton.jit
def _smooth(b_a, b_b, b_e, b_PT):
    """One bin backward: b one bin before, scaled to a b = 1, and w = e b scaled alike."""
    b_u = b_e * b_b
    b_b = _product(b_u, b_PT)
    b_inverse = 1.0 / tl.sum(b_a * b_b, 1)
    return b_b * b_inverse[:, None], b_u * b_inverse[:, None]
