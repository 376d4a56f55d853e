"""Communities by Newman's modularity: more weight inside than strengths alone would put there."""

from __future__ import annotations

import numpy as np

from neuropipe.communities.partition import Partition, by_size, checked_weights
from neuropipe.errors import ConfigError

_SETTLED = 1e-12


def modularity_value(weights: np.ndarray, labels: np.ndarray, *, resolution: float = 1.0) -> float:
    """Return the modularity of a partition.

    Parameters
    ----------
    weights : (n, n)
        Symmetric, at least 0.
    labels : (n,)
    resolution : float
        How much weight is expected; 1 is Newman's, more finds smaller communities.

    Returns
    -------
    float
        Sum over communities of (inner share of the weight - resolution x squared share of the
        strength); 0 for a graph without weight.

    Source
    ------
    Newman 2004, PRE 70 056131, Eq. 4; resolution: Reichardt & Bornholdt 2006, PRE 74 016110.
    """
    weights = checked_weights(weights, "modularity_value")
    total = weights.sum()
    if total == 0:
        return 0.0
    member = np.eye(int(np.max(labels)) + 1)[np.unique(labels, return_inverse=True)[1]]
    inner = np.einsum("ir,ij,jr->r", member, weights, member, optimize=True)
    strength = weights.sum(axis=1) @ member
    return float((inner / total - resolution * (strength / total) ** 2).sum())


def modularity(
    weights: np.ndarray, *, resolution: float = 1.0, n_restarts: int = 10, seed: int
) -> Partition:
    """Find communities of high modularity.

    Parameters
    ----------
    weights : (n, n)
        Symmetric, at least 0; 0 means "no edge".
    resolution : float
        More than 1 finds smaller communities.
    n_restarts : int
        Independent orders of the nodes; the highest modularity is kept.
    seed : int

    Returns
    -------
    Partition
        With `modularity`; its description length is NaN. Nodes without an edge stand alone.

    Raises
    ------
    DataError
        If the weights are no symmetric matrix of finite numbers >= 0.
    ConfigError
        If the resolution is not above 0.

    Notes
    -----
    Modularity has no notion of noise: it finds communities in random graphs too. Compare with
    `neuropipe.communities.sbm` and with shuffled data before a community is believed.

    Source
    ------
    Own code in the manner of Leiden (Traag et al. 2019, Sci. Rep. 9 5233): local moves, a
    refinement that only joins within communities, aggregation, until nothing moves. Ours: the
    refinement takes the best join instead of a random one, and a last pass of local moves starts
    from the result.
    """
    weights = checked_weights(weights, "modularity")
    if not resolution > 0:
        raise ConfigError(f"modularity: resolution is {resolution}, expected a number above 0")
    if n_restarts < 1:
        raise ConfigError(f"modularity: n_restarts is {n_restarts}, expected at least 1")
    rng = np.random.default_rng(seed)
    best, highest = np.arange(len(weights)), -np.inf
    for _ in range(n_restarts if weights.any() else 0):
        labels = _leiden(weights, resolution, rng)
        value = modularity_value(weights, labels, resolution=resolution)
        if value > highest + _SETTLED:
            best, highest = labels, value
    value = modularity_value(weights, best, resolution=resolution)
    labels = by_size(best)
    return Partition(labels, float("nan"), int(labels.max()) + 1, "modularity", modularity=value)


def _leiden(weights: np.ndarray, resolution: float, rng: np.random.Generator) -> np.ndarray:
    total = weights.sum()
    labels = np.arange(len(weights))  # of the nodes of `graph`
    while True:
        graph, of_node = weights, np.arange(len(weights))
        before = labels
        labels = _move(graph, labels, total, resolution, rng)
        while True:
            fine = _refine(graph, labels, total, resolution, rng)
            if fine.max() + 1 == len(graph):
                break
            member = np.eye(fine.max() + 1)[fine]
            graph = member.T @ graph @ member
            coarse = np.zeros(fine.max() + 1, dtype=int)
            coarse[fine] = labels
            of_node = fine[of_node]
            labels = _move(graph, coarse, total, resolution, rng)
        labels = labels[of_node]
        if len(np.unique(before)) == len(np.unique(labels)) and _same(before, labels):
            return labels


def _same(first: np.ndarray, second: np.ndarray) -> bool:
    return bool((by_size(first) == by_size(second)).all())


def _gains(
    graph: np.ndarray, node: int, labels: np.ndarray, strengths: np.ndarray, sums: np.ndarray,
    total: float, resolution: float,
) -> np.ndarray:  # fmt: skip
    """Return what joining each community adds, in units of total / 2, the node taken out."""
    links = np.bincount(labels, graph[node], minlength=len(sums))
    links[labels[node]] -= graph[node, node]
    held = sums.copy()
    held[labels[node]] -= strengths[node]
    return links - resolution * strengths[node] * held / total


def _move(
    graph: np.ndarray, labels: np.ndarray, total: float, resolution: float,
    rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    """Move nodes to their best community until none gains; one slot stays free."""
    labels = np.unique(labels, return_inverse=True)[1]
    strengths = graph.sum(axis=1)
    sums = np.bincount(labels, strengths, minlength=len(graph) + 1)
    moved = True
    while moved:
        moved = False
        for node in rng.permutation(len(graph)):
            gain = _gains(graph, node, labels, strengths, sums, total, resolution)
            slot = int(np.argmax(gain))
            if gain[slot] > gain[labels[node]] + _SETTLED * total:
                sums[labels[node]] -= strengths[node]
                sums[slot] += strengths[node]
                labels[node] = slot
                moved = True
    return np.unique(labels, return_inverse=True)[1]


def _refine(
    graph: np.ndarray, labels: np.ndarray, total: float, resolution: float,
    rng: np.random.Generator,
) -> np.ndarray:  # fmt: skip
    """Join single nodes within their community; a node that has been joined stays."""
    fine = np.arange(len(graph))
    strengths = graph.sum(axis=1)
    sums = strengths.copy()
    size = np.ones(len(graph), dtype=int)
    for node in rng.permutation(len(graph)):
        if size[fine[node]] > 1:
            continue
        gain = _gains(graph, node, fine, strengths, sums, total, resolution)
        inside = np.zeros(len(graph), dtype=bool)
        inside[fine[labels == labels[node]]] = True
        gain[~inside] = -np.inf
        slot = int(np.argmax(gain))
        if slot != fine[node] and gain[slot] > _SETTLED * total:
            sums[fine[node]] -= strengths[node]
            sums[slot] += strengths[node]
            size[fine[node]] -= 1
            size[slot] += 1
            fine[node] = slot
    return np.unique(fine, return_inverse=True)[1]
