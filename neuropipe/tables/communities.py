"""The communities of each component's graph."""

from __future__ import annotations

import numpy as np
import pandas as pd

from neuropipe.components import component_fits
from neuropipe.results import RunResults

COLUMNS = ("component", "unit", "community", "membership")


def table(results: RunResults) -> pd.DataFrame:
    """Community of every unit in every component's graph, the community of the largest mean
    membership first, and its units by membership (mean affinity with all others, the largest 1).
    Numbers of communities mean nothing across components. First fold of the run.

    Parameters
    ----------
    results : RunResults
        `parameters` with ``community (component, unit)`` and ``membership``.
    """
    first = next(iter(component_fits(results).values()), None)
    if first is None or "community" not in first:
        return pd.DataFrame(columns=list(COLUMNS))
    labels = first["community"].transpose("component", "unit").values
    n, n_units = labels.shape
    frame = pd.DataFrame(
        {
            "component": np.repeat(np.arange(n), n_units),
            "unit": np.tile(first["unit"].values, n),
            "community": labels.ravel(),
            "membership": first["membership"].transpose("component", "unit").values.ravel(),
        }
    )
    frame["mean"] = frame.groupby(["component", "community"])["membership"].transform("mean")
    order = ["component", "mean", "community", "membership"]
    ascending = [True, False, True, False]
    rows = frame.sort_values(order, ascending=ascending, kind="stable", ignore_index=True)
    return rows[list(COLUMNS)]
