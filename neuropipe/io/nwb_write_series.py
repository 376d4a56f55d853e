"""Long series out as NWB: voltages, fluorescence, events and derived signals, block by block."""

from __future__ import annotations

import dask.array as da
import numpy as np
import xarray as xr
from hdmf.common import DynamicTable, VectorData
from hdmf.data_utils import GenericDataChunkIterator
from pynwb import NWBFile, TimeSeries
from pynwb.ecephys import ElectricalSeries
from pynwb.event import EventsTable
from pynwb.image import ImageSeries
from pynwb.ophys import DfOverF, Fluorescence, ImageSegmentation, OpticalChannel

from neuropipe.errors import SchemaError
from neuropipe.io.nwb_series import ROI_NAME

BLOCK_BYTES = 32 * 2**20
PLACES = ("x", "y", "z")
TAKEN = ("description", "name", "colnames")  # attributes of an NWB table


class Blocks(GenericDataChunkIterator):
    """A lazy array that hdmf writes a block of rows at a time."""

    def __init__(self, array: da.Array) -> None:
        self.array = array
        row_bytes = max(1, array.dtype.itemsize * int(np.prod(array.shape[1:])))
        rows = max(1, min(array.shape[0], BLOCK_BYTES // row_bytes))
        shape = (rows, *array.shape[1:])
        chunk = (max(1, min(rows, 2**20 // row_bytes)), *array.shape[1:])
        super().__init__(buffer_shape=(rows // chunk[0] * chunk[0], *shape[1:]), chunk_shape=chunk)

    def _get_data(self, selection: tuple[slice, ...]) -> np.ndarray:
        return np.asarray(self.array[selection])

    def _get_maxshape(self) -> tuple[int, ...]:
        return self.array.shape

    def _get_dtype(self) -> np.dtype:
        return self.array.dtype


def blocks(variable: xr.DataArray) -> Blocks | np.ndarray:
    """Return what hdmf should write of a variable: an iterator where it is lazy and not empty."""
    data = variable.data
    return Blocks(data) if isinstance(data, da.Array) and data.size else np.asarray(data)


def clock(time: xr.DataArray) -> dict[str, float | np.ndarray | Blocks]:
    """Return a rate where it gives back the very same times, else the timestamps."""
    size = time.size
    if size > 1:
        first, last = (float(time.isel(time=i).values) for i in (0, -1))
        if last > first:
            rate = round((size - 1) / (last - first), 6)
            if _is_ramp(time, first, rate):
                return {"rate": rate, "starting_time": first}
    return {"timestamps": blocks(time)}


def _is_ramp(time: xr.DataArray, first: float, rate: float) -> bool:
    rows = BLOCK_BYTES // 8
    return all(
        np.array_equal(
            first + np.arange(start, min(start + rows, time.size)) / rate,
            time.isel(time=slice(start, start + rows)).values,
        )
        for start in range(0, time.size, rows)
    )


def add_voltage(
    file: NWBFile, dataset: xr.Dataset, name: str, units_of_columns: dict[str, str]
) -> None:
    """Add a node of voltages (time, channel) as an ElectricalSeries with its own electrodes."""
    device = (
        file.devices["device"]
        if "device" in file.devices
        else file.create_device("device", description="not stated")
    )
    known = set(dataset.coords)
    for column, text in (
        ("channel_name", "name of the channel"),
        ("channel_type", "BIDS type of the channel"),
        ("status", "good or bad, by the source"),
    ):
        if file.electrodes is None or column not in file.electrodes.colnames:
            file.add_electrode_column(column, text)
    first = 0 if file.electrodes is None else len(file.electrodes)
    names = dataset["channel"].values
    for row, channel in enumerate(names):
        shaft = _text(dataset, "shaft", row) or "not stated"
        region = _text(dataset, "region", row) or "unknown"
        if shaft not in file.electrode_groups:
            file.create_electrode_group(shaft, shaft, region, device)
        file.add_electrode(
            id=first + row if isinstance(channel, str) or first else int(channel),
            location=region,
            group=file.electrode_groups[shaft],
            channel_name=_text(dataset, "channel_name", row) or str(channel),
            channel_type=_text(dataset, "channel_type", row) or "n/a",
            status=_text(dataset, "status", row) or "n/a",
            **{p: float(dataset[p].values[row]) for p in PLACES if p in known},
        )
    for place in PLACES:
        if place in known:
            where = f"/general/extracellular_ephys/electrodes/{place}"
            units_of_columns[where] = dataset[place].attrs["units"]
    region = file.create_electrode_table_region(
        list(range(first, first + len(names))), f"channels of {name}"
    )
    filtering = dataset.attrs.get("filtering")
    file.add_acquisition(
        ElectricalSeries(
            name=name,
            data=blocks(dataset["voltage"]),
            electrodes=region,
            **({"filtering": filtering} if filtering else {}),
            **clock(dataset["time"]),
        )
    )


def add_calcium(file: NWBFile, dataset: xr.Dataset, name: str) -> None:
    """Add a node of fluorescence as RoiResponseSeries; dF/F goes into a DfOverF."""
    if "ophys" not in file.processing:
        file.create_processing_module("ophys", "fluorescence of regions of interest")
        device = file.create_device("microscope", description="not stated")
        channel = OpticalChannel(name="channel", description="not stated", emission_lambda=np.nan)
        file.create_imaging_plane(
            name="plane", optical_channel=channel, description="not stated", device=device,
            excitation_lambda=np.nan, indicator="not stated", location="not stated",
        )  # fmt: skip
    module = file.processing["ophys"]
    if "segmentation" not in module.data_interfaces:
        module.add(ImageSegmentation(name="segmentation"))
    plane = module["segmentation"].create_plane_segmentation(
        name=f"{name}_rois", description=f"regions of interest of {name}",
        imaging_plane=file.imaging_planes["plane"],
    )  # fmt: skip
    labels = dataset["roi"].values
    text = labels.dtype.kind in "OUT"
    if text:
        plane.add_column(ROI_NAME, "name of the region of interest")
    for row, label in enumerate(labels):
        extra = {ROI_NAME: str(label)} if text else {}
        plane.add_roi(id=row if text else int(label), pixel_mask=[(0, 0, 0.0)], **extra)
    rois = plane.create_roi_table_region(f"rois of {name}", region=list(range(len(labels))))
    kinds: tuple[tuple[str, type], ...] = (("fluorescence", Fluorescence), ("dff", DfOverF))
    for kind, container in kinds:
        if kind not in dataset:
            continue
        label = name if kind == "fluorescence" or "fluorescence" not in dataset else f"{name}_dff"
        holder = container(name=f"{container.__name__}_{label}")
        module.add(holder)  # first, so that the series and its table stand in one file
        holder.create_roi_response_series(
            name=label, data=blocks(dataset[kind]), rois=rois,
            unit=dataset[kind].attrs["units"].replace("1", "n.a."), **clock(dataset["time"]),
        )  # fmt: skip


def add_events(
    file: NWBFile, dataset: xr.Dataset, name: str, units_of_columns: dict[str, str]
) -> None:
    """Add moments and what is said of them as an EventsTable."""
    table = EventsTable(name=name, description=dataset.attrs.get("description", name))
    columns = {
        str(c): dataset[c].values for c in dataset.data_vars if c not in ("event_time", "id")
    }
    names = {c: f"{c}_" if c in TAKEN else c for c in columns}
    for column, own in names.items():
        if own not in ("duration", "annotation"):
            table.add_column(own, dataset[column].attrs.get("description", column))
    for row, at in enumerate(dataset["event_time"].values):
        told = {
            names[c]: str(v[row]) if v.dtype.kind in "OUT" else v[row] for c, v in columns.items()
        }
        table.add_row(timestamp=float(at), **told)
    for column, own in names.items():
        if dataset[column].attrs["units"]:
            units_of_columns[f"/events/{name}/{own}"] = dataset[column].attrs["units"]
    file.add_events_table(table)


def add_movie(file: NWBFile, dataset: xr.Dataset, name: str) -> None:
    """Add frames that were shown, and when, as an ImageSeries.

    Raises
    ------
    SchemaError
        The node has no frames, or frames without times.
    """
    frames = [n for n in ("frame", "frame_color") if n in dataset.variables]
    if not frames or "frame_time" not in dataset.variables:
        raise SchemaError(
            f"stimulus/{name}: has {', '.join(map(str, dataset.variables)) or 'nothing'}, expected "
            "frames and frame_time; drop it, or give it both"
        )
    file.add_stimulus(
        ImageSeries(
            name=name,
            data=blocks(dataset[frames[0]]),
            unit="n.a.",
            description=dataset.attrs.get("description", "no description"),
            **clock(dataset["frame_time"].reset_coords(drop=True).rename(frame="time")),
        )
    )


def add_derived(file: NWBFile, dataset: xr.Dataset, node: str) -> None:
    """Add any node on one clock as TimeSeries, the labels of its columns as a table beside them.

    Raises
    ------
    SchemaError
        The node has no clock, so NWB has no place for it.
    """
    if "time" not in dataset.variables:
        raise SchemaError(
            f"{node}: has no clock, so it has no place in NWB; drop it, or export it as BIDS"
        )
    label = node.replace("/", "_")
    if "derived" not in file.processing:
        file.create_processing_module("derived", "what was computed from the recording")
    module = file.processing["derived"]
    for name, variable in dataset.data_vars.items():
        if variable.dims[:1] != ("time",):
            continue
        module.add(
            TimeSeries(
                name=f"{label}_{name}",
                data=blocks(variable),
                unit=variable.attrs["units"] or "n.a.",
                description=f"{node}/{name} {variable.dims}",
                **clock(dataset["time"]),
            )
        )
    for dim in dataset.dims:
        columns = {str(c): dataset[c] for c in dataset.coords if dataset[c].dims == (dim,)}
        if dim == "time" or not columns:
            continue
        module.add(
            DynamicTable(
                name=f"{label}_{dim}",
                description=f"labels along {dim} of {node}",
                columns=[
                    VectorData(
                        name=c, description=f"{c}, {v.attrs.get('units', '')}", data=_plain(v)
                    )
                    for c, v in columns.items()
                ],
            )
        )


def _text(dataset: xr.Dataset, name: str, row: int) -> str:
    return str(dataset[name].values[row]) if name in dataset.coords else ""


def _plain(variable: xr.DataArray) -> np.ndarray | list[str]:
    values = variable.values
    return [str(text) for text in values] if values.dtype.kind in "OUT" else values
