"""Runs of a recording: stretches of one clock that no step in time may reach across."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import xarray as xr

from neuropipe.errors import DataError
from neuropipe.schema import Recording

BLOCK = 1 << 22  # clock samples read at a time


def run_slices(recording: Recording, node: str) -> list[slice]:
    """Return the samples of each run of a node, in order; one slice where there are no runs.

    Parameters
    ----------
    recording : DataTree
        With node ``runs`` where it has several.
    node : str
        A node with dim ``time``.

    Raises
    ------
    DataError
        A sample lies in none of the runs.
    """
    size = recording[node].sizes["time"]
    if "runs" not in recording.children:
        return [slice(0, size)]
    runs = recording["runs"].to_dataset()
    edges = runs["start_time"].values
    if len(edges) == 1:
        return [slice(0, size)]
    time = recording[node].to_dataset()["time"]
    # a clock is written in float64, so a sample may stand a hair before its run's first
    step = _step_s(time)
    before = np.zeros(len(edges), dtype=np.int64)
    for start in range(0, size, BLOCK):
        part = time.isel(time=slice(start, start + BLOCK)).values
        before += np.searchsorted(part, edges - step / 2)
    if before[0]:
        raise DataError(
            f"session {recording.attrs.get('session')}: node {node} has {before[0]} samples before "
            f"its first run, at {edges[0]:g} s; expected all inside a run, ingest it again"
        )
    bounds = [*before.tolist(), size]
    return [slice(a, b) for a, b in pairwise(bounds) if b > a]


def _step_s(time: xr.DataArray) -> float:
    """Return the time between the first two samples, 0 where there is one."""
    first = time.isel(time=slice(0, 2)).values
    return float(first[1] - first[0]) if len(first) == 2 else 0.0
