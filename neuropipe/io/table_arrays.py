"""From a file's array to a variable of the catalogue: its dims in order, its units, its clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize

from neuropipe.errors import ConfigError, ReaderError
from neuropipe.io.hdf5 import LOCK, HDF5Array, blocks
from neuropipe.io.store import layout
from neuropipe.io.table_files import Arrays
from neuropipe.io.table_mapping import CONVERSIONS, Column, Node
from neuropipe.schema import Var

WILD = frozenset("*?[")


@dataclass(frozen=True)
class Place:
    """The open file, and the place in the mapping that asks for one of its arrays."""

    arrays: Arrays
    where: str

    def __str__(self) -> str:
        return f"{self.arrays.path}: {self.where}"


def variable(key: str, column: Column, var: Var, place: Place) -> xr.Variable:
    """Return one declared array as a variable: catalogue's dims and units, lazy.

    Parameters
    ----------
    key : name of the variable
    column : what is declared
    var : what the catalogue says; dims of a variable that it does not know are free

    Raises
    ------
    ConfigError
        Units or dims are missing or wrong.
    ReaderError
        The array is absent, of another shape, or of no numbers and no text.
    """
    found, is_list = _found(column, place, key)
    if found.dtype.kind not in "fiubOU" or (found.dtype == object and not is_text(found)):
        raise ReaderError(
            f"{place}: {key}: array {column.array!r} holds {_content(found)}, expected numbers "
            "or text; take a field of it or export it as plain arrays"
        )
    dims = _dims(key, column, var, found.ndim, is_list, place)
    if found.ndim == 2 and len(dims) == 1 and 1 in found.shape:
        values = chunked(found, 0 if found.shape[1] == 1 else 1).reshape(-1)  # MATLAB's vectors
    elif found.ndim != len(dims):
        raise ReaderError(
            f"{place}: {key}: array {column.array!r} has shape {_shape(found, place)}, expected "
            f"{len(dims)} dims ({', '.join(dims)}); mend `dims`"
        )
    else:
        in_file = dims[::-1] if place.arrays.backward and not is_list else dims
        wanted = var.dims if set(var.dims) == set(dims) else _time_first(dims)
        order = [in_file.index(dim) for dim in wanted]
        values, dims = chunked(found, order[0]).transpose(order), tuple(wanted)
    if is_text(found):
        return xr.Variable(dims, values, {"units": ""})
    if column.units is None:
        raise ConfigError(
            f'{place}: {key}: units are missing; write units: <text>, "1" for a pure number'
        )
    values, units = _scaled(values, column, var, key, place)
    attrs = {"units": units, **({"names": True} if is_list else {})}
    return xr.Variable(dims, values, attrs)


def clock(node: Node, n: int, place: Place) -> tuple[xr.Variable, float | None]:
    """Return the times of `n` samples, s, and the rate, Hz, where one is declared.

    Raises
    ------
    ReaderError
        Not one time a sample, a NaN, a step back, or a rate that is no positive number.
    """
    if node.time is not None:
        times = vector(node.time, "time", place)
        if times.shape != (n,):
            raise ReaderError(
                f"{place}: time: found {times.shape[0]} times in {node.time.array!r}, expected "
                f"{n}, one for each sample; check `dims`, which are in the order of the file"
            )
        return xr.Variable("time", times, {"units": "s"}), None
    rate_hz = node.rate_hz
    if rate_hz is None:
        found = np.asarray(place.arrays.load(node.rate, f"{place.where}: rate")[...])
        rate_hz = float(found.item()) if found.size == 1 and found.dtype.kind in "fiu" else np.nan
        if not (np.isfinite(rate_hz) and rate_hz > 0):
            raise ReaderError(
                f"{place}: rate: array {node.rate!r} holds {found.ravel()[:3].tolist()}, expected "
                "one number above 0, Hz; write rate_hz: <number> instead"
            )
    chunks = layout((n,), 8)[1]
    times = node.start_s + da.arange(n, chunks=chunks, dtype=np.float64) / rate_hz
    return xr.Variable("time", times, {"units": "s"}), rate_hz


def vector(column: Column, key: str, place: Place, ordered: bool = True) -> da.Array:
    """Return an array of times in seconds, checked block by block."""
    found, _ = _found(column, place, key)
    if found.dtype.kind not in "fiu":
        raise ReaderError(
            f"{place}: {key}: array {column.array!r} holds {_content(found)}, expected numbers"
        )
    if found.ndim == 2 and 1 in found.shape:
        values = chunked(found, int(np.argmax(found.shape))).reshape(-1)
    elif found.ndim == 1:
        values = chunked(found, 0)
    else:
        raise ReaderError(
            f"{place}: {key}: array {column.array!r} has shape {_shape(found, place)}, expected "
            "one dim of times"
        )
    var = Var(("time",), "s", "f", "times")
    times = _scaled(values.astype(np.float64), column, var, key, place)[0]
    last, row = -np.inf, 0
    for block in blocks(times):
        block = np.asarray(block)
        bad = np.flatnonzero(~np.isfinite(block))
        if bad.size:
            raise ReaderError(
                f"{place}: {key}: found {block[bad[0]]} at sample {row + bad[0]} of "
                f"{column.array!r}, expected a time, s; mend the file"
            )
        back = np.flatnonzero(np.diff(block, prepend=last) < 0)
        if ordered and back.size:
            raise ReaderError(
                f"{place}: {key}: found a step back to {block[back[0]]:g} s at sample "
                f"{row + back[0]} of {column.array!r}, expected times that never decrease; "
                "mend the file"
            )
        last, row = block[-1] if block.size else last, row + len(block)
    return times


def spikes(node: Node, place: Place) -> dict[str, xr.Dataset]:
    """Return node `spikes`, ordered by unit and time; attr `unit_names` is for the caller.

    Notes
    -----
    Spike times are held in memory: a session has few of them beside its signals.
    """
    if node.trains is not None:
        names, index, times = _trains(node.trains, place)
    else:
        times = np.asarray(vector(node.time or Column(array=""), "time", place, ordered=False))
        labels, _ = _found(Column(array=node.unit), place, "unit")
        labels = np.asarray(labels[:]).ravel()
        if len(labels) != len(times):
            raise ReaderError(
                f"{place}: found {len(labels)} values of unit {node.unit!r} and {len(times)} "
                "times, expected one unit a spike"
            )
        if labels.dtype.kind == "f" and not np.array_equal(labels, np.round(labels)):
            raise ReaderError(
                f"{place}: unit: array {node.unit!r} holds fractions or NaN, expected whole "
                "numbers or text; are unit and time exchanged?"
            )
        labels = labels.astype(str) if labels.dtype == object else labels.astype(np.int64)
        found, index = np.unique(labels, return_inverse=True)
        names = found.tolist()
    order = np.lexsort((times, index))
    made = xr.Dataset(
        {
            "spike_time": ("spike", _in_memory(times[order]), {"units": "s"}),
            "unit_index": ("spike", _in_memory(index[order].astype(np.int32)), {"units": "1"}),
        },
        attrs={"unit_names": names},
    )
    return {"spikes": made}


def units_of(names: list) -> xr.Dataset:
    """Return node `units` for the identifiers found in the spikes; text ones become `unit_name`."""
    text = any(isinstance(name, str) for name in names)
    ids = np.arange(len(names)) if text else np.asarray(names, dtype=np.int64)
    made = xr.Dataset(coords={"unit": ("unit", ids, {"units": "1"})})
    if text:
        made["unit_name"] = ("unit", np.array(names, dtype=object), {"units": ""})
    return made


def reordered(spikes: xr.Dataset, index: np.ndarray) -> xr.Dataset:
    """Return the spikes with unit `i` called `index[i]`, again ordered by unit and time."""
    units = index[spikes["unit_index"].values.astype(int)]
    order = np.lexsort((spikes["spike_time"].values, units))
    return xr.Dataset(
        {
            "spike_time": ("spike", _in_memory(spikes["spike_time"].values[order]), {"units": "s"}),
            "unit_index": ("spike", _in_memory(units[order].astype(np.int32)), {"units": "1"}),
        },
        attrs=spikes.attrs,
    )


def matched(column: Column, place: Place) -> list[str]:
    """Return the columns of a table that a list of names and patterns stands for."""
    given = (column.array,) if isinstance(column.array, str) else column.array
    names: list[str] = []
    for name in given:
        fits = place.arrays.matching(name) if WILD & set(name) else []
        names += fits or [name]
    return names


def chunked(array: Any, axis: int) -> da.Array:
    """Return an array as Dask blocks, cut along one axis only, of about the store's shard."""
    if isinstance(array, da.Array):
        return array
    itemsize = 64 if array.dtype == object else array.dtype.itemsize
    moved = (array.shape[axis], *(n for i, n in enumerate(array.shape) if i != axis))
    chunks: list[int] = list(array.shape)
    if array.ndim:
        chunks[axis] = layout(moved, itemsize)[1][0]
    if not isinstance(array, HDF5Array):
        return da.from_array(array, chunks=tuple(chunks))
    meta = np.empty((0,) * array.ndim, array.dtype)
    name = "table-" + tokenize(array, chunks)
    return da.from_array(
        array, chunks=tuple(chunks), name=name, lock=LOCK, asarray=False, meta=meta
    )


def is_text(array: Any) -> bool:
    """Return whether an array holds text: that of HDF5 is `object` before it is read."""
    if array.dtype.kind == "U":
        return True
    if array.dtype != object:
        return False
    if isinstance(array, np.ndarray):
        return all(isinstance(value, str) for value in array.ravel())
    return True


def _found(column: Column, place: Place, key: str) -> tuple[Any, bool]:
    """Return the array, and whether it was put together of several columns of a table."""
    where = f"{place.where}: {key}"
    wild = isinstance(column.array, str) and WILD & set(column.array)
    if isinstance(column.array, str) and not (wild and place.arrays.table):
        return place.arrays.load(column.array, where), False
    if not place.arrays.table:
        raise ConfigError(
            f"{place}: {key}: array {column.array!r}: several columns are taken of text tables "
            "only; name one array"
        )
    parts = [place.arrays.load(name, where) for name in matched(column, place)]
    if any(part.dtype == object for part in parts):
        raise ReaderError(
            f"{place}: {key}: columns {column.array!r}: found text, expected numbers to put beside "
            "each other"
        )
    return np.column_stack(parts), True


def _dims(
    key: str, column: Column, var: Var, ndim: int, is_list: bool, place: Place
) -> tuple[str, ...]:
    if column.dims:
        if len(set(column.dims)) < len(column.dims):
            raise ConfigError(f"{place}: {key}: dims {list(column.dims)} name one twice")
        if var.optional is False and set(column.dims) != set(var.dims):
            raise ConfigError(
                f"{place}: {key}: found dims {list(column.dims)}, expected {list(var.dims)} in "
                "the order of the file"
            )
        if is_list and (len(column.dims) != 2 or column.dims[0] not in ("time", *var.dims[:1])):
            raise ConfigError(
                f"{place}: {key}: found dims {list(column.dims)}, expected two, the rows of the "
                "table first"
            )
        return column.dims
    if len(var.dims) > 1 or (not is_list and ndim > 2) or not var.dims:
        raise ConfigError(
            f"{place}: {key}: dims are missing; write them in the order of the file, such as "
            f"dims: [{', '.join(var.dims) or 'roi'}]"
        )
    return (*var.dims, "axis") if is_list else var.dims


def _time_first(dims: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(dims, key=lambda dim: dim != "time"))


def _scaled(
    values: da.Array, column: Column, var: Var, key: str, place: Place
) -> tuple[da.Array, str]:
    """Return the values in the catalogue's units; whole numbers that are scaled become floats."""
    factor, units = column.factor, column.units or ""
    if var.units not in (None, "", "mixed") and units != var.units:
        if (units, var.units) not in CONVERSIONS:
            known = [given for given, wanted in CONVERSIONS if wanted == var.units]
            raise ConfigError(
                f"{place}: {key}: units {units!r}, expected {', '.join([str(var.units), *known])}; "
                "write `factor:` for another one"
            )
        factor, units = factor * CONVERSIONS[units, var.units], str(var.units)
    changed = factor != 1 or column.offset != 0
    if values.dtype.kind in "iub" and (var.kind == "f" or changed):
        small = values.dtype.itemsize <= 2 and var.units != "s"
        values = values.astype(np.float32 if small else np.float64)
    elif values.dtype.kind == "f" and var.kind == "i":
        values = _whole(values, key, place)
    if changed:
        values = values * values.dtype.type(factor) + values.dtype.type(column.offset)
    return values, units


def _whole(values: da.Array, key: str, place: Place) -> da.Array:
    """Return floats that hold whole numbers as such: MATLAB keeps every number as a float."""
    if not bool((values == values.round()).all().compute()):
        raise ReaderError(f"{place}: {key}: found fractions or NaN, expected whole numbers")
    return values.astype(np.int64)


def _trains(column: Column, place: Place) -> tuple[list, np.ndarray, np.ndarray]:
    found, _ = _found(column, place, "trains")
    cells = np.asarray(found).ravel() if found.dtype == object else None
    if cells is None or any(c is None or np.asarray(c).dtype.kind not in "fiu" for c in cells):
        raise ReaderError(
            f"{place}: trains: array {column.array!r} holds {_content(found)}, expected a MATLAB "
            "cell with one vector of spike times a unit"
        )
    factor = column.factor * (CONVERSIONS[column.units or "", "s"] if column.units != "s" else 1)
    vectors = [np.asarray(c, float).ravel() * factor + column.offset for c in cells]
    if any(not np.isfinite(v).all() for v in vectors):
        raise ReaderError(f"{place}: trains: found NaN in {column.array!r}, expected times, s")
    index = np.repeat(np.arange(len(vectors)), [len(v) for v in vectors])
    return list(range(len(vectors))), index, np.concatenate([*vectors, np.zeros(0)])


def _in_memory(values: np.ndarray) -> da.Array:
    return da.from_array(values, chunks=layout(values.shape, values.dtype.itemsize)[1])


def _shape(array: Any, place: Place) -> tuple[int, ...]:
    return array.shape[::-1] if place.arrays.backward else array.shape


def _content(array: Any) -> str:
    if array.dtype.names:
        return f"a structure with the fields {', '.join(array.dtype.names)}"
    kinds: Mapping[str, str] = {"O": "objects (cells, sparse or compound values)", "c": "complex"}
    return kinds.get(array.dtype.kind, f"values of type {array.dtype}")
