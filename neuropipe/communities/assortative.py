r"""Communities whose members keep to themselves, by description length: modularity with evidence.

Legend: n nodes, E edges, k_i degree of node i, theta_i scale of a node's weights, b partition into
B communities, e_r edges within r, e_o edges between communities, x_r and x_o the sums of their
weights over theta_i theta_j.

Model. Edges between i and j: Poisson with mean k_i k_j / 2E times omega_r within community r and
omega_o between any two. A weight: exponential with mean theta_i theta_j mu_r or mu_o. Omega and
1/mu have exponential priors of mean 1, which is where nodes alone explain the graph. What this
leaves of -ln P, up to terms that know nothing of b, is

    sum_{g = 1 ... B, o} [h(e_g, m_g) + h(e_g, x_g)] - ln P(b),  h(e, m) = (e + 1) ln(m + 1) - ln e!

with m_r = sum_{i<j in r} k_i k_j / 2E, what degrees alone would put there. P(b) as in
`neuropipe.communities.block_costs`.

Source: edges as in Newman 2016, PRE 94 052315, Eqs. 5 to 13 (planted partition, degrees as given),
one rate for each community instead of one for all; priors and the idea that such communities are
never found in random graphs: Zhang & Peixoto 2020, PRR 2 043271. Ours: the weights.
"""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln

from neuropipe.communities.block_costs import partition_prior

_ROUNDS = 1000
_SETTLED = 1e-10


def node_scales(weights: np.ndarray) -> np.ndarray:
    """Return the scale theta of each node's weights: the likeliest if mean_ij = theta_i theta_j.

    Parameters
    ----------
    weights : (n, n)
        Checked; 0 means "no edge".

    Returns
    -------
    (n,)
        1 where a node has no edge.
    """
    degree = (weights > 0).sum(axis=1)
    linked = degree > 0
    theta = np.ones(len(weights))
    if linked.any():
        theta[linked] = np.sqrt(weights[weights > 0].mean())
    for _ in range(_ROUNDS):
        mean = (weights / theta).sum(axis=1) / np.maximum(degree, 1)
        new = np.where(linked, np.sqrt(theta * np.where(linked, mean, 1.0)), 1.0)
        step = np.abs(np.log(new / theta)).max()
        theta = new
        if step < _SETTLED:
            break
    return theta


def evidence(count: np.ndarray | float, exposure: np.ndarray | float) -> np.ndarray:
    """Return -ln of what `count` events (or weights) cost at a rate unknown but for its prior."""
    return (count + 1) * np.log(exposure + 1) - gammaln(count + 1)


def edge_chances(edges: np.ndarray) -> np.ndarray:
    """Return the chance of each edge where degrees are all there is, (n, n), its diagonal 0.

    Notes
    -----
    The simple graphs of largest entropy with these mean degrees, p = x_i x_j / (1 + x_i x_j). A
    node that is linked to all others would need an infinite x and is given half an edge less.
    """
    n = len(edges)
    degree = np.minimum(edges.sum(axis=1), n - 1.5)
    linked = degree > 0
    x = degree / np.sqrt(max(degree.sum(), 1.0))
    for _ in range(_ROUNDS):
        chance = x / (1 + np.outer(x, x))
        np.fill_diagonal(chance, 0.0)
        new = np.where(linked, degree / np.where(linked, chance.sum(axis=1), 1.0), 0.0)
        new = np.sqrt(new * x)
        step = np.abs(np.log(new[linked] / x[linked])).max(initial=0.0)
        x = new
        if step < _SETTLED:
            break
    chance = np.outer(x, x) / (1 + np.outer(x, x))
    np.fill_diagonal(chance, 0.0)
    return chance


class AssortativeModel:
    """A graph as the model sees it.

    Attributes
    ----------
    values : (3, node, node)
        Edges, weights over the scales of their nodes, and edges that degrees alone would put.
    totals : (3,), their sums over pairs of nodes
    shape : 1; the weights are exponential
    """

    def __init__(self, weights: np.ndarray):
        scale = node_scales(weights)
        edges = (weights > 0).astype(float)
        self.values = np.array([edges, weights / np.outer(scale, scale), edge_chances(edges)])
        self.n_nodes = len(weights)
        self.shape = 1.0
        self.totals = self.values.sum(axis=(1, 2)) / 2
        n = np.arange(1, self.n_nodes + 2, dtype=float)
        self.block_prior = np.full(self.n_nodes + 2, np.inf)
        self.block_prior[1:-1] = -gammaln(n[:-1]) - gammaln(self.n_nodes - n[:-1] + 1)

    def state(self, labels: np.ndarray) -> AssortativeState:
        """Return a partition of the nodes with its sums."""
        return AssortativeState(self, labels)

    def set_shape(self, shape: float) -> None:
        """Do nothing: the weights have one shape."""

    def own_cost(self, sums: np.ndarray) -> np.ndarray:
        """Return what edges, weights and expected edges, (3, ...), cost at their own rates."""
        edges, weight, expected = np.maximum(sums, 0.0)
        return evidence(edges, expected) + evidence(edges, weight)

    def outer_cost(self, inner: np.ndarray) -> np.ndarray:
        """Return what lies between communities costs, given the sums (3, ...) of what does not."""
        return self.own_cost(self.totals.reshape(-1, *[1] * (inner.ndim - 1)) - inner)


class AssortativeState:
    """A partition with its sums, and what moves and merges would cost; as `BlockState` is used."""

    def __init__(self, model: AssortativeModel, labels: np.ndarray):
        self.model = model
        self.rebuild(labels)

    def rebuild(self, labels: np.ndarray) -> None:
        """Take a partition and sum anew; one slot stays empty for a node that leaves alone."""
        model = self.model
        self.labels = np.unique(labels, return_inverse=True)[1]
        self.n_blocks = int(self.labels.max()) + 1
        member = np.zeros((model.n_nodes, self.n_blocks + 1))
        member[np.arange(model.n_nodes), self.labels] = 1.0
        self.sizes = member.sum(axis=0)
        self.node_sums = np.ascontiguousarray((model.values @ member).transpose(1, 0, 2))
        self.inner = np.einsum("ir,icr->cr", member, self.node_sums) / 2

    def description_length(self) -> float:
        """Return the description length, nats, but for what no partition changes."""
        cost = self.model.own_cost(self.inner).sum() + self.model.outer_cost(self.inner.sum(axis=1))
        return float(cost + partition_prior(self.sizes[: self.n_blocks]))

    def fit_shape(self) -> None:
        """Do nothing: the weights have one shape."""

    def move_costs(self, node: int) -> np.ndarray:
        """Return the change of the description length when a node goes to each slot.

        Returns
        -------
        (n_blocks + 1,), nats
            0 at its own community; infinite at the empty slot for a node that is alone already.
        """
        model, home = self.model, self.labels[node]
        links = self.node_sums[node]
        inner, sizes = self.inner.copy(), self.sizes.copy()
        inner[:, home] -= links[:, home]
        sizes[home] -= 1
        cost = model.own_cost(inner + links) - model.own_cost(inner)
        cost += model.outer_cost(inner.sum(axis=1)[:, None] + links)
        empty = sizes == 0
        cost -= np.log(sizes + 1)
        cost += model.block_prior[len(sizes) - int(empty.sum()) + empty]
        cost -= cost[home]
        if empty[home]:
            cost[self.n_blocks] = np.inf
        return cost

    def move(self, node: int, slot: int) -> None:
        """Put a node into a slot."""
        model, home = self.model, self.labels[node]
        if slot == home:
            return
        if slot == self.n_blocks or self.sizes[home] == 1:  # the number of communities changes
            labels = self.labels.copy()
            labels[node] = slot
            self.rebuild(labels)
            return
        links = self.node_sums[node]
        for place, sign in ((home, -1), (slot, 1)):
            self.inner[:, place] += sign * links[:, place]
            self.sizes[place] += sign
            self.node_sums[:, :, place] += sign * model.values[:, node].T
        self.labels[node] = slot

    def merge_costs(self, block: int) -> np.ndarray:
        """Return the change of the description length when a community joins each other one.

        Returns
        -------
        (n_blocks,), nats; infinite at the community itself
        """
        model, used = self.model, slice(0, self.n_blocks)
        inner, total = self.inner[:, used], self.inner.sum(axis=1)
        between = self.node_sums[self.labels == block].sum(axis=0)[:, used]
        own = model.own_cost(inner)
        cost = model.own_cost(inner + inner[:, block][:, None] + between) - own - own[block]
        cost += model.outer_cost(total[:, None] + between) - model.outer_cost(total)
        sizes, n = self.sizes[used], self.sizes[block]
        cost -= gammaln(sizes + n + 1) - gammaln(sizes + 1) - gammaln(n + 1)
        cost += model.block_prior[self.n_blocks - 1] - model.block_prior[self.n_blocks]
        cost[block] = np.inf
        return cost
