"""Behaviour decoded after few labels."""

from __future__ import annotations

import numpy as np
import pandas as pd

from neuropipe.metrics import bootstrap_interval
from neuropipe.results import RunResults

COLUMNS = (
    "label_share",
    "r_pretrained",
    "r_from_scratch",
    "r_by_chance",
    "difference",
    "difference_ci_low",
    "difference_ci_high",
    "folds",
)


def table(results: RunResults) -> pd.DataFrame:
    """Behaviour decoded after few labels, the first ones of the training data, on a later part of
    it that no fit was shown: Pearson's r of a network whose trunk was pretrained on spikes alone
    and of the same network from scratch, means over folds; r that 5 of 100 circular shifts exceed;
    the paired difference with its 95% percentile bootstrap interval over folds, which share
    training data.

    Parameters
    ----------
    results : RunResults
        `parameters` with ``few_shot_r`` and ``few_shot_null_r (start, label_share)``.
    """
    curves = [
        p
        for (estimator, _), p in sorted(results.parameters.items())
        if estimator == results.model and "few_shot_r" in p
    ]
    rows = []
    for share in curves[0]["label_share"].values if curves else ():
        r, null = (
            np.stack([
                c[name].sel(label_share=share, start=["pretrained", "from scratch"]).values
                for c in curves
            ])
            for name in ("few_shot_r", "few_shot_null_r")
        )  # fmt: skip
        gain = r[:, 0] - r[:, 1]
        low, high = bootstrap_interval(gain, seed=results.seed)
        rows.append((float(share), *r.mean(0), null.mean(), gain.mean(), low, high, len(curves)))
    return pd.DataFrame(rows, columns=list(COLUMNS))
