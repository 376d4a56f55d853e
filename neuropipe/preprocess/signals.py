"""Signals of a node, as several steps find, stream and replace them."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import dask.array as da
import numpy as np
import xarray as xr
from dask.graph_manipulation import bind

from neuropipe.errors import DataError
from neuropipe.schema import Recording, validate


def node_dataset(recording: Recording, node: str, step: str) -> xr.Dataset:
    """Return a node of signals; an unknown one lists those with a clock.

    Raises
    ------
    DataError
        No such node, or one without samples; the message names `step`.
    """
    clocked = [g.lstrip("/") for g in recording.groups if "time" in recording[g].dims]
    if node not in clocked:
        raise DataError(
            f"{step}: no node of signals {node!r} in session {recording.attrs.get('session')}; it "
            f"has {', '.join(clocked) or 'none'}"
        )
    validate(recording, node)
    dataset = cast(xr.DataTree, recording[node]).to_dataset(inherit=False)
    if not dataset.sizes["time"]:
        raise DataError(f"{step}: node {node} holds no sample")
    return dataset


def signal_of(dataset: xr.Dataset, node: str, variable: str, step: str) -> str:
    """Return the name of the wanted variable (time, ...); empty takes the only one there is.

    Raises
    ------
    DataError
        No such variable, several to choose from, or one that holds no numbers.
    """
    there = [
        str(name)
        for name, array in dataset.data_vars.items()
        if array.dims[:1] == ("time",) and array.dtype.kind in "fiu"
    ]
    name = variable or (there[0] if len(there) == 1 else "")
    if name not in there:
        asked = f"no signal {variable!r}" if variable else "several signals"
        raise DataError(
            f"{step}: {asked} in node {node}; say which variable, it has "
            f"{', '.join(there) or 'none'}"
        )
    return name


def floats(array: xr.DataArray) -> da.Array:
    """Return a signal as a lazy float array, (time, ...), cut along time only."""
    values = da.asarray(array.data)
    values = values.rechunk(dict.fromkeys(range(1, values.ndim), -1))
    return values if values.dtype.kind == "f" else values.astype(np.float64)


def replaced(recording: Recording, node: str, dataset: xr.Dataset) -> Recording:
    """Return the recording with another content of one node; its children stay."""
    out = recording.copy()
    out[node].dataset = dataset
    return out


def second_pass(values: da.Array, summary: da.Array) -> da.Array:
    """Return the same values, read anew once `summary` of them is there.

    Without it, Dask would keep every block from the first reading until the second: the whole
    recording in memory.
    """
    # a seed of its own for each pass: keys of two steps in a row must not be the same
    return bind(values, summary, seed=summary.name)


def reduced(
    values: da.Array,
    weights: np.ndarray,
    of_block: Callable[[np.ndarray, np.ndarray], np.ndarray],
    merge: Callable[[np.ndarray], np.ndarray],
    n_terms: int,
    n_out: int,
) -> da.Array:
    """Return a summary, (out, 1, ...) float64, of a signal that is read once, block by block.

    Parameters
    ----------
    values : (time, ...) signal
    weights : (time,) what `of_block` gets beside each sample, shaped (time, 1, ...)
    of_block : float64 block, weights -> (term, ...)
    merge : (block, term, ...) -> (out, ...)
    """
    lined = da.from_array(weights, chunks=(values.chunks[0],))
    lined = lined.reshape(-1, *(1,) * (values.ndim - 1))

    def first(part: np.ndarray, weight: np.ndarray) -> np.ndarray:
        return of_block(part.astype(np.float64), weight)[None]

    chunks = ((1,) * values.numblocks[0], (n_terms,), *values.chunks[1:])
    parts = da.map_blocks(first, values, lined, chunks=chunks, new_axis=1, dtype=np.float64)
    parts = parts.rechunk({0: -1})
    chunks = ((n_out,), *parts.chunks[2:])
    return parts.map_blocks(merge, drop_axis=0, chunks=chunks, dtype=np.float64)[:, None]
