"""Trials of a run whose classes were decoded, and the contacts that the classes came from."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import false_discovery_control, norm

from neuropipe.results import RunResults
from neuropipe.runtime import generator

N_PERMUTATIONS = 999
PLACES = ("shaft", "region", "x", "y", "z")


class Trials(NamedTuple):
    """Held-out trials of one session and fold.

    Attributes
    ----------
    session : str
    fold : int
    classes : (class,) str
    label : (trial,) str
        What each trial was; trials without a label are left out.
    probability : (trial, class)
    """

    session: str
    fold: int
    classes: np.ndarray
    label: np.ndarray
    probability: np.ndarray

    @property
    def guess(self) -> np.ndarray:
        """Return the most probable class of each trial."""
        return self.classes[self.probability.argmax(1)]


def decoder_fits(results: RunResults) -> dict[int, xr.Dataset]:
    """Return the model's parameters by fold, in order, where it decodes classes."""
    return {
        fold: parameters
        for fold in results.folds
        if (parameters := results.parameters.get((results.model, fold))) is not None
        and "class_share" in parameters
    }


def held_out_trials(results: RunResults) -> list[Trials]:
    """Return the model's held-out trials that have a label, by session and fold."""
    out = []
    for (session, fold), estimate in sorted(results.estimates.items()):
        if "class_probability" not in estimate or "label" not in estimate.coords:
            continue
        label = estimate["label"].values.astype(str)
        keep = label != ""
        if keep.any():
            probability = estimate["class_probability"].transpose("trial", "class").values
            classes = estimate["class"].values.astype(str)
            out.append(Trials(session, fold, classes, label[keep], probability[keep]))
    return out


def permutation_p(label: np.ndarray, guess: np.ndarray, *, seed: int) -> float:
    """Return the chance that labels dealt out anew agree as often with the guesses.

    Parameters
    ----------
    label, guess : (trial,)
    seed : int
        Of `N_PERMUTATIONS` orders.
    """
    rng = generator(seed, "permutation")
    hits = np.sum(label == guess)
    null = [np.sum(rng.permutation(label) == guess) for _ in range(N_PERMUTATIONS)]
    return float((1 + np.sum(np.array(null) >= hits)) / (1 + N_PERMUTATIONS))


def contact_table(results: RunResults) -> pd.DataFrame:
    """Return every contact that any fold kept, folds joined.

    Columns: ``subject, channel``, those of `PLACES` that are known, ``folds`` that kept it, mean
    ``contact_weight`` and ``contact_contribution`` (nats), and where contacts were tested
    ``z_score``, ``p_value`` and ``q_value``. Folds share training data, so the score is their
    mean, not their sum.
    """
    rows = []
    for fold, p in decoder_fits(results).items():
        if "contact_weight" not in p:
            continue
        frame = pd.DataFrame({"fold": fold, "channel": p["channel"].values.astype(str)})
        for name in ("subject", *PLACES):
            if name in p.coords:
                frame[name] = p[name].values
        frame["contact_weight"] = p["contact_weight"].values
        for name in ("contact_contribution", "contact_z"):
            frame[name] = p[name].values if name in p else np.nan
        rows.append(frame)
    if not rows:
        return pd.DataFrame()
    every = pd.concat(rows, ignore_index=True)
    groups = every.groupby(["subject", "channel"], sort=False)
    out = groups[[c for c in PLACES if c in every]].first()
    out["folds"] = groups["fold"].nunique()
    out["contact_weight"] = groups["contact_weight"].mean()
    out["contact_contribution"] = groups["contact_contribution"].mean()
    out["z_score"] = groups["contact_z"].mean()
    out["p_value"] = norm.sf(out["z_score"])
    out["q_value"] = np.nan
    tested = out["p_value"].notna().to_numpy()
    if tested.any():
        out.loc[tested, "q_value"] = false_discovery_control(out.loc[tested, "p_value"])
    return out.reset_index()
