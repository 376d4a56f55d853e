"""Held-out scores."""

from __future__ import annotations

import numpy as np
import pandas as pd

from neuropipe.metrics import CHANCE, LESS_IS_BETTER, bootstrap_interval
from neuropipe.results import RunResults

COLUMNS = (
    "metric",
    "units",
    "estimator",
    "role",
    "mean",
    "ci_low",
    "ci_high",
    "n",
    "folds",
    "sessions",
    "model_minus_estimator",
    "difference_ci_low",
    "difference_ci_high",
    "n_pairs",
)


def table(results: RunResults) -> pd.DataFrame:
    """Held-out scores of the model and its baselines: mean over sessions and folds with its 95%
    percentile bootstrap interval (n scores), and the paired difference, model minus estimator, on
    the sessions and folds that both scored. The baseline with the best mean is called so,
    the lowest one where less is better, and none where the score is a level of chance. Intervals
    take sessions and folds as exchangeable; folds of one session share training data.

    Parameters
    ----------
    results : RunResults
        `scores`, long. Scores that are not finite are left out and lower `n`.

    Returns
    -------
    DataFrame
        A row an estimator and metric; values are in the row's own ``units``.
    """
    scores = results.scores[np.isfinite(results.scores["value"].astype(float))]
    rows = []
    for metric in dict.fromkeys(scores["metric"]):
        part = scores[scores["metric"] == metric]
        values = part.pivot_table(index=["session", "fold"], columns="estimator", values="value")
        means = values.mean().sort_values(ascending=metric in LESS_IS_BETTER, kind="stable")
        baselines = [name for name in means.index if name != results.model]
        for name in means.index:
            own = values[name].dropna()
            rows.append(
                {
                    "metric": metric,
                    "units": part["units"].iloc[0],
                    "estimator": name,
                    "role": _role(name, results.model, [] if metric in CHANCE else baselines),
                    "mean": own.mean(),
                    **_interval(own, results.seed, "ci_low", "ci_high"),
                    "n": len(own),
                    "folds": own.index.get_level_values("fold").nunique(),
                    "sessions": own.index.get_level_values("session").nunique(),
                    **_difference(values, name, results),
                }
            )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _role(name: str, model: str, baselines: list[str]) -> str:
    if name == model:
        return "model"
    return "best baseline" if name in baselines[:1] else "baseline"


def _interval(values: pd.Series, seed: int, low: str, high: str) -> dict[str, float]:
    return dict(zip((low, high), bootstrap_interval(values.to_numpy(), seed=seed), strict=True))


def _difference(values: pd.DataFrame, name: str, results: RunResults) -> dict[str, float]:
    if name == results.model or results.model not in values:
        return {}
    pairs = (values[results.model] - values[name]).dropna()
    return {
        "model_minus_estimator": pairs.mean(),
        **_interval(pairs, results.seed, "difference_ci_low", "difference_ci_high"),
        "n_pairs": len(pairs),
    }
