"""Which contacts tell trials apart: band power in bins of time, and its variance over classes."""

from __future__ import annotations

import numpy as np
from scipy.fft import irfft, rfft, rfftfreq

# Slow, beta and gamma bands, and high gamma, Hz.
BANDS = ((4.0, 12.0), (12.0, 30.0), (30.0, 70.0), (70.0, 150.0))
BIN_S = 0.1
NOTHING = 1e-30  # power, V^2 or in standard deviations, that counts as none
BLOCK = 2**24  # numbers that are filtered at once


def band_features(
    value: np.ndarray,
    rate_hz: float,
    bands: tuple[tuple[float, float], ...] = BANDS,
    bin_s: float = BIN_S,
) -> np.ndarray:
    """Return the log power of each band in bins of time, (trial, channel, band, bin).

    Parameters
    ----------
    value : (trial, sample, channel)
    rate_hz : float
    bands : tuple of (low, high), Hz
        Those above half the rate are left out.
    bin_s : float
        Samples behind the last whole bin are left out.

    Notes
    -----
    Bands are cut in the Fourier domain of each trial alone, so nothing outside of it is looked at.
    """
    n, length, n_channels = value.shape
    size = max(1, min(round(bin_s * rate_hz), length))
    n_bins = length // size
    used = [(low, high) for low, high in bands if low < rate_hz / 2]
    out = np.empty((n, n_channels, len(used), n_bins), dtype=np.float32)
    frequency = rfftfreq(length, 1 / rate_hz)
    step = max(1, BLOCK // (length * n_channels))
    for start in range(0, n, step):
        rows = slice(start, start + step)
        spectrum = rfft(value[rows], axis=1)
        for b, (low, high) in enumerate(used):
            keep = (frequency >= low) & (frequency < high)
            wave = irfft(spectrum * keep[:, None], length, axis=1)[:, : n_bins * size]
            power = np.square(wave).reshape(wave.shape[0], n_bins, size, n_channels).mean(2)
            out[rows, :, b] = np.log(np.maximum(power, NOTHING)).transpose(0, 2, 1)
    return out


def discriminability(features: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Return how far classes differ on each channel: the mean F of its features, (channel,).

    Parameters
    ----------
    features : (trial, channel, ...)
    label : (trial,)

    Notes
    -----
    F of a one-way analysis of variance, by feature; 1 is expected where classes are alike. NaN
    where each class has one trial.
    """
    flat = features.reshape(len(features), features.shape[1], -1).astype(float)
    classes, which = np.unique(label.astype(str), return_inverse=True)
    count = np.bincount(which).astype(float)
    total = np.zeros((len(classes), *flat.shape[1:]))
    np.add.at(total, which, flat)
    mean = total / count[:, None, None]
    between = (count[:, None, None] * np.square(mean - flat.mean(0))).sum(0) / (len(classes) - 1)
    within = np.square(flat - mean[which]).sum(0) / max(len(flat) - len(classes), 0.5)
    return (between / np.maximum(within, 1e-12)).mean(1)
