"""Signals to z-scores, with a mean and a spread whose origin is declared."""

from __future__ import annotations

import dask.array as da
import numpy as np

from neuropipe.errors import DataError
from neuropipe.preprocess.signals import (
    floats,
    node_dataset,
    reduced,
    replaced,
    second_pass,
    signal_of,
)
from neuropipe.preprocess.tables import interval_table
from neuropipe.runs import run_slices
from neuropipe.schema import Recording


def standardize(
    recording: Recording,
    *,
    node: str,
    over: str,
    variable: str = "",
    within_runs: bool = True,
) -> Recording:
    """Take from each column of a signal its mean and divide it by its standard deviation.

    Parameters
    ----------
    recording : DataTree
        With the node, and node `runs` where there are several.
    node : str
        Node of signals, such as ``"bold"`` or ``"ieeg"``.
    over : str
        Where mean and deviation come from: the name of a table of intervals (``"baseline"`` of
        node ``intervals/baseline``, or ``"trials"``), or ``"recording"`` for every sample.
    variable : str
        Which signal, (time, ...); by default the only one there is.
    within_runs : bool
        Each run by its own mean and deviation; False takes those of all runs together.

    Raises
    ------
    DataError
        No such node, signal or table; a run without a sample inside of the intervals; and, when
        the values are computed, a column that does not vary.

    Notes
    -----
    Lazy: the signal is read twice, block by block. NaN has no say and stays NaN.

    A mean over the whole recording has seen the held-out trials, so ``over: recording`` carries
    a little of the test data into training. Models of this package scale their covariates at fit
    time, from training bins alone (`neuropipe.batching.sequences.Scaling`): that is the leak-free
    default. Standardise here what is a quantity of its own, such as a z-score against a declared
    rest period, or per run, as is usual for fMRI.
    """
    dataset = node_dataset(recording, node, "standardize")
    name = signal_of(dataset, node, variable, "standardize")
    array = dataset[name]
    values = floats(array)
    time = dataset["time"].values
    chosen = np.ones(len(time), dtype=bool)
    if over != "recording":
        table = interval_table(recording, over, "standardize")
        chosen = _inside(time, table["start_time"].values, table["stop_time"].values)
    runs = run_slices(recording, node) if within_runs else [slice(0, len(time))]
    parts = []
    for run in runs:
        if not chosen[run].any():
            raise DataError(
                f"standardize: no sample of {node} between {time[run][0]:g} and "
                f"{time[run][-1]:g} s lies in {over!r}; set within_runs: false or name another "
                "table"
            )
        parts.append(_standardized(values[run], chosen[run], f"{node}/{name}"))
    attrs = {**array.attrs, "units": "1", "standardized_over": over}
    attrs["standardized_from_units"] = array.attrs["units"]
    dataset[name] = (array.dims, da.concatenate(parts), attrs)
    return replaced(recording, node, dataset)


def _inside(time: np.ndarray, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    out = np.zeros(len(time), dtype=bool)
    for first, last in zip(start, stop, strict=True):
        if np.isfinite(first) and np.isfinite(last):
            out[np.searchsorted(time, first) : np.searchsorted(time, last)] = True
    return out


def _standardized(values: da.Array, chosen: np.ndarray, where: str) -> da.Array:
    def merge(parts: np.ndarray) -> np.ndarray:
        return _mean_and_sd(parts, where)

    summary = reduced(values, chosen, _moments, merge, 3, 2)
    scaled = (second_pass(values, summary) - summary[0]) / summary[1]
    return scaled.astype(values.dtype)


def _moments(block: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return number, mean and summed squared deviation of the chosen finite samples, (3, ...)."""
    there = np.isfinite(block) & chosen
    n = there.sum(axis=0)
    mean = np.where(there, block, 0.0).sum(axis=0) / np.maximum(n, 1)
    squares = np.where(there, block - mean, 0.0) ** 2
    return np.stack([n, mean, squares.sum(axis=0)])


def _mean_and_sd(parts: np.ndarray, where: str) -> np.ndarray:
    """Merge blocks by their own means, so that a large offset costs no digits."""
    n, mean, squares = parts[:, 0], parts[:, 1], parts[:, 2]
    total = n.sum(axis=0)
    if not parts.size:
        return np.zeros((2, *total.shape))
    with np.errstate(invalid="ignore", divide="ignore"):
        middle = (n * mean).sum(axis=0) / total
        spread = np.sqrt((squares + n * (mean - middle) ** 2).sum(axis=0) / total)
    flat = (total > 0) & ~(spread > 0)
    if flat.any():
        raise DataError(
            f"standardize: {int(flat.sum())} of {flat.size} columns of {where} do not vary (first: "
            f"column {int(np.flatnonzero(flat.ravel())[0])}); leave them out before"
        )
    return np.stack([middle, spread])
