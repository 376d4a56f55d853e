"""What a community method hands back, and what every one of them asks of its matrix of weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neuropipe.errors import DataError


@dataclass(frozen=True, eq=False)
class Partition:
    """Communities of one weighted graph.

    Attributes
    ----------
    labels : (n,), integer
        Community of each node, 0 ... n_blocks - 1, the largest first.
    description_length : float, nats
        What the graph costs under the model, lower is better; NaN for methods without one.
        Weights are continuous, so it may be negative, and only differences have a meaning.
    n_blocks : int
    family : str
        Distribution of the weights, or ``"modularity"``.
    degree_corrected : bool
    levels : tuple of (n,), integer
        Nested fits: community of each node at the levels above `labels`, finest first.
    modularity : float
        Newman's modularity of `labels`, where the method computes it, else NaN.
    """

    labels: np.ndarray
    description_length: float
    n_blocks: int
    family: str
    degree_corrected: bool = False
    levels: tuple[np.ndarray, ...] = ()
    modularity: float = float("nan")


def checked_weights(weights: np.ndarray, where: str) -> np.ndarray:
    """Return the matrix in float64, its diagonal set to zero.

    Parameters
    ----------
    weights : (n, n)
        Symmetric, finite, at least 0; a 0 means "no edge". The diagonal is not looked at: no
        method here has a place for a node's edge to itself.
    where : what asks, for the error

    Raises
    ------
    DataError
        If it is no square matrix, has no node, or holds NaN, infinite, negative or asymmetric
        entries off its diagonal.
    """
    found = np.array(weights, dtype=float)
    if found.ndim != 2 or found.shape[0] != found.shape[1] or not len(found):
        raise DataError(
            f"{where}: weights have the shape {found.shape}, expected (n, n) with n of at least 1; "
            "fold the pairs into a matrix of all nodes"
        )
    np.fill_diagonal(found, 0.0)
    n_bad = int((~np.isfinite(found)).sum())
    if n_bad:
        raise DataError(
            f"{where}: {n_bad} of {found.size} weights are NaN or infinite, expected finite ones; "
            "leave out nodes that were not recorded, or set pairs without a value to 0 if that "
            "is what they mean"
        )
    if found.min() < 0:
        raise DataError(
            f"{where}: {int((found < 0).sum())} weights are negative (least {found.min():.3g}), "
            "expected at least 0; split them into a positive and a negative graph"
        )
    gap = np.abs(found - found.T).max()
    if gap > 1e-9 * max(found.max(), 1e-300):
        raise DataError(
            f"{where}: weights differ from their transpose by up to {gap:.3g}, expected a "
            "symmetric matrix; average it with its transpose if direction does not matter"
        )
    return (found + found.T) / 2


def by_size(labels: np.ndarray) -> np.ndarray:
    """Return the same groups, numbered from the largest; ties by the first member."""
    _, first, inverse, size = np.unique(
        labels, return_index=True, return_inverse=True, return_counts=True
    )
    rank = np.empty(len(size), dtype=int)
    rank[np.lexsort((first, -size))] = np.arange(len(size))
    return rank[inverse]
