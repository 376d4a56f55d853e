"""Identification and retrieval against enumeration; image scores against scikit-image."""

from itertools import combinations

import numpy as np
import pytest

from neuropipe.retrieval import (
    cosines,
    pixel_correlation,
    retrieval_accuracy,
    structural_similarity,
    two_way_identification,
)


def enumerated(similarity, n_best, pool_size, label):
    """Draw every pool and, of ties, every order."""
    hits = []
    for n in range(len(similarity)):
        rivals = [j for j in range(len(similarity)) if label[j] != label[n]]
        for pool in combinations(rivals, pool_size - 1):
            ahead = sum(similarity[n, j] > similarity[n, n] for j in pool)
            level = sum(similarity[n, j] == similarity[n, n] for j in pool)
            places = ahead + np.arange(level + 1)
            hits.append((len(rivals), np.mean(places < n_best), n))
    return np.mean([np.mean([h for _, h, m in hits if m == n]) for n in range(len(similarity))])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("n_best", "pool_size"), [(1, 3), (2, 4), (1, 6)])
def test_retrieval_is_the_mean_over_all_pools(seed, n_best, pool_size):
    rng = np.random.default_rng(seed)
    similarity = rng.integers(0, 4, (7, 7)).astype(float)  # many ties
    label = list("abcdefe")
    expected = enumerated(similarity, n_best, pool_size, label)
    assert retrieval_accuracy(similarity, n_best, pool_size, label) == pytest.approx(expected)
    pairs = enumerated(similarity, 1, 2, label)
    assert two_way_identification(similarity, label) == pytest.approx(pairs)


def test_what_knows_nothing_is_at_chance_and_what_knows_all_at_one():
    assert retrieval_accuracy(np.zeros((60, 60)), 5, 50) == pytest.approx(5 / 50)
    assert two_way_identification(np.zeros((60, 60))) == 0.5
    assert retrieval_accuracy(np.eye(60), 1, 50) == two_way_identification(np.eye(60)) == 1
    assert np.isnan(retrieval_accuracy(np.eye(20), 1, 50))
    assert np.isnan(two_way_identification(np.ones((1, 1))))
    x = np.random.default_rng(0).normal(size=(4, 9))
    np.testing.assert_allclose(np.diag(cosines(x, 3 * x)), 1)
    assert not cosines(x, np.zeros((2, 9))).any()


def test_image_scores_are_those_of_their_definitions():
    rng = np.random.default_rng(0)
    a, b = rng.random((40, 30)), rng.random((40, 30))
    assert structural_similarity(a, a) == pytest.approx(1)
    assert pixel_correlation(a, b) == pytest.approx(np.corrcoef(a.ravel(), b.ravel())[0, 1])
    assert pixel_correlation(a, np.ones_like(a)) == 0
    c = (a + b) / 2
    weight = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    weight = np.outer(weight, weight) / weight.sum() ** 2
    local = []
    for y in range(5, 35):
        for x in range(5, 25):
            u, v = (im[y - 5 : y + 6, x - 5 : x + 6] for im in (a, c))
            mu, mv = (weight * u).sum(), (weight * v).sum()
            cov = np.array([[(weight * p * q).sum() - mp * mq for q, mq in ((u, mu), (v, mv))]
                            for p, mp in ((u, mu), (v, mv))])  # fmt: skip
            over = (2 * mu * mv + 1e-4) * (2 * cov[0, 1] + 9e-4)
            local.append(over / ((mu**2 + mv**2 + 1e-4) * (np.trace(cov) + 9e-4)))
    assert structural_similarity(a, c) == pytest.approx(np.mean(local), abs=1e-12)
    metrics = pytest.importorskip("skimage.metrics")
    theirs = metrics.structural_similarity(
        a, c, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert structural_similarity(a, c) == pytest.approx(theirs, abs=1e-9)
