"""Which fitted state is which: from fold to fold, and against planted truth."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from neuropipe.metrics import match_labels
from neuropipe.results import RunResults


def numbered_as(first: xr.Dataset, other: xr.Dataset) -> np.ndarray:
    """Number the states of one fit as in another: nearest in rates and weights, one to one.

    Parameters
    ----------
    first, other : Dataset
        Parameters with ``mean_rate (state, unit)`` or ``weight (state, unit, source_unit, ...)``;
        only the units that both have are compared.

    Returns
    -------
    (state of `other`,), integer
        States that are left over get the numbers after those of `first`.
    """
    first, other = _shared_units(first, other)
    rows, columns = linear_sum_assignment(cdist(_features(other), _features(first)))
    labels = np.full(other.sizes["state"], -1)
    labels[rows] = columns
    spare = labels < 0
    labels[spare] = first.sizes["state"] + np.arange(spare.sum())
    return labels


def of_fitted_units(truth: xr.Dataset, parameters: xr.Dataset) -> xr.Dataset:
    """Return planted parameters of the units that were fitted, in their order."""
    if "unit" not in truth.indexes or "unit" not in parameters.sizes:
        return truth
    ids = parameters["unit"].values
    return truth.sel(unit=ids, source_unit=ids) if np.isin(ids, truth["unit"]).all() else truth


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


def planted_states(
    results: RunResults, fold: int, parameters: xr.Dataset, truth: xr.Dataset
) -> np.ndarray:
    """Return the planted state of each fitted state, -1 where there is none.

    Matched by agreement on the held-out bins, or, without planted states, by the weights.
    """
    n_fitted, n_true = parameters.sizes["state"], truth.sizes["state"]
    true, seen = paths(results, fold)
    if len(true):
        order = match_labels(true, seen, max(n_fitted, n_true))[:n_fitted]
    else:
        order = numbered_as(truth[["weight"]], parameters[["weight"]].sum("basis"))
    return np.where(order < n_true, order, -1)


def _shared_units(first: xr.Dataset, other: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset]:
    if "unit" not in first.indexes or "unit" not in other.indexes:
        return first, other
    shared = np.intersect1d(first["unit"].values, other["unit"].values)

    def only(dataset: xr.Dataset) -> xr.Dataset:
        dims = [d for d in ("unit", "source_unit") if d in dataset.indexes]
        return dataset.sel(dict.fromkeys(dims, shared))

    return only(first), only(other)


def _features(parameters: xr.Dataset) -> np.ndarray:
    blocks = [np.zeros((parameters.sizes["state"], 1))]
    for name in ("mean_rate", "weight"):
        if name in parameters:
            block = parameters[name].transpose("state", ...).values
            block = np.nan_to_num(block.reshape(len(block), -1))
            block = block - block.mean(axis=0)  # what all states share tells none apart
            blocks.append(block / ((block.std() or 1.0) * np.sqrt(max(block.shape[1], 1))))
    return np.concatenate(blocks, axis=1)


PAIRS = ("unit", "source_unit")
CONNECTIVITY = {
    "connectivity": "connectivity",
    "attention_connectivity": "attention",
    "perturbation_connectivity": "perturbation",
    "weight": "weights",
}


def edge_estimates(results: RunResults, fold: int) -> dict[tuple[str, str], xr.DataArray]:
    """Return every matrix (unit, source_unit) that says who drives whom, of one fold.

    Returns
    -------
    dict
        By estimator, the model first, and method. Weights over a history basis are summed.
    """
    out = {}
    fits = {name: p for (name, number), p in results.parameters.items() if number == fold}
    for name in sorted(fits, key=lambda n: (n != results.model, n)):
        for variable, method in CONNECTIVITY.items():
            if variable not in fits[name]:
                continue
            matrix = fits[name][variable]
            matrix = matrix.sum("basis", skipna=False) if "basis" in matrix.dims else matrix
            if set(matrix.dims) == set(PAIRS) and matrix.size:
                out[name, method] = matrix.transpose(*PAIRS)
    return out


def planted_edges(results: RunResults, matrix: xr.DataArray) -> np.ndarray | None:
    """Return the planted weights (unit, source_unit) of a matrix's units; None without any."""
    for truth in results.truth.values():
        if "weight" not in truth or set(truth["weight"].dims) != set(PAIRS):
            continue
        weight = truth["weight"].transpose(*PAIRS)
        known = set(weight["unit"].values.tolist())
        if known >= set(matrix["unit"].values.tolist()):
            return weight.sel(unit=matrix["unit"], source_unit=matrix["source_unit"]).values
    return None
