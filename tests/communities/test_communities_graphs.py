"""Modularity against networkx, consensus, and the statistics of the LFR graphs."""

import networkx as nx
import numpy as np
import pytest
from planted_blocks import dense_blocks, family_graph

from neuropipe.communities import (
    agreement,
    co_assignment,
    consensus,
    lfr_graph,
    modularity,
    modularity_value,
)
from neuropipe.errors import ConfigError, DataError


@pytest.mark.parametrize("resolution", [0.5, 1.0, 2.0])
def test_modularity_is_that_of_networkx(resolution):
    weights, _ = dense_blocks(40, 4, 3, 0)
    labels = np.random.default_rng(0).integers(0, 5, 40)
    groups = [set(np.flatnonzero(labels == r)) for r in range(5)]
    graph = nx.from_numpy_array(weights)
    theirs = nx.community.modularity(graph, groups, resolution=resolution)
    ours = modularity_value(weights, labels, resolution=resolution)
    assert ours == pytest.approx(theirs, abs=1e-12)


def test_modularity_reaches_the_level_of_louvain():
    for graph in (family_graph("beta 2", 0), family_graph("k 10", 1)):
        theirs = nx.from_numpy_array(graph.weights)
        louvain = max(
            nx.community.modularity(theirs, nx.community.louvain_communities(theirs, seed=s))
            for s in range(3)
        )
        found = modularity(graph.weights, n_restarts=5, seed=0)
        assert found.modularity >= louvain - 1e-9
        assert found.modularity == pytest.approx(modularity_value(graph.weights, found.labels))


def test_assortative_weights_are_found_by_modularity():
    graph = family_graph("mu_w .25", 0)
    found = modularity(graph.weights, n_restarts=3, seed=0)
    assert agreement(found.labels, graph.labels)["ami"] > 0.9


def test_consensus_mends_noisy_partitions():
    rng = np.random.default_rng(0)
    truth = np.arange(60) // 15
    noisy = [np.where(rng.random(60) < 0.25, rng.integers(0, 4, 60), truth) for _ in range(12)]
    found = consensus(noisy, seed=0)
    assert agreement(found, truth)["ari"] == 1
    assert max(agreement(x, truth)["ari"] for x in noisy) < 0.9
    order = rng.permutation(60)
    again = consensus([x[order] for x in noisy], seed=0)
    assert agreement(again, truth[order])["ari"] == 1
    np.testing.assert_array_equal(consensus([truth, truth], seed=0), truth)
    together = co_assignment(noisy)
    assert together[truth[:, None] == truth].mean() > 0.5 > together[0, 59]
    with pytest.raises(DataError, match="same"):
        consensus([], seed=0)


@pytest.mark.parametrize("beta", [0.5, 1, 2])
def test_lfr_statistics(beta):
    graphs = [lfr_graph(beta=beta, seed=s) for s in range(3)]
    degree, topology, strength = [], [], []
    for graph in graphs:
        weights, edges = graph.weights, graph.weights > 0
        same = graph.labels[:, None] == graph.labels
        np.testing.assert_array_equal(weights, weights.T)
        assert not np.diag(weights).any()
        assert np.isfinite(weights).all()
        degree.append(edges.sum(axis=1))
        topology.append((edges & ~same).sum(axis=1) / degree[-1])
        strength.append((weights * ~same).sum(axis=1) / weights.sum(axis=1))
        np.testing.assert_allclose(graph.strengths, degree[-1] ** beta)
        if beta <= 1:  # squared degrees of hubs are out of reach of their neighbours
            off = np.abs(weights.sum(axis=1) - graph.strengths) / graph.strengths
            assert np.median(off) < 0.05
    degree = np.concatenate(degree)
    assert 20 < degree.mean() < 28
    assert degree.max() <= 100
    # a power law with exponent 2: as many nodes from 10 to 20 as from 20 on
    assert 0.4 < (degree < 20).mean() < 0.75
    assert np.mean(topology) == pytest.approx(0.5, abs=0.04)
    assert np.mean(strength) == pytest.approx(0.5, abs=0.06)


def test_lfr_mixing_and_bad_parameters():
    graph = lfr_graph(mixing_topology=0.75, mixing_weights=0.25, beta=1, seed=1)
    same = graph.labels[:, None] == graph.labels
    edges = graph.weights > 0
    assert (edges & ~same).sum() / edges.sum() == pytest.approx(0.75, abs=0.06)
    assert (graph.weights * ~same).sum() / graph.weights.sum() == pytest.approx(0.25, abs=0.06)
    again = lfr_graph(mixing_topology=0.75, mixing_weights=0.25, beta=1, seed=1)
    np.testing.assert_array_equal(graph.weights, again.weights)
    with pytest.raises(ConfigError, match="mixing_topology is"):
        lfr_graph(mixing_topology=1.5, seed=0)
    with pytest.raises(ConfigError, match="max_degree"):
        lfr_graph(50, seed=0)
