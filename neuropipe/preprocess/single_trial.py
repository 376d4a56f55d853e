"""One response amplitude a trial and voxel, from a general linear model within each run."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

import dask.array as da
import numpy as np
import xarray as xr

from neuropipe.errors import DataError
from neuropipe.preprocess import trial_designs as designs
from neuropipe.preprocess.nuisance import confound_columns, kept_volumes, nuisance_basis
from neuropipe.preprocess.signals import node_dataset, second_pass
from neuropipe.preprocess.tables import interval_table
from neuropipe.preprocess.weighted_sums import percent_of, weighted_sums
from neuropipe.runs import run_slices
from neuropipe.schema import Recording

log = logging.getLogger(__name__)

# Shares of the regressors' squared length that ridge="gcv" chooses among.
ALPHAS = (0.0, *(float(alpha) for alpha in np.logspace(-3, 2, 11)))
# A trial whose regressor is below this share of the longest left no trace in its run.
NO_TRACE = 1e-3


@dataclass(frozen=True)
class Design:
    """One run: drift and confounds, and what they leave of its trials' regressors, by response."""

    kept: np.ndarray
    basis: np.ndarray
    rows: np.ndarray
    regressors: list[np.ndarray]
    extra: list[np.ndarray]
    groups: list[str]


def single_trial(
    recording: Recording,
    *,
    table: str = "events",
    where: dict[str, list[str | float]] | None = None,
    also_model: dict[str, list[str | float]] | None = None,
    condition: str = "trial_type",
    method: Literal["lss", "lsa"] = "lss",
    others: Literal["by_condition", "together"] = "by_condition",
    hrf: Literal["spm", "glover", "library"] = "spm",
    ridge: float | Literal["gcv"] | list[float] = 0.0,
    duration_s: float | None = None,
    confounds: str | list[str] = "none",
    high_pass_hz: float = 0.008,
    scrub_fd_mm: float | None = None,
    percent_signal: bool = True,
) -> Recording:
    """Write node `betas`: the amplitude of each trial's response in each voxel.

    Parameters
    ----------
    recording : DataTree
        With node `bold` and the table.
    table : str
        Of the trials: ``"events"`` for node ``intervals/events``, or ``"trials"``.
    where : mapping of column to values, optional
        Which rows get an amplitude; by default all.
    also_model : mapping of column to values, optional
        Rows that get none but are in the model, one regressor a condition (button presses, cues).
    condition : str
        Column of the conditions; where the table lacks it, all trials are of one.
    method : str
        ``lss``: a model for each trial, with the other trials in few regressors; ``lsa``: one
        model with a regressor for each trial.
    others : str
        For ``lss``: the other trials in one regressor ``by_condition``, or ``together`` in one. The
        former uses the trials' labels: features that were cleaned by label must not be made from
        runs that a decoder is tested on. The latter sees none.
    hrf : str
        ``spm`` or ``glover`` of nilearn, or ``library``: for each voxel and run the one of 16
        double gammas that explains most of the signal.
    ridge : float, ``"gcv"`` or list of float
        For ``lsa``: shrinkage, a share of the mean squared length of the regressors; of a list, or
        of the default one, each voxel takes that of the least generalised cross-validation error
        in each run.
    duration_s : float, optional
        Of every event, instead of the table's.
    confounds, high_pass_hz, scrub_fd_mm
        As in `clean_bold`; they are in the model, beside a constant.
    percent_signal : bool
        Amplitudes in percent of the voxel's mean over its run; else in the units of the signal. A
        signal that is in percent already stays as it is.

    Raises
    ------
    DataError
        No such table, column or confound; an event without duration; no trial left.

    Notes
    -----
    Lazy. An amplitude is a linear map of its own run's volumes, summed block by block, so memory
    does not grow with a run; `hrf="library"` reads the signal twice. Nothing crosses from one run
    to the next. Response, shrinkage and LSS's other trials are chosen within the run that a trial
    stands in: split by run where a decoder is tested. The library's choice fits one regressor of
    all trials together, so it sees when trials were, but none of their labels; it is in the
    spirit of, not equal to, GLMsingle (Prince et al. 2022, eLife 11:e77599). Amplitudes belong to
    a response that sums to 1, as nilearn's. Trials that end before the run or begin near its end,
    without a trace in it, are left out with a warning.

    Source: Rissman et al. 2004 (LSA); Mumford et al. 2012 (LSS); Golub, Heath, Wahba 1979 (GCV).
    """
    node = node_dataset(recording, "bold", "single_trial")
    alphas = _alphas(ridge)
    if method == "lss" and alphas != (0.0,):
        raise DataError("single_trial: ridge is for method lsa; LSS models each trial alone")
    events = interval_table(recording, table, "single_trial")
    dim = str(events["start_time"].dims[0])
    columns = confound_columns(recording, confounds, "single_trial")
    wanted = _rows(events, where, "where")
    background = _rows(events, also_model, "also_model") & ~wanted & bool(also_model)
    values = da.asarray(node["bold"].data)
    betas, rows, voxel_hrf, voxel_alpha = [], [], [], []
    percent = percent_signal and node["bold"].attrs["units"] != "%"
    for run in run_slices(recording, "bold"):
        mine = _of_run(recording, events, run, node)
        if not (mine & wanted).any():
            continue
        kept = kept_volumes(recording, node, run, scrub_fd_mm, "single_trial")
        basis = nuisance_basis(
            recording, node, run, kept, columns=columns, high_pass_hz=high_pass_hz,
            constant=True, trend=False, step="single_trial",
        )  # fmt: skip
        design = _design(
            node, events, run, kept, basis, np.flatnonzero(mine & wanted),
            np.flatnonzero(mine & background), condition, hrf, duration_s,
        )  # fmt: skip
        if not len(design.rows):
            continue
        found, response, alpha = _estimated(
            values[run], design, method, others == "together", alphas, percent
        )
        betas.append(found)
        rows.append(design.rows)
        voxel_hrf.append(response)
        voxel_alpha.append(alpha)
    if not betas:
        raise DataError(
            f"single_trial: session {recording.attrs.get('session')}: none of {int(wanted.sum())} "
            f"chosen rows of {table!r} lies in a run of bold; check where and the table's times"
        )
    order = np.concatenate(rows)
    attrs = {"units": "%" if percent else node["bold"].attrs["units"]}
    trials = events.isel({dim: order}).reset_coords()
    trials = trials.rename({dim: "trial"}) if dim != "trial" else trials
    out = trials.assign(beta=(("trial", "voxel"), da.concatenate(betas), attrs))
    if hrf == "library":
        out["hrf_index"] = (("run", "voxel"), da.stack(voxel_hrf), {"units": "1"})
        out.attrs["hrf_library"] = [list(shape) for shape in designs.LIBRARY]
    if len(alphas) > 1:
        out["ridge_alpha"] = (("run", "voxel"), da.stack(voxel_alpha), {"units": "1"})
    out = out.assign_coords({axis: node[axis].variable for axis in "ijkxyz" if axis in node})
    placed = {n: node.attrs[n] for n in ("affine", "grid_shape", "space") if n in node.attrs}
    out.attrs = {**out.attrs, **placed, "method": method, "hrf": hrf}
    whole = recording.copy()
    whole["betas"] = xr.DataTree(out)
    return whole


def _alphas(ridge: float | str | list[float]) -> tuple[float, ...]:
    if isinstance(ridge, str):
        return ALPHAS
    given = tuple(float(alpha) for alpha in (ridge if isinstance(ridge, list) else [ridge]))
    if not given or not all(0 <= alpha < np.inf for alpha in given):
        raise DataError(f"single_trial: ridge is {ridge!r}, expected numbers of 0 or more")
    return given


def _rows(events: xr.Dataset, where: dict | None, name: str) -> np.ndarray:
    kept = np.ones(events["start_time"].size, dtype=bool)
    for column, values in (where or {}).items():
        if column not in events:
            raise DataError(
                f"single_trial: {name}: no column {column!r}; the table has "
                f"{', '.join(map(str, events.data_vars))}"
            )
        there = set(events[column].values.tolist())
        lost = [value for value in values if value not in there]
        if lost:
            raise DataError(
                f"single_trial: {name}: no row has {column} {lost[0]!r}; it has "
                f"{', '.join(map(str, sorted(there, key=str)[:20]))}"
            )
        kept &= np.isin(events[column].values, np.array(values, events[column].dtype))
    return kept


def _of_run(recording: Recording, events: xr.Dataset, run: slice, node: xr.Dataset) -> np.ndarray:
    """Return which rows belong to a run: by the run's label, else by their start."""
    start = events["start_time"].values
    if "runs" not in recording.children:
        return np.isfinite(start)
    runs = recording["runs"].to_dataset()
    time = float(node["time"].values[run.start])
    at = int(np.searchsorted(runs["start_time"].values, time, side="right")) - 1
    labels = runs["run_label"].values.tolist()
    if "run_label" in events and len(set(labels)) == len(labels):
        return (events["run_label"].values == labels[at]) & np.isfinite(start)
    return (start >= runs["start_time"].values[at]) & (start < runs["stop_time"].values[at])


def _design(
    node: xr.Dataset, events: xr.Dataset, run: slice, kept: np.ndarray, basis: np.ndarray,
    rows: np.ndarray, background: np.ndarray, condition: str, hrf: str, duration_s: float | None,
) -> Design:  # fmt: skip
    time = node["time"].values[run]
    # the middle of a volume, where slice times were corrected to it
    zero = time[0] + float(node.attrs.get("reference_time_s", 0.0))
    frame = time - time[0]
    onset = events["start_time"].values - zero
    length = (
        events["stop_time"].values - events["start_time"].values
        if duration_s is None
        else np.full(onset.shape, float(duration_s))
    )
    used = np.concatenate([rows, background])
    if not np.isfinite(length[used]).all() or (length[used] < 0).any():
        raise DataError(
            f"single_trial: {int((~np.isfinite(length[used])).sum())} events have no duration; "
            "give duration_s (0 for impulses)"
        )
    known = condition in events
    text = [str(v) for v in events[condition].values] if known else [""] * len(onset)
    kinds = [text[row] for row in background]
    regressors, extra = [], []
    for response in designs.responses(hrf):
        own = designs.trial_regressors(onset[rows], length[rows], frame, response)
        rest = designs.trial_regressors(onset[background], length[background], frame, response)
        summed = [rest[:, np.array(kinds) == kind].sum(axis=1) for kind in dict.fromkeys(kinds)]
        regressors.append(designs.residual(own, basis, kept))
        extra.append(designs.residual(np.array(summed).reshape(-1, len(frame)).T, basis, kept))
    reach = np.linalg.norm(regressors[0], axis=0)
    seen = reach > NO_TRACE * reach.max(initial=0.0)
    if not seen.all():
        log.warning(
            "single_trial: %d of %d trials left no trace in volumes %d to %d and are left out",
            (~seen).sum(), len(seen), run.start, run.stop - 1,
        )  # fmt: skip
    return Design(
        kept, basis, rows[seen], [own[:, seen] for own in regressors], extra,
        [text[row] for row in rows[seen]],
    )  # fmt: skip


def _estimated(
    values: da.Array, design: Design, method: str, together: bool, alphas: tuple[float, ...],
    percent: bool,
) -> tuple[da.Array, da.Array | None, da.Array | None]:  # fmt: skip
    """Return amplitudes (trial, voxel), and per voxel the response and the shrinkage chosen."""
    mean = design.kept / design.kept.sum()
    choice = None
    if len(design.regressors) > 1:
        shapes = np.stack(
            [
                designs.unit(own.sum(axis=1), rest)
                for own, rest in zip(design.regressors, design.extra, strict=True)
            ],
            axis=1,
        )
        explained = weighted_sums(values, shapes * design.kept[:, None])
        choice = da.map_blocks(_strongest, explained, drop_axis=0, dtype=np.int16)
        values = second_pass(values, choice)
    groups = [""] * len(design.groups) if together else design.groups
    if len(alphas) > 1:
        plan = designs.ridge_plan(design.regressors, design.extra, design.basis)
        weights = np.stack([np.column_stack([part, mean]) for part in plan.weights])
        sums = weighted_sums(values, weights * design.kept[:, None], choice, squares=True)
        chosen = () if choice is None else (choice, "v")
        both = da.blockwise(
            _ridged, "nv", sums, "sv", *chosen, plan=plan, alphas=alphas, percent=percent,
            n_volumes=int(design.kept.sum()), new_axes={"n": len(design.rows) + 1},
            concatenate=True, dtype=np.float32, meta=np.empty((0, 0), np.float32),
        )  # fmt: skip
        return both[:-1], choice, both[-1]
    weights = np.stack(
        [
            np.column_stack(
                [
                    (
                        designs.separate_map(own, groups, rest)
                        if method == "lss"
                        else designs.all_map(own, rest, alphas[0])
                    ).T,
                    mean,
                ]
            )
            for own, rest in zip(design.regressors, design.extra, strict=True)
        ]
    )
    sums = weighted_sums(values, weights * design.kept[:, None], choice)
    chunks = ((len(design.rows),), sums.chunks[1])
    found = da.map_blocks(_amplitudes, sums, chunks=chunks, dtype=np.float32, percent=percent)
    return found, choice, None


def _strongest(explained: np.ndarray) -> np.ndarray:
    return np.argmax(np.nan_to_num(explained**2), axis=0).astype(np.int16)


def _amplitudes(sums: np.ndarray, percent: bool) -> np.ndarray:
    """Return amplitudes from sums whose last row is the mean; NaN in percent of nothing."""
    return (sums[:-1] * (percent_of(sums[-1]) if percent else 1.0)).astype(np.float32)


def _ridged(
    sums: np.ndarray, choice: np.ndarray | None = None, *, plan: designs.RidgePlan,
    alphas: tuple[float, ...], percent: bool, n_volumes: int,
) -> np.ndarray:  # fmt: skip
    found, alpha = designs.by_least_error(sums, choice, plan, alphas, n_volumes)
    scaled = _amplitudes(np.vstack([found, sums[-2]]), percent)
    return np.vstack([scaled, alpha[None].astype(np.float32)])
