"""Expected Poisson term and all its gradients: one Triton kernel, one tile of rates at a time.

Legend: z and v mean and variance of the latents, W loadings, b offset, y counts, R rates. With
L = [z v], U = [W, W o W / 2], Ly = [z 1], Uy = [W b]:

    R = exp(L U' + b)          term = sum R - Ly . (y Uy)
    d L = R U - y [W 0]        d U = R' L - y' [z 0]       d W = d z part + W o d v part

Layouts: M bins, N neurons, P latents, I programs, all contiguous. Columns of the tiles alternate:
2 p is of the mean, 2 p + 1 of the variance of latent p, so that neighbours in registers part them.
"""

from __future__ import annotations

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def _short(b_x, EMULATE: tl.constexpr):
    """Round to bfloat16; the interpreter cuts instead, and multiplies wrongly: float32 for it."""
    if EMULATE:
        b_bits = b_x.to(tl.int32, bitcast=True)
        b_bits = (b_bits + 0x7FFF + ((b_bits >> 16) & 1)) & -65536
        return b_bits.to(tl.float32, bitcast=True)
    else:
        return b_x.to(tl.bfloat16)


@triton.jit
def _halves(b_x, EMULATE: tl.constexpr):
    """Write float32 as a sum of two bfloat16; the first is rounded as an integer, which is fast."""
    b_high = ((b_x.to(tl.int32, bitcast=True) + 0x8000) & -65536).to(tl.float32, bitcast=True)
    return _short(b_high, EMULATE), _short(b_x - b_high, EMULATE)


@triton.jit
def _number(b_y):
    """Convert counts to float32, those of one byte as the last bits of 2 ** 23 + count."""
    if b_y.dtype == tl.uint8:
        return (b_y.to(tl.int32) | 0x4B000000).to(tl.float32, bitcast=True) - 8388608.0
    else:
        return b_y.to(tl.float32)


@triton.jit
def _dot(b_x, b_x_low, b_y, b_y_low, b_sum, WHOLE: tl.constexpr):
    """Add a product of float32 factors in halves; WHOLE: the first one has no low half."""
    if not WHOLE:
        b_sum = tl.dot(b_x_low, b_y, b_sum)
    b_sum = tl.dot(b_x, b_y_low, b_sum)
    return tl.dot(b_x, b_y, b_sum)


@triton.jit
def _parts(b_x):
    """Write float32 as a sum of two tf32, the first one by cutting."""
    b_first = (b_x.to(tl.int32, bitcast=True) & -8192).to(tl.float32, bitcast=True)
    return b_first, b_x - b_first


@triton.jit
def _exp2(b_x, EMULATE: tl.constexpr):
    """Power of two by the hardware (relative error 2e-7 per unit); below 1e-38 it is zero."""
    if EMULATE:
        return tl.exp2(b_x)
    else:
        return tl.inline_asm_elementwise(
            "ex2.approx.ftz.f32 $0, $1;", "=f,f", [b_x], tl.float32, is_pure=True, pack=1
        )


@triton.jit
def _parted(b_x, BP: tl.constexpr):
    """Part the alternating columns of (rows, 2 BP): those of the mean, those of the variance."""
    return tl.split(tl.reshape(b_x, (b_x.shape[0], BP, 2)))


@triton.jit
def _load(
    p_w, p_b, p_y, o_m, m_m, n, N, P: tl.constexpr, BN: tl.constexpr, BP: tl.constexpr
):  # fmt: skip
    """Load loadings, offsets and counts of a tile; a neuron beyond the last one has no rate."""
    o_n = n + tl.arange(0, BN)
    m_n = o_n < N
    o_p = tl.arange(0, 2 * BP) // 2
    o_np = o_n[:, None] * P + o_p[None, :]
    o_mn = o_m.to(tl.int64)[:, None] * N + o_n[None, :]
    b_w = tl.load(p_w + o_np, mask=m_n[:, None] & (o_p < P)[None, :], other=0.0)
    b_b = tl.load(p_b + o_n, mask=m_n, other=float("-inf"))
    b_y = tl.load(p_y + o_mn, mask=m_m[:, None] & m_n[None, :], other=0)
    return b_w, b_b, b_y


@triton.jit(do_not_specialize=["M"])
def nll_kernel(
    p_z, p_v, p_w, p_b, p_y, p_g, p_nll, p_dz, p_dv, p_dw, p_db, M, N,
    P: tl.constexpr, SPREAD: tl.constexpr, WEIGHTED: tl.constexpr, GRADIENT: tl.constexpr,
    WHOLE: tl.constexpr, EMULATE: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BP: tl.constexpr, AHEAD: tl.constexpr,
):  # fmt: skip
    """Sum BM bins over neurons, and with GRADIENT differentiate in the same tile.

    p_z: (M, P); p_v: (M, P), not read unless SPREAD; p_w: (N, P); p_b: (N,); p_y: (M, N) of any
    number type, WHOLE where bfloat16 holds it exactly; p_g: (M,) what each bin counts, not read
    unless WEIGHTED, and where it is zero nothing of that bin is read; p_nll: (M,) written.
    Written with GRADIENT only: p_dz: (M, P); p_dv: (M, P), with SPREAD; p_dw: (I, N, P) and
    p_db: (I, N), the program's part of a sum.
    """
    i_m = tl.program_id(0)
    o_m = i_m * BM + tl.arange(0, BM)
    o_q = tl.arange(0, 2 * BP)
    o_p = o_q // 2
    m_m = o_m < M
    m_z = (o_p < P) & (o_q % 2 == 0)
    m_v = (o_p < P) & (o_q % 2 == 1)
    b_g = tl.where(m_m, 1.0, 0.0)
    if WEIGHTED:
        b_g = tl.load(p_g + o_m, mask=m_m, other=0.0)
        m_m = m_m & (b_g != 0.0)
    o_mp = o_m.to(tl.int64)[:, None] * P + o_p[None, :]
    b_z = tl.load(p_z + o_mp, mask=m_m[:, None] & m_z[None, :], other=0.0)
    b_ly = b_z + m_m.to(tl.float32)[:, None] * (o_q == 1).to(tl.float32)[None, :]
    b_l = b_z
    if SPREAD:
        b_l += tl.load(p_v + o_mp, mask=m_m[:, None] & m_v[None, :], other=0.0)
    b_nll = tl.zeros((BM,), tl.float32)
    b_ru = tl.zeros((BM, 2 * BP), tl.float32)  # R U
    b_yu = tl.zeros((BM, 2 * BP), tl.float32)  # y Uy
    b_lh, b_ll = _halves(b_l * b_g[:, None], EMULATE)
    b_lyh, b_lyl = _halves(b_ly * b_g[:, None], EMULATE)
    b_first, b_rest = _parts(b_l)
    if AHEAD:
        b_w_next, b_b_next, b_y_next = _load(p_w, p_b, p_y, o_m, m_m, 0, N, P, BN, BP)
    n = 0
    while n < N:
        if AHEAD:  # the next tile is on its way meanwhile
            b_w, b_b, b_y = b_w_next, b_b_next, b_y_next
            b_w_next, b_b_next, b_y_next = _load(p_w, p_b, p_y, o_m, m_m, n + BN, N, P, BN, BP)
        else:
            b_w, b_b, b_y = _load(p_w, p_b, p_y, o_m, m_m, n, N, P, BN, BP)
        o_n = n + tl.arange(0, BN)
        m_n = o_n < N
        b_u = tl.where((o_q % 2 == 0)[None, :], b_w, 0.5 * b_w * b_w)
        b_uy = tl.where(m_z[None, :], b_w, 0.0)
        b_uy = tl.where((o_q == 1)[None, :] & m_n[:, None], b_b[:, None], b_uy)
        b_y = _number(b_y)
        if WHOLE:
            b_y = _short(b_y, EMULATE)
            b_y_low = b_y
        else:
            b_y, b_y_low = _halves(b_y, EMULATE)
        b_uf, b_ur = _parts(tl.trans(b_u * LOG2E))
        b_log2 = tl.dot(b_rest, b_uf, input_precision="tf32")
        b_log2 = tl.dot(b_first, b_ur, b_log2, input_precision="tf32")
        b_log2 = tl.dot(b_first, b_uf, b_log2, input_precision="tf32")
        b_r = _exp2(b_log2 + (b_b * LOG2E)[None, :], EMULATE)
        b_nll += tl.sum(b_r, 1)
        b_uh, b_ul = _halves(b_uy, EMULATE)
        b_yu = _dot(b_y, b_y_low, b_uh, b_ul, b_yu, WHOLE)
        if GRADIENT:
            b_rh, b_rl = _halves(b_r, EMULATE)
            b_uh, b_ul = _halves(b_u, EMULATE)
            b_ru = _dot(b_rh, b_rl, b_uh, b_ul, b_ru, False)
            b_zero = tl.zeros((BN, 2 * BP), tl.float32)
            b_du = _dot(tl.trans(b_rh), tl.trans(b_rl), b_lh, b_ll, b_zero, False)
            b_dy = _dot(tl.trans(b_y), tl.trans(b_y_low), b_lyh, b_lyl, b_zero, WHOLE)
            b_z_part, b_v_part = _parted(b_du - tl.where(m_z[None, :], b_dy, 0.0), BP)
            o_k = tl.arange(0, BP)
            m_np = m_n[:, None] & (o_k < P)[None, :]
            b_own, _ = _parted(b_w, BP)
            o_part = i_m.to(tl.int64) * N
            p_part = p_dw + o_part * P + o_n[:, None] * P + o_k[None, :]
            tl.store(p_part, b_z_part + b_own * b_v_part, mask=m_np)
            b_db = tl.sum(b_r * b_g[:, None], 0)
            b_db -= tl.sum(tl.where((o_q == 1)[None, :], b_dy, 0.0), 1)
            tl.store(p_db + o_part + o_n, b_db, mask=m_n)
        n += BN
    b_nll -= tl.sum(b_ly * b_yu, 1)
    m_m = o_m < M
    tl.store(p_nll + o_m, b_nll * b_g, mask=m_m)
    if GRADIENT:
        b_dl = (b_ru - tl.where(m_z[None, :], b_yu, 0.0)) * b_g[:, None]
        b_dz, b_dv = _parted(b_dl, BP)
        o_k = tl.arange(0, BP)
        o_mk = o_m.to(tl.int64)[:, None] * P + o_k[None, :]
        m_mk = m_m[:, None] & (o_k < P)[None, :]
        tl.store(p_dz + o_mk, b_dz, mask=m_mk)
        if SPREAD:
            tl.store(p_dv + o_mk, b_dv, mask=m_mk)
