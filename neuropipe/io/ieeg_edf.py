"""EDF, EDF+ and BDF files: header, records and annotations, nothing resampled, no gap closed."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from neuropipe.errors import ReaderError
from neuropipe.io.ieeg_raw import Channel, RawFile, Stretch, mapped, marks, taken

log = logging.getLogger(__name__)

# Widths of the fields of the two headers, in bytes (Kemp & Olivan 2003, Clin. Neurophysiol. 114).
FIXED = {
    "version": 8, "patient": 80, "recording": 80, "date": 8, "time": 8, "header bytes": 8,
    "reserved": 44, "number of records": 8, "record duration": 8, "number of signals": 4,
}  # fmt: skip
SIGNAL = {
    "label": 16, "transducer": 80, "unit": 8, "physical min": 8, "physical max": 8,
    "digital min": 8, "digital max": 8, "prefiltering": 80, "samples": 8, "reserved": 32,
}  # fmt: skip
# A time-stamped annotation list: onset, duration where there is one, texts, as EDF+ writes it.
TAL = re.compile(rb"([+-]\d+(?:\.\d*)?)(?:\x15(\d+(?:\.\d*)?))?\x14([^\x00]*)\x14\x00")
ROWS = 1024  # scaled at a time: few enough for the processor's cache
RECORDS = 4096  # read at a time where every record is looked at
STRETCHES = 1000  # a file in more pieces is one whose clock drifts, not one with pauses
SHORTEST_S = 1e-6  # of a record; what is shorter is no duration
MARKS = ("EDF Annotations", "BDF Annotations")


@dataclass(frozen=True)
class Header:
    """The numbers of an EDF header, checked; `starts` are bytes inside a record."""

    path: Path
    sample_bytes: int
    reserved: str
    header_bytes: int
    n_records: int
    duration_s: float
    record_bytes: int
    signals: tuple[dict[str, str], ...]
    samples: tuple[int, ...]
    starts: tuple[int, ...]

    def records(self, first: int, last: int) -> np.ndarray:
        """Return the bytes of some records, (record, byte), not yet read."""
        whole = mapped(
            self.path, np.dtype(np.uint8), self.header_bytes, (self.n_records, self.record_bytes)
        )
        return whole[first:last]

    def bytes_of(self, records: np.ndarray, signal: int) -> np.ndarray:
        """Return one signal's part of records, contiguous."""
        start = self.starts[signal]
        part = records[:, start : start + self.samples[signal] * self.sample_bytes]
        return np.ascontiguousarray(part)

    def scale(self, signal: int) -> tuple[float, float]:
        """Return gain and offset from digital to physical values.

        Raises
        ------
        ReaderError
            A limit is no number, or two are equal.
        """
        own = self.signals[signal]
        limits = {}
        for field in ("physical min", "physical max", "digital min", "digital max"):
            limits[field] = _number(self.path, own[field], f"{own['label']}: {field}", float)
        low, high, first, last = limits.values()
        if not last > first or high == low:
            raise ReaderError(
                f"{self.path}: channel {own['label']!r}: found physical {low:g} to {high:g} and "
                f"digital {first:g} to {last:g}, expected two ranges; mend the header"
            )
        gain = (high - low) / (last - first)
        return gain, low - first * gain


@dataclass(frozen=True)
class Records:
    """Signals of equal rate, (time, signal), read from the records that a block touches."""

    header: Header
    columns: tuple[int, ...]
    factors: tuple[float, ...]
    first_record: int
    shape: tuple[int, int]
    dtype: np.dtype
    ndim = 2

    def __getitem__(self, index) -> np.ndarray:
        return taken(self, index, self.read)

    def read(self, first: int, last: int) -> np.ndarray:
        """Return rows, all columns, scaled."""
        out = np.empty((last - first, len(self.columns)), self.dtype)
        if last == first:
            return out
        samples = self.header.samples[self.columns[0]]
        scales = [self.header.scale(signal) for signal in self.columns]
        step = max(1, ROWS // samples)
        held = self.header.records(self.first_record, self.first_record + -(-last // samples))
        for at in range(first // samples, -(-last // samples), step):
            begin, stop = max(first, at * samples), min(last, (at + step) * samples)
            rows = slice(begin - at * samples, stop - at * samples)
            part = out[begin - first : stop - first]
            records = held[at : at + step]
            for column, (signal, factor) in enumerate(zip(self.columns, self.factors, strict=True)):
                gain, offset = scales[column]
                digital = _digital(self.header.bytes_of(records, signal), self.header.sample_bytes)
                part[:, column] = digital[rows] * (gain * factor) + offset * factor
        return out


def open_edf(path: Path) -> RawFile:
    """Open an EDF, EDF+ or BDF file.

    Parameters
    ----------
    path : ``.edf`` or ``.bdf``

    Returns
    -------
    RawFile
        Each channel at its own rate. A discontinuous file (EDF+D) has a stretch for each piece.

    Raises
    ------
    ReaderError
        The header contradicts itself or the size of the file.
    """
    header = read_header(path)
    signals = [i for i, own in enumerate(header.signals) if own["label"] not in MARKS]
    channels = tuple(
        Channel(
            header.signals[i]["label"],
            header.signals[i]["unit"],
            header.samples[i] / header.duration_s,
        )
        for i in signals
    )
    for i in signals:
        header.scale(i)
    stretches = _stretches(header)

    def samples(
        stretch: int, columns: Sequence[int], factors: Sequence[float], dtype: type
    ) -> Records:
        first, n_records = stretches[stretch][1]
        own = tuple(signals[c] for c in columns)
        shape = (n_records * header.samples[own[0]], len(own))
        return Records(header, own, tuple(factors), first, shape, np.dtype(dtype))

    return RawFile((path,), channels, tuple(s for s, _ in stretches), samples, _annotations(header))


def read_header(path: Path) -> Header:
    """Read and check the header of an EDF or BDF file against the size of the file.

    Raises
    ------
    ReaderError
        A field is no number or out of range, or the file is shorter than its header promises.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        fixed = _fields(stream.read(256), FIXED)
        version = fixed["version"].strip("\x00 ")
        if version not in ("0", "\xffBIOSEMI"):
            raise ReaderError(
                f"{path}: found {version!r} at its start, expected the version of EDF ('0') or BDF "
                "('BIOSEMI'); check the format"
            )
        n_signals = _number(path, fixed["number of signals"], "number of signals", int)
        header_bytes = 256 * (n_signals + 1)
        told = _number(path, fixed["header bytes"], "header bytes", int)
        if n_signals < 1 or told != header_bytes or size < header_bytes:
            raise ReaderError(
                f"{path}: found {n_signals} signals, {told} header bytes and a file of {size:,} "
                f"bytes, expected 256 * (signals + 1) = {header_bytes} and no shorter file; get "
                "the file again"
            )
        block = stream.read(256 * n_signals)
    columns: dict[str, list[str]] = {}
    at = 0
    for field, width in SIGNAL.items():
        part = block[at : at + width * n_signals]
        columns[field] = [_text(part[i * width : (i + 1) * width]) for i in range(n_signals)]
        at += width * n_signals
    signals = tuple(
        dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)
    )
    samples = tuple(
        _number(path, own["samples"], f"{own['label']}: samples in a record", int)
        for own in signals
    )
    duration = _number(path, fixed["record duration"], "record duration", float)
    if (
        min(samples) < 1
        or not duration > SHORTEST_S
        or all(own["label"] in MARKS for own in signals)
    ):
        raise ReaderError(
            f"{path}: found records of {duration:g} s with {min(samples)} to {max(samples)} "
            "samples of a signal, expected more than 0 of both; mend the header"
        )
    sample_bytes = 2 if version == "0" else 3
    edges = np.cumsum([0, *samples], dtype=object) * sample_bytes
    return Header(
        path,
        sample_bytes,
        fixed["reserved"],
        header_bytes,
        _n_records(path, fixed["number of records"], size - header_bytes, int(edges[-1])),
        duration,
        int(edges[-1]),
        signals,
        samples,
        tuple(int(e) for e in edges[:-1]),
    )


def _n_records(path: Path, field: str, data_bytes: int, record_bytes: int) -> int:
    """Return how many whole records there are, by the header and by the size of the file."""
    told = _number(path, field, "number of records", int)
    held, rest = divmod(data_bytes, record_bytes)
    if told == -1 and held:
        log.warning("%s: number of records is -1 (not closed); the file holds %d", path, held)
        told = held
    if told < 1 or held != told:
        raise ReaderError(
            f"{path}: the header says {told} records of {record_bytes:,} bytes, found "
            f"{data_bytes:,} bytes of data, {held} whole records and {rest} bytes; "
            f"{'the file is cut off, ' if held < told else ''}get it again"
        )
    if rest:
        log.warning("%s: %d bytes after the last of %d records are left out", path, rest, told)
    return told


def _stretches(header: Header) -> list[tuple[Stretch, tuple[int, int]]]:
    """Return each stretch without a gap, with its first record and number of records."""
    starts = np.zeros(1)
    at = np.zeros(1, dtype=np.int64)
    if header.reserved.startswith(("EDF+D", "BDF+D")):
        onsets = _onsets(header)
        steps = np.diff(onsets)
        # half a sample of the fastest signal is what a rounded onset may be off
        slack = 0.5 * header.duration_s / max(header.samples)
        if (steps < header.duration_s - slack).any():
            worst = int(np.argmin(steps))
            raise ReaderError(
                f"{header.path}: record {worst + 1} begins {steps[worst]:g} s after the one before "
                f"it, expected at least the {header.duration_s:g} s of a record; mend the onsets"
            )
        at = np.concatenate([at, np.flatnonzero(steps > header.duration_s + slack) + 1])
        if len(at) > STRETCHES:
            raise ReaderError(
                f"{header.path}: found {len(at)} stretches with gaps between them, expected at "
                f"most {STRETCHES}; write the file as EDF+C where its clock only drifts"
            )
        starts = onsets[at] - onsets[0]
    counts = np.diff([*at, header.n_records])
    return [
        (Stretch(float(start), int(n) * header.duration_s), (int(first), int(n)))
        for start, first, n in zip(starts, at, counts, strict=True)
    ]


def _marked(header: Header) -> Iterator[tuple[int, int, list]]:
    """Yield number of the annotation signal, record, and the lists that stand there."""
    signals = [i for i, own in enumerate(header.signals) if own["label"] in MARKS]
    for first in range(0, header.n_records if signals else 0, RECORDS):
        records = header.records(first, first + RECORDS)
        for number, signal in enumerate(signals):
            for record, part in enumerate(header.bytes_of(records, signal)):
                yield number, first + record, TAL.findall(part.tobytes())


def _onsets(header: Header) -> np.ndarray:
    """Return when each record begins, (record,), s, as its first annotation says.

    Raises
    ------
    ReaderError
        A record of a discontinuous file does not say when it begins.
    """
    onsets = np.full(header.n_records, np.nan)
    for number, record, lists in _marked(header):
        if number == 0 and lists and not lists[0][2]:
            onsets[record] = float(lists[0][0])
    if np.isnan(onsets).any():
        raise ReaderError(
            f"{header.path}: discontinuous (EDF+D), and record {int(np.isnan(onsets).argmax())} "
            "does not say when it begins; expected an onset in each record, write the file anew"
        )
    return onsets


def _annotations(header: Header) -> xr.Dataset | None:
    onset, duration, description = [], [], []
    zero = None
    for number, _, lists in _marked(header):
        for place, (begin, length, texts) in enumerate(lists):
            if number == 0 and place == 0 and zero is None:
                zero = float(begin)
            for text in texts.split(b"\x14"):
                if text:
                    onset.append(float(begin) - (zero or 0.0))
                    duration.append(float(length) if length else np.nan)
                    description.append(_text(text, "utf-8"))
    return marks(onset, duration, description)


def _digital(part: np.ndarray, sample_bytes: int) -> np.ndarray:
    """Return little-endian integers of 2 or 3 bytes, (sample,)."""
    if sample_bytes == 2:
        return part.view("<i2").reshape(-1)
    wide = np.zeros((part.size // 3, 4), dtype=np.uint8)
    wide[:, 1:] = part.reshape(-1, 3)  # into the upper bytes, so that the sign comes along
    return wide.view("<i4").reshape(-1) >> 8


def _fields(raw: bytes, widths: dict[str, int]) -> dict[str, str]:
    found, at = {}, 0
    for field, width in widths.items():
        found[field] = _text(raw[at : at + width])
        at += width
    return found


def _text(raw: bytes, encoding: str = "latin-1") -> str:
    try:
        return raw.decode(encoding).strip("\x00 ")
    except UnicodeDecodeError:
        return raw.decode("latin-1").strip("\x00 ")


def _number(path: Path, text: str, field: str, kind: type):
    """Return a number of the header, finite."""
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is None or not np.isfinite(value) or "_" in text:
        raise ReaderError(
            f"{path}: header: {field}: found {text!r}, expected a number; mend the header"
        )
    return value
