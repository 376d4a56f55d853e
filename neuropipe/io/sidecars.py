"""Small files beside a recording: JSON metadata, tables with n/a, events."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from neuropipe.errors import ReaderError

MISSING = ("n/a", "N/A", "")


def read_json(path: Path) -> dict[str, Any]:
    """Read a sidecar.

    Raises
    ------
    ReaderError
        It is not a JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ReaderError(f"{path}: not JSON ({error}), expected keys and values; mend it") from (
            error
        )
    if not isinstance(content, dict):
        raise ReaderError(f"{path}: found {type(content).__name__}, expected keys and values")
    return content


def read_table(path: Path, *required: str) -> pd.DataFrame:
    """Read a TSV as text, missing values as NA.

    Raises
    ------
    ReaderError
        It is no table, or lacks a required column.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # cells beyond the header
            frame = pd.read_csv(
                path, sep="\t", dtype=str, keep_default_na=False, na_values=list(MISSING),
                encoding="utf-8-sig", index_col=False, on_bad_lines="error",
            )  # fmt: skip
    except (OSError, ValueError, pd.errors.ParserError, pd.errors.ParserWarning) as error:
        raise ReaderError(
            f"{path}: not a table ({str(error).splitlines()[0]}), expected tab-separated text "
            "with a header; mend it"
        ) from error
    lost = [name for name in required if name not in frame]
    if lost:
        raise ReaderError(
            f"{path}: found columns {', '.join(map(str, frame.columns))}, expected "
            f"{', '.join(required)}; mend the header"
        )
    return frame


def numbers(frame: pd.DataFrame, column: str, path: Path) -> np.ndarray:
    """Return a column as float64, n/a as NaN.

    Raises
    ------
    ReaderError
        A cell is neither a number nor n/a; names its line.
    """
    values = pd.to_numeric(frame[column], errors="coerce").to_numpy(float)
    bad = np.isnan(values) & frame[column].notna().to_numpy()
    bad &= frame[column].fillna("").str.lower().to_numpy() != "nan"
    if bad.any() or np.isinf(values).any():
        line = int(np.flatnonzero(bad | np.isinf(values))[0])
        raise ReaderError(
            f"{path}: line {line + 2}: {column}: found {frame[column].iloc[line]!r}, expected a "
            "finite number or n/a"
        )
    return values


def events(path: Path, label: str) -> xr.Dataset:
    """Read an events.tsv as a table of intervals, seconds from the start of its run.

    Parameters
    ----------
    path : events.tsv, with columns onset and duration
    label : of the run

    Returns
    -------
    Dataset
        ``start_time, stop_time (interval)`` s, NaN where the source says n/a; ``run_label``; the
        other columns as numbers where all their cells are, else as text.
    """
    frame = read_table(path, "onset", "duration")
    onset, duration = numbers(frame, "onset", path), numbers(frame, "duration", path)
    if (duration < 0).any():
        line = int(np.flatnonzero(duration < 0)[0])
        raise ReaderError(
            f"{path}: line {line + 2}: duration: found {duration[line]:g} s, expected 0 or more"
        )
    columns: dict[str, tuple] = {
        "start_time": ("interval", onset, {"units": "s"}),
        "stop_time": ("interval", onset + duration, {"units": "s"}),
        "run_label": ("interval", np.full(len(frame), label, dtype=object), {"units": ""}),
    }
    described = path.with_suffix(".json")
    meanings = read_json(described) if described.is_file() else {}
    for name in frame.columns:
        if name in ("onset", "duration"):
            continue
        meaning = meanings.get(name)
        own = meaning if isinstance(meaning, Mapping) else {}
        values = pd.to_numeric(frame[name], errors="coerce").to_numpy(float)
        if np.isnan(values[frame[name].notna().to_numpy()]).any():
            text = frame[name].fillna("").to_numpy(object)
            columns[name] = ("interval", text, {"units": ""})
        else:
            columns[name] = ("interval", values, {"units": str(own.get("Units", "1"))})
        if own.get("Description"):
            columns[name][2]["description"] = str(own["Description"])
    return xr.Dataset(columns)
