"""Forward-backward for up to 8 states: Triton kernels in which one lane is one chunk.

Legend: P transition, e likelihood of a bin over its largest state's, a filtered vector, b
backward vector, M transfer matrix of a chunk. Layouts: S sequences, T bins, n chunks a
sequence, K states, all contiguous.
"""

# ruff: noqa: RUF005 - unrolled loops grow tuples by adding to them

from __future__ import annotations

import triton
import triton.language as tl

from neuropipe_kernels.lanes import (
    chunk_bounds,
    dot,
    fill,
    load_row,
    load_states,
    load_table,
    mat_mat,
    mat_vec,
    multiply,
    power_of_two,
    row_max,
    row_sum,
    scale,
    select,
    store_row,
    store_states,
    vec_mat,
)

LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def _likelihood(b_ll, K: tl.constexpr):
    """Exponentiate a bin's log likelihoods relative to the largest, which is returned too."""
    b_top = row_max(b_ll, K)
    b_e = ()
    for i in tl.static_range(K):
        b_e = b_e + (tl.exp(b_ll[i] - b_top),)
    return b_e, b_top


@triton.jit(do_not_specialize=["T", "n", "n_rows", "stride_P"])
def transfer_kernel(
    p_ll, p_turned, p_P, p_lengths, p_M, p_scale, T, n, n_rows, stride_P,
    RAGGED: tl.constexpr, TURNED: tl.constexpr, K: tl.constexpr, L: tl.constexpr,
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
    n_full = (n_bins - 1) // n
    p_row = p_ll + (i_s * T + o_start + (o_size > 0).to(tl.int64)) * K
    p_copy = p_turned + i_s * n_rows * K * n + i_chunk
    b_P = load_table(p_P + i_s * stride_P, K * K)
    b_zero = tl.zeros((L,), p_ll.dtype.element_ty)
    b_M = ()
    for i in tl.static_range(K * K):
        b_M = b_M + (b_zero + (1.0 if i % (K + 1) == 0 else 0.0),)
    b_log = tl.zeros((L,), tl.float64)
    b_exponent = tl.zeros((L,), tl.int32)
    # The row in use was loaded one step earlier, behind the arithmetic of that step.
    b_next = load_row(p_row, K)
    t = n_full * 0
    while t < n_full:
        b_ll = b_next
        if TURNED:
            store_states(p_copy, b_ll, m_lane, n, TURNED, K)
            p_copy += K * n
        p_row += K * (t + 1 < o_size).to(tl.int32)
        b_next = load_row(p_row, K)
        b_M, b_log, b_exponent = _advance(b_M, b_ll, b_P, b_log, b_exponent, K)
        t += 1
    m_tail = o_size > n_full
    if TURNED:
        store_states(p_copy, b_next, m_lane & m_tail, n, TURNED, K)
    b_M_tail, b_log_tail, b_exponent_tail = _advance(b_M, b_next, b_P, b_log, b_exponent, K)
    b_M = select(m_tail, b_M_tail, b_M, K * K)
    b_log = tl.where(m_tail, b_log_tail, b_log)
    b_exponent = tl.where(m_tail, b_exponent_tail, b_exponent)
    o_chunk = i_s * n + i_chunk
    store_row(p_M + o_chunk * (K * K), b_M, m_lane, K * K)
    tl.store(p_scale + o_chunk, b_log + b_exponent.to(tl.float64) * LN2, mask=m_lane)


@triton.jit
def _advance(b_M, b_ll, b_P, b_log, b_exponent, K: tl.constexpr):
    """One bin: M P diag(e), with last bin's row sum taken out as a power of two."""
    b_e, b_top = _likelihood(b_ll, K)
    b_k, b_factor = power_of_two(row_sum(b_M, K))
    b_e = scale(b_e, b_factor, K)
    b_new = ()
    for i in tl.static_range(K):
        b_row = ()
        for j in tl.static_range(K):
            b_row = b_row + (b_M[i * K + j],)
        b_new = b_new + multiply(vec_mat(b_row, b_P, K), b_e, K)
    return b_new, b_log + b_top, b_exponent + b_k


@triton.jit(do_not_specialize=["n_out", "G"])
def product_kernel(p_M, p_scale, p_M_out, p_scale_out, n_out, G, K: tl.constexpr, L: tl.constexpr):
    """Product of each run of G transfer matrices.

    p_M: (n_out * G, K, K); p_scale: (n_out * G,) float64; p_M_out: (n_out, K, K) written;
    p_scale_out: (n_out,) float64 written. Sequences are joined: G divides the chunks of one.
    """
    i_out = (tl.program_id(0) * L + tl.arange(0, L)).to(tl.int64)
    m_lane = i_out < n_out
    o_in = tl.minimum(i_out, n_out - 1) * G
    p_in = p_M + o_in * (K * K)
    b_M = load_row(p_in, K * K)
    b_log = tl.load(p_scale + o_in)
    b_exponent = tl.zeros((L,), tl.int32)
    p_in += K * K * (G > 1)
    b_next = load_row(p_in, K * K)
    g = 1
    while g < G:
        b_now = b_next
        p_in += K * K * (g + 1 < G)
        b_next = load_row(p_in, K * K)
        b_k, b_factor = power_of_two(row_sum(b_M, K))
        b_M = mat_mat(scale(b_M, b_factor, K * K), b_now, K)
        b_log += tl.load(p_scale + o_in + g)
        b_exponent += b_k
        g += 1
    store_row(p_M_out + i_out * (K * K), b_M, m_lane, K * K)
    tl.store(p_scale_out + i_out, b_log + b_exponent.to(tl.float64) * LN2, mask=m_lane)


@triton.jit(do_not_specialize=["T", "n_in", "G", "stride_pi"])
def spread_kernel(
    p_M, p_scale, p_a, p_b, p_a_out, p_b_out, p_ll, p_pi, p_evidence, p_b_first,
    T, n_in, G, stride_pi, TOP: tl.constexpr, K: tl.constexpr, L: tl.constexpr,
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
    b_exponent = tl.zeros((L,), tl.int32)
    if tl.program_id(1) == 0:
        if TOP:
            b_first = ()
            b_ll = load_row(p_ll + i_in * T * K, K)
            b_pi = load_row(p_pi + i_in * stride_pi, K)
            for i in tl.static_range(K):
                b_first = b_first + (b_ll[i] + tl.log(b_pi[i]),)
            b_a, b_top = _likelihood(b_first, K)
            b_log = b_top.to(tl.float64)
        else:
            b_a = load_row(p_a + i_in * K, K)
            b_log = tl.zeros((L,), tl.float64)
        o_chunk = i_in * G
        b_M = load_row(p_M + o_chunk * (K * K), K * K)
        g = 0
        while g < G:
            b_k, b_factor = power_of_two(row_sum(b_a, K))
            b_a = scale(b_a, b_factor, K)
            b_exponent += b_k
            store_row(p_a_out + o_chunk * K, b_a, m_lane, K)
            if TOP:
                b_log += tl.load(p_scale + o_chunk)
            o_chunk += (g + 1 < G).to(tl.int64)
            b_now = b_M
            b_M = load_row(p_M + o_chunk * (K * K), K * K)
            b_a = vec_mat(b_a, b_now, K)
            g += 1
        if TOP:
            b_log += b_exponent.to(tl.float64) * LN2 + tl.log(row_sum(b_a, K).to(tl.float64))
            tl.store(p_evidence + i_in, b_log, mask=m_lane)
    else:
        if TOP:
            b_b = fill(tl.zeros((L,), p_M.dtype.element_ty), 1.0, K)
        else:
            b_b = load_row(p_b + i_in * K, K)
        o_chunk = i_in * G + G - 1
        b_M = load_row(p_M + o_chunk * (K * K), K * K)
        g = 0
        while g < G:
            b_k, b_factor = power_of_two(row_sum(b_b, K))
            b_b = scale(b_b, b_factor, K)
            store_row(p_b_out + o_chunk * K, b_b, m_lane, K)
            o_chunk -= (g + 1 < G).to(tl.int64)
            b_now = b_M
            b_M = load_row(p_M + o_chunk * (K * K), K * K)
            b_b = mat_vec(b_now, b_b, K)
            g += 1
        if TOP:
            store_row(p_b_first + i_in * K, b_b, m_lane, K)


@triton.jit(do_not_specialize=["T", "n", "n_rows", "stride_P"])
def smooth_kernel(
    p_ll, p_P, p_lengths, p_a, p_b, p_work, p_state, p_count, T, n, n_rows, stride_P,
    RAGGED: tl.constexpr, TURNED: tl.constexpr, K: tl.constexpr, L: tl.constexpr,
):  # fmt: skip
    """Posteriors of each chunk's bins and its share of the derivative by P.

    p_ll: (S, T, K), or (S, n_rows, K, n) when TURNED; p_P: (K, K), or (S, K, K) with
    stride_P = K * K; p_lengths: (S,) int64, not read unless RAGGED; p_a, p_b: (S, n, K)
    vectors entering each chunk from the left and from the right;
    p_work: laid out as p_ll, written: first the filtered vectors, then over them the
    posteriors, each one bin before the likelihood in its place; p_state itself unless TURNED.
    p_state: (S, T, K), the sequence's last bin written; p_count: (S, programs, K, K) float64
    written, one share a program.

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
    n_full = (n_bins - 1) // n
    m_tail = o_size > n_full
    if TURNED:
        p_row = p_ll + i_s * n_rows * K * n + i_chunk
        p_out = p_work + i_s * n_rows * K * n + i_chunk
        step = K * n
    else:
        p_row = p_ll + (i_s * T + o_start + (o_size > 0).to(tl.int64)) * K
        p_out = p_work + (i_s * T + o_start) * K
        step = K
    b_P = load_table(p_P + i_s * stride_P, K * K)
    b_a = load_row(p_a + (i_s * n + i_chunk) * K, K)
    b_next = load_states(p_row, n, TURNED, K)
    t = n_full * 0
    while t < n_full:
        b_ll = b_next
        p_row += step * (t + 1 < o_size).to(tl.int32)
        b_next = load_states(p_row, n, TURNED, K)
        store_states(p_out, b_a, m_lane, n, TURNED, K)
        p_out += step
        b_a = _filter(b_a, b_ll, b_P, K)
        t += 1
    store_states(p_out, b_a, m_lane & m_tail, n, TURNED, K)
    # Lanes without a tail may have loaded a row that nothing wrote.
    b_tail = select(m_tail, b_next, fill(b_next[0], 0.0, K), K)
    b_a = select(m_tail, _filter(b_a, b_tail, b_P, K), b_a, K)

    b_b = load_row(p_b + (i_s * n + i_chunk) * K, K)
    b_g = multiply(b_a, b_b, K)
    b_g = scale(b_g, 1.0 / row_sum(b_g, K), K)
    p_end = p_state + (i_s * T + o_start + o_size) * K
    store_row(p_end, b_g, m_lane & m_last, K)
    # Lanes read back what they stored themselves; the barrier only keeps the compiler's order.
    tl.debug_barrier()
    b_count = fill(b_b[0], 0.0, K * K)
    # p_row stands at the chunk's last bin and p_out at the row of its tail.
    b_prev = select(m_tail, load_states(p_out, n, TURNED, K), fill(b_b[0], 1.0, K), K)
    b_b_tail, b_g, b_count_tail = _smooth(b_prev, b_b, b_tail, b_P, b_count, K)
    store_states(p_out, b_g, m_lane & m_tail, n, TURNED, K)
    b_b = select(m_tail, b_b_tail, b_b, K)
    b_count = select(m_tail, b_count_tail, b_count, K * K)
    p_row -= step * m_tail.to(tl.int32)
    b_next = load_states(p_row, n, TURNED, K)
    t = n_full
    while t > 0:
        b_ll = b_next
        p_out -= step
        # Loading this row a step early would share a cache line with the store before it.
        b_prev = load_states(p_out, n, TURNED, K)
        p_row -= step * (t > 1).to(tl.int32)
        b_next = load_states(p_row, n, TURNED, K)
        b_b, b_g, b_count = _smooth(b_prev, b_b, b_ll, b_P, b_count, K)
        store_states(p_out, b_g, m_lane, n, TURNED, K)
        t -= 1
    o_count = (i_s * tl.num_programs(0) + tl.program_id(0)) * (K * K)
    for i in tl.static_range(K * K):
        b_share = tl.where(m_lane, b_count[i], 0.0).to(tl.float64)
        tl.store(p_count + o_count + i, tl.sum(b_share, 0))


@triton.jit
def _filter(b_a, b_ll, b_P, K: tl.constexpr):
    """One bin forward: (a P) e, with a's sum taken out as a power of two."""
    b_e, _ = _likelihood(b_ll, K)
    _, b_factor = power_of_two(row_sum(b_a, K))
    return multiply(vec_mat(b_a, b_P, K), scale(b_e, b_factor, K), K)


@triton.jit
def _smooth(b_a, b_b, b_ll, b_P, b_count, K: tl.constexpr):
    """One bin backward: b and the posterior one bin before, and the running count.

    b is kept so that its product with the filtered vector sums to one.
    """
    b_e, _ = _likelihood(b_ll, K)
    b_u = multiply(b_e, b_b, K)
    b_b = mat_vec(b_P, b_u, K)
    b_inverse = 1.0 / dot(b_a, b_b, K)
    b_b = scale(b_b, b_inverse, K)
    b_w = scale(b_u, b_inverse, K)
    b_new = ()
    for i in tl.static_range(K):
        for j in tl.static_range(K):
            b_new = b_new + (b_count[i * K + j] + b_a[i] * b_w[j],)
    return b_b, multiply(b_a, b_b, K), b_new
