"""Looking for the partition of least description length: sweeps, merges, merge-split moves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage

from neuropipe.communities.block_state import BlockModel, BlockState

_SETTLED = 1e-9
_PATIENCE = 3
Cost = Callable[[BlockState], float]


def sweep(
    state: BlockState, rng: np.random.Generator, *, cold: bool, most: int,
    nodes: np.ndarray | None = None, slots: tuple[int, int] | None = None,
) -> int:  # fmt: skip
    """Offer a new block to each node in random order; return how many moved.

    Parameters
    ----------
    state : changed in place
    cold : take the best block, else draw one by the posterior (heat bath, Gibbs)
    most : number of blocks that a node alone may not raise
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
        elif state.n_blocks >= most:
            cost[state.n_blocks] = np.inf
        home = state.labels[node]
        if slots is not None and state.sizes[home] == 1:
            continue  # a split that loses one of its halves is no split
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


def settle(state: BlockState, rng: np.random.Generator, *, most: int, n_sweeps: int) -> None:
    """Sweep cold until no node moves, `n_sweeps` times at most."""
    for _ in range(n_sweeps):
        if not sweep(state, rng, cold=True, most=most):
            break
    state.rebuild(state.labels)  # sums anew: rounding does not add up


def starts(model: BlockModel, rng: np.random.Generator, n_blocks: int, which: int) -> np.ndarray:
    """Return a fine partition to start from: the first by likeness of rows, the others random."""
    if n_blocks >= model.n_nodes:
        return np.arange(model.n_nodes)
    if which % 2 == 0:
        rows = profiles(model)
        if which:
            rows = rows + rng.normal(size=rows.shape) * rows.std() / 2
        return fcluster(linkage(rows, "ward"), n_blocks, "maxclust") - 1
    return rng.permutation(np.arange(model.n_nodes) % n_blocks)


def profiles(model: BlockModel) -> np.ndarray:
    """Return each node's rows of weights, as ranks, in the leading directions of the graph."""
    weights = model.values[1]
    ranks = np.unique(weights, return_inverse=True)[1].reshape(weights.shape).astype(float)
    ranks -= ranks.mean()
    values, vectors = np.linalg.eigh(ranks)
    top = np.argsort(-np.abs(values))[: max(2, int(np.sqrt(len(values))))]
    return vectors[:, top] * np.abs(values[top])


def merge_down(state: BlockState, n_blocks: int) -> None:
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
    model: BlockModel, labels: np.ndarray, rng: np.random.Generator, *, n_sweeps: int
) -> list[tuple[float, np.ndarray, float]]:
    """Merge from a fine partition to one block, settling in between.

    Returns
    -------
    list of (description length, labels, shape of the weights), one for each number of blocks met
    """
    state = BlockState(model, labels)
    path = []
    while True:
        state.fit_shape()
        sweep(state, rng, cold=False, most=state.n_blocks)
        settle(state, rng, most=state.n_blocks, n_sweeps=n_sweeps)
        state.fit_shape()
        path.append((state.description_length(), state.labels.copy(), model.shape))
        if state.n_blocks == 1:
            return path
        n = state.n_blocks
        merge_down(state, n - 1 if n <= 8 else int(n / 1.25))


def _bisect(state: BlockState, block: int, rng: np.random.Generator) -> None:
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
    model: BlockModel, labels: np.ndarray, rng: np.random.Generator, *,
    most: int, n_rounds: int, cost: Cost = BlockState.description_length,
) -> tuple[float, np.ndarray]:  # fmt: skip
    """Refine a partition by merges, splits and both together, kept when the cost falls.

    Parameters
    ----------
    cost : what is to fall; the flat description length without it

    Returns
    -------
    cost, labels

    Source
    ------
    The moves of Peixoto 2020, PRE 102 012305 (merge-split), at zero temperature: halves come from
    a leading direction of the block instead of a random one in seven of ten trials, and settle by
    restricted Gibbs sweeps as there.
    """
    best = BlockState(model, labels)
    least = cost(best)
    idle = 0
    for _ in range(n_rounds):
        idle += 1
        kinds = ["split"] * best.n_blocks + ["merge", "resplit", "resplit", "shake"]
        for turn, kind in enumerate(rng.permutation(kinds)):
            trial = BlockState(model, best.labels)
            if kind == "merge" or kind == "resplit":
                if trial.n_blocks < 2:
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
                sweep(trial, rng, cold=False, most=most)
            elif kind != "merge":
                nodes = np.flatnonzero(trial.labels == block)
                if len(nodes) < 2 or trial.n_blocks >= most:
                    continue
                _bisect(trial, block, rng)
                halves = (block, trial.n_blocks - 1)
                sweep(trial, rng, cold=False, most=most, nodes=nodes, slots=halves)
                for _ in range(4):
                    if not sweep(trial, rng, cold=True, most=most, nodes=nodes, slots=halves):
                        break
            settle(trial, rng, most=most, n_sweeps=4)
            found = cost(trial)
            if found < least - _SETTLED:
                best, least, idle = trial, found, 0
        if idle == _PATIENCE:
            break
    return least, best.labels
