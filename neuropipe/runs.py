"""Runs of a recording: stretches of one clock that no step in time may reach across."""

from __future__ import annotations

from itertools import pairwise
from typing import cast

import numpy as np
import xarray as xr

from neuropipe.errors import DataError
from neuropipe.schema import Recording

BLOCK = 1 << 22  # clock samples read at a time


def run_slices(recording: Recording, node: str) -> list[slice]:
    """Return the samples of each run of a node, in order; one slice where there are no runs.

    Raises
    ------
    DataError
        A sample lies in none of the runs.
    """
    _, bounds = _bounds(recording, node)
    if bounds[0]:
        raise DataError(
            f"session {recording.attrs.get('session')}: node {node} has {bounds[0]} samples before "
            "its first run; expected all inside a run, ingest it again"
        )
    return [slice(a, b) for a, b in pairwise(bounds) if b > a]


def named_runs(recording: Recording, node: str) -> list[tuple[str, slice]]:
    """Return label and samples of each run of a node, one called ``all`` without runs.

    Samples before the first run are counted to it, so that they can be looked at.
    """
    labels, bounds = _bounds(recording, node)
    parts = pairwise([0, *bounds[1:]])
    return [(name, slice(a, b)) for name, (a, b) in zip(labels, parts, strict=True) if b > a]


def _bounds(recording: Recording, node: str) -> tuple[list[str], list[int]]:
    """Return the runs' labels, and the first sample of each with the number of samples behind."""
    size = recording[node].sizes["time"]
    if "runs" not in recording.children:
        return ["all"], [0, size]
    runs = recording["runs"].to_dataset()
    labels = [f"run {label}" for label in runs["run_label"].values]
    edges = runs["start_time"].values
    time = cast(xr.DataTree, recording[node]).to_dataset()["time"]
    # a clock is written in float64, so a sample may stand a hair before its run's first
    first = time.isel(time=slice(0, 2)).values
    step = float(first[1] - first[0]) if len(first) == 2 else 0.0
    before = np.zeros(len(edges), dtype=np.int64)
    for start in range(0, size, BLOCK):
        part = time.isel(time=slice(start, start + BLOCK)).values
        before += np.searchsorted(part, edges - step / 2)
    return labels, [*before.tolist(), size]
