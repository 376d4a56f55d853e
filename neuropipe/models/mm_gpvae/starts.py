"""What a fit begins from, read off the training data: length scales and the modalities' balance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import gaussian_filter1d

SMOOTHING_BINS = 2.0  # sd of the Gaussian that counts are smoothed with first
LAGS = 60  # most lags that are looked at


def length_scale(blocks: Sequence[np.ndarray], n_components: int = 3) -> float:
    """Return the length scale, in bins, of what the channels of a modality have in common.

    Parameters
    ----------
    blocks : sequence of (bin, channel)
        Windows of counts (as square roots) or signals; NaN where missing.
    n_components : int
        Principal components of the smoothed data that are looked at.

    Returns
    -------
    float
        From the decay of their autocorrelation over lags where the smoothing and the noise that
        it spreads no longer matter; at least 1, at most a third of the longest window. NaN where
        nothing varies.

    Notes
    -----
    Smoothing by a Gaussian of sd s makes exp(-d^2 / 2 l^2) into exp(-d^2 / 2 (l^2 + 2 s^2)): the
    log of the autocorrelation is fitted by a line in d^2 and s is taken off again.
    """
    longest = max(len(b) for b in blocks)
    mean = np.nanmean(np.concatenate(blocks), 0) if blocks else np.zeros(0)
    smooth = []
    for block in blocks:
        centred = np.nan_to_num(block - np.nan_to_num(mean))
        smooth.append(gaussian_filter1d(centred, SMOOTHING_BINS, axis=0, mode="reflect"))
    whole = np.concatenate(smooth)
    covariance = whole.T @ whole / len(whole)
    if not np.isfinite(covariance).all() or np.trace(covariance) <= 0:
        return float("nan")
    _, vectors = np.linalg.eigh(covariance)
    axes = vectors[:, ::-1][:, :n_components]
    lags = np.arange(min(LAGS * 4, longest - 1) + 1)
    total, number = np.zeros(len(lags)), np.zeros(len(lags))
    for block in smooth:
        course = block @ axes
        for lag in lags[: len(course)]:
            total[lag] += (course[: len(course) - lag] * course[lag:]).sum()
            number[lag] += len(course) - lag
    decay = total / np.maximum(number, 1)
    first = min(round(3 * SMOOTHING_BINS), len(lags) - 1)
    low = np.flatnonzero((decay < 0.3 * decay[first]) | (number < 10))
    last = int(low[low > first][0]) if (low > first).any() else len(lags)
    use = slice(first, max(last, first + 2))
    squares, values = lags[use].astype(float) ** 2, decay[use]
    if len(values) < 2 or (values <= 0).any():
        return float(np.clip(SMOOTHING_BINS, 1, max(1.0, longest / 3)))
    slope = np.polyfit(squares, np.log(values), 1)[0]
    square = -0.5 / slope - 2 * SMOOTHING_BINS**2 if slope < 0 else np.inf
    return float(np.sqrt(np.clip(square, 1.0, max(1.0, longest / 3) ** 2)))


def effective_share(blocks: Sequence[np.ndarray]) -> float:
    """Return how many independent directions the noise of behaviour has, over its channels.

    Parameters
    ----------
    blocks : sequence of (bin, channel)
        Windows of behaviour; NaN where missing.

    Returns
    -------
    float
        Participation ratio (tr C)^2 / tr C^2, over the number of channels, of the correlations C
        of what is new in each bin: the value less the mean of its two neighbours, which takes
        smooth latents out. 1 where no three bins follow each other.

    Notes
    -----
    A likelihood with a variance for each channel takes their noise to be independent. Where it is
    not, as in frames, every direction of noise is counted as often as channels share it, and
    behaviour outweighs the counts; this share makes up for that. The participation ratio of the
    behaviour itself would also count its few smooth latents, and so weigh even independent noise
    down: the planted 24 channels by 8, with which three of four starts mistook the shared latent.
    """
    new = np.concatenate([b[1:-1] - 0.5 * (b[:-2] + b[2:]) for b in blocks if len(b) > 2] or
                         [np.zeros((0, blocks[0].shape[1]))])  # fmt: skip
    seen = np.isfinite(new)
    number = np.maximum(seen.sum(0), 1)
    x = np.where(seen, new - np.where(seen, new, 0.0).sum(0) / number, 0.0)
    sd = np.sqrt((x**2).sum(0) / number)
    moves = sd > 1e-9 * max(float(sd.max(initial=0.0)), 1e-30)
    if not moves.any():
        return 1.0
    x = x[:, moves] / sd[moves]
    short = x.T @ x if x.shape[1] <= x.shape[0] else x @ x.T
    return float(np.trace(short) ** 2 / (short**2).sum() / x.shape[1])
