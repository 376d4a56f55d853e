"""Units that take turns in being held out, so that each is predicted from the others once."""

from __future__ import annotations

import numpy as np


def groups_of(n_units: int, n_groups: int = 5) -> list[np.ndarray]:
    """Return the masks (unit,) bool of the units that are held out together.

    Parameters
    ----------
    n_units : int
    n_groups : int
        Unit i is in group ``i % n_groups``, so that neighbours, which may share spikes of one
        electrode, are not held out together; of fewer units each is a group of its own.

    Returns
    -------
    list of (unit,) bool
        Every unit in exactly one; empty for a single unit, which has no others to be told from.

    Notes
    -----
    Source: co-smoothing of Pei et al., "Neural Latents Benchmark '21", which holds one fixed group
    out; taking turns scores every unit.
    """
    if n_units < 2:
        return []
    group = np.arange(n_units) % min(n_units, n_groups)
    return [group == g for g in range(group.max() + 1)]
