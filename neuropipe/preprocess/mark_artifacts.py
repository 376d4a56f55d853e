"""Where voltages cannot be trusted: too large, too steep, flat, or missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import xarray as xr

from neuropipe.errors import DataError
from neuropipe.preprocess.voltages import Voltages, voltages
from neuropipe.schema import Recording

ROWS = 1 << 22  # values of a block that is looked at together


def mark_artifacts(
    recording: Recording,
    *,
    amplitude_v: float | None = None,
    gradient_v_per_s: float | None = None,
    flat_s: float | None = None,
    flat_v: float = 0.0,
    node: str = "ieeg",
) -> Recording:
    """Write node ``intervals/artifacts``: channel, kind, start and end of each bad stretch.

    Parameters
    ----------
    recording : DataTree
        With the node of voltages, and node `runs` where there are several.
    amplitude_v : float, optional
        Larger magnitudes are of kind ``amplitude``.
    gradient_v_per_s : float, optional
        Steeper steps between two samples are of kind ``gradient``; the later one is marked.
    flat_s : float, optional
        Stretches at least this long without a step above `flat_v` are of kind ``flat``.
    flat_v : float
        What a flat channel may still step from sample to sample.
    node : str
        ``"ieeg"`` or ``"ephys/<name>"``.

    Raises
    ------
    DataError
        No threshold, or one that is not above 0.

    Notes
    -----
    The voltages are read once, now, block by block; only the table is kept. NaN and infinite
    samples are always marked, kind ``missing``. An interval ends where its last sample does.
    """
    limits = {
        "amplitude_v": amplitude_v, "gradient_v_per_s": gradient_v_per_s, "flat_s": flat_s
    }  # fmt: skip
    given = [value for value in limits.values() if value is not None]
    if not given or not all(value > 0 for value in given) or flat_v < 0:
        raise DataError(
            f"mark_artifacts: found {limits} and flat_v {flat_v}, expected at least one threshold, "
            "all above 0"
        )
    found = voltages(recording, node, "mark_artifacts")
    per_sample = None if gradient_v_per_s is None else gradient_v_per_s / found.rate_hz
    kinds: dict[str, tuple[Callable[[np.ndarray, np.ndarray], np.ndarray], float]] = {
        "missing": (lambda block, step: ~np.isfinite(block), 0.0)
    }
    if amplitude_v is not None:
        kinds["amplitude"] = (lambda block, step: np.abs(block) > amplitude_v, 0.0)
    if per_sample is not None:
        kinds["gradient"] = (lambda block, step: np.abs(step) > per_sample, 0.0)
    if flat_s is not None:
        # n equal samples have n - 1 steps between them
        kinds["flat"] = (lambda block, step: np.abs(step) <= flat_v, flat_s - 1 / found.rate_hz)
    rows = sorted(row for run in found.runs for row in _of_run(found, run, kinds))
    start, stop, channel, kind = zip(*rows, strict=True) if rows else ((), (), (), ())
    text = {"units": ""}
    table = xr.Dataset(
        {
            "start_time": ("interval", np.array(start, dtype=float), {"units": "s"}),
            "stop_time": ("interval", np.array(stop, dtype=float), {"units": "s"}),
            "channel": ("interval", np.array(channel, dtype=object), text),
            "kind": ("interval", np.array(kind, dtype=object), text),
        },
        attrs={"node": node},
    )
    out = recording.copy()
    out["intervals/artifacts"] = xr.DataTree(table)
    return out


def _of_run(found: Voltages, run: slice, kinds: dict) -> Iterator[tuple[float, float, str, str]]:
    """Yield start, end, channel and kind of each bad stretch of a run."""
    names, begin = found.names, found.start_s(run)
    n_channels = len(names)
    open_since = {kind: np.full(n_channels, -1) for kind in kinds}
    before = None
    at = 0
    for block in _blocks(found, run):
        # the first sample of a run has no step
        previous = np.full((1, n_channels), np.nan) if before is None else before
        with np.errstate(invalid="ignore"):  # infinite samples have no step, and are missing
            step = np.diff(block, axis=0, prepend=previous.astype(block.dtype))
        for kind, (is_bad, least_s) in kinds.items():
            bad = is_bad(block, step)
            yield from (
                _interval(found, begin, first, last, names[channel], kind)
                for first, last, channel in _closed(bad, open_since[kind], at)
                if (last - first) / found.rate_hz >= least_s - 1e-9
            )
        before = block[-1:]
        at += len(block)
    end = np.zeros((1, n_channels), dtype=bool)
    for kind, (_, least_s) in kinds.items():
        yield from (
            _interval(found, begin, first, last, names[channel], kind)
            for first, last, channel in _closed(end, open_since[kind], at)
            if (last - first) / found.rate_hz >= least_s - 1e-9
        )


def _interval(
    found: Voltages, begin: float, first: int, last: int, name: str, kind: str
) -> tuple[float, float, str, str]:
    first -= kind == "flat"  # the sample before the first step that is none
    return begin + first / found.rate_hz, begin + last / found.rate_hz, name, kind


def _closed(bad: np.ndarray, open_since: np.ndarray, at: int) -> Iterator[tuple[int, int, int]]:
    """Yield first sample, one past the last, and channel of each stretch that ended."""
    was = (open_since >= 0)[None]
    edges = np.diff(np.concatenate([was, bad]).astype(np.int8), axis=0)
    rows, channels = np.nonzero(edges)
    for row, channel in zip(rows.tolist(), channels.tolist(), strict=True):
        if edges[row, channel] > 0:
            open_since[channel] = at + row
        else:
            yield int(open_since[channel]), at + row, channel
            open_since[channel] = -1


def _blocks(found: Voltages, run: slice) -> Iterator[np.ndarray]:
    """Yield a run's voltages, (time, channel), a block of Dask at a time."""
    values = found.values[run]
    edges = np.cumsum([0, *values.chunks[0]]).tolist()
    for first, last in pairwise(edges):
        part = values[first:last].compute(scheduler="synchronous")
        rows = max(1, ROWS // part.shape[1])
        for row in range(0, len(part), rows):
            yield part[row : row + rows]
