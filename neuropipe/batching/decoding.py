"""Behaviour decoded from windows of neural activity: its scores, and what chance makes of them."""

from __future__ import annotations

import numpy as np


def circular_shifts(n: int, number: int, rng: np.random.Generator) -> np.ndarray:
    """Return shifts of n samples, at least a twentieth of them away from none; 0 of under 8."""
    near = max(n // 20, 1)
    return rng.integers(near, n - near + 1, number if n >= 8 else 0)


def decoding_scores(
    label: np.ndarray, estimate: np.ndarray, *, rng: np.random.Generator, n_shuffles: int
) -> dict[str, float]:
    """Return how well behaviour is decoded, beside what chance makes of it.

    Parameters
    ----------
    label, estimate : (sample, channel)
        In order of time; samples without all labels are left out.
    rng : Generator
        Draws the shifts.
    n_shuffles : int
        Circular shifts of the estimate against the labels, which keep how slow both are.

    Returns
    -------
    dict
        ``decoding_r`` and ``decoding_r2``, means over channels that vary; ``decoding_null_r``, the
        95th percentile of r under the shifts, and ``decoding_p``, the chance of so large an r.
    """
    known = np.isfinite(label).all(1)
    label, estimate = label[known], estimate[known]
    vary = label.std(0) > 0 if len(label) > 1 else np.zeros(label.shape[1], dtype=bool)
    nothing = float("nan")
    if not vary.any():
        return dict.fromkeys(("decoding_r", "decoding_r2", "decoding_null_r", "decoding_p"),
                             nothing)  # fmt: skip
    label, estimate = label[:, vary], estimate[:, vary]
    r = _mean_r(label, estimate)
    lost = ((label - estimate) ** 2).sum(0) / ((label - label.mean(0)) ** 2).sum(0)
    moved = circular_shifts(len(label), n_shuffles, rng)
    null = np.array([_mean_r(label, np.roll(estimate, s, 0)) for s in moved])
    return {
        "decoding_r": r,
        "decoding_r2": float(1 - lost.mean()),
        "decoding_null_r": float(np.quantile(null, 0.95)) if len(null) else nothing,
        "decoding_p": float((1 + (null >= r).sum()) / (1 + len(null))) if len(null) else nothing,
    }


def _mean_r(label: np.ndarray, estimate: np.ndarray) -> float:
    """Return Pearson's r, mean over channels; 0 for an estimate that never changes."""
    a, b = label - label.mean(0), estimate - estimate.mean(0)
    scale = np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)
    return float(((a * b).sum(0) / np.where(scale > 0, scale, np.inf)).mean())
