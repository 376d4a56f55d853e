"""Derivatives of traces: scaled by the training data, filtered, all animals under each other."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from neuropipe.batching.traces import Traces, TraceSource, only_units
from neuropipe.errors import DataError

log = logging.getLogger(__name__)

LOW, HIGH = 0.01, 0.99  # quantiles that a trace is scaled between

Ends = Mapping[str, Mapping[str, tuple[float, float]]]


def ranges_of(traces: Traces, source: TraceSource) -> tuple[Traces, np.ndarray]:
    """Return traces without constant ones, and the (2, unit) values that are scaled to 0 and 1.

    Raises
    ------
    DataError
        If a trace is constant and `missing` says refuse; it has no derivative.
    """
    whole = np.concatenate([trace for _, trace in traces.stretches])
    ends = trace_range(whole)
    keep = ends[1] - ends[0] > 1e-9 * np.abs(ends).max(0)
    if not keep.all():
        first = traces.unit[int(np.flatnonzero(~keep)[0])]
        if source.missing == "refuse":
            raise DataError(
                f"traces: {traces.key}: {int((~keep).sum())} of {len(keep)} traces are "
                f"constant, first {first!r}; say missing: drop to leave them out of this animal"
            )
        log.info("%s: %d constant traces left out", traces.key, int((~keep).sum()))
    return only_units(traces, keep), ends[:, keep]


def scaling_of(traces: Sequence[Traces], source: TraceSource) -> tuple[list[Traces], Ends]:
    """Return the traces that vary, and the values that each of them is scaled between."""
    kept, ends = [], {}
    for one in traces:
        varying, own = ranges_of(one, source)
        kept.append(varying)
        pairs = zip(varying.unit, *own, strict=True)
        ends[one.key] = {u: (float(low), float(high)) for u, low, high in pairs}
    return kept, ends


def trace_range(trace: np.ndarray) -> np.ndarray:
    """Return (2, unit) low and high quantiles of traces (time, unit).

    Where they coincide, as in a neuron that is silent for 99 % of the time, the extremes.
    """
    ends = np.quantile(trace, [LOW, HIGH], axis=0)
    return np.where(ends[1] > ends[0], ends, [trace.min(0), trace.max(0)])


def derivative(trace: np.ndarray, ends: np.ndarray, sd: float) -> np.ndarray:
    """Scale traces (time, unit) so that `ends` (2, unit) become 0 and 1, and differentiate.

    Returns
    -------
    (time, unit), per window
        Filtered by the derivative of a Gaussian of `sd` windows, the stretch's edges mirrored.
    """
    return gaussian_filter1d((trace - ends[0]) / (ends[1] - ends[0]), sd, axis=0, order=1)


@dataclass(frozen=True)
class Derivatives:
    """Derivatives of all animals, under each other.

    Attributes
    ----------
    data : (row, unit) float64
        A row is one animal at one time; zero for neurons that the animal lacks.
    time : (row,) int64
        Position on the common clock.
    rows_of : tuple of slice
        Rows of each animal.
    present : (animal, unit) bool
    window : (time,) int64
        Number of the window on the clock.
    owner : (time,) int64
        With clocks of their own, animal of each time, else 0.
    """

    data: np.ndarray
    time: np.ndarray
    rows_of: tuple[slice, ...]
    present: np.ndarray
    window: np.ndarray
    owner: np.ndarray


def derivatives(
    animals: Sequence[Traces], ends: Ends, units: Sequence[str], source: TraceSource
) -> Derivatives:
    """Differentiate the traces of all animals.

    Parameters
    ----------
    animals : sequence of Traces
    ends : mapping of key to neuron to (low, high)
        What scales each animal's traces; neurons that it lacks are missing.
    units : sequence of str
        All neurons, in order.
    source : TraceSource

    Raises
    ------
    DataError
        If an animal has none of the neurons.
    """
    column = {u: n for n, u in enumerate(units)}
    data, rows_of, windows, owners, first = [], [], [], [], 0
    present = np.zeros((len(animals), len(units)), bool)
    for number, whole in enumerate(animals):
        known = ends[whole.key]
        animal = only_units(whole, [u in column and u in known for u in whole.unit])
        if not whole.unit:
            raise DataError(
                f"traces: {whole.key}: no neuron is left, all are NaN, infinite or constant in the "
                "windows; leave this recording out, or use longer windows"
            )
        if not animal.unit:
            raise DataError(
                f"traces: {whole.key}: none of its {len(whole.unit)} neurons is known to the "
                f"model, whose neurons are {', '.join(list(units)[:3])} ...; neurons are matched "
                "by name"
            )
        at = [column[u] for u in animal.unit]
        present[number, at] = True
        own = np.array([known[u] for u in animal.unit]).T
        for window, trace in animal.stretches:
            block = np.zeros((len(window), len(units)))
            block[:, at] = derivative(trace, own, source.smoothing_windows)
            data.append(block)
            windows.append(window)
            owners.append(np.full(len(window), number if source.clock == "own" else 0))
        n = sum(len(window) for window, _ in animal.stretches)
        rows_of.append(slice(first, first + n))
        first += n
    which = np.stack([np.concatenate(owners), np.concatenate(windows)], 1)
    times, position = np.unique(which, axis=0, return_inverse=True)
    return Derivatives(
        np.concatenate(data), position.ravel(), tuple(rows_of), present, times[:, 1], times[:, 0]
    )
