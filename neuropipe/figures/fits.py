"""What figures ask of a run's fits: the fold to draw, states matched to truth and across folds."""

from __future__ import annotations

import numpy as np
import xarray as xr

from neuropipe.errors import DataError
from neuropipe.matching import numbered_as, of_fitted_units, planted_states
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


def numbered_as_first_fold(results: RunResults, fold: int) -> np.ndarray:
    """Number the states of a fold as in the first."""
    first = results.parameters[results.model, model_folds(results)[0]]
    return numbered_as(first, results.parameters[results.model, fold])


def states_in_truth(results: RunResults, session: str, times: np.ndarray) -> np.ndarray | None:
    """Return the planted state at each time, or None where none was planted."""
    truth = results.truth.get(session)
    if truth is None or "state" not in truth:
        return None
    return truth["state"].sel(time=times, method="nearest").values.astype(int)


def truth_of_fitted(results: RunResults) -> tuple[xr.Dataset, np.ndarray] | None:
    """Return the planted parameters, and the planted state of each fitted state (-1: none)."""
    fold = model_folds(results)[0]
    parameters = results.parameters[results.model, fold]
    planted = next((t for t in results.truth.values() if "weight" in t), None)
    if planted is None:
        return None
    truth = of_fitted_units(planted, parameters)
    return truth, planted_states(results, fold, parameters, truth)
