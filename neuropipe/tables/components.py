"""The components that the model found."""

from __future__ import annotations

import numpy as np
import pandas as pd

from neuropipe.components import component_fits, matched
from neuropipe.results import RunResults

MEMBER = 0.5  # of the largest membership, and of the largest loading
COLUMNS = (
    "component",
    "weight",
    "weight_sd",
    "units_above_half",
    "communities",
    "animals_above_half",
    "peak_time_s",
    "pattern_similarity",
    "folds",
)


def table(results: RunResults) -> pd.DataFrame:
    """Components of the first fold, the heaviest first: share of the summed energies with its
    standard deviation over the folds; units whose membership, and animals whose loading, is
    above half of the component's largest; communities of its graph; time of its largest
    activation; and how alike it comes out again in the other folds, the mean cosine of the
    pattern with its match there (1: the same; one fold: none).

    Parameters
    ----------
    results : RunResults
        `parameters` with ``weight``, ``membership``, ``animal_loading`` and ``activation``;
        ``community`` where there is one.
    """
    fits = list(component_fits(results).values())
    if not fits:
        return pd.DataFrame(columns=list(COLUMNS))
    first, others = fits[0], fits[1:]
    n = first.sizes["component"]
    weight, similar = np.full((len(fits), n), np.nan), np.full((len(others), n), np.nan)
    weight[0] = first["weight"].values
    for row, other in enumerate(others):
        similar[row], match = matched(first, other)
        known = match >= 0
        weight[row + 1, known] = other["weight"].values[match[known]]
    member = first["membership"].transpose("unit", "component").values
    loading = first["animal_loading"].transpose("animal", "component").values
    peak = first["activation"].transpose("window", "component").values.argmax(axis=0)
    number: object = np.nan
    if "community" in first:
        labels = first["community"].transpose("component", "unit").values
        number = [len(np.unique(row)) for row in labels]
    frame = pd.DataFrame(
        {
            "component": np.arange(n),
            "weight": weight[0],
            "weight_sd": pd.DataFrame(weight).std().to_numpy(),
            "units_above_half": (member > MEMBER * member.max(axis=0)).sum(axis=0),
            "communities": number,
            "animals_above_half": (loading > MEMBER * loading.max(axis=0)).sum(axis=0),
            "peak_time_s": first["time"].values[peak],
            "pattern_similarity": pd.DataFrame(similar).mean().to_numpy(),
            "folds": np.isfinite(weight).sum(axis=0),
        }
    )
    return frame[list(COLUMNS)]
