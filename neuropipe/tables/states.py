"""The states that the model found."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from neuropipe.matching import numbered_as
from neuropipe.results import RunResults
from neuropipe.tables.fits import model_fits

COLUMNS = (
    "state",
    "occupancy",
    "mean_dwell_s",
    "mean_population_rate_hz",
    "stay_probability",
    "occupancy_sd",
    "mean_dwell_sd_s",
    "mean_population_rate_sd_hz",
    "stay_probability_sd",
    "folds",
)


def table(results: RunResults) -> pd.DataFrame:
    """States of the model, numbered as in the first fold and matched to it in the others by
    their rates and weights: mean over folds and standard deviation between them of the share of
    training time, the mean dwell that the transition matrix implies (infinite for a state that is
    never left), the rate of an average unit, and the probability to stay for one more bin.

    Parameters
    ----------
    results : RunResults
        `parameters` with ``transition``, ``occupancy``, attr ``bin_width_s`` and, for
        spike counts, ``mean_rate``.
    """
    fits = {
        fold: p
        for fold, p in model_fits(results).items()
        if {"transition", "occupancy"} <= set(p.data_vars)
    }
    if not fits:
        return pd.DataFrame(columns=list(COLUMNS))
    first = next(iter(fits.values()))
    frames = [_states(parameters, numbered_as(first, parameters)) for parameters in fits.values()]
    groups = pd.concat(frames).groupby("state")
    spread = groups.std().rename(columns=_spread_name)
    out = pd.concat([groups.mean(), spread, groups.size().rename("folds")], axis=1)
    return out.reset_index()[list(COLUMNS)]


def _spread_name(column: str) -> str:
    name, _, units = column.rpartition("_")
    return f"{name}_sd_{units}" if units in ("s", "hz") else f"{column}_sd"


def _states(parameters: xr.Dataset, labels: np.ndarray) -> pd.DataFrame:
    stay = np.diagonal(parameters["transition"].transpose("state", "next_state").values)
    with np.errstate(divide="ignore"):
        dwell_s = float(parameters.attrs["bin_width_s"]) / (1 - stay)
    return pd.DataFrame(
        {
            "state": labels,
            "occupancy": parameters["occupancy"].values,
            "mean_dwell_s": dwell_s,
            "mean_population_rate_hz": parameters["mean_rate"].mean("unit").values
            if "mean_rate" in parameters
            else np.nan,
            "stay_probability": stay,
        }
    )
