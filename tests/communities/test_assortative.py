"""Communities that keep to themselves: formulae, enumeration, hubs that mislead block models."""

from math import lgamma, log

import numpy as np
import pytest
from planted_blocks import FAMILY, dense_blocks, family_graph, partitions

from neuropipe.communities import agreement, fit_assortative, fit_sbm
from neuropipe.communities.assortative import AssortativeModel, edge_chances, node_scales
from neuropipe.communities.block_costs import partition_prior
from neuropipe.errors import ConfigError


def sparse(n=20, seed=0):
    return dense_blocks(n, 3, 3, seed, zeros=0.6)[0]


def test_cost_is_the_formula_written_out():
    weights = sparse()
    scale, chance = node_scales(weights), edge_chances((weights > 0).astype(float))
    for seed in range(5):
        labels = np.random.default_rng(seed).integers(0, 4, 20)
        cost = partition_prior(np.bincount(labels))
        groups = [labels[:, None] != labels] + [
            np.outer(labels == r, labels == r) for r in range(4)
        ]
        for group in groups:
            pairs = np.argwhere(np.triu(group, 1))
            e = sum(weights[i, j] > 0 for i, j in pairs)
            m = sum(chance[i, j] for i, j in pairs)
            x = sum(weights[i, j] / scale[i] / scale[j] for i, j in pairs)
            cost += (e + 1) * (log(m + 1) + log(x + 1)) - 2 * lgamma(e + 1)
        found = AssortativeModel(weights).state(labels).description_length()
        assert found == pytest.approx(cost, abs=1e-9)


def test_nodes_alone_explain_degrees_and_strengths():
    weights = sparse()
    edges = (weights > 0).astype(float)
    scale = node_scales(weights)
    np.testing.assert_allclose(edge_chances(edges).sum(axis=1), edges.sum(axis=1), atol=1e-6)
    np.testing.assert_allclose(
        (weights / np.outer(scale, scale)).sum(axis=1), edges.sum(axis=1), atol=1e-6
    )
    full = edge_chances(1 - np.eye(6))
    np.testing.assert_allclose(full[~np.eye(6, dtype=bool)], 4.5 / 5)
    assert (node_scales(np.zeros((3, 3))) == 1).all()


def test_moves_and_merges_cost_what_the_whole_says():
    rng = np.random.default_rng(0)
    model = AssortativeModel(sparse())
    state = model.state(rng.integers(0, 4, 20))
    for _ in range(25):
        node, whole = int(rng.integers(20)), state.description_length()
        for slot, cost in enumerate(state.move_costs(node)):
            if np.isfinite(cost):
                labels = state.labels.copy()
                labels[node] = slot
                other = model.state(labels).description_length()
                assert other - whole == pytest.approx(cost, abs=1e-9)
        block = int(rng.integers(state.n_blocks))
        for slot, cost in enumerate(state.merge_costs(block)):
            if slot != block:
                labels = np.where(state.labels == block, slot, state.labels)
                other = model.state(labels).description_length()
                assert other - whole == pytest.approx(cost, abs=1e-9)
        state.move(node, int(rng.integers(state.n_blocks)))
        fresh = model.state(state.labels)
        assert state.description_length() == pytest.approx(fresh.description_length(), abs=1e-9)


def test_fit_finds_the_enumerated_optimum():
    weights, _ = dense_blocks(8, 2, 30, 3)
    model = AssortativeModel(weights)
    every = partitions(8)
    costs = [model.state(labels).description_length() for labels in every]
    fit = fit_assortative(weights, seed=0)
    assert fit.description_length == pytest.approx(min(costs), abs=1e-9)
    pairs = [cost for cost, labels in zip(costs, every, strict=True) if labels.max() == 1]
    known = fit_assortative(weights, n_blocks=2, seed=0)
    assert known.description_length == pytest.approx(min(pairs), abs=1e-9)


def test_dense_communities_are_found_and_none_where_there_are_none():
    for seed in range(2):
        weights, truth = dense_blocks(60, 4, 3, seed)
        assert agreement(fit_assortative(weights, n_restarts=1, seed=0).labels, truth)["nmi"] > 0.9
        assert fit_assortative(dense_blocks(60, 4, 1, seed)[0], n_restarts=1, seed=0).n_blocks == 1
    hubs = np.outer(*[np.random.default_rng(0).lognormal(0, 1, 60)] * 2)
    noise = np.random.default_rng(1).exponential(1, (60, 60))
    assert fit_assortative(hubs * (noise + noise.T), n_restarts=1, seed=0).n_blocks == 1
    assert fit_assortative(np.zeros((5, 5)), n_restarts=1, seed=0).n_blocks == 1
    assert fit_assortative(np.ones((12, 12)), n_restarts=1, seed=0).n_blocks == 1
    assert fit_assortative(np.zeros((1, 1)), n_restarts=1, seed=0).n_blocks == 1


def test_hubs_do_not_part_a_community():
    """Strengths that go with degrees: the block model parts by degree, at a shorter description."""
    graph = family_graph("mu_t .25", 1)
    found = fit_assortative(graph.weights, n_restarts=1, seed=0)
    assert agreement(found.labels, graph.labels)["ari"] == 1


@pytest.mark.parametrize("fit", [fit_sbm, fit_assortative])
def test_a_known_number_is_kept(fit):
    weights, _ = dense_blocks(60, 3, 1.8, 0)
    assert fit(weights, n_restarts=1, seed=0).n_blocks < 3
    for n_blocks in (1, 3, 30):
        assert fit(weights, n_blocks=n_blocks, n_restarts=1, seed=0).n_blocks == n_blocks
    assert fit(np.ones((30, 30)), n_blocks=4, n_restarts=1, seed=0).n_blocks == 4
    assert fit(np.zeros((4, 4)), n_blocks=2, n_restarts=1, seed=0).n_blocks == 2
    with pytest.raises(ConfigError, match="n_blocks is 5"):
        fit(weights[:4, :4], n_blocks=5, seed=0)
    with pytest.raises(ConfigError, match=r"n_blocks is 2 .* max_blocks 3"):
        fit(weights, n_blocks=2, max_blocks=3, seed=0)
    with pytest.raises(ConfigError, match="n_blocks is 0"):
        fit(weights, n_blocks=0, seed=0)


def test_known_number_finds_what_the_description_refuses():
    found = []
    for seed in range(3):
        weights, truth = dense_blocks(100, 3, 2, seed)
        known = fit_sbm(weights, n_blocks=3, n_restarts=1, seed=0)
        found.append(agreement(known.labels, truth)["nmi"])
    assert np.mean(found) > 0.5


@pytest.mark.slow
def test_lfr_family():
    """Each setting reaches the level of graph-tool on the authors' graphs, though that one was
    given the best of its levels by the truth, and this is told nothing."""
    for setting, (_, level) in FAMILY.items():
        found = []
        for number in range(10):
            graph = family_graph(setting, number)
            fit = fit_assortative(graph.weights, n_restarts=1, seed=0)
            found.append(agreement(fit.labels, graph.labels)["nmi"])
        assert np.mean(found) >= level - 0.05, setting
