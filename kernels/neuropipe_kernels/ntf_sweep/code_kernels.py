"""8-bit codes contracted with a factor: Triton kernels whose products take bytes as they are.

Legend: s codes less 128, f factor, q factor in whole numbers, y result. Layouts: M outputs, K the
axis that is summed, R columns of the factor, S parts of a sum. RP is R in whole blocks of BR, KP
is K in whole blocks of BK.
"""

from __future__ import annotations

import triton
import triton.language as tl

FULL = tl.constexpr(32512)  # 127 * 256: the largest number whose high digit fits a byte


@triton.jit(do_not_specialize=["K"])
def digits(
    p_f, p_peak, p_q, p_sum, K, KP, R: tl.constexpr, BK: tl.constexpr, BR: tl.constexpr
):  # fmt: skip
    """Write a factor as whole numbers q = 256 high + low, and the sum of q in each block.

    p_f: (K, R); p_peak: (R,), the largest size in each column, of which q is FULL; p_q: (RP, 2, KP)
    int8 written, low and high digits from -128 to 127, zero beyond R and K; p_sum: (KP / BK, RP)
    int32 written.
    """
    i_k = tl.program_id(0)
    o_k = i_k * BK + tl.arange(0, BK)
    o_r = tl.program_id(1) * BR + tl.arange(0, BR)
    m_r = o_r < R
    b_f = tl.load(
        p_f + o_k.to(tl.int64)[:, None] * R + o_r[None, :],
        mask=(o_k < K)[:, None] & m_r[None, :],
        other=0.0,
    )
    b_peak = tl.load(p_peak + o_r, mask=m_r, other=0.0)
    b_share = b_f / tl.where(b_peak > 0, b_peak, 1.0)[None, :]
    b_q = tl.floor(b_share * FULL + 0.5).to(tl.int32)
    b_high = (b_q + 128) >> 8
    p_low = p_q + o_r.to(tl.int64)[None, :] * 2 * KP + o_k[:, None]
    tl.store(p_low, (b_q - 256 * b_high).to(tl.int8))
    tl.store(p_low + KP, b_high.to(tl.int8))
    tl.store(p_sum + i_k * (tl.num_programs(1) * BR) + o_r, tl.sum(b_q, 0))


@triton.jit(do_not_specialize=["M", "K", "size"])
def codes_over_line(
    p_x, p_q, p_sum, p_peak, p_y, M, K, KP, stride, readable, size, scale, R: tl.constexpr,
    BM: tl.constexpr, BK: tl.constexpr, BR: tl.constexpr,
):  # fmt: skip
    """Sum (s + 128) f over one part of the contracted axis, `size` blocks of it.

    p_x: (M, K) int8, s, rows `stride` apart, of which `readable` entries may be read, so that a
    stride of whole vectors is loaded as such; p_q, p_sum, p_peak as in ``digits``; p_y: (S, M, R)
    written.
    """
    i_s = tl.program_id(1)
    # programs of the same rows run side by side and share what they load
    i_m, i_r = tl.program_id(0) // tl.cdiv(R, BR), tl.program_id(0) % tl.cdiv(R, BR)
    o_m = i_m * BM + tl.arange(0, BM)
    o_n = i_r * 2 * BR + tl.arange(0, 2 * BR)
    # rows beyond the last are read as the last, and not written
    p_row = p_x + tl.minimum(o_m, M - 1).to(tl.int64)[:, None] * stride
    p_column = p_q + o_n.to(tl.int64)[None, :] * KP
    b_y = tl.zeros((BM, 2 * BR), tl.int32)
    first = i_s * size * BK
    last = tl.minimum(first + size * BK, K)
    for k in tl.range(first, last, BK):
        o_k = k + tl.arange(0, BK)
        # what lies between K and `readable` meets zeros
        b_x = tl.load(p_row + o_k[None, :], mask=(o_k < readable)[None, :], other=0)
        b_q = tl.load(p_column + o_k[:, None])
        b_y = tl.dot(b_x, b_q, b_y, out_dtype=tl.int32)
    o_r = i_r * BR + tl.arange(0, BR)
    b_sum = tl.zeros((BR,), tl.int64)
    for block in tl.range(i_s * size, tl.cdiv(last, BK), 32):
        o_b = block + tl.arange(0, 32)
        p_block = p_sum + o_b[:, None] * (tl.cdiv(R, BR) * BR) + o_r[None, :]
        b_sum += tl.sum(tl.load(p_block, mask=(o_b * BK < last)[:, None], other=0).to(tl.int64), 0)
    # exact to here: the codes' offset takes most of the sum away again
    b_low, b_high = tl.split(tl.reshape(b_y, (BM, BR, 2)))
    b_whole = b_high.to(tl.int64) * 256 + b_low + 128 * b_sum[None, :]
    m_r = o_r < R
    b_step = tl.load(p_peak + o_r, mask=m_r, other=0.0) * (scale / FULL)
    o_y = (i_s.to(tl.int64) * M + o_m)[:, None] * R + o_r[None, :]
    tl.store(p_y + o_y, b_whole.to(tl.float32) * b_step[None, :], mask=(o_m < M)[:, None] & m_r)
