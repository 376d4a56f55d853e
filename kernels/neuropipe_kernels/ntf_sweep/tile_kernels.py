"""Affinities contracted with a factor: Triton kernels that make X inside the tile.

Legend: X affinities, d derivatives, c factor, y result. Layouts: L rows (an animal at a time),
P pairs, N units, R columns of the factor, S parts of a sum; all contiguous. Pair (i, j), i < j,
has number i (2 N - i - 1) / 2 + j - i - 1.
"""

from __future__ import annotations

import triton
import triton.language as tl

TINY = tl.constexpr(1.1754943508222875e-38)  # smallest normal number


@triton.jit
def _affinity(b_i, b_j, FORM: tl.constexpr):
    """Affinity of broadcast derivatives; geo comes as prod of signed roots."""
    if FORM == "prod":
        return tl.maximum(b_i * b_j, 0.0)
    elif FORM == "minpos":
        return tl.maximum(tl.minimum(b_i, b_j), 0.0)
    else:
        b_low = tl.maximum(tl.minimum(b_i, b_j), 0.0)
        return b_low - tl.minimum(tl.maximum(b_i, b_j), 0.0)


@triton.jit(do_not_specialize=["L"])
def stored_over_pairs(
    p_x, p_c, p_y, L, P, stride, R: tl.constexpr, SHORT: tl.constexpr, PRECISION: tl.constexpr,
    BL: tl.constexpr, BP: tl.constexpr, BR: tl.constexpr,
):  # fmt: skip
    """Sum over every S-th block of pairs.

    p_x: (L, P) float32, or when SHORT bfloat16, rows `stride` apart and readable to their end, so
    that a stride of whole vectors is loaded as such; p_c: (P, R), when SHORT (2, P, R), the factor
    as a sum of two bfloat16; p_y: (S, L, R) written.
    """
    i_s = tl.program_id(1)
    o_l = tl.program_id(0) * BL + tl.arange(0, BL)
    o_r = tl.program_id(2) * BR + tl.arange(0, BR)
    m_l, m_r = o_l < L, o_r < R
    b_y = tl.zeros((BL, BR), tl.float32)
    p_row = p_x + o_l.to(tl.int64)[:, None] * stride
    for p in tl.range(i_s * BP, P, tl.num_programs(1) * BP):
        o_p = p + tl.arange(0, BP)
        m_p = o_p < P
        b_x = tl.load(p_row + o_p[None, :], mask=m_l[:, None] & (o_p < stride)[None, :], other=0)
        b_x = tl.where(m_p[None, :], b_x, tl.zeros_like(b_x))
        p_ct = p_c + o_p.to(tl.int64)[:, None] * R + o_r[None, :]
        b_c = tl.load(p_ct, mask=m_p[:, None] & m_r[None, :], other=0.0)
        # of another type only in the interpreter, which gets the planes as float32
        b_y = tl.dot(b_x.to(b_c.dtype), b_c, b_y, input_precision=PRECISION)
        if SHORT:
            b_c = tl.load(p_ct + P.to(tl.int64) * R, mask=m_p[:, None] & m_r[None, :], other=0.0)
            b_y = tl.dot(b_x.to(b_c.dtype), b_c, b_y, input_precision=PRECISION)
    o_y = (i_s * L + o_l).to(tl.int64)[:, None] * R + o_r[None, :]
    tl.store(p_y + o_y, b_y, mask=m_l[:, None] & m_r[None, :])


@triton.jit(do_not_specialize=["L"])
def stored_over_rows(
    p_x, p_c, p_y, L, P, stride, R: tl.constexpr, SHORT: tl.constexpr, PRECISION: tl.constexpr,
    BL: tl.constexpr, BP: tl.constexpr, BR: tl.constexpr,
):  # fmt: skip
    """Sum over every S-th block of rows.

    p_x and p_c as in ``stored_over_pairs``, p_c with L for P; p_y: (S, P, R) written.
    """
    i_s = tl.program_id(1)
    o_p = tl.program_id(0) * BP + tl.arange(0, BP)
    o_r = tl.program_id(2) * BR + tl.arange(0, BR)
    m_p, m_r = o_p < P, o_r < R
    b_y = tl.zeros((BP, BR), tl.float32)
    for row in tl.range(i_s * BL, L, tl.num_programs(1) * BL):
        o_l = row + tl.arange(0, BL)
        m_l = o_l < L
        p_xt = p_x + o_l.to(tl.int64)[:, None] * stride + o_p[None, :]
        b_x = tl.load(p_xt, mask=m_l[:, None] & (o_p < stride)[None, :], other=0)
        p_ct = p_c + o_l.to(tl.int64)[:, None] * R + o_r[None, :]
        b_c = tl.load(p_ct, mask=m_l[:, None] & m_r[None, :], other=0.0)
        b_xt = tl.trans(b_x.to(b_c.dtype))
        b_y = tl.dot(b_xt, b_c, b_y, input_precision=PRECISION)
        if SHORT:
            b_c = tl.load(p_ct + L.to(tl.int64) * R, mask=m_l[:, None] & m_r[None, :], other=0.0)
            b_y = tl.dot(b_xt, b_c, b_y, input_precision=PRECISION)
    o_y = (i_s.to(tl.int64) * P + o_p)[:, None] * R + o_r[None, :]
    tl.store(p_y + o_y, b_y, mask=m_p[:, None] & m_r[None, :])


@triton.jit(do_not_specialize=["L"])
def made_over_pairs(
    p_d, p_c, p_y, L, N, stride, R: tl.constexpr, FORM: tl.constexpr, PRECISION: tl.constexpr,
    BL: tl.constexpr, BI: tl.constexpr, BJ: tl.constexpr, BR: tl.constexpr,
):  # fmt: skip
    """Sum over the pairs whose first unit lies in every S-th block of BI units.

    p_d: (L, N), rows `stride` apart, zeros between; p_c: (P, R); p_y: (S, L, R) written.
    """
    i_s = tl.program_id(1)
    o_l = tl.program_id(0) * BL + tl.arange(0, BL)
    o_r = tl.program_id(2) * BR + tl.arange(0, BR)
    m_l, m_r = o_l < L, o_r < R
    b_y = tl.zeros((BL, BR), tl.float32)
    p_row = p_d + o_l.to(tl.int64) * stride
    for i in tl.range(i_s * BI, N - 1, tl.num_programs(1) * BI):
        for j in tl.range((i + 1) // BJ * BJ, N, BJ):
            o_j = j + tl.arange(0, BJ)
            m_j = o_j < N
            # one tile of units j serves BI units i
            b_j = tl.load(
                p_row[:, None] + o_j[None, :],
                mask=m_l[:, None] & (o_j < stride)[None, :],
                other=0.0,
            )
            for k in tl.static_range(BI):
                u = i + k
                b_i = tl.load(p_row + u, mask=m_l & (o_l * 0 + u < N), other=0.0)
                b_x = _affinity(b_i[:, None], b_j, FORM)
                o_p = u.to(tl.int64) * (2 * N - u - 1) // 2 + (o_j - u - 1)
                m_p = m_j & (o_j > u)
                b_c = tl.load(
                    p_c + o_p[:, None] * R + o_r[None, :],
                    mask=m_p[:, None] & m_r[None, :],
                    other=0.0,
                )
                b_y = tl.dot(b_x, b_c, b_y, input_precision=PRECISION)
    o_y = (i_s * L + o_l).to(tl.int64)[:, None] * R + o_r[None, :]
    tl.store(p_y + o_y, b_y, mask=m_l[:, None] & m_r[None, :])


@triton.jit
def _store_pairs(p_y, b_y, i, o_j, o_r, m_j, m_r, N, R: tl.constexpr):
    """Write the results of pairs (i, j), j > i; p_y: (P, R)."""
    o_p = i.to(tl.int64) * (2 * N - i - 1) // 2 + (o_j - i - 1)
    m = (m_j & (o_j > i))[:, None] & m_r[None, :]
    tl.store(p_y + o_p[:, None] * R + o_r[None, :], b_y, mask=m)


@triton.jit(do_not_specialize=["L"])
def made_over_rows(
    p_d, p_c, p_y, L, N, stride, n_j, R: tl.constexpr, FORM: tl.constexpr, PRECISION: tl.constexpr,
    BL: tl.constexpr, BJ: tl.constexpr, BR: tl.constexpr,
):  # fmt: skip
    """Sum over every S-th block of rows, for four units i times BJ units j.

    p_d: (N, L), turned, rows `stride` apart, zeros between; p_c: (L, R); p_y: (S, P, R) written.
    """
    i_s = tl.program_id(1)
    i_i, i_j = tl.program_id(0) // n_j * 4, tl.program_id(0) % n_j * BJ
    # blocks on and below the diagonal hold no pair
    if i_j + BJ - 1 > i_i:
        o_j = i_j + tl.arange(0, BJ)
        o_r = tl.program_id(2) * BR + tl.arange(0, BR)
        m_j, m_r = o_j < N, o_r < R
        p_i = p_d + i_i.to(tl.int64) * stride
        p_j = p_d + o_j.to(tl.int64)[:, None] * stride
        b_0 = tl.zeros((BJ, BR), tl.float32)
        b_1 = tl.zeros((BJ, BR), tl.float32)
        b_2 = tl.zeros((BJ, BR), tl.float32)
        b_3 = tl.zeros((BJ, BR), tl.float32)
        for row in tl.range(i_s * BL, L, tl.num_programs(1) * BL):
            o_l = row + tl.arange(0, BL)
            m_l = o_l < L
            # one tile of units j serves four units i
            b_j = tl.load(
                p_j + o_l[None, :], mask=m_j[:, None] & (o_l < stride)[None, :], other=0.0
            )
            p_ct = p_c + o_l.to(tl.int64)[:, None] * R + o_r[None, :]
            b_c = tl.load(p_ct, mask=m_l[:, None] & m_r[None, :], other=0.0)
            b_i = tl.load(p_i + o_l, mask=o_l < stride, other=0.0)
            b_0 = tl.dot(_affinity(b_i[None, :], b_j, FORM), b_c, b_0, input_precision=PRECISION)
            b_i = tl.load(p_i + stride + o_l, mask=(o_l < stride) & (i_i + 1 < N), other=0.0)
            b_1 = tl.dot(_affinity(b_i[None, :], b_j, FORM), b_c, b_1, input_precision=PRECISION)
            b_i = tl.load(p_i + 2 * stride + o_l, mask=(o_l < stride) & (i_i + 2 < N), other=0.0)
            b_2 = tl.dot(_affinity(b_i[None, :], b_j, FORM), b_c, b_2, input_precision=PRECISION)
            b_i = tl.load(p_i + 3 * stride + o_l, mask=(o_l < stride) & (i_i + 3 < N), other=0.0)
            b_3 = tl.dot(_affinity(b_i[None, :], b_j, FORM), b_c, b_3, input_precision=PRECISION)
        p_s = p_y + i_s.to(tl.int64) * (N.to(tl.int64) * (N - 1) // 2) * R
        _store_pairs(p_s, b_0, i_i, o_j, o_r, m_j, m_r, N, R)
        _store_pairs(p_s, b_1, i_i + 1, o_j, o_r, m_j, m_r, N, R)
        _store_pairs(p_s, b_2, i_i + 2, o_j, o_r, m_j, m_r, N, R)
        _store_pairs(p_s, b_3, i_i + 3, o_j, o_r, m_j, m_r, N, R)


@triton.jit(do_not_specialize=["L", "G", "rounds", "floor"])
def update_rows(
    p_m, p_f, p_h, p_group, p_out, L, G, rounds, floor, R: tl.constexpr, BR: tl.constexpr,
    BM: tl.constexpr, GROUPED: tl.constexpr, HALS: tl.constexpr,
):  # fmt: skip
    """Improve BM rows of one start, all rounds in registers.

    p_m, p_f: (K, L, R) product and factor; p_h: (K, G, R, R) Gram matrices; p_group: (L,) int64,
    read when GROUPED; p_out: (K, L, R) written.
    """
    i_k = tl.program_id(1)
    o_l = tl.program_id(0) * BM + tl.arange(0, BM)
    o_r = tl.arange(0, BR)
    m_l, m_r = o_l < L, o_r < R
    m = m_l[:, None] & m_r[None, :]
    o = (i_k.to(tl.int64) * L + o_l)[:, None] * R + o_r[None, :]
    b_m = tl.load(p_m + o, mask=m, other=0.0)
    b_f = tl.load(p_f + o, mask=m, other=0.0)
    b_g = tl.zeros((BM,), tl.int64)
    if GROUPED:
        b_g = tl.load(p_group + o_l, mask=m_l, other=0)
    p_own = p_h + (i_k.to(tl.int64) * G + b_g) * R * R
    b_diag = tl.load(p_own[:, None] + o_r[None, :] * (R + 1), mask=m, other=0.0)
    b_seen = tl.sum(b_diag, 1) > 0
    t = 0
    while t < rounds:
        b_old = b_f
        r = 0
        while r < R:
            b_h = tl.load(p_own[:, None] + r * R + o_r[None, :], mask=m, other=0.0)
            m_c = (o_r == r)[None, :]
            b_mr = tl.sum(tl.where(m_c, b_m, 0.0), 1)
            if HALS:
                b_fr = tl.sum(tl.where(m_c, b_f, 0.0), 1)
                b_below = tl.where(b_seen, tl.sum(tl.where(m_c, b_h, 0.0), 1), 1.0)
                b_gap = b_mr - tl.sum(b_f * b_h, 1)
                b_new = b_fr + b_gap / tl.maximum(b_below, TINY)
            else:
                b_fr = tl.sum(tl.where(m_c, b_old, 0.0), 1)
                b_below = tl.where(b_seen, tl.sum(b_old * b_h, 1), 1.0)
                b_new = b_fr * b_mr / tl.maximum(b_below, TINY)
            b_new = tl.maximum(b_new, floor)
            b_f = tl.where(m_c & b_seen[:, None], b_new[:, None], b_f)
            r += 1
        t += 1
    tl.store(p_out + o, b_f, mask=m)
