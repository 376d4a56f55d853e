"""Graphs with known communities, and every partition of a few nodes."""

import numpy as np

from neuropipe.communities import lfr_graph


def dense_blocks(n, n_blocks, ratio, seed, zeros=0.2):
    """Exponential weights, equal blocks, `ratio` of the means within and between."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) * n_blocks // n
    mean = np.where(labels[:, None] == labels, ratio, 1.0)
    weights = np.triu(rng.exponential(1, (n, n)) * mean * (rng.random((n, n)) > zeros), 1)
    return weights + weights.T, labels


def partitions(n):
    """Every partition of n nodes, as restricted growth strings."""
    found = [[0]]
    for _ in range(n - 1):
        found = [[*labels, new] for labels in found for new in range(max(labels) + 2)]
    return np.array(found)


# the nine settings of the authors' benchmark, and what graph-tool reaches on their own graphs
# (each edge once, best of all levels by the truth): NMI
FAMILY = {
    "beta .5": ({"beta": 0.5}, 0.363),
    "beta 1": ({"beta": 1}, 0.183),
    "beta 2": ({}, 0.142),
    "mu_t .25": ({"mixing_topology": 0.25}, 0.699),
    "mu_t .50": ({}, 0.279),
    "mu_t .75": ({"mixing_topology": 0.75}, 0.396),
    "k 10": ({"mean_degree": 10}, 0.033),
    "mu_w .25": ({"mixing_weights": 0.25}, 0.321),
    "mu_w .75": ({"mixing_weights": 0.75}, 0.514),
}


def family_graph(setting, number):
    """One graph of the family; a second set of seeds where two settings are the same."""
    return lfr_graph(seed=13 + number + 10 * (setting == "mu_t .50"), **FAMILY[setting][0])
