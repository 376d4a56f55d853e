"""Small vectors and matrices held as tuples of registers: one lane of a warp is one chunk of time.

A K-vector is a tuple of K blocks of shape [L], a K x K matrix a tuple of K * K such blocks,
row by row. Every loop over states is unrolled at compile time, so products need neither
shared memory nor shuffles; this pays for up to 8 states.
"""

# ruff: noqa: RUF005 - unrolled loops grow tuples by adding to them

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _load_1(p_row, m_lane):
    """Load one value a lane; zero in lanes outside ``m_lane``, which may be None."""
    return tl.load(p_row) if m_lane is None else tl.load(p_row, mask=m_lane, other=0.0)


@triton.jit
def _load_4(p_row, m_lane):
    """Load four neighbours a lane in one 16-byte (float32) access; p_row: [L] pointers."""
    p_4 = p_row[:, None] + tl.arange(0, 4)[None, :]
    b_x = tl.load(p_4) if m_lane is None else tl.load(p_4, mask=m_lane[:, None], other=0.0)
    b_even, b_odd = tl.split(tl.reshape(b_x, (b_x.shape[0], 2, 2)))
    b_0, b_2 = tl.split(b_even)
    b_1, b_3 = tl.split(b_odd)
    return (b_0, b_1, b_2, b_3)


@triton.jit
def _store_4(p_row, b_0, b_1, b_2, b_3, m_lane):
    """Store four neighbours a lane in one access; p_row: [L] pointers."""
    b_x = tl.join(tl.join(b_0, b_2), tl.join(b_1, b_3))
    b_x = tl.reshape(b_x, (b_0.shape[0], 4))
    tl.store(p_row[:, None] + tl.arange(0, 4)[None, :], b_x, mask=m_lane[:, None])


@triton.jit
def load_row(p_row, N: tl.constexpr, m_lane=None):
    """Load N neighbours a lane as a tuple; p_row: [L] pointers to the first one.

    m_lane: [L], lanes that load (the others get zeros), or None for all.
    """
    b_row = ()
    if N % 4 == 0:
        for i in tl.static_range(0, N, 4):
            b_row = b_row + _load_4(p_row + i, m_lane)
    else:
        for i in tl.static_range(N):
            b_row = b_row + (_load_1(p_row + i, m_lane),)
    return b_row


@triton.jit
def store_row(p_row, b_row, m_lane, N: tl.constexpr):
    """Store a tuple of N blocks as N neighbours a lane; p_row: [L] pointers."""
    if N % 4 == 0:
        for i in tl.static_range(0, N, 4):
            _store_4(p_row + i, b_row[i], b_row[i + 1], b_row[i + 2], b_row[i + 3], m_lane)
    else:
        for i in tl.static_range(N):
            tl.store(p_row + i, b_row[i], mask=m_lane)


@triton.jit
def load_states(p_row, m_lane, n, TURNED: tl.constexpr, K: tl.constexpr):
    """Load one bin of each lane as a tuple; states lie n apart when TURNED, else side by side.

    m_lane: as in ``load_row``.
    """
    if TURNED:
        b_row = ()
        for i in tl.static_range(K):
            b_row = b_row + (_load_1(p_row + i * n, m_lane),)
        return b_row
    else:
        return load_row(p_row, K, m_lane)


@triton.jit
def store_states(p_row, b_row, m_lane, n, TURNED: tl.constexpr, K: tl.constexpr):
    """Store one bin of each lane; the layouts of ``load_states``."""
    if TURNED:
        for i in tl.static_range(K):
            tl.store(p_row + i * n, b_row[i], mask=m_lane)
    else:
        store_row(p_row, b_row, m_lane, K)


@triton.jit
def load_table(p_table, N: tl.constexpr):
    """Load N scalars as a tuple; p_table: scalar pointer."""
    b_table = ()
    for i in tl.static_range(N):
        b_table = b_table + (tl.load(p_table + i),)
    return b_table


@triton.jit
def fill(b_like, VALUE: tl.constexpr, N: tl.constexpr):
    """Return N blocks of one value, shaped as ``b_like``."""
    b_row = ()
    for _ in tl.static_range(N):
        b_row = b_row + (tl.zeros_like(b_like) + VALUE,)
    return b_row


@triton.jit
def select(m_lane, b_new, b_old, N: tl.constexpr):
    """Take ``b_new`` in lanes of the mask and ``b_old`` elsewhere, element by element."""
    b_row = ()
    for i in tl.static_range(N):
        b_row = b_row + (tl.where(m_lane, b_new[i], b_old[i]),)
    return b_row


@triton.jit
def row_max(b_x, N: tl.constexpr):
    """Largest of N blocks."""
    b_top = b_x[0]
    for i in tl.static_range(1, N):
        b_top = tl.maximum(b_top, b_x[i])
    return b_top


@triton.jit
def row_sum(b_x, N: tl.constexpr):
    """Sum of N blocks."""
    b_sum = b_x[0]
    for i in tl.static_range(1, N):
        b_sum += b_x[i]
    return b_sum


@triton.jit
def scale(b_x, b_factor, N: tl.constexpr):
    """Multiply N blocks by one."""
    b_row = ()
    for i in tl.static_range(N):
        b_row = b_row + (b_x[i] * b_factor,)
    return b_row


@triton.jit
def multiply(b_x, b_y, N: tl.constexpr):
    """Multiply two tuples of N blocks element by element."""
    b_row = ()
    for i in tl.static_range(N):
        b_row = b_row + (b_x[i] * b_y[i],)
    return b_row


@triton.jit
def dot(b_x, b_y, N: tl.constexpr):
    """Inner product of two tuples of N blocks."""
    b_sum = b_x[0] * b_y[0]
    for i in tl.static_range(1, N):
        b_sum = tl.fma(b_x[i], b_y[i], b_sum)
    return b_sum


@triton.jit
def vec_mat(b_v, b_m, K: tl.constexpr):
    """Row vector times matrix."""
    b_row = ()
    for j in tl.static_range(K):
        b_sum = b_v[0] * b_m[j]
        for i in tl.static_range(1, K):
            b_sum = tl.fma(b_v[i], b_m[i * K + j], b_sum)
        b_row = b_row + (b_sum,)
    return b_row


@triton.jit
def mat_vec(b_m, b_v, K: tl.constexpr):
    """Matrix times column vector."""
    b_row = ()
    for i in tl.static_range(K):
        b_sum = b_m[i * K] * b_v[0]
        for j in tl.static_range(1, K):
            b_sum = tl.fma(b_m[i * K + j], b_v[j], b_sum)
        b_row = b_row + (b_sum,)
    return b_row


@triton.jit
def mat_mat(b_x, b_y, K: tl.constexpr):
    """Matrix times matrix."""
    b_m = ()
    for i in tl.static_range(K):
        for j in tl.static_range(K):
            b_sum = b_x[i * K] * b_y[j]
            for k in tl.static_range(1, K):
                b_sum = tl.fma(b_x[i * K + k], b_y[k * K + j], b_sum)
            b_m = b_m + (b_sum,)
    return b_m


@triton.jit
def max_mat(b_x, b_y, K: tl.constexpr):
    """Matrix times matrix in max-plus algebra."""
    b_m = ()
    for i in tl.static_range(K):
        for j in tl.static_range(K):
            b_top = b_x[i * K] + b_y[j]
            for k in tl.static_range(1, K):
                b_top = tl.maximum(b_top, b_x[i * K + k] + b_y[k * K + j])
            b_m = b_m + (b_top,)
    return b_m


@triton.jit
def max_vec(b_v, b_m, K: tl.constexpr):
    """Row vector times matrix in max-plus algebra."""
    b_row = ()
    for j in tl.static_range(K):
        b_top = b_v[0] + b_m[j]
        for i in tl.static_range(1, K):
            b_top = tl.maximum(b_top, b_v[i] + b_m[i * K + j])
        b_row = b_row + (b_top,)
    return b_row


@triton.jit
def power_of_two(b_x):
    """Split positive ``b_x``: its exponent k (int32) and the factor 2^-k.

    Rescaling by powers of two is exact and needs no logarithm; the exponents add up as
    integers.
    """
    if b_x.dtype == tl.float64:
        b_k = ((b_x.to(tl.int64, bitcast=True) >> 52) - 1023).to(tl.int32)
        b_factor = ((1023 - b_k).to(tl.int64) << 52).to(tl.float64, bitcast=True)
    else:
        b_k = (b_x.to(tl.int32, bitcast=True) >> 23) - 127
        b_factor = ((127 - b_k) << 23).to(tl.float32, bitcast=True)
    return b_k, b_factor


@triton.jit
def chunk_bounds(i_chunk, n_chunks, n_bins):
    """First bin before a chunk and its size, for ``n_bins`` (int64) split evenly.

    A chunk starts at bin ``start + 1``; bin 0 is the sequence's initial value. Sizes differ
    by at most one, the longer chunks come first.
    """
    n_full = (n_bins - 1) // n_chunks
    n_longer = n_bins - 1 - n_full * n_chunks
    o_start = i_chunk * n_full + tl.minimum(i_chunk, n_longer)
    return o_start, n_full + (i_chunk < n_longer).to(tl.int64)


@triton.jit(do_not_specialize=["T", "n", "n_rows"])
def unturn_kernel(
    p_turned, p_flat, p_lengths, T, n, n_rows,
    RAGGED: tl.constexpr, K: tl.constexpr, W: tl.constexpr, L: tl.constexpr,
):  # fmt: skip
    """Put values stored chunk beside chunk back in the order of bins, one tile a program.

    p_turned: (S, n_rows, K, n), row 0 belongs to the bin before the chunk; p_flat: (S, T, K)
    written but for the last bin; p_lengths: (S,) int64, not read unless RAGGED.
    """
    i_s = tl.program_id(2).to(tl.int64)
    i_chunk = tl.program_id(0) * L + tl.arange(0, L)
    n_bins = tl.load(p_lengths + i_s) if RAGGED else T.to(tl.int64)
    o_start, o_size = chunk_bounds(i_chunk, n, n_bins)
    o_row = tl.program_id(1) * W + tl.arange(0, W)  # bin of the chunk, state
    m = (i_chunk < n)[:, None] & (o_row[None, :] < (o_size * K)[:, None])
    p_out = p_flat + ((i_s * T + o_start) * K)[:, None] + o_row[None, :]
    p_in = p_turned + (i_s * n_rows * K + o_row)[None, :] * n + i_chunk[:, None]
    tl.store(p_out, tl.load(p_in, mask=m), mask=m)
