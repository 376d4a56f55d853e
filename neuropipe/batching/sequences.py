"""Sequences of observations cut from recordings, and what is learned of them before a fit.

The HMM-GLM and its baselines read through this one door, so they see the same bins, the same
units and the same scaling of covariates.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import xarray as xr

from neuropipe.batching.refusals import (
    refuse_bins,
    refuse_counts,
    refuse_lone,
    refuse_stranger,
    refuse_twice,
)
from neuropipe.batching.traces import key_of
from neuropipe.batching.windows import unbroken, window_edges, window_slices
from neuropipe.errors import DataError
from neuropipe.schema import Recording, validate

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """Which part of a recording is explained, and by what.

    Attributes
    ----------
    observations : str
        Node: ``counts``, ``calcium/<series>``, or ``trials`` (one observation a trial).
    response : str, optional
        Variable of that node, where it has several; for trials the column.
    covariates : tuple of str
        Variables of node ``behavior``, or columns of ``trials``.
    missing_covariates : {"refuse", "mask", "hide"}
        What a NaN in a covariate does: stop with its name, leave the bin out, or stay.
    min_spikes : int
        A unit with fewer in the training data is left out; 0 keeps all.
    """

    observations: str = "counts"
    response: str | None = None
    covariates: tuple[str, ...] = ()
    missing_covariates: Literal["refuse", "mask", "hide"] = "refuse"
    min_spikes: int = 10


@dataclass(frozen=True)
class Scaling:
    """What the door learned from the training data, and applies to all others."""

    unit: np.ndarray  # (unit,) identifiers that are modelled
    bin_width_s: float
    rate: np.ndarray  # (unit,) mean observation a bin
    covariate_mean: np.ndarray  # (covariate,)
    covariate_sd: np.ndarray  # (covariate,)
    subject: str = ""  # whose units they are


@dataclass(frozen=True)
class Stretch:
    """One uninterrupted sequence of observations."""

    session: str
    window: int
    time: np.ndarray  # (bin,) s
    counts: np.ndarray  # (bin, unit)
    covariates: np.ndarray  # (bin, covariate)
    observed: np.ndarray = field(repr=False)  # (bin,) bool


def stretches(recording: Recording, source: Source, unit: np.ndarray | None) -> list[Stretch]:
    """Read a session's observations once, and cut them into its windows.

    Parameters
    ----------
    recording : DataTree
        Prepared; only what lies in its node `windows` (or trials) is returned.
    source : Source
        Names the node, response and covariates.
    unit : (unit,), optional
        Identifiers to read; all by default.

    Raises
    ------
    DataError
        If values are NaN or no counts, units come twice or differ from those of the training
        data, or nothing is left.
    """
    if source.observations == "trials":
        return [_trial_sequence(recording, source)]
    validate(recording, source.observations)
    session = recording.attrs.get("session", "")
    node = recording[source.observations].to_dataset()
    array = _response(node, source)
    what = f"session {session}: {source.observations}/{array.name}"
    refuse_twice(array[array.dims[1]].values, f"session {session}: {array.dims[1]}")
    if unit is not None:
        missing = set(unit) - set(array[array.dims[1]].values)
        if missing:
            raise DataError(
                f"session {session}: units {', '.join(map(str, sorted(missing)))} of the training "
                "data are absent; sessions that are fitted together must share their units"
            )
        array = array.sel({array.dims[1]: unit})
    time = node["time"].values
    values = np.asarray(array.values)
    covariates = _covariates(recording, source, time)
    observed = node["observed"].values if "observed" in node else np.ones(len(time), bool)
    out = []
    windows = window_slices(time, window_edges(recording, time), session)
    for number, part in unbroken(time, windows):
        counts = values[part].astype(float)
        seen = observed[part].copy()
        if not np.isfinite(counts[seen]).all():
            raise DataError(
                f"{what} is NaN between {time[part][0]:g} and {time[part][-1]:g} s; mark such bins "
                "in `observed`"
            )
        if source.observations == "counts":
            refuse_counts(values[part][seen], _width(array, time), what)
        counts[~seen] = 0.0
        block = covariates[part]
        lost = ~np.isfinite(block).all(1) & seen
        if lost.any() and source.missing_covariates == "refuse":
            column = int(np.flatnonzero(~np.isfinite(block[seen]).all(0))[0])
            raise DataError(
                f"session {session}: covariate {source.covariates[column]!r} is NaN in "
                f"{int(lost.sum())} of {len(lost)} bins of window {number}; say "
                "missing_covariates: mask to leave those bins out, or drop the covariate"
            )
        if source.missing_covariates != "hide":
            seen &= ~lost
        out.append(Stretch(session, number, time[part], counts, block, seen))
    return out


def held_out(recording: Recording, source: Source, scaling: Scaling) -> list[Stretch]:
    """Read a session as the training data were read; as of `stretches`.

    Raises
    ------
    DataError
        If its subject or its bins are others than those of the training data.
    """
    out = stretches(recording, source, scaling.unit)
    if source.observations == "trials":  # of whoever made the choices
        return out
    session = str(recording.attrs.get("session", ""))
    refuse_stranger(str(recording.attrs.get("subject", "")), scaling.subject, session)
    node = recording[source.observations].to_dataset()
    width = _width(_response(node, source), node["time"].values)
    refuse_bins(width, scaling.bin_width_s, session)
    return out


def _width(array: xr.DataArray, time: np.ndarray) -> float:
    """Return the width of bins, or the step of samples, s; NaN of a single sample."""
    if "bin_width_s" in array.attrs:
        return float(array.attrs["bin_width_s"])
    return float(np.median(np.diff(time))) if len(time) > 1 else float("nan")


def fit_scaling(
    training: Sequence[Stretch], unit: np.ndarray, width: float, source: Source
) -> tuple[Scaling, np.ndarray]:
    """Choose units and scale covariates by the training data alone.

    Returns
    -------
    scaling : Scaling
        To be kept beside the weights.
    keep : (unit,), bool
        Units of the training stretches that are modelled.
    """
    total = sum(s.counts[s.observed].sum(0) for s in training)
    n_bins = sum(int(s.observed.sum()) for s in training)
    keep = np.ones(len(unit), dtype=bool)
    if source.min_spikes:
        keep = np.asarray(total) >= source.min_spikes
    if not keep.any() or n_bins == 0:
        raise DataError(
            f"none of {len(unit)} units has {source.min_spikes} spikes in {n_bins} observed "
            "training bins; lower min_spikes or use more data"
        )
    block = np.concatenate([s.covariates[s.observed] for s in training])
    known = np.isfinite(block)  # all, unless gaps are hidden
    if not known.any(0).all():
        name = source.covariates[int(np.flatnonzero(~known.any(0))[0])]
        raise DataError(f"covariate {name!r} is NaN in all training bins; drop it")
    mean = np.mean(block, 0, where=known)
    sd = np.std(block, 0, where=known)
    return (
        Scaling(unit[keep], width, np.asarray(total)[keep] / n_bins, mean, np.where(sd > 0, sd, 1)),
        keep,
    )


def select_columns(parts: Sequence[Stretch], keep: np.ndarray) -> list[Stretch]:
    """Return the stretches with the kept units only, (unit,) bool."""
    return [replace(part, counts=part.counts[:, keep]) for part in parts]


def units_of(recordings: Sequence[Recording], source: Source) -> tuple[np.ndarray, float]:
    """Return the unit identifiers that all recordings share, and the bin width in s.

    Raises
    ------
    DataError
        If the sessions are of several subjects, share no unit or differ in their bins.
    """
    if source.observations == "trials":
        return np.array([0]), float("nan")
    subjects = sorted({str(r.attrs.get("subject", "")) for r in recordings})
    if len(subjects) > 1:
        raise DataError(
            f"sessions of subjects {', '.join(subjects)} share no units, whatever their identifiers"
            " say; fit each subject in a run of its own"
        )
    if len(recordings) > 1:
        log.info("%d sessions: units of one identifier count as one unit", len(recordings))
    unit: np.ndarray | None = None
    width, most = float("nan"), 0
    for recording in recordings:
        validate(recording, source.observations)
        node = recording[source.observations].to_dataset()
        array = _response(node, source)
        own = array[array.dims[1]].values
        most = max(most, len(own))
        unit = own if unit is None else unit[np.isin(unit, own)]
        step = _width(array, node["time"].values)
        if np.isfinite(width):
            refuse_bins(step, width, str(recording.attrs.get("session", "")))
        width = step
    if unit is None or len(unit) == 0:
        raise DataError("sessions: they share no unit; fit them one by one")
    if len(unit) < most:
        log.warning(
            "sessions: %d of %d units are not in all of them and are left out", most - len(unit),
            most,
        )  # fmt: skip
    return unit, width


def _response(node: xr.Dataset, source: Source) -> xr.DataArray:
    names = [n for n in node.data_vars if node[n].ndim == 2]
    name = source.response or ("spike_count" if "spike_count" in names else None)
    name = name or (str(names[0]) if len(names) == 1 else None)
    if name not in node:
        raise DataError(
            f"response {name!r} is not in node {source.observations}; it has "
            f"{', '.join(map(str, names))}; say which one in `response`"
        )
    return node[name]


def _covariates(recording: Recording, source: Source, time: np.ndarray) -> np.ndarray:
    if not source.covariates:
        return np.zeros((len(time), 0))
    validate(recording, "behavior")
    node = recording["behavior"].to_dataset()
    if not np.array_equal(node["time"].values, time):
        raise DataError(
            "node behavior is not on the clock of the counts; add the step "
            "resample_behavior to preprocess"
        )
    return np.stack([_column(node, name, "behavior") for name in source.covariates], 1)


def _column(node: xr.Dataset, name: str, where: str) -> np.ndarray:
    if name not in node:
        raise DataError(
            f"no {name!r} in node {where}; it has {', '.join(map(str, node.data_vars))}"
        )
    array = node[name]
    if array.ndim != 1 or array.dtype.kind not in "fiub":
        raise DataError(
            f"{name!r} of node {where} has dims {array.dims} and dtype {array.dtype}, expected one "
            "number a row; give it as numbers, or each of its columns as a variable of its own"
        )
    return np.asarray(array.values, dtype=float)


def _trial_sequence(recording: Recording, source: Source) -> Stretch:
    """Return one session's trials as one sequence, trials outside of the windows left out."""
    validate(recording, "trials")
    node = recording["trials"].to_dataset()
    session = recording.attrs.get("session", "")
    if source.response is None:
        raise DataError("observations trials needs `response`, the column to explain")
    start = node["start_time"].values
    inside = np.ones(len(start), dtype=bool)
    if "windows" in recording.children:
        inside = np.zeros(len(start), dtype=bool)
        for a, b in window_edges(recording, start):
            inside |= (start >= a) & (start < b)
    response = _column(node, source.response, "trials")[inside, None]
    covariates = np.stack([_column(node, n, "trials") for n in source.covariates], 1)[inside] if (
        source.covariates
    ) else np.zeros((int(inside.sum()), 0))  # fmt: skip
    observed = np.isfinite(response[:, 0]) & np.isfinite(covariates).all(1)
    if source.missing_covariates == "refuse" and not np.isfinite(covariates).all():
        raise DataError(f"session {session}: NaN in covariates of trials; see missing_covariates")
    if len(response) == 0:
        raise DataError(f"session {session}: no trial lies inside the fold's windows")
    response = np.where(np.isfinite(response), response, 0.0)
    return Stretch(session, 0, start[inside], response, covariates, observed)


def in_order(recordings: Sequence[Recording]) -> list[Recording]:
    """Return the recordings by subject and session, so that the order of a list changes nothing.

    Raises
    ------
    DataError
        If there is none, or one comes twice: its data would count twice.
    """
    refuse_lone(recordings)
    if not recordings:
        raise DataError("sessions: no recording to fit")
    keys = [key_of(r) for r in recordings]
    if len(set(keys)) < len(keys):
        twice = next(k for k in keys if keys.count(k) > 1)
        raise DataError(
            f"sessions: two recordings have the key {twice!r} of subject/session; give each "
            "session an identifier of its own, or leave one out"
        )
    return sorted(recordings, key=key_of)


def training_sequences(
    recordings: Sequence[Recording], source: Source
) -> tuple[list[Stretch], Scaling]:
    """Read the windows of several sessions, with units and scaling chosen by them alone."""
    ordered = in_order(recordings)
    unit, width = units_of(ordered, source)
    parts = [stretch for r in ordered for stretch in stretches(r, source, unit)]
    scaling, keep = fit_scaling(parts, unit, width, source)
    subject = str(ordered[0].attrs.get("subject", ""))
    return select_columns(parts, keep), replace(scaling, subject=subject)
