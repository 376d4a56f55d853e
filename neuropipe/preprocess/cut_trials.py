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

    Raises
    ------
    DataError
        For an unknown table or column, or when no interval has a finite, positive length.

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
    keep = np.isfinite(start) & np.isfinite(stop) & (stop > start)
    if not keep.any():
        raise DataError(
            f"cut_trials: none of {len(keep)} intervals of {table!r} has a finite, positive length"
        )
    node = node.isel(trial=np.flatnonzero(keep))
    node["start_time"] = ("trial", start[keep], {"units": "s"})
    node["stop_time"] = ("trial", stop[keep], {"units": "s"})
    out = recording.copy()
    out["trials"] = xr.DataTree(node)
    return out
