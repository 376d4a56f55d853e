"""Launch the Triton forward-backward: transfer matrices, a scan over chunks, smoothing."""

from __future__ import annotations

from types import ModuleType

import torch
import triton

from neuropipe_kernels.hmm_fb import lane_kernels, tile_kernels
from neuropipe_kernels.lanes import unturn_kernel
from neuropipe_kernels.plan import plan

LANE_STATES = 8
TILE_STATES = 32
# Chunks that fill the device; with many states a chunk's matrices cost more than it gains.
LANE_TARGET, WIDE_TARGET = 65536, 32768
MANY_STATES = 5
TILE_TARGET = 16384
# Run length of the scan over chunks.
RADIX = 16
# Values above which lanes work on turned copies, unless a bin is whole 16-byte accesses: lanes
# that read value by value, each in a cache line of its own, are cheap only while all is in cache.
TURN = 2**21
# Chunks a program stacks, and its warps. A program of the smoothing pass writes one share of the
# counts, so there they are fewer and larger.
LANES = (32, 1)
SMOOTH_LANES = (128, 4)
# What a lane holds of its chunk: a cache line, at most MOST_BINS bins; at most SPLIT_BINS where
# each value of a bin is an access, and an address, of its own.
BLOCK_BYTES = 128
MOST_BINS = 8
SPLIT_BINS = 4
# A bin of the transfer matrices takes K^3 multiply-adds; the bytes of so many cover a load's wait.
TRANSFER_BYTES = 4096
# Matrices that the scan loads ahead, as registers allow.
AHEAD_BYTES = 512
MOST_AHEAD = 4
TRANSFER_TILE = (2, 4)
SMOOTH_TILE = (32, 4)
# A rescaled sum may shrink by this much three times over before it leaves the dtype's range.
SMALLEST_TRANSITION = {torch.float32: 1e-10, torch.float64: 1e-90}


def serves(log_likelihood: torch.Tensor, transition: torch.Tensor, by_name: bool) -> bool:
    """Say whether the kernels cover a call; reads one number back unless ``by_name``."""
    n_states = log_likelihood.shape[2]
    if n_states > (LANE_STATES if log_likelihood.dtype == torch.float64 else TILE_STATES):
        return False
    if by_name or (log_likelihood.is_cuda and torch.cuda.is_current_stream_capturing()):
        return True
    return float(transition.detach().min()) >= SMALLEST_TRANSITION[log_likelihood.dtype]


def block(n_states: int, itemsize: int) -> int:
    """Bins that a lane takes at a time."""
    most = MOST_BINS if n_states % 4 == 0 else SPLIT_BINS
    return max(1, min(most, BLOCK_BYTES // (n_states * itemsize)))


def transfer_block(n_states: int, itemsize: int) -> int:
    """Bins that a lane takes at a time where it makes its transfer matrix."""
    return max(1, min(block(n_states, itemsize), TRANSFER_BYTES // (n_states**3 * itemsize)))


def ahead(n_states: int, itemsize: int) -> int:
    """Matrices that the scan over chunks loads ahead."""
    return max(1, min(MOST_AHEAD, AHEAD_BYTES // (n_states**2 * itemsize)))


def forward_backward(
    log_likelihood: torch.Tensor,
    transition: torch.Tensor,
    initial: torch.Tensor,
    lengths: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Smooth a batch of sequences; inputs and outputs as the reference.

    Notes
    -----
    No value is read back, so the call can be captured in a CUDA graph. Scratch memory is a
    few matrices a chunk and, up to 8 states, a vector a block of bins; large inputs of up to 7
    states, but for 4, take two more arrays of the input's size, turned so that neighbouring
    lanes read neighbouring values.
    """
    ll = log_likelihood.contiguous()
    P, pi = transition.contiguous(), initial.contiguous()
    n_sequences, n_bins, n_states = ll.shape
    lanes = n_states <= LANE_STATES
    target = LANE_TARGET if n_states < MANY_STATES else WIDE_TARGET
    n, radices = plan(n_sequences, n_bins, target if lanes else TILE_TARGET, RADIX)
    kernels = lane_kernels if lanes else tile_kernels
    ragged = lengths is not None
    stride_P = n_states**2 if P.ndim == 3 else 0
    f64 = {"dtype": torch.float64, "device": ll.device}
    lengths = lengths if ragged else torch.empty(0, dtype=torch.int64, device=ll.device)

    n_rows = max(1, triton.cdiv(n_bins - 1, n))
    turned = lanes and n_states % 4 != 0 and ll.numel() > TURN
    state = torch.zeros_like(ll) if ragged else torch.empty_like(ll)
    work, source = state, ll  # source: what the smoothing pass reads
    if turned:
        work, source = (ll.new_empty(n_sequences, n_rows, n_states, n) for _ in range(2))
    M = ll.new_empty(n_sequences * n, n_states, n_states)
    scale = torch.empty(n_sequences * n, **f64)
    options = {"RAGGED": ragged, "TURNED": turned, "K": n_states}
    if lanes:
        B = block(n_states, ll.itemsize)
        transfer = {"B": transfer_block(n_states, ll.itemsize)}
        scan = {"L": LANES[0], "U": ahead(n_states, ll.itemsize)}
        smooth = {"B": B, "p_keep": ll.new_empty(n_sequences, n_rows // B + 1, n, n_states)}
    else:
        transfer = smooth = {"KP": 16 if n_states <= 16 else 32}
        scan = {"L": 1, **transfer}
    rows, warps = LANES if lanes else TRANSFER_TILE
    grid = (triton.cdiv(n, rows), n_sequences)
    kernels.transfer_kernel[grid](
        ll, source, P, lengths, M, scale, n_bins, n, n_rows, stride_P, **options, **transfer,
        L=rows, num_warps=warps,
    )  # fmt: skip
    a, b, evidence, b_first = _scan(kernels, ll, pi, M, scale, radices, scan)

    rows, warps = SMOOTH_LANES if lanes else SMOOTH_TILE
    grid = (triton.cdiv(n, rows), n_sequences)
    shares = torch.empty(n_sequences, grid[0], n_states, n_states, **f64)
    kernels.smooth_kernel[grid](
        source, P, lengths, a, b, work, state, shares, T=n_bins, n=n, n_rows=n_rows,
        stride_P=stride_P, **options, **smooth, L=rows, num_warps=warps,
    )  # fmt: skip
    if turned:
        grid = (triton.cdiv(n, 32), triton.cdiv(n_rows * n_states, 128), n_sequences)
        unturn_kernel[grid](
            work, state, lengths, n_bins, n, n_rows,
            RAGGED=ragged, K=n_states, W=128, L=32, num_warps=4,
        )  # fmt: skip
    return evidence, state, shares.sum(1) if grid[0] > 1 else shares[:, 0], b_first


def _scan(
    kernels: ModuleType,
    ll: torch.Tensor,
    pi: torch.Tensor,
    M: torch.Tensor,
    scale: torch.Tensor,
    radices: tuple[int, ...],
    meta: dict[str, int],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Vectors entering every chunk from both sides, the evidence, and b at bin 0."""
    n_sequences, n_bins, n_states = ll.shape
    meta = {"K": n_states, **meta, "num_warps": 1}
    levels = [(M, scale)]
    for radix in radices[:-1]:
        M, scale = levels[-1]
        n_out = M.shape[0] // radix
        product = M.new_empty(n_out, n_states, n_states), scale.new_empty(n_out)
        grid = (triton.cdiv(n_out, meta["L"]),)
        kernels.product_kernel[grid](M, scale, *product, n_out, radix, **meta)
        levels.append(product)
    evidence = scale.new_empty(n_sequences)
    b_first = ll.new_empty(n_sequences, n_states)
    a = b = b_first  # not read at the top
    for (M, scale), radix in zip(reversed(levels), reversed(radices), strict=True):
        n_in = M.shape[0] // radix
        out = M.new_empty(M.shape[0], n_states), M.new_empty(M.shape[0], n_states)
        grid = (triton.cdiv(n_in, meta["L"]), 2)
        kernels.spread_kernel[grid](
            M, scale, a, b, *out, ll, pi, evidence, b_first, n_bins, n_in, radix,
            n_states if pi.ndim == 2 else 0, TOP=M is levels[-1][0], **meta,
        )  # fmt: skip
        a, b = out
    return a, b, evidence, b_first
