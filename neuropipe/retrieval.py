"""How well predicted embeddings find what was shown, and how alike pictures are."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.stats import hypergeom


def cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the cosines (row of `first`, row of `second`); 0 with a vector of length zero."""
    lengths = [np.linalg.norm(x, axis=1, keepdims=True) for x in (first, second)]
    a, b = (
        x / np.where(length > 0, length, 1)
        for x, length in zip((first, second), lengths, strict=True)
    )
    return a @ b.T


def _rivals(
    similarity: np.ndarray, label: Sequence | np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for each query how many rivals are ahead of the right item, level with it, in all."""
    names = np.arange(len(similarity)) if label is None else np.asarray(label)
    rival = names[:, None] != names
    right = np.diag(similarity)[:, None]
    return (
        ((similarity > right) & rival).sum(1), ((similarity == right) & rival).sum(1), rival.sum(1)
    )  # fmt: skip


def two_way_identification(
    similarity: np.ndarray, label: Sequence | np.ndarray | None = None
) -> float:
    """Return how often the right item is more similar to a query than another one; chance is 1/2.

    Parameters
    ----------
    similarity : (query, item)
        Item n is the right one of query n. A tie counts half.
    label : (query,), optional
        Queries of one label have the same right item and are no rivals of each other.

    Notes
    -----
    Mean over queries and all their rivals; NaN where there are none.
    """
    return float(np.mean(two_way_each(similarity, label))) if len(similarity) else float("nan")


def two_way_each(similarity: np.ndarray, label: Sequence | np.ndarray | None = None) -> np.ndarray:
    """Return `two_way_identification` of every query, (query,); NaN without a rival."""
    ahead, level, n = _rivals(similarity, label)
    return np.where(n > 0, 1 - (ahead + level / 2) / np.maximum(n, 1), np.nan)


def retrieval_accuracy(
    similarity: np.ndarray, n_best: int, pool_size: int, label: Sequence | np.ndarray | None = None
) -> float:
    """Return how often the right item is among the most similar ones of a pool.

    Parameters
    ----------
    similarity : (query, item)
        Item n is the right one of query n; the transpose searches the other way.
    n_best : int
        How many of the pool are looked at.
    pool_size : int
        The right item and ``pool_size - 1`` rivals; chance is ``n_best / pool_size``.
    label : (query,), optional
        As in `two_way_identification`.

    Notes
    -----
    The mean over all pools that can be drawn from the rivals, in closed form: the number of rivals
    in a pool that are ahead is hypergeometric. Tied items stand in random order. NaN where there
    are fewer rivals than a pool needs.
    """
    found = retrieval_each(similarity, n_best, pool_size, label)
    return float(np.mean(found)) if len(found) else float("nan")


def retrieval_each(
    similarity: np.ndarray, n_best: int, pool_size: int, label: Sequence | np.ndarray | None = None
) -> np.ndarray:
    """Return `retrieval_accuracy` of every query, (query,); NaN with too few rivals."""
    ahead, level, n = _rivals(similarity, label)
    enough = n >= pool_size - 1
    found = np.full(len(ahead), np.nan)
    found[enough] = hypergeom.cdf(n_best - 1, n[enough], ahead[enough], pool_size - 1)
    for i in np.flatnonzero(enough & (level > 0)):
        places = ahead[i] + np.arange(level[i] + 1)
        found[i] = hypergeom.cdf(n_best - 1, n[i], places, pool_size - 1).mean()
    return found


def pixel_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return Pearson's r over all pixels and colours of two images; 0 if one is flat."""
    a, b = (np.asarray(x, float).ravel() - np.mean(x) for x in (first, second))
    length = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / length if length > 0 else 0.0


def structural_similarity(first: np.ndarray, second: np.ndarray) -> float:
    """Return SSIM of two grey images (y, x) from 0 to 1.

    Notes
    -----
    Gaussian window of sd 1.5 cut at 5 pixels, population covariances, range 1, and a rim of 5
    pixels left out of the mean. Source: Wang et al. 2004, IEEE Trans. Image Process. 13:600-612.
    """
    a, b = np.asarray(first, float), np.asarray(second, float)
    blur = partial(gaussian_filter, sigma=1.5, radius=5)
    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    shared = blur(a * b) - mean_a * mean_b
    low, high = 0.01**2, 0.03**2
    map_ = ((2 * mean_a * mean_b + low) * (2 * shared + high)) / (
        (mean_a**2 + mean_b**2 + low) * (var_a + var_b + high)
    )
    rim = 5 if min(a.shape) > 10 else 0
    return float(map_[rim : a.shape[0] - rim, rim : a.shape[1] - rim].mean())


def embedding_scores(
    guess: np.ndarray, true: np.ndarray, center: np.ndarray, label: Sequence | np.ndarray,
    pool_size: int, head: str,
) -> dict[str, float]:  # fmt: skip
    """Return the scores that every decoder of embeddings reports.

    Parameters
    ----------
    guess, true : (trial, feature)
        True embeddings are scaled to length 1 first.
    center : (feature,)
        Mean training embedding of length 1: what all stimuli share would hide what tells them
        apart, so it is subtracted before cosines are taken.
    label : (trial,)
        Stimulus of each trial.
    pool_size : int
        For retrieval, which is left out where there are fewer stimuli.
    head : {"image", "text"}
        Text has its two-way identification only.
    """
    length = np.linalg.norm(true, axis=1, keepdims=True)
    s = cosines(guess - center, true / np.where(length > 0, length, 1) - center)
    out = {f"two_way_{head}": two_way_identification(s, label)}
    if head == "text" or len(set(label)) < pool_size:
        return out
    for n_best in (1, 5) if pool_size > 5 else (1,):
        out[f"image_retrieval_top{n_best}"] = retrieval_accuracy(s, n_best, pool_size, label)
        out[f"brain_retrieval_top{n_best}"] = retrieval_accuracy(s.T, n_best, pool_size, label)
    return out
