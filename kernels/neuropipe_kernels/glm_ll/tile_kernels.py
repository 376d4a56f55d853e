"""Population log likelihood: Triton kernels that never store the linear predictor.

Legend: X features, W weight, eta linear predictor, y counts, z exp(-|eta|). Layouts: T bins,
F features, K states, N neurons, all contiguous.
"""

from __future__ import annotations

import triton
import triton.language as tl

LN2 = tl.constexpr(0.6931471805599453)
LOG2E = tl.constexpr(1.4426950408889634)
# Left of this softplus and its logarithm are series in exp(eta), which keep their digits.
DEEP = tl.constexpr(-3.0)


@triton.jit
def _log(b_x, FAST: tl.constexpr):
    """Natural logarithm; FAST takes the hardware's base-2 logarithm (absolute error 2e-7)."""
    if FAST:
        b_log2 = tl.inline_asm_elementwise(
            "lg2.approx.ftz.f32 $0, $1;", "=f,f", [b_x], tl.float32, is_pure=True, pack=1
        )
        return b_log2 * LN2
    else:
        return tl.log(b_x)


@triton.jit
def _exp(b_x, FAST: tl.constexpr):
    """Exponential; FAST takes the hardware's power of two (relative error 2e-7 per unit)."""
    if FAST:
        return tl.inline_asm_elementwise(
            "ex2.approx.ftz.f32 $0, $1;", "=f,f", [b_x * LOG2E], tl.float32, is_pure=True, pack=1
        )
    else:
        return tl.exp(b_x)


@triton.jit
def _inverse(b_x, FAST: tl.constexpr):
    """Reciprocal of a normal number; FAST takes the hardware's (relative error 1e-7)."""
    if FAST:
        return tl.inline_asm_elementwise(
            "rcp.approx.ftz.f32 $0, $1;", "=f,f", [b_x], tl.float32, is_pure=True, pack=1
        )
    else:
        return 1.0 / b_x


@triton.jit
def _softplus(b_eta, b_z, FAST: tl.constexpr):
    """Softplus, given z = exp(-|eta|)."""
    b_far = tl.maximum(b_eta, 0.0) + _log(1.0 + b_z, FAST)
    b_deep = b_z * (1.0 + b_z * (-1.0 / 2 + b_z * (1.0 / 3 + b_z * (-1.0 / 4 + b_z * 0.2))))
    return tl.where(b_eta < DEEP, b_deep, b_far)


@triton.jit
def _log_softplus(b_eta, b_z, b_rate, FAST: tl.constexpr):
    """Logarithm of softplus, given its value."""
    b_deep = b_eta + b_z * (-0.5 + b_z * (5.0 / 24 + b_z * (-1.0 / 8 + b_z * (251.0 / 2880))))
    return tl.where(b_eta < DEEP, b_deep, _log(b_rate, FAST))


@triton.jit
def _sigmoid(b_eta, b_z, FAST: tl.constexpr):
    """Logistic function, given z = exp(-|eta|)."""
    return tl.where(b_eta < 0, b_z, 1.0) * _inverse(1.0 + b_z, FAST)


@triton.jit
def density(b_eta, b_y, b_std, LINK: tl.constexpr, FAST: tl.constexpr):
    """Log density without the terms that do not depend on eta."""
    if LINK == "identity":
        b_r = (b_y - b_eta) / b_std
        return -0.5 * b_r * b_r
    elif LINK == "exp":
        return b_y * b_eta - tl.exp(b_eta)
    else:
        b_z = _exp(-tl.abs(b_eta), FAST)
        if LINK == "bernoulli":
            return b_y * b_eta - _softplus(b_eta, b_z, FAST)
        elif LINK == "sigmoid":
            # log sigmoid(eta) = eta - softplus(eta)
            b_log = b_eta - _softplus(b_eta, b_z, FAST)
            return b_y * b_log - _sigmoid(b_eta, b_z, FAST)
        else:
            b_rate = _softplus(b_eta, b_z, FAST)
            return b_y * _log_softplus(b_eta, b_z, b_rate, FAST) - b_rate


@triton.jit
def slope(b_eta, b_y, b_std, LINK: tl.constexpr, FAST: tl.constexpr):
    """Derivative of the log density by eta."""
    if LINK == "identity":
        return (b_y - b_eta) / (b_std * b_std)
    elif LINK == "exp":
        return b_y - tl.exp(b_eta)
    else:
        b_z = _exp(-tl.abs(b_eta), FAST)
        b_s = _sigmoid(b_eta, b_z, FAST)
        if LINK == "bernoulli":
            return b_y - b_s
        elif LINK == "sigmoid":
            b_1_s = tl.where(b_eta < 0, 1.0, b_z) * _inverse(1.0 + b_z, FAST)
            return b_1_s * (b_y - b_s)
        else:
            # Where softplus is no normal number its ratio to sigmoid is 1.
            b_rate = tl.maximum(_softplus(b_eta, b_z, FAST), 1e-30)
            b_ratio = b_s * _inverse(b_rate, FAST)
            b_ratio = tl.where((b_z < 1e-30) & (b_eta < 0), 1.0, b_ratio)
            return b_y * b_ratio - b_s


@triton.jit
def _predict(
    p_x, p_w, p_bias, o_t, o_n, m_t, i_k,
    N: tl.constexpr, F: tl.constexpr, BF: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One tile of eta: [BM, BN]; p_x: (T, F); p_w: (K, N, F); p_bias: (K, N)."""
    o_f = tl.arange(0, BF)
    m_n = o_n < N
    p_xt = p_x + o_t.to(tl.int64)[:, None] * F + o_f[None, :]
    p_wt = p_w + (i_k * N + o_n)[None, :] * F + o_f[:, None]
    b_eta = tl.zeros((o_t.shape[0], o_n.shape[0]), tl.float32)
    for f in tl.range(0, F, BF):
        if F % BF == 0:
            b_x = tl.load(p_xt + f, mask=m_t[:, None], other=0.0)
            b_w = tl.load(p_wt + f, mask=m_n[None, :], other=0.0)
        else:
            m_f = f + o_f < F
            b_x = tl.load(p_xt + f, mask=m_t[:, None] & m_f[None, :], other=0.0)
            b_w = tl.load(p_wt + f, mask=m_n[None, :] & m_f[:, None], other=0.0)
        b_eta = tl.dot(b_x, b_w, b_eta, input_precision=PRECISION)
    return b_eta + tl.load(p_bias + i_k * N + o_n, mask=m_n, other=0.0)[None, :]


@triton.jit
def load_counts(p_y, p_mask, o_t, o_n, m, N: tl.constexpr, MASKED: tl.constexpr):
    """Counts of a tile [BM, BN], and where they were observed; p_y, p_mask: (T, N)."""
    o_y = o_t.to(tl.int64)[:, None] * N + o_n[None, :]
    if MASKED:
        m = m & (tl.load(p_mask + o_y, mask=m, other=0) != 0)
    return tl.load(p_y + o_y, mask=m, other=0.0), m


@triton.jit(do_not_specialize=["T"])
def ll_kernel(
    p_x, p_w, p_bias, p_y, p_mask, p_std, p_const, p_ll, T,
    N: tl.constexpr, K: tl.constexpr, F: tl.constexpr, MASKED: tl.constexpr,
    LINK: tl.constexpr, PRECISION: tl.constexpr, FAST: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BF: tl.constexpr,
):  # fmt: skip
    """Log likelihood of BM bins under one state, summed over neurons.

    p_x: (T, F); p_w: (K, N, F); p_bias: (K, N); p_y: (T, N) counts; p_mask: (T, N) uint8,
    not read unless MASKED; p_std: (N,), read for LINK identity only; p_const: (T,) sum of the
    terms without eta; p_ll: (T, K) written.
    """
    # States are the fast axis, so that programs side by side share their features in cache.
    i_k = tl.program_id(0)
    o_t = tl.program_id(1) * BM + tl.arange(0, BM)
    m_t = o_t < T
    b_ll = tl.load(p_const + o_t, mask=m_t, other=0.0)
    for n in tl.range(0, N, BN):
        o_n = n + tl.arange(0, BN)
        b_eta = _predict(p_x, p_w, p_bias, o_t, o_n, m_t, i_k, N, F, BF, PRECISION)
        m = m_t[:, None] & (o_n < N)[None, :]
        b_y, m = load_counts(p_y, p_mask, o_t, o_n, m, N, MASKED)
        b_std = 1.0
        if LINK == "identity":
            b_std = tl.load(p_std + o_n, mask=o_n < N, other=1.0)[None, :]
        b_ll += tl.sum(tl.where(m, density(b_eta, b_y, b_std, LINK, FAST), 0.0), 1)
    tl.store(p_ll + o_t.to(tl.int64) * K + i_k, b_ll, mask=m_t)


@triton.jit(do_not_specialize=["T"])
def slope_kernel(
    p_x, p_w, p_bias, p_y, p_mask, p_std, p_g, p_deta, p_dbias, T,
    N: tl.constexpr, K: tl.constexpr, F: tl.constexpr, MASKED: tl.constexpr,
    LINK: tl.constexpr, PRECISION: tl.constexpr, FAST: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BF: tl.constexpr,
):  # fmt: skip
    """Derivative of the summed log likelihood by eta, one tile a program.

    Inputs as in ``ll_kernel``; p_g: (T, K) gradient of the output; p_deta: (T, K, N) written;
    p_dbias: (programs of axis 1, K, N) written, the tile's sum over bins.
    """
    n_blocks: tl.constexpr = (N + BN - 1) // BN
    i_k = tl.program_id(0) // n_blocks
    o_t = tl.program_id(1) * BM + tl.arange(0, BM)
    o_n = tl.program_id(0) % n_blocks * BN + tl.arange(0, BN)
    m_t = o_t < T
    b_eta = _predict(p_x, p_w, p_bias, o_t, o_n, m_t, i_k, N, F, BF, PRECISION)
    m_out = m_t[:, None] & (o_n < N)[None, :]
    b_y, m = load_counts(p_y, p_mask, o_t, o_n, m_out, N, MASKED)
    b_std = 1.0
    if LINK == "identity":
        b_std = tl.load(p_std + o_n, mask=o_n < N, other=1.0)[None, :]
    b_g = tl.load(p_g + o_t.to(tl.int64) * K + i_k, mask=m_t, other=0.0)
    b_d = tl.where(m, b_g[:, None] * slope(b_eta, b_y, b_std, LINK, FAST), 0.0)
    o_out = (o_t.to(tl.int64)[:, None] * K + i_k) * N + o_n[None, :]
    tl.store(p_deta + o_out, b_d, mask=m_out)
    p_sum = p_dbias + (tl.program_id(1) * K + i_k) * N + o_n
    tl.store(p_sum, tl.sum(b_d, 0), mask=o_n < N)


@triton.jit(do_not_specialize=["T"])
def constant_kernel(
    p_y, p_mask, p_std, p_const, T, N: tl.constexpr, MASKED: tl.constexpr,
    FAMILY: tl.constexpr, FAST: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """Sum over neurons of the terms without eta.

    p_y: (T, N); p_mask: (T, N) uint8, not read unless MASKED; p_std: (N,), read for FAMILY
    gaussian only; p_const: (T,) written.
    """
    o_t = tl.program_id(0) * BM + tl.arange(0, BM)
    m_t = o_t < T
    b_sum = tl.zeros((BM,), tl.float32)
    for n in tl.range(0, N, BN):
        o_n = n + tl.arange(0, BN)
        m = m_t[:, None] & (o_n < N)[None, :]
        o_y = o_t.to(tl.int64)[:, None] * N + o_n[None, :]
        if MASKED:
            m = m & (tl.load(p_mask + o_y, mask=m, other=0) != 0)
        if FAMILY == "poisson":
            # Stirling's series of lgamma(y + 5) less the log of (y + 1) ... (y + 4).
            b_y = tl.load(p_y + o_y, mask=m, other=0.0)
            b_x = b_y + 5.0
            b_r = 1.0 / b_x
            b_q = b_r * b_r
            b_tail = b_r * (1.0 / 12 + b_q * (-1.0 / 360 + b_q * (1.0 / 1260)))
            b_shift = _log((b_y + 1.0) * (b_y + 2.0) * ((b_y + 3.0) * (b_y + 4.0)), FAST)
            b_c = b_shift - ((b_x - 0.5) * _log(b_x, FAST) - b_x + 0.9189385332046727 + b_tail)
            b_c = tl.where((b_y == 0.0) | (b_y == 1.0), 0.0, b_c)
        else:
            b_std = tl.load(p_std + o_n, mask=o_n < N, other=1.0)
            b_c = -tl.log(b_std)[None, :] - 0.9189385332046727
        b_sum += tl.sum(tl.where(m, b_c, 0.0), 1)
    tl.store(p_const + o_t, b_sum, mask=m_t)
