"""How well planted truth was found again."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from neuropipe.matching import of_fitted_units, paths, planted_states
from neuropipe.results import RunResults
from neuropipe.tables.fits import EDGE, model_fits, total_weight

CATEGORIES = ("inhibitory", "none", "excitatory")
COLUMNS = (
    "fold",
    "state_accuracy",
    "weight_correlation",
    "weight_rmse",
    "adjacency_accuracy",
    "all_none_share",
    "oracle_gap_nats_per_bin",
)


def table(results: RunResults) -> pd.DataFrame:
    """Recovery of planted truth by fold, in simulated sessions only, after matching the states:
    share of held-out bins whose state is right, correlation and root mean square error of the
    weights, share of connections whose category (inhibitory, none, excitatory) is right beside
    the share that calling every connection none would reach, and the held-out log-likelihood that
    separates the model from the planted parameters. A connection's category is the most probable
    one or, without edge probabilities, the sign of a weight larger than twice its standard error.

    Parameters
    ----------
    results : RunResults
        `truth` with any of ``state``, ``weight``, ``adjacency``, and ``oracle_log_likelihood
        (trial)``, nats, with ``trial_start_time`` and ``trial_bins`` beside it.
    """
    planted = next((t for t in results.truth.values() if "weight" in t), None)
    rows = []
    for fold, parameters in model_fits(results).items() if results.truth else ():
        row = {"fold": fold, "oracle_gap_nats_per_bin": _oracle_gap(results, fold)}
        order = None
        if planted is not None and "weight" in parameters:
            truth = of_fitted_units(planted, parameters)
            order = planted_states(results, fold, parameters, truth)
            row |= _weights(parameters, truth, order)
        true, seen = paths(results, fold)
        if order is not None and len(true):
            row["state_accuracy"] = float(np.mean(order[seen] == true))
        rows.append(row)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _weights(parameters: xr.Dataset, truth: xr.Dataset, order: np.ndarray) -> dict[str, float]:
    known = order >= 0
    found = total_weight(parameters)[known]
    planted = truth["weight"].transpose(*EDGE).values[order[known]]
    row = {"weight_rmse": float(np.sqrt(np.mean((found - planted) ** 2)))}
    if found.std() > 0 and planted.std() > 0:
        row["weight_correlation"] = float(np.corrcoef(found.ravel(), planted.ravel())[0, 1])
    if "adjacency" in truth:
        adjacency = truth["adjacency"].transpose(*EDGE).values[order[known]]
        row["adjacency_accuracy"] = float(np.mean(_categories(parameters)[known] == adjacency))
        row["all_none_share"] = float(np.mean(adjacency == 0))
    return row


def _categories(parameters: xr.Dataset) -> np.ndarray:
    """Return -1, 0 or 1 for each connection (state, unit, source_unit)."""
    if "edge_probability" in parameters:
        probability = parameters["edge_probability"].transpose(*EDGE, "category").values
        signs = [CATEGORIES.index(str(name)) - 1 for name in parameters["category"].values]
        return np.array(signs)[probability.argmax(axis=-1)]
    weight = total_weight(parameters)
    error = np.zeros_like(weight)
    if "weight_se" in parameters:
        variance = (parameters["weight_se"] ** 2).sum("basis", skipna=False)
        error = np.sqrt(variance.transpose(*EDGE).values)
    return np.where(np.abs(weight) >= 2 * error, np.sign(weight), 0).astype(int)


def _oracle_gap(results: RunResults, fold: int) -> float:
    """Return how far the model's held-out likelihood lies below that of the planted parameters."""
    own = results.scores[
        (results.scores["estimator"] == results.model)
        & (results.scores["metric"] == "log_likelihood_per_bin")
        & (results.scores["fold"] == fold)
    ].set_index("session")["value"]
    gaps = []
    for session, truth in results.truth.items():
        held = results.splits["folds"][fold]["test"].get(session, [])
        if "oracle_log_likelihood" not in truth or session not in own.index or not held:
            continue
        start = truth["trial_start_time"].values
        inside = np.zeros(len(start), dtype=bool)
        for a, b in held:
            inside |= (start >= a - 1e-9) & (start < b - 1e-9)
        if inside.any():
            bins = truth["trial_bins"].values[inside].sum()
            oracle = float(truth["oracle_log_likelihood"].values[inside].sum()) / bins
            gaps.append(oracle - float(own[session]))
    return float(np.mean(gaps)) if gaps else float("nan")
