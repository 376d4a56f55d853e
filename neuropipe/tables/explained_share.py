"""How much of what can be known of held-out spikes is predicted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from neuropipe.metrics import likelihood_scores
from neuropipe.results import RunResults

COLUMNS = ("fold", "session", "estimator", "bits_per_spike", "process_bits_per_spike", "share")
MOST = 0.9  # largest chance of a spike in a bin of the process


def table(results: RunResults) -> pd.DataFrame:
    """Explained share of held-out spikes, in simulated sessions only: bits per spike of the model
    and its baselines over those of the process that drew the spikes, which knows its own rates
    given all spikes before; 0 is a constant rate for each unit, 1 cannot be passed but by chance.
    Best first.

    Parameters
    ----------
    results : RunResults
        `scores` with ``bits_per_spike``; `truth` with ``rate (time, unit)``; `estimates`, whose
        bins are the held-out ones.
    """
    scores = results.scores[results.scores["metric"] == "bits_per_spike"]
    rows = []
    for (session, fold), estimate in sorted(results.estimates.items(), key=lambda i: i[0][::-1]):
        truth, parameters = results.truth.get(session), results.parameters.get(
            (results.model, fold)
        )  # fmt: skip
        if truth is None or parameters is None or "rate" not in truth or "rate" not in parameters:
            continue
        bits = _of_process(results.recordings[session], estimate, truth, parameters["rate"])
        part = scores[(scores["session"] == session) & (scores["fold"] == fold)]
        best_first = part.sort_values("value", ascending=False, kind="stable")
        for name, own in zip(best_first["estimator"], best_first["value"], strict=True):
            rows.append((fold, session, name, float(own), bits, float(own) / bits))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _of_process(
    recording: xr.DataTree, estimate: xr.Dataset, truth: xr.Dataset, rate: xr.DataArray
) -> float:
    """Return bits per spike of the planted rates over constant training rates."""
    time, unit = estimate["time"].values, estimate["unit"].values
    node = recording["counts"].to_dataset()["spike_count"].sel(time=time, unit=unit)
    width = float(node.attrs["bin_width_s"])
    counts = np.asarray(node.values, dtype=float)
    planted = truth["rate"].sel(unit=unit).sel(time=time, method="nearest").values.astype(float)
    chance = np.minimum(1 - np.exp(-width * planted), MOST)
    total = float(np.where(counts > 0, np.log(chance), np.log1p(-chance)).sum())
    null = rate.sel(unit=unit).values * width
    return float(likelihood_scores(total, counts, null)["bits_per_spike"])
