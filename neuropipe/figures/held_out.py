"""Held-out bins of a run as figures of spikes show them: recorded counts beside estimates."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from neuropipe.errors import DataError
from neuropipe.results import RunResults


@dataclass(frozen=True)
class HeldOut:
    """Held-out bins of one session and fold.

    Attributes
    ----------
    session : str
    estimate : Dataset
        What the model's `transform` returned.
    counts : (bin, unit)
        Recorded, of the same bins and units.
    bin_s : float
    """

    session: str
    estimate: xr.Dataset
    counts: np.ndarray
    bin_s: float

    @property
    def time(self) -> np.ndarray:
        """Centres of the bins, s from the session's start."""
        return self.estimate["time"].values

    def span(self, longest_s: float) -> slice:
        """Return the middle of the longest piece without a gap, of at most so many seconds."""
        time = self.time
        edges = np.flatnonzero(np.diff(time) > 1.5 * self.bin_s) + 1
        edges = np.concatenate([[0], edges, [len(time)]])
        k = int(np.argmax(np.diff(edges)))
        length = min(int(edges[k + 1] - edges[k]), max(round(longest_s / self.bin_s), 1))
        first = int(edges[k] + edges[k + 1] - length) // 2
        return slice(first, first + length)

    def windows(self) -> np.ndarray:
        """Return the window of each bin, counted; windows never reach over a gap."""
        size = int(self.estimate.attrs.get("window_bins", 1))
        jump = np.concatenate([[True], np.diff(self.time) > 1.5 * self.bin_s])
        start = np.maximum.accumulate(np.where(jump, np.arange(len(jump)), 0))
        new = (np.arange(len(jump)) - start) % size == 0
        return np.cumsum(new) - 1


def held_out(results: RunResults, *needed: str) -> HeldOut:
    """Return the held-out bins of the first session and fold.

    Raises
    ------
    DataError
        If the run has no estimates with what is needed, or no counts of their bins.
    """
    for (session, _), estimate in sorted(results.estimates.items(), key=lambda item: item[0]):
        if not all(name in estimate for name in needed) or session not in results.recordings:
            continue
        recording = results.recordings[session]
        if "counts" not in recording.children or "time" not in estimate:
            continue
        node = recording["counts"].to_dataset()
        where = node.indexes["time"].get_indexer(estimate["time"].values)
        if (where < 0).any() or not len(where):
            continue
        counts = node["spike_count"].isel(time=slice(int(where[0]), int(where[-1]) + 1))
        if "unit" in estimate:
            counts = counts.sel(unit=estimate["unit"].values)
        bin_s = float(node["spike_count"].attrs["bin_width_s"])
        return HeldOut(session, estimate, counts.values[where - where[0]].astype(float), bin_s)
    what = " and ".join(n.replace("_", " ") for n in needed)
    raise DataError(f"This run has no {what} of held-out bins, so there is nothing to draw here.")
