"""What of a BOLD signal is not brain: drift and confounds of one run as columns of a design."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

import numpy as np
import xarray as xr

from neuropipe.errors import DataError
from neuropipe.schema import Recording

log = logging.getLogger(__name__)

AXES = tuple(f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz")
ENDINGS = ("", "_derivative1", "_power2", "_derivative1_power2")
# Names of nilearn's load_confounds, columns of fMRIPrep.
STRATEGIES: dict[str, tuple[str, ...]] = {
    "motion6": AXES,
    "motion24": tuple(axis + ending for ending in ENDINGS for axis in AXES),
    "wm_csf": ("white_matter", "csf"),
    "global": ("global_signal",),
}
# Columns whose number differs from run to run: a pattern, and how many of them at most.
FAMILIES: dict[str, tuple[re.Pattern, int | None]] = {
    "acompcor": (re.compile(r"a_comp_cor_\d+"), 6),
    "scrub": (re.compile(r"(motion_outlier|non_steady_state_outlier)_?\d+"), None),
}
DISPLACEMENT = "framewise_displacement"
# Columns that agree to this share of their length are one column.
RANK = 1e-9


def confound_columns(recording: Recording, wanted: str | Sequence[str], step: str) -> list[str]:
    """Return the columns of node `confounds` that strategies and column names stand for.

    Parameters
    ----------
    wanted : ``"none"``, a strategy, a column, or a list of them

    Raises
    ------
    DataError
        The recording has no confounds, or not these; lists what there is.
    """
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    if names == ["none"] or not names:
        return []
    there = _confounds(recording, step)["confound"].values.tolist()
    columns: list[str] = []
    for name in names:
        if name in FAMILIES:
            pattern, most = FAMILIES[name]
            found = sorted(column for column in there if pattern.fullmatch(column))[:most]
            if not found:
                log.info("%s: no column of %s in %s", step, name, recording.attrs.get("session"))
        else:
            found = list(STRATEGIES.get(name, (name,)))
        columns += found
    lost = [column for column in columns if column not in there]
    if lost:
        raise DataError(
            f"{step}: session {recording.attrs.get('session')} has no confound {', '.join(lost)}; "
            f"strategies are none, {', '.join([*STRATEGIES, *FAMILIES])}; columns are "
            f"{', '.join(there)}"
        )
    return list(dict.fromkeys(columns))


def kept_volumes(
    recording: Recording, node: xr.Dataset, run: slice, scrub_fd_mm: float | None, step: str
) -> np.ndarray:
    """Return which volumes of a run count, (time,) bool.

    Left out are those that an earlier step left out, and those whose framewise displacement is
    above `scrub_fd_mm`.
    """
    n = run.stop - run.start
    kept = node["kept"].values[run].astype(bool) if "kept" in node else np.ones(n, bool)
    if scrub_fd_mm is not None:
        if not scrub_fd_mm > 0:
            raise DataError(f"{step}: scrub_fd_mm is {scrub_fd_mm}, expected a positive number")
        moved = _values(recording, [DISPLACEMENT], run, step)[:, 0]
        # the first volume has none to differ from
        kept = kept & ~(np.nan_to_num(moved) > scrub_fd_mm)
    return kept


def nuisance_basis(
    recording: Recording,
    node: xr.Dataset,
    run: slice,
    kept: np.ndarray,
    *,
    columns: Sequence[str],
    high_pass_hz: float,
    constant: bool,
    trend: bool,
    step: str,
) -> np.ndarray:
    """Return an orthonormal basis of drift and confounds of one run, (time, column) float64.

    Rows of volumes that do not count are 0. The cosines are those of nilearn's
    create_cosine_drift (SPM's discrete cosine set) over the whole run; the line runs over true
    time. Without constant, columns are centred, so that the mean of the signal stays.

    Raises
    ------
    DataError
        NaN in a confound, a cut-off that leaves nothing, or more columns than volumes.
    """
    from nilearn.signal import create_cosine_drift

    n = run.stop - run.start
    where = (
        f"{step}: session {recording.attrs.get('session')}, volumes {run.start} to {run.stop - 1}"
    )
    tr_s = float(node.attrs["repetition_time_s"])
    if high_pass_hz < 0 or high_pass_hz * tr_s >= 0.5:
        raise DataError(
            f"{where}: high_pass_hz is {high_pass_hz:g}, expected 0 (off) or a number below "
            f"{0.5 / tr_s:g}, half the volumes a second"
        )
    time = np.arange(n) * tr_s
    parts = [np.ones((n, 1))] if constant else []
    if trend:
        parts.append((time - time.mean())[:, None])
    if high_pass_hz and n > 1:
        parts.append(create_cosine_drift(high_pass_hz, time)[:, :-1])
    if columns:
        parts.append(_filled(_values(recording, columns, run, step), kept, columns, where))
    design = np.hstack([np.zeros((n, 0)), *parts]) * kept[:, None]
    if not constant:
        design = (design - design[kept].mean(axis=0)) * kept[:, None] if kept.any() else design
    length = np.linalg.norm(design, axis=0)
    design = design[:, length > 0] / length[length > 0]
    left, size, _ = np.linalg.svd(design, full_matrices=False)
    # rows of 0 come out of the decomposition as rounding, and a NaN times that is NaN
    basis = left[:, size > RANK * max(1.0, size.max(initial=0.0))] * kept[:, None]
    if kept.sum() <= basis.shape[1]:
        raise DataError(
            f"{where}: {int(kept.sum())} volumes count and {basis.shape[1]} columns are to be "
            "taken out, so nothing is left; choose fewer confounds, a lower high_pass_hz or a "
            "higher scrub_fd_mm"
        )
    return basis


def _confounds(recording: Recording, step: str) -> xr.Dataset:
    if "confounds" not in recording.children:
        raise DataError(
            f"{step}: session {recording.attrs.get('session')} has no node confounds; give the "
            "reader the confounds table of the pipeline, or set confounds: none"
        )
    return recording["confounds"].to_dataset()


def _values(recording: Recording, columns: Sequence[str], run: slice, step: str) -> np.ndarray:
    node = _confounds(recording, step)
    there = node["confound"].values.tolist()
    lost = [column for column in columns if column not in there]
    if lost:
        raise DataError(f"{step}: no confound {', '.join(lost)}; columns are {', '.join(there)}")
    at = [there.index(column) for column in columns]
    if node.sizes["time"] != recording["bold"].sizes["time"]:
        raise DataError(
            f"{step}: confounds have {node.sizes['time']} rows for "
            f"{recording['bold'].sizes['time']} volumes; ingest the session again"
        )
    return np.asarray(node["confound_value"].isel(time=run, confound=at).values, float)


def _filled(values: np.ndarray, kept: np.ndarray, columns: Sequence[str], where: str) -> np.ndarray:
    """Return confounds without NaN: a derivative's first row is taken from its second.

    That is nilearn's rule. A column that this run does not have is left out.
    """
    here = ~np.isnan(values).all(axis=0)
    values, names = values[:, here].copy(), [c for c, h in zip(columns, here, strict=True) if h]
    if len(values) > 1:
        values[0] = np.where(np.isnan(values[0]), values[1], values[0])
    bad = np.isnan(values) & kept[:, None]
    if bad.any():
        first = int(np.flatnonzero(bad.any(axis=0))[0])
        raise DataError(
            f"{where}: confound {names[first]} is n/a in {int(bad[:, first].sum())} volumes that "
            "count, expected numbers; choose others"
        )
    return np.where(np.isnan(values), 0.0, values)
