"""Rates of every unit in every bin, exactly, from what the network says of the next spike."""

from __future__ import annotations

import torch
from torch import Tensor

from neuropipe.models.neuroformer.attention import Rows
from neuropipe.models.neuroformer.model import Batch, Network

LEAST_LEFT = 1e-12  # chance that is left for what comes; below, rounding decides
OF_TOKENS = ("unit", "bin", "last_unit", "target_bin", "target_unit")
ENTRIES = 2**22  # of the table of next spikes that are held at once


def hazards(network: Network, state: Tensor, batch: Batch, *, repeats: bool) -> Tensor:
    """Return the chance of each spike given all before it in order, (token, bin, unit).

    Of token k these are the places from its own up to that of its successor: a place is a bin and
    a unit, bins first, and hazard(place) = p(place) / (1 - sum of p over places before it). The
    tokens of a window visit every place in turn.

    Parameters
    ----------
    state : (token, width)
    batch : mapping
        As of `Network.log_probability`.
    repeats : bool
        Whether the place of a spike is visited again, for a second one of the same unit. With it
        hazards make up the likelihood; without it each is known before its place is seen.
    """
    w, n = network.sizes.window_bins, len(batch["units"])
    last_bin, last_unit = batch["bin"], batch["last_unit"]
    spike, _ = network.heads.table(state, batch["units"], last_bin, last_unit)
    p = spike.flatten(1)
    left = (1 - (p.cumsum(1) - p)).clamp(min=LEAST_LEFT)
    place = torch.arange(w * n, device=p.device)
    ends = batch["target_bin"] == w
    until = torch.where(ends, batch["size"] * n - 1, batch["target_bin"] * n + batch["target_unit"])
    since = last_bin * n + last_unit
    if not repeats:
        since = since + (batch["unit"] > 0)
    visited = (place >= since[:, None]) & (place <= until[:, None])
    return torch.where(visited, (p / left).clamp(max=1.0), 0.0).unflatten(1, (w, n))


def expected_counts(
    network: Network, state: Tensor, batch: Batch, several: Tensor
) -> Tensor:  # fmt: skip
    """Return the expected count of each bin and unit given all spikes before, (window, bin, unit).

    Parameters
    ----------
    state : (token, width)
    batch : mapping
        As of `Network.log_probability`.
    several : (unit,)
        Spikes in a bin that has any, by unit, in the training data.

    Notes
    -----
    It is the chance of a first spike times `several`: how many follow is learned by the network
    only where one was seen, and a rate that knew would know its own outcome. Of a bin it knows,
    besides all bins before, the spikes of units with smaller numbers. Where bins hold one spike at
    most, sums of it are the compensator of the counts.
    """
    w, n = network.sizes.window_bins, len(batch["units"])
    rows = Rows(batch["mask"], batch["flat"])
    n_rows, longest = rows.mask.shape
    row = batch["flat"] // longest
    out = state.new_zeros((n_rows, w, n), dtype=torch.float64)
    size = max(ENTRIES // (w * n * longest), 1)
    for start in range(0, n_rows, size):
        part = (row >= start) & (row < start + size)
        here = {
            k: batch[k][part] for k in ("unit", "bin", "last_unit", "target_bin", "target_unit")
        }
        here |= {"units": batch["units"], "size": batch["size"][part]}
        found = hazards(network, state[part], here, repeats=False)
        # through padded rows, so that sums keep their order on every device
        own = Rows(rows.mask[start : start + size], batch["flat"][part] - start * longest)
        out[start : start + size] = own.padded(found).sum(1)
    return out * several
