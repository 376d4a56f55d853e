"""A stream with a clock of its own onto the session's clock, by sync pulses."""

from __future__ import annotations

import logging
from typing import cast

import numpy as np
import xarray as xr

from neuropipe.errors import DataError
from neuropipe.schema import Recording, validate

log = logging.getLogger(__name__)

TIMES = ("time", "event_time", "spike_time", "start_time", "stop_time", "frame_time")
MAX_DRIFT = 0.01  # a quartz is off by 1e-4 at most: more means that other pulses were matched
FEWEST = 3  # two pulses fit any line


def align_clock(
    recording: Recording,
    *,
    nodes: list[str],
    pulses: str,
    reference: str,
    max_residual_s: float,
) -> Recording:
    """Move the times of nodes from their stream's clock onto the session's clock.

    Parameters
    ----------
    recording : DataTree
        With nodes ``events/<pulses>`` and ``events/<reference>``.
    nodes : list of str
        Nodes of the stream, such as ``["behavior/gaze", "events/blinks"]``. The node of `pulses`
        moves with them.
    pulses : str
        The sync pulses as the stream saw them, on its clock.
    reference : str
        The same pulses on the session's clock.
    max_residual_s : float
        Largest distance of a pulse from the straight line through all; above, the step refuses.

    Raises
    ------
    DataError
        Unknown node; fewer than three pulses; a drift above one per cent; pulses further than
        `max_residual_s` from the line; or trains of unequal length that fit in several ways.

    Notes
    -----
    The stream's time t becomes a + b t, with a and b by least squares. Where one train has pulses
    more at its ends, the shorter one is sought in the longer one, by fit. The largest residual
    is kept as attr `clock_residual_ms` of each node, slope and offset beside it; a
    `sampling_rate_hz` changes with the slope.
    """
    if not max_residual_s > 0:
        raise DataError(f"align_clock: max_residual_s is {max_residual_s}, expected above 0")
    stream, session = (_events(recording, name) for name in (pulses, reference))
    offset_s, slope, residual_s = _matched(stream, session, max_residual_s, pulses, reference)
    attrs = {
        "clock_residual_ms": 1e3 * residual_s,
        "clock_slope": slope,
        "clock_offset_s": offset_s,
    }
    out = recording.copy()
    for node in dict.fromkeys([*nodes, f"events/{pulses}"]):
        there = [g.lstrip("/") for g in recording.groups if recording[g].variables]
        if node not in there:
            raise DataError(
                f"align_clock: no node {node!r} in session {recording.attrs.get('session')}; it "
                f"has {', '.join(there)}"
            )
        out[node].dataset = _moved(
            cast(xr.DataTree, recording[node]).to_dataset(inherit=False), offset_s, slope, attrs
        )
    return out


def _events(recording: Recording, name: str) -> np.ndarray:
    events = recording.children.get("events")
    there = sorted(events.children) if events is not None else []
    if name not in there:
        raise DataError(
            f"align_clock: no node events/{name} in session {recording.attrs.get('session')}; it "
            f"has {', '.join(there) or 'no events'}"
        )
    validate(recording, f"events/{name}")
    times = np.asarray(recording[f"events/{name}"]["event_time"].values, dtype=float)
    if len(times) < FEWEST or not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        raise DataError(
            f"align_clock: events/{name} holds {len(times)} times, expected at least {FEWEST}, all "
            "finite and increasing"
        )
    return times


def _matched(
    stream: np.ndarray, session: np.ndarray, max_residual_s: float, pulses: str, reference: str
) -> tuple[float, float, float]:
    """Return offset, slope and largest residual, s, of the one pairing that fits."""
    n = min(len(stream), len(session))
    fits = []
    for shift in range(abs(len(stream) - len(session)) + 1):
        own = stream[shift : shift + n] if len(stream) > n else stream
        other = session[shift : shift + n] if len(session) > n else session
        fits.append((*_line(own, other), shift))
    near = [fit for fit in fits if fit[2] <= max_residual_s and abs(fit[1] - 1) <= MAX_DRIFT]
    counted = f"{len(stream)} pulses in events/{pulses}, {len(session)} in events/{reference}"
    if not near:
        best = min(fits, key=lambda fit: fit[2])
        raise DataError(
            f"align_clock: {counted}: the best straight line leaves {1e3 * best[2]:.3g} ms, with "
            f"slope {best[1]:.6g}; expected at most {1e3 * max_residual_s:g} ms and a slope within "
            f"{MAX_DRIFT:g} of 1; are both the same pulses, and none missing in between?"
        )
    if len(near) > 1:
        raise DataError(
            f"align_clock: {counted}: {len(near)} pairings fit equally well, for the pulses are "
            "regular; cut the longer train to the pulses of the shorter one"
        )
    offset, slope, residual_s, shift = near[0]
    if len(stream) != len(session):
        log.info("align_clock: %s; the shorter train starts at pulse %d", counted, shift)
    return offset, slope, residual_s


def _line(own: np.ndarray, other: np.ndarray) -> tuple[float, float, float]:
    middle = own.mean()
    centred = own - middle
    slope = float(centred @ other / (centred @ centred))
    residuals = other - (other.mean() + slope * centred)
    offset = float(other.mean() - slope * middle)
    return offset, slope, float(np.abs(residuals).max())


def _moved(dataset: xr.Dataset, offset: float, slope: float, attrs: dict) -> xr.Dataset:
    variables = dict(dataset.variables)
    for name in TIMES:
        if name in variables:
            old = variables[name]
            variables[name] = xr.Variable(old.dims, offset + slope * old.data, old.attrs)
    coords = {name: variables[name] for name in dataset.coords}
    kept = {**dataset.attrs, **attrs}
    if "sampling_rate_hz" in kept:
        kept["sampling_rate_hz"] = float(kept["sampling_rate_hz"]) / slope
    # an index is made again for the clocks that had one
    lazy = {name: variable for name, variable in coords.items() if name not in dataset.xindexes}
    out = xr.Dataset({n: variables[n] for n in dataset.data_vars}, attrs=kept)
    out = out.assign_coords(xr.Coordinates(lazy, indexes={}))
    return out.assign_coords({n: v for n, v in coords.items() if n not in lazy})
