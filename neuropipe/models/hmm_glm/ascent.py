"""The M-step's climb: preconditioned L-BFGS over weights and biases of all neurons at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from neuropipe_kernels import glm_ll
from torch import Tensor

from neuropipe.training.processes import reduce_sum

if TYPE_CHECKING:
    from neuropipe.models.hmm_glm.model import Batch, Form, Parameters

NEGLIGIBLE = 1e-9  # responsibility below which a bin does not enter a state's sum
MEMORY = 6  # curvature pairs that L-BFGS keeps
HALVINGS = 12  # of a step, before a restart is left where it stands
ARMIJO = 1e-4  # share of the promised rise that a step must deliver


class Share(NamedTuple):
    """What one state of one restart is fitted on: its bins and their responsibilities."""

    features: Tensor  # (t, F)
    counts: Tensor  # (t, N)
    gamma: Tensor  # (t,)


class Preconditioner(NamedTuple):
    """The Fisher information with one curvature a neuron and state, ready to be inverted."""

    rotation: Tensor  # (R, S, F, F) eigenvectors of X' diag(gamma) X
    scale: Tensor  # (R, S, N, F) inverse of curvature * eigenvalues + precision
    coupling: Tensor  # (R, S, N, F) curvature * X' gamma, rotated
    schur: Tensor  # (R, S or 1, N) what is left of the bias's information


def ascend(
    batch: Batch, gamma: Tensor, parameters: Parameters, form: Form, n_steps: int
) -> tuple[Tensor, Tensor]:
    """Climb the expected log-likelihood plus log prior of W and b.

    Parameters
    ----------
    batch : Batch
        Training data; of several processes each has sequences of its own.
    gamma : (T, R, S)
        Responsibilities, zero where nothing was observed.
    parameters : Parameters
        Where to start; the prior's mean W_0 stays at its mean over states.
    form : Form
        Observation model and prior.
    n_steps : int
        Quasi-Newton steps; each costs one evaluation unless a step must be shortened.

    Returns
    -------
    weight, bias
        Never worse than where they started, restart by restart.
    """
    weight, bias = parameters.weight, parameters.bias
    n_restarts, n_states = weight.shape[:2]
    shares = [[_share(batch, gamma[:, r, s]) for s in range(n_states)] for r in range(n_restarts)]
    centre = weight.mean(1, keepdim=True)
    inverse = _preconditioner(shares, parameters, form)
    value, gradient = _evaluate(shares, weight, bias, centre, parameters, form)
    pairs: list[tuple[Tensor, Tensor]] = []
    for _ in range(n_steps):
        direction = _two_loop(gradient, pairs, inverse, form)
        slope = (_flat(gradient, form) * _flat(direction, form)).sum((1, 2))  # (R,)
        step = torch.ones(n_restarts, dtype=weight.dtype, device=weight.device)
        accepted = torch.zeros_like(step, dtype=torch.bool)
        for _ in range(HALVINGS):
            trial_w = weight + step[:, None, None, None] * direction[0]
            trial_b = bias + step[:, None, None] * direction[1]
            new_value, new_gradient = _evaluate(shares, trial_w, trial_b, centre, parameters, form)
            accepted = new_value >= value + ARMIJO * step * slope
            if bool(accepted.all()):
                break
            step = torch.where(accepted, step, step / 2)
        step = torch.where(accepted, step, torch.zeros_like(step))
        if not bool(accepted.any()):
            break
        if not bool(accepted.all()):
            trial_w = weight + step[:, None, None, None] * direction[0]
            trial_b = bias + step[:, None, None] * direction[1]
            new_value, new_gradient = _evaluate(shares, trial_w, trial_b, centre, parameters, form)
        moved = (trial_w - weight, trial_b - bias)
        change = (gradient[0] - new_gradient[0], gradient[1] - new_gradient[1])
        pairs = [*pairs[1 - MEMORY :], (_flat(moved, form), _flat(change, form))]
        weight, bias, value, gradient = trial_w, trial_b, new_value, new_gradient
    return weight, bias


def _share(batch: Batch, gamma: Tensor) -> Share:
    """Keep the bins that matter to a state; most bins matter to one state only."""
    keep = gamma > NEGLIGIBLE
    if float(keep.float().mean()) > 0.7:  # gathering nearly everything costs more than it saves
        return Share(batch.features, batch.counts, gamma)
    return Share(batch.features[keep], batch.counts[keep], gamma[keep])


def _evaluate(
    shares: list[list[Share]],
    weight: Tensor,
    bias: Tensor,
    centre: Tensor,
    parameters: Parameters,
    form: Form,
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Return the objective (R,) and its gradient in W (R, S, N, F) and b (R, S, N)."""
    grad_w, grad_b = torch.empty_like(weight), torch.empty_like(bias)
    value = weight.new_zeros(weight.shape[0])
    for r, states in enumerate(shares):
        for s, share in enumerate(states):
            w = weight[r, s : s + 1].detach().requires_grad_()
            b = bias[r, s : s + 1].detach().requires_grad_()
            log_likelihood = glm_ll(
                share.features, w, b, share.counts, link=form.link, family=form.family,
                noise_std=parameters.noise_std[r] if form.family == "gaussian" else None,
            )  # fmt: skip
            total = log_likelihood[:, 0] @ share.gamma
            gw, gb = torch.autograd.grad(total, (w, b))
            value[r] += total.detach()
            grad_w[r, s], grad_b[r, s] = gw[0], gb[0]
    value, grad_w, grad_b = (reduce_sum(x) for x in (value, grad_w, grad_b))
    precision = 1 / form.ridge_sd**2
    value = value - 0.5 * precision * weight.square().sum((1, 2, 3))
    grad_w = grad_w - precision * weight
    if form.prior_sd is not None:
        offset = weight - centre
        value = value - 0.5 * offset.square().sum((1, 2, 3)) / form.prior_sd**2
        grad_w = grad_w - offset / form.prior_sd**2
    if form.share_bias:
        grad_b = grad_b.sum(1, keepdim=True).expand_as(bias)
    return value, (grad_w, grad_b)


def mean_curvature(mean: Tensor, form: Form, noise_std: Tensor) -> Tensor:
    """Return the Fisher information of one bin at a mean count (R, S, N)."""
    if form.family == "gaussian":
        return noise_std.square().reciprocal()[:, None].expand_as(mean)
    p = mean.clamp(0.02, 0.9)
    if form.family == "bernoulli":
        return p * (1 - p)
    if form.link == "exp":
        return mean.clamp_min(1e-3)
    if form.link == "softplus":
        rate = mean.clamp_min(1e-3)
        return (1 - torch.exp(-rate)).square() / rate
    return p * (1 - p).square()


def _preconditioner(
    shares: list[list[Share]], parameters: Parameters, form: Form
) -> Preconditioner:
    weight = parameters.weight
    n_features = weight.shape[3]
    precision = 1 / form.ridge_sd**2 + (0.0 if form.prior_sd is None else 1 / form.prior_sd**2)
    gram = weight.new_empty(*weight.shape[:2], n_features, n_features)
    first = weight.new_empty(*weight.shape[:2], n_features)
    total = weight.new_empty(*weight.shape[:2], 1)
    mean = torch.empty_like(parameters.bias)
    for r, states in enumerate(shares):
        for s, share in enumerate(states):
            weighted = share.features * share.gamma[:, None]
            gram[r, s] = weighted.T @ share.features
            first[r, s] = weighted.sum(0)
            total[r, s] = share.gamma.sum()
            mean[r, s] = share.gamma @ share.counts
    gram, first, total, mean = (reduce_sum(x) for x in (gram, first, total, mean))
    mean = mean / total.clamp_min(1e-12)
    values, rotation = torch.linalg.eigh(gram)
    level = mean_curvature(mean, form, parameters.noise_std)  # (R, S, N)
    scale = (level[..., None] * values.clamp_min(0)[:, :, None] + precision).reciprocal()
    coupling = level[..., None] * (first[:, :, None] @ rotation)
    schur = level * total - (coupling.square() * scale).sum(3)
    if form.share_bias:
        schur = schur.sum(1, keepdim=True)
    return Preconditioner(rotation, scale, coupling, schur.clamp_min(1e-6))


def _solve(
    gradient: tuple[Tensor, Tensor], inverse: Preconditioner, form: Form
) -> tuple[Tensor, Tensor]:
    """Apply the inverse information: blocks of weights, joined by the biases (Schur)."""
    grad_w, grad_b = gradient
    solved = (grad_w @ inverse.rotation) * inverse.scale
    pulled = (inverse.coupling * solved).sum(3)  # (R, S, N)
    if form.share_bias:
        pulled, grad_b = pulled.sum(1, keepdim=True), grad_b[:, :1]
    step_b = ((grad_b - pulled) / inverse.schur).expand(-1, grad_w.shape[1], -1)
    solved = solved - inverse.scale * inverse.coupling * step_b[..., None]
    return solved @ inverse.rotation.transpose(2, 3), step_b


def _flat(pair: tuple[Tensor, Tensor], form: Form) -> Tensor:
    """Lay (R, S, N, F) and (R, S, N) out as (R, N, everything), a shared bias once."""
    bias = pair[1][:, :1] if form.share_bias else pair[1]
    return torch.cat([pair[0].transpose(1, 2).flatten(2), bias.transpose(1, 2)], 2)


def _unflat(flat: Tensor, like: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    _, n_states, _, n_features = like[0].shape
    weight = flat[:, :, : n_states * n_features]
    bias = flat[:, :, n_states * n_features :].transpose(1, 2).expand(-1, n_states, -1)
    return weight.unflatten(2, (n_states, n_features)).transpose(1, 2), bias


def _two_loop(
    gradient: tuple[Tensor, Tensor],
    pairs: list[tuple[Tensor, Tensor]],
    inverse: Preconditioner,
    form: Form,
) -> tuple[Tensor, Tensor]:
    """Return the ascent direction; each neuron of each restart has curvature pairs of its own."""
    q = _flat(gradient, form)
    kept = []
    for moved, change in reversed(pairs):
        curvature = (moved * change).sum(2, keepdim=True)
        good = curvature > 1e-10 * moved.square().sum(2, keepdim=True)
        rho = torch.where(good, curvature, torch.ones_like(curvature)).reciprocal() * good
        alpha = rho * (moved * q).sum(2, keepdim=True)
        q = q - alpha * change
        kept.append((moved, change, rho, alpha))
    r = _flat(_solve(_unflat(q, gradient), inverse, form), form)
    for moved, change, rho, alpha in reversed(kept):
        r = r + moved * (alpha - rho * (change * r).sum(2, keepdim=True))
    return _unflat(r, gradient)
