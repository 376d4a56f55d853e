"""Looking for the partition of least description length: sweeps, merges, merge-split moves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage

from neuropipe.communities.assortative import AssortativeModel, AssortativeState
from neuropipe.communities.block_state import BlockModel, BlockState

_SETTLED = 1e-9
_PATIENCE = 3
_FINEST = 24
Model = BlockModel | AssortativeModel
State = BlockState | AssortativeState
Cost = Callable[[Any], float]


class Bounds(NamedTuple):
    """How many blocks there may be."""

    least: int
    most: int


def sweep(
    state: State, rng: np.random.Generator, *, cold: bool, bounds: Bounds,
    nodes: np.ndarray | None = None, slots: tuple[int, int] | None = None,
) -> int:  # fmt: skip
    """Offer a new block to each node in random order; return how many moved.

    Parameters
    ----------
    state : changed in place
    cold : take the best block, else draw one by the posterior (heat bath, Gibbs)
    bounds : numbers of blocks that a node alone may not pass
    nodes : which nodes; all without it
    slots : only these two blocks
    """
    moved = 0
    for node in rng.permutation(state.model.n_nodes if nodes is None else nodes):
        cost = state.move_costs(node)
        if slots is not None:
            closed = np.ones(len(cost), dtype=bool)
            closed[list(slots)] = False
            cost[closed] = np.inf
        elif state.n_blocks >= bounds.most:
            cost[state.n_blocks] = np.inf
        home = state.labels[node]
        # a split that loses one of its halves is no split
        kept = slots is not None or state.n_blocks <= bounds.least
        if kept and state.sizes[home] == 1:
            continue
        if cold:
            slot = int(np.argmin(cost))
            if cost[slot] > -_SETTLED:
                continue
        else:
            chance = np.exp(cost.min() - cost)
            slot = int(np.searchsorted(np.cumsum(chance), rng.random() * chance.sum()))
        if slot != home:
            state.move(node, slot)
            moved += 1
    return moved


def settle(state: State, rng: np.random.Generator, *, bounds: Bounds, n_sweeps: int) -> None:
    """Sweep cold until no node moves, `n_sweeps` times at most."""
    for _ in range(n_sweeps):
        if not sweep(state, rng, cold=True, bounds=bounds):
            break
    state.rebuild(state.labels)  # sums anew: rounding does not add up


def starts(model: Model, rng: np.random.Generator, n_blocks: int, which: int) -> np.ndarray:
    """Return a fine partition to start from: the first by likeness of rows, the others random."""
    if n_blocks >= model.n_nodes:
        return np.arange(model.n_nodes)
    if which % 2 == 0:
        rows = profiles(model)
        if which:
            rows = rows + rng.normal(size=rows.shape) * rows.std() / 2
        labels = fcluster(linkage(rows, "ward"), n_blocks, "maxclust") - 1
        if labels.max() + 1 == n_blocks:  # nodes that are all alike cannot be told apart
            return labels
    return rng.permutation(np.arange(model.n_nodes) % n_blocks)


def profiles(model: Model) -> np.ndarray:
    """Return each node's rows of weights, as ranks, in the leading directions of the graph."""
    weights = model.values[1]
    ranks = np.unique(weights, return_inverse=True)[1].reshape(weights.shape).astype(float)
    ranks -= ranks.mean()
    values, vectors = np.linalg.eigh(ranks)
    top = np.argsort(-np.abs(values))[: max(2, int(np.sqrt(len(values))))]
    return vectors[:, top] * np.abs(values[top])


def merge_down(state: State, n_blocks: int) -> None:
    """Join the pair of blocks that costs least until `n_blocks` are left.

    Notes
    -----
    With many blocks several disjoint pairs join between two evaluations of all pairs
    (agglomeration of Peixoto 2014, PRE 89 012804).
    """
    while state.n_blocks > n_blocks:
        costs = np.array([state.merge_costs(r) for r in range(state.n_blocks)])
        rows, columns = np.triu_indices(state.n_blocks, 1)
        order = np.argsort(costs[rows, columns], kind="stable")
        quota = max(1, min(state.n_blocks - n_blocks, state.n_blocks // 8))
        labels, used = state.labels.copy(), set[int]()
        for pair in order:
            r, s = int(rows[pair]), int(columns[pair])
            if r in used or s in used:
                continue
            labels[state.labels == s] = r
            used |= {r, s}
            quota -= 1
            if not quota:
                break
        state.rebuild(labels)


def descend(
    model: Model, labels: np.ndarray, rng: np.random.Generator, *, n_sweeps: int, least: int = 1
) -> list[tuple[float, np.ndarray, float]]:
    """Merge from a fine partition to `least` blocks, settling in between.

    Returns
    -------
    list of (description length, labels, shape of the weights), one for each number of blocks met
    """
    state = model.state(labels)
    path = []
    while True:
        bounds = Bounds(least, state.n_blocks)
        state.fit_shape()
        sweep(state, rng, cold=False, bounds=bounds)
        settle(state, rng, bounds=bounds, n_sweeps=n_sweeps)
        state.fit_shape()
        path.append((state.description_length(), state.labels.copy(), model.shape))
        n = state.n_blocks
        if n <= least:
            return path
        merge_down(state, max(least, n - 1 if n <= 8 else int(n / 1.25)))


def _bisect(state: State, block: int, rng: np.random.Generator) -> None:
    """Split a block in two, by the sign of a random mix of its leading directions."""
    nodes = np.flatnonzero(state.labels == block)
    inner = state.node_sums[nodes][:, 1, : state.n_blocks]
    links = state.model.values[1][np.ix_(nodes, nodes)]
    features = np.concatenate([inner, links], axis=1)
    features = features - features.mean(axis=0)
    left = np.linalg.svd(features, full_matrices=False)
    mix = (left[0] * left[1]) @ (rng.normal(size=len(left[1])) / np.arange(1, len(left[1]) + 1))
    if rng.random() < 0.3:
        mix = rng.normal(size=len(nodes))
    half = mix > np.median(mix) if rng.random() < 0.5 else mix > mix.mean()
    if half.all() or not half.any():
        half = np.arange(len(nodes)) % 2 == 0
    labels = state.labels.copy()
    labels[nodes[half]] = state.n_blocks
    state.rebuild(labels)


def merge_split(
    model: Model, labels: np.ndarray, rng: np.random.Generator, *,
    bounds: Bounds, n_rounds: int, cost: Cost,
) -> tuple[float, np.ndarray]:  # fmt: skip
    """Refine a partition by merges, splits and both together, kept when the cost falls.

    Parameters
    ----------
    bounds : how many blocks there may be
    cost : what is to fall

    Returns
    -------
    cost, labels

    Source
    ------
    The moves of Peixoto 2020, PRE 102 012305 (merge-split), at zero temperature: halves come from
    a leading direction of the block instead of a random one in seven of ten trials, and settle by
    restricted Gibbs sweeps as there.
    """
    best = model.state(labels)
    least = cost(best)
    idle = 0
    for _ in range(n_rounds):
        idle += 1
        kinds = ["split"] * best.n_blocks + ["merge", "resplit", "resplit", "shake"]
        for turn, kind in enumerate(rng.permutation(kinds)):
            trial = model.state(best.labels)
            if kind == "merge" or kind == "resplit":
                if trial.n_blocks < (2 if kind == "resplit" else bounds.least + 1):
                    continue
                r = int(rng.integers(trial.n_blocks))
                costs = trial.merge_costs(r)
                chance = np.exp(np.clip(costs.min() - costs, -700, 0) / max(abs(costs.min()), 1))
                s = int(rng.choice(len(costs), p=chance / chance.sum()))
                joined = np.where(trial.labels == s, r, trial.labels)
                block = int(np.unique(joined, return_inverse=True)[1][trial.labels == r][0])
                trial.rebuild(joined)
            else:
                block = turn % trial.n_blocks
            if kind == "shake":
                sweep(trial, rng, cold=False, bounds=bounds)
            elif kind != "merge":
                nodes = np.flatnonzero(trial.labels == block)
                if len(nodes) < 2 or trial.n_blocks >= bounds.most:
                    continue
                _bisect(trial, block, rng)
                halves = (block, trial.n_blocks - 1)
                sweep(trial, rng, cold=False, bounds=bounds, nodes=nodes, slots=halves)
                for _ in range(4):
                    if not sweep(trial, rng, cold=True, bounds=bounds, nodes=nodes, slots=halves):
                        break
            settle(trial, rng, bounds=bounds, n_sweeps=4)
            found = cost(trial)
            if found < least - _SETTLED:
                best, least, idle = trial, found, 0
        if idle == _PATIENCE:
            break
    return least, best.labels


def search(
    model: Model, rng: np.random.Generator, fines: Sequence[np.ndarray], bounds: Bounds, *,
    n_sweeps: int, n_rounds: int, cost: Cost, n_looked_at: int = 1,
) -> tuple[float, np.ndarray]:  # fmt: skip
    """Merge from each fine partition, refine the best step of each, and take the least.

    Parameters
    ----------
    fines : partitions to start from; those with too few blocks are left out
    n_looked_at : int
        Steps of each way down, shortest description first, of which `cost` is computed.

    Returns
    -------
    cost, labels; the model keeps the shape of its weights there
    """
    ends = []
    for fine in fines:
        if int(fine.max()) + 1 < bounds.least:
            continue
        path = descend(model, fine, rng, n_sweeps=n_sweeps, least=bounds.least)
        path = [step for step in path if step[1].max() + 1 <= bounds.most]
        path = [
            (cost(_with_shape(model, labels, shape)), labels, shape)
            for _, labels, shape in sorted(path, key=lambda step: step[0])[:n_looked_at]
        ]
        least, labels, shape = min(path, key=lambda step: step[0])
        _with_shape(model, labels, shape)
        least, labels = merge_split(model, labels, rng, bounds=bounds, n_rounds=n_rounds, cost=cost)
        ends.append((least, labels, shape))
    least, labels, shape = min(ends, key=lambda end: end[0])
    _with_shape(model, labels, shape)
    return least, labels


def fine_starts(
    model: Model, rng: np.random.Generator, bounds: Bounds, n_restarts: int
) -> list[np.ndarray]:
    """Return fine partitions to merge from."""
    n_blocks = min(model.n_nodes, max(_FINEST, 2 * bounds.least))
    return [starts(model, rng, n_blocks, start) for start in range(n_restarts)]


def _with_shape(model: Model, labels: np.ndarray, shape: float) -> State:
    if shape != model.shape:
        model.set_shape(shape)
    return model.state(labels)
