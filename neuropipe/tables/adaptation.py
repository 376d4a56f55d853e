"""A new subject from few trials."""

from __future__ import annotations

import pandas as pd

from neuropipe.results import RunResults

COLUMNS = ("fold", "new_subject", "n_stimuli", "approach", "two_way_image", "chance", "n_judged")


def table(results: RunResults) -> pd.DataFrame:
    """Two-way identification of a new subject's images after learning from few of its stimuli, by
    fold, inside the training data: the bridge of the other subjects adapted to it, the same
    network from scratch, and ridge regression, each with the same trials and judged on the same
    other stimuli (n_judged), which no fit was shown. Chance is one half.

    Parameters
    ----------
    results : RunResults
        `parameters` with ``adaptation_two_way (approach, n_stimuli)``.
    """
    rows = []
    for (estimator, fold), p in sorted(results.parameters.items()):
        if estimator != results.model or "adaptation_two_way" not in p:
            continue
        curve = p["adaptation_two_way"]
        for n in curve["n_stimuli"].values:
            for approach in curve["approach"].values:
                value = float(curve.sel(n_stimuli=n, approach=approach))
                rows.append(
                    (fold, p.attrs.get("new_subject", ""), int(n), str(approach), value, 0.5,
                     p.attrs.get("n_judged", -1))
                )  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))
