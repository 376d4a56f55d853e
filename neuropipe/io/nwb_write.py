"""Recordings out as NWB: the same content gives the same bytes."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
import xarray as xr
from hdmf.common import VectorData, VectorIndex
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.behavior import SpatialSeries
from pynwb.epoch import TimeIntervals
from pynwb.file import Subject
from pynwb.misc import Units

from neuropipe.errors import SchemaError
from neuropipe.io import nwb_write_series
from neuropipe.schema import Recording, validate

EPOCH = "1970-01-01T00:00:00+00:00"
AXES = ["x", "y", "z"]
# As the NWB schema spells them; the reader turns them back.
NWB_UNITS = {
    "m": "meters",
    "cm": "centimeters",
    "mm": "millimeters",
    "rad": "radians",
    "deg": "degrees",
    "s": "seconds",
    "V": "volts",
    "1": "n.a.",
}
SUBJECT = ("species", "sex", "age", "strain", "genotype")


def write_nwb(
    recording: Recording,
    path: str | Path,
    truth: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Write a recording as one NWB 2 file; the same content gives the same bytes.

    Parameters
    ----------
    recording : DataTree
        A flat `behavior` node becomes one series a variable; x, y, z of one node stay together.
        Voltages carry an electrode table, calcium a plane segmentation, frames become an image
        series; any other node on a clock becomes TimeSeries in module `derived`. Long arrays are
        written block by block.
    path : the `.nwb` file; replaced only by a whole one
    truth : planted values by name, kept as scratch data, which the reader leaves alone

    Raises
    ------
    SchemaError
        A node departs from the catalogue, or cannot be written as NWB.
    """
    path = Path(path)
    nodes = [group.lstrip("/") for group in recording.groups if recording[group].variables]
    validate(recording, *filter(None, nodes))
    attrs = recording.attrs
    start = datetime.fromisoformat(attrs.get("session_start_time", EPOCH))
    start = start if start.tzinfo else start.replace(tzinfo=UTC)
    file = NWBFile(
        session_description=attrs.get("dataset") or "recording",
        identifier="-".join(attrs.get(n, "") for n in ("dataset", "subject", "session")),
        session_start_time=start,
        file_create_date=[start],
        session_id=attrs.get("session", ""),
        subject=Subject(
            subject_id=attrs.get("subject") or "unknown",
            **{"sex": "U", **{name: attrs[name] for name in SUBJECT if name in attrs}},
        ),
    )
    units_of_columns: dict[str, str] = {}
    if "units" in nodes:
        _add_units(file, recording, units_of_columns)
    for node in nodes:
        family, _, name = node.partition("/")
        dataset = recording[node].to_dataset()
        if node == "trials" or family == "intervals":
            _add_intervals(file, dataset, name or node, units_of_columns)
        elif family == "behavior":
            _add_behavior(file, dataset, node)
        elif family in ("ephys", "ieeg"):
            nwb_write_series.add_voltage(file, dataset, name or node, units_of_columns)
        elif family == "calcium":
            nwb_write_series.add_calcium(file, dataset, name)
        elif family == "events":
            nwb_write_series.add_events(file, dataset, name, units_of_columns)
        elif family == "stimulus":
            nwb_write_series.add_movie(file, dataset, name)
        elif family == "runs":
            _add_intervals(file, dataset.rename(run="interval"), "runs", units_of_columns)
        elif node and family not in ("spikes", "units"):
            nwb_write_series.add_derived(file, dataset, node)
    for name, values in (truth or {}).items():
        file.add_scratch(np.asarray(values), name=name, description="planted truth")
    save(file, path, units_of_columns)


def save(file: NWBFile, path: Path, units_of_columns: Mapping[str, str] | None = None) -> None:
    """Write an NWB object: the same content gives the same bytes, whole or not at all.

    Parameters
    ----------
    file : what pynwb built
    path : the `.nwb` file
    units_of_columns : units of table columns by their path in the file, kept as attribute `unit`
    """
    for place, item in enumerate(file.all_children()):
        own = uuid.uuid5(uuid.NAMESPACE_URL, f"{file.identifier}/{place}/{item.name}")
        # hdmf draws object ids at random and has no public way to set them.
        item._AbstractContainer__object_id = str(own)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.stem}.partial.nwb")
    try:
        with NWBHDF5IO(str(partial), mode="w") as io:
            io.write(file)
        with h5py.File(partial, "r+") as stored:
            for where, units in (units_of_columns or {}).items():
                stored[where].attrs["unit"] = units
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _plain(variable: xr.DataArray) -> np.ndarray | list[str]:
    values = variable.values
    return [str(text) for text in values] if values.dtype.kind in "OUT" else values


def _add_units(file: NWBFile, recording: Recording, units_of_columns: dict[str, str]) -> None:
    dataset = recording["units"].to_dataset()
    n_units = dataset.sizes["unit"]
    columns: list[VectorData] = []
    if "spikes" in recording:
        spikes = recording["spikes"].to_dataset()
        times, owner = spikes["spike_time"].values, spikes["unit_index"].values
        if np.any(np.diff(owner) < 0):
            raise SchemaError(
                "spikes/unit_index: found a step back, expected spikes ordered by unit"
            )
        ends = np.searchsorted(owner, np.arange(n_units), side="right")
        flat = VectorData(name="spike_times", description="spike times, s", data=times)
        columns = [flat, VectorIndex(name="spike_times_index", target=flat, data=ends)]
    table = Units(
        name="units",
        description="sorted units",
        id=dataset["unit"].values.tolist(),
        columns=columns or None,
    )
    _add_columns(table, dataset, "/units", units_of_columns)
    file.units = table


def _add_intervals(
    file: NWBFile, dataset: xr.Dataset, name: str, units_of_columns: dict[str, str]
) -> None:
    ids = dataset["id"].values if "id" in dataset else np.arange(dataset["start_time"].size)
    bounds = ("start_time", "stop_time")
    table = TimeIntervals(
        name=name,
        description=dataset.attrs.get("description", name),
        id=ids.tolist(),
        columns=[VectorData(name=b, description=b, data=dataset[b].values) for b in bounds],
    )
    _add_columns(
        table,
        dataset.drop_vars([*bounds, "id"], errors="ignore"),
        f"/intervals/{name}",
        units_of_columns,
    )
    if name == "trials":
        file.trials = table
    else:
        file.add_time_intervals(table)


def _add_columns(table, dataset: xr.Dataset, where: str, units_of_columns: dict) -> None:
    for name, variable in dataset.data_vars.items():
        table.add_column(name, variable.attrs.get("description", name), data=_plain(variable))
        if variable.attrs["units"]:
            units_of_columns[f"{where}/{name}"] = variable.attrs["units"]


def _add_behavior(file: NWBFile, dataset: xr.Dataset, node: str) -> None:
    if "behavior" not in file.processing:
        file.create_processing_module(name="behavior", description="behaviour")
    module = file.processing["behavior"]
    own = node.partition("/")[2]
    names = [str(name) for name in dataset.data_vars]
    units = {name: dataset[name].attrs["units"] for name in names}
    common = {
        **nwb_write_series.clock(dataset["time"]),
        "description": dataset.attrs.get("description", "no description"),
    }
    if own and names == AXES[: len(names)] and len(set(units.values())) == 1:
        frame = dataset.attrs.get("reference_frame", "unknown")
        data = np.stack([dataset[name].values for name in names], axis=1)
        unit = NWB_UNITS.get(units[names[0]], units[names[0]])
        module.add(SpatialSeries(name=own, data=data, unit=unit, reference_frame=frame, **common))
        return
    for name in names:
        label = name if own in ("", name) else f"{own}_{name}"
        unit = NWB_UNITS.get(units[name], units[name])
        module.add(TimeSeries(name=label, data=dataset[name].values, unit=unit, **common))
