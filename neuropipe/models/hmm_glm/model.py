"""HMM-GLM: the likelihood, the batch EM over all sequences and restarts, and Fisher errors.

Legend (paper letters): S states, N neurons, F features (history and covariates), T bins of all
sequences laid end to end, R restarts; W weight (R, S, N, F), b bias (R, S, N), pi transition
(R, S, S), gamma state probability (T, R * S), f rate, eta predictor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from neuropipe_kernels import glm_ll, hmm_fb
from torch import Tensor

from neuropipe.models.hmm_glm.ascent import ascend
from neuropipe.training.processes import reduce_sum

NEGLIGIBLE = 1e-9  # responsibility below which a bin does not enter a state's M-step


class Batch(NamedTuple):
    """Training data as tensors: sequences end to end, and where each one ends."""

    features: Tensor  # (T, F)
    counts: Tensor  # (T, N)
    observed: Tensor  # (T,) bool; an unobserved bin carries no evidence
    lengths: Tensor  # (sequence,) int64, sums to T


class Parameters(NamedTuple):
    """Everything that EM learns, a leading axis of restarts on each."""

    weight: Tensor  # (R, S, N, F)
    bias: Tensor  # (R, S, N)
    transition: Tensor  # (R, S, S)
    initial: Tensor  # (R, S)
    noise_std: Tensor  # (R, N); ones unless the family is gaussian

    def pick(self, restart: int) -> Parameters:
        """Keep one restart, its leading axis of length one included."""
        return Parameters(*(p[restart : restart + 1].clone() for p in self))


@dataclass(frozen=True)
class Form:
    """The observation model and the prior: all that is not a parameter."""

    family: str = "poisson"
    link: str = "sigmoid"
    share_bias: bool = True
    prior_sd: float | None = None  # of W_s around their mean over states; None: flat
    ridge_sd: float = 5.0  # of every weight around zero: keeps separable neurons finite
    pseudo_count: float = 1.0  # added to every expected transition and first state


class Posterior(NamedTuple):
    """What the E-step knows of the hidden path."""

    log_evidence: Tensor  # (R,) float64
    state_probability: Tensor  # (T, R, S)
    transition_count: Tensor  # (R, S, S) float64
    first_state: Tensor  # (R, S) float64: summed over sequences


class Fit(NamedTuple):
    """Outcome of `expectation_maximization`."""

    parameters: Parameters
    objective: Tensor  # (iteration, R) nats: log evidence plus log prior
    converged: Tensor  # (R,) bool


def emission(batch: Batch, parameters: Parameters, form: Form) -> Tensor:
    """Return log p(x_t | z_t), (T, R * S), zero in bins that were not observed (eq. 2)."""
    columns = []
    # the noise of a Gaussian family differs between restarts, so only then one call a restart
    groups = range(len(parameters.weight)) if form.family == "gaussian" else [slice(None)]
    for r in groups:
        columns.append(
            glm_ll(
                batch.features,
                parameters.weight[r].flatten(0, -3),
                parameters.bias[r].flatten(0, -2),
                batch.counts,
                link=form.link,
                family=form.family,
                noise_std=parameters.noise_std[r] if form.family == "gaussian" else None,
            )
        )
    log_likelihood = torch.cat(columns, dim=1)
    return log_likelihood.masked_fill(~batch.observed[:, None], 0.0)


def pad(rows: Tensor, lengths: Tensor) -> Tensor:
    """Lay rows (T, ...) out as (sequence, longest, ...), zero past each sequence's end."""
    inside = torch.arange(int(lengths.max()), device=rows.device) < lengths[:, None]
    out = rows.new_zeros(*inside.shape, *rows.shape[1:])
    out[inside] = rows
    return out


def unpad(padded: Tensor, lengths: Tensor) -> Tensor:
    """Undo `pad`."""
    inside = torch.arange(padded.shape[1], device=padded.device) < lengths[:, None]
    return padded[inside]


def e_step(batch: Batch, parameters: Parameters, form: Form) -> Posterior:
    """Forward-backward over every sequence and restart at once.

    Returns
    -------
    Posterior
        Responsibilities and expected counts under `parameters`; counts and evidence are those of
        all processes that share the sequences.
    """
    n_restarts, n_states = parameters.initial.shape
    n_sequences = len(batch.lengths)
    log_likelihood = pad(emission(batch, parameters, form), batch.lengths)
    log_likelihood = log_likelihood.unflatten(2, (n_restarts, n_states))
    out = hmm_fb(
        log_likelihood.transpose(1, 2).transpose(0, 1).flatten(0, 1).contiguous(),
        parameters.transition.repeat_interleave(n_sequences, 0),
        parameters.initial.repeat_interleave(n_sequences, 0),
        batch.lengths.repeat(n_restarts),
    )
    probability = out.state_probability.unflatten(0, (n_restarts, n_sequences))
    return Posterior(
        reduce_sum(out.log_evidence.view(n_restarts, n_sequences).sum(1)),
        unpad(probability.permute(1, 2, 0, 3), batch.lengths),
        reduce_sum(out.transition_count.view(n_restarts, n_sequences, n_states, n_states).sum(1)),
        reduce_sum(probability[:, :, 0].double().sum(1)),
    )


def log_prior(parameters: Parameters, form: Form) -> Tensor:
    """Return the log prior per restart, up to a constant: W_s ~ N(W_0, sd^2), Dirichlet chain."""
    weight = parameters.weight
    value = -0.5 * (weight / form.ridge_sd).square().sum((1, 2, 3))
    if form.prior_sd is not None:
        # W_0, the mean over states, is the value that maximises the prior
        offset = weight - weight.mean(1, keepdim=True)
        value = value - 0.5 * (offset / form.prior_sd).square().sum((1, 2, 3))
    chain = parameters.transition.double().log().sum(
        (1, 2)
    ) + parameters.initial.double().log().sum(1)
    return value.double() + form.pseudo_count * chain


def m_step(
    batch: Batch, parameters: Parameters, posterior: Posterior, form: Form, n_steps: int
) -> Parameters:
    """Raise the expected complete-data log-likelihood; never lowers it (generalised EM).

    The chain's parts are closed form. W and b climb by `ascent.ascend`, a quasi-Newton method
    over all neurons at once.
    """
    gamma = posterior.state_probability.to(parameters.weight.dtype)
    gamma = gamma * batch.observed[:, None, None]
    weight, bias = ascend(batch, gamma, parameters, form, n_steps)
    transition, initial = chain_update(posterior, parameters, form)
    noise_std = parameters.noise_std
    if form.family == "gaussian":
        noise_std = residual_std(batch, gamma, weight, bias)
    return Parameters(weight, bias, transition, initial, noise_std)


def chain_update(posterior: Posterior, parameters: Parameters, form: Form) -> tuple[Tensor, Tensor]:
    """Return the maximising transition matrix and initial distribution (closed form).

    One pseudo-count an entry keeps a transition that the training data lack possible: without it a
    single such transition in held-out data would cost tens of nats.
    """
    dtype = parameters.transition.dtype
    transition = posterior.transition_count + form.pseudo_count
    initial = posterior.first_state + form.pseudo_count
    return (
        (transition / transition.sum(2, keepdim=True)).to(dtype),
        (initial / initial.sum(1, keepdim=True)).to(dtype),
    )


def residual_std(batch: Batch, gamma: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return the Gaussian family's noise per restart and neuron, (R, N)."""
    total = reduce_sum(gamma.sum((0, 2)))  # (R,)
    out = []
    for r in range(weight.shape[0]):
        square = torch.zeros_like(batch.counts[0])
        for s in range(weight.shape[1]):
            error = batch.counts - batch.features @ weight[r, s].T - bias[r, s]
            square = square + gamma[:, r, s] @ error.square()
        out.append((reduce_sum(square) / total[r]).clamp_min(1e-12).sqrt())
    return torch.stack(out)


def expectation_maximization(
    batch: Batch,
    parameters: Parameters,
    form: Form,
    *,
    max_iterations: int,
    tolerance: float,
    n_steps: int = 3,
    trace: list[Tensor] | None = None,
    report: Callable[[int, Parameters, list[Tensor], Tensor], None] | None = None,
) -> Fit:
    """Fit by EM on all sequences together, every restart in the same tensors.

    Parameters
    ----------
    batch : Batch
        All training sequences, or this process's share of them.
    parameters : Parameters
        Where to start.
    form : Form
        Observation model and prior.
    max_iterations : int
        At most so many E-steps.
    tolerance : float
        Converged when the objective rises by less than this, in nats per observed bin.
    n_steps : int
        Quasi-Newton steps in an M-step.
    trace : list of (R,), optional
        Objectives of the iterations already done, when resumed from a checkpoint.
    report : callable, optional
        Called after each E-step with (iteration, parameters, objectives before, objective (R,)).

    Notes
    -----
    Time an iteration grows as T * S * N * F * R, memory as T * (F + N + R * S). The authors fit
    one sequence at a time and forget it; batch EM of the same model is the departure that closes
    most of their gap to the true parameters.
    """
    n_bins = max(int(reduce_sum(batch.observed.sum())), 1)
    trace = list(trace or [])
    converged = torch.zeros(parameters.weight.shape[0], dtype=torch.bool)
    while len(trace) < max_iterations:
        posterior = e_step(batch, parameters, form)
        objective = (posterior.log_evidence + log_prior(parameters, form)).cpu()
        if report:
            report(len(trace), parameters, trace, objective)
        trace.append(objective)
        if len(trace) > 1:
            converged = (trace[-1] - trace[-2]) < tolerance * n_bins
            if bool(converged.all()):
                break
        if len(trace) < max_iterations:
            parameters = m_step(batch, parameters, posterior, form, n_steps)
    return Fit(parameters, torch.stack(trace), converged)


def curvature(eta: Tensor, form: Form, noise_std: Tensor | None = None) -> Tensor:
    """Return the Fisher information of one observation about its predictor eta."""
    if form.family == "bernoulli":
        p = torch.sigmoid(eta)
        return p * (1 - p)
    if form.family == "gaussian":
        scale = torch.ones_like(eta) if noise_std is None else noise_std.expand_as(eta)
        return scale.square().reciprocal()
    if form.link == "exp":
        return eta.exp()
    if form.link == "softplus":
        return torch.sigmoid(eta).square() / torch.nn.functional.softplus(eta).clamp_min(1e-300)
    f = torch.sigmoid(eta)
    return f * (1 - f).square()


def fisher_errors(
    batch: Batch, parameters: Parameters, gamma: Tensor, form: Form, precision: float
) -> tuple[Tensor, Tensor]:
    """Return standard errors of W and b from the Fisher information, states held known.

    Parameters
    ----------
    batch : Batch
        Training data.
    parameters : Parameters
        One restart.
    gamma : (T, S)
        Responsibilities.
    form : Form
        Observation model.
    precision : float
        Of the prior on each weight, added to the information.

    Returns
    -------
    weight_se : (S, N, F)
        Standard errors of the weights.
    bias_se : (S, N)
        Standard errors of the biases; with a shared bias, of each state alone (conservative).

    Notes
    -----
    X' diag(gamma * information) X is inverted for each state and neuron: time S * N * (T * F^2 +
    F^3), memory one such matrix. Uncertainty of the states is not part of it, so intervals are
    too narrow where states are ambiguous.
    """
    n_states, n_neurons, n_features = parameters.weight.shape[1:]
    weight_se = torch.empty(n_states, n_neurons, n_features, dtype=torch.float64)
    bias_se = torch.empty(n_states, n_neurons, dtype=torch.float64)
    ridge = torch.full((n_features + 1,), precision, dtype=torch.float64)
    ridge[-1] = 1e-6
    for s in range(n_states):
        keep = gamma[:, s] > NEGLIGIBLE
        design = torch.cat([batch.features[keep], batch.features.new_ones(int(keep.sum()), 1)], 1)
        design, share = design.double(), gamma[keep, s].double()
        for n in range(n_neurons):
            full = torch.cat([parameters.weight[0, s, n], parameters.bias[0, s, n : n + 1]])
            eta = design @ full.double()
            scale = share * curvature(eta, form, parameters.noise_std[0, n].double())
            information = (design * scale[:, None]).T @ design
            information.diagonal().add_(ridge.to(information.device))
            inverse = torch.cholesky_inverse(torch.linalg.cholesky(information))
            error = inverse.diagonal().sqrt().cpu()
            weight_se[s, n], bias_se[s, n] = error[:-1], error[-1]
    return weight_se, bias_se
