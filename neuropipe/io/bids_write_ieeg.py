"""Intracranial voltage out: BrainVision, streamed, or EDF, with the tables of BIDS-iEEG."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from neuropipe.errors import SchemaError
from neuropipe.io.bids_write import Piece, spans
from neuropipe.io.sidecars_write import write_json, write_table
from neuropipe.io.store import layout

EDF_BYTES = 2**30
LABEL = 16  # characters of a label in EDF
NEURAL = {"SEEG": "SEEG", "ECOG": "ECOG", "EEG": "EEG"}
TEMPLATES = re.compile(r"(MNI|ICBM|fsaverage|fsnative|NIHPD|OASIS|IXI|UNCInfant|T1w)\w*")
OWN = ("ACPC", "ScanRAS", "Pixels", "Other")


def write_ieeg(
    node: xr.Dataset,
    others: dict[str, xr.DataArray],
    folder: Path,
    pieces: Sequence[Piece],
    prefix: str,
    task: str,
    format: str,
) -> tuple[list[Path], list[Path]]:
    """Write the runs, other channels on the same clock with them; return the recordings in order,
    and all other files.
    """
    rate = node.attrs.get("sampling_rate_hz")
    if not rate:
        raise SchemaError("ieeg: attr sampling_rate_hz missing; a recording needs it")
    rate = float(rate)
    clash = set(node["channel"].values) & set(others)
    if clash:
        raise SchemaError(f"behavior: {', '.join(sorted(clash))} is also a channel of ieeg")
    main, files = [], _electrodes(node, folder, prefix)
    for piece in pieces:
        _refuse_gaps(node, piece, rate)
        written = (_brainvision if format == "brainvision" else _edf)(
            folder / f"{piece.stem}_ieeg", node, others, piece.rows, rate
        )
        main.append(written[0])
        files += written[1:]
        table = folder / f"{piece.stem}_channels.tsv"
        files.append(write_table(table, _channels(node, others, rate, format)))
        told = _sidecar(node, others, piece, rate, task)
        files.append(write_json(folder / f"{piece.stem}_ieeg.json", told))
    return main, files


def _refuse_gaps(node: xr.Dataset, piece: Piece, rate: float) -> None:
    n = piece.rows.stop - piece.rows.start
    lasted = float(node["time"][piece.rows.stop - 1]) - piece.start_s
    if abs(lasted * rate - (n - 1)) > 0.5:
        raise SchemaError(
            f"ieeg: run {piece.label!r}: {n} samples span {lasted:g} s, expected "
            f"{(n - 1) / rate:g} s at {rate:g} Hz; cut it into runs at its gaps"
        )


def _block(
    node: xr.Dataset, others: dict[str, xr.DataArray], rows: slice, dtype: type
) -> np.ndarray:
    """Return some samples of all channels, (time, channel), volts and the others' own units."""
    out = np.empty((rows.stop - rows.start, node.sizes["channel"] + len(others)), dtype)
    out[:, : node.sizes["channel"]] = node["voltage"].isel(time=rows).values
    for column, array in enumerate(others.values(), node.sizes["channel"]):
        out[:, column] = array.isel(time=rows).values
    return out


def _names(node: xr.Dataset, others: dict[str, xr.DataArray]) -> list[str]:
    return [*map(str, node["channel"].values), *others]


def _brainvision(
    stem: Path, node: xr.Dataset, others: dict[str, xr.DataArray], rows: slice, rate: float
) -> list[Path]:
    """Let pybv write the headers of one sample, then stream all samples behind them."""
    import pybv

    names = _names(node, others)
    units = ["V"] * node.sizes["channel"] + [_unit(array) for array in others.values()]
    stem.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Encountered small Greek letter")
        warnings.filterwarnings("ignore", message=".*unit", module="pybv")
        pybv.write_brainvision(
            data=np.zeros((len(names), 1)), sfreq=rate, ch_names=names, fname_base=stem.name,
            folder_out=stem.parent, resolution=1.0, unit=units, fmt="binary_float32",
        )  # fmt: skip
    files = [stem.with_name(stem.name + end) for end in (".vhdr", ".eeg", ".vmrk")]
    step = layout(node["voltage"].shape, 4)[1][0]
    with files[1].open("wb") as stream:
        for part in spans(rows, step):
            stream.write(_block(node, others, part, np.float32).astype("<f4", copy=False).data)
    return files


def _edf(
    stem: Path, node: xr.Dataset, others: dict[str, xr.DataArray], rows: slice, rate: float
) -> list[Path]:
    """Write one run through edfio, which holds it whole."""
    import edfio

    path = stem.with_name(stem.name + ".edf")
    names, n = _names(node, others), rows.stop - rows.start
    if 4 * n * len(names) > EDF_BYTES:
        raise SchemaError(
            f"{path.name}: {4 * n * len(names):,} bytes of samples, expected at most "
            f"{EDF_BYTES:,}, for EDF is written from memory; write format='brainvision'"
        )
    wrong = [name for name in names if len(name) > LABEL or not name.isascii()]
    if wrong:
        raise SchemaError(f"{path.name}: labels {wrong[:5]}, expected up to {LABEL} ASCII letters")
    values = _block(node, others, rows, np.float64)
    if not np.isfinite(values).all():
        raise SchemaError(f"{path.name}: NaN or infinity, which EDF cannot hold; write brainvision")
    signals = []
    for column, name in enumerate(names):
        neural = column < node.sizes["channel"]
        unit = "uV" if neural else _unit(others[name])
        own = values[:, column] * (1e6 if neural else 1)
        signals.append(edfio.EdfSignal(
            own, rate, label=name, physical_dimension=unit if unit.isascii() else "",
            physical_range=None,
        ))  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    edfio.Edf(signals, data_record_duration=_record_s(path, n, rate)).write(path)
    return [path]


def _record_s(path: Path, n_samples: int, rate: float) -> float:
    """Return the longest record up to a second that divides the run and that EDF can write."""
    exact = Fraction(rate).limit_denominator(10**6)
    for size in range(min(n_samples, max(1, math.floor(rate))), 0, -1):
        if n_samples % size == 0:
            seconds = size / exact
            if Fraction(f"{float(seconds):.6g}") == seconds and len(f"{float(seconds):.6g}") <= 8:
                return float(seconds)
    raise SchemaError(
        f"{path.name}: {n_samples} samples at {rate:g} Hz make no whole number of records whose "
        "length EDF can write; write format='brainvision'"
    )


def _unit(array: xr.DataArray) -> str:
    units = str(array.attrs.get("units", ""))
    return units if units not in ("", "1") else "n/a"


def _channels(
    node: xr.Dataset, others: dict[str, xr.DataArray], rate: float, format: str
) -> dict[str, list[Any]]:
    n, m = node.sizes["channel"], len(others)

    def own(name: str, blank: Any = "n/a") -> list[Any]:
        return node[name].values.tolist() if name in node.variables else [blank] * n

    columns = {
        "name": _names(node, others),
        "type": [t if t != "n/a" else "SEEG" for t in own("channel_type", "SEEG")] + ["MISC"] * m,
        "units": ["V" if format == "brainvision" else "uV"] * n
        + [_unit(array) for array in others.values()],
        "low_cutoff": own("low_cutoff_hz") + ["n/a"] * m,
        "high_cutoff": own("high_cutoff_hz") + ["n/a"] * m,
        "reference": own("reference") + ["n/a"] * m,
        "group": own("shaft") + ["n/a"] * m,
        "sampling_frequency": [rate] * (n + m),
        "status": own("status") + ["n/a"] * m,
    }
    if "status_description" in node.variables:
        columns["status_description"] = own("status_description") + ["n/a"] * m
    return columns


def _sidecar(
    node: xr.Dataset, others: dict[str, xr.DataArray], piece: Piece, rate: float, task: str
) -> dict[str, Any]:
    n = node.sizes["channel"]
    types = (
        node["channel_type"].values.tolist() if "channel_type" in node.variables else ["SEEG"] * n
    )
    counts = {f"{kind}ChannelCount": types.count(kind) for kind in NEURAL if kind in types}
    return {
        "TaskName": task,
        "iEEGReference": node.attrs.get("reference") or "n/a",
        "SamplingFrequency": rate,
        "PowerLineFrequency": node.attrs.get("power_line_frequency_hz", "n/a"),
        "SoftwareFilters": "n/a",
        "RecordingDuration": (piece.rows.stop - piece.rows.start) / rate,
        "RecordingType": "continuous",
        **counts,
        "MiscChannelCount": len(others),
    }


def _electrodes(node: xr.Dataset, folder: Path, prefix: str) -> list[Path]:
    """Write where contacts lie and in which system; nothing where neither is known."""
    if not any(name in node.variables for name in (*"xyz", "region")):
        return []
    n = node.sizes["channel"]
    system = str(node.attrs.get("coordinate_system") or "Other")
    named = system in OWN or TEMPLATES.fullmatch(system) is not None
    space = system if named else "Other"
    blank = np.full(n, np.nan)
    columns: dict[str, Any] = {"name": node["channel"].values}
    columns |= {a: node[a].values if a in node.variables else blank for a in "xyz"}
    columns["size"] = blank
    if "shaft" in node.variables:
        columns["group"] = node["shaft"].values
    if "region" in node.variables:
        columns["region"] = node["region"].values
    told = {"iEEGCoordinateSystem": space, "iEEGCoordinateUnits": "mm"}
    if not named or space == "Other":
        told["iEEGCoordinateSystemDescription"] = system if system != "Other" else "not known"
    stem = folder / f"{prefix}_space-{space}"
    meaning = {"region": {"Description": "Brain region of the contact."}}
    files = [
        write_table(stem.with_name(f"{stem.name}_electrodes.tsv"), columns),
        write_json(stem.with_name(f"{stem.name}_coordsystem.json"), told),
    ]
    if "region" in columns:
        files.append(write_json(stem.with_name(f"{stem.name}_electrodes.json"), meaning))
    return files
