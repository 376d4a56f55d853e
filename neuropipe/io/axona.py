"""Axona (DacqUSB) sets to NWB: sorted units, position, stimulation pulses and field potential."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from hdmf.common import DynamicTableRegion, VectorData, VectorIndex
from pynwb import NWBFile
from pynwb.behavior import CompassDirection, Position, SpatialSeries
from pynwb.ecephys import LFP, ElectricalSeries
from pynwb.epoch import TimeIntervals
from pynwb.file import Subject
from pynwb.misc import Units

from neuropipe.errors import ReaderError
from neuropipe.io.nwb_write import save

log = logging.getLogger(__name__)

# Raised when the same files come to give other numbers, so that cached conversions are redone.
REVISION = 2
WIRES = 4
UNTRACKED = 1023
UNSORTED = 0
COORDINATES = 8
FULL_SCALE = {1: 128, 2: 32768}
SAMPLES: dict[int, np.dtype] = {1: np.dtype("i1"), 2: np.dtype("<i2")}


@dataclass(frozen=True)
class Part:
    """One binary file of the set: its header, and its values as bytes."""

    path: Path
    header: Mapping[str, str]
    body: bytes

    def number(self, key: str) -> float:
        """Return a header value without its unit."""
        match = re.match(r"-?[\d.]+", self.header.get(key, ""))
        if not match:
            raise ReaderError(
                f"{self.path}: header {key}: found {self.header.get(key)!r}, "
                "expected a number; get the file again"
            )
        return float(match[0])

    def records(self, dtype: np.dtype, count_key: str) -> np.ndarray:
        """Return the values, as many as the header promises."""
        count = int(self.number(count_key))
        found = len(self.body) // dtype.itemsize
        if found < count:
            raise ReaderError(
                f"{self.path}: found {found} records of {dtype.itemsize} bytes, "
                f"expected {count} ({count_key}); the file is cut short, get it again"
            )
        return np.frombuffer(self.body, dtype, count)


@dataclass(frozen=True)
class Cluster:
    """A sorted unit: tetrode, cluster, spike times (s), mean waveform (V), their clocks (Hz)."""

    tetrode: int
    number: int
    times: np.ndarray
    waveform: np.ndarray
    rate: float
    timebase: float


def convert(
    folder: str | Path,
    out_path: str | Path,
    *,
    session: str = "",
    subject: str = "",
    species: str = "Mus musculus",
    egf: bool = False,
    pixels_per_metre: float | None = None,
) -> Path:
    """Write an Axona set as one NWB file; the same files give the same bytes.

    Tetrodes that have a `.cut` file give units; cluster 0 (unsorted) is left out. Position is in
    metres, NaN where untracked, on the camera's axes (y points down). Samples after the clock of
    the `.pos` file stops are padding and left out, in the field potential too.

    Parameters
    ----------
    folder : holds `NAME.set`, `NAME.pos`, `NAME.1` ..., `NAME_1.cut` ..., and where recorded
        `NAME.stm`, `NAME.eeg`, `NAME.egf`
    out_path : the `.nwb` file
    session, subject, species : for the NWB file
    egf : take the fast field potential too
    pixels_per_metre : of the camera; default that of the `.pos` header

    Returns
    -------
    Path
        `out_path`.

    Raises
    ------
    ReaderError
        A file is absent or cut short, or two of them do not belong together.
    """
    folder, out_path = Path(folder), Path(out_path)
    settings = sorted(folder.glob("*.set"))
    if len(settings) != 1:
        raise ReaderError(f"{folder}: found {len(settings)} files ending in .set, expected one")
    base = settings[0].with_suffix("")
    setup = _part(settings[0], binary=False)
    file = NWBFile(
        session_description=setup.header.get("comments", "") or base.name,
        identifier=base.name,
        session_start_time=_start(setup),
        file_create_date=[_start(setup)],
        session_id=session or base.name,
        subject=Subject(subject_id=subject or "unknown", species=species, sex="U"),
    )
    duration_s = _add_position(file, _part(base.with_suffix(".pos")), pixels_per_metre)
    cuts = sorted(base.parent.glob(f"{base.name}_*.cut"))
    tetrodes = [int(cut.stem.rpartition("_")[2]) for cut in cuts]
    _add_electrodes(file, setup, tetrodes)
    clusters = [
        one
        for cut, tetrode in zip(cuts, tetrodes, strict=True)
        for one in _clusters(base, cut, tetrode, setup)
    ]
    if clusters:
        _add_units(file, clusters)
    if base.with_suffix(".stm").exists():
        _add_pulses(file, _part(base.with_suffix(".stm")), setup)
    for suffix in (".eeg", ".egf") if egf else (".eeg",):
        if base.with_suffix(suffix).exists():
            _add_lfp(file, _part(base.with_suffix(suffix)), setup, duration_s)
    save(file, out_path)
    return out_path


def _part(path: Path, binary: bool = True) -> Part:
    if not path.is_file():
        raise ReaderError(f"{path}: found no file, expected it beside the .set file")
    content = path.read_bytes()
    head, mark, body = content.partition(b"data_start") if binary else (content, b"", b"")
    if binary:
        body, end, _ = body.rpartition(b"\r\ndata_end")
        if not mark or not end:
            raise ReaderError(
                f"{path}: found no {'data_end' if mark else 'data_start'}, expected "
                "both marks around the data; the file is cut short, get it again"
            )
    lines = (line.partition(" ") for line in head.decode("latin-1").splitlines())
    return Part(path, {key: value.strip() for key, _, value in lines if key}, body)


def _start(setup: Part) -> datetime:
    """Return when the trial began; the set has no time zone, so the clock is taken as UTC."""
    day = setup.header.get("trial_date", "").partition(",")[2].strip()
    text = f"{day} {setup.header.get('trial_time', '')}"
    try:
        return datetime.strptime(text, "%d %b %Y %H:%M:%S").replace(tzinfo=UTC)
    except ValueError as error:
        raise ReaderError(
            f"{setup.path}: trial_date and trial_time: found {text!r}, expected "
            "for example 'Monday, 8 Sep 2014' and '17:25:52'"
        ) from error


def _add_position(file: NWBFile, part: Part, pixels_per_metre: float | None) -> float:
    """Add position, and head direction where two spots were tracked; return its length in s."""
    coordinates = np.dtype([("t", ">u4"), ("v", ">u2", (COORDINATES,))])
    records = part.records(coordinates, "num_pos_samples")
    steps = np.diff(records["t"].astype(np.int64))
    n = int(np.argmax(steps != 1)) + 1 if (steps != 1).any() else len(records)
    if n < len(records):
        log.warning(
            "%s: the clock stops after %d of %d samples; the rest is padding, left out",
            part.path,
            n,
            len(records),
        )
    rate = part.number("timebase")
    scale = pixels_per_metre or part.number("pixels_per_metre")
    spots = records["v"][:n, :4].astype(float).reshape(n, 2, 2)
    spots[(spots == UNTRACKED).any(axis=2)] = np.nan
    module = file.create_processing_module(name="behavior", description="where the animal was")
    frame = "camera image: x to the right, y down, origin in its corner"
    module.add(
        Position(
            spatial_series=SpatialSeries(
                name="position",
                data=spots[:, 0] / scale,
                unit="meters",
                rate=rate,
                starting_time=0.0,
                reference_frame=frame,
                description=f"tracked light, {scale:g} pixels per metre; NaN where it was not seen",
            )
        )
    )
    if np.isfinite(spots[:, 1]).any():
        x, y = (spots[:, 0] - spots[:, 1]).T
        module.add(
            CompassDirection(
                spatial_series=SpatialSeries(
                    name="head_direction",
                    data=np.arctan2(y, x),
                    unit="radians",
                    rate=rate,
                    starting_time=0.0,
                    reference_frame=frame,
                    description="direction from the second light to the first",
                )
            )
        )
    return n / rate


def _add_electrodes(file: NWBFile, setup: Part, tetrodes: list[int]) -> None:
    device = file.create_device(name="DacqUSB", description="Axona recorder")
    lfp = _lfp_channel(setup)
    recorded = {*tetrodes} if lfp is None else {*tetrodes, lfp // WIRES + 1}
    for tetrode in sorted(recorded):
        group = file.create_electrode_group(
            name=f"tetrode{tetrode}", description="tetrode", location="unknown", device=device
        )
        for channel in range(WIRES * (tetrode - 1), WIRES * tetrode):
            file.add_electrode(id=channel, group=group, location="unknown")


def _clusters(base: Path, cut: Path, tetrode: int, setup: Part) -> list[Cluster]:
    part = _part(base.with_suffix(f".{tetrode}"))
    width = int(part.number("samples_per_spike"))
    wire = np.dtype([("t", ">u4"), ("v", "i1", (width,))])
    spikes = part.records(np.dtype([("wires", wire, (WIRES,))]), "num_spikes")["wires"]
    ticks = spikes["t"].astype(np.int64)
    if (ticks != ticks[:, :1]).any():
        raise ReaderError(
            f"{part.path}: found wires of one spike at different times, expected "
            "one time repeated for each wire; get the file again"
        )
    text = cut.read_text(encoding="latin-1").partition("Exact_cut_for:")[2]
    head, _, numbers = text.partition("spikes:")
    labels = np.array(numbers.split()[1:], dtype=np.int64)
    if len(labels) != len(ticks) or base.name not in head:
        raise ReaderError(
            f"{cut}: found {len(labels)} labels for {head.strip()!r}, expected "
            f"{len(ticks)} for {base.name!r}; the cut belongs to another recording"
        )
    timebase, rate = part.number("timebase"), part.number("sample_rate")
    times = ticks[:, 0] / timebase
    gains = np.array([setup.number(f"gain_ch_{WIRES * (tetrode - 1) + w}") for w in range(WIRES)])
    volts = setup.number("ADC_fullscale_mv") / 1000 / (FULL_SCALE[1] * gains)
    found = []
    for number in np.unique(labels[labels != UNSORTED]):
        own = np.flatnonzero(labels == number)
        own = own[np.argsort(times[own], kind="stable")]
        mean = spikes["v"][own].mean(axis=0) * volts[:, None]
        found.append(Cluster(tetrode, int(number), times[own], mean.T, rate, timebase))
    return found


def _add_units(file: NWBFile, clusters: list[Cluster]) -> None:
    ids = list(file.electrodes.id[:])
    wires = [ids.index(WIRES * (one.tetrode - 1) + w) for one in clusters for w in range(WIRES)]
    times = VectorData(
        name="spike_times",
        description="spike times, s",
        data=np.concatenate([one.times for one in clusters]),
    )
    electrodes = DynamicTableRegion(
        name="electrodes", description="wires of the tetrode", data=wires, table=file.electrodes
    )
    ends = np.cumsum([len(one.times) for one in clusters])
    wire_ends = WIRES * np.arange(1, len(clusters) + 1)
    own = (
        ("tetrode", "number of the tetrode", [one.tetrode for one in clusters]),
        ("cluster", "number in the .cut file", [one.number for one in clusters]),
        ("waveform_mean", "mean waveform, V", np.stack([one.waveform for one in clusters])),
    )
    file.units = Units(
        name="units",
        description="clusters cut by hand",
        id=list(range(len(clusters))),
        waveform_rate=clusters[0].rate,
        waveform_unit="volts",
        resolution=1 / clusters[0].timebase,
        columns=[
            times,
            VectorIndex(name="spike_times_index", target=times, data=ends),
            electrodes,
            VectorIndex(name="electrodes_index", target=electrodes, data=wire_ends),
            *(VectorData(name=name, description=text, data=data) for name, text, data in own),
        ],
    )


def _add_pulses(file: NWBFile, part: Part, setup: Part) -> None:
    start = part.records(np.dtype(">u4"), "num_stm_samples") / part.number("timebase")
    width_s = setup.number("stim_pwidth") / 1e6
    bounds = (("start_time", start, "onset"), ("stop_time", start + width_s, "onset plus width"))
    file.add_time_intervals(
        TimeIntervals(
            name="laser_pulses",
            description=f"pulses of {width_s * 1000:g} ms; the file holds their onsets only",
            id=list(range(len(start))),
            columns=[VectorData(name=n, description=d, data=v) for n, v, d in bounds],
        )
    )


def _lfp_channel(setup: Part) -> int | None:
    """Return the channel of the saved field potential, counted from 0."""
    saved = setup.header.get("saveEEG_ch_1") == "1"
    return int(setup.number("EEG_ch_1")) - 1 if saved else None


def _add_lfp(file: NWBFile, part: Part, setup: Part, duration_s: float) -> None:
    channel, width = _lfp_channel(setup), int(part.number("bytes_per_sample"))
    if channel is None:
        raise ReaderError(
            f"{setup.path}: saveEEG_ch_1: found no saved channel, expected one for {part.path.name}"
        )
    if width not in SAMPLES:
        raise ReaderError(f"{part.path}: bytes_per_sample: found {width}, expected 1 or 2")
    count_key = "num_EEG_samples" if part.path.suffix == ".eeg" else "num_EGF_samples"
    values = part.records(SAMPLES[width], count_key)
    rate = part.number("sample_rate")
    gain = setup.number(f"gain_ch_{channel}")
    region = file.create_electrode_table_region(
        region=[list(file.electrodes.id[:]).index(channel)],
        description="the wire of the field potential",
    )
    series = ElectricalSeries(
        name="lfp" if part.path.suffix == ".eeg" else "lfp_fast",
        data=values[: round(duration_s * rate), None],
        electrodes=region,
        rate=rate,
        starting_time=0.0,
        conversion=setup.number("ADC_fullscale_mv") / 1000 / (FULL_SCALE[width] * gain),
    )
    if "ecephys" not in file.processing:
        file.create_processing_module(name="ecephys", description="field potential")
        file.processing["ecephys"].add(LFP())
    file.processing["ecephys"]["LFP"].add_electrical_series(series)
