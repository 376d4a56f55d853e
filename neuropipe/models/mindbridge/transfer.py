"""Patterns sent through other brains and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from neuropipe.batching.stimuli import Scaling
from neuropipe.models.mindbridge.bridging import Fitted
from neuropipe.retrieval import cosines


def row_correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return Pearson's r of each row (row, column) of two tables; 0 where one is flat."""
    a, b = (x - x.mean(1, keepdims=True) for x in (first, second))
    length = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return (a * b).sum(1) / np.where(length > 0, length, 1)


@torch.no_grad()
def transferred(
    fitted: Fitted, x: Tensor, subject: str, true: np.ndarray, center: np.ndarray,
    label: Sequence | np.ndarray,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Return how well patterns survive the way through each subject's brain.

    Parameters
    ----------
    fitted : Fitted
        With builders.
    x : (trial, voxel or bin)
        Of `subject`.
    true : (trial, feature)
        True image embeddings.
    center : (feature,)
        Their mean in training, at length 1.
    label : (trial,)
        Stimulus of each trial.

    Returns
    -------
    dict
        Each (trial, subject of the bridge). ``cycle_correlation``: r over voxels of x with
        B_a(E_b(B_b(E_a(x)))), a the trial's subject; for b = a with B_a(E_a(x)).
        ``transfer_two_way``: share of other stimuli whose embedding is farther than the right one
        from what b's decoder says of B_b(E_a(x)); for b = a from what a's says of x.
    """
    a = fitted.names.index(subject)
    code = fitted.bridge.encode(x, a)
    length = np.linalg.norm(true, axis=1, keepdims=True)
    about = true / np.where(length > 0, length, 1) - center
    names = np.asarray(label)
    rival = names[:, None] != names
    back, share = [], []
    for b in range(len(fitted.names)):
        again = code if b == a else fitted.bridge.encode(fitted.bridge.build(code, b), b)
        seen = fitted.bridge.build(again, a)
        back.append(row_correlation(x.cpu().numpy(), seen.cpu().numpy()))
        guess = fitted.embeddings(fitted.bridge.predict(again))["image"].cpu().numpy()
        s = cosines(guess - center, about)
        right = np.diag(s)[:, None]
        lost = ((s > right) & rival).sum(1) + ((s == right) & rival).sum(1) / 2
        share.append(1 - lost / np.maximum(rival.sum(1), 1))
    return {"cycle_correlation": np.stack(back, 1), "transfer_two_way": np.stack(share, 1)}


def synthesized(
    fitted: Fitted, x: Tensor, subject: str, other: str, scaling: Scaling
) -> xr.Dataset:
    """Return what the brain of `other` would have done where that of `subject` did x.

    ``synthesized_beta (trial, voxel)`` with the places of that subject's voxels, or of a pooled
    aggregation ``(trial, bin)``.
    """
    code = fitted.bridge.encode(x, fitted.names.index(subject))
    made = fitted.bridge.build(code, fitted.names.index(other)).cpu().numpy()
    one = {"units": "1"}
    if not fitted.bridge.linear:
        return xr.Dataset({"synthesized_beta": (("trial", "bin"), made, one)})
    place = scaling.place[scaling.voxel].astype(np.int32)
    return xr.Dataset(
        {"synthesized_beta": (("trial", "voxel"), made, one)},
        {a: ("voxel", place[:, d], one) for d, a in enumerate("ijk")},
    )
