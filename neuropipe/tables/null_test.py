"""Whether the fit explains more than traces that were shifted against each other."""

from __future__ import annotations

import pandas as pd

from neuropipe.components import component_fits
from neuropipe.results import RunResults

COLUMNS = ("fold", "rank", "traces", "explained_variance", "p_value")


def table(results: RunResults) -> pd.DataFrame:
    """Explained variance of the training entries by fold: of the recorded traces, and of the same
    traces after each was shifted in a circle by a time of its own, which keeps every trace and
    breaks what they have in common. p is the chance that shifted traces explain as much: one plus
    the number that do, over one plus the number of shifts; without shifts there is none.

    Parameters
    ----------
    results : RunResults
        `parameters` with ``explained_variance``; ``null_explained_variance (shuffle)`` and
        ``null_p`` where there are shifts.
    """
    rows = []
    for fold, parameters in component_fits(results).items():
        rank = parameters.sizes["component"]
        p = float(parameters["null_p"]) if "null_p" in parameters else float("nan")
        rows.append((fold, rank, "recorded", float(parameters["explained_variance"]), p))
        if "null_explained_variance" in parameters:
            for number, value in enumerate(parameters["null_explained_variance"].values):
                rows.append((fold, rank, f"shifted {number + 1}", float(value), float("nan")))
    return pd.DataFrame(rows, columns=list(COLUMNS))
