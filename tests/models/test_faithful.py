"""The published objectives against plain loops of their equations."""

import math

import numpy as np
import pytest
import torch
from planted import plant
from scipy import special, stats

from neuropipe.models.hmm_glm.config import Config
from neuropipe.models.hmm_glm.faithful import (
    FLOOR,
    Published,
    expected_log_likelihood,
    fit_faithful,
    log_concrete,
    objective,
)
from neuropipe.training.checkpoint import Checkpoint


def made(preset: str, prior: str, link: str = "sigmoid"):
    rng = np.random.default_rng(0)
    config = Config(preset=preset, prior=prior, link=link, share_bias=True)
    model = Published(config, 2, 3, torch.tensor([0.3, 0.4, 0.5]).double(), 0.2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.as_tensor(rng.normal(0, 0.7, parameter.shape)))
    batch = plant(1, 1, 1, n_states=2, n_units=3, n_bins=40).train
    gamma = torch.as_tensor(rng.dirichlet([1, 1], 40))
    return model, batch, gamma


def looped_likelihood(model, batch, gamma, weight) -> float:
    """Sum over bins, states and neurons, one by one."""
    bias, total = model.bias[0].tolist(), 0.0
    for t in range(len(gamma)):
        for s in range(2):
            for n in range(3):
                eta = bias[n] + sum(
                    float(weight[s, n, j]) * float(batch.features[t, j]) for j in range(3)
                )
                f = FLOOR + (1 - FLOOR) / (1 + math.exp(-eta))
                x = float(batch.counts[t, n])
                total += float(gamma[t, s]) * (x * math.log(f + FLOOR) - f - math.lgamma(x + 1))
    return total


def looped_prior(model) -> float:
    if model.config.prior == "none":
        return 0.0
    raw = model.raw.detach().numpy()
    if model.config.prior == "gaussian":
        return -sum(((w - raw.mean(0)) / model.config.prior_sd) ** 2 for w in raw).sum() / 2
    total = 0.0
    log_pi = special.log_softmax(model.prior_logits.detach().numpy(), -1)
    for s in range(2):
        for i in range(3):
            for j in range(3):
                a = special.softmax(model.logits[s, i, j].detach().numpy())
                pi, tau = np.exp(log_pi[i, j]), model.temperature
                if model.config.preset == "faithful_2024":
                    density = math.gamma(3) * tau**2 / (pi * a**-tau).sum() ** 3
                    total += math.log(density * (pi * a ** (-tau - 1)).prod())
                else:
                    total += (a * (np.log(pi) - np.log(a))).sum()
    return total


@pytest.mark.parametrize("preset", ["faithful_2024", "faithful_2025"])
@pytest.mark.parametrize("prior", ["none", "gaussian", "one_hot"])
def test_objective_equals_a_plain_loop(preset, prior):
    model, batch, gamma = made(preset, prior)
    weight = model.weight("mean").detach()
    got = float(objective(model, batch, gamma, weight, 0.5).detach())
    want = -(looped_likelihood(model, batch, gamma, weight) + 0.5 * looped_prior(model))
    assert got == pytest.approx(want, abs=1e-6)


def test_weight_is_strength_times_excitatory_minus_inhibitory():
    model, _, _ = made("faithful_2024", "one_hot")
    strength = np.log1p(np.exp(model.raw.detach().numpy()))
    a = special.softmax(model.logits.detach().numpy(), -1)
    np.testing.assert_allclose(model.weight("mean").detach(), strength * (a[..., 2] - a[..., 0]))
    hard = a.argmax(-1) - 1
    np.testing.assert_allclose(model.weight("hard").detach(), strength * hard)
    draws = torch.stack(
        [model.weight("draw", torch.Generator().manual_seed(s)) for s in range(400)]
    )
    np.testing.assert_allclose(
        draws.mean(0).detach(), strength * (a[..., 2] - a[..., 0]), atol=0.25
    )


def test_concrete_density_integrates_to_one():
    rng = np.random.default_rng(1)
    pi, tau = np.array([0.2, 0.5, 0.3]), 0.7
    point = rng.dirichlet([0.7] * 3, 200_000)
    point = point[(point > 1e-12).all(1)]
    density = log_concrete(torch.as_tensor(np.log(point)), torch.as_tensor(np.log(pi)), tau)
    proposal = stats.dirichlet.logpdf(point.T, [0.7] * 3)
    assert np.exp(density.numpy() - proposal).mean() == pytest.approx(1, abs=0.03)


def test_likelihood_ignores_bins_without_responsibility():
    model, batch, gamma = made("faithful_2024", "none")
    gamma[10:] = 0
    weight, bias = model.weight("mean"), model.bias.expand(2, -1)
    short = batch._replace(features=batch.features[:10], counts=batch.counts[:10])
    full = expected_log_likelihood(batch, gamma, weight, bias, "sigmoid").detach()
    assert float(full) == pytest.approx(
        float(expected_log_likelihood(short, gamma[:10], weight, bias, "sigmoid").detach())
    )


@pytest.mark.parametrize("preset", ["faithful_2024", "faithful_2025"])
@pytest.mark.parametrize("prior", ["none", "one_hot"])
def test_schedule_raises_the_evidence(preset, prior):
    planted = plant(2, 3, 1, n_states=2, n_units=4, n_bins=300)
    config = Config(preset=preset, prior=prior, link="sigmoid", share_bias=True,
                    n_epochs=4 if preset == "faithful_2024" else 40)  # fmt: skip
    outcome = fit_faithful(planted.train, 2, config, seed=3, checkpoint=Checkpoint(None, ""))
    trace = outcome.fit.objective[:, 0]
    assert trace[-1] > trace[0]
    assert torch.isfinite(trace).all()
    again = fit_faithful(planted.train, 2, config, seed=3, checkpoint=Checkpoint(None, ""))
    torch.testing.assert_close(again.parameters.weight, outcome.parameters.weight)
