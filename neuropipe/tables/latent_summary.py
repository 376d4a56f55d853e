"""The latents that the model found."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from neuropipe.latents import latent_fits, latent_names
from neuropipe.results import RunResults

COLUMNS = (
    "latent",
    "kind",
    "length_scale_s",
    "length_scale_sd_s",
    "at_floor",
    "neural_share",
    "neural_share_sd",
    "behavior_share",
    "behavior_share_sd",
    "folds",
)
NEAR = 1.1  # times the floor


def table(results: RunResults) -> pd.DataFrame:
    """Latents of the first fold: kind; length scale of the prior, with its standard deviation
    over the folds; whether it lies within a tenth of the floor that the pruned prior can
    represent, so that the latent may be faster than it seems; and the share of each modality's
    predicted variance that is lost without it, likewise. Latents of several folds are matched by
    kind and order of importance. Shares of latents that explain the same need not add up to one.

    Parameters
    ----------
    results : RunResults
        `parameters` with ``length_scale (latent)``, ``variance_explained (modality, latent)``.
    """
    fits = list(latent_fits(results).values())
    if not fits:
        return pd.DataFrame(columns=list(COLUMNS))
    names = latent_names(fits[0])
    length = _over_folds(fits, names, lambda p: p["length_scale"].values)
    frame = pd.DataFrame(
        {
            "latent": names,
            "kind": [str(k) for k in fits[0]["kind"].values],
            "length_scale_s": length[0],
            "length_scale_sd_s": _sd(length),
            "at_floor": length[0] <= NEAR * float(fits[0].attrs.get("min_length_scale_s", 0.0)),
            "folds": np.isfinite(length).sum(0),
        }
    )
    for modality in ("neural", "behavior"):
        share = np.full_like(length, np.nan)
        if modality in fits[0]["modality"].values:
            share = _over_folds(
                fits, names, lambda p, m=modality: p["variance_explained"].sel(modality=m).values
            )
        frame[f"{modality}_share"] = share[0]
        frame[f"{modality}_share_sd"] = _sd(share)
    return frame[list(COLUMNS)]


def _over_folds(fits: list[xr.Dataset], names: list[str], of) -> np.ndarray:
    """Return values (fold, latent) of latents of the same name, NaN where a fold has none."""
    out = np.full((len(fits), len(names)), np.nan)
    for row, parameters in enumerate(fits):
        own = dict(zip(latent_names(parameters), of(parameters), strict=True))
        out[row] = [own.get(name, np.nan) for name in names]
    return out


def _sd(values: np.ndarray) -> np.ndarray:
    return pd.DataFrame(values).std().to_numpy()
