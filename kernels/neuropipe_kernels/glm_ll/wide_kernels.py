"""What follows a product that cuBLAS has made: Triton kernels over a stored linear predictor.

Legend: eta linear predictor without its bias, y counts. Layouts: T bins, K states, N neurons, all
contiguous.
"""

from __future__ import annotations

import triton
import triton.language as tl

from neuropipe_kernels.glm_ll.tile_kernels import density, load_counts, slope


@triton.jit
def planes_kernel(
    p_x, p_out, n, m, row_stride, plane_stride, LEFT: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Write six planes of the three bfloat16 that a float32 is the sum of, in a factor's order.

    p_x: (n, m) float32; p_out: rows `row_stride` and planes `plane_stride` apart, written.
    """
    o_n = (tl.program_id(0) * BM + tl.arange(0, BM)).to(tl.int64)[:, None]
    o_m = (tl.program_id(1) * BN + tl.arange(0, BN))[None, :]
    mask = (o_n < n) & (o_m < m)
    b_x = tl.load(p_x + o_n * m + o_m, mask=mask, other=0.0)
    b_1 = b_x.to(tl.bfloat16)
    b_x -= b_1.to(tl.float32)
    b_2 = b_x.to(tl.bfloat16)
    b_3 = (b_x - b_2.to(tl.float32)).to(tl.bfloat16)
    b_order = (b_3, b_1, b_2, b_2, b_1, b_1) if LEFT else (b_1, b_3, b_2, b_1, b_2, b_1)
    p_o = p_out + o_n * row_stride + o_m
    for k in tl.static_range(6):
        tl.store(p_o + tl.cast(plane_stride, tl.int64) * k, b_order[k], mask=mask)


@triton.jit(do_not_specialize=["n"])
def turn_kernel(p_x, p_out, n, m, BM: tl.constexpr, BN: tl.constexpr):
    """Transpose. p_x: (n, m); p_out: (m, n) written."""
    o_n = (tl.program_id(0) * BM + tl.arange(0, BM)).to(tl.int64)[:, None]
    o_m = (tl.program_id(1) * BN + tl.arange(0, BN)).to(tl.int64)[None, :]
    mask = (o_n < n) & (o_m < m)
    tl.store(p_out + o_m * n + o_n, tl.load(p_x + o_n * m + o_m, mask=mask), mask=mask)


@triton.jit(do_not_specialize=["T"])
def sum_kernel(
    p_eta, p_bias, p_y, p_mask, p_std, p_const, p_ll, T, N: tl.constexpr, K: tl.constexpr,
    KEEP: tl.constexpr, MASKED: tl.constexpr, LINK: tl.constexpr, FAST: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Log likelihood of BM bins under one state, summed over neurons.

    p_eta: (T, K, N), overwritten by the slope when KEEP; p_bias: (K, N); p_y: (T, N); p_mask:
    (T, N) uint8, not read unless MASKED; p_std: (N,), read for LINK identity only; p_const: (T,)
    sum of the terms without eta; p_ll: (T, K) written.
    """
    i_k = tl.program_id(0)
    o_t = tl.program_id(1) * BM + tl.arange(0, BM)
    m_t = o_t < T
    b_ll = tl.load(p_const + o_t, mask=m_t, other=0.0)
    for n in tl.range(0, N, BN):
        o_n = n + tl.arange(0, BN)
        m = m_t[:, None] & (o_n < N)[None, :]
        p_e = p_eta + (o_t.to(tl.int64) * K + i_k)[:, None] * N + o_n[None, :]
        b_bias = tl.load(p_bias + i_k * N + o_n, mask=o_n < N, other=0.0)[None, :]
        b_eta = tl.load(p_e, mask=m, other=0.0) + b_bias
        b_y, m_seen = load_counts(p_y, p_mask, o_t, o_n, m, N, MASKED)
        b_std = 1.0
        if LINK == "identity":
            b_std = tl.load(p_std + o_n, mask=o_n < N, other=1.0)[None, :]
        b_ll += tl.sum(tl.where(m_seen, density(b_eta, b_y, b_std, LINK, FAST), 0.0), 1)
        if KEEP:
            tl.store(p_e, tl.where(m_seen, slope(b_eta, b_y, b_std, LINK, FAST), 0.0), mask=m)
    tl.store(p_ll + o_t.to(tl.int64) * K + i_k, b_ll, mask=m_t)


@triton.jit(do_not_specialize=["T"])
def weigh_kernel(
    p_eta, p_bias, p_y, p_mask, p_std, p_g, p_deta, p_dbias, T, N: tl.constexpr, K: tl.constexpr,
    SLOPED: tl.constexpr, TURNED: tl.constexpr, MASKED: tl.constexpr, LINK: tl.constexpr,
    FAST: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Derivative of the summed log likelihood by eta, one tile a program.

    p_eta: (T, K, N), its slope already when SLOPED; p_g: (T, K) gradient of the output; p_deta
    written: (K, N, T) when TURNED, else (T, K, N), then it may be p_eta; p_dbias: (programs of
    axis 1, K, N) written, the tile's sum over bins; the others as in ``sum_kernel``.
    """
    n_blocks: tl.constexpr = (N + BN - 1) // BN
    i_k = tl.program_id(0) // n_blocks
    o_t = tl.program_id(1) * BM + tl.arange(0, BM)
    o_n = tl.program_id(0) % n_blocks * BN + tl.arange(0, BN)
    m_t = o_t < T
    m = m_t[:, None] & (o_n < N)[None, :]
    o_e = (o_t.to(tl.int64) * K + i_k)[:, None] * N + o_n[None, :]
    b_d = tl.load(p_eta + o_e, mask=m, other=0.0)
    if not SLOPED:
        b_eta = b_d + tl.load(p_bias + i_k * N + o_n, mask=o_n < N, other=0.0)[None, :]
        b_y, m_seen = load_counts(p_y, p_mask, o_t, o_n, m, N, MASKED)
        b_std = 1.0
        if LINK == "identity":
            b_std = tl.load(p_std + o_n, mask=o_n < N, other=1.0)[None, :]
        b_d = tl.where(m_seen, slope(b_eta, b_y, b_std, LINK, FAST), 0.0)
    b_d *= tl.load(p_g + o_t.to(tl.int64) * K + i_k, mask=m_t, other=0.0)[:, None]
    if TURNED:
        o_e = (i_k * N + o_n).to(tl.int64)[None, :] * T + o_t[:, None]
    tl.store(p_deta + o_e, b_d, mask=m)
    p_sum = p_dbias + (tl.program_id(1) * K + i_k) * N + o_n
    tl.store(p_sum, tl.sum(b_d, 0), mask=o_n < N)
