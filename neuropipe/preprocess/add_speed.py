"""Speed from a position that is on the clock of the bins."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import xarray as xr
from scipy.ndimage import gaussian_filter1d

from neuropipe.errors import DataError
from neuropipe.preprocess.tables import with_behavior
from neuropipe.registry import hint
from neuropipe.schema import Recording

GAP = 1.5  # steps of the clock; a longer one ends a stretch


def add_speed(
    recording: Recording, *, signals: list[str], smoothing_s: float = 0.25, name: str = "speed"
) -> Recording:
    """Add a signal to node `behavior`: how fast a position moves.

    Parameters
    ----------
    recording : DataTree
        With node `behavior` on one clock, as `resample_behavior` leaves it.
    signals : list of str
        The position's coordinates, all in the same units.
    smoothing_s : float
        Standard deviation of the Gaussian that positions are smoothed with first, so that jitter
        of the tracking is no speed; 0 for none.
    name : str
        Name of the new signal, in the position's units a second.

    Raises
    ------
    DataError
        For an unknown signal, unequal units, a name that is taken, or when no two bins in a row
        have a position.

    Notes
    -----
    Central differences; nothing reaches over a bin without position or over a gap in time, and
    such bins stay NaN. Smoothing looks both ways in time, by a few standard deviations.
    """
    session = recording.attrs.get("session")
    tree = recording.children.get("behavior")
    if tree is None or "time" not in tree.variables:
        raise DataError(
            f"add_speed: session {session} has no signal on the bins; put resample_behavior "
            "before this step"
        )
    if not smoothing_s >= 0:
        raise DataError(f"add_speed: smoothing_s is {smoothing_s}, expected 0 or more")
    node = tree.to_dataset(inherit=False)
    for signal in signals:
        if signal not in node.data_vars:
            known = [str(n) for n in node.data_vars]
            raise DataError(
                f"add_speed: session {session}: no signal {signal!r} in node behavior"
                f"{hint(signal, known)}"
            )
    units = {str(node[signal].attrs.get("units", "1")) for signal in signals}
    if len(units) != 1:
        raise DataError(
            f"add_speed: signals are in {', '.join(sorted(units)) or 'nothing'}, expected one unit"
        )
    time = node["time"].values.astype(float)
    place = np.stack([np.asarray(node[s].values, dtype=float) for s in signals], 1)
    values = speed(time, place, smoothing_s)
    if not np.isfinite(values).any():
        raise DataError(
            f"add_speed: session {session}: no two bins in a row have a position; check its clock "
            "and max_gap_s of resample_behavior"
        )
    attrs = {"units": f"{units.pop()}/s", "smoothing_s": float(smoothing_s)}
    found = xr.Dataset({name: ("time", values, attrs)}, {"time": node["time"]})
    return with_behavior(recording, found, "add_speed")


def speed(time: np.ndarray, place: np.ndarray, smoothing_s: float) -> np.ndarray:
    """Return the speed (bin,) of a place (bin, axis), stretch by stretch; NaN where unknown."""
    out = np.full(len(time), np.nan)
    if len(time) < 2:
        return out
    step = float(np.median(np.diff(time)))
    known = np.isfinite(place).all(1)
    broken = (np.diff(time) > GAP * step) | (np.diff(known.astype(int)) != 0)
    edges = np.concatenate([[0], np.flatnonzero(broken) + 1, [len(time)]])
    for first, stop in pairwise(edges):
        if not known[first] or stop - first < 2:
            continue
        course = place[first:stop]
        if smoothing_s > 0:
            course = gaussian_filter1d(course, smoothing_s / step, axis=0, mode="nearest")
        out[first:stop] = np.linalg.norm(np.gradient(course, time[first:stop], axis=0), axis=1)
    return out
