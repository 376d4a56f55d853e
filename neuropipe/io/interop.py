"""A recording in the hands of other libraries: pynapple, pandas, NumPy."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import xarray as xr

from neuropipe.errors import DataError, NeuropipeError
from neuropipe.registry import hint
from neuropipe.schema import Recording

if TYPE_CHECKING:
    import pandas as pd

Converter = Callable[[Any, xr.Dataset, Recording], Any]


def to_pynapple(recording: Recording, nodes: Sequence[str] | None = None) -> dict[str, Any]:
    """Return nodes as pynapple objects, loaded into memory, times in seconds.

    Parameters
    ----------
    recording : DataTree
        As ingested or prepared.
    nodes : sequence of str, optional
        Which ones; by default all that pynapple has an object for.

    Returns
    -------
    dict of node name to object
        `spikes` is a TsGroup by unit identifier, with what is known of the units as metadata;
        `trials`, `runs` and ``intervals/*`` are IntervalSets with their columns as metadata;
        ``events/*`` are Ts; signals are Tsd, TsdFrame or TsdTensor, a node of several signals
        a TsdFrame with a column each (or a dict of objects, where one has more dims).

    Raises
    ------
    NeuropipeError
        pynapple is not installed.
    DataError
        Unknown node; intervals that overlap, which an IntervalSet cannot hold.

    Notes
    -----
    Intervals without start or stop are left out, for pynapple has no place for them. Where one
    ends when the next begins, pynapple shortens it by a microsecond.
    """
    try:
        import pynapple as nap
    except ImportError as error:
        raise NeuropipeError(
            "to_pynapple: found no package pynapple; pip install 'neuropipe[interop]' or pynapple"
        ) from error
    there = [g.lstrip("/") for g in recording.groups if recording[g].variables and g != "/"]
    for node in nodes or ():
        if node not in there:
            raise DataError(f"to_pynapple: no node {node!r}{hint(node, there)}")
    out: dict[str, Any] = {}
    for node in there if nodes is None else nodes:
        dataset = _dataset(recording, node)
        convert = _converter(dataset)
        if convert is not None:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Some starts and ends are equal")
                out[node] = convert(nap, dataset, recording)
        elif nodes is not None:
            raise DataError(f"to_pynapple: pynapple has no object for node {node!r}")
    return out


def to_pandas(recording: Recording, node: str) -> pd.DataFrame:
    """Return a node as a table, a row each time, spike, trial or unit.

    Parameters
    ----------
    recording : DataTree
        One session.
    node : str
        Such as ``"trials"`` or ``"behavior/gaze"``.

    Returns
    -------
    DataFrame
        A signal of several columns gives ``<variable>_<name>`` each. Units are in
        ``attrs["units"]``, by column.

    Raises
    ------
    DataError
        Unknown node, or one with a variable of three dims or more; `to_numpy` has those.
    """
    import pandas as pd

    dataset = _named(recording, node)
    row = _row_dim(dataset)
    columns: dict[str, np.ndarray] = {}
    units: dict[str, str] = {}
    for name, array in dataset.variables.items():
        if array.dims[:1] != (row,):
            continue
        if array.ndim > 2:
            raise DataError(
                f"to_pandas: {node}/{name} has dims {array.dims}, expected two at most; use "
                "to_numpy"
            )
        values = np.asarray(array.values)
        labels = [str(name)] if array.ndim == 1 else _labels(dataset, str(name))
        for i, label in enumerate(labels):
            columns[label] = values if array.ndim == 1 else values[:, i]
            units[label] = str(array.attrs.get("units", ""))
    table = pd.DataFrame(columns)
    if "time" in table:
        table = table.set_index("time")
    table.attrs = {"units": units, **{k: str(v) for k, v in dataset.attrs.items()}}
    return table


def to_numpy(recording: Recording, node: str) -> dict[str, np.ndarray]:
    """Return the variables of a node as arrays in memory, by name, coordinates among them.

    Raises
    ------
    DataError
        Unknown node.
    """
    dataset = _named(recording, node)
    return {str(name): np.asarray(array.values) for name, array in dataset.variables.items()}


def _dataset(recording: Recording, node: str) -> xr.Dataset:
    return cast(xr.DataTree, recording[node]).to_dataset(inherit=False)


def _named(recording: Recording, node: str) -> xr.Dataset:
    there = [g.lstrip("/") for g in recording.groups if recording[g].variables and g != "/"]
    if node not in there:
        raise DataError(f"interop: no node {node!r}{hint(node, there)}")
    return _dataset(recording, node)


def _row_dim(dataset: xr.Dataset) -> str:
    """Return the dim that grows: time where there is one, else that of most variables."""
    if "time" in dataset.sizes:
        return "time"
    dims = [str(array.dims[0]) for array in dataset.variables.values() if array.dims]
    return max(dict.fromkeys(dims), key=dims.count)


def _labels(dataset: xr.Dataset, name: str) -> list[str]:
    dim = str(dataset[name].dims[1])
    ends = dataset[dim].values if dim in dataset.coords else range(dataset.sizes[dim])
    return [f"{name}_{end}" for end in ends]


def _converter(dataset: xr.Dataset) -> Converter | None:
    """Return what makes a pynapple object of a node, by the times that it has."""
    kinds: dict[str, Converter] = {
        "spike_time": _spikes,
        "event_time": _events,
        "start_time": _intervals,
        "time": _signals,
    }
    return next((convert for name, convert in kinds.items() if name in dataset.variables), None)


def _spikes(nap: Any, dataset: xr.Dataset, recording: Recording) -> Any:
    units = _dataset(recording, "units") if "units" in recording.children else xr.Dataset()
    time, index = dataset["spike_time"].values, dataset["unit_index"].values
    n_units = units.sizes.get("unit", int(index.max(initial=-1)) + 1)
    ids = units["unit"].values if "unit" in units.coords else np.arange(n_units)
    bounds = np.searchsorted(index, np.arange(n_units + 1))
    support = nap.IntervalSet(*_extent(recording, time))
    trains = {
        int(ids[i]): nap.Ts(time[bounds[i] : bounds[i + 1]], time_support=support)
        for i in range(n_units)
    }
    metadata = {
        str(name): np.asarray(array.values)
        for name, array in units.data_vars.items()
        if array.dims == ("unit",) and name != "rate"  # pynapple has a rate of its own
    }
    return nap.TsGroup(trains, time_support=support, metadata=metadata)


def _extent(recording: Recording, time: np.ndarray) -> tuple[float, float]:
    """Return what all clocks and spikes span, so that silent ends count for the rates."""
    ends = [float(time.min()), float(time.max())] if time.size else []
    for path in recording.groups:
        clock = recording[path].to_dataset().variables.get("time")
        if clock is not None and clock.size:
            ends += [float(clock[0].values), float(clock[-1].values)]
    first, last = (min(ends), max(ends)) if ends else (0.0, 0.0)
    return first, max(last, first + 1e-6)


def _events(nap: Any, dataset: xr.Dataset, recording: Recording) -> Any:
    return nap.Ts(np.sort(dataset["event_time"].values.astype(float)))


def _intervals(nap: Any, dataset: xr.Dataset, recording: Recording) -> Any:
    start, stop = (dataset[name].values.astype(float) for name in ("start_time", "stop_time"))
    keep = np.flatnonzero(np.isfinite(start) & np.isfinite(stop))
    keep = keep[np.argsort(start[keep], kind="stable")]
    start, stop = start[keep], stop[keep]
    overlap = np.flatnonzero(start[1:] < stop[:-1])
    if len(overlap):
        raise DataError(
            f"to_pynapple: {len(overlap)} of {len(start)} intervals begin before another has "
            f"ended (first at {start[overlap[0] + 1]:g} s), which an IntervalSet cannot hold; "
            "leave that node out by `nodes`"
        )
    row = dataset["start_time"].dims[0]
    metadata = {
        str(name): np.asarray(array.values)[keep]
        for name, array in dataset.data_vars.items()
        if array.dims == (row,) and name not in ("start_time", "stop_time")
    }
    return nap.IntervalSet(start, stop, metadata=metadata or None)


def _signals(nap: Any, dataset: xr.Dataset, recording: Recording) -> Any:
    time = dataset["time"].values
    signals = {
        str(name): array
        for name, array in dataset.data_vars.items()
        if array.dims[:1] == ("time",) and array.dtype.kind in "fiub"
    }
    if len(signals) > 1 and all(array.ndim == 1 for array in signals.values()):
        values = np.stack([np.asarray(array.values, float) for array in signals.values()], axis=1)
        return nap.TsdFrame(t=time, d=values, columns=list(signals))
    made = {name: _signal(nap, time, dataset, name) for name in signals}
    return next(iter(made.values())) if len(made) == 1 else made


def _signal(nap: Any, time: np.ndarray, dataset: xr.Dataset, name: str) -> Any:
    values = np.asarray(dataset[name].values)
    if values.ndim == 1:
        return nap.Tsd(t=time, d=values)
    if values.ndim > 2:
        return nap.TsdTensor(t=time, d=values)
    dim = str(dataset[name].dims[1])
    columns = dataset[dim].values if dim in dataset.coords else np.arange(dataset.sizes[dim])
    return nap.TsdFrame(t=time, d=values, columns=list(columns))
