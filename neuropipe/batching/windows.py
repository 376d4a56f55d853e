"""Stretches of a recording: where a fold may look, and how an array is cut to it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import xarray as xr

from neuropipe.batching.refusals import refuse_clock
from neuropipe.errors import DataError
from neuropipe.schema import Recording

GAP = 1.5  # steps between two samples from which something is missing


def attach_windows(recording: Recording, windows: Sequence[Sequence[float]]) -> Recording:
    """Return the recording with a node `windows`; models see nothing outside of it.

    Parameters
    ----------
    recording : DataTree
        Left as it is.
    windows : sequence of (start, stop), s
        Half open, from session start.

    Raises
    ------
    DataError
        If they are no pairs of numbers.
    """
    try:
        edges = np.asarray(windows, dtype=float)
    except (TypeError, ValueError):
        edges = np.zeros((1, 1))
    if edges.size == 0:
        edges = np.zeros((0, 2))
    if edges.ndim != 2 or edges.shape[1] != 2:
        raise DataError(
            f"attach_windows: found {str(windows)[:80]}, expected pairs of start and stop in s, "
            "such as [[0, 10], [12, 20]]"
        )
    node = xr.Dataset(
        {
            "start_time": ("window", edges[:, 0], {"units": "s"}),
            "stop_time": ("window", edges[:, 1], {"units": "s"}),
        }
    )
    out = recording.copy()
    out["windows"] = xr.DataTree(node)
    return out


def window_edges(recording: Recording, time: np.ndarray) -> np.ndarray:
    """Return the stretches that a model may use, (window, 2), s.

    They are the node `windows` where a fold has set it, else the trials, else the whole.
    """
    for name in ("windows", "trials"):
        if name in recording.children:
            return edges_of(recording, name)
    half = np.median(np.diff(time)) / 2 if len(time) > 1 else 0.5
    return np.array([[time[0] - half, time[-1] + half]])


def edges_of(recording: Recording, name: str) -> np.ndarray:
    """Return start and stop of each row of node `windows`, `trials` or `runs`, (window, 2), s.

    Raises
    ------
    DataError
        If a row has no finite, positive length: an open end would reach into other windows.
    """
    node = recording[name].to_dataset()
    edges = np.stack([node["start_time"].values, node["stop_time"].values], 1).astype(float)
    bad = np.flatnonzero(~(np.isfinite(edges).all(1) & (edges[:, 1] > edges[:, 0])))
    if len(bad):
        start, stop = edges[bad[0]]
        raise DataError(
            f"session {recording.attrs.get('session')}: {len(bad)} of {len(edges)} rows of node "
            f"{name} have no finite, positive length; row {bad[0]} lasts from {start:g} to "
            f"{stop:g} s; the step cut_trials leaves such rows out"
        )
    return edges


def window_slices(time: np.ndarray, edges: np.ndarray, session: str = "") -> list[slice]:
    """Return the positions on `time` that fall into each window, in order of time.

    Windows may overlap, as trials with a margin do; a sample then belongs to the first window that
    holds it, so that none is fitted or scored twice. Windows without a sample are left out.

    Parameters
    ----------
    time : (time,), s
        Increasing.
    edges : (window, 2), s
        Half-open stretches.
    session : str
        Named in errors.

    Raises
    ------
    DataError
        If no window holds a single sample, or times decrease.
    """
    refuse_clock(time, session)
    edges = edges[np.argsort(edges[:, 0], kind="stable")]
    last = np.searchsorted(time, edges[:, 1], side="left")
    taken = np.maximum.accumulate(np.concatenate([[0], last[:-1]]))
    first = np.maximum(np.searchsorted(time, edges[:, 0], side="left"), taken)
    out = [slice(int(a), int(b)) for a, b in zip(first, last, strict=True) if b > a]
    if not out:
        span = f"{time[0]:.3f} to {time[-1]:.3f} s" if len(time) else "no time at all"
        raise DataError(
            f"session {session or 'unnamed'}: none of {len(edges)} windows holds a sample; data "
            f"cover {span}, windows {edges.min() if edges.size else float('nan'):.3f} to "
            f"{edges.max() if edges.size else float('nan'):.3f} s; check the trial table's clock"
        )
    return out


def unbroken(time: np.ndarray, windows: Sequence[slice]) -> list[tuple[int, slice]]:
    """Cut windows where samples are missing, since what follows a gap has another past.

    Parameters
    ----------
    time : (time,), s
        Evenly spaced but for the gaps.
    windows : sequence of slice
        As of `window_slices`.

    Returns
    -------
    list of (window, slice)
        Number of the window that each piece is of.
    """
    step = np.diff(time)
    gap = np.flatnonzero(step > GAP * np.median(step)) + 1 if len(step) else np.zeros(0, int)
    out = []
    for number, part in enumerate(windows):
        inner = gap[(gap > part.start) & (gap < part.stop)].tolist()
        edges = [part.start, *inner, part.stop]
        out += [(number, slice(a, b)) for a, b in pairwise(edges)]
    return out


def cut_evenly(start: float, stop: float, length: float) -> np.ndarray:
    """Cut a stretch into consecutive windows of equal length, (window, 2), s; the rest is left."""
    n = max(int(np.floor((stop - start) / length + 1e-9)), 1)
    edges = start + length * np.arange(n + 1)
    edges[-1] = min(edges[-1], stop)
    return np.stack([edges[:-1], edges[1:]], 1)
