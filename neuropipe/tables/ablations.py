"""What each part of the model is worth."""

from __future__ import annotations

import pandas as pd

from neuropipe.results import RunResults
from neuropipe.tables.scores import table as all_scores

LEFT_OUT = {
    "du_in": "nothing",
    "du_in_from_scratch": "units and hidden tokens: labelled trials only",
    "du_in_unquantised": "codes: hidden tokens are predicted as points",
}
COLUMNS = (
    "metric", "left_out", "mean", "ci_low", "ci_high", "full_minus_this", "difference_ci_low",
    "difference_ci_high", "n",
)  # fmt: skip


def table(results: RunResults) -> pd.DataFrame:
    """Held-out scores of the model and of the same model without one of its parts, on the same
    sessions and folds: mean with its 95% bootstrap interval, and the paired difference to the whole
    model; above zero the part helps. Parts are left out by naming the variants as baselines.

    Parameters
    ----------
    results : RunResults
        `scores`, with variants such as ``du_in_from_scratch`` among the estimators.
    """
    scores = all_scores(results)
    rows = scores[scores["estimator"].isin(LEFT_OUT)]
    if len(rows["estimator"].unique()) < 2:
        return pd.DataFrame(columns=list(COLUMNS))
    rows = rows.assign(
        left_out=rows["estimator"].map(LEFT_OUT), full_minus_this=rows["model_minus_estimator"]
    )
    return rows[list(COLUMNS)].reset_index(drop=True)
