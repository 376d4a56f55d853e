"""Signals beside a run, out: physio.tsv.gz of BIDS, one file a signal and run."""

from __future__ import annotations

import gzip
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from neuropipe.errors import SchemaError
from neuropipe.io.sidecars_write import CLOCK_DIGITS, CLOCK_SLACK, write_json
from neuropipe.schema import Recording


def behavior_of(recording: Recording) -> dict[str, xr.DataArray]:
    """Return the signals of nodes behavior/*, each (time,), by a name of its own.

    Raises
    ------
    SchemaError
        One is no series of numbers.
    """
    found: dict[str, xr.DataArray] = {}
    if "behavior" not in recording.children:
        return found
    for group in recording["behavior"].subtree:
        for name, array in group.to_dataset().data_vars.items():
            own = str(name) if str(name) == group.name else f"{group.name}_{name}"
            if array.dims != ("time",) or array.dtype.kind not in "fiub":
                where = f"{group.path.lstrip('/')}/{name}"
                raise SchemaError(f"{where}: {array.dtype} {array.dims}, expected numbers (time)")
            found[own] = array
    return found


def write_physio(
    signals: Mapping[str, xr.DataArray], stems: Sequence[Path], starts_s: Sequence[float]
) -> list[Path]:
    """Write each signal's part of each run, and return the paths.

    Parameters
    ----------
    signals : by name, (time,)
    stems : of the runs' files, without suffix
    starts_s : when the runs begin; a run goes as far as the next one

    Raises
    ------
    SchemaError
        A signal's samples are not equally far apart.
    """
    files = []
    plain = [re.sub(r"[^0-9A-Za-z]", "", name) or "signal" for name in signals]
    for n, (name, array) in enumerate(signals.items()):
        time = array["time"].values
        label = plain[n] if plain.count(plain[n]) == 1 else f"{plain[n]}{n + 1}"
        for stem, begin, end in zip(stems, starts_s, [*starts_s[1:], math.inf], strict=True):
            first, last = np.searchsorted(time, [begin, end])
            if first == last:
                continue
            own = time[first:last]
            step = float(own[-1] - own[0]) / max(len(own) - 1, 1) or 1.0
            if np.abs(np.diff(own) - step).max(initial=0.0) > CLOCK_SLACK * step:
                raise SchemaError(
                    f"behavior/{name}: samples are not equally far apart, as BIDS wants them; "
                    "bring it onto a regular clock, or drop it"
                )
            path = stem.with_name(f"{stem.name}_recording-{label}_physio.tsv.gz")
            values = array[first:last].values.astype(float).tolist()
            lines = ["n/a" if math.isnan(value) else repr(value) for value in values]
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as raw, gzip.GzipFile("", "wb", mtime=0, fileobj=raw) as stream:
                stream.write(("\n".join(lines) + "\n").encode())
            told = {
                "SamplingFrequency": round(1 / step, CLOCK_DIGITS),
                "StartTime": round(float(own[0]) - begin, CLOCK_DIGITS),
                "Columns": [name],
                name: {"Units": array.attrs["units"]},
            }
            files += [path, write_json(path.with_name(path.name.replace(".tsv.gz", ".json")), told)]
    return files
