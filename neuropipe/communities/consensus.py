"""Several partitions of the same nodes: their consensus, their agreement, their stability."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from neuropipe.communities.modularity import modularity
from neuropipe.communities.partition import by_size
from neuropipe.errors import DataError
from neuropipe.metrics import partition_agreement

_ROUNDS = 20


def co_assignment(labels: Sequence[np.ndarray]) -> np.ndarray:
    """Return how often each pair of nodes shares a community.

    Parameters
    ----------
    labels : sequence of (n,)

    Returns
    -------
    (n, n), 0 to 1
    """
    stack = _stacked(labels, "co_assignment")
    return (stack[:, :, None] == stack[:, None]).mean(axis=0)


def consensus(
    labels: Sequence[np.ndarray], *, threshold: float = 0.5, n_runs: int = 10, seed: int
) -> np.ndarray:
    """Return the communities that several partitions agree on.

    Parameters
    ----------
    labels : sequence of (n,)
        Partitions of the same nodes, from restarts, methods, animals or halves of the data.
    threshold : float, 0 to 1
        Pairs of nodes that share a community less often are not linked; a node is then linked
        to the one it is most often with, so that none falls out.
    n_runs : int
        Modularity partitions of the matrix of agreement in each round.
    seed : int

    Returns
    -------
    (n,), integer, the largest community first

    Raises
    ------
    DataError
        If there is no partition, or they are of different numbers of nodes.

    Source
    ------
    Lancichinetti & Fortunato 2012, Sci. Rep. 2 336: the matrix of agreement, thresholded, is
    partitioned again and again until all partitions are the same. Ours: 20 rounds at most, then
    the first partition of the last round; agreement above chance is not weighed, so that one
    partition that is repeated comes back unchanged.
    """
    stack = _stacked(labels, "consensus")
    rng = np.random.default_rng(seed)
    for _ in range(_ROUNDS):
        if (stack == stack[0]).all():
            break
        together = co_assignment(list(stack))
        np.fill_diagonal(together, 0.0)
        kept = np.where(together >= threshold, together, 0.0)
        for node in np.flatnonzero((kept.sum(axis=1) == 0) & (together.max(axis=1) > 0)):
            friend = int(np.argmax(together[node]))
            kept[node, friend] = kept[friend, node] = together[node, friend]
        seeds = rng.integers(2**31, size=n_runs)
        stack = np.array([modularity(kept, n_restarts=1, seed=int(s)).labels for s in seeds])
    return by_size(stack[0])


def agreement(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """Return how alike two partitions of the same nodes are: `metrics.partition_agreement`.

    Raises
    ------
    DataError
        If they are of different numbers of nodes.
    """
    return partition_agreement(*_stacked([first, second], "agreement"))


def stability(labels: Sequence[np.ndarray]) -> dict[str, float]:
    """Return the mean agreement of all pairs of partitions, `agreement` by name.

    Raises
    ------
    DataError
        If there are fewer than two partitions, or they are of different numbers of nodes.
    """
    stack = _stacked(labels, "stability")
    if len(stack) < 2:
        raise DataError(
            "stability: found one partition, expected two at least; fit with several seeds"
        )
    pairs = [agreement(a, b) for a, b in combinations(stack, 2)]
    return {name: float(np.mean([pair[name] for pair in pairs])) for name in pairs[0]}


def _stacked(labels: Sequence[np.ndarray], where: str) -> np.ndarray:
    """Return partitions as one array (partition, node), each numbered from its largest."""
    sizes = {len(np.atleast_1d(partition)) for partition in labels}
    if len(sizes) != 1 or 0 in sizes:
        raise DataError(
            f"{where}: partitions of {sorted(sizes)} nodes, expected one or more partitions of the "
            "same nodes"
        )
    return np.array([by_size(np.asarray(partition)) for partition in labels])
