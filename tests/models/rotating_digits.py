"""Frames of a digit that turns and grows with two latents, and spikes that follow one of them."""

import numpy as np
from scipy import ndimage
from sklearn.datasets import load_digits

VARIANCE = {"shared": 0.3, "neural": 0.5, "zoom": 0.8}
SIDE, PIXELS = 36, 28


def digits(n_trials=300, n_bins=60, n_units=100, seed=32):
    """Draw the recipe of the published simulation, with scikit-learn's threes for MNIST's.

    Returns
    -------
    dict
        ``shared``, ``neural``, ``zoom (trial, bin)``; ``count (trial, bin, unit)`` with log rates
        linear in the first two; ``frame (trial, bin, y * x)`` from 0 to 1, a three turned by 120
        degrees times ``shared`` and sized by ``zoom``, another three in every frame.
    """
    rng = np.random.default_rng(seed)
    lag = np.arange(n_bins)[:, None] - np.arange(n_bins)
    path = np.stack([
        rng.multivariate_normal(
            np.zeros(n_bins), v * np.exp(-(lag**2) / 200) + 1e-8 * np.eye(n_bins), n_trials,
            method="cholesky",
        )
        for v in VARIANCE.values()
    ], -1)  # fmt: skip
    shared, neural, zoom = path[..., 0], path[..., 1], path[..., 2] + 1.0
    weight = 1.5 * rng.uniform(-1, 1, (n_units, 2))
    offset = 0.5 * rng.uniform(-1, 1, n_units)
    count = rng.poisson(np.exp(path[..., :2] @ weight.T + offset))
    data = load_digits()
    threes = data.images[data.target == 3] / 16.0
    pad = (SIDE - PIXELS) // 2
    threes = [np.pad(ndimage.zoom(t, PIXELS / 8, order=1), pad) for t in threes]
    frame = np.empty((n_trials * n_bins, SIDE * SIDE), np.float32)
    centre = np.full(2, (SIDE - 1) / 2)
    for k, (angle, size) in enumerate(zip(120 * shared.ravel(), zoom.ravel(), strict=True)):
        image = ndimage.rotate(threes[k % len(threes)], angle, reshape=False, order=1)
        size = max(abs(size), 0.05)
        grown = ndimage.affine_transform(
            image, np.eye(2) / size, offset=centre - centre / size, order=1
        )
        frame[k] = grown.ravel()
    return {
        "shared": shared, "neural": neural, "zoom": zoom, "count": count,
        "frame": frame.reshape(n_trials, n_bins, -1),
    }  # fmt: skip
