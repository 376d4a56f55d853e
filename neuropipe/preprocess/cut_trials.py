"""Which intervals of the source count as trials, and how much around them."""

from __future__ import annotations

import numpy as np
import xarray as xr

from neuropipe.errors import DataError
from neuropipe.preprocess.tables import interval_table
from neuropipe.schema import Recording


def cut_trials(
    recording: Recording,
    *,
    table: str = "trials",
    align: str = "start_time",
    before_s: float = 0.0,
    after_s: float | None = None,
    where: dict[str, list[str | float | bool]] | None = None,
    without: str = "",
) -> Recording:
    """Write node `trials`: one stretch of time per interval of the chosen table.

    Parameters
    ----------
    recording : DataTree
        With the table as node ``trials`` or ``intervals/<table>``.
    table : str
        Name of the table.
    align : str
        Column of times that a trial is cut around.
    before_s : float
        How far a trial starts before `align`.
    after_s : float, optional
        How far it reaches after `align`; by default to the interval's own `stop_time`.
    where : dict of column to list of values, optional
        Only intervals with one of these values in each column, such as
        ``{"trial_type": ["word"]}``.
    without : str
        Table of intervals, such as ``"artifacts"``, that no trial may overlap.

    Raises
    ------
    DataError
        For an unknown table or column, a value that no interval has, or when no interval is left
        or has a finite, positive length.

    Notes
    -----
    Intervals whose times are NaN are left out; the other columns of the table are kept. Trials
    may overlap: a split by trial then cuts the overlap from the training side.
    """
    node = interval_table(recording, table, "cut_trials")
    if align not in node:
        raise DataError(
            f"cut_trials: table {table!r} has no column {align!r}; it has "
            f"{', '.join(map(str, node.data_vars))}"
        )
    if "interval" in node.dims:
        node = node.rename(interval="trial")
    anchor = node[align].values.astype(float)
    start = anchor - before_s
    stop = node["stop_time"].values.astype(float) if after_s is None else anchor + after_s
    chosen = _chosen(node, where or {}, table)
    keep = chosen & np.isfinite(start) & np.isfinite(stop) & (stop > start)
    if not keep.any():
        raise DataError(
            f"cut_trials: none of {chosen.sum()} intervals of {table!r} has a finite, positive "
            "length"
        )
    if without:
        keep &= ~_touched(start, stop, interval_table(recording, without, "cut_trials"))
        if not keep.any():
            raise DataError(f"cut_trials: every interval of {table!r} overlaps one of {without!r}")
    node = node.isel(trial=np.flatnonzero(keep))
    node["start_time"] = ("trial", start[keep], {"units": "s"})
    node["stop_time"] = ("trial", stop[keep], {"units": "s"})
    out = recording.copy()
    out["trials"] = xr.DataTree(node)
    return out


def _chosen(node: xr.Dataset, where: dict[str, list], table: str) -> np.ndarray:
    keep = np.ones(node.sizes["trial"], dtype=bool)
    for column, values in where.items():
        if column not in node:
            raise DataError(
                f"cut_trials: table {table!r} has no column {column!r}; it has "
                f"{', '.join(map(str, node.data_vars))}"
            )
        there = node[column].values
        has = {value: there == value for value in values}
        lost = [value for value, rows in has.items() if not np.any(rows)]
        if lost or not values:
            some = ", ".join(map(str, sorted(set(there.tolist()), key=str)[:10]))
            raise DataError(
                f"cut_trials: no interval of {table!r} has {column} {lost[:1] or values}; it has "
                f"{some}"
            )
        keep &= np.any(list(has.values()), axis=0)
    if not keep.any():
        raise DataError(f"cut_trials: no interval of {table!r} meets all of {where}")
    return keep


def _touched(start: np.ndarray, stop: np.ndarray, other: xr.Dataset) -> np.ndarray:
    """Return whether each stretch overlaps any interval of another table."""
    ends = np.sort(other["stop_time"].values)
    begins = np.sort(other["start_time"].values)
    # intervals that began before the stretch's end, less those that ended by its start
    return np.searchsorted(begins, stop, "left") > np.searchsorted(ends, start, "right")
