"""A session's spikes as a list of bins and units, inside the stretches that a fold may see.

The Neuroformer and its baselines read through this one door, so they see the same units, the same
bins and the same signals.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import xarray as xr

from neuropipe.batching.paired import behavior_columns
from neuropipe.batching.refusals import refuse_counts, refuse_twice
from neuropipe.batching.traces import key_of
from neuropipe.batching.windows import window_edges, window_slices
from neuropipe.errors import DataError
from neuropipe.schema import Recording, validate

log = logging.getLogger(__name__)

BLOCK_ENTRIES = 2**25  # of the counts that are held at once


@dataclass(frozen=True)
class Movie:
    """Frames shown to the subject, in order of time."""

    pixel: np.ndarray  # (frame, y, x)
    onset: np.ndarray  # (frame,) s


@dataclass(frozen=True)
class Raster:
    """One session's spikes inside its stretches, all bins laid end to end.

    Attributes
    ----------
    key : str
        ``subject/session``.
    unit : (unit,)
        Identifiers.
    bin_width_s : float
    time : (bin,), s
        Centres.
    first, stop : (stretch,) int64
        Bins of each uninterrupted stretch; nothing reaches over their edges.
    event_bin, event_unit : (event,) int64
        One entry a spike, ordered by bin, then by unit; a count of k gives k entries.
    channels : tuple of str
        Names of the signals.
    channel_units : tuple of str
    signal : (bin, channel) float64
        NaN where missing.
    movie : Movie, optional
    """

    key: str
    unit: np.ndarray
    bin_width_s: float
    time: np.ndarray
    first: np.ndarray
    stop: np.ndarray
    event_bin: np.ndarray
    event_unit: np.ndarray
    channels: tuple[str, ...]
    channel_units: tuple[str, ...]
    signal: np.ndarray
    movie: Movie | None = None

    @property
    def n_bins(self) -> int:
        """Bins inside the stretches."""
        return int((self.stop - self.first).sum())

    def inside(self) -> np.ndarray:
        """Return which bins lie in a stretch, (bin,) bool."""
        edge = np.zeros(len(self.time) + 1, dtype=np.int64)
        np.add.at(edge, self.first, 1)
        np.add.at(edge, self.stop, -1)
        return edge.cumsum()[:-1] > 0

    def total(self) -> np.ndarray:
        """Return the spikes of each unit inside the stretches, (unit,)."""
        seen = self.inside()[self.event_bin]
        return np.bincount(self.event_unit[seen], minlength=len(self.unit))

    def occupied(self) -> np.ndarray:
        """Return the bins inside the stretches that hold a spike, for each unit, (unit,)."""
        n = len(self.unit)
        seen = self.inside()[self.event_bin]
        cells = np.unique(self.event_bin[seen] * n + self.event_unit[seen])
        return np.bincount(cells % n, minlength=n)

    def counts(self) -> np.ndarray:
        """Return the counts of the bins inside the stretches, (bin, unit) float64."""
        out = np.zeros((len(self.time), len(self.unit)))
        np.add.at(out, (self.event_bin, self.event_unit), 1)
        return out[self.inside()]

    def only(self, unit: np.ndarray) -> Raster:
        """Return the raster of some units, by identifier, in this order.

        Raises
        ------
        DataError
            If one is not there.
        """
        lost = np.setdiff1d(unit, self.unit)
        if len(lost):
            raise DataError(
                f"tokens: {self.key}: units {', '.join(map(str, lost))} of the training data are "
                "absent"
            )
        place = np.full(len(self.unit), -1)
        at = {u: n for n, u in enumerate(self.unit.tolist())}
        place[[at[u] for u in unit.tolist()]] = np.arange(len(unit))
        moved = place[self.event_unit]
        kept = moved >= 0
        event_bin, event_unit = self.event_bin[kept], moved[kept]
        order = np.lexsort([event_unit, event_bin])
        return replace(
            self, unit=unit, event_bin=event_bin[order], event_unit=event_unit[order]
        )  # fmt: skip


def read_raster(
    recording: Recording, *, signals: Sequence[str] = (), stimulus: str | None = None
) -> Raster:
    """Read what lies in a recording's windows, and nothing outside of them.

    Parameters
    ----------
    recording : DataTree
        With node `counts`, whose bins are the clock; its node `windows` (else its trials, else the
        whole) says which stretches may be seen. Bins that were not observed end a stretch.
    signals : sequence of str
        Variables of node `behavior`, on the same clock.
    stimulus : str, optional
        Node of a movie, ``stimulus/<series>``.

    Notes
    -----
    Counts are read block by block, so memory grows with the spikes, not with bins times units.

    Raises
    ------
    SchemaError
        If a node is missing or not as the catalogue says.
    DataError
        If a signal is unknown or on another clock, no window holds a bin, a unit comes twice or
        counts spikes that none can fire, or the stimulus has no frames with times.
    """
    validate(recording, "counts")
    node = recording["counts"].to_dataset()
    array = node["spike_count"]
    time = np.asarray(node["time"].values, dtype=float)
    session = str(recording.attrs.get("session", ""))
    observed = node["observed"].values if "observed" in node else np.ones(len(time), dtype=bool)
    values, channels, channel_units = behavior_columns(recording, signals, time, session)
    step = array.attrs.get("bin_width_s", np.median(np.diff(time)) if len(time) > 1 else np.nan)
    if not step > 0:
        raise DataError(f"tokens: session {session}: bins of {step} s; bin it with bin_spikes")
    unit = node["unit"].values if "unit" in node.coords else np.arange(array.shape[1])
    refuse_twice(unit, f"tokens: session {session}: unit")
    times, lengths, bins, units, kept, n = [], [], [], [], [], 0
    for part in window_slices(time, window_edges(recording, time), session):
        for piece in _unbroken(time, observed, part, float(step)):
            found = _events(array, piece, float(step), f"tokens: session {session}: counts")
            bins.append(found[0] + n)
            units.append(found[1])
            times.append(time[piece])
            kept.append(values[piece])
            lengths.append(piece.stop - piece.start)
            n += lengths[-1]
    if not lengths:
        raise DataError(
            f"tokens: session {session}: no bin of its windows was observed; check `observed` of "
            "node counts"
        )
    stop = np.cumsum(lengths)
    return Raster(
        key_of(recording), np.asarray(unit), float(step), np.concatenate(times),
        stop - np.array(lengths), stop, np.concatenate(bins), np.concatenate(units), channels,
        channel_units, np.concatenate(kept),
        None if stimulus is None else read_movie(recording, stimulus),
    )  # fmt: skip


def _unbroken(time: np.ndarray, observed: np.ndarray, part: slice, step: float) -> list[slice]:
    """Cut a stretch where bins are missing or were not observed."""
    at = np.flatnonzero(observed[part]) + part.start
    if not len(at):
        return []
    new = (np.diff(at) > 1) | (np.diff(time[at]) > 1.5 * step)
    edges = np.concatenate([[0], np.flatnonzero(new) + 1, [len(at)]])
    return [slice(int(at[a]), int(at[b - 1]) + 1) for a, b in pairwise(edges)]


def _events(
    array: xr.DataArray, part: slice, width_s: float, what: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return bins (from the start of the part) and units of its spikes."""
    length = max(BLOCK_ENTRIES // max(array.shape[1], 1), 1)
    bins, units = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for start in range(part.start, part.stop, length):
        block = array[start : min(start + length, part.stop)].values
        refuse_counts(block, width_s, what)
        row, unit = np.nonzero(block)
        number = block[row, unit].astype(np.int64)  # numpy repeats by no unsigned 64-bit numbers
        bins.append(np.repeat(row + start - part.start, number))
        units.append(np.repeat(unit, number))
    return np.concatenate(bins), np.concatenate(units)


def read_movie(recording: Recording, node: str) -> Movie:
    """Return the grey frames of a node and their times.

    Raises
    ------
    DataError
        If the node has no frames, or frames without times.
    """
    validate(recording, node)
    dataset = recording[node].to_dataset()
    session = recording.attrs.get("session")
    if "frame" not in dataset.variables or "frame_time" not in dataset.variables:
        raise DataError(
            f"tokens: session {session}: node {node} has {', '.join(map(str, dataset.variables))}, "
            "expected grey images `frame` and their times `frame_time`"
        )
    pixel, onset = dataset["frame"].values, dataset["frame_time"].values.astype(float)
    if not (np.isfinite(onset).all() and (np.diff(onset) >= 0).all() and len(onset)):
        raise DataError(f"tokens: session {session}: {node}/frame_time does not increase")
    if not np.isfinite(pixel).all():
        raise DataError(f"tokens: session {session}: {node}/frame is not finite")
    return Movie(pixel.astype(np.float32), onset)


def split_tail(raster: Raster, share: float, gap_bins: int) -> tuple[Raster, Raster]:
    """Set the last share of the bins aside, with a gap before it.

    Returns
    -------
    earlier, later : Raster
        Of the same arrays, with stretches of their own.
    """
    length = raster.stop - raster.first
    edge = float(length.sum()) * (1 - share)
    before = np.cumsum(length) - length
    cut = np.clip(np.round(edge - before).astype(np.int64), 0, length)
    early = np.maximum(cut - np.where(cut < length, gap_bins, 0), 0)
    # where the cut falls between two stretches, the gap is theirs already
    return (
        _stretched(raster, raster.first, raster.first + early),
        _stretched(raster, raster.first + cut, raster.stop),
    )


def _stretched(raster: Raster, first: np.ndarray, stop: np.ndarray) -> Raster:
    kept = stop > first
    return replace(raster, first=first[kept], stop=stop[kept])


def keep_units(rasters: Sequence[Raster], min_spikes: int) -> list[Raster]:
    """Leave out units with few spikes in their session's stretches.

    Raises
    ------
    DataError
        If a session has none left.
    """
    out = []
    for raster in rasters:
        kept = raster.total() >= min_spikes
        if not kept.any():
            raise DataError(
                f"tokens: {raster.key}: none of {len(kept)} units has {min_spikes} spikes in the "
                "training windows; lower min_spikes or use more data"
            )
        if not kept.all():
            log.info("%s: %d units with few spikes left out", raster.key, int((~kept).sum()))
        out.append(raster.only(raster.unit[kept]))
    return out
