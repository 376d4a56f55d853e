"""Weighted stochastic block models: the partition that describes a graph in the fewest nats."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from neuropipe.communities.block_costs import partition_prior
from neuropipe.communities.block_state import BlockModel, BlockState, of_blocks, of_weights
from neuropipe.communities.modularity import modularity
from neuropipe.communities.partition import Partition, by_size, checked_weights
from neuropipe.communities.search import descend, merge_split, starts
from neuropipe.errors import ConfigError

log = logging.getLogger(__name__)

FAMILIES = ("exponential", "gamma", "normal")
_FINEST = 24


def fit_sbm(
    weights: np.ndarray, *, family: str = "exponential", degree_corrected: bool = False,
    nested: bool = False, max_blocks: int | None = None, n_sweeps: int = 4, n_restarts: int = 2,
    seed: int,
) -> Partition:  # fmt: skip
    """Find communities by the description length of a weighted stochastic block model.

    Parameters
    ----------
    weights : (n, n)
        Symmetric, at least 0; 0 means "no edge", which the model explains too. The unit is free:
        scaling all weights shifts the description length and moves no node.
    family : ``"exponential"``, ``"gamma"`` or ``"normal"``
        Distribution of the weights within a pair of blocks.
    degree_corrected : bool
        Let nodes of one block differ in their number of edges. Off by default: on dense graphs,
        such as the factors of a tensor, it merges true blocks.
    nested : bool
        Describe the table of edge counts by a block model of its own, and so on. It finds smaller
        blocks in sparse graphs.
    max_blocks : int, optional
        No more blocks than this; the number is inferred in any case.
    n_sweeps : int
        Passes over all nodes at each number of blocks, at most.
    n_restarts : int
        Independent starts from fine partitions; one more starts from communities by modularity.
        The shortest description is kept.
    seed : int

    Returns
    -------
    Partition
        `description_length` in nats, comparable between families, with and without degree
        correction, flat and nested: the smallest is the best account of the graph.

    Raises
    ------
    DataError
        If the weights are no symmetric matrix of finite numbers >= 0.
    ConfigError
        If the family is unknown or a number is out of range.

    Notes
    -----
    CPU, float64, one thread; memory of order 10 n^2. A graph without any edge, and a single node,
    are one block. Nothing in a description of this kind tells a block of no edges from nodes that
    were not recorded: leave such nodes out.

    Source
    ------
    Formulae, equations and differences: `neuropipe.communities.block_costs`. Search: from a fine
    start, blocks are merged one pair after the other with sweeps in between (Peixoto 2014, PRE 89
    012804), then merge-split moves (Peixoto 2020, PRE 102 012305).
    """
    weights = checked_weights(weights, "fit_sbm")
    n = len(weights)
    if family not in FAMILIES:
        raise ConfigError(f"fit_sbm: family is {family!r}, expected one of {', '.join(FAMILIES)}")
    numbers = {"n_sweeps": n_sweeps, "n_restarts": n_restarts}
    numbers |= {} if max_blocks is None else {"max_blocks": max_blocks}
    for name, number in numbers.items():
        if number < 1:
            raise ConfigError(f"fit_sbm: {name} is {number}, expected at least 1")
    model = of_weights(weights, family, degree_corrected)
    if model.n_edges == 0:
        labels = np.zeros(n, dtype=int)
        cost = BlockState(model, labels).description_length()
        return Partition(labels, cost, 1, family, degree_corrected)
    rng = np.random.default_rng(seed)
    most = min(n, max_blocks or n)
    cost, labels = _search(model, rng, most, n_sweeps, n_restarts, nested)
    levels: tuple[np.ndarray, ...] = ()
    labels = by_size(labels)
    if nested:
        state = BlockState(model, labels)
        table, found = hierarchy(state, rng)
        levels = tuple(found)
        # of these very levels: the search may have met others on the way
        cost = state.graph_cost() + partition_prior(state.sizes[: state.n_blocks]) + table
    log.info("fit_sbm: %d blocks, %.1f nats (%s)", labels.max() + 1, cost, family)
    return Partition(labels, cost, int(labels.max()) + 1, family, degree_corrected, levels)


def select_sbm(
    weights: np.ndarray, *, families: Sequence[str] = FAMILIES,
    degree_corrected: Sequence[bool] = (False,), nested: Sequence[bool] = (False,), seed: int,
    **search: int,
) -> tuple[Partition, list[Partition]]:  # fmt: skip
    """Fit several block models and take the shortest description; no truth is asked for.

    Returns
    -------
    best : Partition
    all : list of Partition, in the order tried
    """
    fits = [
        fit_sbm(weights, family=f, degree_corrected=d, nested=h, seed=seed, **search)
        for f in families
        for d in degree_corrected
        for h in nested
    ]
    return min(fits, key=lambda fit: fit.description_length), fits


def description_length(
    weights: np.ndarray, labels: np.ndarray, *, family: str = "exponential",
    degree_corrected: bool = False,
) -> float:  # fmt: skip
    """Return what a given partition costs under the flat model, nats."""
    model = of_weights(checked_weights(weights, "description_length"), family, degree_corrected)
    state = BlockState(model, np.asarray(labels))
    state.fit_shape()
    return state.description_length()


def hierarchy(
    state: BlockState, rng: np.random.Generator
) -> tuple[float, list[np.ndarray]]:  # fmt: skip
    """Describe the table of a partition's block pairs by levels of blocks of blocks.

    Returns
    -------
    cost : float, nats
        Of the table of edge counts and of the sums of weights: what replaces the flat priors.
    levels : list of (n,)
        Block of each node at each further level; empty when one block is the shortest account.
    """
    model = of_blocks(state)
    flat = state.model.hyper_cost(state.n_blocks, state.n_items)
    if state.n_blocks < 3:
        return flat, []
    path = descend(model, np.arange(state.n_blocks), rng, n_sweeps=2)
    least, chosen = flat, None
    # the best few partitions of the blocks may have levels of their own
    for cost, labels, _ in sorted(path[1:], key=lambda step: step[0])[:3]:
        if labels.max() == 0:
            continue
        above = BlockState(model, labels)
        upper, levels = hierarchy(above, rng)
        cost += upper - model.hyper_cost(above.n_blocks, above.n_items)
        if cost < least - 1e-9:
            least, chosen = cost, [labels, *(level[labels] for level in levels)]
    return least, [] if chosen is None else [level[state.labels] for level in chosen]


def _search(
    model: BlockModel, rng: np.random.Generator, most: int, n_sweeps: int, n_restarts: int,
    nested: bool,
) -> tuple[float, np.ndarray]:  # fmt: skip
    def nested_cost(state: BlockState) -> float:
        return (
            state.graph_cost()
            + partition_prior(state.sizes[: state.n_blocks])
            + hierarchy(state, rng)[0]
        )

    fines = [starts(model, rng, min(most, _FINEST), start) for start in range(n_restarts)]
    # large graphs with weak blocks: merging from fine blocks gets stuck, modularity does not
    by_modularity = modularity(model.values[1], n_restarts=1, seed=int(rng.integers(2**31))).labels
    if 1 < by_modularity.max() + 1 <= most:
        fines.append(by_modularity)
    ends = []
    for fine in fines:
        path = descend(model, fine, rng, n_sweeps=n_sweeps)
        if nested:
            path = [
                (nested_cost(_with_shape(model, labels, shape)), labels, shape)
                for _, labels, shape in sorted(path, key=lambda step: step[0])[:6]
            ]
        least, labels, shape = min(path, key=lambda step: step[0])
        _with_shape(model, labels, shape)
        cost = nested_cost if nested else BlockState.description_length
        least, labels = merge_split(
            model, labels, rng, most=most, n_rounds=4 if nested else 12, cost=cost
        )
        ends.append((least, labels, shape))
    least, labels, shape = min(ends, key=lambda end: end[0])
    _with_shape(model, labels, shape)
    return least, labels


def _with_shape(model: BlockModel, labels: np.ndarray, shape: float) -> BlockState:
    if shape != model.shape:
        model.set_shape(shape)
    return BlockState(model, labels)
