"""NWB tables as datasets: units with their spikes, trials, every interval and event table."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from itertools import pairwise

import h5py
import numpy as np
import xarray as xr
from hdmf.common import DynamicTable, DynamicTableRegion, VectorIndex

from neuropipe.io.hdf5 import HDF5Array, Source, blocks, lazy, text_of
from neuropipe.io.nwb_series import units_of, warn_before_start
from neuropipe.schema import NODES, kind_of

log = logging.getLogger(__name__)

OWN_NODES = ("spike_times", "obs_intervals", "electrodes", "electrode_group", "waveforms")


def safe_name(name: str) -> str:
    """Return a name of letters, digits and underscores for a node or variable."""
    return re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_") or "unnamed"


def ragged(index, data, source: Source, where: str) -> np.ndarray:
    """Return the row borders of a ragged column, (row + 1,), after checking them.

    Raises
    ------
    ReaderError
        The index decreases, points past the data, or leaves values without a row.
    """
    ends = np.asarray(source.dataset(index)[:]).astype(np.int64)
    borders = np.concatenate([[0], ends])
    length = source.dataset(data).shape[0]
    if (np.diff(borders) < 0).any():
        row = int((np.diff(borders) < 0).argmax())
        raise source.fault(
            f"{where}_index",
            f"{borders[row + 1]} after {borders[row]} in row {row}",
            "ends that never decrease",
        )
    if borders[-1] != length:
        raise source.fault(
            f"{where}_index",
            f"an end at {borders[-1]}",
            f"{length}, the number of values in {where}",
            "the file is cut short or was written wrongly: get it again",
        )
    return borders


@dataclass(frozen=True)
class UnitIndex:
    """For each spike the position of its unit, made block by block from the row borders."""

    borders: np.ndarray
    shape: tuple[int, ...]
    dtype = np.dtype(np.int64)
    ndim = 1

    def __getitem__(self, index) -> np.ndarray:
        rows = index[0] if isinstance(index, tuple) else index
        first, last, _ = rows.indices(self.shape[0])
        return np.searchsorted(self.borders[1:], np.arange(first, last), side="right")


@dataclass(frozen=True)
class SortedSpikes:
    """Spike times sorted within each unit, one unit at a time in memory."""

    times: HDF5Array
    borders: np.ndarray

    shape = property(lambda self: self.times.shape)
    dtype = np.dtype(np.float64)
    ndim = 1

    def __getitem__(self, index) -> np.ndarray:
        rows = index[0] if isinstance(index, tuple) else index
        first, last, _ = rows.indices(self.shape[0])
        pieces = [np.empty(0)]
        for start, stop in pairwise(self.borders):
            if start < last and stop > first:
                unit = np.sort(self.times[start:stop])
                pieces.append(unit[max(first - start, 0) : last - start])
        return np.concatenate(pieces)


def spikes(units: DynamicTable, source: Source) -> xr.Dataset | None:
    """Read ragged spike times: ordered by unit, then by time; None when the table has none."""
    if "spike_times" not in units.colnames:
        return None
    column = units["spike_times"]
    where = "/units/spike_times"
    if not isinstance(column, VectorIndex):
        raise source.fault(where, "no spike_times_index", "an index of one end for each unit")
    borders = ragged(column.data, column.target.data, source, where)
    times = source.times(column.target.data, where)
    if len(borders) - 1 != len(units):
        raise source.fault(f"{where}_index", f"{len(borders) - 1} rows", f"{len(units)} units")
    sorted_already = _check_spikes(times, borders, source, where)
    warn_before_start(times, source, where)
    array = times if sorted_already else SortedSpikes(times, borders)
    out = xr.Dataset(
        {
            "spike_time": ("spike", lazy(array), {"units": "s"}),
            "unit_index": ("spike", lazy(UnitIndex(borders, times.shape)), {"units": "1"}),
        }
    )
    if not sorted_already:
        out.attrs["sorted_by"] = "neuropipe.io.nwb, option sort_spikes"
    return out


def _check_spikes(times: HDF5Array, borders: np.ndarray, source: Source, where: str) -> bool:
    last, row, in_order = -np.inf, 0, True
    starts = set(borders.tolist())
    for block in blocks(times):
        if not np.isfinite(block).all():
            at = row + int((~np.isfinite(block)).argmax())
            unit = int(np.searchsorted(borders[1:], at, side="right"))
            raise source.fault(where, f"{block[at - row]} at spike {at} (unit {unit})", "seconds")
        for at in (row + np.flatnonzero(np.diff(block, prepend=last) < 0)).tolist():
            if at in starts:
                continue
            if not source.sort_spikes:
                unit = int(np.searchsorted(borders[1:], at, side="right"))
                raise source.fault(
                    where,
                    f"unsorted times in unit {unit} (spike {at - borders[unit]})",
                    "times that increase within a unit",
                    "mend the file, or read it with the option `sort_spikes: true`",
                )
            in_order = False
            break
        last, row = block[-1], row + len(block)
    return in_order


def units(table: DynamicTable, source: Source) -> xr.Dataset:
    """Read the unit table: ids, region and depth through the electrodes, every scalar column."""
    out = columns(table, "unit", source, "/units", skip=OWN_NODES)
    out = out.drop_vars("id").assign_coords(
        unit=("unit", np.asarray(table.id[:], dtype=np.int64), {"units": "1"})
    )
    for name, var in NODES["units"].items():
        if name in out.data_vars and var.kind == "f" and kind_of(out[name]) == "i":
            out[name] = out[name].astype(np.float64)
        if name in out.data_vars and kind_of(out[name]) != var.kind:
            out = out.rename({name: f"{name}_"})
        elif name in out.data_vars:
            out[name].attrs["units"] = var.units
    for name, (values, attrs) in _places(table, source).items():
        if name not in out:
            out[name] = ("unit", values, attrs)
    return out


def _places(table: DynamicTable, source: Source) -> dict[str, tuple]:
    """Return region, depth and position of each unit's (first) electrode, where there are any."""
    if "electrodes" not in table.colnames:
        if "electrode_group" in table.colnames:
            groups = [table["electrode_group"][row] for row in range(len(table))]
            regions = np.asarray([str(group.location or "") for group in groups], dtype=object)
            return {"region": (regions, {"units": ""})}
        return {}
    column = table["electrodes"]
    if isinstance(column, VectorIndex):
        target = column.target
        borders = ragged(column.data, target.data, source, "/units/electrodes")
    else:
        target = column
        borders = np.arange(len(table) + 1)
    rows = np.asarray(target.data[:], dtype=np.int64)
    electrodes = target.table
    if len(rows) and (rows.min() < 0 or rows.max() >= len(electrodes)):
        raise source.fault(
            "/units/electrodes",
            f"row {rows.max()}",
            f"rows 0 to {len(electrodes) - 1} of the electrode table",
        )
    has, first = np.diff(borders) > 0, borders[:-1]
    places: dict[str, tuple] = {}
    if "location" in electrodes.colnames:
        names = source.table_column(electrodes["location"].data, "electrodes")
        own = [
            ";".join(dict.fromkeys(str(names[r]) for r in rows[start:stop]))
            for start, stop in pairwise(borders)
        ]
        places["region"] = (np.asarray(own, dtype=object), {"units": ""})
    for name, units_text in (("depth", "um"), ("x", ""), ("y", ""), ("z", "")):
        if name in electrodes.colnames:
            values = np.full(len(table), np.nan)
            column_values = source.table_column(electrodes[name].data, "electrodes")
            values[has] = column_values.astype(float)[rows[first[has]]]
            label = name if name == "depth" else f"electrode_{name}"
            places[label] = (values, {"units": units_text})
    return places


def observation_intervals(table: DynamicTable, source: Source) -> xr.Dataset | None:
    """Read when each unit was observed: `start_time`, `stop_time`, `unit_index (interval)`."""
    if "obs_intervals" not in table.colnames:
        return None
    column = table["obs_intervals"]
    borders = ragged(column.data, column.target.data, source, "/units/obs_intervals")
    bounds = np.asarray(source.times(column.target.data, "/units/obs_intervals")[:])
    owner = np.repeat(np.arange(len(borders) - 1), np.diff(borders))
    out = xr.Dataset(
        {
            "start_time": ("interval", bounds[:, 0], {"units": "s"}),
            "stop_time": ("interval", bounds[:, 1], {"units": "s"}),
            "unit_index": ("interval", owner, {"units": "1"}),
        }
    )
    _check_intervals(out, source, "/units/obs_intervals")
    return out


def intervals(table: DynamicTable, source: Source, where: str, name: str) -> xr.Dataset:
    """Read a table of intervals, all columns, along `interval`, or `trial` for the trials."""
    dim = "trial" if name == "trials" else "interval"
    out = columns(table, dim, source, where, times=("start_time", "stop_time"))
    _check_intervals(out, source, where)
    return out


def _check_intervals(out: xr.Dataset, source: Source, where: str) -> None:
    start, stop = out["start_time"].values, out["stop_time"].values
    if (stop < start).any():
        row = int((stop < start).argmax())
        raise source.fault(
            where,
            f"stop {stop[row]:g} s before start {start[row]:g} s in row {row}",
            "start before stop",
        )
    count = int((start < 0).sum() + np.isnan(start).sum() + np.isnan(stop).sum())
    if count:
        log.warning(
            "%s: %s: %d bounds are NaN or before the session start, kept as they are",
            source.path,
            where,
            count,
        )


def event_table(table: DynamicTable, source: Source, where: str, name: str) -> xr.Dataset:
    """Read an EventsTable: its timestamps as `event_time`, its other columns beside them."""
    out = columns(table, "event", source, where, times=("timestamp",))
    warn_before_start(source.times(table["timestamp"].data, where), source, where)
    return out.rename(timestamp="event_time")


def columns(
    table: DynamicTable,
    dim: str,
    source: Source,
    where: str,
    times: tuple[str, ...] = (),
    skip: tuple[str, ...] = (),
) -> xr.Dataset:
    """Read the columns of a table along a dim.

    A ragged column becomes a flat one along `<column>_item` with `<column>_<dim>`, the row of
    each item. Columns of references are left out, by name, with a warning.
    """
    variables = {"id": (dim, np.asarray(table.id[:], dtype=np.int64), {"units": "1"})}
    left_out = []
    for column in table.colnames:
        if column in skip:
            continue
        found = _column(table[column], column, dim, source, where, times)
        if not found:
            left_out.append(column)
        for name, variable in found.items():
            name = safe_name(name)
            while name in variables or name == dim:
                name += "_"
            variables[name] = variable
    if left_out:
        log.warning(
            "%s: %s: columns left out (references or nested lists): %s",
            source.path,
            where,
            ", ".join(left_out),
        )
    for name, (dims, values, _) in variables.items():
        if dims[0] == dim and len(values) != len(table):
            raise source.fault(f"{where}/{name}", f"{len(values)} rows", f"{len(table)}")
    return xr.Dataset(
        {n: ((d,) if isinstance(d, str) else d, v, a) for n, (d, v, a) in variables.items()}
    )


def _column(column, name: str, dim: str, source: Source, where: str, times: tuple) -> dict:
    if isinstance(column, VectorIndex):
        if isinstance(column.target, VectorIndex):
            return {}
        borders = ragged(column.data, column.target.data, source, f"{where}/{name}")
        flat = _column(column.target, name, f"{name}_item", source, where, times)
        rows = UnitIndex(borders, (int(borders[-1]),))
        return (
            {**flat, f"{name}_{dim}": ((f"{name}_item",), lazy(rows), {"units": "1"})}
            if (flat)
            else {}
        )
    dataset = source.dataset(column.data)
    if isinstance(column, DynamicTableRegion):
        return {name: ((dim,), lazy(source.array(column.data, where)), {"units": "1"})}
    if dataset.dtype.fields and not h5py.check_string_dtype(dataset.dtype):
        fields = dataset.dtype.fields
        if any(h5py.check_ref_dtype(dtype) for dtype, *_ in fields.values()):
            return {}
        parts = {f"{name}_{part}": source.array(dataset, where, part) for part in fields}
    elif h5py.check_ref_dtype(dataset.dtype):
        parts = {}
    else:
        parts = {name: source.array(dataset, where)}
    if name in times:
        parts = {name: source.times(dataset, where)}
    unit = text_of(dataset.attrs.get("unit", ""))
    return {
        part: _variable(array, part, dim, units_of(unit) if unit else "")
        for part, array in parts.items()
    }


def _variable(array: HDF5Array, name: str, dim: str, unit: str) -> tuple:
    dims = (dim, *(f"{safe_name(name)}_{axis}" for axis in range(1, array.ndim)))
    if array.dtype == object:
        return dims, lazy(array), {"units": ""}
    is_time = name.endswith(("_time", "_times")) or name in ("timestamp", "duration")
    return dims, lazy(array), {"units": unit or ("s" if is_time else "")}
