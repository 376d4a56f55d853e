"""Voltages of a node, cut into blocks that overlap inside a run and never beyond it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import dask.array as da
import numpy as np
import xarray as xr

from neuropipe.errors import DataError
from neuropipe.preprocess.signals import floats, node_dataset
from neuropipe.runs import run_slices
from neuropipe.schema import Recording

BLOCK = 1 << 22  # clock samples read at a time
JITTER = 0.01  # of a sample: what written times may be off a regular clock
INDEXED_CLOCK = 1 << 22  # a longer clock stays lazy, as in a store
CHANNELS_AT_ONCE = 8  # in double precision, beside the block itself


@dataclass(frozen=True)
class Voltages:
    """What a step needs of a node: its values (time, channel), rate and runs."""

    step: str
    node: str
    dataset: xr.Dataset
    values: da.Array
    rate_hz: float
    runs: tuple[slice, ...]

    @property
    def names(self) -> list[str]:
        """Return the channels' names."""
        if "channel" in self.dataset.coords:
            return [str(name) for name in self.dataset["channel"].values]
        return [str(number) for number in range(self.values.shape[1])]

    def start_s(self, run: slice) -> float:
        """Return when a run's first sample was taken."""
        return float(self.dataset["time"].isel(time=run.start))


@dataclass(frozen=True)
class Place:
    """Where a part stands: `lead` rows before its block, of `rows`, from `first` of the run."""

    lead: int
    rows: int
    first: int
    begins: bool
    ends: bool


def voltages(recording: Recording, node: str, step: str) -> Voltages:
    """Return the voltages of a node such as ``"ieeg"`` or ``"ephys/probe"``.

    Raises
    ------
    DataError
        No such node, or one without voltages or without one rate.
    """
    dataset = node_dataset(recording, node, step)
    if "voltage" not in dataset:
        raise DataError(
            f"{step}: node {node} has {', '.join(map(str, dataset.data_vars))}, expected voltage "
            "(time, channel)"
        )
    runs = tuple(run_slices(recording, node))
    rate = dataset.attrs.get("sampling_rate_hz")
    if rate is None:
        rate = _measured_rate(dataset["time"], runs, f"{step}: node {node}")
    return Voltages(step, node, dataset, floats(dataset["voltage"]), float(rate), runs)


def with_voltage(
    recording: Recording, found: Voltages, values: da.Array, node: str = "", **attrs: object
) -> Recording:
    """Return the recording with other voltages of the same clock and channels."""
    dataset = found.dataset
    own = dataset["voltage"]
    dataset["voltage"] = (own.dims, values, own.attrs)
    dataset.attrs = {**dataset.attrs, "sampling_rate_hz": found.rate_hz, **attrs}
    out = recording.copy()
    out[node or found.node] = xr.DataTree(dataset)
    return out


def clock(found: Voltages, rate_hz: float, counts: Sequence[int], shift_s: float = 0.0):
    """Return times of a new rate, (time,), s: each run from its own first sample on."""
    parts = [
        found.start_s(run) + shift_s + da.arange(n, chunks=BLOCK, dtype=np.float64) / rate_hz
        for run, n in zip(found.runs, counts, strict=True)
    ]
    time = da.concatenate(parts)
    return time.compute() if time.size <= INDEXED_CLOCK else time


def clocked(variables: dict, coords: dict, time, attrs: dict) -> xr.Dataset:
    """Return a dataset on a clock that carries an index only where it is short."""
    variable = ("time", time, {"units": "s"})
    if isinstance(time, np.ndarray):
        return xr.Dataset(variables, {"time": variable, **coords}, attrs)
    lazy = xr.Coordinates({"time": variable, **coords}, indexes={})
    return xr.Dataset(variables, lazy, attrs)


def overlapped(
    found: Voltages,
    halo: int,
    work: Callable[[np.ndarray, Place], np.ndarray],
    *,
    tail: tuple[int, ...] = (),
    unit: int = 1,
    rows_out: Callable[[int], int] = int,
    dtype: np.dtype | None = None,
) -> da.Array:
    """Return what `work` makes of each block and `halo` rows around it, run by run.

    Parameters
    ----------
    found : the voltages
    halo : rows around a block, fewer at the ends of its run; a multiple of `unit`
    work : part (time, channel), place -> rows of the block's result
    tail : lengths of the result's dims after time; by default as many channels
    unit : blocks begin at multiples of it, counted from the run's first sample
    rows_out : rows of the result for so many rows of a block

    Raises
    ------
    DataError
        When a block is computed in which a value is NaN or infinite.
    """
    dtype = np.dtype(dtype or found.values.dtype)
    tail = tail or found.values.shape[1:]
    names, parts = found.names, []
    for run in found.runs:
        values = found.values[run]
        cut = _cut(values.chunks[0], max(2 * halo, unit), unit)
        values = values.rechunk({0: cut, 1: -1})
        if halo and len(cut) > 1:
            nothing = {0: "none", 1: "none"}
            values = da.overlap.overlap(values, {0: halo, 1: 0}, nothing)
        firsts = [0, *np.cumsum(cut)[:-1].tolist()]

        def of_block(part, cut, firsts, start_s, block_info=None):
            number = block_info[0]["chunk-location"][0]
            lead = halo if number else 0
            place = Place(lead, cut[number], firsts[number], number == 0, number == len(cut) - 1)
            _refuse_nan(part, place, found.step, names, start_s, found.rate_hz)
            return work(part, place)

        chunks = (tuple(rows_out(n) for n in cut), *((n,) for n in tail))
        more = list(range(2, 1 + len(tail))) or None
        parts.append(
            values.map_blocks(
                of_block, cut, firsts, found.start_s(run), chunks=chunks, new_axis=more,
                dtype=dtype, meta=np.empty((0,) * len(chunks), dtype),
            )
        )  # fmt: skip
    return da.concatenate(parts)


def convolved(part: np.ndarray, taps: np.ndarray, place: Place) -> np.ndarray:
    """Return (channel, row) of a block under a centred, odd FIR kernel, mirrored at run's ends.

    The mirror is mne's ``reflect_limited``: odd, and zero where the run is shorter.
    """
    from scipy.signal import oaconvolve

    half = len(taps) // 2
    before = half if place.begins else 0
    after = half if place.ends else 0
    return oaconvolve(mirrored(part, before, after), taps[None], mode="valid", axes=1)


def mirrored(part: np.ndarray, before: int, after: int) -> np.ndarray:
    """Return (channel, row) float64 with point-mirrored ends, zero beyond the mirror."""
    values = np.ascontiguousarray(part.T, dtype=np.float64)
    there = values.shape[1] - 1
    left, right = min(before, there), min(after, there)
    return np.concatenate(
        [
            np.zeros((len(values), before - left)),
            2 * values[:, :1] - values[:, left:0:-1],
            values,
            2 * values[:, -1:] - values[:, -2 : -2 - right : -1],
            np.zeros((len(values), after - right)),
        ],
        axis=1,
    )


def by_channels(n_channels: int) -> list[slice]:
    """Return groups of channels that are worked on together."""
    return [slice(i, i + CHANNELS_AT_ONCE) for i in range(0, n_channels, CHANNELS_AT_ONCE)]


def _cut(chunks: Sequence[int], least: int, unit: int) -> tuple[int, ...]:
    """Return blocks of at least `least` rows that begin at multiples of `unit`."""
    size = int(sum(chunks))
    edges = [0]
    for edge in np.cumsum(chunks)[:-1].tolist():
        edge -= edge % unit
        if edge - edges[-1] >= least and size - edge >= least:
            edges.append(int(edge))
    return tuple(np.diff([*edges, size]).tolist())


def _refuse_nan(
    part: np.ndarray, place: Place, step: str, names: Sequence[str], start_s: float, rate_hz: float
) -> None:
    if np.isfinite(part).all():
        return
    row, channel = (int(i) for i in np.argwhere(~np.isfinite(part))[0])
    at = start_s + (place.first - place.lead + row) / rate_hz
    raise DataError(
        f"{step}: channel {names[channel]} is {part[row, channel]} at {at:g} s, which would spread "
        "in time; leave the channel out with select_channels, or mend the file"
    )


def _measured_rate(time: xr.DataArray, runs: Sequence[slice], where: str) -> float:
    """Return the rate of a clock that is read once, the same in all runs.

    Raises
    ------
    DataError
        Samples are not equally far apart.
    """
    step = 0.0
    for run in runs:
        size = run.stop - run.start
        if size < 2:
            raise DataError(f"{where}: a run holds {size} sample, expected at least 2")
        first, last = (float(time.isel(time=i)) for i in (run.start, run.stop - 1))
        step = step or (last - first) / (size - 1)
        for at in range(0, size, BLOCK):
            rows = slice(run.start + at, run.start + min(at + BLOCK, size))
            part = time.isel(time=rows).values
            off = np.abs(part - first - np.arange(at, at + len(part)) * step)
            if not step > 0 or off.max() > JITTER * step:
                raise DataError(
                    f"{where}: its samples are up to {off.max():g} s off a regular clock; expected "
                    "one rate, cut the series at its gaps"
                )
    rate = 1 / step
    return float(round(rate)) if abs(rate - round(rate)) < 1e-6 * rate else cast(float, rate)
