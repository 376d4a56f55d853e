"""Launch the Triton Viterbi: chunk scores, a scan over chunks, pointers, the walk back."""

from __future__ import annotations

import torch
import triton

from neuropipe_kernels.plan import plan
from neuropipe_kernels.viterbi import lane_kernels as kernels

MOST_STATES = 8
LANES = 32
# Chunks that fill the device.
TARGET = 32768


def serves(log_likelihood: torch.Tensor) -> bool:
    """Say whether the kernels cover a call."""
    return log_likelihood.shape[2] <= MOST_STATES


def best_path(
    log_likelihood: torch.Tensor,
    transition: torch.Tensor,
    initial: torch.Tensor,
    lengths: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the best path of each sequence; inputs and outputs as the reference.

    Notes
    -----
    Scores are compared in the dtype of the input, relative to the best of their bin; offsets
    are summed in float64. No value is read back, so the call can be captured in a CUDA graph.
    """
    ll = log_likelihood.contiguous()
    P, pi = transition.contiguous(), initial.contiguous()
    n_sequences, n_bins, n_states = ll.shape
    n, radices = plan(n_sequences, n_bins, TARGET)
    n_rows = max(1, triton.cdiv(n_bins - 1, n))
    bits = 2 if n_states <= 4 else 3
    ragged = lengths is not None
    stride_P = n_states**2 if P.ndim == 3 else 0

    def scratch(*shape: int, dtype: torch.dtype = ll.dtype) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype, device=ll.device)

    lengths = lengths if ragged else scratch(0, dtype=torch.int64)
    grid = (triton.cdiv(n, LANES), n_sequences)
    meta = {"K": n_states, "L": LANES, "num_warps": 1}

    levels = [
        (
            scratch(n_sequences * n, n_states, n_states),
            scratch(n_sequences * n, dtype=torch.float64),
        )
    ]
    kernels.transfer_kernel[grid](
        ll, P, lengths, *levels[0], n_bins, n, stride_P, RAGGED=ragged, **meta
    )
    for radix in radices[:-1]:
        n_out = levels[-1][0].shape[0] // radix
        out = scratch(n_out, n_states, n_states), scratch(n_out, dtype=torch.float64)
        kernels.product_kernel[(triton.cdiv(n_out, LANES),)](
            *levels[-1], *out, n_out, radix, **meta
        )
        levels.append(out)
    score = scratch(n_sequences, dtype=torch.float64)
    last = scratch(n_sequences, dtype=torch.int32)
    d = pi  # not read at the top
    for (M, scale), radix in zip(reversed(levels), reversed(radices), strict=True):
        n_in = M.shape[0] // radix
        d_out = scratch(M.shape[0], n_states)
        kernels.spread_kernel[(triton.cdiv(n_in, LANES),)](
            M, scale, d, d_out, ll, pi, score, last, n_bins, n_in, radix,
            n_states if pi.ndim == 2 else 0, TOP=M is levels[-1][0], **meta,
        )  # fmt: skip
        d = d_out

    pointers = scratch(n_sequences, n_rows, n, dtype=torch.uint8 if bits == 2 else torch.int32)
    maps = scratch(n_sequences, n, dtype=torch.int32)
    kernels.point_kernel[grid](
        ll, P, lengths, d, pointers, maps, n_bins, n, n_rows, stride_P,
        RAGGED=ragged, BITS=bits, **meta,
    )  # fmt: skip
    ends = _link(maps.view(-1), last, radices, {"BITS": bits, "L": LANES, "num_warps": 1}, n_states)
    shape = (n_sequences, n_bins)
    state = (
        torch.full(shape, -1, dtype=torch.int64, device=ll.device)
        if ragged
        else scratch(*shape, dtype=torch.int64)
    )
    kernels.walk_kernel[grid](
        pointers, lengths, ends, state, n_bins, n, n_rows,
        RAGGED=ragged, BITS=bits, L=LANES, num_warps=1,
    )  # fmt: skip
    return state, score


def _link(
    maps: torch.Tensor,
    last: torch.Tensor,
    radices: tuple[int, ...],
    meta: dict[str, int],
    n_states: int,
) -> torch.Tensor:
    """Last state of every chunk, from the last state of each sequence and the chunks' maps."""
    levels = [maps]
    for radix in radices[:-1]:
        n_out = levels[-1].shape[0] // radix
        out = maps.new_empty(n_out)
        kernels.compose_kernel[(triton.cdiv(n_out, LANES),)](
            levels[-1], out, n_out, radix, K=n_states, **meta
        )
        levels.append(out)
    ends = last
    for level, radix in zip(reversed(levels), reversed(radices), strict=True):
        n_in = ends.shape[0]
        out, first = torch.empty_like(level), torch.empty_like(ends)
        kernels.link_kernel[(triton.cdiv(n_in, LANES),)](
            level, ends, out, first, n_in, radix, **meta
        )
        ends = out
    return ends
