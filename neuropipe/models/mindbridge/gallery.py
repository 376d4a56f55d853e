"""Pictures by retrieval: of the training pictures the one whose embedding is nearest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import xarray as xr

from neuropipe.retrieval import (
    cosines,
    pixel_correlation,
    structural_similarity,
    two_way_identification,
)
from neuropipe.schema import Recording

Encoder = Callable[[np.ndarray], np.ndarray]
GREY = (0.2989, 0.5870, 0.1140)  # ITU-R BT.601


def pictures_of(recording: Recording, node: str) -> xr.DataArray | None:
    """Return the pictures (frame, y, x[, color]) of named stimuli, or None where there are none."""
    if node not in [group.lstrip("/") for group in recording.groups]:
        return None
    data = recording[node].to_dataset()
    if "stimulus" not in data.coords:
        return None
    return next((data[n] for n in ("frame_color", "frame") if n in data), None)


def rows_of(pictures: xr.DataArray, names: Sequence[str] | np.ndarray) -> np.ndarray:
    """Return the frames of some stimuli, -1 where one has no picture."""
    at = {str(name): row for row, name in enumerate(pictures["stimulus"].values)}
    return np.array([at.get(str(name), -1) for name in names], dtype=int)


def retrieved(guess: np.ndarray, gallery: np.ndarray, center: np.ndarray) -> np.ndarray:
    """Return which of the gallery's embeddings (picture, feature) is nearest to each guess."""
    length = np.linalg.norm(gallery, axis=1, keepdims=True)
    return cosines(guess - center, gallery / np.where(length > 0, length, 1) - center).argmax(1)


def scaled(picture: np.ndarray) -> np.ndarray:
    """Return a picture from 0 to 1."""
    return picture / 255.0 if picture.dtype.kind in "iu" else picture.astype(float)


def picture_scores(shown: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """Return how alike pictures are, mean over pictures (picture, y, x[, color])."""
    pairs = [(scaled(a), scaled(b)) for a, b in zip(shown, found, strict=True)]
    grey = [tuple(p @ GREY if p.ndim == 3 else p for p in pair) for pair in pairs]
    return {
        "pixel_correlation": float(np.mean([pixel_correlation(a, b) for a, b in pairs])),
        "structural_similarity": float(np.mean([structural_similarity(a, b) for a, b in grey])),
    }


def feature_scores(
    shown: np.ndarray, found: np.ndarray, encoders: Mapping[str, Encoder]
) -> dict[str, float]:
    """Return how alike pictures are to networks that look at them.

    Parameters
    ----------
    shown, found : (picture, y, x, color)
        Of 0 to 255; found n stands for shown n.
    encoders : mapping of name to callable
        Pictures to features (picture, feature). The paper's are AlexNet's second and fifth layer,
        Inception v3, CLIP ViT-L/14, EfficientNet-B1 and SwAV; no package ships their weights, so
        whoever has them gives them here. `neuropipe.encoders.lite0` is one that a package ships.

    Returns
    -------
    dict
        For each name ``two_way_NAME``, the share of other shown pictures whose features correlate
        less with those found than the right one's; and ``distance_NAME``, one minus the mean
        correlation of the right pairs.
    """
    out = {}
    for name, encode in encoders.items():
        a, b = (np.asarray(encode(x), float).reshape(len(x), -1) for x in (found, shown))
        r = cosines(a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True))
        out[f"two_way_{name}"] = two_way_identification(r)
        out[f"distance_{name}"] = 1 - float(np.diag(r).mean())
    return out


def nearest_picture_scores(
    pictures: xr.DataArray, names: np.ndarray, guess: np.ndarray, known: Sequence[str],
    embedding: np.ndarray | None, center: np.ndarray,
) -> dict[str, float]:  # fmt: skip
    """Return how alike the nearest training pictures are to those that were shown.

    Parameters
    ----------
    pictures : (frame, y, x[, color])
        With coordinate ``stimulus (frame)``.
    names, guess : (trial,) and (trial, feature)
        What was shown, and predicted.
    known, embedding : (picture,) and (picture, feature)
        Training stimuli that have a picture.
    center : (feature,)

    Returns
    -------
    dict
        Empty where no trial or no training stimulus has a picture.
    """
    shown = rows_of(pictures, names)
    if embedding is None or (shown < 0).all():
        return {}
    nearest = retrieved(guess[shown >= 0], embedding, center)
    found = rows_of(pictures, np.asarray(known, dtype=object)[nearest])
    return picture_scores(pictures.values[shown[shown >= 0]], pictures.values[found])
