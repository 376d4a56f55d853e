"""Signals of a recording read block by block, run by run: memory does not know their length."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import cast

import numpy as np
import xarray as xr

from neuropipe.schema import Recording

BLOCK_BYTES = 64 * 2**20
PART_BYTES = 8 * 2**20


def nodes_of(recording: Recording, *families: str) -> dict[str, xr.Dataset]:
    """Return the nodes of that name, or children of a node of that name, which hold variables."""
    found = {}
    for path in recording.groups:
        name = path.lstrip("/")
        if name.split("/")[0] in families and recording[path].variables:
            found[name] = cast(xr.DataTree, recording[path]).to_dataset(inherit=False)
    return found


def rate_hz_of(dataset: xr.Dataset) -> float:
    """Return the sampling rate that a node declares, else that of its first samples."""
    declared = dataset.attrs.get("sampling_rate_hz")
    if declared:
        return float(declared)
    steps = np.diff(dataset["time"][:10_000].values)
    steps = steps[steps > 0]
    return float(1 / np.median(steps)) if len(steps) else float("nan")


def names_of(dataset: xr.Dataset, dim: str) -> list[str]:
    """Return the names along a dim, or their numbers where they have none."""
    if dim in dataset.coords:
        return [str(name) for name in dataset[dim].values]
    return [str(i) for i in range(dataset.sizes[dim])]


def blocks(array: xr.DataArray, run: slice | None = None) -> Iterator[np.ndarray]:
    """Yield the values of a run, (time, ...), in parts; each stored block is read once."""
    run = run or slice(0, array.sizes["time"])
    row_bytes = array.dtype.itemsize * int(np.prod(array.shape[1:], dtype=int))
    most = max(1, BLOCK_BYTES // max(1, row_bytes))
    sizes = array.chunks[0] if array.chunks else (array.shape[0],)
    edges = np.cumsum((0, *sizes))
    cuts = sorted({run.start, run.stop, *(e for e in edges.tolist() if run.start < e < run.stop)})
    for first, last in pairwise(cuts):
        for start in range(first, last, most):
            part = np.asarray(array.isel(time=slice(start, min(start + most, last))).values)
            # what is measured on a part takes a dozen times its memory
            rows = max(1, PART_BYTES // max(1, row_bytes))
            for row in range(0, len(part), rows):
                yield part[row : row + rows]


def pieces(array: xr.DataArray, run: slice, rows: int, most: int) -> Iterator[np.ndarray]:
    """Yield up to `most` stretches of `rows` samples, spread evenly over a run."""
    n = run.stop - run.start
    rows = min(rows, n)
    count = max(1, min(most, n // max(rows, 1)))
    for start in run.start + np.linspace(0, n - rows, count).astype(int):
        yield np.asarray(array.isel(time=slice(start, start + rows)).values)


def extent_s(recording: Recording) -> tuple[float, float] | None:
    """Return first and last time of all clocks and spikes of a recording; None without any."""
    ends: list[float] = []
    for path in recording.groups:
        name = path.lstrip("/").split("/")[0]
        if name in ("trials", "intervals", "events", "runs", "windows"):
            continue
        node = recording[path].to_dataset()
        if "time" in node.variables and node["time"].size:
            ends += node["time"][[0, -1]].values.astype(float).tolist()
        if "spike_time" in node.variables and node["spike_time"].size:
            ends += [float(node["spike_time"].min()), float(node["spike_time"].max())]
    return (min(ends), max(ends)) if ends else None
