"""What tables ask of a run's fits: the model's own, and total weights."""

from __future__ import annotations

import numpy as np
import xarray as xr

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
