"""Slow drifts out of a signal: its straight line, or its mean, of each run."""

from __future__ import annotations

from typing import Literal

import dask.array as da
import numpy as np

from neuropipe.preprocess.signals import (
    floats,
    node_dataset,
    reduced,
    replaced,
    second_pass,
    signal_of,
)
from neuropipe.runs import run_slices
from neuropipe.schema import Recording


def detrend_signal(
    recording: Recording,
    *,
    node: str,
    variable: str = "",
    kind: Literal["linear", "constant"] = "linear",
) -> Recording:
    """Subtract from each column of a signal its straight line, or its mean, run by run.

    Parameters
    ----------
    recording : DataTree
        With the node, and node `runs` where there are several.
    node : str
        Node of signals, such as ``"ieeg"`` or ``"calcium/ca1"``.
    variable : str
        Which one, (time, ...); by default the only one there is.
    kind : {"linear", "constant"}
        The line by least squares over the run's time, or the mean alone.

    Raises
    ------
    DataError
        No such node or signal.

    Notes
    -----
    Lazy: the signal is read twice, block by block, first for its sums, then to be corrected.
    Samples that are NaN have no say and stay NaN. The line is that of the whole run, so it knows
    the future; where folds are cut within a run, prefer a causal high-pass filter.
    """
    dataset = node_dataset(recording, node, "detrend_signal")
    name = signal_of(dataset, node, variable, "detrend_signal")
    array = dataset[name]
    values = floats(array)
    time = dataset["time"]
    parts = [
        _detrended(values[run], time.isel(time=run).values, kind == "linear")
        for run in run_slices(recording, node)
    ]
    dataset[name] = (array.dims, da.concatenate(parts), {**array.attrs, "detrended": kind})
    return replaced(recording, node, dataset)


def _detrended(values: da.Array, time: np.ndarray, linear: bool) -> da.Array:
    # centred and of unit length, so that sums of long recordings keep their digits
    half_s = max((time[-1] - time[0]) / 2, np.finfo(float).tiny)
    at = (time - (time[0] + half_s)) / half_s
    lines = reduced(values, at, _sums, _line if linear else _mean, 5, 2)
    column = da.from_array(at, chunks=(values.chunks[0],)).reshape(-1, *(1,) * (values.ndim - 1))
    corrected = second_pass(values, lines) - (lines[1] + lines[0] * column)
    return corrected.astype(values.dtype)


def _sums(block: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return n, sum t, sum t^2, sum x and sum t x of the finite samples, (5, ...)."""
    there = np.isfinite(block)
    block, at = np.where(there, block, 0.0), np.where(there, at, 0.0)
    terms = (there, at, at**2, block, at * block)
    return np.stack([term.sum(axis=0) for term in terms])


def _line(parts: np.ndarray) -> np.ndarray:
    """Return slope and value at the centre, least squares; NaN where no sample was finite."""
    n, t, tt, x, tx = parts.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        spread = tt - t**2 / n
        slope = np.where(spread > 0, (tx - t * x / n) / spread, 0.0)
        return np.stack([slope, (x - slope * t) / n])


def _mean(parts: np.ndarray) -> np.ndarray:
    n, _, _, x, _ = parts.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.stack([np.zeros_like(x), x / n])
