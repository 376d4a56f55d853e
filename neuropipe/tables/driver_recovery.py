"""How well planted drives were found again."""

from __future__ import annotations

import numpy as np
import pandas as pd

from neuropipe.components import area_under_curve
from neuropipe.matching import edge_estimates, planted_edges
from neuropipe.results import RunResults

COLUMNS = (
    "fold",
    "estimator",
    "method",
    "auc",
    "precision",
    "mean_of_planted",
    "mean_of_others",
    "correlation",
    "n_edges",
    "n_pairs",
)


def table(results: RunResults) -> pd.DataFrame:
    """Recovery of planted directed edges by every estimator that says who drives whom, by fold, in
    simulated sessions only: the chance that a planted excitatory edge has a larger value than
    another pair (AUC; one half is chance, 1 is perfect), the share of planted edges among as many
    largest pairs (precision), the mean of both kinds, and the correlation with the planted
    weights. The diagonal is left out.

    Parameters
    ----------
    results : RunResults
        `parameters` with matrices (unit, source_unit); `truth` with ``weight``.
    """
    rows = []
    for fold in results.folds:
        for (estimator, method), matrix in edge_estimates(results, fold).items():
            truth = planted_edges(results, matrix)
            if truth is None:
                continue
            pair = ~np.eye(len(truth), dtype=bool) & np.isfinite(matrix.values)
            value, planted = matrix.values[pair], truth[pair]
            edge = planted > 0
            n = int(edge.sum())
            if n in (0, len(edge)):
                continue
            top = np.argsort(-value, kind="stable")[:n]
            vary = value.std() > 0
            rows.append(
                {
                    "fold": fold,
                    "estimator": estimator,
                    "method": method,
                    "auc": area_under_curve(value, edge),
                    "precision": float(edge[top].mean()),
                    "mean_of_planted": float(value[edge].mean()),
                    "mean_of_others": float(value[~edge].mean()),
                    "correlation": float(np.corrcoef(value, planted)[0, 1]) if vary else np.nan,
                    "n_edges": n,
                    "n_pairs": len(edge),
                }
            )
    return pd.DataFrame(rows, columns=list(COLUMNS))
