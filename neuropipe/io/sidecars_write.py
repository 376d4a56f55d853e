"""Small files beside a recording, out: JSON metadata, tables with n/a, events."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from neuropipe.errors import SchemaError

# Onsets are differences of clocks; beyond a nanosecond they hold rounding only.
CLOCK_DIGITS = 9
CLOCK_SLACK = 0.1  # of the time between two samples


def write_json(path: Path, content: Mapping[str, Any]) -> Path:
    """Write a sidecar and return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def write_table(path: Path, columns: Mapping[str, Sequence[Any] | np.ndarray]) -> Path:
    """Write columns as a TSV, NaN and empty text as n/a, and return its path.

    Raises
    ------
    SchemaError
        A text holds a tab or a line break, which would move its neighbours.
    """
    cells = {name: [_cell(path, name, v) for v in values] for name, values in columns.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(columns), *map("\t".join, zip(*cells.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_events(path: Path, events: xr.Dataset, start_s: float) -> list[Path]:
    """Write intervals as an events.tsv with a JSON of its columns, and return both paths.

    Parameters
    ----------
    path : of the table
    events : node ``intervals/events``, the rows of one run
    start_s : first sample of that run, which is 0 in the table
    """
    onset = np.round(events["start_time"].values - start_s, CLOCK_DIGITS)
    length = events["stop_time"].values - events["start_time"].values
    columns: dict[str, Any] = {"onset": onset, "duration": np.round(length, CLOCK_DIGITS)}
    told: dict[str, dict[str, str]] = {
        "onset": {"Description": "Start, from the first sample.", "Units": "s"},
        "duration": {"Description": "Length, n/a where it is not known.", "Units": "s"},
    }
    for name in (n for n in events.variables if n not in ("start_time", "stop_time", "run_label")):
        column = str(name)
        array = events[name]
        if array.dims != ("interval",):
            raise SchemaError(
                f"intervals/events/{column}: dims {array.dims}, expected ('interval',); a table "
                "holds nothing else, drop it first"
            )
        columns[column] = array.values
        units, meaning = array.attrs.get("units", ""), array.attrs.get("description", "")
        told[column] = {"Description": meaning or f"Column {column} of the source."}
        if units and array.dtype.kind in "fiu":
            told[column]["Units"] = units
    order = np.argsort(onset, kind="stable")
    columns = {name: np.asarray(values)[order] for name, values in columns.items()}
    return [write_table(path, columns), write_json(path.with_suffix(".json"), told)]


def _cell(path: Path, column: str, value: Any) -> str:
    if value is None or (isinstance(value, float | np.floating) and np.isnan(value)):
        return "n/a"
    if isinstance(value, float | np.floating):
        return str(value)  # the shortest text that reads back as the same number
    text = str(value)
    if any(mark in text for mark in "\t\n\r"):
        raise SchemaError(
            f"{path.name}: {column}: found {text!r}, expected text without tabs and line breaks; "
            "replace them first"
        )
    return text or "n/a"
