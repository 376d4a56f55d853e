"""How well each channel of behaviour is decoded."""

from __future__ import annotations

import numpy as np
import pandas as pd

from neuropipe.results import RunResults

COLUMNS = ("fold", "session", "estimator", "r", "r_by_chance", "p_value", "r2")
METRICS = {
    "decoding_r": "r",
    "decoding_null_r": "r_by_chance",
    "decoding_p": "p_value",
    "decoding_r2": "r2",
}


def table(results: RunResults) -> pd.DataFrame:
    """Behaviour decoded from held-out windows by the model and its baselines: Pearson's r, mean
    over channels, beside the r that 5 of 100 circular shifts of the estimate against the labels
    exceed (slow signals agree by chance), the chance p of so large an r under these shifts, and
    the share of variance explained, R2. No correction for the number of rows. Best r first.

    Parameters
    ----------
    results : RunResults
        `scores` with the metrics of decoding.
    """
    scores = results.scores[results.scores["metric"].isin(METRICS)]
    if not len(scores):
        return pd.DataFrame(columns=list(COLUMNS))
    wide = scores.assign(metric=scores["metric"].map(METRICS)).pivot_table(
        index=["fold", "session", "estimator"], columns="metric", values="value", dropna=False
    )
    rows = wide.reset_index().reindex(columns=list(COLUMNS))
    rows = rows[np.isfinite(rows["r"].astype(float))]
    rows = rows.sort_values(["fold", "session", "r"], ascending=[True, True, False], kind="stable")
    return rows.reset_index(drop=True)
