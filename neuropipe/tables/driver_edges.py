"""The strongest drives from unit to unit."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control

from neuropipe.matching import planted_edges
from neuropipe.results import RunResults

COLUMNS = ("fold", "unit", "source_unit", "connectivity", "z", "p_value", "q_value", "planted")
MOST_ROWS = 500


def table(results: RunResults) -> pd.DataFrame:
    """Drives from source unit to unit in the first fold, the largest size first, at most 500: the
    change of the unit's log rate for one spike of the source in the bin before. z is the distance
    from the median pair in robust standard deviations and assumes that most pairs are not
    connected. p, where there are refits to shuffled data, is the share of their pairs that are as
    large; q controls the false discovery rate over all pairs (Benjamini and Hochberg 1995). In
    simulated sessions the planted weight stands beside it.

    Parameters
    ----------
    results : RunResults
        `parameters` with ``connectivity (unit, source_unit)``.
    """
    fits = {
        fold: results.parameters[results.model, fold]
        for fold in results.folds
        if "connectivity" in results.parameters.get((results.model, fold), ())
    }
    if not fits:
        return pd.DataFrame(columns=list(COLUMNS))
    fold, parameters = next(iter(fits.items()))
    matrix = parameters["connectivity"].transpose("unit", "source_unit")
    value = matrix.values
    pair = ~np.eye(len(value), dtype=bool) & np.isfinite(value)
    row, column = np.nonzero(pair)
    nothing = np.full(len(row), np.nan)
    p = parameters["connectivity_p"].values[pair] if "connectivity_p" in parameters else nothing
    q = nothing.copy()
    tested = np.isfinite(p)
    if tested.any():
        q[tested] = false_discovery_control(p[tested])
    truth = planted_edges(results, matrix)
    rows = pd.DataFrame(
        {
            "fold": fold,
            "unit": matrix["unit"].values[row],
            "source_unit": matrix["source_unit"].values[column],
            "connectivity": value[pair],
            "z": parameters["connectivity_z"].values[pair],
            "p_value": p,
            "q_value": q,
            "planted": nothing if truth is None else truth[pair],
        },
        columns=list(COLUMNS),
    )
    order = np.argsort(-np.abs(rows["connectivity"].to_numpy()), kind="stable")[:MOST_ROWS]
    return rows.iloc[order].reset_index(drop=True)
