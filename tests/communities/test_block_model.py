"""The block model: formulae against plain loops, optimum and posterior against enumeration."""

from itertools import combinations_with_replacement
from math import comb, lgamma, log, pi

import numpy as np
import pytest
from planted_blocks import dense_blocks, partitions

from neuropipe.communities import co_assignment, description_length, fit_sbm, sample_partitions
from neuropipe.communities.block_costs import SHAPES, _szekeres, log_restricted_partitions
from neuropipe.communities.block_state import BlockState, of_blocks, of_weights
from neuropipe.communities.sbm import FAMILIES, hierarchy

KINDS = [(family, corrected) for family in FAMILIES for corrected in (False, True)]


def few_nodes(seed, n=8):
    """Two loosely joined groups with zeros."""
    rng = np.random.default_rng(seed)
    half = np.arange(n) >= n // 2
    mean = np.where(half[:, None] == half, 8.0, 1.0)
    weights = np.triu(rng.exponential(1, (n, n)) * mean * (rng.random((n, n)) < 0.8), 1)
    return weights + weights.T


def restricted(m, n):
    """Partitions of m into at most n parts."""
    if m == 0:
        return 1
    return 0 if n == 0 or m < 0 else restricted(m, n - 1) + restricted(m - n, n)


def by_loops(weights, labels, family, corrected, shape=1.0):
    """The formulae of the module text, written out."""
    n, blocks = len(weights), sorted(set(labels))
    upper = weights[np.triu_indices(n, 1)]
    upper = upper[upper > 0]
    n_edges, size = len(upper), {r: int((labels == r).sum()) for r in blocks}
    cost = log(comb(n - 1, len(blocks) - 1)) + lgamma(n + 1) + log(n)
    cost -= sum(lgamma(size[r] + 1) for r in blocks)
    cost += log(comb(len(blocks) * (len(blocks) + 1) // 2 + n_edges - 1, n_edges))
    filled = 0
    for r, s in combinations_with_replacement(blocks, 2):
        part = weights[np.ix_(labels == r, labels == s)]
        part = part[np.triu_indices(len(part), 1)] if r == s else part.ravel()
        w = part[part > 0]
        cost += log(comb(len(part), len(w)))
        if not len(w):
            continue
        filled += 1
        if family == "normal":
            mean, variance, m = upper.mean(), upper.var(), len(w)
            scale = variance + ((w - w.mean()) ** 2).sum() / 2
            scale += m * (w.mean() - mean) ** 2 / (2 * (1 + m))
            cost -= lgamma(1 + m / 2) + log(variance) - (1 + m / 2) * log(scale)
            cost += log(1 + m) / 2 + m / 2 * log(2 * pi)
        else:
            cost += (shape * len(w) - 1) * log(w.sum()) - lgamma(shape * len(w))
            cost += len(w) * lgamma(shape) - (shape - 1) * np.log(w).sum()
    if family != "normal":
        cost += (filled - 1) * log(upper.sum()) - lgamma(filled)
    if family == "gamma":
        cost += log(len(SHAPES))
    if corrected:
        degree = (weights > 0).sum(axis=1)
        for r in blocks:
            inside = degree[labels == r]
            e_r = int(inside.sum())
            cost += sum(log(comb(n - 1, k)) for k in inside) - log(comb(size[r] * (n - 1), e_r))
            cost += log(restricted(e_r, size[r]))
            cost += lgamma(size[r] + 1)
            cost -= sum(lgamma(c + 1) for c in np.bincount(inside))
    return cost


def enumerated(weights, family, corrected):
    """The description length of every partition of a few nodes."""
    model = of_weights(weights, family, corrected)
    costs = []
    for labels in partitions(len(weights)):
        state = BlockState(model, labels)
        state.fit_shape()
        costs.append(state.description_length())
    return np.array(costs)


@pytest.mark.parametrize(("family", "corrected"), KINDS)
def test_formulae_are_those_written_out(family, corrected):
    weights = few_nodes(1)
    for labels in partitions(8)[::97]:
        cost = description_length(weights, labels, family=family, degree_corrected=corrected)
        shapes = SHAPES if family == "gamma" else [1.0]
        written = min(by_loops(weights, labels, family, corrected, a) for a in shapes)
        assert cost == pytest.approx(written, abs=1e-9)


@pytest.mark.parametrize(("family", "corrected"), KINDS)
def test_moves_and_merges_cost_what_the_whole_says(family, corrected):
    rng = np.random.default_rng(0)
    model = of_weights(few_nodes(2, 20), family, corrected)
    state = BlockState(model, rng.integers(0, 4, 20))
    if family == "gamma":
        model.set_shape(2.0)
        state.rebuild(state.labels)
    for _ in range(25):
        node, whole = int(rng.integers(20)), state.description_length()
        for slot, cost in enumerate(state.move_costs(node)):
            if np.isfinite(cost):
                labels = state.labels.copy()
                labels[node] = slot
                other = BlockState(model, labels).description_length()
                assert other - whole == pytest.approx(cost, abs=1e-9)
        block = int(rng.integers(state.n_blocks))
        for slot, cost in enumerate(state.merge_costs(block) if state.n_blocks > 1 else []):
            if slot != block:
                labels = np.where(state.labels == block, slot, state.labels)
                other = BlockState(model, labels).description_length()
                assert other - whole == pytest.approx(cost, abs=1e-9)
        state.move(node, int(rng.integers(state.n_blocks)))
        fresh = BlockState(model, state.labels)
        assert state.description_length() == pytest.approx(fresh.description_length(), abs=1e-9)


def test_moves_of_blocks_cost_what_the_whole_says():
    below = BlockState(of_weights(few_nodes(3, 20), "exponential", False), np.arange(20) % 7)
    model = of_blocks(below)
    state = BlockState(model, np.arange(7) % 3)
    for node in range(7):
        whole = state.description_length()
        for slot, cost in enumerate(state.move_costs(node)):
            if np.isfinite(cost):
                labels = state.labels.copy()
                labels[node] = slot
                other = BlockState(model, labels).description_length()
                assert other - whole == pytest.approx(cost, abs=1e-9)


@pytest.mark.parametrize(("family", "corrected"), KINDS)
def test_fit_finds_the_enumerated_optimum(family, corrected):
    weights = few_nodes(4, 7 if family == "gamma" else 8)
    least = enumerated(weights, family, corrected).min()
    fit = fit_sbm(weights, family=family, degree_corrected=corrected, seed=0)
    assert fit.description_length == pytest.approx(least, abs=1e-9)


def test_sampler_agrees_with_the_enumerated_posterior():
    weights, every = few_nodes(9, 6) ** 0.3, partitions(6)  # shallow, so that the chain mixes
    log_p = -enumerated(weights, "exponential", False)
    log_p += [lgamma(labels.max() + 2) for labels in every]
    p = np.exp(log_p - log_p.max())
    p /= p.sum()
    exact = np.einsum("s,sij->ij", p, every[:, :, None] == every[:, None])
    samples = sample_partitions(weights, every[0], n_samples=2000, seed=0)
    assert np.abs(co_assignment(list(samples)) - exact).max() < 0.04


def test_degrees_count_simple_graphs():
    """One block: the cost given the degrees is the logarithm of the number of such graphs."""
    rows, columns = np.triu_indices(6, 1)
    bits = (np.arange(2**15)[:, None] >> np.arange(15)) & 1
    degrees = np.stack([bits[:, (rows == i) | (columns == i)].sum(axis=1) for i in range(6)], 1)
    for wanted in ([2] * 6, [3] * 6, [4, 3, 3, 2, 2, 2], [4] * 6, [5, 4, 4, 3, 2, 2]):
        found = log((degrees == wanted).all(axis=1).sum())
        e_r = sum(wanted)
        cost = log(comb(15, e_r // 2)) - log(comb(30, e_r)) + sum(log(comb(5, k)) for k in wanted)
        assert cost == pytest.approx(found, abs=0.5)


def test_restricted_partitions():
    log_q = log_restricted_partitions(60, 12)
    for m, n in ((1, 1), (10, 3), (30, 12), (60, 5)):
        assert log_q(m, n) == pytest.approx(log(restricted(m, n)), abs=1e-12)
    exact = log_restricted_partitions(4000, 120)
    for m, n in ((2000, 60), (4000, 20), (4000, 120)):
        assert float(_szekeres(m, n)) == pytest.approx(float(exact(m, n)), rel=0.01)


def test_nested_levels_never_cost_more_than_the_flat_prior():
    weights, _ = dense_blocks(48, 12, 20, seed=0)
    state = BlockState(of_weights(weights, "exponential", False), np.arange(48) * 12 // 48)
    flat = state.model.hyper_cost(state.n_blocks, state.n_items)
    cost, levels = hierarchy(state, np.random.default_rng(0))
    assert cost <= flat
    for fine, coarse in zip([state.labels, *levels], levels, strict=False):
        assert len({(a, b) for a, b in zip(fine, coarse, strict=True)}) == fine.max() + 1
