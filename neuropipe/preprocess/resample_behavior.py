"""Behaviour on its own clocks to the clock of the neural data."""

from __future__ import annotations

import numpy as np
import xarray as xr

from neuropipe.errors import DataError
from neuropipe.preprocess.bin_spikes import EDGE_S
from neuropipe.preprocess.tables import behavior_series, with_behavior
from neuropipe.schema import Recording, validate


def resample_behavior(
    recording: Recording, *, signals: list[str], max_gap_s: float = 0.25, clock: str = "counts"
) -> Recording:
    """Write node `behavior`: the wanted signals on the bins of the neural data.

    Parameters
    ----------
    recording : DataTree
        With the node that `clock` names, and families ``behavior/<series>``.
    signals : list of str
        ``"series"`` for every variable of a series, or ``"series/variable"``; numeric only.
    max_gap_s : float
        A bin whose nearest finite samples on both sides are further apart than this is NaN:
        missing stays missing.
    clock : str
        Node whose bins they are: ``counts``, or traces such as ``calcium/cells``, each of whose
        samples stands for the time of one sampling interval around it.

    Notes
    -----
    A signal faster than the bins is averaged inside each bin, so that nothing aliases; a slower
    one is interpolated linearly. A column of several dimensions becomes one signal a dimension.

    Raises
    ------
    DataError
        For an unknown series, a clock of less than two samples, or when the result would be NaN
        everywhere.
    """
    grid, width = _bins(recording, clock)
    available = behavior_series(recording)
    out = xr.Dataset(coords={"time": ("time", grid, {"units": "s"})})
    for signal in signals:
        series, _, variable = signal.partition("/")
        if series not in available:
            raise DataError(
                f"resample_behavior: no series {series!r} in session "
                f"{recording.attrs.get('session')}; it has {', '.join(sorted(available)) or 'none'}"
            )
        node = available[series].to_dataset(inherit=False)
        names = [variable] if variable else [str(n) for n in node.data_vars]
        for name in names:
            if name not in node:
                there = ", ".join(map(str, node.data_vars))
                raise DataError(f"resample_behavior: series {series!r} has {there}, not {name!r}")
            for label, column in _columns(series, name, node[name]):
                values = onto_grid(node["time"].values, column, grid, width, max_gap_s)
                if np.isnan(values).all():
                    raise DataError(
                        f"resample_behavior: {signal} has no sample within {max_gap_s:g} s of any "
                        "bin; check its clock"
                    )
                out[label] = ("time", values, {"units": node[name].attrs.get("units", "1")})
    return with_behavior(recording, out, "resample_behavior")


def _bins(recording: Recording, clock: str) -> tuple[np.ndarray, float]:
    """Return the centres of the bins of a node, and their width, s."""
    validate(recording, clock)
    node = recording[clock].to_dataset()
    grid = np.asarray(node["time"].values, dtype=float)
    if "spike_count" in node:
        return grid, float(node["spike_count"].attrs["bin_width_s"])
    if len(grid) < 2:
        raise DataError(
            f"resample_behavior: node {clock} of session {recording.attrs.get('session')} has "
            f"{len(grid)} samples, expected at least 2"
        )
    return grid, float(np.median(np.diff(grid)))


def _columns(series: str, name: str, array: xr.DataArray) -> list[tuple[str, np.ndarray]]:
    label = series if name == series else f"{series}_{name}"
    values = np.asarray(array.values, dtype=float)
    if values.ndim == 1:
        return [(label, values)]
    axes = array[array.dims[1]].values if array.dims[1] in array.coords else range(values.shape[1])
    return [(f"{label}_{axis}", values[:, i]) for i, axis in enumerate(axes)]


def onto_grid(
    time: np.ndarray, values: np.ndarray, grid: np.ndarray, width: float, max_gap_s: float
) -> np.ndarray:
    """Return `values` on the bins `grid` of `width` s, NaN inside gaps longer than `max_gap_s`."""
    finite = np.isfinite(values)
    time, values = time[finite], values[finite]
    if len(time) < 2:
        return np.full(len(grid), np.nan)
    edges = np.append(grid - width / 2, grid[-1] + width / 2)
    first = np.searchsorted(time, edges - EDGE_S)
    n = np.diff(first)
    total = np.concatenate([[0.0], np.cumsum(values)])
    mean = (total[first[1:]] - total[first[:-1]]) / np.maximum(n, 1)
    right = np.clip(np.searchsorted(time, grid), 1, len(time) - 1)
    gap = time[right] - time[right - 1]
    between = np.interp(grid, time, values)
    lost = (gap > max_gap_s) | (grid < time[0] - max_gap_s) | (grid > time[-1] + max_gap_s)
    return np.where(n > 0, mean, np.where(lost, np.nan, between))
