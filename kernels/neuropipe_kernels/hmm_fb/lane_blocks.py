"""What a lane does with a block of bins: likelihoods, transfer matrices, vectors both ways.

Legend and layouts as in ``lane_kernels``. A block is B bins of K values in registers, a tuple of
B * K; a lane that has fewer bins left says how many in ``b_rest``.
"""

# ruff: noqa: RUF005 - unrolled loops grow tuples by adding to them

from __future__ import annotations

import triton
import triton.language as tl

from neuropipe_kernels.lanes import (
    dot,
    load_states,
    mat_vec,
    multiply,
    power_of_two,
    row_max,
    row_sum,
    scale,
    select,
    store_states,
    vec_mat,
)


@triton.jit
def likelihood(b_ll, K: tl.constexpr):
    """Exponentiate a bin's log likelihoods relative to the largest, which is returned too."""
    b_top = row_max(b_ll, K)
    b_e = ()
    for i in tl.static_range(K):
        b_e = b_e + (tl.exp(b_ll[i] - b_top),)
    return b_e, b_top


@triton.jit
def load_block(p_row, step, b_rest, n, TURNED: tl.constexpr, K: tl.constexpr, B: tl.constexpr):
    """Load B bins of each lane, ``step`` values apart, as a tuple of B * K.

    b_rest: [L], how many of them the lane has, or None when it has all.
    """
    b_block = ()
    for i in tl.static_range(B):
        m_bin = None if b_rest is None else i < b_rest
        b_block = b_block + load_states(p_row + i * step, m_bin, n, TURNED, K)
    return b_block


@triton.jit
def store_block(p_row, step, b_block, m_lane, b_rest, n, K: tl.constexpr, B: tl.constexpr):
    """Store B bins of each lane in the turned layout; b_rest: as in ``load_block``."""
    for i in tl.static_range(B):
        m_bin = m_lane if b_rest is None else m_lane & (i < b_rest)
        store_states(p_row + i * step, b_block[i * K : (i + 1) * K], m_bin, n, True, K)


@triton.jit
def advance(b_M, b_log, b_exponent, b_ll, b_P, b_rest, K: tl.constexpr, B: tl.constexpr):
    """One block: M P diag(e) for each bin, with M's scale taken out as a power of two.

    b_rest: as in ``load_block``.
    """
    for t in tl.static_range(B):
        b_e, b_top = likelihood(b_ll[t * K : (t + 1) * K], K)
        b_k, b_factor = power_of_two(row_sum(b_M, K))
        b_e = scale(b_e, b_factor, K)
        b_new = ()
        for i in tl.static_range(K):
            b_new = b_new + multiply(vec_mat(b_M[i * K : (i + 1) * K], b_P, K), b_e, K)
        if b_rest is None:
            b_M, b_log, b_exponent = b_new, b_log + b_top, b_exponent + b_k
        else:
            m_bin = t < b_rest
            b_M = select(m_bin, b_new, b_M, K * K)
            b_log += tl.where(m_bin, b_top, 0.0)
            b_exponent += tl.where(m_bin, b_k, 0)
    return b_M, b_log, b_exponent


@triton.jit
def likelihoods(b_ll, K: tl.constexpr, B: tl.constexpr):
    """Relative likelihoods of the B bins of a block."""
    b_e = ()
    for t in tl.static_range(B):
        b_one, _ = likelihood(b_ll[t * K : (t + 1) * K], K)
        b_e = b_e + b_one
    return b_e


@triton.jit
def filtered(b_a, b_e, b_P, K: tl.constexpr, B: tl.constexpr):
    """One block forward: (a P) e for each bin, with a's sum taken out as a power of two.

    Returns the vectors before each bin and after the last. Bins that a lane lacks are zeros and
    only mix; what follows them is not used.
    """
    b_all = b_a
    for t in tl.static_range(B):
        _, b_factor = power_of_two(row_sum(b_a, K))
        b_new = scale(b_e[t * K : (t + 1) * K], b_factor, K)
        b_a = multiply(vec_mat(b_a, b_P, K), b_new, K)
        b_all = b_all + b_a
    return b_all


@triton.jit
def last_posterior(b_all, b_b, b_rest, K: tl.constexpr, B: tl.constexpr):
    """Posterior of the last bin, ``b_rest`` bins into the block, in the lane of the last chunk.

    Longer chunks come first, so that there ``b_rest`` is below B.
    """
    b_a = b_all[:K]
    for t in tl.static_range(1, B):
        b_a = select(t <= b_rest, b_all[t * K : (t + 1) * K], b_a, K)
    b_g = multiply(b_a, b_b, K)
    return scale(b_g, 1.0 / row_sum(b_g, K), K)


@triton.jit
def smooth(
    p_out, step, b_all, b_b, b_e, b_P, b_count, b_rest, m_lane, n,
    TURNED: tl.constexpr, K: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    """One block backward: store the posterior before each bin; return b and the running count.

    b_all: filtered vectors before each bin; b_rest: [L], bins from which on the lane has none.
    b is kept so that its product with the filtered vector sums to one.
    """
    for t in tl.static_range(B - 1, -1, -1):
        m_bin = t < b_rest
        b_a = b_all[t * K : (t + 1) * K]
        b_u = multiply(b_e[t * K : (t + 1) * K], b_b, K)
        b_new = mat_vec(b_P, b_u, K)
        b_inverse = 1.0 / dot(b_a, b_new, K)
        b_b = select(m_bin, scale(b_new, b_inverse, K), b_b, K)
        b_w = scale(b_u, tl.where(m_bin, b_inverse, 0.0), K)
        store_states(p_out + t * step, multiply(b_a, b_b, K), m_lane & m_bin, n, TURNED, K)
        b_sum = ()
        for i in tl.static_range(K):
            for j in tl.static_range(K):
                b_sum = b_sum + (tl.fma(b_a[i], b_w[j], b_count[i * K + j]),)
        b_count = b_sum
    return b_b, b_count
