"""The published HMM-GLM: the authors' objectives and schedules, for comparison with the default.

``faithful_2024`` is the ICLR paper (models HG, GHG and OHG by ``prior`` none, gaussian, one_hot):
one sequence at a time, an E-step, then Adam steps on that sequence alone, its transition matrix
replacing the one before. ``faithful_2025`` is the authors' rewrite 0.1.0: all sequences in turn,
one AdamW step each, responsibilities renewed every fourth epoch.

The equations, sizes and schedules are theirs; coding faults are not repeated. The Concrete density
gets log-probabilities (the 2024 code hands it probabilities, so a category prior weighs a quarter),
the entropy has the sign of an evidence bound, the prior counts once a pass over the data instead of
once a sequence, and the E-step sees the mean weights instead of a noisy draw. Published numbers
were made with those faults and are not matched to the digit.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from neuropipe.errors import ConfigError
from neuropipe.models.hmm_glm.config import Config
from neuropipe.models.hmm_glm.model import Batch, Fit, Parameters, e_step
from neuropipe.models.hmm_glm.onehot import Edges, Prior
from neuropipe.models.hmm_glm.search import Outcome, form_of, take
from neuropipe.training.checkpoint import Checkpoint

log = logging.getLogger(__name__)
FLOOR = 1e-8  # added to a rate before its logarithm, and the sigmoid's lower end
LEAST_TRANSITION = math.exp(-8)
DEEP = -20.0  # log-probability of a category at which logits are pulled back


@dataclass(frozen=True)
class Schedule:
    """How a published version is trained."""

    epochs: int
    steps: int  # gradient steps on a sequence before the next one
    e_step_every: int  # epochs between E-steps
    learning_rate: float
    temperature: float  # of the Gumbel-softmax draw and the Concrete prior
    decay: float  # weight decay of AdamW; 0: Adam


SCHEDULES = {
    "faithful_2024": Schedule(10, 50, 1, 0.01, 0.2, 0.0),
    "faithful_2025": Schedule(100, 1, 4, 0.01, 0.5, 0.01),
}


def log_concrete(log_a: Tensor, log_pi: Tensor, temperature: float) -> Tensor:
    """Return the log density of a Concrete variable (Maddison et al. 2017, eq. 10).

    Parameters
    ----------
    log_a, log_pi : (..., category)
        Logarithms of the variable and of its location, each normalised.
    temperature : float
        Of the density.
    """
    n = log_a.shape[-1]
    return (
        math.lgamma(n)
        + (n - 1) * math.log(temperature)
        - n * torch.logsumexp(log_pi - temperature * log_a, -1)
        + (log_pi - (temperature + 1) * log_a).sum(-1)
    )


def rate(eta: Tensor, link: str) -> Tensor:
    """Return the mean count a bin; the sigmoid spans [1e-8, 1]."""
    if link == "sigmoid":
        return FLOOR + (1 - FLOOR) * torch.sigmoid(eta)
    return F.softplus(eta) if link == "softplus" else eta.exp()


def expected_log_likelihood(
    batch: Batch, gamma: Tensor, weight: Tensor, bias: Tensor, link: str
) -> Tensor:
    """Return sum_t sum_s gamma_ts log p(x_t | z_t = s), with log(f + 1e-8) as published.

    Shapes: gamma (T, S), weight (S, N, N), bias (S, N).
    """
    f = rate(torch.einsum("tf,snf->tsn", batch.features, weight) + bias, link)
    counts = batch.counts[:, None]
    log_p = (counts * (f + FLOOR).log() - f - torch.lgamma(counts + 1)).sum(2)
    return (gamma * log_p).sum()


class Published(torch.nn.Module):
    """Parameters of one published model.

    Parameters
    ----------
    config : Config
        Prior, link and bias sharing.
    n_states, n_neurons : int
        Sizes.
    mean : (N,)
        Mean counts, where the biases start (used as a predictor, as published).
    temperature : float
        Of draws and prior.
    """

    def __init__(
        self, config: Config, n_states: int, n_neurons: int, mean: Tensor, temperature: float
    ) -> None:
        super().__init__()
        self.config, self.temperature = config, temperature
        shape = (n_states, n_neurons, n_neurons)
        rows = 1 if config.share_bias else n_states
        self.bias = torch.nn.Parameter(mean.repeat(rows, 1))
        self.raw = torch.nn.Parameter(mean.new_zeros(shape))
        if config.prior == "one_hot":
            self.logits = torch.nn.Parameter(mean.new_zeros(*shape, 3))
            self.prior_logits = torch.nn.Parameter(mean.new_zeros(n_neurons, n_neurons, 3))

    def signed(self, category: Tensor) -> Tensor:
        """Return W = softplus(raw) * (excitatory - inhibitory)."""
        return F.softplus(self.raw) * (category[..., 2] - category[..., 0])

    def weight(self, how: str, generator: torch.Generator | None = None) -> Tensor:
        """Return the weights for a ``draw``, the ``mean`` or the ``hard`` categories."""
        if self.config.prior != "one_hot":
            return self.raw
        if how == "hard":
            return self.signed(F.one_hot(self.logits.argmax(-1), 3).to(self.raw))
        if how == "mean":
            return self.signed(self.logits.softmax(-1))
        uniform = torch.rand(self.logits.shape, generator=generator, dtype=self.raw.dtype)
        gumbel = -(-uniform.clamp(1e-12, 1 - 1e-12).log()).log()
        return self.signed(((self.logits + gumbel) / self.temperature).softmax(-1))

    def log_prior(self) -> Tensor:
        """Return the log prior of the weights: none, N(W_0, sd^2), Concrete, or categorical."""
        if self.config.prior == "none":
            return self.raw.new_zeros(())
        if self.config.prior == "gaussian":
            centre = self.raw.detach().mean(0)
            return -0.5 * ((self.raw - centre) / self.config.prior_sd).square().sum()
        log_a, log_pi = self.logits.log_softmax(-1), self.prior_logits.log_softmax(-1)
        if self.config.preset == "faithful_2024":
            return log_concrete(log_a, log_pi, self.temperature).sum()
        return (log_a.exp() * (log_pi - log_a)).sum()  # minus the divergence from the prior

    def tame(self) -> None:
        """Pull logits back that have run off (2024: halve, 2025: clamp to [-20, 0])."""
        if self.config.prior != "one_hot":
            return
        with torch.no_grad():
            if self.config.preset == "faithful_2024":
                far = (self.logits.log_softmax(-1) < DEEP).any(-1, keepdim=True)
                self.logits.mul_(torch.where(far, 0.5, 1.0))
            else:
                self.logits.copy_(self.logits.log_softmax(-1).clamp(DEEP, 0.0))


def objective(
    model: Published, batch: Batch, gamma: Tensor, weight: Tensor, share: float
) -> Tensor:
    """Return what one gradient step lowers, on one sequence.

    Parameters
    ----------
    model : Published
        Parameters.
    batch : Batch
        One sequence.
    gamma : (T, S)
        Its responsibilities.
    weight : (S, N, N)
        A draw of the weights.
    share : float
        Part of the prior that belongs to this sequence.
    """
    bias = model.bias.expand(weight.shape[0], -1)
    fit = expected_log_likelihood(batch, gamma, weight, bias, model.config.link)
    return -(fit + share * model.log_prior())


def fit_faithful(
    batch: Batch, n_states: int, config: Config, *, seed: int, checkpoint: Checkpoint
) -> Outcome:
    """Fit as published; see the module's head for what differs.

    Parameters
    ----------
    batch : Batch
        Training sequences; features are one per neuron.
    n_states : int
        Hidden states.
    config : Config
        With a faithful preset.
    seed : int
        Of initial responsibilities and Gumbel draws.
    checkpoint : Checkpoint
        Not used within an epoch; a finished epoch is kept.

    Notes
    -----
    The authors break the symmetry of the states by nothing but the noise of their draws; HG and GHG
    start from weights of exactly zero. Here the weights get noise of sd 0.01.
    """
    if batch.features.shape[1] != batch.counts.shape[1] or config.family != "poisson":
        raise ConfigError(
            f"hmm_glm: preset {config.preset} knows Poisson counts and one history function, no "
            "covariates; found "
            f"family {config.family}, {batch.features.shape[1]} features, "
            f"{batch.counts.shape[1]} units"
        )
    schedule = SCHEDULES[config.preset]
    rng = torch.Generator().manual_seed(seed)
    sequences = [take(batch, [i]) for i in range(len(batch.lengths))]
    model = Published(
        config, n_states, batch.counts.shape[1], batch.counts.mean(0), schedule.temperature
    )
    with torch.no_grad():
        model.raw.add_(0.01 * torch.randn(model.raw.shape, generator=rng, dtype=model.raw.dtype))
    rate_ = config.learning_rate or schedule.learning_rate
    optimizer = (
        torch.optim.AdamW(model.parameters(), lr=rate_, weight_decay=schedule.decay)
        if schedule.decay
        else torch.optim.Adam(model.parameters(), lr=rate_)
    )
    transition = batch.features.new_full((n_states, n_states), 0.02 / max(n_states - 1, 1))
    transition.fill_diagonal_(0.98 if n_states > 1 else 1.0)
    initial = batch.features.new_full((n_states,), 1 / n_states)
    form = form_of(config, "none")
    trace, seconds, began = [], [], time.perf_counter()
    gammas: list[Tensor] = []
    epochs = config.n_epochs or schedule.epochs
    for epoch in range(epochs):
        renew = epoch % schedule.e_step_every == 0
        counted = torch.zeros_like(transition)
        for i, sequence in enumerate(sequences):
            if renew:
                now = _parameters(model, model.weight("mean"), transition, initial)
                posterior = e_step(sequence, now, form)
                gamma = posterior.state_probability[:, 0]
                gammas[i:] = [gamma, *gammas[i + 1 :]]
                own = posterior.transition_count[0].to(transition)
                counted = own if config.preset == "faithful_2024" else counted + own
                if config.preset == "faithful_2024":
                    transition = _normalised(counted)
            for _ in range(schedule.steps):
                optimizer.zero_grad()
                loss = objective(
                    model, sequence, gammas[i], model.weight("draw", rng), 1 / len(sequences)
                )
                loss.backward()
                optimizer.step()
                model.tame()
        if renew and config.preset == "faithful_2025":
            transition = _normalised(counted)
        now = _parameters(model, model.weight("hard"), transition, initial)
        trace.append(e_step(batch, now, form).log_evidence.cpu())
        seconds.append(time.perf_counter() - began)
        log.info("%s: epoch %d, log evidence %.2f nats", config.preset, epoch, float(trace[-1]))
    parameters = _parameters(model, model.weight("hard"), transition, initial)
    fit = Fit(parameters, torch.stack(trace), torch.ones(1, dtype=torch.bool))
    return Outcome(parameters, fit, _edges(model), seconds)


def _normalised(counts: Tensor) -> Tensor:
    share = (counts / counts.sum(1, keepdim=True).clamp_min(1e-12)).clamp_min(LEAST_TRANSITION)
    return share / share.sum(1, keepdim=True)


def _parameters(
    model: Published, weight: Tensor, transition: Tensor, initial: Tensor
) -> Parameters:
    weight = weight.detach()
    bias = model.bias.detach().expand(weight.shape[0], -1)
    ones = weight.new_ones(1, weight.shape[1])
    return Parameters(weight[None], bias[None], transition[None], initial[None], ones)


def _edges(model: Published) -> Edges | None:
    if model.config.prior != "one_hot":
        return None
    probability = model.logits.detach().softmax(-1)
    weight = model.weight("hard").detach()
    strength = F.softplus(model.raw.detach())
    category = model.prior_logits.detach().softmax(-1)
    unknown = torch.full_like(weight, float("nan"))
    bias = model.bias.detach().expand(weight.shape[0], -1)
    prior = Prior(strength.mean(), strength.var(), category)
    return Edges(probability, weight, unknown, bias, prior)
