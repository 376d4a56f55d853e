"""What the recordings of a data set hold, as far as a choice of models depends on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import xarray as xr

from neuropipe.schema import Recording

MOST_CLASSES = 20  # a column with more values names things, not classes
MOST_COLUMNS = 32  # of a series of behaviour; more are a picture or a spectrogram
READ_ROWS = 100_000  # of a table of intervals


@dataclass(frozen=True)
class Intervals:
    """A table of intervals: how many, how long (median, s), how often each class of a column."""

    name: str
    n: int
    length_s: float
    classes: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def covered_s(self) -> float:
        """Time that the intervals cover, s, if none overlap."""
        return self.n * self.length_s


@dataclass(frozen=True)
class Contents:
    """What every session of a data set holds; numbers are those of the first session.

    Attributes
    ----------
    name, reader : str
        Of the data set.
    sessions, subjects : int
        How many.
    nodes : frozenset of str
        Those that all sessions have.
    sizes : mapping of node to mapping of dim to length
    rates_hz : mapping of node to samples a second
    duration_s : float
        From the first to the last sample or spike; NaN where nothing has a clock.
    tables : tuple of Intervals
    signals : mapping of series to names
        Series of behaviour that are numbers over time, and the columns that they give on the
        clock of the neural data.
    notes : tuple of str
        What is worth a remark, such as a column of shafts.
    mains_hz : float
        Of the mains where node ``ieeg`` was recorded; NaN where it does not say.
    runs : int
        How many every session has at least; 1 where node ``runs`` is missing.
    shortest_run_s : float
        Shortest run of all sessions, s; NaN where node ``runs`` is missing.
    """

    name: str
    reader: str
    sessions: int
    subjects: int
    nodes: frozenset[str]
    sizes: Mapping[str, Mapping[str, int]]
    rates_hz: Mapping[str, float]
    duration_s: float
    tables: tuple[Intervals, ...] = ()
    signals: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    mains_hz: float = float("nan")
    runs: int = 1
    shortest_run_s: float = float("nan")

    def of(self, family: str) -> list[str]:
        """Return the nodes of a family, such as ``calcium``, in order."""
        return sorted(n for n in self.nodes if n == family or n.startswith(f"{family}/"))


def look(name: str, reader: str, recordings: Sequence[Recording]) -> Contents:
    """Look through opened recordings; signals are not read, only tables and clocks.

    Parameters
    ----------
    name, reader : of the data set
    recordings : its sessions, at least one
    """
    held = [{g.strip("/") for g in r.groups if r[g].variables} - {""} for r in recordings]
    nodes = frozenset(set.intersection(*held))
    first = recordings[0]
    datasets = {n: cast(xr.DataTree, first[n]).to_dataset() for n in sorted(nodes)}
    ends = [e for d in datasets.values() if (e := _extent(d)) is not None]
    duration = max(e[1] for e in ends) - min(e[0] for e in ends) if ends else float("nan")
    shafts = "ieeg" in datasets and _several(datasets["ieeg"], "shaft")
    runs = [_lengths_s(cast(xr.DataTree, r["runs"]).to_dataset()) for r in recordings
            if "runs" in nodes]  # fmt: skip
    return Contents(
        name=name,
        reader=reader,
        sessions=len(recordings),
        subjects=len({str(r.attrs.get("subject", "")) for r in recordings}),
        nodes=nodes,
        sizes={n: {str(k): int(v) for k, v in d.sizes.items()} for n, d in datasets.items()},
        rates_hz={n: rate for n, d in datasets.items() if (rate := _rate_hz(d)) is not None},
        duration_s=float(duration),
        tables=tuple(
            _intervals(n, d) for n, d in datasets.items() if "start_time" in d and n != "runs"
        ),
        signals={
            n.removeprefix("behavior/"): names
            for n, d in datasets.items()
            if n.startswith("behavior/") and (names := _columns(n.removeprefix("behavior/"), d))
        },
        notes=("shafts",) if shafts else (),
        mains_hz=_mains_hz(datasets),
        runs=min((len(lengths) for lengths in runs), default=1),
        shortest_run_s=min((float(lengths.min()) for lengths in runs if len(lengths)),
                           default=float("nan")),
    )  # fmt: skip


def _extent(dataset: xr.Dataset) -> tuple[float, float] | None:
    """Return the first and last time of a clock or of spikes, s."""
    if "spike_time" in dataset:
        times = dataset["spike_time"]
        return (float(times.min()), float(times.max())) if times.size else None
    if "time" in dataset.variables and dataset.sizes.get("time", 0) > 1:
        ends = dataset["time"].isel(time=[0, -1]).values
        return float(ends[0]), float(ends[1])
    return None


def _mains_hz(datasets: Mapping[str, xr.Dataset]) -> float:
    told = datasets["ieeg"].attrs.get("power_line_frequency_hz") if "ieeg" in datasets else None
    return float(told) if told else float("nan")


def _lengths_s(intervals: xr.Dataset) -> np.ndarray:
    lengths = (intervals["stop_time"] - intervals["start_time"]).values.astype(float)
    return lengths[np.isfinite(lengths)]


def _rate_hz(dataset: xr.Dataset) -> float | None:
    if "time" not in dataset.variables or dataset.sizes.get("time", 0) < 3:
        return None
    step = float(np.median(np.diff(dataset["time"].isel(time=slice(0, 1000)).values)))
    return 1 / step if step > 0 else None


def _columns(series: str, dataset: xr.Dataset) -> tuple[str, ...]:
    """Return the columns that step `resample_behavior` makes of a series; none of what is text."""
    names: list[str] = []
    for name, variable in dataset.data_vars.items():
        if variable.dims[:1] != ("time",) or variable.dtype.kind not in "fiu" or variable.ndim > 2:
            return ()
        label = series if name == series else f"{series}_{name}"
        if variable.ndim == 1:
            names.append(label)
            continue
        dim = variable.dims[1]
        axes = variable[dim].values if dim in variable.coords else range(variable.sizes[dim])
        names += [f"{label}_{axis}" for axis in axes]
    return tuple(names) if len(names) <= MOST_COLUMNS else ()


def _several(dataset: xr.Dataset, name: str) -> bool:
    return name in dataset and len(set(map(str, dataset[name].values)) - {"n/a", ""}) > 1


def _intervals(node: str, dataset: xr.Dataset) -> Intervals:
    rows = dataset.isel({dataset["start_time"].dims[0]: slice(0, READ_ROWS)})
    finite = _lengths_s(rows)
    return Intervals(
        name=node.removeprefix("intervals/"),
        n=len(rows["start_time"]),
        length_s=float(np.median(finite)) if len(finite) else 0.0,
        classes={str(c): k for c in rows.data_vars if (k := _classes(rows[c]))},
    )


def _classes(column: xr.DataArray) -> dict[str, int]:
    """Return how often each value of a column stands there; empty where they name no classes."""
    if column.ndim != 1 or column.dtype.kind == "f":
        return {}
    values, counts = np.unique(np.array([str(v) for v in column.values]), return_counts=True)
    found: dict[Any, int] = {v: int(n) for v, n in zip(values.tolist(), counts, strict=True)}
    return found if 1 < len(found) <= MOST_CLASSES else {}
