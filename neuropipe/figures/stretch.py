"""A representative stretch of held-out time, laid on a grid of columns that a page can show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import xarray as xr

Series = TypeVar("Series", xr.Dataset, xr.DataArray)

LONGEST_S = 90.0
SHORTEST_S = 5.0
MOST_SWITCHES = 60
MOST_COLUMNS = 1200


@dataclass(frozen=True)
class Stretch:
    """Consecutive columns of equal width; a column may hold several bins, or none.

    Attributes
    ----------
    edge_s : (column + 1,), s
        From the start of the session.
    """

    edge_s: np.ndarray

    @property
    def start_s(self) -> float:
        """Where the stretch begins."""
        return float(self.edge_s[0])

    @property
    def stop_s(self) -> float:
        """Where the stretch ends."""
        return float(self.edge_s[-1])

    @property
    def center_s(self) -> np.ndarray:
        """Middle of each column."""
        return (self.edge_s[:-1] + self.edge_s[1:]) / 2

    def cut(self, series: Series) -> Series:
        """Return the part of a series on `time` that lies in the stretch."""
        return series.sel(time=slice(self.start_s, self.stop_s))

    def _columns(self, time_s: np.ndarray) -> np.ndarray:
        index = np.searchsorted(self.edge_s, time_s, side="right") - 1
        return np.clip(index, 0, len(self.edge_s) - 2)

    def mean(self, time_s: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Average values (time, ...) within each column; NaN where a column has no bin."""
        flat = np.asarray(values, dtype=float).reshape(len(time_s), -1)
        total = np.zeros((len(self.edge_s) - 1, flat.shape[1]))
        column = self._columns(time_s)
        np.add.at(total, column, flat)
        count = np.bincount(column, minlength=len(total)).astype(float)
        count[count == 0] = np.nan
        return (total / count[:, None]).reshape(len(total), *np.shape(values)[1:])

    def last(self, time_s: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Return the last value (time) of each column; NaN where a column has no bin."""
        out = np.full(len(self.edge_s) - 1, np.nan)
        out[self._columns(time_s)] = values
        return out


def _span_s(state: np.ndarray, bin_s: float) -> float:
    """Return how much held-out time to show: less when states switch quickly."""
    n_switches = max(int(np.count_nonzero(np.diff(state))), 1)
    per_switch_s = len(state) * bin_s / n_switches
    return float(np.clip(MOST_SWITCHES * per_switch_s, SHORTEST_S, LONGEST_S))


def representative(estimate: xr.Dataset) -> Stretch:
    """Choose the stretch whose number of state switches is the median of the best covered ones.

    Parameters
    ----------
    estimate : Dataset
        ``path (time)`` and ``window (time)`` of held-out bins.
    """
    time, state = estimate["time"].values, estimate["path"].values
    bin_s = float(np.median(np.diff(time))) if len(time) > 1 else 1.0
    span_s = _span_s(state, bin_s)
    new_window = np.flatnonzero(np.diff(estimate["window"].values, prepend=-1))
    every_span = np.arange(0, len(time), max(round(span_s / bin_s), 1))
    first = np.unique(np.concatenate([new_window, every_span]))
    stop = np.searchsorted(time, time[first] + span_s)
    covered = stop - first
    full = np.flatnonzero(covered >= 0.95 * covered.max())
    switched = np.concatenate([[0], np.cumsum(np.diff(state) != 0)])
    n_switches = switched[stop[full] - 1] - switched[first[full]]
    chosen = full[np.argsort(n_switches, kind="stable")[len(full) // 2]]
    start_s = time[first[chosen]] - bin_s / 2
    stop_s = time[stop[chosen] - 1] + bin_s / 2
    n_columns = min(max(round((stop_s - start_s) / bin_s), 1), MOST_COLUMNS)
    return Stretch(np.linspace(start_s, stop_s, n_columns + 1))
