"""Latents of a run: their names, what was measured beside them, and how planted ones came out."""

from __future__ import annotations

import numpy as np
import xarray as xr

from neuropipe.results import RunResults

KINDS = ("shared", "neural", "behavior")


def latent_fits(results: RunResults) -> dict[int, xr.Dataset]:
    """Return the model's parameters by fold, in order, where they have latents."""
    return {
        fold: parameters
        for fold in results.folds
        if (parameters := results.parameters.get((results.model, fold))) is not None
        and {"length_scale", "variance_explained"} <= set(parameters.data_vars)
    }


def latent_names(labelled: xr.Dataset) -> list[str]:
    """Return a name for each latent, such as ``shared 0``: its kind, and its number within it."""
    kinds = [str(kind) for kind in labelled["kind"].values]
    return [f"{kind} {kinds[:k].count(kind)}" for k, kind in enumerate(kinds)]


def held_out_latents(results: RunResults) -> dict[str, tuple[int, xr.Dataset]]:
    """Return each session's held-out estimates of the first fold that has any, with its fold."""
    found: dict[str, tuple[int, xr.Dataset]] = {}
    for (session, fold), estimate in sorted(results.estimates.items(), key=lambda x: x[0][1]):
        if session not in found and "latent" in estimate and estimate.sizes.get("time", 0):
            found[session] = fold, estimate
    return {s: found[s] for s in results.recordings if s in found}


def column_suffixes(array: xr.DataArray) -> list[str]:
    """Return what is added to a signal's name for each of its columns along further dims."""
    out = [""]
    for dim in array.dims[1:]:
        labels = array[dim].values if dim in array.coords else range(array.sizes[dim])
        out = [f"{before}_{label}" for before in out for label in labels]
    return out


def measured_behavior(results: RunResults, session: str, estimate: xr.Dataset) -> np.ndarray:
    """Return the measured channels (time, channel) at the bins of an estimate, NaN where none."""
    channels = [str(c) for c in estimate["channel"].values]
    out = np.full((estimate.sizes["time"], len(channels)), np.nan)
    recording = results.recordings[session]
    if "behavior" not in recording.children:
        return out
    node = recording["behavior"].to_dataset()
    if "time" not in node.coords:
        return out
    at, known = _positions(node["time"].values, estimate["time"].values)
    for name, array in node.data_vars.items():
        names = [f"{name}{suffix}" for suffix in column_suffixes(array)]
        wanted = [k for k, channel in enumerate(channels) if channel in names]
        if array.dims[:1] != ("time",) or not wanted or not len(at):
            continue
        values = np.asarray(array.isel(time=at).values, dtype=float).reshape(len(at), -1)
        for k in wanted:
            out[known, k] = values[:, names.index(channels[k])]
    return out


def measured_units(results: RunResults, session: str, estimate: xr.Dataset) -> np.ndarray | None:
    """Return counts or traces (time, unit) of an estimate's units and bins, as they were recorded.

    NaN for bins that were not observed; None where the recording has no such series.
    """
    series = results.series(session)
    if series is None or "unit" not in estimate.coords:
        return None
    dim = str(series.dims[1])
    names = series[dim].values if dim in series.coords else range(series.sizes[dim])
    place = {str(name): k for k, name in enumerate(names)}
    columns = [place.get(str(unit), -1) for unit in estimate["unit"].values]
    at, known = _positions(series["time"].values, estimate["time"].values)
    if min(columns, default=-1) < 0 or not len(at):
        return None
    out = np.full((estimate.sizes["time"], len(columns)), np.nan)
    out[known] = series.isel({"time": at, dim: columns}).values
    node = results.recordings[session][series.attrs["node"]].to_dataset()
    if "observed" in node:
        off = np.flatnonzero(known)[~node["observed"].values[at]]
        out[off] = np.nan
    return out


def _positions(clock: np.ndarray, time: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return positions on a clock of the times that are on it, and which those are."""
    if not len(clock):
        return np.zeros(0, int), np.zeros(len(time), bool)
    step = float(np.median(np.diff(clock))) if len(clock) > 1 else 1.0
    right = np.clip(np.searchsorted(clock, time), 1, max(len(clock) - 1, 1))
    left = np.maximum(right - 1, 0)
    right = np.minimum(right, len(clock) - 1)
    nearest = np.where(time - clock[left] <= clock[right] - time, left, right)
    known = np.abs(clock[nearest] - time) < 0.25 * step
    return nearest[known], known


def planted_latents(
    results: RunResults, session: str, time: np.ndarray
) -> tuple[np.ndarray, list[str]] | None:
    """Return planted latents (time, latent) and their kinds, None where none were planted."""
    truth = results.truth.get(session)
    if truth is None or "latent" not in truth or "time" not in truth["latent"].dims:
        return None
    planted = truth["latent"].transpose("time", "latent")
    at, known = _positions(truth["time"].values, time)
    if not known.all():
        return None
    kinds = truth["kind"].values if "kind" in truth.coords else [""] * planted.sizes["latent"]
    return planted.values[at].astype(float), [str(kind) for kind in kinds]


def halves(window: np.ndarray) -> np.ndarray:
    """Return which bins lie in every other window, (time,) bool; of one window its first half."""
    numbers = np.unique(window, return_inverse=True)[1].ravel()
    if numbers.max(initial=0) == 0:
        return np.arange(len(window)) < len(window) // 2
    return np.asarray(numbers % 2 == 0)


def recovered_r2(
    latent: np.ndarray, planted: np.ndarray, first: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return how well planted latents are told by fitted ones.

    Parameters
    ----------
    latent : (time, latent)
        Of held-out bins.
    planted : (time, planted)
    first : (time,) bool
        A half of the bins: the affine map from fitted to planted is fitted on one half and judged
        on the other, both ways, since fits leave no latents of training bins behind.

    Returns
    -------
    span : (planted,)
        R2 from all latents together.
    single : (planted,)
        R2 from the one latent that tells it best in the half where the map is fitted.
    match : (planted,), integer
        That latent, over all bins; -1 where there is none.
    """
    n_planted = planted.shape[1]
    span, single = np.full((2, 2, n_planted), np.nan)
    for row, fit in enumerate((first, ~first)):
        if min(fit.sum(), (~fit).sum()) <= latent.shape[1] + 1:
            continue
        span[row] = _r2(latent, planted, fit)
        for k in range(n_planted):
            best = int(np.argmax(_correlation(latent[fit], planted[fit, k])))
            single[row, k] = _r2(latent[:, [best]], planted[:, [k]], fit)[0]
    match = [
        int(np.argmax(_correlation(latent, planted[:, k]))) if latent.shape[1] else -1
        for k in range(n_planted)
    ]
    return span.mean(0), single.mean(0), np.array(match, dtype=int)


def _correlation(latent: np.ndarray, planted: np.ndarray) -> np.ndarray:
    """Return the absolute correlation of each latent (time, latent) with a planted one (time,)."""
    a, b = latent - latent.mean(0), planted - planted.mean()
    length = np.sqrt((a**2).sum(0) * (b**2).sum())
    return np.abs(a.T @ b) / np.where(length > 0, length, 1)


def _r2(latent: np.ndarray, planted: np.ndarray, fit: np.ndarray) -> np.ndarray:
    """Return R2 on the bins outside of `fit`, about their mean, of an affine map fitted in it."""
    design = np.column_stack([latent, np.ones(len(latent))])
    weight = np.linalg.lstsq(design[fit], planted[fit], rcond=None)[0]
    judged = planted[~fit]
    error = ((judged - design[~fit] @ weight) ** 2).sum(0)
    total = ((judged - judged.mean(0)) ** 2).sum(0)
    return np.asarray(1 - error / np.where(total > 0, total, np.nan))
