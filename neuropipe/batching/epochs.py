"""Voltages inside a fold's stretches: windows without labels, trials with them, on one scale.

Du-IN and the decoders that stand beside it read through this one door, so they see the same
contacts, the same trials and the same scaling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr

from neuropipe.batching.windows import window_edges, window_slices
from neuropipe.errors import DataError
from neuropipe.runtime import generator
from neuropipe.schema import Recording, validate

# Edges are taken this share of a sample early, since a sum of decimals may lie a hair behind.
HAIR = 1e-3
GAP = 1.5  # steps between two samples from which something is missing
LONG = 8  # windows from which a stretch is cut for validation, instead of held out as a whole
PLACES = ("x", "y", "z", "shaft", "region")
UNLABELLED = ("", "n/a", "nan", "None")


@dataclass(frozen=True)
class VoltageSource:
    """Which part of a recording is looked at.

    Attributes
    ----------
    labels : str
        Column of node `trials` that says what a trial was.
    trial_s : float, optional
        Length of a trial from its start; by default the shortest training trial's.
    n_channels : int, optional
        Contacts to keep, those whose band power tells the training trials' labels apart best;
        by default all.
    """

    labels: str = "trial_type"
    trial_s: float | None = None
    n_channels: int | None = None


@dataclass(frozen=True, eq=False)
class Voltages:
    """One session's voltages in the fold's stretches, laid end to end, and its trials.

    Attributes
    ----------
    subject, session : str
    channel : tuple of str
    rate_hz : float
    value : (sample, channel) float32
        V, or standard deviations once scaled.
    edge : (stretch, 2) int64
        First sample of each stretch, and the one behind its last; stretches never join over a
        gap, the end of a run or anything outside of the fold.
    begin_s : (stretch,), s
        From session start.
    onset, extent : (trial,) int64
        First sample and length of each trial that lies in a stretch as a whole.
    label : (trial,) str
        Empty where a trial has none.
    place : dict
        Coordinates of the contacts, as in node `ieeg`.
    """

    subject: str
    session: str
    channel: tuple[str, ...]
    rate_hz: float
    value: np.ndarray
    edge: np.ndarray
    begin_s: np.ndarray
    onset: np.ndarray
    extent: np.ndarray
    label: np.ndarray
    place: dict[str, np.ndarray]

    def seconds(self, sample: np.ndarray) -> np.ndarray:
        """Return when samples were taken, s from session start."""
        stretch = np.searchsorted(self.edge[:, 0], sample, side="right") - 1
        return self.begin_s[stretch] + (sample - self.edge[stretch, 0]) / self.rate_hz

    def starts(self, length: int, step: int) -> np.ndarray:
        """Return first samples of windows of `length` samples, `step` apart in each stretch."""
        found = [np.arange(a, b - length + 1, step) for a, b in self.edge]
        return np.concatenate([*found, np.zeros(0, np.int64)]).astype(np.int64)

    def trials(self, n_samples: int, keep: np.ndarray | None = None) -> np.ndarray:
        """Return the first samples of trials as (trial, sample, channel)."""
        onset = self.onset if keep is None else self.onset[keep]
        return self.value[onset[:, None] + np.arange(n_samples)]

    def only(self, stretch: np.ndarray) -> Voltages:
        """Return the same with some stretches ((n, 2) samples) and the trials inside them."""
        stretch = stretch[np.argsort(stretch[:, 0], kind="stable")]
        inside = np.zeros(len(self.onset), bool)
        for a, b in stretch:
            inside |= (self.onset >= a) & (self.onset + self.extent <= b)
        return replace(
            self, edge=stretch, begin_s=self.seconds(stretch[:, 0]), onset=self.onset[inside],
            extent=self.extent[inside], label=self.label[inside],
        )  # fmt: skip


def read(
    recording: Recording, source: VoltageSource, channels: Sequence[str] | None = None
) -> Voltages:
    """Read what a fold shows of a session's node `ieeg` and of its trials.

    Parameters
    ----------
    recording : DataTree
        Only what lies in its node `windows` (or trials) is looked at.
    source : VoltageSource
    channels : sequence of str, optional
        Contacts to read; by default all.

    Raises
    ------
    DataError
        If a contact or the column of labels is missing, a voltage is NaN, or the clock is not
        regular.
    """
    validate(recording, "ieeg")
    node = recording["ieeg"].to_dataset()
    subject, session = (str(recording.attrs.get(k, "")) for k in ("subject", "session"))
    own = [str(c) for c in node["channel"].values]
    if not own:
        raise DataError(f"voltages: session {session} has no channel; check select_channels")
    missing = [c for c in channels or () if c not in own]
    if missing or len(set(own)) < len(own):
        twice = next((c for c in own if own.count(c) > 1), "")
        raise DataError(
            f"voltages: session {session} "
            + (f"lacks the contact {missing[0]!r} that was fitted; it has {', '.join(own)}"
               if missing else f"has two channels {twice!r}; rename one")
        )  # fmt: skip
    at = [own.index(c) for c in channels] if channels is not None else list(range(len(own)))
    time = node["time"].values.astype(float)
    rate = _rate(node, time, session)
    parts = _stretches(recording, time, rate, session)
    voltage = node["voltage"].isel(channel=at)
    value = np.concatenate([voltage.isel(time=p).values.astype(np.float32) for p in parts])
    name = np.array(own, dtype=object)[at]
    bad = ~np.isfinite(value).all(0)
    if bad.any():
        raise DataError(
            f"voltages: session {session}: ieeg/voltage of channel {name[bad][0]!r} is not finite "
            "inside the fold's windows; leave it out with select_channels, or mend the file"
        )
    length = np.array([p.stop - p.start for p in parts])
    last = np.cumsum(length)
    edge = np.stack([last - length, last], 1)
    first = np.array([p.start for p in parts])
    onset, extent, label = _trials(recording, source, time, rate, first, edge)
    place = {
        k: np.asarray(node[k].values)[at]
        for k in PLACES
        if k in node and node[k].dims == ("channel",)
    }
    return Voltages(
        subject, session, tuple(name), rate, value, edge, time[first], onset, extent, label, place
    )


def _rate(node: xr.Dataset, time: np.ndarray, session: str) -> float:
    if len(time) < 2:
        raise DataError(f"voltages: session {session} has {len(time)} samples, expected more")
    rate = float(node.attrs.get("sampling_rate_hz", 1 / np.median(np.diff(time))))
    if abs(np.median(np.diff(time)) * rate - 1) > 1e-3:
        raise DataError(
            f"voltages: session {session}: samples are {np.median(np.diff(time)):g} s apart, "
            f"sampling_rate_hz says {rate:g}; correct the attribute, or use resample_signal"
        )
    return rate


def _stretches(recording: Recording, time: np.ndarray, rate: float, session: str) -> list[slice]:
    """Return samples that follow each other inside the fold's windows."""
    inside = np.zeros(len(time), bool)
    edges = window_edges(recording, time) - HAIR / rate
    for part in window_slices(time, edges, session):
        inside[part] = True
    cut = np.zeros(len(time), bool)
    cut[1:] = np.diff(time) > GAP / rate
    if "runs" in recording.children:
        begun = np.asarray(recording["runs"]["start_time"].data, float) - 0.5 / rate
        first = np.searchsorted(time, begun)
        cut[first[first < len(time)]] = True
    at = np.flatnonzero(inside)
    new = np.flatnonzero((np.diff(at) > 1) | cut[at[1:]]) + 1
    return [slice(int(p[0]), int(p[-1]) + 1) for p in np.split(at, new)]


def _trials(
    recording: Recording,
    source: VoltageSource,
    time: np.ndarray,
    rate: float,
    first: np.ndarray,
    edge: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return onset, extent and label of the trials that lie in a stretch as a whole, by time."""
    none = np.zeros(0, np.int64)
    if "trials" not in recording.children:
        return none, none, np.zeros(0, dtype=object)
    table = recording["trials"].to_dataset()
    if source.labels not in table:
        raise DataError(
            f"voltages: session {recording.attrs.get('session')}: node trials has no column "
            f"{source.labels!r}; it has {', '.join(map(str, table.data_vars))}; name one as "
            "`labels`"
        )
    begun = np.asarray(table["start_time"].values, float)
    ended = np.asarray(table["stop_time"].values, float)
    if source.trial_s is not None:
        ended = begun + source.trial_s
    start, stop = (np.searchsorted(time, t - HAIR / rate) for t in (begun, ended))
    part = np.searchsorted(first, start, side="right") - 1
    known = part >= 0
    offset = edge[part, 0] - first[part]
    whole = known & np.isfinite(begun + ended) & (stop > start)
    whole &= (start + offset < edge[part, 1]) & (stop + offset <= edge[part, 1])
    # a trial that begins before the first sample, or ends after the last, has fewer than it lasts
    whole &= stop - start > (ended - begun) * rate - 1 - HAIR
    label = np.array([str(v) for v in table[source.labels].values], dtype=object)
    label[np.isin(label, UNLABELLED)] = ""
    # by time, so that the order of the table's rows is no matter
    order = np.lexsort([label.astype(str), stop, start])
    order = order[whole[order]]
    return (start + offset)[order], (stop - start)[order], label[order]


def part(
    found: Sequence[Voltages], share: float, window: int, *, seed: int
) -> tuple[list[Voltages], list[Voltages]]:
    """Divide the training stretches into those that are fitted and those that validate.

    Parameters
    ----------
    found : sequence of Voltages
    share : float
        To validate, of the labelled trials; of the samples where there are none.
    window : int
        Samples of the windows that will be cut.
    seed : int
        Which stretches validate, where they are short.

    Returns
    -------
    fitted, validating : list of Voltages
        Apart in time: long stretches (runs) give their end, of short ones (trials) some go over as
        a whole. A trial across the cut is in neither.

    Raises
    ------
    DataError
        If nothing is left on one side.
    """
    fitted, validating = [], []
    for number, v in enumerate(found):
        long = v.edge[:, 1] - v.edge[:, 0] >= LONG * window
        cut = v.edge[:, 1].copy()
        for i in np.flatnonzero(long):
            cut[i] = _late(v, v.edge[i], share, window)
        order = generator(seed, f"validation-{number}").permutation(np.flatnonzero(~long))
        held = np.array([max(len(_onsets(v, v.edge[i])), 1e-6) for i in order])
        if len(order) and (not long.any() or round(share * held.sum())):
            enough = np.searchsorted(held.cumsum(), max(share * held.sum(), min(1, held.max())))
            drawn = order[: enough + 1]
            cut[drawn] = v.edge[drawn, 0]
        first = np.stack([v.edge[:, 0], cut], 1)
        second = np.stack([cut, v.edge[:, 1]], 1)
        fitted.append(v.only(first[first[:, 1] > first[:, 0]]))
        validating.append(v.only(second[second[:, 1] > second[:, 0]]))
    if not sum(len(v.edge) for v in fitted) or not sum(len(v.edge) for v in validating):
        raise DataError(
            "voltages: too few stretches to set some aside for validation; use more training data"
        )
    return fitted, validating


def _onsets(v: Voltages, edge: np.ndarray) -> np.ndarray:
    """Return the onsets of a stretch's labelled trials, in order."""
    inside = (v.onset >= edge[0]) & (v.onset < edge[1]) & (v.label != "")
    return np.sort(v.onset[inside])


def _late(v: Voltages, edge: np.ndarray, share: float, window: int) -> int:
    """Return where the end of a long stretch begins that validates."""
    onset = _onsets(v, edge)
    if not len(onset):
        return int(edge[1] - max(round(share * (edge[1] - edge[0])), window))
    return int(min(onset[-max(1, round(share * len(onset)))], edge[1] - window))
