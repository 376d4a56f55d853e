"""Runs of a session on one clock."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr
from dask.base import tokenize

from neuropipe.errors import ReaderError
from neuropipe.io import bids
from neuropipe.io.sidecars import read_table
from neuropipe.io.store import layout

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Joined:
    """Lazy arrays one after another, cut where the store cuts: a block asks for its rows alone.

    Cut anew by Dask, blocks of many runs would wait in memory for their neighbours.
    """

    parts: Sequence[da.Array]

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows of all parts, and the other dims, which they share."""
        return (sum(part.shape[0] for part in self.parts), *self.parts[0].shape[1:])

    @property
    def dtype(self) -> np.dtype:
        """Of the values."""
        return np.result_type(*(part.dtype for part in self.parts))

    @property
    def ndim(self) -> int:
        """Number of dims."""
        return len(self.shape)

    def __getitem__(self, index) -> np.ndarray:
        rows, *rest = index if isinstance(index, tuple) else (index,)
        start, stop, _ = rows.indices(self.shape[0])
        pieces, first = [], 0
        for part in self.parts:
            own = slice(max(start - first, 0), max(min(stop - first, len(part)), 0))
            if own.stop > own.start:
                pieces.append(part[(own, *rest)].compute(scheduler="synchronous"))
            first += len(part)
        return np.concatenate(pieces) if pieces else np.empty((0, *self.shape[1:]), self.dtype)

    def lazy(self) -> da.Array:
        """Return them as one Dask array in the store's blocks."""
        chunks = layout(self.shape, self.dtype.itemsize)[1]
        name = "joined-" + tokenize([part.name for part in self.parts])
        meta = np.empty((0,) * self.ndim, self.dtype)
        return da.from_array(self, chunks=chunks, name=name, asarray=False, meta=meta)


@dataclass(frozen=True)
class Run:
    """One run as read: nodes on a clock that starts with it, and where it stood in the session."""

    label: str
    duration_s: float
    nodes: Mapping[str, xr.Dataset]
    start_s: float | None = None


def starts(files: Sequence[Path], recordings: Sequence[Path]) -> list[float | None]:
    """Return when each run began, seconds after the first, where scans.tsv tells of all."""
    found: list[pd.Timestamp] = []
    for recording in recordings:
        table = bids.best(files, recording, "scans", ".tsv")
        if table is not None:
            frame = read_table(table, "filename")
            row = frame[frame["filename"].fillna("").str.endswith(recording.name)]
            if "acq_time" in frame and len(row) == 1 and pd.notna(row["acq_time"].iloc[0]):
                when = pd.to_datetime(row["acq_time"].iloc[0], errors="coerce", utc=True)
                found += [] if pd.isna(when) else [when]
    if len(found) < len(recordings):
        return [None] * len(recordings)
    return [(when - found[0]).total_seconds() for when in found]


def joined(runs: Sequence[Run], where: str) -> dict[str, xr.Dataset]:
    """Lay runs on one clock: where they stood in the session, else one after another.

    Parameters
    ----------
    runs : in order
    where : the session, for errors

    Returns
    -------
    dict
        Nodes by name, and node ``runs``; its attr `clock` says where the offsets come from.

    Raises
    ------
    ReaderError
        Two runs differ in channels or voxels.
    """
    stops = np.cumsum([run.duration_s for run in runs])
    offsets = [0.0, *stops[:-1].tolist()]
    clock = "runs laid end to end"
    real = [run.start_s for run in runs]
    if all(start is not None for start in real) and len(runs) > 1:
        begun = np.array(real, dtype=float)
        if (np.diff(begun) >= [run.duration_s for run in runs[:-1]]).all():
            offsets, clock = begun.tolist(), "acq_time of scans.tsv"
        else:
            log.warning("%s: acq_time of scans.tsv lets runs overlap; laid end to end", where)
    nodes = {}
    for node in dict.fromkeys(name for run in runs for name in run.nodes):
        own = [(run, at) for run, at in zip(runs, offsets, strict=True) if node in run.nodes]
        parts = [_shifted(run.nodes[node], at) for run, at in own]
        nodes[node] = _concatenated(parts, node, where, [run.label for run, _ in own])
    at = np.array(offsets)
    nodes["runs"] = xr.Dataset(
        {
            "run_label": ("run", np.array([run.label for run in runs], object), {"units": ""}),
            "start_time": ("run", at, {"units": "s"}),
            "stop_time": ("run", at + [run.duration_s for run in runs], {"units": "s"}),
        },
        attrs={"clock": clock if len(runs) > 1 else "one run"},
    )
    return nodes


def _shifted(dataset: xr.Dataset, at: float) -> xr.Dataset:
    for name in ("time", "start_time", "stop_time", "event_time"):
        if name in dataset.variables:
            moved = dataset[name].variable + at
            moved.attrs = dataset[name].attrs
            dataset = (
                dataset.assign_coords({name: moved})
                if name in dataset.coords
                else dataset.assign({name: moved})
            )
    return dataset


def _concatenated(
    parts: Sequence[xr.Dataset], node: str, where: str, labels: Sequence[str]
) -> xr.Dataset:
    if len(parts) == 1:
        return parts[0]
    grows = next(d for d in ("time", "interval", "event") if d in parts[0].dims)
    if grows == "interval":
        parts = [_with_columns(part, parts) for part in parts]
    first = parts[0]
    fixed = [n for n, v in first.variables.items() if grows not in v.dims]
    for part, label in zip(parts[1:], labels[1:], strict=True):
        for name in fixed:
            if name not in part.variables or not first[name].equals(part[name]):
                raise ReaderError(
                    f"{where}: node {node}: run {label!r} has another {name} than run "
                    f"{labels[0]!r}, expected the same; give these runs a session_id of their "
                    "own in the manifest"
                )
    rows = xr.concat(
        [part.drop_vars(fixed) for part in parts], dim=grows, combine_attrs="override", join="outer"
    )
    for name, variable in rows.variables.items():
        if name in rows.data_vars and isinstance(variable.data, da.Array) and grows == "time":
            whole = Joined([part[name].data for part in parts])
            rows[name] = (variable.dims, whole.lazy(), variable.attrs)
    return rows.assign(
        {n: first[n].variable for n in fixed if n not in first.coords}
    ).assign_coords({n: first[n].variable for n in fixed if n in first.coords})


def _with_columns(part: xr.Dataset, parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Return a table with every run's columns; what a run does not say is NaN or empty text."""
    for name in dict.fromkeys(name for other in parts for name in other.data_vars):
        kinds = {other[name].dtype.kind for other in parts if name in other}
        source = next(other for other in parts if name in other)
        text = kinds != {"f"}
        if name not in part:
            blank = np.full(
                part.sizes["interval"], "" if text else np.nan, object if text else float
            )
            part = part.assign({name: ("interval", blank, source[name].attrs)})
        elif text and part[name].dtype.kind == "f":
            values = ["" if np.isnan(v) else f"{v:g}" for v in part[name].values]
            part = part.assign({name: ("interval", np.array(values, object), {"units": ""})})
    return part
