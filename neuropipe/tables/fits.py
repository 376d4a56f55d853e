"""What tables ask of a run's fits: total weights, and states matched across folds and to truth."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from neuropipe.metrics import match_labels
from neuropipe.results import RunResults

EDGE = ("state", "unit", "source_unit")


def model_fits(results: RunResults) -> dict[int, xr.Dataset]:
    """Return the model's parameters by fold, in order, where they have states."""
    return {
        fold: parameters
        for fold in results.folds
        if (parameters := results.parameters.get((results.model, fold))) is not None
        and "state" in parameters.sizes
    }


def total_weight(parameters: xr.Dataset) -> np.ndarray:
    """Return weights (state, unit, source_unit), summed over history functions of unit sum."""
    return parameters["weight"].sum("basis").transpose(*EDGE).values


def numbered_as(first: xr.Dataset, other: xr.Dataset) -> np.ndarray:
    """Number the states of `other` as in `first`: nearest in rates and weights, one to one.

    States of `other` that are left over get the numbers after those of `first`.
    """
    rows, columns = linear_sum_assignment(cdist(_features(other), _features(first)))
    labels = np.full(other.sizes["state"], -1)
    labels[rows] = columns
    spare = labels < 0
    labels[spare] = first.sizes["state"] + np.arange(spare.sum())
    return labels


def _features(parameters: xr.Dataset) -> np.ndarray:
    blocks = [np.zeros((parameters.sizes["state"], 1))]
    for name in ("mean_rate", "weight"):
        if name in parameters:
            block = parameters[name].transpose("state", ...).values
            block = np.nan_to_num(block.reshape(len(block), -1))
            block = block - block.mean(axis=0)  # what all states share tells none apart
            blocks.append(block / ((block.std() or 1.0) * np.sqrt(block.shape[1])))
    return np.concatenate(blocks, axis=1)


def paths(results: RunResults, fold: int) -> tuple[np.ndarray, np.ndarray]:
    """Return planted and decoded states of all held-out bins of a fold, sessions joined."""
    true, seen = [np.empty(0, int)], [np.empty(0, int)]
    for session, truth in results.truth.items():
        estimate = results.estimates.get((session, fold))
        if estimate is not None and "state" in truth:
            at = truth["state"].sel(time=estimate["time"].values, method="nearest")
            true.append(at.values.astype(int))
            seen.append(estimate["state"].values.astype(int))
    return np.concatenate(true), np.concatenate(seen)


def of_fitted_units(truth: xr.Dataset, parameters: xr.Dataset) -> xr.Dataset:
    """Return planted parameters of the units that were fitted, in their order."""
    if "unit" not in truth.indexes or "unit" not in parameters.sizes:
        return truth
    ids = parameters["unit"].values
    return truth.sel(unit=ids, source_unit=ids) if np.isin(ids, truth["unit"]).all() else truth


def planted_states(
    results: RunResults, fold: int, parameters: xr.Dataset, truth: xr.Dataset
) -> np.ndarray:
    """Return the planted state of each fitted state, -1 where there is none.

    Matched by agreement on the held-out bins, or, without planted states, by rates and weights.
    """
    n_fitted, n_true = parameters.sizes["state"], truth.sizes["state"]
    true, seen = paths(results, fold)
    if not len(true):
        order = numbered_as(truth[["weight"]], parameters[["weight"]].sum("basis"))
    else:
        order = match_labels(true, seen, max(n_fitted, n_true))[:n_fitted]
    return np.where(order < n_true, order, -1)
