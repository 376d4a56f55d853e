"""The MM-GPVAE's equations against closed forms, dense Gaussians, Monte Carlo and exact GPs."""

import math

import numpy as np
import pytest
import torch
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF

from neuropipe.models.mm_gpvae.align import align, directions
from neuropipe.models.mm_gpvae.config import Config
from neuropipe.models.mm_gpvae.fourier import (
    circle_bins,
    fourier_basis,
    highest_frequency,
    prior_variance,
    whitened_basis,
)
from neuropipe.models.mm_gpvae.likelihoods import Likelihood
from neuropipe.models.mm_gpvae.model import MMGPVAENetwork, Start
from neuropipe.models.mm_gpvae.network import decode, jacobian, make_decoder
from neuropipe.models.mm_gpvae.posterior import Evidence, diagonal, from_evidence, pool
from neuropipe.models.mm_gpvae.refine import refine

DOUBLE = torch.float64


def rng(seed=0):
    return np.random.default_rng(seed)


def tensor(*shape, seed=0, low=None):
    x = rng(seed).standard_normal(shape)
    return torch.as_tensor(np.abs(x) + low if low is not None else x)


def network(seed=0, n_bins=30, n_units=7, n_channels=4, numbers=(1, 1, 1), weight=0.4, **settings):
    torch.manual_seed(seed)
    start = Start(n_bins, (6.0, 5.0, 7.0), (0.8,) * n_units, (0.9,) * n_units, n_channels,
                  settings.pop("family", "poisson"), weight)  # fmt: skip
    return MMGPVAENetwork(Config(**settings), numbers, start).double().eval()


def batch_of(n_bins=30, n_units=7, n_channels=4, n_trials=3, seed=1, counts=True):
    r = rng(seed)
    y = r.poisson(0.8, (n_trials, n_bins, n_units)) if counts else r.standard_normal(
        (n_trials, n_bins, n_units))  # fmt: skip
    x = r.standard_normal((n_trials, n_bins, n_channels))
    seen = {f"{n}_seen": torch.ones(v.shape, dtype=torch.bool)
            for n, v in (("neural", y), ("behavior", x))}  # fmt: skip
    data = {"neural": torch.as_tensor(y, dtype=DOUBLE), "behavior": torch.as_tensor(x)}
    return {**data, **seen, "n_bins": torch.full((n_trials,), float(n_bins), dtype=DOUBLE)}


@pytest.mark.parametrize("n_circle", [24, 25])
def test_the_whole_basis_is_orthonormal(n_circle):
    basis, frequency = fourier_basis(n_circle, n_circle, n_circle // 2)
    assert len(frequency) == n_circle
    torch.testing.assert_close(basis @ basis.T, torch.eye(n_circle, dtype=DOUBLE))


@pytest.mark.parametrize(("n_circle", "length"), [(72, 3.0), (73, 6.0), (120, 10.0)])
def test_the_prior_is_the_dense_circulant_gaussian(n_circle, length):
    lag = np.arange(n_circle)
    wraps = sum(np.exp(-((lag + m * n_circle) ** 2) / (2 * length**2)) for m in range(-3, 4))
    dense = wraps[np.abs(lag[:, None] - lag)]
    basis, frequency = fourier_basis(n_circle, n_circle, n_circle // 2)
    variance = prior_variance(frequency, torch.tensor([length], dtype=DOUBLE))[0]
    torch.testing.assert_close(
        basis.T @ (variance[:, None] * basis), torch.as_tensor(dense), atol=1e-5, rtol=0
    )
    # and the density of a path under both
    jitter = 1e-3
    path = rng(3).standard_normal(n_circle)
    dense = dense + jitter * np.eye(n_circle)
    _, logdet = np.linalg.slogdet(dense)
    expected = -0.5 * (path @ np.linalg.solve(dense, path) + logdet)
    own = basis @ torch.as_tensor(path)
    k = prior_variance(frequency, torch.tensor([length], dtype=DOUBLE), jitter)[0]
    assert float(-0.5 * (own**2 / k + k.log()).sum()) == pytest.approx(expected, rel=1e-5)


def test_pruned_coefficients_keep_the_kernel():
    n_circle = circle_bins(60, "auto", 10.0)
    assert n_circle == 100
    highest = highest_frequency(n_circle, 5.0, 1e4)
    basis, frequency = fourier_basis(n_circle, 60, highest)
    assert len(frequency) < 0.35 * n_circle
    lag = torch.arange(60, dtype=DOUBLE)[:, None] - torch.arange(60, dtype=DOUBLE)
    circular = torch.minimum(lag.abs(), n_circle - lag.abs())
    for length in (5.0, 10.0):
        a = whitened_basis(basis, frequency, torch.tensor([length], dtype=DOUBLE))[0]
        dense = torch.exp(-0.5 * (circular / length) ** 2)
        torch.testing.assert_close(a.T @ a, dense, atol=2e-4, rtol=0)


def test_the_published_pruning_keeps_its_last_cosine():
    assert circle_bins(60, 1.2, 30.0) == 72
    assert highest_frequency(72, 10.0, 1e8) == 6
    assert len(fourier_basis(72, 60, 6)[1]) == 13  # the authors lose one: 12


@pytest.mark.parametrize("family", ["poisson", "negative_binomial", "gaussian"])
def test_expected_log_likelihoods_are_monte_carlo_means(family):
    like = Likelihood(family, 3, sd=0.6).double()
    y = torch.tensor([[[0.0, 2.0, 5.0]]], dtype=DOUBLE)
    eta = torch.tensor([[[-0.3, 0.4, 1.2]]], dtype=DOUBLE)
    s = torch.tensor([[[0.2, 0.5, 0.05]]], dtype=DOUBLE)
    seen = torch.ones_like(y, dtype=torch.bool)
    like.requires_grad_(False)
    draws = eta + s.sqrt() * torch.as_tensor(rng().standard_normal((100_000, 1, 3)))
    mean = float(like.value(y, draws, None, seen).mean())
    assert float(like.value(y, eta, s, seen)) == pytest.approx(mean, rel=0.01)


@pytest.mark.parametrize("family", ["poisson", "negative_binomial", "gaussian"])
def test_slopes_are_the_gradient_and_the_curvature(family):
    like = Likelihood(family, 3, sd=0.6).double()
    y, s = torch.tensor([[[0.0, 2.0, 5.0]]], dtype=DOUBLE), torch.full((1, 1, 3), 0.3, dtype=DOUBLE)
    seen = torch.tensor([[[True, False, True]]])
    eta = torch.tensor([[[-0.3, 0.4, 1.2]]], dtype=DOUBLE, requires_grad=True)
    first, second = like.slope(y, eta, s, seen)
    [gradient] = torch.autograd.grad(like.value(y, eta, s, seen).sum(), eta, create_graph=True)
    [minus] = torch.autograd.grad(gradient.sum(), eta)
    torch.testing.assert_close(first, gradient)
    torch.testing.assert_close(second, -minus)


def test_correlated_noise_is_the_dense_gaussian():
    torch.manual_seed(1)
    like = Likelihood("gaussian", 5, sd=0.7, rank=2).double()
    y, eta = tensor(2, 3, 5), tensor(2, 3, 5, seed=1)
    seen = torch.ones(2, 3, 5, dtype=torch.bool)
    seen[1, 2, 0] = False  # a bin that lacks a channel is left out
    u = like.factor.detach()
    cov = torch.diag(like.scale().detach()) + u @ u.T
    dense = torch.distributions.MultivariateNormal(torch.zeros(5, dtype=DOUBLE), cov)
    expected = torch.where(seen.all(-1), dense.log_prob(y - eta), 0.0)
    torch.testing.assert_close(like.value(y, eta, None, seen), expected)
    slopes = tensor(5, 2, seed=2)
    g, h = like.information(y, eta, None, seen, slopes)
    inverse = torch.linalg.inv(cov)
    torch.testing.assert_close(g[0, 1], slopes.T @ inverse @ (y - eta)[0, 1])
    torch.testing.assert_close(h[0, 1], slopes.T @ inverse @ slopes)
    assert float(h[1, 2].detach().abs().sum()) == 0


@pytest.mark.parametrize("posterior", ["sites", "diagonal"])
def test_the_divergence_is_its_monte_carlo_mean(posterior):
    basis, frequency = fourier_basis(20, 12, 3)
    length = torch.tensor([4.0, 6.0], dtype=DOUBLE)
    if posterior == "sites":
        a = whitened_basis(basis, frequency, length)
        evidence = Evidence(tensor(1, 12, 2), tensor(1, 12, 2, seed=4, low=0.1))
        q = from_evidence(evidence, a)
        m = a * evidence.precision.transpose(1, 2)[:, :, None] @ a.transpose(1, 2)
        covariance = torch.linalg.inv(m[0] + torch.eye(7, dtype=DOUBLE))
        mean, prior = q.coefficient[0], torch.ones(2, 7, dtype=DOUBLE)
    else:
        prior = prior_variance(frequency, length, 0.01)
        mean, log_sd = tensor(1, 2, 7), 0.3 * tensor(1, 2, 7, seed=5) - 1
        q = diagonal(mean, log_sd, prior, basis)
        covariance, mean = torch.diag_embed((2 * log_sd[0]).exp()), mean[0]
        torch.testing.assert_close(q.variance[0, 3, 1], (covariance[1].diagonal()
                                                         * basis[:, 3] ** 2).sum())  # fmt: skip
    total = 0.0
    for d in range(2):
        own = torch.distributions.MultivariateNormal(mean[d], covariance[d])
        other = torch.distributions.MultivariateNormal(torch.zeros(7, dtype=DOUBLE),
                                                       torch.diag(prior[d]))  # fmt: skip
        torch.manual_seed(d)
        x = own.sample((100_000,))
        total += float((own.log_prob(x) - other.log_prob(x)).mean())
    assert float(q.divergence) == pytest.approx(total, rel=0.01)


@pytest.mark.parametrize("family", ["poisson", "negative_binomial"])
def test_the_bound_of_a_linear_model_is_a_monte_carlo_mean(family):
    net = network(behavior_decoder="linear", family=family)
    batch = batch_of()
    with torch.no_grad():
        q = net.infer(batch)
        terms = net.fit_terms(batch, q)
        torch.manual_seed(0)
        totals = {name: [] for name, _ in net.modalities()}
        for _ in range(4000):
            z = q.mean + q.variance.sqrt() * torch.randn_like(q.mean)
            for name, part in net.modalities():
                eta, _ = part.predictor(z, None)
                value = part.likelihood.value(batch[name], eta, None, batch[f"{name}_seen"])
                totals[name].append(float(value.sum()))
    for name, draws in totals.items():
        assert float(terms[name]) == pytest.approx(np.mean(draws), rel=0.01)


@pytest.mark.parametrize(
    "settings",
    [{"behavior_decoder": "linear"}, {"behavior_decoder": "linear", "fusion": "average"},
     {"behavior_decoder": "linear", "posterior": "dense", "jitter": 1e-2, "circle": 1.2}],
)  # fmt: skip
def test_gradients_of_the_bound(settings):
    settings |= {"neural_hidden": (3,), "behavior_hidden": (3,)}
    net = network(n_bins=6, n_units=3, n_channels=2, min_length_scale_bins=4.0, **settings)
    batch = batch_of(6, 3, 2, n_trials=2)
    names = [n for n, _ in net.named_parameters()]

    def loss(*values):
        call = dict(zip(names, values, strict=True))
        return torch.func.functional_call(Bound(net), {f"net.{n}": v for n, v in call.items()},
                                          (batch,))  # fmt: skip

    values = [p.detach().clone().requires_grad_() for p in net.parameters()]
    assert torch.autograd.gradcheck(loss, values, eps=1e-6, atol=1e-6)


class Bound(torch.nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, batch):
        return self.net.loss(batch)["loss"]


def test_evidence_of_both_modalities_adds_up_or_is_averaged():
    one = Evidence(torch.tensor([[[2.0, 1.0]]]), torch.tensor([[[1.0, 3.0]]]))
    two = Evidence(torch.tensor([[[4.0, 9.0]]]), torch.tensor([[[3.0, 0.0]]]))
    sees = [torch.tensor([True, True]), torch.tensor([True, False])]
    product = pool([one, two], "product", sees)
    torch.testing.assert_close(product.precision, torch.tensor([[[4.0, 3.0]]]))
    torch.testing.assert_close(product.value, torch.tensor([[[3.5, 1.0]]]))
    average = pool([one, two], "average", sees)
    torch.testing.assert_close(average.precision, torch.tensor([[[2.0, 3.0]]]))
    torch.testing.assert_close(average.value, torch.tensor([[[3.5, 1.0]]]))


def linear_gaussian(length, noise, n_bins, missing=()):
    """One latent, one channel of weight 1 and known noise, and a batch of one trial for it."""
    net = network(
        n_bins=n_bins, n_units=1, n_channels=0, numbers=(0, 1, 0), family="gaussian",
        modalities="neural", n_shared=0, n_behavior=0, neural_likelihood="gaussian",
        circle=1 + 12 * length / n_bins, min_length_scale_bins=length / 2, pruning=1e13,
    )  # fmt: skip
    with torch.no_grad():
        net.raw_length.fill_(math.log(length))
        weight, bias = net.neural.matrix
        weight.fill_(1.0)
        bias.zero_()
        net.neural.likelihood.spread.fill_(2 * math.log(noise))
    batch = batch_of(n_bins, 1, 0, n_trials=1, counts=False)
    batch["neural_seen"][0, list(missing)] = False
    return net, batch


@pytest.mark.parametrize("missing", [(), (3, 4, 5, 30)])
def test_a_single_linear_gaussian_latent_is_exact_gp_regression(missing):
    length, noise, n_bins = 6.0, 0.5, 40
    net, batch = linear_gaussian(length, noise, n_bins, missing)
    with torch.no_grad():
        q = refine(net, batch, net.infer(batch), 5)
    t = np.arange(n_bins)[:, None].astype(float)
    seen = batch["neural_seen"][0, :, 0].numpy()
    oracle = GaussianProcessRegressor(RBF(length), alpha=noise**2, optimizer=None)
    oracle.fit(t[seen], batch["neural"][0, seen, 0].numpy())
    mean, sd = oracle.predict(t, return_std=True)
    np.testing.assert_allclose(q.mean[0, :, 0], mean, atol=1e-5)
    np.testing.assert_allclose(q.variance[0, :, 0].sqrt(), sd, atol=1e-5)
    # and the bound is the evidence, since the posterior is exact
    like = net.neural.likelihood
    with torch.no_grad():
        eta, s = net.neural.predictor(q.mean, q.variance)
        value = like.value(batch["neural"], eta, s, batch["neural_seen"]).sum() - q.divergence
    assert float(value) == pytest.approx(oracle.log_marginal_likelihood_value_, abs=1e-4)


@pytest.mark.parametrize("decoder", ["linear", "mlp"])
def test_refining_raises_the_bound_to_its_top(decoder):
    net, batch = network(behavior_decoder=decoder), batch_of()
    batch["neural_seen"][:, :, :3] = False  # units
    batch["behavior_seen"][1] = False  # a modality
    batch["neural_seen"][2, 10:15] = False  # bins

    def bound(q):
        value = -q.divergence
        for name, part in net.modalities():
            eta, s = part.predictor(q.mean, q.variance)
            like = part.likelihood.value(batch[name], eta, s, batch[f"{name}_seen"]).sum(1)
            value = value + (net.start.weight if name == "behavior" else 1.0) * like
        return value

    with torch.no_grad():
        first = net.infer(batch)
        courses = [refine(net, batch, first, n) for n in (0, 1, 8, 30)]
        bounds = [bound(q) for q in courses]
    assert (bounds[2] > bounds[0] + 0.1).all()
    torch.testing.assert_close(bounds[3], bounds[2], atol=1e-4, rtol=0)
    if decoder == "mlp":
        return
    # at the top no direction of the mean is uphill
    a = net.whitened(30)
    u = courses[3].coefficient.clone().requires_grad_()
    z = torch.einsum("bdf,dft->btd", u, a)
    value = -0.5 * u.square().sum()
    for name, part in net.modalities():
        eta, s = part.predictor(z, courses[3].variance)
        like = part.likelihood.value(batch[name], eta, s, batch[f"{name}_seen"]).sum()
        value = value + (net.start.weight if name == "behavior" else 1.0) * like
    [gradient] = torch.autograd.grad(value, u)
    assert float(gradient.abs().max()) < 1e-5


def test_a_modality_that_is_not_seen_leaves_its_own_latent_at_the_prior():
    net, batch = network(), batch_of()
    batch["behavior_seen"][:] = False
    with torch.no_grad():
        q = refine(net, batch, net.infer(batch), 8)
        prior = net.whitened(30).square().sum(1).T
    assert float(q.mean[..., 2].abs().max()) < 1e-9
    torch.testing.assert_close(q.variance[0, :, 2], prior[:, 2])
    assert (q.variance[..., 0] < prior[:, 0]).all()


@pytest.mark.parametrize(("kind", "shape"), [("mlp", None), ("conv", (6, 7)), ("linear", None)])
def test_slopes_of_a_decoder(kind, shape):
    torch.manual_seed(0)
    n_channels = 5 if shape is None else shape[0] * shape[1]
    decoder = make_decoder(kind, 2, (8, 6), n_channels, shape).double()
    z = tensor(2, 3, 2)
    eta, slopes = jacobian(decoder, z)
    torch.testing.assert_close(eta, decode(decoder, z))
    for d in range(2):
        step = torch.zeros(2, dtype=DOUBLE)
        step[d] = 1e-6
        numeric = (decode(decoder, z + step) - decode(decoder, z - step)) / 2e-6
        torch.testing.assert_close(slopes[..., d], numeric, atol=1e-7, rtol=1e-5)


def test_the_direction_that_behaviour_follows_comes_first():
    """One of three mixed latents drives the first channels, and the square of another the last."""
    r = rng(2)
    source = r.standard_normal((4000, 3))
    mixing = r.standard_normal((3, 3))
    x = np.column_stack([source[:, 1], -source[:, 1], source[:, 2] ** 2]) + 0.1 * r.standard_normal(
        (4000, 3))  # fmt: skip
    turn, told = directions(source @ mixing, x)
    found = source @ mixing @ turn
    np.testing.assert_allclose(np.corrcoef(found.T), np.eye(3), atol=1e-8)
    assert abs(np.corrcoef(found[:, 0], source[:, 1])[0, 1]) > 0.99
    assert told[0] > 0.95
    assert told[1] < 0.05


def test_turned_latents_predict_the_same_rates():
    net, batch = network(n_units=9), batch_of(n_units=9, n_trials=12)
    only = {name: x for name, x in batch.items() if not name.startswith("behavior")}
    with torch.no_grad():
        net.neural.encoder.line.bias[2:] = 0.3  # equal precisions turn without loss
        net.neural.encoder.line.weight[2:] = 0.0
        net.raw_length.fill_(math.log(6.0))
        before, _ = net.neural.predictor(net.infer(only).mean, None)
        weight = net.neural.matrix[0].clone()
        told = align(net, batch)
        after, _ = net.neural.predictor(net.infer(only).mean, None)
    assert told.shape == (2,)
    assert (net.neural.matrix[0] - weight).abs().max() > 1e-3
    torch.testing.assert_close(after, before)
