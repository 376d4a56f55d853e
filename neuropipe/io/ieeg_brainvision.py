"""BrainVision files: a header that names a binary and a marker file beside it."""

from __future__ import annotations

import configparser
import logging
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from neuropipe.errors import ReaderError
from neuropipe.io.ieeg_raw import Channel, RawFile, Stretch, mapped, marks, taken

log = logging.getLogger(__name__)

FORMATS = {"INT_16": "<i2", "INT_32": "<i4", "IEEE_FLOAT_32": "<f4"}
ROWS = 1024  # scaled at a time: few enough for the processor's cache
CHANNELS = 100_000  # more than any amplifier; a header that says more is damaged


@dataclass(frozen=True)
class Frames:
    """Channels of a binary, (time, channel); vectorized files keep each channel in one piece."""

    path: Path
    binary: np.dtype
    vectorized: bool
    n_channels: int
    columns: tuple[int, ...]
    factors: tuple[float, ...]
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
        whole = (self.shape[0], self.n_channels)
        file = mapped(self.path, self.binary, 0, whole[::-1] if self.vectorized else whole)
        frames = file.T if self.vectorized else file
        columns, factors = list(self.columns), np.array(self.factors)
        for begin in range(first, last, ROWS):
            part = frames[begin : min(begin + ROWS, last)][:, columns]
            out[begin - first : begin - first + len(part)] = part * factors
        return out


def open_brainvision(path: Path) -> RawFile:
    """Open a BrainVision recording by its header.

    Parameters
    ----------
    path : ``.vhdr``; binary and markers lie in its folder under the names that it gives

    Raises
    ------
    ReaderError
        The header is damaged, names no file of its folder, or promises other than what is there.
    """
    header = _header(path)
    common = header["Common Infos"]
    rate = 1e6 / _number(path, common, "SamplingInterval")
    n_channels = int(_number(path, common, "NumberOfChannels", CHANNELS))
    channels, resolutions = _channels(path, header, n_channels, rate)
    data = _beside(path, common.get("DataFile", ""), "DataFile")
    binary, vectorized = _binary(path, header)
    size, frame = data.stat().st_size, n_channels * binary.itemsize
    n_samples, rest = divmod(size, frame)
    promised = common.get("DataPoints")
    wrong = promised is not None and _number(path, common, "DataPoints") != n_samples
    if rest or not n_samples or wrong:
        raise ReaderError(
            f"{data}: found {size:,} bytes, {n_samples} samples of {n_channels} channels and "
            f"{rest} bytes, expected {promised or 'a whole number of'} samples of {frame} bytes; "
            "the file is cut off or not this header's, get it again"
        )

    def samples(_: int, columns: Sequence[int], factors: Sequence[float], dtype: type) -> Frames:
        scaled = tuple(resolutions[c] * f for c, f in zip(columns, factors, strict=True))
        shape = (n_samples, len(columns))
        return Frames(
            data, binary, vectorized, n_channels, tuple(columns), scaled, shape, np.dtype(dtype)
        )

    return RawFile(
        (path, data),
        channels,
        (Stretch(0.0, n_samples / rate),),
        samples,
        _markers(path, common, data, rate),
    )


def _header(path: Path) -> configparser.ConfigParser:
    """Return the sections of the header; what follows [Comment] is free text.

    Raises
    ------
    ReaderError
        It is no BrainVision header.
    """
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:  # older recorders write the codepage of their Windows
        text = raw.decode("cp1252", errors="replace")
    first, _, rest = text.partition("\n")
    parser = configparser.ConfigParser(
        interpolation=None, strict=True, delimiters=("=",), comment_prefixes=(";",)
    )
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    try:
        if not re.search(r"Brain ?Vision.*Header File", first):
            raise ValueError(f"first line {first[:40]!r}")
        parser.read_string(re.split(r"^\[Comment\]", rest, maxsplit=1, flags=re.M)[0])
        if parser.has_section("Common infos"):  # as one amplifier's software spells it
            parser["Common Infos"] = parser["Common infos"]
        for section in ("Common Infos", "Channel Infos"):
            if not parser.has_section(section):
                raise ValueError(f"no section [{section}]")
    except (configparser.Error, ValueError) as error:
        raise ReaderError(
            f"{path}: found {str(error).splitlines()[0]}, expected a BrainVision header; check the "
            "format"
        ) from error
    return parser


def _number(path: Path, common: configparser.SectionProxy, key: str, most: float = 1e12) -> float:
    text = common.get(key, "")
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not 0 < value <= most:
        raise ReaderError(
            f"{path}: {key}: found {text!r}, expected a number above 0 and at most {most:g}; mend "
            "the header"
        )
    return value


def _channels(
    path: Path, header: configparser.ConfigParser, n_channels: int, rate: float
) -> tuple[tuple[Channel, ...], list[float]]:
    """Return channels and resolutions; an absent unit is microvolts, as the format defines."""
    rows = {k.lower(): v.split(",") for k, v in header["Channel Infos"].items()}
    channels, resolutions = [], []
    for number in range(1, n_channels + 1):
        row = [*rows.get(f"ch{number}", []), "", "", "", ""]
        try:
            resolution = float(row[2] or 1)
        except ValueError:
            resolution = np.nan
        if f"ch{number}" not in rows or not np.isfinite(resolution) or resolution == 0:
            raise ReaderError(
                f"{path}: channel {number} of {n_channels}: found {','.join(row).strip(',')!r}, "
                "expected name, reference, resolution and unit; mend the header"
            )
        channels.append(Channel(row[0].replace(r"\1", ",").strip(), row[3].strip() or "µV", rate))
        resolutions.append(resolution)
    return tuple(channels), resolutions


def _beside(path: Path, name: str, key: str) -> Path:
    """Return a file that the header names: in the header's own folder, nowhere else.

    Raises
    ------
    ReaderError
        The name leads out of the folder, or no such file is there.
    """
    name = name.replace("$b", path.stem).strip()
    file = path.parent / name
    if not name or "/" in name or "\\" in name or name in (".", ".."):
        raise ReaderError(
            f"{path}: {key}: found {name!r}, expected the name of a file in the header's own "
            "folder; put it there and mend the header"
        )
    if not file.is_file():
        there = sorted(
            f.name for f in path.parent.iterdir() if f.suffix in (".eeg", ".dat", ".vmrk")
        )
        raise ReaderError(
            f"{path}: {key}: found no file {name!r}, expected it beside the header, where there "
            f"is {', '.join(there[:5]) or 'none'}; if it was renamed, mend the header"
        )
    return file


def _binary(path: Path, header: configparser.ConfigParser) -> tuple[np.dtype, bool]:
    common = header["Common Infos"]
    kind = common.get("DataFormat", "BINARY").upper()
    order = common.get("DataOrientation", "").upper()
    has = header.has_section("Binary Infos")
    binary = header["Binary Infos"].get("BinaryFormat", "") if has else ""
    if kind != "BINARY" or binary not in FORMATS or order not in ("MULTIPLEXED", "VECTORIZED"):
        raise ReaderError(
            f"{path}: found DataFormat {kind!r}, BinaryFormat {binary!r} and DataOrientation "
            f"{order!r}, expected BINARY, one of {', '.join(FORMATS)}, and MULTIPLEXED or "
            "VECTORIZED; export it as such"
        )
    return np.dtype(FORMATS[binary]), order == "VECTORIZED"


def _markers(
    path: Path, common: configparser.SectionProxy, data: Path, rate: float
) -> xr.Dataset | None:
    """Return the markers, as mne reads them, once they are known to be this recording's.

    Raises
    ------
    ReaderError
        The marker file says that it belongs to another binary of the folder.
    """
    name = common.get("MarkerFile", "").strip()
    if not name:
        return None
    try:
        file = _beside(path, name, "MarkerFile")
    except ReaderError as error:
        log.warning("%s; read without its markers", error)
        return None
    text = file.read_bytes().decode("latin-1")
    said = re.search(r"^DataFile=(.*)$", text, re.M)
    theirs = said[1].strip().replace("$b", file.stem) if said else data.name
    if theirs != data.name:
        if (path.parent / Path(theirs).name).is_file():
            raise ReaderError(
                f"{file}: found markers of {theirs!r}, expected those of {data.name!r}; mend "
                f"MarkerFile in {path.name}"
            )
        log.warning("%s: speaks of %s, which is not there; taken as renamed", file, theirs)
    import mne

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = mne.read_annotations(file, sfreq=rate)
        except (ValueError, IndexError, OverflowError, RuntimeError) as error:
            raise ReaderError(
                f"{file}: found what mne cannot read ({error}), expected BrainVision markers; mend "
                "it, or take MarkerFile out of the header"
            ) from error
    for warning in caught:
        log.info("%s: mne says %s", file, warning.message)
    return marks(found.onset, found.duration, found.description)
