"""How well held-out trials were decoded, against chance."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from neuropipe.decoded import Trials, decoder_fits, held_out_trials, permutation_p
from neuropipe.metrics import bootstrap_interval, top_k_accuracy
from neuropipe.results import RunResults

COLUMNS = (
    "session",
    "fold",
    "trials",
    "classes",
    "accuracy",
    "ci_low",
    "ci_high",
    "top_5_accuracy",
    "chance",
    "p_value",
)


def table(results: RunResults) -> pd.DataFrame:
    """Accuracy of the model on held-out trials by session and fold, and over all of them, with its
    95% bootstrap interval over trials; accuracy of the five most probable classes, where there are
    more; chance is the accuracy of always naming the most frequent training class. p is the chance
    that labels dealt out anew among the same trials (999 times) agree as often with the model's
    choices. A label that training did not show counts as wrong.

    Parameters
    ----------
    results : RunResults
        `estimates` with ``class_probability (trial, class)`` and ``label (trial)``.
    """
    trials = held_out_trials(results)
    rows = [_row(results, t.session, str(t.fold), [t]) for t in trials]
    if len(trials) > 1:
        rows.append(_row(results, "all", "all", trials))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _row(results: RunResults, session: str, fold: str, trials: list[Trials]) -> dict:
    label = np.concatenate([t.label for t in trials])
    guess = np.concatenate([t.guess for t in trials])
    right = (label == guess).astype(float)
    low, high = bootstrap_interval(right, seed=results.seed)
    fits = decoder_fits(results)
    usual = np.concatenate([_chance(fits, t) for t in trials])
    top = [_top(t) for t in trials if len(t.classes) > 5]
    return {
        "session": session,
        "fold": fold,
        "trials": len(label),
        "classes": len(np.unique(label)),
        "accuracy": right.mean(),
        "ci_low": low,
        "ci_high": high,
        "top_5_accuracy": float(np.concatenate(top).mean()) if top else np.nan,
        "chance": float(usual.mean()),
        "p_value": permutation_p(label, guess, seed=results.seed),
    }


def _chance(fits: dict[int, xr.Dataset], t: Trials) -> np.ndarray:
    """Say which trials are of the most frequent training class."""
    if t.fold not in fits:
        return np.full(len(t.label), np.nan)
    share = fits[t.fold]["class_share"]
    return (t.label == str(share["class"].values[int(np.argmax(share.values))])).astype(float)


def _top(t: Trials) -> np.ndarray:
    """Say which trials have their class among the five most probable."""
    places = {c: i for i, c in enumerate(t.classes)}
    number = np.array([places.get(v, -1) for v in t.label])
    one = [top_k_accuracy(p[None], n[None], 5) for p, n in zip(t.probability, number, strict=True)]
    return np.array(one)
