"""Rates of every unit in every bin, exactly, from what the network says of the next spike."""

from __future__ import annotations

import torch
from torch import Tensor

from neuropipe.models.neuroformer.attention import Rows
from neuropipe.models.neuroformer.model import Batch, Network

LEAST_LEFT = 1e-12  # chance that is left for what comes; below, rounding decides
ENTRIES = 2**22  # of the table of next spikes that are held at once


def hazards(network: Network, state: Tensor, batch: Batch) -> Tensor:
    """Return the chance of each spike given all before it in order, (token, bin, unit).

    Of token k these are the places from its own up to that of its successor: a place is a bin and
    a unit, bins first, and hazard(place) = p(place) / (1 - sum of p over places before it). The
    tokens of a window visit every place in turn, a place with a spike twice: for the spike, and
    for a second one of the same unit.

    Parameters
    ----------
    state : (token, width)
    batch : mapping
        As of `Network.log_probability`.
    """
    w, n = network.sizes.window_bins, len(batch["units"])
    last_bin, last_unit = batch["bin"], batch["last_unit"]
    spike, _ = network.heads.table(state, batch["units"], last_bin, last_unit)
    p = spike.flatten(1)
    left = (1 - (p.cumsum(1) - p)).clamp(min=LEAST_LEFT)
    place = torch.arange(w * n, device=p.device)
    ends = batch["target_bin"] == w
    until = torch.where(ends, batch["size"] * n - 1, batch["target_bin"] * n + batch["target_unit"])
    visited = (place >= (last_bin * n + last_unit)[:, None]) & (place <= until[:, None])
    return torch.where(visited, (p / left).clamp(max=1.0), 0.0).unflatten(1, (w, n))


def expected_counts(network: Network, state: Tensor, batch: Batch) -> Tensor:
    """Return the expected count of each bin and unit given all spikes before, (window, bin, unit).

    Notes
    -----
    The sum of hazards is the compensator of the counts: over many bins counts and their
    expectation differ by noise alone if the network is right. Of a bin it knows, besides all bins
    before, the spikes of units with smaller numbers.
    """
    w, n = network.sizes.window_bins, len(batch["units"])
    rows = Rows(batch["mask"], batch["flat"])
    n_rows, longest = rows.mask.shape
    row = batch["flat"] // longest
    out = state.new_zeros((n_rows, w, n), dtype=torch.float64)
    size = max(ENTRIES // (w * n * longest), 1)
    for start in range(0, n_rows, size):
        part = (row >= start) & (row < start + size)
        here = {k: batch[k][part] for k in ("bin", "last_unit", "target_bin", "target_unit")}
        here |= {"units": batch["units"], "size": batch["size"][part]}
        found = hazards(network, state[part], here)
        # through padded rows, so that sums keep their order on every device
        own = Rows(rows.mask[start : start + size], batch["flat"][part] - start * longest)
        out[start : start + size] = own.padded(found).sum(1)
    return out
