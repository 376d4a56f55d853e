"""Spikes as tokens: the windows that a raster is cut to, and what is seen in each.

Nothing reaches over the edge of a fold's stretch, neither a window nor its past.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neuropipe.batching.raster import Raster
from neuropipe.errors import DataError

EDGE_BINS = 1e-3  # times within this of an edge are on it


@dataclass(frozen=True)
class Windows:
    """Consecutive windows of a raster, in order of time.

    Attributes
    ----------
    start : (window,) int64
        First bin.
    size : (window,) int64
        Bins; shorter than the others at the end of a stretch.
    past : (window,) int64
        Bins of past that the stretch holds before it, at most the wanted number.
    first : (window,) int64
        First bin of the window's stretch.
    """

    start: np.ndarray
    size: np.ndarray
    past: np.ndarray
    first: np.ndarray

    def __len__(self) -> int:
        return len(self.start)

    def take(self, index: np.ndarray) -> Windows:
        """Return some of the windows."""
        return Windows(self.start[index], self.size[index], self.past[index], self.first[index])


def cut_windows(raster: Raster, window_bins: int, history_bins: int, offset: int = 0) -> Windows:
    """Cut every stretch into windows of `window_bins`.

    Parameters
    ----------
    raster : Raster
    window_bins, history_bins : int
        Length of a window, and of the past that is wanted before it.
    offset : int
        Bins at the start of each stretch that serve as past only.

    Notes
    -----
    Every bin after the offset is in one window. The past ends at the edge of the stretch, so that
    held-out data reach neither into training nor back.
    """
    begin = np.minimum(raster.first + offset, raster.stop)
    number = -(-(raster.stop - begin) // window_bins)
    first = np.repeat(raster.first, number)
    start = ragged(np.zeros_like(begin), number) * window_bins + np.repeat(begin, number)
    size = np.minimum(window_bins, np.repeat(raster.stop, number) - start)
    return Windows(start, size, np.minimum(history_bins, start - first), first)


def ragged(first: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Return the ranges first[i] .. first[i] + length[i] - 1, one after the other."""
    ends = np.cumsum(length)
    n = int(ends[-1]) if len(ends) else 0
    return np.arange(n) + np.repeat(first - (ends - length), length)


@dataclass(frozen=True)
class Tokens:
    """Spikes of some stretches of bins, one after the other.

    Attributes
    ----------
    length : (row,) int64
        Tokens of each row.
    bin : (token,) int64
        Bin from the row's first bin.
    unit : (token,) int64
    """

    length: np.ndarray
    bin: np.ndarray
    unit: np.ndarray


def tokens_between(raster: Raster, start: np.ndarray, stop: np.ndarray) -> Tokens:
    """Return the spikes of the bins from `start` up to before `stop`, (row,) each."""
    first = np.searchsorted(raster.event_bin, start)
    length = np.searchsorted(raster.event_bin, stop) - first
    at = ragged(first, length)
    return Tokens(length, raster.event_bin[at] - np.repeat(start, length), raster.event_unit[at])


def frames_of(raster: Raster, windows: Windows, n_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Return which frames a window sees, and when they came.

    Returns
    -------
    frame : (window, n_frames) int64
        The last ones whose onset lies before the end of the window; -1 for none. A frame that was
        gone before the window's stretch began is none.
    lag : (window, n_frames) float64
        Onset from the start of the window, in bins; 0 for none.
    """
    if raster.movie is None:
        raise DataError(f"tokens: {raster.key}: no movie was read")
    onset, width = raster.movie.onset, raster.bin_width_s
    start = raster.time[windows.start] - width / 2
    stop = start + windows.size * width
    # the frame on the screen when the stretch begins is seen in it
    begin = raster.time[windows.first] - width / 2
    oldest = np.searchsorted(onset, begin + EDGE_BINS * width, side="right") - 1
    last = np.searchsorted(onset, stop - EDGE_BINS * width, side="left") - 1
    frame = last[:, None] + np.arange(1 - n_frames, 1)
    frame = np.where(frame >= np.maximum(oldest, 0)[:, None], frame, -1)
    lag = (onset[np.maximum(frame, 0)] - start[:, None]) / width
    return frame, np.where(frame >= 0, lag, 0.0)


def window_mean(raster: Raster, windows: Windows, channel: np.ndarray) -> np.ndarray:
    """Return the mean of some signals over each window, (window, channel); NaN where all miss."""
    value = raster.signal[:, channel]
    seen = np.isfinite(value)
    ends = np.concatenate([windows.start, windows.start + windows.size])
    total = _cumulative(np.where(seen, value, 0.0))[ends]
    number = _cumulative(seen.astype(float))[ends]
    n = len(windows)
    with np.errstate(invalid="ignore"):
        return (total[n:] - total[:n]) / np.where(number[n:] > number[:n], number[n:] - number[:n],
                                                  np.nan)  # fmt: skip


def _cumulative(value: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros((1, value.shape[1])), value.cumsum(0)])


def around(raster: Raster, windows: Windows, window_bins: int, history_bins: int) -> np.ndarray:
    """Return bins of the past and the present of each window, (window, history + window).

    -1 marks bins outside of the stretch or of the window.
    """
    lag = np.arange(-history_bins, window_bins)
    low = np.maximum(windows.start - windows.past, windows.first)[:, None]
    at = windows.start[:, None] + lag
    return np.where((at >= low) & (lag < windows.size[:, None]), at, -1)
