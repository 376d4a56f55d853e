"""Planted communities: found where they are, none where there are none; bad input is named."""

import numpy as np
import pytest
from lfr_family import ask_graph_tool, has_graph_tool
from planted_blocks import FAMILY, dense_blocks, family_graph

from neuropipe.communities import (
    agreement,
    description_length,
    fit_sbm,
    modularity,
    sample_partitions,
    select_sbm,
    stability,
)
from neuropipe.errors import ConfigError, DataError


@pytest.mark.parametrize(("n", "n_blocks", "n_seeds"), [(60, 4, 3), (100, 5, 1)])
def test_dense_planted_blocks_are_found(n, n_blocks, n_seeds):
    found = []
    for seed in range(n_seeds):
        weights, truth = dense_blocks(n, n_blocks, 3, seed)
        fit = fit_sbm(weights, n_restarts=1, seed=0)
        found.append(agreement(fit.labels, truth)["nmi"])
        assert fit.description_length <= description_length(weights, truth) + 1e-6
    assert np.mean(found) >= 0.85


@pytest.mark.parametrize("nested", [False, True])
def test_no_blocks_where_there_are_none(nested):
    for seed in range(2):
        weights, _ = dense_blocks(60, 4, 1, seed)
        assert fit_sbm(weights, nested=nested, n_restarts=1, seed=0).n_blocks == 1


def test_nested_levels_group_the_blocks():
    coarse, fine = np.arange(96) // 48, np.arange(96) // 8
    mean = 1 + 6 * (coarse[:, None] == coarse) + 60 * (fine[:, None] == fine)
    rng = np.random.default_rng(0)
    weights = np.triu(rng.exponential(1, (96, 96)) * mean, 1)
    weights += weights.T
    fit = fit_sbm(weights, nested=True, n_restarts=1, seed=0)
    flat = fit_sbm(weights, n_restarts=1, seed=0)
    assert agreement(fit.labels, fine)["nmi"] > 0.85
    assert fit.description_length < flat.description_length
    assert agreement(fit.levels[0], coarse)["nmi"] > 0.95


def test_the_family_that_made_the_weights_is_chosen():
    weights, truth = dense_blocks(40, 2, 4, 0)
    best, fits = select_sbm(weights, n_restarts=1, seed=0)
    assert best.family == "exponential"
    assert [fit.family for fit in fits] == ["exponential", "gamma", "normal"]
    narrow = np.where(weights > 0, 1 + (truth[:, None] == truth), 0) * np.exp(0.02 * weights)
    best, _ = select_sbm(narrow, n_restarts=1, seed=0)
    assert best.family != "exponential"
    assert agreement(best.labels, truth)["ari"] > 0.8


def test_renumbered_nodes_and_scaled_weights_change_no_community():
    weights, _ = dense_blocks(60, 4, 4, 3)
    order = np.random.default_rng(0).permutation(60)
    fit = fit_sbm(weights, n_restarts=1, seed=0)
    other = fit_sbm(weights[np.ix_(order, order)], n_restarts=1, seed=0)
    assert agreement(fit.labels[order], other.labels)["ari"] == 1
    assert other.description_length == pytest.approx(fit.description_length, abs=1e-6)
    scaled = fit_sbm(weights * 1000, n_restarts=1, seed=0)
    np.testing.assert_array_equal(scaled.labels, fit.labels)
    found = modularity(weights, seed=0)
    other = modularity(weights[np.ix_(order, order)], seed=0)
    assert agreement(found.labels[order], other.labels)["ari"] == 1


def test_uncertain_members_are_those_between_blocks():
    weights, truth = dense_blocks(40, 2, 4, 1)
    weights[0, 1:] = weights[1:, 0] = np.random.default_rng(0).exponential(2, 39)
    samples = sample_partitions(weights, truth, n_samples=40, seed=0)
    together = (samples[:, :, None] == samples[:, None]).mean(axis=0)
    sure = np.abs(together - 0.5).mean(axis=1)
    assert np.argmin(sure) == 0


def test_graphs_at_the_edge():
    nothing = np.zeros((5, 5))
    assert fit_sbm(nothing, seed=0).n_blocks == 1
    assert fit_sbm(nothing, family="normal", degree_corrected=True, seed=0).n_blocks == 1
    assert modularity(nothing, seed=0).n_blocks == 5
    for one in (fit_sbm(np.zeros((1, 1)), seed=0), modularity(np.zeros((1, 1)), seed=0)):
        np.testing.assert_array_equal(one.labels, [0])
    two = np.array([[0.0, 2.0], [2.0, 0.0]])
    assert fit_sbm(two, seed=0).n_blocks == 1
    constant = np.ones((20, 20))
    for family in ("exponential", "gamma", "normal"):
        assert fit_sbm(constant, family=family, n_restarts=1, seed=0).n_blocks == 1
    apart = np.kron(np.eye(2), np.ones((12, 12)))
    for family in ("exponential", "gamma", "normal"):
        found = fit_sbm(apart, family=family, n_restarts=1, seed=0)
        np.testing.assert_array_equal(found.labels, np.arange(24) // 12)
    np.testing.assert_array_equal(modularity(apart, seed=0).labels, np.arange(24) // 12)
    assert fit_sbm(apart, max_blocks=1, seed=0).n_blocks == 1


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda w: w.__setitem__((1, 2), np.nan), "NaN or infinite"),
        (lambda w: w.__setitem__((1, 2), np.inf), "NaN or infinite"),
        (lambda w: w.__setitem__((1, 2), -1.0), "negative"),
        (lambda w: w.__setitem__((1, 2), 9.0), "transpose"),
    ],
)
@pytest.mark.parametrize("method", [fit_sbm, modularity])
def test_bad_weights_are_refused(method, spoil, message):
    weights, _ = dense_blocks(10, 2, 3, 0)
    spoil(weights)
    with pytest.raises(DataError, match=message):
        method(weights, seed=0)
    with pytest.raises(DataError, match="shape"):
        method(weights[:4], seed=0)


def test_bad_parameters_are_refused():
    weights, truth = dense_blocks(10, 2, 3, 0)
    with pytest.raises(ConfigError, match="family is 'poisson'"):
        fit_sbm(weights, family="poisson", seed=0)
    with pytest.raises(ConfigError, match="max_blocks is 0"):
        fit_sbm(weights, max_blocks=0, seed=0)
    with pytest.raises(ConfigError, match="resolution"):
        modularity(weights, resolution=0, seed=0)
    with pytest.raises(ConfigError, match="shape"):
        sample_partitions(weights, truth[:4], seed=0)


def test_a_diagonal_is_not_looked_at():
    weights, _ = dense_blocks(30, 3, 5, 0)
    plain = fit_sbm(weights, n_restarts=1, seed=0)
    np.fill_diagonal(weights, np.nan)
    np.testing.assert_array_equal(fit_sbm(weights, n_restarts=1, seed=0).labels, plain.labels)


def test_one_lfr_graph_is_found():
    graph = family_graph("mu_t .75", 1)
    fit = fit_sbm(graph.weights, n_restarts=1, seed=0)
    assert agreement(fit.labels, graph.labels)["nmi"] >= FAMILY["mu_t .75"][1] - 0.05


def test_costs_and_fits_beside_graph_tool(tmp_path):
    """Same numbers for the same partition; and a fit that is not worse."""
    rng = np.random.default_rng(0)
    dense, truth = dense_blocks(60, 4, 3, 0)
    sparse, _ = dense_blocks(30, 3, 3, 1, zeros=0.8)
    graphs = [(dense, truth), (sparse, rng.integers(0, 4, 30))]
    if not has_graph_tool():
        pytest.skip("graph-tool is not installed for the system's python3")
    theirs = ask_graph_tool(tmp_path, graphs)
    for at, (weights, labels) in enumerate(graphs):
        plain = description_length(weights, labels)
        assert plain == pytest.approx(float(theirs[f"cost_{at}_plain"]), abs=1e-6)
        fit = fit_sbm(weights, seed=0)
        found = theirs[f"levels_flat_{at}_plain"][0]
        assert fit.description_length <= description_length(weights, found) + 1e-6


def test_agreement_and_stability():
    labels = np.arange(12) // 4
    assert agreement(labels, 5 - labels) == {"nmi": 1.0, "ami": 1.0, "ari": 1.0}
    assert stability([labels, labels, labels]) == {"nmi": 1.0, "ami": 1.0, "ari": 1.0}
    with pytest.raises(DataError, match="expected two"):
        stability([labels])
    with pytest.raises(DataError, match="same"):
        agreement(labels, labels[:3])
