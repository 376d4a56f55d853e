"""Affinities of neuron pairs, and sums over pairs in closed form.

Legend: d derivative of a trace, u = [d]+ and v = [-d]+, a_ij affinity of neurons i and j at one
time. All four forms are a(u_i, u_j) + a(v_i, v_j), minpos without v: two neurons that rise
together or fall together are alike, opposite changes give nothing.
"""

from __future__ import annotations

import torch
from neuropipe_kernels.ntf_sweep.reference import affinity


def energy(d: torch.Tensor, form: str) -> torch.Tensor:
    """Return sum_{i<j} a_ij^2 of each row of d (row, unit), in float64, without the pairs."""
    total = torch.zeros(d.shape[0], dtype=torch.float64, device=d.device)
    for side in (d, -d)[: 1 if form == "minpos" else 2]:
        u = side.double().clamp(min=0)
        if form in ("prod", "geo"):
            power = u.square() if form == "prod" else u
            total += (power.sum(1).square() - power.square().sum(1)) / 2
        else:  # the k-th largest is the smaller one of k pairs
            ordered = u.sort(1, descending=True).values.square()
            total += ordered @ torch.arange(d.shape[1], dtype=torch.float64, device=d.device)
    return total


def all_pairs(d: torch.Tensor, form: str) -> torch.Tensor:
    """Return the affinities (row, pair) of derivatives (row, unit)."""
    i, j = torch.triu_indices(d.shape[1], d.shape[1], 1, device=d.device)
    return affinity(d[:, i], d[:, j], form)
