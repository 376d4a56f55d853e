"""Pulse, breathing, triggers and stimuli beside a run: physio.tsv.gz and stim.tsv.gz of BIDS."""

from __future__ import annotations

import logging
import math
import zlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from neuropipe.errors import ReaderError
from neuropipe.io import bids
from neuropipe.io.ieeg_channels import behavior, safe_names
from neuropipe.io.sidecars import MISSING

log = logging.getLogger(__name__)

EXTENSION = ".tsv.gz"


@dataclass(frozen=True)
class _Series:
    """One file: what its sidecar says, and the rows that lie in the run."""

    path: Path
    time: np.ndarray
    columns: dict[str, np.ndarray]
    units: dict[str, str]

    @property
    def label(self) -> str:
        """What tells files of one run apart."""
        name = bids.Name(self.path)
        return name.entities.get("recording", name.suffix)


def physio_of(
    files: Sequence[Path],
    recording: Path,
    duration_s: float,
    *,
    start_s: float = 0.0,
    taken: Collection[str] = (),
) -> dict[str, xr.Dataset]:
    """Return the continuous signals that were recorded beside a run.

    Parameters
    ----------
    files : companions of the session
    recording : the run's image or iEEG file
    duration_s : length of the run; what lies before or behind it is left out
    start_s : where the run begins in its file
    taken : names of behavior that the run has already

    Returns
    -------
    dict
        ``behavior/<column>`` with ``time``, s from the run's first sample. A column that several
        files have is called ``<recording>_<column>``.

    Notes
    -----
    A file whose sidecar lacks SamplingFrequency, StartTime or Columns, or whose table does not fit
    it, is left out with a warning: the run itself has no fault.
    """
    own = bids.Name(recording)
    found = []
    for name in map(bids.Name, files):
        wanted = name.suffix in bids.CONTINUOUS and name.extension == EXTENSION
        if wanted and name.describes(own):
            try:
                found.append(_read(name.path, files, start_s, start_s + duration_s))
            except ReaderError as error:
                log.warning("%s; left out", error)
    number = Counter([*taken, *(column for one in found for column in one.columns)])
    every = [(one, column) for one in found for column in one.columns]
    labels = [c if number[c] == 1 else f"{one.label}_{c}" for one, c in every]
    labels = safe_names([*taken, *labels])[len(taken) :]
    return {
        f"behavior/{label}": behavior(label, one.columns[column], one.time, one.units[column])
        for label, (one, column) in zip(labels, every, strict=True)
    }


def _read(path: Path, files: Sequence[Path], begin_s: float, end_s: float) -> _Series:
    """Read the rows of a file that lie inside of its run, on the run's clock."""
    label = bids.Name(path).entities.get("recording")
    # a sidecar of another recording does not speak of this one
    beside = [f for f in files if bids.Name(f).entities.get("recording", label) == label]
    said = bids.sidecar(beside, path)
    rate, first_s = _number(path, said, "SamplingFrequency"), _number(path, said, "StartTime")
    names = said.get("Columns")
    if rate <= 0 or not isinstance(names, list) or len(set(map(str, names))) < len(names or ""):
        raise ReaderError(
            f"{path}: sidecar: found SamplingFrequency {rate:g} and Columns {names}, expected Hz "
            "above zero and the table's columns, each once; mend the JSON"
        )
    names = [str(name) for name in names]
    n_rows = max(math.ceil((end_s - first_s) * rate), 0)
    try:
        frame = pd.read_csv(
            path, sep="\t", header=None, index_col=False, na_values=list(MISSING), nrows=n_rows,
            compression="gzip", on_bad_lines="error",
        )  # fmt: skip
    except pd.errors.EmptyDataError:
        frame = pd.DataFrame(columns=range(len(names)), dtype=float)
    except (OSError, EOFError, ValueError, zlib.error, pd.errors.ParserError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ReaderError(
            f"{path}: not a table in gzip ({reason}), expected tab-separated numbers without a "
            "header; mend it"
        ) from error
    if frame.shape[1] != len(names) or not all(k in "fiub" for k in map(_kind, frame.dtypes)):
        raise ReaderError(
            f"{path}: found {frame.shape[1]} columns of {', '.join(map(str, frame.dtypes))}, "
            f"expected numbers in {len(names)}, {', '.join(names)}, as the sidecar says, and no "
            "header; mend either"
        )
    time = first_s + np.arange(len(frame)) / rate
    inside = (time >= begin_s) & (time < end_s)
    if len(time) and time[-1] < end_s - 1.0:
        log.warning("%s: ends %.1f s before its run", path, end_s - time[-1])
    columns = {name: frame[i].to_numpy(float)[inside] for i, name in enumerate(names)}
    units = {name: _units(said, name) for name in names}
    return _Series(path, time[inside] - begin_s, columns, units)


def _kind(dtype: Any) -> str:
    return getattr(dtype, "kind", "O")


def _units(said: Mapping[str, Any], column: str) -> str:
    about = said.get(column)
    return str(about.get("Units", "")) if isinstance(about, dict) else ""


def _number(path: Path, said: Mapping[str, Any], key: str) -> float:
    value = said.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ReaderError(
            f"{path}: sidecar: found {key} {value!r}, expected a number; BIDS requires it, add it "
            "to the JSON"
        )
    return float(value)
