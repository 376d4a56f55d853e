"""Confounds of fMRI runs (motion, tissue signals): one table for the session, units by name."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr

from neuropipe.errors import ReaderError
from neuropipe.io import bids
from neuropipe.io.sidecars import numbers, read_table

log = logging.getLogger(__name__)

# fMRIPrep's column names since 2018; a derivative is a difference between volumes.
UNITS = (
    (re.compile(r"(trans_[xyz]|framewise_displacement|rmsd)(_derivative1)?"), "mm"),
    (re.compile(r"trans_[xyz](_derivative1)?_power2"), "mm^2"),
    (re.compile(r"rot_[xyz](_derivative1)?"), "rad"),
    (re.compile(r"rot_[xyz](_derivative1)?_power2"), "rad^2"),
)


def unit_of(column: str) -> str:
    """Return the unit of a confound, told by its name; 1 where the name tells none."""
    return next((unit for pattern, unit in UNITS if pattern.fullmatch(column)), "1")


def read_confounds(files: Sequence[Path], volumes: Mapping[Path, int]) -> dict[Path, pd.DataFrame]:
    """Read the confounds of runs, by recording, each with the columns of all of them.

    Runs of one session have outliers and components of their own; what a run has no column for is
    NaN in it.

    Parameters
    ----------
    files : companions
    volumes : number of volumes of each recording

    Returns
    -------
    dict
        (volume, column) by recording, float64, n/a as NaN; empty where no run has a table.

    Raises
    ------
    ReaderError
        A table has another number of rows than its run has volumes.
    """
    tables: dict[Path, pd.DataFrame] = {}
    for recording, count in volumes.items():
        table = bids.best(files, recording, "timeseries", ".tsv", desc="confounds") or bids.best(
            files, recording, "regressors", ".tsv", desc="confounds"
        )
        if table is None:
            continue
        frame = read_table(table)
        if len(frame) != count:
            raise ReaderError(
                f"{table}: found {len(frame)} rows, expected {count}, one a volume of "
                f"{recording.name}; take both from the same run of the pipeline"
            )
        tables[recording] = pd.DataFrame({str(c): numbers(frame, c, table) for c in frame.columns})
    if not tables:
        return {}
    bare = [recording.name for recording in volumes if recording not in tables]
    if bare:
        log.warning("%s: no confounds, NaN there; other runs have them", ", ".join(bare))
    columns = list(dict.fromkeys(name for frame in tables.values() for name in frame.columns))
    return {
        recording: tables.get(recording, pd.DataFrame(index=range(count))).reindex(columns=columns)
        for recording, count in volumes.items()
    }


def node_of(frame: pd.DataFrame, time: xr.Variable) -> xr.Dataset:
    """Return node `confounds` of one run from its table and the clock of its volumes."""
    names = list(frame.columns)
    values = da.from_array(frame.to_numpy(float), chunks=-1)
    return xr.Dataset(
        {"confound_value": (("time", "confound"), values, {"units": "mixed"})},
        {
            "time": time,
            "confound": ("confound", np.array(names, object), {"units": ""}),
            "confound_unit": (
                "confound", np.array([unit_of(name) for name in names], object), {"units": ""}
            ),
        },
    )  # fmt: skip
