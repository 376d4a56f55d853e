"""One-hot edges: the mixture against closed form and quadrature, and honest probabilities."""

import numpy as np
import pytest
import torch
from planted import compare, fit, plant
from scipy import stats

from neuropipe.models.hmm_glm.onehot import (
    NONE_SD,
    Prior,
    Quadratic,
    Sites,
    category_posterior,
    gaussian,
    propagate,
)


def quadratic(information: np.ndarray, mean: np.ndarray) -> Quadratic:
    """Return a Gaussian likelihood of one state and neuron, its bias (last) apart."""
    size = len(mean) + 1
    block = np.zeros((size, size))
    block[:-1, :-1], block[-1, -1] = information, 1.0
    shift = np.append(information @ mean, 0.0)
    n = len(mean)
    return Quadratic(
        torch.as_tensor(np.broadcast_to(block, (1, n, size, size)).copy()),
        torch.as_tensor(np.broadcast_to(shift, (1, n, size)).copy()),
    )


def mixture_density(w: np.ndarray, prior: Prior) -> np.ndarray:
    """Return the prior density of a weight, categories apart, (..., 3)."""
    mu, sd = float(prior.strength), float(prior.variance) ** 0.5
    share = prior.category[0, 0].numpy()
    parts = [stats.norm.pdf(w, m, s) for m, s in ((-mu, sd), (0, NONE_SD), (mu, sd))]
    return np.stack(parts, -1) * share


def test_category_posterior_is_bayes_rule():
    prior = Prior(torch.tensor(0.8).double(), torch.tensor(0.09).double(),
                  torch.tensor([0.1, 0.7, 0.2]).double().expand(1, 1, 3))  # fmt: skip
    grid = np.linspace(-4, 4, 40001)
    for mean, sd in [(0.1, 0.2), (0.6, 0.3), (-0.9, 0.1)]:
        joint = mixture_density(grid, prior) * stats.norm.pdf(grid, mean, sd)[:, None]
        probability, within, second = category_posterior(
            torch.full((1, 1, 1), mean).double(), torch.full((1, 1, 1), sd**2).double(), prior
        )
        mass = joint.sum(0)
        np.testing.assert_allclose(probability[0, 0, 0], mass / mass.sum(), atol=1e-8)
        np.testing.assert_allclose(
            within[0, 0, 0], (joint * grid[:, None]).sum(0) / mass, atol=1e-8
        )
        np.testing.assert_allclose(
            second[0, 0, 0], (joint * grid[:, None] ** 2).sum(0) / mass, atol=1e-8
        )


def test_independent_edges_are_exact():
    mean = np.array([0.02, 0.9])
    likelihood = quadratic(np.diag([25.0, 16.0]), mean)
    prior = Prior(torch.tensor(0.8).double(), torch.tensor(0.09).double(),
                  torch.tensor([0.1, 0.8, 0.1]).double().expand(2, 2, 3))  # fmt: skip
    sites = Sites(torch.full((1, 2, 2), 9.0).double(), torch.zeros(1, 2, 2).double())
    edges, _ = propagate(likelihood, sites, prior, False)
    cavity = torch.as_tensor(np.broadcast_to(mean, (1, 2, 2)).copy())
    variance = torch.as_tensor(np.broadcast_to([1 / 25, 1 / 16], (1, 2, 2)).copy())
    probability, within, _ = category_posterior(cavity, variance, edges.prior)
    np.testing.assert_allclose(edges.probability, probability, atol=2e-3)
    np.testing.assert_allclose(edges.mean, (probability * within).sum(-1), atol=2e-3)


def test_correlated_edges_are_near_the_integral_over_both():
    information = np.array([[30.0, 12.0], [12.0, 20.0]])
    mean = np.array([0.15, 0.75])
    likelihood = quadratic(information, mean)
    prior = Prior(torch.tensor(0.8).double(), torch.tensor(0.09).double(),
                  torch.tensor([0.1, 0.8, 0.1]).double().expand(2, 2, 3))  # fmt: skip
    sites = Sites(torch.full((1, 2, 2), 9.0).double(), torch.zeros(1, 2, 2).double())
    edges, _ = propagate(likelihood, sites, prior, False)
    grid = np.linspace(-2.5, 2.5, 1251)
    a, b = np.meshgrid(grid, grid, indexing="ij")
    d = np.stack([a - mean[0], b - mean[1]], -1)
    weight = np.exp(-0.5 * np.einsum("ijk,kl,ijl->ij", d, information, d))
    found = edges.prior
    joint = weight[..., None, None] * mixture_density(a, found)[..., :, None]
    joint = joint * mixture_density(b, found)[..., None, :]
    total = joint.sum()
    np.testing.assert_allclose(edges.probability[0, 0, 0], joint.sum((0, 1, 3)) / total, atol=0.06)
    np.testing.assert_allclose(edges.probability[0, 0, 1], joint.sum((0, 1, 2)) / total, atol=0.06)
    flat = joint.sum((2, 3)) / total
    np.testing.assert_allclose(edges.mean[0, 0], [(flat * a).sum(), (flat * b).sum()], atol=0.04)


@pytest.mark.parametrize("share_bias", [True, False])
def test_gaussian_marginals_equal_the_inverse_of_the_joint_precision(share_bias):
    rng = np.random.default_rng(0)
    n_states, n_features = 3, 4
    blocks = [(m := rng.normal(size=(9, n_features + 1))).T @ m for _ in range(n_states)]
    shift = rng.normal(size=(n_states, n_features + 1))
    precision = rng.uniform(0.5, 2, (n_states, n_features))
    pull = rng.normal(size=(n_states, n_features))
    likelihood = Quadratic(
        torch.as_tensor(np.stack(blocks))[:, None], torch.as_tensor(shift)[:, None]
    )
    sites = Sites(torch.as_tensor(precision)[:, None], torch.as_tensor(pull)[:, None])
    mean, variance, bias = gaussian(likelihood, sites, share_bias)
    n_bias = 1 if share_bias else n_states
    size = n_states * n_features + n_bias
    joint, target = np.zeros((size, size)), np.zeros(size)
    for s in range(n_states):
        at = [*range(s * n_features, (s + 1) * n_features),
              n_states * n_features + (0 if share_bias else s)]  # fmt: skip
        joint[np.ix_(at, at)] += blocks[s]
        target[at] += shift[s]
        joint[at[:-1], at[:-1]] += precision[s]
        target[at[:-1]] += pull[s]
    covariance = np.linalg.inv(joint)
    solution = covariance @ target
    weights = n_states * n_features
    np.testing.assert_allclose(mean[:, 0].numpy().ravel(), solution[:weights], atol=1e-9)
    np.testing.assert_allclose(
        variance[:, 0].numpy().ravel(), covariance.diagonal()[:weights], atol=1e-9
    )
    np.testing.assert_allclose(bias[:, 0].numpy()[:n_bias], solution[weights:], atol=1e-9)


def test_edge_probabilities_are_calibrated():
    planted = plant(5, 6, 2, n_states=3, n_units=12, n_bins=1000)
    outcome = fit(planted, "one_hot")
    levels = compare(planted, outcome)
    assert levels["adjacency"] > 0.93
    # without matching states to truth: the mean of the largest probability is the expected
    # share of right categories
    expected = float(outcome.edges.probability.max(-1).values.mean())
    assert expected == pytest.approx(levels["adjacency"], abs=0.04)
