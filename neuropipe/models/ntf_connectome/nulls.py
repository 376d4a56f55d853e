"""What chance explains: traces shifted in time against each other, and fitted again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from neuropipe.models.ntf_connectome.affinity import energy
from neuropipe.models.ntf_connectome.entries import Entries


def shifted(x: Entries, rng: np.random.Generator) -> Entries:
    """Shift each neuron's derivative circularly in time, by another step in each animal.

    Parameters
    ----------
    x : Entries
        Not stored.
    rng : Generator

    Notes
    -----
    Each neuron keeps its own course, and pairs lose what they share. Times that an animal lacks
    stay missing, since the shift runs over the times it has.
    """
    data = x.data.clone()
    for part in x.rows_of:
        block = x.data[part]
        n = len(block)
        by = torch.as_tensor(rng.integers(n, size=block.shape[1])).to(block.device)
        source = (torch.arange(n, device=block.device)[:, None] - by) % n
        data[part] = block.gather(0, source)
    return replace(x, data=data, energy=energy(data, x.form))


def p_value(explained: float, null: np.ndarray) -> float:
    """Return the chance that a shuffle explains as much, (1 + #{null >= data}) / (1 + n)."""
    return float((1 + np.sum(null >= explained)) / (1 + len(null)))
