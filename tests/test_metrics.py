"""Scores against values worked out by hand or by another library."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from neuropipe import metrics

QUICK = settings(deadline=None, max_examples=40, derandomize=True)


def test_poisson_log_likelihood_is_that_of_scipy():
    counts = np.array([[0, 1], [3, 0], [7, 2]])
    rate = np.array([0.5, 2.0])
    expected = stats.poisson.logpmf(counts, rate).sum()
    assert metrics.poisson_log_likelihood(counts, rate) == pytest.approx(expected)


def test_a_silent_unit_at_rate_zero_is_certain():
    counts = np.zeros((4, 1))
    assert metrics.poisson_log_likelihood(counts, np.array([0.0])) == 0.0
    assert metrics.poisson_log_likelihood(counts + 1, np.array([0.0])) == -math.inf


def test_bits_per_spike_by_hand():
    assert metrics.bits_per_spike(-10 + 3 * math.log(2), -10, 3) == pytest.approx(1.0)
    assert metrics.bits_per_spike(-10, -10, 5) == 0.0
    assert math.isnan(metrics.bits_per_spike(0.0, 0.0, 0))


def test_likelihood_scores():
    counts = np.array([[1, 0], [2, 1]])
    rate = np.array([1.0, 0.5])
    null = metrics.poisson_log_likelihood(counts, rate)
    scores = metrics.likelihood_scores(null + 4 * math.log(2), counts, rate)
    assert scores["bits_per_spike"] == pytest.approx(1.0)
    assert scores["log_likelihood_per_bin"] == pytest.approx((null + 4 * math.log(2)) / 2)
    assert set(scores) <= set(metrics.UNITS)
    assert math.isnan(metrics.likelihood_scores(0.0, counts[:0], rate)["bits_per_spike"])


@QUICK
@given(st.integers(1, 4), st.integers(1, 30), st.integers(0, 99))
def test_labels_match_the_best_of_all_relabellings(n_labels, n, seed):
    rng = np.random.default_rng(seed)
    truth, other = rng.integers(-1, n_labels, (2, n))
    order = metrics.match_labels(truth, other, n_labels)
    assert sorted(order) == list(range(n_labels))
    both = (truth >= 0) & (other >= 0)
    best = max(
        (np.array(p)[other[both]] == truth[both]).sum()
        for p in itertools.permutations(range(n_labels))
    )
    assert (order[other[both]] == truth[both]).sum() == best


@QUICK
@given(st.integers(1, 6), st.integers(0, 99))
def test_accuracy_does_not_depend_on_names(n_labels, seed):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, n_labels, 50)
    assert metrics.label_accuracy(truth, rng.permutation(n_labels)[truth], n_labels) == 1.0


def test_bootstrap_interval():
    values = np.random.default_rng(0).normal(3.0, 1.0, 400)
    low, high = metrics.bootstrap_interval(values, seed=1)
    expected = stats.t.interval(0.95, 399, values.mean(), values.std(ddof=1) / 20)
    assert (low, high) == pytest.approx(expected, abs=0.02)
    assert metrics.bootstrap_interval(values, seed=1) == (low, high)
    assert metrics.bootstrap_interval(values, seed=2) != (low, high)
    inner = metrics.bootstrap_interval(values, seed=1, level=0.5)
    assert low < inner[0] < inner[1] < high


@pytest.mark.parametrize("values", [[], [1.0], [1.0, np.nan]])
def test_no_interval_from_less_than_two_samples(values):
    assert all(map(math.isnan, metrics.bootstrap_interval(np.array(values), seed=0)))


def test_scores_of_classes_by_hand():
    p = np.array([[0.7, 0.2, 0.1], [0.4, 0.4, 0.2], [0.1, 0.3, 0.6], [0.2, 0.5, 0.3], [1, 0, 0]])
    label = np.array(["a", "b", "b", "d", ""], dtype=object)
    got = metrics.class_scores(p, label, ("a", "b", "c"), np.array([0.2, 0.5, 0.3]))
    assert got["accuracy"] == 0.25  # a tie is no hit, an unknown class is wrong
    assert got["chance_accuracy"] == 0.5
    assert got["class_log_likelihood"] == pytest.approx(np.log([0.7, 0.4, 0.3]).mean())
    assert "top_5_accuracy" not in got
    number = np.array([0, 1, 1, -1])
    assert [metrics.top_k_accuracy(p[:4], number, k) for k in (1, 2, 3)] == [0.25, 0.75, 0.75]
    none = metrics.class_scores(p[:0], label[:0], ("a", "b", "c"), np.ones(3) / 3)
    assert np.isnan(list(none.values())).all()


def test_top_k_is_scikit_learns():
    from sklearn.metrics import top_k_accuracy_score

    rng = np.random.default_rng(0)
    p, y = rng.dirichlet(np.ones(9), 60), rng.integers(9, size=60)
    for k in (1, 3, 5):
        want = top_k_accuracy_score(y, p, k=k, labels=np.arange(9))
        assert metrics.top_k_accuracy(p, y, k) == pytest.approx(want)
    scores = metrics.class_scores(p, y.astype(str).astype(object), list("012345678"), np.ones(9))
    assert scores["top_5_accuracy"] == metrics.top_k_accuracy(p, y, 5)
