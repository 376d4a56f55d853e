"""NWB time series as datasets: each on its own clock, scaled to its units, still on disk."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from pynwb import TimeSeries
from pynwb.behavior import BehavioralEvents, SpatialSeries
from pynwb.ecephys import ElectricalSeries
from pynwb.misc import AnnotationSeries, IntervalSeries
from pynwb.ophys import DfOverF, RoiResponseSeries

from neuropipe.io.hdf5 import HDF5Array, Source, blocks, lazy, text_of
from neuropipe.io.store import lazy_indexed

log = logging.getLogger(__name__)

UNITS = {
    "second": "s",
    "seconds": "s",
    "volt": "V",
    "volts": "V",
    "v": "V",
    "meter": "m",
    "meters": "m",
    "metre": "m",
    "metres": "m",
    "centimeters": "cm",
    "cm": "cm",
    "millimeters": "mm",
    "radian": "rad",
    "radians": "rad",
    "degree": "deg",
    "degrees": "deg",
    "meters/second": "m/s",
    "m/s": "m/s",
    "hertz": "Hz",
    "watts": "W",
    "percent": "%",
}
NO_UNITS = {"", "1", "na", "n/a", "n.a.", "none", "unknown", "no unit", "a.u.", "au", "-"}
AXES = ("x", "y", "z")
# Columns of the electrodes that become coordinates of channels; places in um, as NWB has them.
ELECTRODE = (
    ("location", "region", object, ""),
    ("group_name", "shaft", object, ""),
    ("label", "label", object, ""),
    ("channel_name", "channel_name", object, ""),
    *((axis, axis, float, "um") for axis in AXES),
)
# Columns of the electrode table, as coordinates of the channels; None: the column says its units.
ELECTRODES: dict[str, tuple[str, str | None]] = {
    "location": ("region", ""),
    "channel_name": ("channel_name", ""),
    "label": ("channel_name", ""),
    "group_name": ("shaft", ""),
    "x": ("x", None),
    "y": ("y", None),
    "z": ("z", None),
}
UNSTATED = "not stated"
ROI_NAME = "roi_name"


def units_of(text: str | None) -> str:
    """Return a unit as the catalogue spells it; unknown ones stay as they are."""
    text = (text or "").strip()
    if text.lower() in NO_UNITS:
        return "1"
    return UNITS.get(text.lower(), text)


@dataclass(frozen=True)
class Ramp:
    """The clock of a regularly sampled series, made block by block."""

    start: float
    rate: float
    shape: tuple[int, ...]
    dtype = np.dtype(np.float64)
    ndim = 1

    def __getitem__(self, index) -> np.ndarray:
        rows = index[0] if isinstance(index, tuple) else index
        if isinstance(rows, slice):  # of any step: Dask hands on what its user asked for
            chosen = range(self.shape[0])[rows]
            rows = np.arange(chosen.start, chosen.stop, chosen.step)
        return self.start + np.asarray(rows) / self.rate


def clock(series: TimeSeries, source: Source, where: str, ordered: bool = True):
    """Return the times of a series, (time,), s from the session start, checked in blocks.

    Raises
    ------
    ReaderError
        As many timestamps as samples, a positive rate, no NaN and no step back is expected.
    """
    n = source.dataset(series.data).shape[0]
    if series.timestamps is None:
        if not series.rate or series.rate <= 0:
            raise source.fault(where, f"rate {series.rate}", "timestamps or a rate above 0 Hz")
        return Ramp((series.starting_time or 0.0) + source.shift_s, float(series.rate), (n,))
    times = source.times(series.timestamps, f"{where}/timestamps")
    if times.shape != (n,):
        raise source.fault(
            f"{where}/timestamps", f"{times.shape[0]} timestamps", f"{n}, one for each sample"
        )
    _check_order(times, source, f"{where}/timestamps", ordered)
    return times


def _check_order(times: HDF5Array, source: Source, where: str, ordered: bool) -> None:
    last, row, repeats, backward = -np.inf, 0, 0, 0
    for block in blocks(times):
        if np.isnan(block).any():
            at = row + int(np.isnan(block).argmax())
            raise source.fault(where, f"NaN at sample {at}", "seconds")
        steps = np.diff(block, prepend=last)
        if ordered and (steps < 0).any():
            at = row + int((steps < 0).argmax())
            raise source.fault(
                where, f"a step back to {block[at - row]:g} s at sample {at}", "times that increase"
            )
        repeats += int((steps == 0).sum())
        backward += int((steps < 0).sum())
        last, row = block[-1], row + len(block)
    if repeats or backward:
        log.warning(
            "%s: %s: %d repeated times and %d steps back, kept as they are",
            source.path,
            where,
            repeats,
            backward,
        )


def values(series: TimeSeries, source: Source, where: str, dtype=None) -> HDF5Array:
    """Return the samples of a series with conversion and offset applied as blocks are read."""
    raw = source.array(series.data, f"{where}/data")
    factor, offset = float(series.conversion), float(series.offset or 0.0)
    scaled = factor != 1 or offset != 0
    if dtype is None:
        dtype = np.dtype(np.float64) if scaled and raw.dtype.kind in "iub" else raw.dtype
    if raw.dtype.kind not in "fiub":
        return raw
    return replace(raw, factor=factor, offset=offset, dtype=np.dtype(dtype))


def _dataset(time, variables: Mapping[str, tuple], coords: Mapping[str, tuple] | None = None):
    clock_coord = {"time": ("time", lazy(time), {"units": "s"})}
    dataset = xr.Dataset(variables, xr.Coordinates({**clock_coord, **(coords or {})}, indexes={}))
    return lazy_indexed(dataset)


def behavior(series: TimeSeries, source: Source, where: str, name: str) -> xr.Dataset:
    """Read a continuous series: one variable, or x, y, z for the columns of a SpatialSeries."""
    time = clock(series, source, where)
    array = lazy(values(series, source, where))
    attrs = {"units": units_of(series.unit)}
    label = f"{name}_value" if name in ("time", "dimension") else name
    columns = array.shape[1] if array.ndim == 2 else 0
    variables: dict[str, tuple]
    if isinstance(series, SpatialSeries) and 0 < columns <= len(AXES):
        variables = {AXES[i]: ("time", array[:, i], attrs) for i in range(columns)}
    else:
        dims = ("time", "dimension", *(f"dimension_{i}" for i in range(2, array.ndim)))
        variables = {label: (dims[: array.ndim], array, attrs)}
    out = _dataset(time, variables)
    if isinstance(series, SpatialSeries) and series.reference_frame:
        out.attrs["reference_frame"] = str(series.reference_frame)
    return out


def ephys(series: ElectricalSeries, source: Source, where: str, name: str) -> xr.Dataset:
    """Read a voltage series: (time, channel), V, float32, with its electrodes as coordinates."""
    unit = text_of(source.dataset(series.data).attrs.get("unit", "volts"))
    if units_of(unit) != "V":
        raise source.fault(
            f"{where}/data",
            f"unit {unit!r}",
            "'volts'",
            "write volts and the factor as `conversion`",
        )
    array = values(series, source, where, np.float32)
    if series.channel_conversion is not None:
        array = replace(array, factor=array.factor * np.asarray(series.channel_conversion[:]))
    voltage = lazy(array)
    voltage = voltage[:, None] if voltage.ndim == 1 else voltage
    region = series.electrodes
    rows = np.asarray(region.data[:], dtype=np.int64)
    if len(rows) != voltage.shape[1]:
        raise source.fault(
            f"{where}/electrodes",
            f"{len(rows)} electrodes",
            f"{voltage.shape[1]}, one for each column of data",
        )
    table = region.table
    coords = {"channel": ("channel", np.asarray(table.id[:])[rows], {"units": "1"})}
    for column, (name, units) in ELECTRODES.items():
        if column not in table.colnames:
            continue
        told = source.table_column(table[column].data, f"{where}/electrodes")[rows]
        if units is None:
            stated = source.dataset(table[column].data).attrs.get("unit")
            attrs = {"units": text_of(stated) if stated is not None else UNSTATED}
            coords[name] = ("channel", told.astype(np.float64), attrs)
        else:
            coords[name] = ("channel", told.astype(object), {"units": units})
    time = clock(series, source, where)
    out = _dataset(time, {"voltage": (("time", "channel"), voltage, {"units": "V"})}, coords)
    if getattr(series, "filtering", None):
        out.attrs["filtering"] = str(series.filtering)
    return out


def calcium(series: RoiResponseSeries, source: Source, where: str, name: str) -> xr.Dataset:
    """Read a fluorescence series: `dff` inside a DfOverF or when named so, else `fluorescence`."""
    dtype = source.array(series.data, f"{where}/data").dtype
    array = lazy(values(series, source, where, dtype if dtype.kind == "f" else np.float32))
    array = array[:, None] if array.ndim == 1 else array
    units = units_of(series.unit)
    relative = isinstance(series.parent, DfOverF) or "dff" in name.lower().replace("_", "")
    if relative and units == "%":
        array = array / 100
    rows = np.asarray(series.rois.data[:], dtype=np.int64)
    if len(rows) != array.shape[1]:
        raise source.fault(
            f"{where}/rois",
            f"{len(rows)} regions of interest",
            f"{array.shape[1]}, one for each column of data",
        )
    table = series.rois.table
    coords: dict[str, Any] = {"roi": ("roi", np.asarray(table.id[:])[rows], {"units": "1"})}
    if ROI_NAME in table.colnames:  # the same neuron has the same name in every animal
        names = source.table_column(table[ROI_NAME].data, f"{where}/rois")[rows]
        coords["roi"] = ("roi", names.astype(object), {"units": ""})
    kind, attrs = ("dff", {"units": "1"}) if relative else ("fluorescence", {"units": units})
    time = clock(series, source, where)
    return _dataset(time, {kind: (("time", "roi"), array, attrs)}, coords)


def is_marks(series: TimeSeries, source: Source) -> bool:
    """Say whether a series marks moments rather than samples a signal.

    True for annotations, for what stands in a BehavioralEvents, and for a plain TimeSeries of
    integer or text codes without physical units at times of their own.
    """
    if isinstance(series, AnnotationSeries) or isinstance(series.parent, BehavioralEvents):
        return True
    data = source.dataset(series.data)
    coded = data.ndim == 1 and (data.dtype.kind in "iubOS") and units_of(series.unit) == "1"
    return type(series) is TimeSeries and series.timestamps is not None and coded


def events(series: TimeSeries, source: Source, where: str, name: str) -> xr.Dataset:
    """Read marked moments in the order of the file: `event_time` and `label` or `value`."""
    time = clock(series, source, where, ordered=False)
    array = lazy(values(series, source, where))
    text = array.dtype == object
    attrs = {"units": "" if text else units_of(series.unit)}
    dims = ("event", *(f"dimension_{i}" for i in range(1, array.ndim)))
    variables = {
        "event_time": ("event", lazy(time), {"units": "s"}),
        "label" if text else "value": (dims, array, attrs),
    }
    warn_before_start(time, source, where)
    return xr.Dataset(variables)


def warn_before_start(times, source: Source, where: str) -> None:
    """Log how many events lie before the session start; they are kept."""
    early = [block[block < 0] for block in blocks(times)]
    count = sum(map(len, early))
    if count:
        least = min(float(block.min()) for block in early if len(block))
        log.warning(
            "%s: %s: %d times before the session start (least %g s), kept as they are",
            source.path,
            where,
            count,
            least,
        )


def epochs(series: IntervalSeries, source: Source, where: str, name: str) -> xr.Dataset:
    """Read an IntervalSeries: positive samples start an interval of that kind, negative end it."""
    time = np.asarray(clock(series, source, where)[:])
    marks = np.asarray(source.array(series.data, f"{where}/data")[:]).astype(np.int64)
    start, stop, kind = [], [], []
    open_since: dict[int, float] = {}
    for at, mark in zip(time, marks, strict=True):
        if mark > 0 and int(mark) not in open_since:
            open_since[int(mark)] = at
        elif mark < 0 and -int(mark) in open_since:
            start.append(open_since.pop(-int(mark)))
            stop.append(at)
            kind.append(-int(mark))
        else:
            raise source.fault(
                f"{where}/data",
                f"mark {mark} at {at:g} s",
                "a start (above 0) and its end (below 0) in turn",
            )
    if open_since:
        log.warning("%s: %s: %d intervals never end; left out", source.path, where, len(open_since))
    return xr.Dataset(
        {
            "start_time": ("interval", np.asarray(start, float), {"units": "s"}),
            "stop_time": ("interval", np.asarray(stop, float), {"units": "s"}),
            "kind": ("interval", np.asarray(kind, np.int64), {"units": "1"}),
        }
    )


def signal(series: TimeSeries, source: Source, where: str, name: str) -> xr.Dataset:
    """Read a stimulus that is a signal (sound, laser power): `value (time, ...)`."""
    array = lazy(values(series, source, where))
    dims = ("time", *(f"dimension_{i}" for i in range(1, array.ndim)))
    attrs = {"units": units_of(series.unit)}
    return _dataset(clock(series, source, where), {"value": (dims, da.asarray(array), attrs)})
