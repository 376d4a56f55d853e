"""Launch the Triton filter: chunks from rest, a scan over their ends, chunks again."""

from __future__ import annotations

import torch
import triton

from neuropipe_kernels.plan import plan
from neuropipe_kernels.sos_scan import lane_kernels as kernels

# Beyond these the state and coefficients of a cascade no longer fit into registers; longer
# cascades run in groups.
MOST_SECTIONS = 8
LANES = 32
# Bins loaded ahead.
AHEAD = 4
# Programs of one warp that fill the device.
TARGET = 8192


def filter_sections(
    x: torch.Tensor, sos: torch.Tensor, zi: torch.Tensor, reverse: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Filter x (time, channel); inputs and outputs as the reference.

    Notes
    -----
    Between groups of sections the signal is kept in float64. No value is read back, so the
    call can be captured in a CUDA graph.
    """
    y, zf = x, torch.empty_like(zi)
    groups = sos.contiguous().split(MOST_SECTIONS)
    for i, group in enumerate(groups):
        part = slice(i * MOST_SECTIONS, i * MOST_SECTIONS + group.shape[0])
        dtype = x.dtype if i == len(groups) - 1 else torch.float64
        y = _cascade(y.contiguous(), group, zi[part].contiguous(), zf[part], reverse, dtype)
    return y, zf


def _cascade(
    x: torch.Tensor,
    sos: torch.Tensor,
    zi: torch.Tensor,
    zf: torch.Tensor,
    reverse: bool,
    dtype: torch.dtype,
) -> torch.Tensor:
    """Filter by at most MOST_SECTIONS sections; writes ``zf`` and returns the output."""
    n_bins, n_channels = x.shape
    n_sections = sos.shape[0]
    D = 2 * n_sections
    blocks = triton.cdiv(n_channels, LANES)
    n, radices = plan(blocks, n_bins, TARGET)
    size = triton.cdiv(n_bins, n)

    def scratch(*shape: int) -> torch.Tensor:
        return torch.empty(shape, dtype=torch.float64, device=x.device)

    y = torch.empty(x.shape, dtype=dtype, device=x.device)
    run = {"S": n_sections, "REVERSE": reverse, "U": AHEAD, "L": LANES, "num_warps": 1}
    entering = zi
    if n > 1:
        M = scratch(3, D, D)
        longer = (*radices, 1, 1)
        kernels.power_kernel[(1,)](
            sos, M, size, longer[0], longer[1],
            S=n_sections, DP=triton.next_power_of_2(D), num_warps=4,
        )  # fmt: skip
        gained = [scratch(n, D, n_channels)]
        kernels.run_kernel[(n, blocks)](
            x, y, sos, zi, gained[0], n_bins, n_channels, size, WRITE=False, **run
        )
        scan = {"D": D, "L": LANES, "num_warps": 1}
        for level, radix in enumerate(radices[:-1]):
            n_out = gained[-1].shape[0] // radix
            out = scratch(n_out, D, n_channels)
            kernels.gather_kernel[(n_out, blocks)](
                gained[-1], out, M[level], n_channels, radix, **scan
            )
            gained.append(out)
        for level in range(len(radices) - 1, -1, -1):
            n_in = gained[level].shape[0] // radices[level]
            out = scratch(*gained[level].shape)
            kernels.spread_kernel[(n_in, blocks)](
                gained[level], entering, out, M[level], n_channels, radices[level], **scan
            )
            entering = out
    kernels.run_kernel[(n, blocks)](
        x, y, sos, entering, zf, n_bins, n_channels, size, WRITE=True, **run
    )
    return y
