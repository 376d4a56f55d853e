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
