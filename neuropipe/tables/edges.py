"""Every connection of every state."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control, norm

from neuropipe.results import RunResults
from neuropipe.tables.fits import EDGE, model_fits

CATEGORIES = ("inhibitory", "none", "excitatory")
COLUMNS = (
    "fold",
    "state",
    "unit",
    "source_unit",
    "basis",
    "weight",
    "weight_se",
    "p_value",
    "q_value",
    *(f"{category}_probability" for category in CATEGORIES),
)


def table(results: RunResults) -> pd.DataFrame:
    """Interaction weights of the first fold with standard errors, strongest evidence first. The
    two-sided p-value is Wald's (weight over standard error, normal); the q-value controls the
    false discovery rate over all rows of this table (Benjamini and Hochberg 1995): of the rows
    with q below 0.05, 5% are expected to be no connection. Edge probabilities are the model's
    own, where it has them; weights and errors are then the mean and the standard deviation of a
    posterior, so judge a connection by its probabilities and take q as a rough guide. The weight
    is from source unit to unit and has no dimension.

    Parameters
    ----------
    results : RunResults
        `parameters` with ``weight (state, unit, source_unit, basis)`` and ``weight_se``.
    """
    fits = {fold: p for fold, p in model_fits(results).items() if "weight" in p}
    if not fits:
        return pd.DataFrame(columns=list(COLUMNS))
    fold, parameters = next(iter(fits.items()))
    dims = (*EDGE, "basis")
    weight = parameters["weight"].transpose(*dims).values
    error = np.full(weight.shape, np.nan)
    if "weight_se" in parameters:
        error = parameters["weight_se"].transpose(*dims).values
    index = np.indices(weight.shape).reshape(4, -1)
    columns = {
        "fold": fold,
        "state": index[0],
        "unit": parameters["unit"].values[index[1]],
        "source_unit": parameters["source_unit"].values[index[2]],
        "basis": index[3],
        "weight": weight.ravel(),
        "weight_se": error.ravel(),
    }
    columns["p_value"], columns["q_value"] = _wald(weight.ravel(), error.ravel())
    if "edge_probability" in parameters:
        names = [str(name) for name in parameters["category"].values]
        probability = parameters["edge_probability"].transpose(*EDGE, "category").values
        for category in CATEGORIES:
            columns[f"{category}_probability"] = probability[..., names.index(category)][
                tuple(index[:3])
            ]
    rows = pd.DataFrame(columns, columns=list(COLUMNS))
    strength = rows["weight"].abs()
    order = np.lexsort((-strength, rows["p_value"]))  # NaN last
    return rows.iloc[order].reset_index(drop=True)


def _wald(weight: np.ndarray, error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return two-sided p-values and their Benjamini-Hochberg q-values; NaN without an error."""
    with np.errstate(divide="ignore", invalid="ignore"):
        p_value = 2 * norm.sf(np.abs(weight) / np.where(error > 0, error, np.nan))
    q_value = np.full(p_value.shape, np.nan)
    tested = np.isfinite(p_value)
    if tested.any():
        q_value[tested] = false_discovery_control(p_value[tested])
    return p_value, q_value
