"""Intracranial recordings in: EDF, BDF, BrainVision and NWB with their BIDS companions."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from neuropipe import __version__
from neuropipe.errors import ReaderError
from neuropipe.io import bids, ieeg_channels, ieeg_electrodes
from neuropipe.io.ieeg_brainvision import open_brainvision
from neuropipe.io.ieeg_edf import open_edf
from neuropipe.io.ieeg_raw import Clock, RawFile, Stretch, lazy
from neuropipe.io.physio import physio_of
from neuropipe.io.runs import Run, joined, starts
from neuropipe.io.sidecars import events
from neuropipe.io.store import lazy_indexed
from neuropipe.schema import SCHEMA_VERSION, Recording

log = logging.getLogger(__name__)

OPENERS: dict[str, Callable[[Path], RawFile]] = {
    ".edf": open_edf,
    ".bdf": open_edf,
    ".vhdr": open_brainvision,
}
DURATION_SLACK = 0.01  # of the duration that the sidecar tells


def read(
    path: str | Path | Sequence[str | Path],
    *,
    dataset: str = "",
    session: str = "",
    subject: str = "",
    sha256: str = "",
    space: str = "",
    types: Sequence[str] = (*ieeg_channels.NEURAL, "n/a"),
    unit: str = "",
    series: str = "",
    coordinate_unit: str = "um",
) -> Recording:
    """Read one session of intracranial recordings as a lazy recording.

    Parameters
    ----------
    path : one recording (EDF, EDF+, BDF, BrainVision header, NWB), whose companions are found in
        its BIDS tree; or the files of a session, or their folder
    dataset, session, subject : names for the root; empty takes those of the file names
    sha256 : of the recordings, where it is known; empty computes it
    space : BIDS space of the contacts; empty takes the first, with a warning where there are more
    types : BIDS types of the channels that become `ieeg`; n/a are those that no table describes
    unit : of neural channels for which neither header nor channels.tsv has one: V, mV, uV, nV
    series : of an NWB file with several ElectricalSeries, the one that becomes `ieeg`
    coordinate_unit : of x, y, z in an NWB file's electrodes: um as NWB defines it, or mm, m

    Returns
    -------
    DataTree
        Nodes ieeg (V, float32), runs, behavior/<channel> for each other channel, and for each
        signal of physio and stim files, on its own clock, intervals/events,
        events/annotations; of NWB all that the file has.

    Raises
    ------
    ReaderError
        Names the file, what was found, what was expected and what to do.

    Notes
    -----
    Nothing is resampled: neural channels of different rates are refused, others keep their own
    clock. Each piece of a discontinuous EDF+ file is a run, so that nothing filters across its
    gaps. Blocks are read from the file when they are computed; NaN stays NaN.
    """
    found = bids.session_files(path, "ieeg")
    formats = {bids.Name(recording).extension for recording in found.recordings}
    if ".nwb" in formats:
        from neuropipe.io.ieeg_nwb import nodes_of

        nodes, attrs = nodes_of(found, series, coordinate_unit)
        files = found.recordings
    else:
        opened = [OPENERS[bids.Name(file).extension](file) for file in found.recordings]
        nodes, attrs = _session(found, opened, space, tuple(types), unit), {}
        files = tuple(file for raw in opened for file in raw.paths)
    recording = xr.DataTree.from_dict(
        {f"/{name}": lazy_indexed(node) for name, node in nodes.items()}
    )
    parameters = {
        "space": space,
        "types": list(types),
        "unit": unit,
        "series": series,
        "coordinate_unit": coordinate_unit,
    }
    history = [{"name": "read_ieeg", "parameters": parameters, "version": __version__}]
    recording.attrs = {
        **attrs,
        "dataset": dataset,
        "subject": subject or found.subject or attrs.get("subject", ""),
        "session": session or found.session_id,
        "source": ", ".join(recording.name for recording in found.recordings),
        "sha256": sha256 or _sha256(files),
        "history": json.dumps(history),
        "schema_version": SCHEMA_VERSION,
    }
    return recording


def _session(
    found: bids.Session, opened: Sequence[RawFile], space: str, types: tuple[str, ...], unit: str
) -> dict[str, xr.Dataset]:
    """Return the nodes of a session, its runs on one clock."""
    offsets = starts(found.companions, found.recordings)
    known = all(offset is not None for offset in offsets)
    gaps = any(len(raw.stretches) > 1 for raw in opened)
    runs, at = [], 0.0
    for file, raw, offset in zip(found.recordings, opened, offsets, strict=True):
        pieces = _pieces(file, raw, found.companions, space, types, unit)
        # a gap inside of a file is kept whether or not scans.tsv says when the file began
        begin = offset if known else at if gaps else None
        for label, stretch, nodes in pieces:
            start = None if begin is None else begin + stretch.start_s
            runs.append(Run(label, stretch.duration_s, nodes, start))
        at += raw.stretches[-1].start_s + raw.stretches[-1].duration_s
    nodes = joined(runs, found.session_id)
    if gaps and not (known and len(opened) > 1):
        nodes["runs"].attrs["clock"] = "record onsets of EDF+, files laid end to end"
    return nodes


def _pieces(
    file: Path,
    raw: RawFile,
    companions: Sequence[Path],
    space: str,
    types: tuple[str, ...],
    unit: str,
) -> list[tuple[str, Stretch, dict[str, xr.Dataset]]]:
    """Return label, stretch and nodes of each piece of one file."""
    label = bids.Name(file).entities.get("run", "") or bids.Name(file).path.stem
    sidecar = bids.sidecar(companions, file)
    table = bids.best(companions, file, "channels", ".tsv")
    frame = ieeg_channels.described(file, raw.channels, table)
    neural = frame["type"].isin(types).to_numpy()
    rate = _rate(file, raw, frame["name"].to_numpy(), neural, frame["type"].to_numpy())
    factors = ieeg_channels.factors(file, raw.channels, frame, neural, unit)
    _check_sidecar(file, raw, sidecar, rate)
    own = frame[neural].reset_index(drop=True)
    coords = ieeg_channels.coords(own, file)
    places, system = ieeg_electrodes.contacts(companions, file, own["name"].tolist(), space)
    task = bids.Name(file).entities.get("task")
    attrs = {"sampling_rate_hz": rate, **_of_sidecar(sidecar), **system}
    attrs |= {"task": task} if task else {}
    others = np.flatnonzero(~neural)
    names = ieeg_channels.safe_names([frame["name"][i] for i in others])
    pieces = []
    for number, stretch in enumerate(raw.stretches):
        columns = np.flatnonzero(neural).tolist()
        voltage = lazy(raw.samples(number, columns, factors[columns].tolist(), np.float32))
        time = lazy(Clock(rate, (voltage.shape[0],)))
        node = xr.Dataset(
            {"voltage": (("time", "channel"), voltage, {"units": "V"})},
            xr.Coordinates(
                {"time": ("time", time, {"units": "s"}), **coords, **places}, indexes={}
            ),
            attrs,
        )
        nodes = {"ieeg": node}
        for name, i in zip(names, others, strict=True):
            values = lazy(raw.samples(number, [int(i)], [1.0], np.float64))[:, 0]
            clock = lazy(Clock(raw.channels[i].rate_hz, values.shape))
            units = raw.channels[i].unit or frame["units"][i]
            nodes[f"behavior/{name}"] = ieeg_channels.behavior(name, values, clock, units)
        if number == 0:
            nodes |= _marks(file, raw, companions, label)
        nodes |= physio_of(
            companions, file, stretch.duration_s, start_s=stretch.start_s, taken=names
        )
        many = len(raw.stretches) > 1
        pieces.append((f"{label} part {number + 1}" if many else label, stretch, nodes))
    return pieces


def _rate(
    file: Path, raw: RawFile, names: np.ndarray, neural: np.ndarray, types: np.ndarray
) -> float:
    """Return the one rate of the neural channels.

    Raises
    ------
    ReaderError
        There are none, or they have several.
    """
    if not neural.any():
        raise ReaderError(
            f"{file}: found no neural channel among types {', '.join(sorted(set(types)))}, "
            "expected some; mend the types in channels.tsv, or pass types="
        )
    rates: dict[float, list[str]] = {}
    for i in np.flatnonzero(neural):
        rates.setdefault(raw.channels[i].rate_hz, []).append(f"{names[i]} ({types[i]})")
    if len(rates) > 1:
        groups = "; ".join(
            f"{rate:g} Hz: {', '.join(group[:8])}{' ...' if len(group) > 8 else ''}"
            for rate, group in sorted(rates.items())
        )
        raise ReaderError(
            f"{file}: found neural channels of {len(rates)} rates, {groups}; expected one; give "
            "one group another type in channels.tsv, or pass types= with the types of one rate"
        )
    return next(iter(rates))


def _check_sidecar(file: Path, raw: RawFile, sidecar: dict, rate: float) -> None:
    told = sidecar.get("SamplingFrequency")
    if isinstance(told, int | float):
        ieeg_channels.refuse_rate(file, "SamplingFrequency of the sidecar", float(told), rate)
    told, held = sidecar.get("RecordingDuration"), sum(s.duration_s for s in raw.stretches)
    if isinstance(told, int | float) and abs(told - held) > DURATION_SLACK * held + 1 / rate:
        log.warning(
            "%s: the sidecar tells of %g s, the file holds %g s; check it", file, told, held
        )


def _of_sidecar(sidecar: dict) -> dict[str, object]:
    """Return what the sidecar says of reference and mains, where it says it."""
    attrs: dict[str, object] = {}
    reference, line = sidecar.get("iEEGReference"), sidecar.get("PowerLineFrequency")
    if isinstance(reference, str) and reference not in ieeg_channels.NO_UNIT:
        attrs["reference"] = reference
    if isinstance(line, int | float) and line > 0:
        attrs["power_line_frequency_hz"] = float(line)
    return attrs


def _marks(
    file: Path, raw: RawFile, companions: Sequence[Path], label: str
) -> dict[str, xr.Dataset]:
    nodes = {}
    table = bids.best(companions, file, "events", ".tsv")
    if table is not None:
        nodes["intervals/events"] = events(table, label)
    if raw.annotations is not None:
        many = raw.annotations.sizes["event"]
        text = np.full(many, label, dtype=object)
        nodes["events/annotations"] = raw.annotations.assign(
            run_label=("event", text, {"units": ""})
        )
    return nodes


def _sha256(files: Sequence[Path]) -> str:
    """Return one hash over the recordings, headers and binaries, in their order."""
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            for block in iter(lambda: stream.read(1 << 22), b""):
                digest.update(block)
    return digest.hexdigest()
