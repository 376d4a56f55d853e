"""One-hot prior by empirical Bayes: which edge excites, inhibits or is absent, and how surely.

The paper splits each weight into a one-hot category (inhibitory, none, excitatory) and a strength,
with a category prior shared by the states, the presumed anatomy. Fitting both by gradient cannot
tell an absent edge from a weak one, since a strength near zero does the same. Here every weight has
the mixture prior

    p(w_sij) = sum_c pi_ijc N(w_sij; m_c, t_c^2),  m = (-mu, 0, mu),  t = (t, .03, t),

with mu, t and the pair's category shares pi_ij learned from all edges, and its posterior is found
by expectation propagation (Minka 2001) against the Gauss-Newton form of the likelihood: an edge is
judged by what its own data say once all other edges are accounted for, standard error included.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from neuropipe_kernels import glm_ll
from torch import Tensor

from neuropipe.models.hmm_glm.model import (
    NEGLIGIBLE,
    Batch,
    Form,
    Parameters,
    chain_update,
    curvature,
    e_step,
)
from neuropipe.training.processes import reduce_sum

CATEGORIES = ("inhibitory", "none", "excitatory")
NONE_SD = 0.03  # t_none, spread of the weight of an absent edge
PSEUDO_COUNT = 1.5  # of the global category shares, in each pair's prior
ROUNDS = 4  # of E-step, linearisation and propagation
SWEEPS = 40  # of expectation propagation in a round, at most
DAMPING = 0.5  # share of the old site that a sweep keeps


class Prior(NamedTuple):
    """What the mixture prior has learned from all edges."""

    strength: Tensor  # () mu, mean absolute weight of a present edge
    variance: Tensor  # () t^2, its variance
    category: Tensor  # (N, N, 3) pi_ij, shared by the states


class Sites(NamedTuple):
    """Gaussian stand-ins of the prior, one for every weight: exp(-precision w^2/2 + shift w)."""

    precision: Tensor  # (S, N, F)
    shift: Tensor  # (S, N, F)


class Edges(NamedTuple):
    """What is known of every weight and edge."""

    probability: Tensor  # (S, N, N, 3) posterior of the categories
    mean: Tensor  # (S, N, F) posterior mean weight
    sd: Tensor  # (S, N, F) posterior standard deviation
    bias: Tensor  # (S, N)
    prior: Prior


class Quadratic(NamedTuple):
    """The log-likelihood around a point, -theta' H theta / 2 + h' theta for theta = (w, b)."""

    information: Tensor  # (S, N, F+1, F+1)
    shift: Tensor  # (S, N, F+1)


def quadratic(batch: Batch, gamma: Tensor, parameters: Parameters, form: Form) -> Quadratic:
    """Expand the expected log-likelihood around one restart's parameters (Gauss-Newton).

    Time S * N * T_s * F^2 with T_s the bins of a state, memory S * N * F^2.
    """
    n_states, n_neurons, n_features = parameters.weight.shape[1:]
    size = n_features + 1
    dtype, device = torch.float64, batch.features.device
    information = torch.empty(n_states, n_neurons, size, size, dtype=dtype, device=device)
    pull = torch.empty(n_states, n_neurons, size, dtype=dtype, device=device)
    noise = parameters.noise_std[0].double()
    for s in range(n_states):
        keep = gamma[:, s] > NEGLIGIBLE
        design = torch.cat([batch.features[keep], batch.features.new_ones(int(keep.sum()), 1)], 1)
        design, share = design.double(), gamma[keep, s].double()
        w = parameters.weight[0, s : s + 1].double().requires_grad_()
        b = parameters.bias[0, s : s + 1].double().requires_grad_()
        log_likelihood = glm_ll(
            design[:, :-1], w, b, batch.counts[keep].double(), link=form.link, family=form.family,
            noise_std=noise if form.family == "gaussian" else None,
        )  # fmt: skip
        slope = torch.autograd.grad(log_likelihood[:, 0] @ share, (w, b))
        theta = torch.cat([w[0], b[0, :, None]], 1).detach()
        scale = share[:, None] * curvature(design @ theta.T, form, noise)
        for n in range(n_neurons):
            information[s, n] = (design * scale[:, n, None]).T @ design
        pull[s] = torch.cat([slope[0][0], slope[1][0, :, None]], 1)
    information, pull = reduce_sum(information), reduce_sum(pull)
    at = torch.cat([parameters.weight[0], parameters.bias[0, ..., None]], 2).double()
    return Quadratic(information, (information @ at[..., None])[..., 0] + pull)


def gaussian(
    likelihood: Quadratic, sites: Sites, share_bias: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean and variance of every weight, and the bias, under likelihood times sites.

    A shared bias joins the states of a neuron; its block is eliminated exactly (Schur complement).
    """
    block = likelihood.information[..., :-1, :-1].clone()
    block.diagonal(dim1=-2, dim2=-1).add_(sites.precision)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(block))
    shift = likelihood.shift[..., :-1] + sites.shift
    coupling = likelihood.information[..., :-1, -1]
    pulled = (inverse @ coupling[..., None])[..., 0]
    schur = likelihood.information[..., -1, -1] - (coupling * pulled).sum(-1)
    target = likelihood.shift[..., -1] - (pulled * shift).sum(-1)
    if share_bias:
        schur, target = schur.sum(0, keepdim=True), target.sum(0, keepdim=True)
    schur = schur.clamp_min(1e-9)
    bias = (target / schur).expand(shift.shape[:2])
    mean = (inverse @ shift[..., None])[..., 0] - pulled * bias[..., None]
    variance = inverse.diagonal(dim1=-2, dim2=-1) + pulled.square() / schur[..., None]
    return mean, variance, bias


def category_posterior(mean: Tensor, variance: Tensor, prior: Prior) -> tuple[Tensor, ...]:
    """Return category probabilities, and the weight's mean and second moment in each category.

    Parameters
    ----------
    mean, variance : (S, N, N)
        What everything but the prior says of each weight.
    prior : Prior
        The mixture.
    """
    centre = prior.strength * mean.new_tensor([-1.0, 0.0, 1.0])
    own = torch.stack([prior.variance, mean.new_tensor(NONE_SD**2), prior.variance])
    total = own + variance[..., None]
    logit = prior.category.clamp_min(1e-12).log() - 0.5 * (
        total.log() + (mean[..., None] - centre).square() / total
    )
    within = (mean[..., None] * own + centre * variance[..., None]) / total
    return torch.softmax(logit, -1), within, within.square() + own * variance[..., None] / total


def update_prior(probability: Tensor, within: Tensor, second: Tensor) -> Prior:
    """Return the mixture that maximises the expected log prior, shares shrunk to global ones."""
    present = probability[..., [0, 2]]
    signed = within[..., [0, 2]] * within.new_tensor([-1.0, 1.0])
    weight = present.sum().clamp_min(1e-12)
    strength = ((present * signed).sum() / weight).clamp_min(NONE_SD)
    square = second[..., [0, 2]] - 2 * strength * signed + strength.square()
    variance = ((present * square).sum() / weight).clamp_min(NONE_SD**2)
    share = probability.mean((0, 1, 2))
    n_states = probability.shape[0]
    category = (probability.sum(0) + PSEUDO_COUNT * share) / (n_states + PSEUDO_COUNT)
    return Prior(strength, variance, category)


def propagate(
    likelihood: Quadratic, sites: Sites, prior: Prior, share_bias: bool
) -> tuple[Edges, Sites]:
    """Run expectation propagation to rest, learning the prior on the way.

    Parameters
    ----------
    likelihood : Quadratic
        From `quadratic`.
    sites : Sites
        Where to start; sites of features past the neurons (covariates) stay as they are.
    prior : Prior
        Where to start.
    share_bias : bool
        One bias a neuron, or one a state and neuron.
    """
    n_neurons = likelihood.information.shape[1]
    precision, shift = sites.precision.clone(), sites.shift.clone()
    for _ in range(SWEEPS):
        mean, variance, bias = gaussian(likelihood, Sites(precision, shift), share_bias)
        site_p, site_s = precision[..., :n_neurons], shift[..., :n_neurons]
        marginal = variance[..., :n_neurons].reciprocal()
        cavity = marginal - site_p
        sound = cavity > 1e-9  # a cavity without precision says nothing: its site waits
        cavity = cavity.clamp_min(1e-9)
        cavity_mean = (marginal * mean[..., :n_neurons] - site_s) / cavity
        probability, within, second = category_posterior(cavity_mean, 1 / cavity, prior)
        tilted = (probability * within).sum(-1)
        spread = ((probability * second).sum(-1) - tilted.square()).clamp_min(1e-10)
        # a mixture may be wider than its cavity; a site of negative precision would not be stable
        new_p = (1 / spread - cavity).clamp_min(1e-3)
        new_s = tilted * (new_p + cavity) - cavity_mean * cavity
        new_p = torch.where(sound, DAMPING * site_p + (1 - DAMPING) * new_p, site_p)
        new_s = torch.where(sound, DAMPING * site_s + (1 - DAMPING) * new_s, site_s)
        change = float((new_s - site_s).abs().max() / (1 + site_s.abs().max()))
        precision[..., :n_neurons], shift[..., :n_neurons] = new_p, new_s
        prior = update_prior(probability, within, second)
        if change < 1e-5:
            break
    sites = Sites(precision, shift)
    mean, variance, bias = gaussian(likelihood, sites, share_bias)
    return Edges(probability, mean, variance.sqrt(), bias, prior), sites


def empirical_bayes(batch: Batch, parameters: Parameters, form: Form) -> tuple[Parameters, Edges]:
    """Refine a Gaussian-prior fit to a one-hot one.

    Parameters
    ----------
    batch : Batch
        All training sequences, or this process's share of them; the first N features are one per
        neuron (a single basis function).
    parameters : Parameters
        The Gaussian-prior fit, one restart.
    form : Form
        Its observation model; the Gaussian prior is replaced, the ridge stays on covariates.

    Returns
    -------
    parameters : Parameters
        Posterior-mean weights, biases and chain.
    edges : Edges
        Probabilities and standard deviations of the last round.
    """
    weight = parameters.weight[0].double()
    n_neurons = weight.shape[1]
    precision = torch.full_like(weight, 1 / form.ridge_sd**2)
    precision[..., :n_neurons] = 9.0
    sites = Sites(precision, precision * weight.mean(0, keepdim=True))
    sites.shift[..., n_neurons:] = 0.0
    category = weight.new_tensor([0.1, 0.8, 0.1]).expand(n_neurons, n_neurons, 3)
    prior = Prior(weight.new_tensor(0.8), weight.new_tensor(0.1), category)
    for _ in range(ROUNDS):
        posterior = e_step(batch, parameters, form)
        gamma = posterior.state_probability[:, 0].double() * batch.observed[:, None]
        edges, sites = propagate(
            quadratic(batch, gamma, parameters, form), sites, prior, form.share_bias
        )
        prior = edges.prior
        transition, initial = chain_update(posterior, parameters, form)
        like = parameters.weight
        parameters = Parameters(
            edges.mean[None].to(like), edges.bias[None].to(like), transition, initial,
            parameters.noise_std,
        )  # fmt: skip
    return parameters, edges
