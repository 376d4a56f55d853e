"""One partition with its block sums, and what each move of a node or merge of blocks would cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from neuropipe.communities.block_costs import (
    SHAPES,
    LogQ,
    edge_count_prior,
    log_restricted_partitions,
    normal_cost,
    partition_prior,
    simplex_table,
    sums_prior,
)


@dataclass(eq=False)
class BlockModel:
    """A graph and the terms that a partition of it pays; made by `of_weights` or `of_blocks`.

    Attributes
    ----------
    values : (channel, node, node)
        What is summed over block pairs: edges, weights, and as a third the squared weights of the
        normal family or, in a multigraph, the number of weights. Zeros on the diagonal.
    loops : (channel, node)
        What a node brings by itself.
    family : ``"exponential"``, ``"gamma"`` or ``"normal"``
    multigraph : whether edges are counted with repetition (levels above the first)
    shape : of the gamma family
    mean, variance : of all weights, for the normal family
    constant : what every partition pays
    """

    values: np.ndarray
    loops: np.ndarray
    family: str
    degree_corrected: bool = False
    multigraph: bool = False
    shape: float = 1.0
    mean: float = 0.0
    variance: float = 1.0
    constant: float = 0.0

    def __post_init__(self) -> None:
        self.n_nodes = n = self.values.shape[1]
        self.item = 2 if self.multigraph else 0  # a simple graph has a weight an edge
        totals = self.values.sum(axis=(1, 2)) / 2 + self.loops.sum(axis=1)
        self.n_edges, self.total = float(totals[0]), float(totals[1])
        self.n_items = float(totals[self.item])
        self.degrees = self.values[0].sum(axis=1)
        self.degree_index = np.unique(self.degrees, return_inverse=True)[1]
        largest = int(2 * self.n_edges + n * (n + 1)) + 2
        self.log_factorial = gammaln(np.arange(largest + 1) + 1.0)
        blocks = np.arange(1, n + 2, dtype=float)
        # priors that hang on the number of blocks alone: ln C(n - 1, B - 1) and the edge counts
        self.block_prior = np.concatenate([[0.0], edge_count_prior(blocks, self.n_edges)])
        self.block_prior[1 : n + 1] -= gammaln(blocks[:n]) + gammaln(n - blocks[:n] + 1)
        self.item_prior = np.zeros(int(self.n_items) + 2)
        if self.family != "normal":
            self.item_prior = sums_prior(np.arange(len(self.item_prior)), self.total)
        self.log_q: LogQ | None = None
        if self.degree_corrected:
            self.log_q = log_restricted_partitions(int(self.degrees.sum()), n)
        self.set_shape(self.shape)

    def state(self, labels: np.ndarray) -> BlockState:
        """Return a partition of the nodes with its sums."""
        return BlockState(self, labels)

    def set_shape(self, shape: float) -> None:
        """Take another shape of the gamma family."""
        self.shape = shape
        count = np.arange(int(self.n_items) + 2)
        self.power = shape * count - 1
        self.power[0] = 0.0
        self.table = simplex_table(len(count) - 1, shape)

    def pair_cost(self, sums: np.ndarray, pairs: np.ndarray) -> np.ndarray:
        """Return the cost of block pairs: edges and their weights.

        Parameters
        ----------
        sums : (channel, ...)
        pairs : (...), node pairs that could hold an edge
        """
        e, lf = sums[0].astype(np.intp), self.log_factorial
        if self.multigraph:
            pairs = pairs.astype(np.intp)
            some = lf[np.maximum(pairs + e - 1, 0)] - lf[e] - lf[np.maximum(pairs - 1, 0)]
            cost = np.where(e > 0, some, 0.0)
        else:
            pairs = pairs.astype(np.intp)
            cost = lf[pairs]
            cost -= lf[e]
            cost -= lf[pairs - e]
        if self.family != "normal":
            items = sums[self.item].astype(np.intp) if self.item else e
            cost += self.power[items] * np.log(np.maximum(sums[1], 1e-300))
            cost -= self.table[items]
        elif not self.multigraph:  # its prior is fixed: levels above have nothing to explain
            cost += normal_cost(sums[0], sums[1], sums[2], self.mean, self.variance)
        return cost

    def n_pairs(self, sizes: np.ndarray) -> np.ndarray:
        """Return the node pairs between and within blocks of these sizes."""
        pairs = np.outer(sizes, sizes).astype(float)
        np.fill_diagonal(pairs, sizes * (sizes + self.growth) / 2)
        return pairs

    @property
    def growth(self) -> int:
        """Return 1 where a node may link to itself, else -1."""
        return 1 if self.multigraph else -1

    def block_cost(self, degree: np.ndarray, size: np.ndarray) -> np.ndarray:
        """Return what blocks pay for their degrees, but for the histogram of these."""
        if self.log_q is None:
            return np.zeros(np.shape(size))
        d, n = degree.astype(np.intp), size.astype(np.intp)
        lf = self.log_factorial
        places = n * (self.n_nodes - 1)
        placed = lf[places] - lf[d] - lf[places - d]
        return self.log_q(d, n) + lf[n] - placed

    def hyper_cost(self, n_blocks: int, n_items: int) -> float:
        """Return the priors of edge counts and of weight sums of the flat model."""
        prior = float(edge_count_prior(n_blocks, self.n_edges))
        return prior + float(self.item_prior[n_items])


def of_weights(weights: np.ndarray, family: str, degree_corrected: bool) -> BlockModel:
    """Return the model of a checked matrix of weights."""
    edges = (weights > 0).astype(float)
    channels = [edges, weights]
    upper = weights[np.triu(edges, 1) > 0]
    mean = float(upper.mean()) if len(upper) else 1.0
    # constant weights have no spread: a floor keeps the density finite and says nothing of blocks
    variance = max(float(upper.var()) if len(upper) else 1.0, (1e-6 * mean) ** 2)
    if family == "normal":
        channels.append(weights**2)
    model = BlockModel(
        np.array(channels), np.zeros((len(channels), len(weights))), family, degree_corrected,
        mean=mean, variance=variance,
    )  # fmt: skip
    if degree_corrected:
        k, n = model.degrees, len(weights)
        model.constant = float((gammaln(n) - gammaln(k + 1) - gammaln(n - k)).sum())
    return model


def log_weight_sum(model: BlockModel) -> float:
    """Return the sum of the logarithms of all weights."""
    upper = np.triu(model.values[1], 1)
    return float(np.log(upper[upper > 0]).sum())


class BlockState:
    """A partition of a model's nodes, kept with its block sums.

    Blocks 0 ... n_blocks - 1 have members; one more slot stays empty for a node that leaves alone.
    """

    def __init__(self, model: BlockModel, labels: np.ndarray):
        self.model = model
        self.rebuild(labels)

    def rebuild(self, labels: np.ndarray) -> None:
        """Take a partition and sum anew."""
        model = self.model
        self.labels = np.unique(labels, return_inverse=True)[1]
        self.n_blocks = int(self.labels.max()) + 1
        slots = self.n_blocks + 1
        member = np.zeros((model.n_nodes, slots))
        member[np.arange(model.n_nodes), self.labels] = 1.0
        self.sizes = member.sum(axis=0)
        self.node_sums = np.ascontiguousarray((model.values @ member).transpose(1, 0, 2))
        self.sums = member.T @ self.node_sums.transpose(1, 0, 2)
        diagonal = np.arange(slots)
        self.sums[:, diagonal, diagonal] /= 2
        self.sums[:, diagonal, diagonal] += model.loops @ member
        self.histogram = np.zeros((slots, model.degree_index.max() + 1))
        np.add.at(self.histogram, (self.labels, model.degree_index), 1)
        self.block_degrees = member.T @ model.degrees
        self.costs = model.pair_cost(self.sums, model.n_pairs(self.sizes))

    @property
    def n_items(self) -> int:
        """Block pairs that hold a weight."""
        return int((np.triu(self.sums[self.model.item]) > 0).sum())

    def graph_cost(self) -> float:
        """Return the cost of edges, degrees and weights given the blocks and their sums."""
        model = self.model
        cost = np.triu(self.costs).sum() + model.constant
        if model.degree_corrected:
            cost += model.block_cost(self.block_degrees, self.sizes).sum()
            cost -= gammaln(self.histogram + 1).sum()
        if model.family == "gamma" and not model.multigraph:
            cost += np.log(len(SHAPES)) - (model.shape - 1) * log_weight_sum(model)
        return float(cost)

    def description_length(self) -> float:
        """Return the whole description length of the flat model, nats."""
        return (
            self.graph_cost()
            + partition_prior(self.sizes[: self.n_blocks])
            + self.model.hyper_cost(self.n_blocks, self.n_items)
        )

    def move_costs(self, node: int) -> np.ndarray:
        """Return the change of the description length when a node goes to each slot.

        Parameters
        ----------
        node : int

        Returns
        -------
        (n_blocks + 1,), nats
            0 at its own block; infinite at the empty slot for a node that is alone already.

        Notes
        -----
        The node is first taken out, then put into each slot at once: one table of block pairs.
        """
        model, home = self.model, self.labels[node]
        step, loop = self.node_sums[node], model.loops[:, node]
        slots = np.arange(len(self.sizes))
        sizes = self.sizes.copy()
        sizes[home] -= 1
        # 1. without the node only its old block's row differs
        old = self.sums[:, home] - step
        old[:, home] -= loop
        pairs = sizes[home] * sizes
        pairs[home] = sizes[home] * (sizes[home] + model.growth) / 2
        row = model.pair_cost(old, pairs)
        # 2. with it in each slot s: row s of the table
        grown = self.sums + step[:, None, :]
        grown[:, :, home] -= step
        grown[:, slots, slots] += loop[:, None]
        grown[:, home] = self.sums[:, home]
        larger = sizes + 1
        pairs = larger[:, None] * sizes
        pairs[slots, slots] = larger * (larger + model.growth) / 2
        table = model.pair_cost(grown, pairs)
        cost = table.sum(axis=1) - self.costs.sum(axis=1) + self.costs[home] - row
        cost[home] = table[home].sum() - row.sum()
        # 3. what does not come from block pairs
        if model.degree_corrected:
            degree = model.degrees[node]
            degrees = self.block_degrees.copy()
            degrees[home] -= degree
            histogram = self.histogram[:, model.degree_index[node]].copy()
            histogram[home] -= 1
            cost += model.block_cost(degrees + degree, larger)
            cost -= model.block_cost(degrees, sizes) + np.log(histogram + 1)
        cost -= np.log(larger)
        some = self.sums[model.item] > 0
        some[home] = some[:, home] = old[model.item] > 0
        n_some = (int(some.sum()) + int(some[slots, slots].sum())) // 2
        items = n_some + (grown[model.item] > 0).sum(axis=1) - some.sum(axis=1)
        cost += model.item_prior[items]
        empty = sizes == 0
        cost += model.block_prior[len(sizes) - int(empty.sum()) + empty]
        cost -= cost[home]
        if empty[home]:
            cost[self.n_blocks] = np.inf
        return cost

    def move(self, node: int, slot: int) -> None:
        """Put a node into a slot."""
        home = self.labels[node]
        if slot == home:
            return
        model = self.model
        if slot == self.n_blocks or self.sizes[home] == 1:  # the number of blocks changes
            labels = self.labels.copy()
            labels[node] = slot
            self.rebuild(labels)
            return
        step, loop = self.node_sums[node], model.loops[:, node]
        for place, sign in ((home, -1), (slot, 1)):
            self.sums[:, place] += sign * step
            self.sums[:, :, place] += sign * step
            self.sums[:, place, place] += sign * (loop - step[:, place])
        links = model.values[:, node].T
        self.node_sums[:, :, home] -= links
        self.node_sums[:, :, slot] += links
        self.sizes[[home, slot]] += [-1, 1]
        self.block_degrees[[home, slot]] += np.array([-1, 1]) * model.degrees[node]
        self.histogram[[home, slot], model.degree_index[node]] += [-1, 1]
        self.labels[node] = slot
        pairs = model.n_pairs(self.sizes)
        for place in (home, slot):
            row = model.pair_cost(self.sums[:, place], pairs[place])
            self.costs[place] = row
            self.costs[:, place] = row

    def merge_costs(self, block: int) -> np.ndarray:
        """Return the change of the description length when a block joins each other one.

        Returns
        -------
        (n_blocks,), nats; infinite at the block itself
        """
        model, used = self.model, slice(0, self.n_blocks)
        sums = self.sums[:, used, used]
        sizes, slots = self.sizes[used], np.arange(self.n_blocks)
        merged = sums + sums[:, block][:, None, :]
        inner = sums[:, slots, slots] + sums[:, block, block][:, None] + sums[:, block]
        merged[:, slots, slots] = inner
        others = slots != block
        joint = (sizes + sizes[block]) * others
        pairs = np.outer(joint, sizes)
        pairs[slots, slots] = joint * (joint + model.growth) / 2
        merged[:, :, block] = merged[:, block] = 0.0  # that block is gone
        pairs[:, block] = pairs[block] = 0.0
        table = model.pair_cost(merged, pairs)
        before = self.costs[used, used]
        cost = table.sum(axis=1) - before.sum(axis=1) - before[block].sum() + before[block]
        if model.degree_corrected:
            degrees = self.block_degrees[used]
            own = model.block_cost(degrees, sizes)
            cost += model.block_cost((degrees + degrees[block]) * others, joint) - own - own[block]
            lh = gammaln(self.histogram[used] + 1).sum(axis=1)
            both = gammaln(self.histogram[used] + self.histogram[block] + 1).sum(axis=1)
            cost -= both - lh - lh[block]
        cost -= gammaln(joint + 1) - gammaln(sizes + 1) - gammaln(sizes[block] + 1)
        some = sums[model.item] > 0
        gone = (
            some.sum(axis=1)
            + some[block].sum()
            - some[block]
            - (merged[model.item] > 0).sum(axis=1)
        )
        items, b = self.n_items, self.n_blocks
        cost += model.item_prior[np.maximum(items - gone, 0)] - model.item_prior[items]
        cost += model.block_prior[b - 1] - model.block_prior[b]
        cost[block] = np.inf
        return cost

    def fit_shape(self) -> None:
        """Take the shape of the gamma family that costs least on this partition."""
        model = self.model
        if model.family != "gamma" or model.multigraph:
            return
        logs, sums = log_weight_sum(model), self.sums[:, *np.triu_indices(self.n_blocks)]
        count = sums[0][sums[0] > 0]
        ln_x = np.log(np.maximum(sums[1][sums[0] > 0], 1e-300))
        cost = [
            ((a * count - 1) * ln_x - gammaln(a * count) + count * gammaln(a)).sum()
            - (a - 1) * logs
            for a in SHAPES
        ]
        model.set_shape(float(SHAPES[int(np.argmin(cost))]))
        self.rebuild(self.labels)


def of_blocks(state: BlockState) -> BlockModel:
    """Return the multigraph of a state's blocks: the model of the level above."""
    used = slice(0, state.n_blocks)
    sums = state.sums[:2, used, used]
    sums = np.concatenate([sums, (state.sums[state.model.item, used, used] > 0)[None]])
    slots = np.arange(state.n_blocks)
    loops = sums[:, slots, slots].copy()
    sums[:, slots, slots] = 0.0
    family = "normal" if state.model.family == "normal" else "exponential"
    return BlockModel(sums, loops, family, multigraph=True)
