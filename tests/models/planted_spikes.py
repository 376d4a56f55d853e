"""Planted spiking sessions as recordings, and how well a fit finds what was planted."""

import numpy as np
import xarray as xr

from neuropipe.batching.windows import attach_windows
from neuropipe.models.neuroformer.simulate import Plan, simulate
from neuropipe.preprocess import apply_steps

STEPS = [
    {"step": "bin_spikes", "bin_width_s": 0.01, "start_s": 0.0},
    {"step": "resample_behavior", "signals": ["speed"]},
]


def session(seed: int, **plan) -> tuple[xr.DataTree, xr.Dataset]:
    """Draw a session, binned, with speed on the bins."""
    drawn, truth = simulate(Plan(**plan), seed)
    stop = {"stop_s": float(plan.get("duration_s", 400.0))}
    return apply_steps(drawn, [{**STEPS[0], **stop}, STEPS[1]]), truth


def sides(
    recording: xr.DataTree, share: float = 0.8, gap_s: float = 0.2
) -> tuple[xr.DataTree, xr.DataTree]:
    """Return training windows, and the last share after a gap."""
    time = recording["counts"]["time"].values
    stop = float(time[-1] + (time[1] - time[0]) / 2)
    edge = round(share * stop, 2)
    return (
        attach_windows(recording, [[0.0, edge]]),
        attach_windows(recording, [[edge + gap_s, stop]]),
    )


def area(value: np.ndarray, positive: np.ndarray) -> float:
    """Area under the ROC curve."""
    rank = np.argsort(np.argsort(value))
    return float((rank[positive].mean() - (positive.sum() - 1) / 2) / (~positive).sum())


def edges_found(value: np.ndarray, weight: np.ndarray) -> float:
    """Area under the ROC curve of planted directed edges, the diagonal left out."""
    off = ~np.eye(len(weight), dtype=bool)
    return area(value[off], weight[off] > 0)


def token_floor(recording: xr.DataTree, truth: xr.Dataset, n_windows: int) -> tuple[float, float]:
    """Return nats a token of unigrams of units and bins, and of the process that drew the spikes.

    Tokens and counts of a window are one and the same, so the latter is the Bernoulli likelihood
    of the held-out bins over the number of tokens.
    """
    start = float(recording["windows"]["start_time"].values[0])
    time = recording["counts"]["time"].values
    counts = recording["counts"]["spike_count"].values[time >= start].astype(int)
    chance = np.minimum(1 - np.exp(-0.01 * truth["rate"].values[time >= start]), 0.9)
    drawn = float(np.where(counts > 0, np.log(chance), np.log1p(-chance)).sum())
    bins, units = np.nonzero(counts)
    floor = 0.0
    for seen, end in ((units, counts.shape[1]), (bins % 5, 5)):
        number = np.bincount(seen, minlength=end + 1) + 0.5
        number[end] += n_windows
        share = number / number.sum()
        floor -= float(np.log(share[seen]).sum() + n_windows * np.log(share[end]))
    n_tokens = len(bins) + n_windows
    return floor / n_tokens, -drawn / n_tokens
