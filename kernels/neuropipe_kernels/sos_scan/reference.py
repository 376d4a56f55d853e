"""The truth of sos_scan: one section after another, each parallel over chunks of time.

Legend: z0, z1 the two delays of a section, transposed direct form II:
y = b0 x + z0,  z0' = b1 x - a1 y + z1,  z1' = b2 x - a2 y; without input z' = A z with
A = [[-a1, 1], [-a2, 0]].
"""

from __future__ import annotations

import math

import torch


def filter_sections(
    x: torch.Tensor, sos: torch.Tensor, zi: torch.Tensor, reverse: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Filter x (time, channel) by sos (section, 6) from state zi (section, 2, channel)."""
    y = x.flip(0).double() if reverse else x.double()
    zf = torch.empty_like(zi)
    for s, row in enumerate(sos):
        y, zf[s] = _section(y, row, zi[s])
    return (y.flip(0) if reverse else y).to(x.dtype), zf


def _section(
    x: torch.Tensor, row: torch.Tensor, z: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Filter (time, channel) by one section; what no chunk holds is run at the end."""
    n_bins, n_channels = x.shape
    n = math.isqrt(n_bins)
    size = n_bins // n
    head = x[: n * size].view(n, size, n_channels).transpose(0, 1)  # (step, chunk, channel)
    rest = torch.zeros(2, n, n_channels, dtype=x.dtype, device=x.device)
    gained = _run(head, row, rest)[1]
    A = torch.zeros(2, 2, dtype=x.dtype, device=x.device)
    A[:, 0], A[0, 1] = -row[4:], 1
    M = torch.linalg.matrix_power(A, size)
    entering = torch.empty_like(rest)
    for k in range(n):
        entering[:, k] = z
        z = M @ z + gained[:, k]
    y, leaving = _run(head, row, entering)
    tail, z = _run(x[n * size :, None], row, leaving[:, -1:])
    return torch.cat([y.transpose(0, 1).flatten(0, 1), tail[:, 0]]), z[:, 0]


def _run(x: torch.Tensor, row: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Filter every column of x (step, chunk, channel) step by step from z (2, chunk, channel)."""
    b0, b1, b2, _, a1, a2 = row
    y = torch.empty_like(x)
    z0, z1 = z
    for t, x_t in enumerate(x):
        y_t = b0 * x_t + z0
        z0 = b1 * x_t - a1 * y_t + z1
        z1 = b2 * x_t - a2 * y_t
        y[t] = y_t
    return y, torch.stack([z0, z1])
