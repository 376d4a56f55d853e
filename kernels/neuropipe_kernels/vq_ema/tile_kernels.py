"""Nearest codes and sums by code: Triton kernels that never store a score.

Legend: x tokens, c codes, s scores. Layouts: M tokens, K codes, D dimensions, S parts of a sum;
all contiguous. A packed score carries its code in its lowest bits, so that the three best are
kept by plain minima and maxima.
"""

from __future__ import annotations

import triton
import triton.language as tl

SHORT = tl.constexpr(1e-12)
NONE = tl.constexpr(-4.0)  # below every cosine
WHOLE = tl.constexpr(1099511627776.0)  # 2^40: room for 2^23 tokens, steps far below float32's


@triton.jit
def _unit(b_x):
    """Rows of length 1."""
    b_n = tl.sqrt(tl.sum(b_x * b_x, 1))
    return b_x / tl.maximum(b_n, SHORT)[:, None]


@triton.jit
def _code_of(b_s, LOW: tl.constexpr, K):
    """Code in the lowest bits of a packed score."""
    b_k = LOW - (b_s.to(tl.int32, bitcast=True) & LOW)
    return tl.minimum(b_k, K - 1)


@triton.jit
def _better(b_x, p_c, b_k1, b_k2, m_second, o_d, m_d, D: tl.constexpr):
    """Of two codes of each token the one of larger product in float64; of equal ones the lower.

    Returns the code and its product.
    """
    b_c1 = tl.load(p_c + b_k1[:, None] * D + o_d[None, :], mask=m_d[None, :], other=0.0)
    b_c2 = tl.load(p_c + b_k2[:, None] * D + o_d[None, :], mask=m_d[None, :], other=0.0)
    b_wide = b_x.to(tl.float64)
    b_s1 = tl.sum(b_wide * b_c1.to(tl.float64), 1)
    b_s2 = tl.sum(b_wide * b_c2.to(tl.float64), 1)
    m_swap = m_second & ((b_s2 > b_s1) | ((b_s2 == b_s1) & (b_k2 < b_k1)))
    return tl.where(m_swap, b_k2, b_k1), tl.where(m_swap, b_s2, b_s1)


@triton.jit(do_not_specialize=["M"])
def screen_kernel(
    p_x, p_c, p_short, p_index, p_left, p_n_left, M, K, margin, D: tl.constexpr,
    LOW: tl.constexpr, EMULATE: tl.constexpr, BM: tl.constexpr, BK: tl.constexpr,
    BD: tl.constexpr,
):  # fmt: skip
    """Find the nearest code of BM tokens from bfloat16 scores, and list those in doubt.

    p_x: (M, D); p_c: (K, D) float32; p_short: (K, D) bfloat16, float32 when EMULATE;
    p_index: (M,) int64 written; p_left: (M,) int32, its first p_n_left entries written.
    """
    o_m = tl.program_id(0).to(tl.int64) * BM + tl.arange(0, BM)
    o_d = tl.arange(0, BD)
    m_m, m_d = o_m < M, o_d < D
    b_x = tl.load(
        p_x + o_m[:, None] * D + o_d[None, :], mask=m_m[:, None] & m_d[None, :], other=0.0
    )
    b_x = _unit(b_x)
    b_short = b_x.to(tl.bfloat16)
    if EMULATE:
        b_short = b_short.to(tl.float32)
    b_1 = tl.full((BM, BK), NONE, tl.float32)
    b_2 = tl.full((BM, BK), NONE, tl.float32)
    b_3 = tl.full((BM, BK), NONE, tl.float32)
    for k in tl.range(0, K, BK):
        o_k = k + tl.arange(0, BK)
        m_k = o_k < K
        b_c = tl.load(
            p_short + o_k[None, :] * D + o_d[:, None], mask=m_k[None, :] & m_d[:, None], other=0.0
        )
        b_s = tl.dot(b_short, b_c)
        b_p = (b_s.to(tl.int32, bitcast=True) & ~LOW) | (LOW - o_k)[None, :]
        b_s = tl.where(m_k[None, :], b_p.to(tl.float32, bitcast=True), NONE)
        b_low = tl.minimum(b_s, b_1)
        b_1 = tl.maximum(b_s, b_1)
        b_3 = tl.maximum(b_3, tl.minimum(b_low, b_2))
        b_2 = tl.maximum(b_low, b_2)
    # packed scores of a row differ, except those that no code has
    b_first = tl.max(b_1, 1)
    m_own = b_1 == b_first[:, None]
    b_1 = tl.where(m_own, b_2, b_1)
    b_2 = tl.where(m_own, b_3, b_2)
    b_second = tl.max(b_1, 1)
    b_third = tl.max(tl.where(b_1 == b_second[:, None], b_2, b_1), 1)
    b_k1 = _code_of(b_first, LOW, K)
    b_k2 = _code_of(b_second, LOW, K)
    b_k, _ = _better(b_x, p_c, b_k1, b_k2, b_second > NONE, o_d, m_d, D)
    tl.store(p_index + o_m, b_k.to(tl.int64), mask=m_m)
    # a row that is not finite meets no comparison and is searched again, harmlessly
    m_left = m_m & ((b_first - b_third < margin) | (b_first == NONE))
    b_rank = tl.cumsum(m_left.to(tl.int32), 0)
    b_at = tl.atomic_add(p_n_left, tl.sum(m_left.to(tl.int32), 0))
    tl.store(p_left + b_at + b_rank - 1, o_m.to(tl.int32), mask=m_left)


@triton.jit(do_not_specialize=["M"])
def exact_kernel(
    p_x, p_c, p_index, p_left, p_n_left, p_score, M, K, D: tl.constexpr, LISTED: tl.constexpr,
    BM: tl.constexpr, BK: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """Find the nearest code of every S-th block by scores of float32 accuracy, BM tokens a time.

    Pointers as in ``screen_kernel``. When LISTED the tokens are those in p_left and S is 1; else
    they are all of them, p_index: (S, M), and p_score: (S, M) float64 written, the product of the
    unscaled token and the code that was found.
    """
    n = M
    if LISTED:
        n = tl.load(p_n_left)
    i_s = tl.program_id(1)
    o_d = tl.arange(0, BD)
    m_d = o_d < D
    block = tl.program_id(0) * BM
    while block < n:
        o_t = block + tl.arange(0, BM)
        m_m = o_t < n
        o_m = o_t.to(tl.int64)
        if LISTED:
            o_m = tl.load(p_left + o_t, mask=m_m, other=0).to(tl.int64)
        b_x = tl.load(
            p_x + o_m[:, None] * D + o_d[None, :], mask=m_m[:, None] & m_d[None, :], other=0.0
        )
        b_u = _unit(b_x)
        b_1 = tl.full((BM, BK), NONE, tl.float32)
        b_2 = tl.full((BM, BK), NONE, tl.float32)
        b_c1 = tl.zeros((BM, BK), tl.int32)
        b_c2 = tl.zeros((BM, BK), tl.int32)
        for k in tl.range(i_s * BK, K, BK * tl.num_programs(1)):
            o_k = k + tl.arange(0, BK)
            m_k = o_k < K
            b_c = tl.load(
                p_c + o_k[None, :] * D + o_d[:, None], mask=m_k[None, :] & m_d[:, None], other=0.0
            )
            b_s = tl.where(m_k[None, :], tl.dot(b_u, b_c, input_precision="tf32x3"), NONE)
            m_1, m_2 = b_s > b_1, b_s > b_2
            b_2 = tl.where(m_1, b_1, tl.where(m_2, b_s, b_2))
            b_c2 = tl.where(m_1, b_c1, tl.where(m_2, o_k[None, :], b_c2))
            b_1 = tl.where(m_1, b_s, b_1)
            b_c1 = tl.where(m_1, o_k[None, :], b_c1)
        b_first = tl.max(b_1, 1)
        b_k1 = tl.min(tl.where(b_1 == b_first[:, None], b_c1, K - 1), 1)
        m_own = (b_1 == b_first[:, None]) & (b_c1 == b_k1[:, None])
        b_1 = tl.where(m_own, b_2, b_1)
        b_c1 = tl.where(m_own, b_c2, b_c1)
        b_second = tl.max(b_1, 1)
        b_k2 = tl.min(tl.where(b_1 == b_second[:, None], b_c1, K - 1), 1)
        b_k, b_score = _better(b_x, p_c, b_k1, b_k2, b_second > NONE, o_d, m_d, D)
        o_out = o_m + i_s.to(tl.int64) * M
        tl.store(p_index + o_out, b_k.to(tl.int64), mask=m_m)
        if not LISTED:
            tl.store(p_score + o_out, b_score, mask=m_m)
        block += tl.num_programs(0) * BM


@triton.jit(do_not_specialize=["M"])
def best_kernel(p_found, p_score, p_index, M, S: tl.constexpr, BM: tl.constexpr):
    """Of each token's codes the one of the largest score; of equal ones the lowest.

    p_found: (S, M) int64; p_score: (S, M) float64; p_index: (M,) int64 written.
    """
    o_m = tl.program_id(0).to(tl.int64) * BM + tl.arange(0, BM)
    m = o_m < M
    b_k = tl.load(p_found + o_m, mask=m, other=0)
    b_s = tl.load(p_score + o_m, mask=m, other=0.0)
    for s in tl.static_range(1, S):
        b_k2 = tl.load(p_found + s * M + o_m, mask=m, other=0)
        b_s2 = tl.load(p_score + s * M + o_m, mask=m, other=0.0)
        m_swap = (b_s2 > b_s) | ((b_s2 == b_s) & (b_k2 < b_k))
        b_k = tl.where(m_swap, b_k2, b_k)
        b_s = tl.where(m_swap, b_s2, b_s)
    tl.store(p_index + o_m, b_k, mask=m)


@triton.jit(do_not_specialize=["M"])
def tally_kernel(
    p_x, p_index, p_count, p_total, M, D: tl.constexpr, BM: tl.constexpr, BD: tl.constexpr
):
    """Add BM tokens to their codes as whole numbers, so that the order does not matter.

    p_x: (M, D); p_index: (M,) int64; p_count: (K,) int64 and p_total: (K, D) int64, in steps of
    1 / WHOLE, added to.
    """
    o_m = tl.program_id(0).to(tl.int64) * BM + tl.arange(0, BM)
    o_d = tl.arange(0, BD)
    m_m, m_d = o_m < M, o_d < D
    m = m_m[:, None] & m_d[None, :]
    b_k = tl.load(p_index + o_m, mask=m_m, other=0)
    b_x = _unit(tl.load(p_x + o_m[:, None] * D + o_d[None, :], mask=m, other=0.0))
    b_q = (b_x.to(tl.float64) * WHOLE).to(tl.int64)
    tl.atomic_add(p_count + b_k, tl.full((BM,), 1, tl.int64), mask=m_m, sem="relaxed")
    tl.atomic_add(p_total + b_k[:, None] * D + o_d[None, :], b_q, mask=m, sem="relaxed")


@triton.jit
def read_kernel(
    p_sum, p_total, p_count, K, D: tl.constexpr, BK: tl.constexpr, BD: tl.constexpr
):  # fmt: skip
    """Turn the sums of BK codes into numbers.

    p_sum: (K * D + K,) int64, totals in steps of 1 / WHOLE, then counts; p_total: (K, D) and
    p_count: (K,) written.
    """
    o_k = tl.program_id(0) * BK + tl.arange(0, BK)
    o_d = tl.arange(0, BD)
    m_k = o_k < K
    m = m_k[:, None] & (o_d < D)[None, :]
    o = o_k[:, None] * D + o_d[None, :]
    b_t = tl.load(p_sum + o, mask=m, other=0).to(tl.float64) * (1 / WHOLE)
    tl.store(p_total + o, b_t.to(tl.float32), mask=m)
    b_n = tl.load(p_sum + K * D + o_k, mask=m_k, other=0)
    tl.store(p_count + o_k, b_n.to(tl.float32), mask=m_k)


@triton.jit(do_not_specialize=["M"])
def segment_kernel(
    p_x, p_order, p_edge, p_count, p_total, M, K, D: tl.constexpr, BM: tl.constexpr,
    BD: tl.constexpr,
):  # fmt: skip
    """Sum the tokens of one code, which lie together, over every S-th block of them.

    p_x: (M, D); p_order: (M,) int64, tokens ordered by code; p_edge: (K + 1,) int64, where each
    code begins; p_count: (S, K) and p_total: (S, K, D) written.
    """
    i_k, i_s = tl.program_id(0), tl.program_id(1)
    o_d = tl.arange(0, BD)
    m_d = o_d < D
    first = tl.load(p_edge + i_k)
    last = tl.load(p_edge + i_k + 1)
    b_t = tl.zeros((BD,), tl.float32)
    n = tl.zeros((), tl.int32)
    at = first + i_s * BM
    while at < last:
        o_m = at + tl.arange(0, BM)
        m_m = o_m < last
        b_o = tl.load(p_order + o_m, mask=m_m, other=0)
        b_x = tl.load(
            p_x + b_o[:, None] * D + o_d[None, :], mask=m_m[:, None] & m_d[None, :], other=0.0
        )
        b_t += tl.sum(_unit(b_x), 0)
        n += tl.sum(m_m.to(tl.int32), 0)
        at += tl.num_programs(1) * BM
    o = (i_s * K + i_k).to(tl.int64)
    tl.store(p_count + o, n.to(tl.float32))
    tl.store(p_total + o * D + o_d, b_t, mask=m_d)


@triton.jit(do_not_specialize=["M"])
def scatter_kernel(
    p_x, p_index, p_count, p_total, M, D: tl.constexpr, BM: tl.constexpr, BD: tl.constexpr
):
    """Add BM tokens to their codes, in any order.

    p_x: (M, D); p_index: (M,) int64; p_count: (K,) and p_total: (K, D) added to.
    """
    o_m = tl.program_id(0).to(tl.int64) * BM + tl.arange(0, BM)
    o_d = tl.arange(0, BD)
    m_m, m_d = o_m < M, o_d < D
    m = m_m[:, None] & m_d[None, :]
    b_k = tl.load(p_index + o_m, mask=m_m, other=0)
    b_x = _unit(tl.load(p_x + o_m[:, None] * D + o_d[None, :], mask=m, other=0.0))
    tl.atomic_add(p_count + b_k, tl.full((BM,), 1.0, tl.float32), mask=m_m, sem="relaxed")
    tl.atomic_add(p_total + b_k[:, None] * D + o_d[None, :], b_x, mask=m, sem="relaxed")


@triton.jit(do_not_specialize=["decay"])
def update_kernel(
    p_c, p_size, p_count, p_total, p_c_out, p_size_out, K, decay, D: tl.constexpr,
    BK: tl.constexpr, BD: tl.constexpr,
):  # fmt: skip
    """Move BK codes towards their tokens.

    p_c, p_total: (K, D); p_size, p_count: (K,); p_c_out: (K, D) and p_size_out: (K,) written.
    """
    o_k = tl.program_id(0) * BK + tl.arange(0, BK)
    o_d = tl.arange(0, BD)
    m_k = o_k < K
    m = m_k[:, None] & (o_d < D)[None, :]
    o = o_k[:, None] * D + o_d[None, :]
    b_c = tl.load(p_c + o, mask=m, other=0.0)
    b_t = tl.load(p_total + o, mask=m, other=0.0)
    b_n = tl.load(p_count + o_k, mask=m_k, other=0.0)
    b_new = _unit(decay * b_c + (1 - decay) * _unit(b_t))
    tl.store(p_c_out + o, tl.where((b_n > 0)[:, None], b_new, b_c), mask=m)
    b_size = tl.load(p_size + o_k, mask=m_k, other=0.0)
    tl.store(p_size_out + o_k, decay * b_size + (1 - decay) * b_n, mask=m_k)
