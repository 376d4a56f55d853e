"""Tables of intervals and the node of behaviour, as several steps find and write them."""

from __future__ import annotations

import numpy as np
import xarray as xr

from neuropipe.errors import DataError
from neuropipe.schema import Recording, validate


def interval_table(recording: Recording, table: str, step: str) -> xr.Dataset:
    """Return node ``trials`` or ``intervals/<table>``; an unknown one lists those there are.

    Raises
    ------
    DataError
        No such table; the message names `step`.
    """
    path = "trials" if table == "trials" else f"intervals/{table}"
    tables = [n.lstrip("/") for n in recording.groups if n.startswith(("/trials", "/intervals/"))]
    if path not in tables:
        raise DataError(
            f"{step}: no table {table!r} in session {recording.attrs.get('session')}; it has "
            f"{', '.join(t.removeprefix('intervals/') for t in tables) or 'none'}"
        )
    validate(recording, path)
    return recording[path].to_dataset()


def behavior_series(recording: Recording) -> dict[str, Recording]:
    """Return the series of behaviour on their own clocks, by name."""
    nodes = [recording[n] for n in ("behavior", "behavior_source") if n in recording.children]
    return {name: child for node in nodes for name, child in node.children.items()}


def with_behavior(recording: Recording, signals: xr.Dataset, step: str) -> Recording:
    """Return the recording with `signals`, on the clock of the neural data, in node `behavior`.

    Signals that an earlier step put there stay. Series on clocks of their own move aside, to
    ``behavior_source``: a node and its children share a clock in xarray.

    Raises
    ------
    DataError
        If a signal of that name is there, or the node has another clock.
    """
    series = behavior_series(recording)
    if "behavior" in recording.children and recording["behavior"].variables:
        before = recording.children["behavior"].to_dataset(inherit=False)
        session = recording.attrs.get("session")
        if not np.array_equal(before["time"].values, signals["time"].values):
            raise DataError(
                f"{step}: node behavior of session {session} is not on the clock of the neural "
                "data; bin the spikes first, then resample_behavior"
            )
        taken = sorted(set(map(str, signals.data_vars)) & set(map(str, before.variables)))
        if taken:
            raise DataError(
                f"{step}: node behavior of session {session} already has {', '.join(taken)}; "
                "choose another name"
            )
        signals = before.assign(signals.data_vars)
    out = recording.copy()
    out["behavior"] = xr.DataTree(signals)
    for name, child in series.items():
        out[f"behavior_source/{name}"] = child.copy()
    return out
