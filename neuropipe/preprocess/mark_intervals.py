"""Intervals of the source as a signal: which share of each bin they cover."""

from __future__ import annotations

import logging

import numpy as np
import xarray as xr

from neuropipe.errors import DataError
from neuropipe.preprocess.tables import interval_table, with_behavior
from neuropipe.schema import Recording, validate

log = logging.getLogger(__name__)


def mark_intervals(
    recording: Recording,
    *,
    table: str,
    name: str,
    from_s: float = 0.0,
    to_s: float | None = None,
) -> Recording:
    """Add a signal to node `behavior`: the share of each bin that lies inside an interval.

    Parameters
    ----------
    recording : DataTree
        With node `counts`, and the table as node ``trials`` or ``intervals/<table>``.
    table : str
        Name of the table.
    name : str
        Name of the new signal.
    from_s, to_s : float, optional
        The marked stretch of each interval, from its `start_time`; by default it ends at the
        interval's own `stop_time`. Negative values reach before the start.

    Raises
    ------
    DataError
        For an unknown table, a name that is taken, or when no marked stretch has a finite,
        positive length.

    Notes
    -----
    Overlapping intervals count once; intervals whose times are NaN are left out. A signal that
    marks what happens later (`from_s` below zero) must not enter a model that predicts.
    """
    validate(recording, "counts")
    if to_s is not None and not to_s > from_s:
        raise DataError(f"mark_intervals: to_s is {to_s}, expected more than from_s, {from_s}")
    intervals = interval_table(recording, table, "mark_intervals")
    onset = intervals["start_time"].values.astype(float)
    start = onset + from_s
    stop = intervals["stop_time"].values.astype(float) if to_s is None else onset + to_s
    keep = np.isfinite(start) & np.isfinite(stop) & (stop > start)
    if not keep.any():
        raise DataError(
            f"mark_intervals: none of {len(keep)} intervals of {table!r} has a finite, positive "
            "length"
        )
    counts = recording["counts"].to_dataset()
    grid = counts["time"].values
    share = covered_share(start[keep], stop[keep], grid, counts["spike_count"].attrs["bin_width_s"])
    if not share.any():
        log.warning(
            "mark_intervals: no interval of %r meets the bins, %g to %g s: %r is zero throughout",
            table, grid[0], grid[-1], name,
        )  # fmt: skip
    signal = xr.Dataset(
        {name: ("time", share, {"units": "1", "long_name": f"share of the bin inside {table}"})},
        {"time": ("time", grid, {"units": "s"})},
    )
    return with_behavior(recording, signal, "mark_intervals")


def covered_share(
    start: np.ndarray, stop: np.ndarray, grid: np.ndarray, width: float
) -> np.ndarray:
    """Return the share of each bin, centred on `grid`, that lies in the union of intervals."""
    order = np.argsort(start)
    start, stop = start[order], np.maximum.accumulate(stop[order])
    first = np.append(True, start[1:] > stop[:-1])  # the intervals that open a piece of the union
    start, stop = start[first], stop[np.append(np.flatnonzero(first)[1:] - 1, len(stop) - 1)]
    covered = np.concatenate([[0.0], np.cumsum(stop - start)])
    corners = np.stack([start, stop], 1).ravel()
    until = np.stack([covered[:-1], covered[1:]], 1).ravel()  # length covered up to each corner
    edges = np.stack([grid - width / 2, grid + width / 2])
    low, high = np.interp(edges, corners, until)
    # differences of late times: what is below 1e-7 is rounding
    return np.clip(np.round((high - low) / width, 7), 0.0, 1.0)
