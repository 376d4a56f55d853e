"""Second-order sections in Triton: one lane is one channel, one program one chunk of time.

Legend: z the 2 S delays of S sections, A their transition without input, M a power of A,
e what a chunk adds to z. Layouts: T bins, C channels, n chunks of SIZE bins (the last ones
shorter or empty), D = 2 S, all contiguous, channels side by side. Float64 throughout but for
the signal itself.
"""

# ruff: noqa: RUF005 - unrolled loops grow tuples by adding to them

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def load_sections(p_sos, S: tl.constexpr):
    """Load b0 b1 b2 a1 a2 of every section as 5 S scalars; p_sos: (S, 6) float64."""
    b_c = ()
    for s in tl.static_range(S):
        for i in tl.static_range(6):
            if i != 3:
                b_c = b_c + (tl.load(p_sos + 6 * s + i),)
    return b_c


@triton.jit
def step(b_x, b_z, b_c, S: tl.constexpr):
    """Pass one sample through the cascade: what leaves it, and the next state."""
    b_next = ()
    for s in tl.static_range(S):
        b_y = b_c[5 * s] * b_x + b_z[2 * s]
        b_next = b_next + (
            b_c[5 * s + 1] * b_x - b_c[5 * s + 3] * b_y + b_z[2 * s + 1],
            b_c[5 * s + 2] * b_x - b_c[5 * s + 4] * b_y,
        )
        b_x = b_y
    return b_x, b_next


@triton.jit
def load_state(p_z, C, m_lane, D: tl.constexpr):
    """Load D delays a lane, C apart."""
    b_z = ()
    for i in tl.static_range(D):
        b_z = b_z + (tl.load(p_z + i * C, mask=m_lane, other=0.0),)
    return b_z


@triton.jit
def store_state(p_z, b_z, C, m_lane, D: tl.constexpr):
    """Store D delays a lane, C apart."""
    for i in tl.static_range(D):
        tl.store(p_z + i * C, b_z[i], mask=m_lane)


@triton.jit
def add_response(p_M, b_z, b_e, D: tl.constexpr):
    """Return M z + e; M is block lower triangular, since a section hears only earlier ones."""
    b_out = ()
    for i in tl.static_range(D):
        b_sum = b_e[i]
        for j in tl.static_range(D):
            if j // 2 <= i // 2:
                b_sum += tl.load(p_M + i * D + j) * b_z[j]
        b_out = b_out + (b_sum,)
    return b_out


@triton.jit
def _product(b_x, b_y):
    """Product of two square tiles, in float64, which ``tl.dot`` lacks below 16 rows."""
    return tl.sum(b_x[:, :, None] * b_y[None, :, :], 1)


@triton.jit
def _power(b_m, k, b_one):
    """Tile to the power k by squaring."""
    b_out = b_one
    while k > 0:
        if k % 2 == 1:
            b_out = _product(b_out, b_m)
        b_m = _product(b_m, b_m)
        k = k // 2
    return b_out


@triton.jit(do_not_specialize=["SIZE", "G0", "G1"])
def power_kernel(p_sos, p_M, SIZE, G0, G1, S: tl.constexpr, DP: tl.constexpr):
    """Transitions over one chunk, over G0 chunks and over G0 * G1 chunks; a single program.

    p_sos: (S, 6) float64; p_M: (3, D, D) float64 written. DP is D raised to a power of 2.
    """
    D: tl.constexpr = 2 * S
    b_c = load_sections(p_sos, S)
    o_col = tl.arange(0, DP)
    o_row = o_col[:, None]
    m_in = (o_row < D) & (o_col[None, :] < D)
    b_z = ()
    for i in tl.static_range(D):
        b_z = b_z + ((o_col == i).to(tl.float64),)
    # Lane j starts from unit state j, so after a silent sample it holds column j of A.
    _, b_z = step(tl.zeros((DP,), tl.float64), b_z, b_c, S)
    b_one = (o_row == o_col[None, :]).to(tl.float64)
    b_M = tl.zeros((DP, DP), tl.float64)
    for i in tl.static_range(D):
        b_M = tl.where(o_row == i, b_z[i][None, :], b_M)
    p_out = p_M + o_row * D + o_col[None, :]
    b_M = _power(b_M, SIZE, b_one)
    tl.store(p_out, b_M, mask=m_in)
    b_M = _power(b_M, G0, b_one)
    tl.store(p_out + D * D, b_M, mask=m_in)
    b_M = _power(b_M, G1, b_one)
    tl.store(p_out + 2 * D * D, b_M, mask=m_in)


@triton.jit(do_not_specialize=["T", "C", "SIZE"])
def run_kernel(
    p_x, p_y, p_sos, p_z, p_zf, T, C, SIZE,
    S: tl.constexpr, REVERSE: tl.constexpr, WRITE: tl.constexpr, U: tl.constexpr, L: tl.constexpr,
):  # fmt: skip
    """Run each chunk: from its entering state with WRITE, else from rest for its end state only.

    p_x: (T, C) float32 or float64; p_y: (T, C) written with WRITE; p_sos: (S, 6) float64;
    p_z: (n, D, C) float64, entering each chunk, read with WRITE; p_zf: without WRITE
    (n, D, C) float64 written, the end of each chunk, with WRITE (D, C) float64 written by the
    last chunk. REVERSE counts bins from the end. U bins are loaded ahead.
    """
    i_k = tl.program_id(0).to(tl.int64)
    o_lane = tl.program_id(1) * L + tl.arange(0, L)
    m_lane = o_lane < C
    D: tl.constexpr = 2 * S
    n_steps = tl.maximum(tl.minimum(SIZE, T - i_k * SIZE), 0)
    o_first = i_k * SIZE
    stride = C.to(tl.int64)
    if REVERSE:
        o_first = T - 1 - o_first
        stride = -stride
    o_first = tl.minimum(tl.maximum(o_first, 0), T - 1)
    p_in = p_x + o_first * C + o_lane
    p_out = p_y + o_first * C + o_lane
    b_c = load_sections(p_sos, S)
    if WRITE:
        b_z = load_state(p_z + i_k * D * C + o_lane, C, m_lane, D)
    else:
        b_z = ()
        for _ in tl.static_range(D):
            b_z = b_z + (tl.zeros((L,), tl.float64),)
    b_next = ()
    for u in tl.static_range(U):
        b_next = b_next + (tl.load(p_in + u * stride, mask=m_lane & (n_steps >= U), other=0.0),)
    t = n_steps * 0
    while t + U <= n_steps:
        b_now = b_next
        p_in += U * stride
        b_next = ()
        for u in tl.static_range(U):
            m_more = m_lane & (t + 2 * U <= n_steps)
            b_next = b_next + (tl.load(p_in + u * stride, mask=m_more, other=0.0),)
        for u in tl.static_range(U):
            b_y, b_z = step(b_now[u].to(tl.float64), b_z, b_c, S)
            if WRITE:
                tl.store(p_out, b_y.to(p_y.dtype.element_ty), mask=m_lane)
                p_out += stride
        t += U
    while t < n_steps:
        b_x = tl.load(p_in, mask=m_lane, other=0.0)
        b_y, b_z = step(b_x.to(tl.float64), b_z, b_c, S)
        if WRITE:
            tl.store(p_out, b_y.to(p_y.dtype.element_ty), mask=m_lane)
            p_out += stride
        p_in += stride
        t += 1
    if WRITE:
        m_last = (n_steps > 0) & (i_k * SIZE + n_steps == T)
        store_state(p_zf + o_lane, b_z, C, m_lane & m_last, D)
    else:
        store_state(p_zf + i_k * D * C + o_lane, b_z, C, m_lane, D)


@triton.jit(do_not_specialize=["C", "G"])
def gather_kernel(p_e, p_e_out, p_M, C, G, D: tl.constexpr, L: tl.constexpr):
    """What each run of G chunks adds to the state: e_g + M (e_g-1 + M (...)).

    p_e: (n_out * G, D, C) float64; p_e_out: (n_out, D, C) float64 written; p_M: (D, D) float64.
    """
    i_out = tl.program_id(0).to(tl.int64)
    o_lane = tl.program_id(1) * L + tl.arange(0, L)
    m_lane = o_lane < C
    p_in = p_e + i_out * G * D * C + o_lane
    b_z = load_state(p_in, C, m_lane, D)
    g = 1
    while g < G:
        p_in += D * C
        b_e = load_state(p_in, C, m_lane, D)
        b_z = add_response(p_M, b_z, b_e, D)
        g += 1
    store_state(p_e_out + i_out * D * C + o_lane, b_z, C, m_lane, D)


@triton.jit(do_not_specialize=["C", "G"])
def spread_kernel(p_e, p_z, p_z_out, p_M, C, G, D: tl.constexpr, L: tl.constexpr):
    """Carry the state entering each run of G chunks to every chunk of the run.

    p_e: (n_in * G, D, C) float64; p_z: (n_in, D, C) float64; p_z_out: (n_in * G, D, C)
    float64 written; p_M: (D, D) float64.
    """
    i_in = tl.program_id(0).to(tl.int64)
    o_lane = tl.program_id(1) * L + tl.arange(0, L)
    m_lane = o_lane < C
    b_z = load_state(p_z + i_in * D * C + o_lane, C, m_lane, D)
    o_chunk = i_in * G * D * C + o_lane
    g = G * 0
    while g < G:
        store_state(p_z_out + o_chunk, b_z, C, m_lane, D)
        b_e = load_state(p_e + o_chunk, C, m_lane, D)
        b_z = add_response(p_M, b_z, b_e, D)
        o_chunk += D * C
        g += 1
