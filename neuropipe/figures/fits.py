"""What figures ask of a run's fits: the fold to draw, states matched to truth and across folds."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from neuropipe.errors import DataError
from neuropipe.metrics import match_labels
from neuropipe.results import RunResults


def model_folds(results: RunResults) -> list[int]:
    """Return the folds for which the model itself was fitted, in order."""
    return [fold for fold in results.folds if (results.model, fold) in results.parameters]


def fitted(results: RunResults, *needed: str) -> xr.Dataset:
    """Return the model's parameters of the first fold: the one that single-fold figures show.

    Raises
    ------
    DataError
        The run has no fit of its model, or the fit lacks a needed variable.
    """
    folds = model_folds(results)
    if not folds:
        raise DataError(
            f"This run has no fitted {results.model}, so there is nothing to draw here."
        )
    parameters = results.parameters[results.model, folds[0]]
    missing = [name for name in needed if name not in parameters]
    if missing:
        raise DataError(
            f"The {results.model} of this run has no {', '.join(missing).replace('_', ' ')}, "
            "so there is nothing to draw here."
        )
    return parameters


def total_weight(parameters: xr.Dataset) -> tuple[xr.DataArray, xr.DataArray | None]:
    """Return weights (state, unit, source_unit) summed over the basis, and their standard errors.

    Every basis function sums to one over its lags, so the sum is the effect of a sustained spike
    a bin; errors of the basis functions are taken as independent.
    """
    weight = parameters["weight"].sum("basis", keep_attrs=True)
    if "weight_se" not in parameters:
        return weight, None
    return weight, (parameters["weight_se"] ** 2).sum("basis", skipna=False) ** 0.5


def _features(parameters: xr.Dataset) -> np.ndarray:
    blocks = [np.zeros((parameters.sizes["state"], 1))]
    for name in ("mean_rate", "weight"):
        if name in parameters:
            block = parameters[name].transpose("state", ...).values
            block = np.nan_to_num(block.reshape(len(block), -1))
            block = block - block.mean(axis=0)  # what all states share tells none apart
            blocks.append(block / ((block.std() or 1.0) * np.sqrt(block.shape[1])))
    return np.concatenate(blocks, axis=1)


def numbered_as_first_fold(results: RunResults, fold: int) -> np.ndarray:
    """Number the states of a fold as in the first: nearest in rates and weights, one to one.

    States that are left over, where folds differ in their number, get the numbers after them.
    """
    first = results.parameters[results.model, model_folds(results)[0]]
    other = results.parameters[results.model, fold]
    rows, columns = linear_sum_assignment(cdist(_features(other), _features(first)))
    labels = np.full(other.sizes["state"], -1)
    labels[rows] = columns
    spare = labels < 0
    labels[spare] = first.sizes["state"] + np.arange(spare.sum())
    return labels


def states_in_truth(results: RunResults, session: str, times: np.ndarray) -> np.ndarray | None:
    """Return the planted state at each time, or None where none was planted."""
    truth = results.truth.get(session)
    if truth is None or "state" not in truth:
        return None
    return truth["state"].sel(time=times, method="nearest").values.astype(int)


def of_fitted_units(truth: xr.Dataset, parameters: xr.Dataset) -> xr.Dataset:
    """Return planted parameters of the units that were fitted, in their order."""
    if "unit" not in truth.indexes or "unit" not in parameters.sizes:
        return truth
    ids = parameters["unit"].values
    return truth.sel(unit=ids, source_unit=ids) if np.isin(ids, truth["unit"]).all() else truth


def truth_of_fitted(results: RunResults) -> tuple[xr.Dataset, np.ndarray] | None:
    """Return the planted parameters, and the planted state of each fitted state (-1: none).

    States are matched by agreement on the held-out bins of the first fold where there are planted
    states, otherwise by the distance of the weights.
    """
    fold = model_folds(results)[0]
    parameters = results.parameters[results.model, fold]
    planted = {s: t for s, t in results.truth.items() if "weight" in t}
    if not planted:
        return None
    truth = of_fitted_units(next(iter(planted.values())), parameters)
    n_fitted, n_true = parameters.sizes["state"], truth.sizes["state"]
    labels = [
        (states_in_truth(results, session, estimate["time"].values), estimate["state"].values)
        for session in planted
        if (estimate := results.estimates.get((session, fold))) is not None
        and "state" in planted[session]
    ]
    if labels:
        true, seen = (np.concatenate(parts) for parts in zip(*labels, strict=True))
        order = match_labels(true, seen, max(n_fitted, n_true))[:n_fitted]
        return truth, np.where(order < n_true, order, -1)
    weight = total_weight(parameters)[0].values.reshape(n_fitted, -1)
    rows, columns = linear_sum_assignment(cdist(weight, truth["weight"].values.reshape(n_true, -1)))
    order = np.full(n_fitted, -1)
    order[rows] = columns
    return truth, order
