"""How well planted groups were found again."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from neuropipe.components import (
    area_under_curve,
    component_fits,
    pair_values,
    planted_active,
    planted_components,
    planted_pairs,
    planted_part,
    truth_of,
)
from neuropipe.results import RunResults

COLUMNS = (
    "fold",
    "group",
    "component",
    "pair_auc",
    "time_mass",
    "time_mass_by_chance",
    "animal_auc",
)


def table(results: RunResults) -> pd.DataFrame:
    """Recovery of planted groups by fold, in simulated sessions only, each with the component
    whose pattern and activation fit it best: the chance that a pair of the group has a larger
    affinity than another pair (pair AUC), the share of the activation that lies in the group's
    own windows beside the share that an even one would have, and the chance that an animal with
    the group has a larger loading than one without (animal AUC; none where all animals have it).
    1 is perfect, one half of an AUC is chance. A group without a component is beyond the rank,
    or was active in held-out windows only.

    Parameters
    ----------
    results : RunResults
        `parameters` of components; `truth` with ``member``, ``active`` and ``taking_part``.
    """
    rows = []
    for fold, parameters in component_fits(results).items():
        truth = truth_of(results, parameters)
        if truth is not None:
            rows += [{"fold": fold, **row} for row in _groups(parameters, truth)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _groups(parameters: xr.Dataset, truth: xr.Dataset) -> list[dict[str, object]]:
    units = parameters["unit"].values
    pairs, values = planted_pairs(truth, units), pair_values(parameters, units)
    active, part = planted_active(parameters, truth), planted_part(parameters, truth)
    activation = parameters["activation"].transpose("window", "component").values
    loading = parameters["animal_loading"].transpose("animal", "component").values
    rows = []
    for group, component in enumerate(planted_components(parameters, truth)):
        row: dict[str, object] = {"group": group, "time_mass_by_chance": active[group].mean()}
        if component >= 0:
            course, seen = activation[:, component], np.isfinite(values[:, component])
            total = course.sum()
            row |= {
                "component": component,
                "pair_auc": area_under_curve(values[seen, component], pairs[group, seen]),
                "time_mass": course[active[group]].sum() / total if total > 0 else np.nan,
                "animal_auc": area_under_curve(loading[:, component], part[group]),
            }
        rows.append(row)
    return rows
