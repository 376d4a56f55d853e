"""Traces of several animals on one clock: what factorisations of pair affinities start from.

The NTF connectome and its baselines read through this one door, so they see the same neurons,
the same windows and the same scaling.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from neuropipe.batching.refusals import refuse_counts, refuse_lone
from neuropipe.batching.windows import window_edges, window_slices
from neuropipe.errors import DataError
from neuropipe.schema import Recording, validate

log = logging.getLogger(__name__)

AVERAGED = 1.5  # samples in a window from which they are averaged instead of interpolated


@dataclass(frozen=True)
class TraceSource:
    """Which part of a recording is looked at, and how its traces are prepared.

    Attributes
    ----------
    observations : str
        Node: ``calcium/<series>``, ``counts``, ``regions``; ``auto`` takes the only calcium
        series, else regions, else counts.
    response : str, optional
        Variable of that node.
    missing : {"refuse", "drop"}
        What a NaN, infinite or constant trace does: stop with its name, or be missing in that
        animal.
    min_spikes : int
        counts: a unit with fewer in all training data is left out.
    clock : {"shared", "own"}
        Whether animals share their times.
    window_s : float, optional
        Step of the clock; none: that of the recordings.
    smoothing_windows : float
        Sd of the Gaussian whose derivative filters the traces, in windows.
    """

    observations: str = "auto"
    response: str | None = None
    missing: Literal["refuse", "drop"] = "refuse"
    min_spikes: int = 10
    clock: Literal["shared", "own"] = "shared"
    window_s: float | None = None
    smoothing_windows: float = 2.0


@dataclass(frozen=True)
class Clock:
    """The common clock: window k stands for time phase_s + k window_s."""

    window_s: float
    phase_s: float


@dataclass(frozen=True)
class Traces:
    """One recording's traces on the common clock.

    Attributes
    ----------
    key : str
        ``subject/session``.
    unit : tuple of str
        Names of its neurons; only equal names are the same neuron.
    stretches : list of (window,) int64, (window, unit) float64
        Numbers of the windows without a gap, and the traces there.
    """

    key: str
    unit: tuple[str, ...]
    stretches: list[tuple[np.ndarray, np.ndarray]]


def key_of(recording: Recording) -> str:
    """Return what tells one animal and session from the others."""
    attrs = recording.attrs
    return f"{attrs.get('subject', '')}/{attrs.get('session', '')}"


def node_of(recording: Recording, source: TraceSource) -> str:
    """Return the node that the traces come from.

    Raises
    ------
    DataError
        If none fits, or there are several calcium series to choose from.
    """
    if source.observations != "auto":
        return source.observations
    names = [g.lstrip("/") for g in recording.groups if recording[g].data_vars]
    series = [n for n in names if n.startswith("calcium/")]
    found = series or [n for n in ("regions", "counts") if n in names][:1]
    if len(found) != 1:
        raise DataError(
            f"traces: session {recording.attrs.get('session')} has "
            f"{', '.join(found) or 'neither calcium, regions nor counts'}; say which node in "
            f"`observations`; its nodes are {', '.join(names) or 'none'}"
        )
    return found[0]


def read(recording: Recording, source: TraceSource, clock: Clock | None) -> tuple[Traces, Clock]:
    """Read one recording's windows and put them on a clock.

    Parameters
    ----------
    recording : DataTree
        Only what lies in its node `windows` (or trials) is looked at.
    source : TraceSource
    clock : Clock, optional
        Of the training data; by default made from this recording.

    Raises
    ------
    DataError
        If a name comes twice, values are NaN or infinite, or the recording is sampled too slowly.
    """
    node = node_of(recording, source)
    validate(recording, node)
    key = key_of(recording)
    dataset = recording[node].to_dataset()
    names = [str(n) for n in dataset.data_vars if dataset[n].dims[:1] == ("time",)
             and dataset[n].ndim == 2]  # fmt: skip
    usual = [n for n in ("dff", "fluorescence", "region_signal", "spike_count") if n in names]
    name = source.response or (usual or names or [""])[0]
    if name not in names:
        raise DataError(
            f"traces: {key} has no {source.response!r} in node {node}; it has {', '.join(names)}"
        )
    array = dataset[name]
    dim = array.dims[1]
    if dim in dataset.coords:
        unit = [str(u) for u in dataset[dim].values]
    else:  # a position says nothing about another animal's neurons
        unit = [f"{key}:{n}" for n in range(array.sizes[dim])]
    twice = sorted({u for u in unit if unit.count(u) > 1}) if len(set(unit)) < len(unit) else []
    if twice:
        raise DataError(
            f"traces: {key}: {dim} {twice[0]!r} of node {node} comes twice; average or "
            "rename neurons of one name first"
        )
    time = dataset["time"].values.astype(float)
    if len(time) < 2:
        raise DataError(
            f"traces: {key}: node {node} has {len(time)} samples, expected at least 2; check the "
            "step that made it"
        )
    step = float(np.median(np.diff(time)))
    if clock is None:
        width = source.window_s or step
        # averages stand for whole windows from session start, single samples for themselves
        phase = width / 2 if width >= AVERAGED * step else float(time[0] % width)
        clock = Clock(width, phase)
    if not clock.window_s >= 0.9 * step:
        raise DataError(
            f"traces: {key}: a sample every {step:g} s is slower than the clock's windows "
            f"of {clock.window_s:g} s; set window_s to the slowest recording's step"
        )
    observed = dataset["observed"].values if "observed" in dataset else np.ones(len(time), bool)
    values = array.values
    stretches = []
    for part in _stretches(recording, time, observed, step):
        if node == "counts":
            refuse_counts(values[part], step, f"traces: {key}: {node}/{name}")
        block = values[part].astype(float)
        block[np.isinf(block)] = np.nan  # neither is a measurement
        number, trace = _resampled(time[part], block, clock, step)
        if len(number) > 1:
            stretches.append((number, trace))
    if not stretches:
        raise DataError(
            f"traces: {key}: no stretch of two windows of {clock.window_s:g} s is left "
            "inside the fold's windows; lower window_s or use longer windows"
        )
    whole = np.concatenate([trace for _, trace in stretches])
    keep = np.isfinite(whole).all(0)
    if not keep.all() and source.missing == "refuse":
        first = int(np.flatnonzero(~keep)[0])
        raise DataError(
            f"traces: {key}: {node}/{name} is NaN or infinite for {int((~keep).sum())} of "
            f"{len(unit)} neurons, first {unit[first]!r}; say missing: drop to leave them out of "
            "this animal"
        )
    return Traces(
        key, tuple(u for u, k in zip(unit, keep, strict=True) if k),
        [(number, trace[:, keep]) for number, trace in stretches],
    ), clock  # fmt: skip


def _stretches(
    recording: Recording, time: np.ndarray, observed: np.ndarray, step: float
) -> list[np.ndarray]:
    """Return positions of samples that follow each other without a gap or an edge of a run."""
    inside = np.zeros(len(time), bool)
    edges = window_edges(recording, time)
    for part in window_slices(time, edges, str(recording.attrs.get("session", ""))):
        inside[part] = True
    inside &= observed
    cut = np.zeros(len(time), bool)
    cut[1:] = np.diff(time) > AVERAGED * step
    if "runs" in recording.children:
        cut[np.searchsorted(time, np.asarray(recording["runs"]["start_time"].data)) % len(time)] = (
            True
        )
    at = np.flatnonzero(inside)
    if not len(at):
        return []
    new = (np.diff(at) > 1) | cut[at[1:]]
    return np.split(at, np.flatnonzero(new) + 1)


def _resampled(
    time: np.ndarray, trace: np.ndarray, clock: Clock, step: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return numbers of the windows that a stretch covers, and its trace there."""
    width, phase = clock.window_s, clock.phase_s
    if width >= AVERAGED * step:
        number = np.floor((time - phase) / width + 0.5 + 1e-6).astype(np.int64)
        window, first, size = np.unique(number, return_index=True, return_counts=True)
        full = size >= 0.5 * width / step  # a sliver at the edge is no average
        sums = np.add.reduceat(trace, first, axis=0) / size[:, None]
        return window[full], sums[full]
    low = int(np.ceil((time[0] - phase) / width - 1e-6))
    high = int(np.floor((time[-1] - phase) / width + 1e-6))
    window = np.arange(low, high + 1)
    at = phase + window * width
    right = np.clip(np.searchsorted(time, at), 1, len(time) - 1) if len(time) > 1 else 0
    if len(time) == 1:
        return window, trace[np.zeros(len(window), int)]
    share = np.clip((at - time[right - 1]) / (time[right] - time[right - 1]), 0, 1)[:, None]
    # a weight of exactly one leaves a sample as it was measured
    return window, np.where(share < 1e-6, trace[right - 1], np.where(
        share > 1 - 1e-6, trace[right], (1 - share) * trace[right - 1] + share * trace[right]
    ))  # fmt: skip


def read_all(recordings: Sequence[Recording], source: TraceSource) -> tuple[list[Traces], Clock]:
    """Read the training recordings, traces in the order of their keys, and their clock.

    Raises
    ------
    DataError
        If a recording comes twice, or too few spikes are left.
    """
    refuse_lone(recordings)
    if not recordings:
        raise DataError("traces: no recording to fit")
    ordered = sorted(recordings, key=key_of)
    keys = [key_of(r) for r in ordered]
    if len(set(keys)) < len(keys):
        twice = next(k for k in keys if keys.count(k) > 1)
        raise DataError(
            f"traces: two recordings have the key {twice!r} of subject and session; give "
            "each session an identifier of its own"
        )
    first, clock = read(ordered[0], source, None)
    animals = [first, *(read(r, source, clock)[0] for r in ordered[1:])]
    counted = [node_of(r, source) == "counts" for r in ordered]
    if any(counted):
        animals = _with_spikes(animals, recordings, source)
    return animals, clock


def names_of(animals: Sequence[Traces]) -> tuple[str, ...]:
    """Return the names of all neurons, in natural order.

    Raises
    ------
    DataError
        If there are fewer than two.
    """
    units = tuple(sorted({u for a in animals for u in a.unit}, key=_natural))
    if len(units) < 2:
        raise DataError(
            f"traces: {len(units)} neurons are left, a pair needs two; check `missing` and "
            "`min_spikes`"
        )
    return units


def _with_spikes(
    animals: list[Traces], recordings: Sequence[Recording], source: TraceSource
) -> list[Traces]:
    """Leave out units with few spikes in all training windows."""
    total: dict[str, float] = {}
    for recording in recordings:
        node = recording["counts"].to_dataset()
        time = node["time"].values
        at = np.zeros(len(time), bool)
        for part in window_slices(time, window_edges(recording, time)):
            at[part] = True
        number = node["spike_count"].values[at].sum(0)
        units = node["unit"].values if "unit" in node.coords else [
            f"{key_of(recording)}:{n}" for n in range(len(number))
        ]  # fmt: skip
        for unit, n in zip(units, number, strict=True):
            total[str(unit)] = total.get(str(unit), 0) + float(n)
    if max(total.values(), default=0) < source.min_spikes:
        raise DataError(
            f"none of {len(total)} units has {source.min_spikes} spikes in the training windows; "
            "lower min_spikes or use more data"
        )
    return [only_units(a, [total[u] >= source.min_spikes for u in a.unit]) for a in animals]


def only_units(traces: Traces, keep: Sequence[bool] | np.ndarray) -> Traces:
    """Return the traces of some neurons, (unit,) bool."""
    at = np.flatnonzero(keep)
    return Traces(
        traces.key, tuple(traces.unit[i] for i in at),
        [(number, trace[:, at]) for number, trace in traces.stretches],
    )  # fmt: skip


def _natural(name: str) -> tuple[int, int, str]:
    return (0, int(name), "") if name.isdigit() else (1, 0, name)
