"""Intracranial recordings in NWB: the file as the NWB reader has it, one series as `ieeg`."""

from __future__ import annotations

import logging

import numpy as np
import xarray as xr

from neuropipe.errors import ReaderError
from neuropipe.io import bids, ieeg_channels
from neuropipe.io.nwb import read as read_nwb
from neuropipe.io.sidecars import events

log = logging.getLogger(__name__)

MILLIMETRES = {"um": 1e-3, "mm": 1.0, "m": 1e3}
JITTER = 0.01  # of a sample: what float64 timestamps may be off
BLOCK = 1 << 22
HEAD_MM = 1.0  # contacts closer together than this are no implantation of a person


def nodes_of(
    found: bids.Session, series: str, coordinate_unit: str
) -> tuple[dict[str, xr.Dataset], dict]:
    """Return nodes and root attributes of an NWB session.

    Raises
    ------
    ReaderError
        Several files, no series or several without a choice, or a series without one rate.
    """
    file = found.recordings[0]
    if len(found.recordings) > 1:
        raise ReaderError(
            f"{file}: found {len(found.recordings)} NWB files, expected one a session; give each "
            "a session_id of its own in the manifest"
        )
    if coordinate_unit not in MILLIMETRES:
        raise ReaderError(
            f"{file}: coordinate_unit: found {coordinate_unit!r}, expected one of "
            f"{', '.join(MILLIMETRES)}"
        )
    tree = read_nwb(file, sha256="not computed")
    nodes = {
        node.path.lstrip("/"): node.to_dataset(inherit=False)
        for node in tree.subtree
        if node.variables
    }
    there = [name.removeprefix("ephys/") for name in nodes if name.startswith("ephys/")]
    if (series and series not in there) or (len(there) != 1 and not series):
        raise ReaderError(
            f"{file}: found ElectricalSeries {', '.join(there) or 'none'}, expected "
            f"{series or 'one'}; choose with series="
        )
    chosen = series or there[0]
    node = nodes.pop(f"ephys/{chosen}")
    table = bids.best(found.companions, file, "channels", ".tsv")
    rate = _rate(node["time"], f"{file}: {chosen}")
    channels = [ieeg_channels.Channel(name, "V", rate) for name in _labels(node)]
    frame = ieeg_channels.described(file, channels, table)
    if table is None:
        frame["type"] = "n/a"
    coords = ieeg_channels.coords(frame, file)
    if "shaft" in node.coords and "group" not in frame:
        coords["shaft"] = ("channel", node["shaft"].values, {"units": ""})
    for axis in "xyz":
        if axis in node.coords:
            places = node[axis].values.astype(float) * MILLIMETRES[coordinate_unit]
            coords[axis] = ("channel", places, {"units": "mm"})
    if "region" in node.coords:
        coords["region"] = ("channel", node["region"].values, {"units": ""})
    if "x" in coords and np.nanmax(np.ptp([coords[a][1] for a in "xyz" if a in coords])) < HEAD_MM:
        log.warning(
            "%s: all contacts lie within %g mm if their coordinates are in %s; pass "
            "coordinate_unit= if the file has another unit", file, HEAD_MM, coordinate_unit,
        )  # fmt: skip
    voltage = node["voltage"].variable
    ieeg = xr.Dataset(
        {"voltage": voltage},
        xr.Coordinates({"time": node["time"].variable, **coords}, indexes={}),
        {**node.attrs, "sampling_rate_hz": rate},
    )
    described = bids.best(found.companions, file, "events", ".tsv")
    if described is not None:
        nodes["intervals/events"] = events(described, "")
    start, stop = (float(t) for t in node["time"].isel(time=[0, -1]).values)
    runs = xr.Dataset(
        {
            "run_label": ("run", np.array([file.stem], object), {"units": ""}),
            "start_time": ("run", np.array([start]), {"units": "s"}),
            "stop_time": ("run", np.array([stop + 1 / rate]), {"units": "s"}),
        },
        attrs={"clock": "one run"},
    )
    return {"ieeg": ieeg, **nodes, "runs": runs}, dict(tree.attrs)


def _labels(node: xr.Dataset) -> list[str]:
    """Return the electrodes' own names where the file has them, else their identifiers."""
    for name in ("label", "channel_name"):
        if name in node.coords and len(set(node[name].values)) == node.sizes["channel"]:
            return [str(text) for text in node[name].values]
    return [str(number) for number in node["channel"].values]


def _rate(time: xr.DataArray, where: str) -> float:
    """Return the rate of a clock that is read once.

    Raises
    ------
    ReaderError
        Samples are not equally far apart.
    """
    size = time.size
    if size < 2:
        raise ReaderError(f"{where}: found {size} samples, expected at least 2")
    ends = time.isel(time=[0, -1]).values
    step = (ends[1] - ends[0]) / (size - 1)
    for first in range(0, size, BLOCK):
        part = time.isel(time=slice(first, first + BLOCK)).values
        off = np.abs(part - ends[0] - np.arange(first, first + len(part)) * step)
        if not off.max() <= JITTER * step:
            raise ReaderError(
                f"{where}: sample {first + int(off.argmax())} is {off.max():g} s off a regular "
                f"clock of {1 / step if step else 0:g} Hz, expected one rate; cut the series at "
                "its gaps or resample it"
            )
    rate = 1 / step
    return round(rate) if abs(rate - round(rate)) < 1e-6 * rate else rate
