"""Weighted stochastic block models: the partition that describes a graph in the fewest nats."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from neuropipe.communities.assortative import AssortativeModel, AssortativeState
from neuropipe.communities.block_costs import partition_prior
from neuropipe.communities.block_state import BlockState, of_blocks, of_weights
from neuropipe.communities.modularity import modularity
from neuropipe.communities.partition import Partition, by_size, checked_weights
from neuropipe.communities.search import Bounds, descend, fine_starts, search
from neuropipe.errors import ConfigError

log = logging.getLogger(__name__)

FAMILIES = ("exponential", "gamma", "normal")


def fit_sbm(
    weights: np.ndarray, *, family: str = "exponential", degree_corrected: bool = False,
    nested: bool = False, n_blocks: int | None = None, max_blocks: int | None = None,
    n_sweeps: int = 4, n_restarts: int = 2, seed: int,
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
    n_blocks : int, optional
        A known number of blocks, inferred without it. Blocks that differ too little to be worth
        their description are found only so.
    max_blocks : int, optional
        No more blocks than this.
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
    if family not in FAMILIES:
        raise ConfigError(f"fit_sbm: family is {family!r}, expected one of {', '.join(FAMILIES)}")
    bounds = _bounds("fit_sbm", len(weights), n_blocks, max_blocks)
    _check("fit_sbm", {"n_sweeps": n_sweeps, "n_restarts": n_restarts})
    model = of_weights(weights, family, degree_corrected)
    if model.n_edges == 0 and n_blocks is None:
        labels = np.zeros(len(weights), dtype=int)
        cost = BlockState(model, labels).description_length()
        return Partition(labels, cost, 1, family, degree_corrected)
    rng = np.random.default_rng(seed)
    fines = fine_starts(model, rng, bounds, n_restarts)
    # large graphs with weak blocks: merging from fine blocks gets stuck, modularity does not
    by_modularity = modularity(weights, n_restarts=1, seed=int(rng.integers(2**31))).labels
    if 1 < by_modularity.max() + 1 <= bounds.most:
        fines.append(by_modularity)

    def nested_cost(state: BlockState) -> float:
        return (
            state.graph_cost()
            + partition_prior(state.sizes[: state.n_blocks])
            + hierarchy(state, rng)[0]
        )

    cost, labels = search(
        model, rng, fines, bounds, n_sweeps=n_sweeps, n_rounds=4 if nested else 12,
        cost=nested_cost if nested else BlockState.description_length,
        n_looked_at=6 if nested else 1,
    )  # fmt: skip
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


def fit_assortative(
    weights: np.ndarray, *, n_blocks: int | None = None, max_blocks: int | None = None,
    n_sweeps: int = 4, n_restarts: int = 2, seed: int,
) -> Partition:  # fmt: skip
    """Find communities that keep to themselves, beyond what degrees and strengths explain.

    Parameters
    ----------
    weights : (n, n)
        Symmetric, at least 0; 0 means "no edge". The unit is free.
    n_blocks, max_blocks : int, optional
        A known number of communities; a largest one. Inferred without.
    n_sweeps : int
        Passes over all nodes at each number of communities, at most.
    n_restarts : int
        Starts from fine partitions, beside three from modularity: of the edges, of the weights,
        and of the weights over what their nodes explain.
    seed : int

    Returns
    -------
    Partition
        `family` is ``"assortative"``. `description_length` leaves out what the nodes alone
        explain: compare it with other partitions under this model, not with `fit_sbm`.

    Raises
    ------
    DataError
        If the weights are no symmetric matrix of finite numbers >= 0.
    ConfigError
        If a number is out of range.

    Notes
    -----
    A block model asks which nodes are alike; hubs are, and so it parts a community by degree and
    strength where that is the shorter description. Here each node has a degree and a scale of
    weights of its own, and blocks explain only who links to whom. Bipartite or core-periphery
    structure is not looked for. A pattern that is a product of one number a node, such as one
    group of active neurons in silent ones, is explained by the nodes: one community.

    Source
    ------
    Formulae and sources: `neuropipe.communities.assortative`.
    """
    weights = checked_weights(weights, "fit_assortative")
    bounds = _bounds("fit_assortative", len(weights), n_blocks, max_blocks)
    _check("fit_assortative", {"n_sweeps": n_sweeps, "n_restarts": n_restarts})
    model = AssortativeModel(weights)
    rng = np.random.default_rng(seed)
    fines = fine_starts(model, rng, bounds, n_restarts)
    for graph in (*model.values, weights):
        found = modularity(graph, n_restarts=1, seed=int(rng.integers(2**31))).labels
        if 1 < found.max() + 1 <= bounds.most:
            fines.append(found)
    cost, labels = search(
        model, rng, fines, bounds, n_sweeps=n_sweeps, n_rounds=12,
        cost=AssortativeState.description_length,
    )  # fmt: skip
    labels = by_size(labels)
    log.info("fit_assortative: %d communities, %.1f nats", labels.max() + 1, cost)
    return Partition(labels, cost, int(labels.max()) + 1, "assortative", True)


def _check(where: str, numbers: Mapping[str, int]) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ConfigError(f"{where}: {name} is {number}, expected at least 1")


def _bounds(where: str, n: int, n_blocks: int | None, max_blocks: int | None) -> Bounds:
    """Return how many blocks there may be among n nodes."""
    for name, number in (("n_blocks", n_blocks), ("max_blocks", max_blocks)):
        _check(where, {} if number is None else {name: number})
    if n_blocks is None:
        return Bounds(1, min(n, max_blocks or n))
    if n_blocks > n or max_blocks is not None:
        raise ConfigError(
            f"{where}: n_blocks is {n_blocks} with {n} nodes and max_blocks {max_blocks}, expected "
            "at most one block a node, and no max_blocks beside a known number"
        )
    return Bounds(n_blocks, n_blocks)


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
