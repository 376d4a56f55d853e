"""Planted words as prepared recordings, and settings that learn them in seconds."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from neuropipe.batching.splits import make_splits
from neuropipe.batching.windows import attach_windows
from neuropipe.models.du_in.simulate import Plan, simulate
from neuropipe.preprocess import apply_steps

# The networks of the recipe, which a core trains in a minute.
SMALL: dict[str, Any] = {
    "window_s": 1.6, "filters": (32, 32, 16), "n_layers": 2, "n_heads": 4, "head_dim": 16,
    "n_inner": 160, "n_codes": 32, "code_dim": 16, "decoder_layers": 1, "decoder_filters": 32,
    "dropout": 0.1, "n_exchanges": 0, "warm_epochs": 2,
    "units": {"epochs": 2, "batch_size": 32, "learning_rate": 2e-3},
    "masked": {"epochs": 2, "batch_size": 32, "learning_rate": 2e-3},
    "decode": {"epochs": 2, "batch_size": 32, "learning_rate": 2e-3},
}  # fmt: skip
# Smaller still, for what is no matter of learning.
TINY: dict[str, Any] = {
    **SMALL, "window_s": 0.8, "filters": (6, 4), "kernels": (19, 3), "strides": (10, 1),
    "n_hidden": 4, "n_layers": 1, "n_heads": 1, "head_dim": 8, "n_inner": 16, "n_codes": 8,
    "code_dim": 4, "decoder_filters": 8, "head_width": 16, "n_exchanges": 2,
    **{name: {"epochs": 2, "batch_size": 8, "learning_rate": 2e-3}
       for name in ("units", "masked", "decode")},
}  # fmt: skip
PLAN: dict[str, Any] = {
    "n_words": 4, "n_repetitions": 12, "n_runs": 3, "n_channels": 6, "n_speech": 3, "n_bad": 0,
    "n_units": 6, "word_units": 4, "lead_units": 6, "gap_units": 2, "snr": 4.0, "line_v": 0.0,
}  # fmt: skip


def words(seed: int, **plan: Any) -> tuple[xr.DataTree, xr.Dataset]:
    """Draw a session and cut its trials, 0.2 s before a word to 0.2 s after."""
    made = Plan(**{**PLAN, **plan})
    drawn, truth = simulate(made, seed)
    length = made.word_units * made.unit_s
    step = {"step": "cut_trials", "table": "events", "before_s": 0.2, "after_s": length + 0.2}
    return apply_steps(drawn, [step]), truth


def sides(recording: xr.DataTree, by: str = "run", folds: int = 3) -> list[xr.DataTree]:
    """Return the training and the held-out side of the first fold."""
    fold = make_splits({"a": recording}, by=by, folds=folds, seed=0)["folds"][0]
    return [attach_windows(recording, fold[side]["a"]) for side in ("train", "test")]


def only(recording: xr.DataTree, channel: np.ndarray) -> xr.DataTree:
    """Keep some contacts."""
    out = recording.copy()
    out["ieeg"] = xr.DataTree(recording["ieeg"].to_dataset().isel(channel=np.flatnonzero(channel)))
    return out


def relabelled(recording: xr.DataTree, labels: np.ndarray) -> xr.DataTree:
    """Give trials other labels."""
    out = recording.copy()
    node = recording["trials"].to_dataset().load()
    node["trial_type"] = ("trial", labels.astype(object), {"units": ""})
    out["trials"] = xr.DataTree(node)
    return out


def likeness(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Return the normalised mutual information of two labellings, and the purity of the first."""
    a, b = (np.unique(v, return_inverse=True)[1] for v in (first, second))
    joint = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(joint, (a, b), 1)
    p = joint / joint.sum()
    pa, pb = p.sum(1), p.sum(0)
    at = p > 0
    shared = (p[at] * np.log(p[at] / np.outer(pa, pb)[at])).sum()
    entropy = [-(q[q > 0] * np.log(q[q > 0])).sum() for q in (pa, pb)]
    return float(shared / max(np.sqrt(entropy[0] * entropy[1]), 1e-12)), float(p.max(1).sum())
