"""How numbers of latents were chosen."""

from __future__ import annotations

import numpy as np
import pandas as pd

from neuropipe.results import RunResults

COLUMNS = ("estimator", "latents", "score", "score_sd", "units", "chosen_in_folds", "folds")
# Scores of these units are errors, of which the smallest is the best.
ERROR = "1"


def table(results: RunResults) -> pd.DataFrame:
    """Numbers of latents that were tried inside the training data of each fold, for the model
    (shared-neural-behaviour) and its baselines: mean score over the folds with its standard
    deviation, and how many folds chose that number. The model's score is the bound on the log
    evidence of training windows that were left out, larger is better; that of a baseline is the
    squared error over the variance, smaller is better. Scores of different estimators do not
    compare.

    Parameters
    ----------
    results : RunResults
        `parameters` with ``dimension_score (dimension)``.
    """
    rows = []
    for estimator in dict.fromkeys(name for name, _ in results.parameters):
        fits = [
            p["dimension_score"]
            for (name, _), p in sorted(results.parameters.items(), key=lambda x: x[0][1])
            if name == estimator and "dimension_score" in p
        ]
        if not fits or max(f.sizes["dimension"] for f in fits) < 2:
            continue
        units = str(fits[0].attrs.get("units", ""))
        best = np.argmin if units == ERROR else np.argmax
        chosen = [str(f["dimension"].values[best(f.values)]) for f in fits]
        names = dict.fromkeys(str(d) for f in fits for d in f["dimension"].values)
        for name in names:
            values = [
                float(f.values[place[0]])
                for f in fits
                if len(place := np.flatnonzero(f["dimension"].values.astype(str) == name))
            ]
            rows.append(
                {
                    "estimator": estimator,
                    "latents": name,
                    "score": float(np.mean(values)),
                    "score_sd": float(np.std(values, ddof=1)) if len(values) > 1 else np.nan,
                    "units": units,
                    "chosen_in_folds": chosen.count(name),
                    "folds": len(values),
                }
            )
    return pd.DataFrame(rows, columns=list(COLUMNS))
