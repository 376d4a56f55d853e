"""Log likelihood of a population under every state's GLM, in plain torch; the CPU path."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

# Elements of one block of the linear predictor; bounds the memory of a call.
BLOCK = 2**24
# Below this softplus(x) = exp(x) (1 - exp(x) / 2) to float64 rounding of its logarithm.
DEEP = -20.0


def log_softplus(x: torch.Tensor) -> torch.Tensor:
    """Logarithm of softplus, finite and with a finite slope however negative ``x`` is."""
    # The guard keeps log and its slope finite in the branch that is not taken.
    near = F.softplus(x.clamp(min=DEEP)).log()
    return torch.where(x < DEEP, x - 0.5 * x.clamp(max=DEEP).exp(), near)


def log_density(
    eta: torch.Tensor,
    counts: torch.Tensor,
    link: str,
    family: str,
    noise_std: torch.Tensor | None,
) -> torch.Tensor:
    """Log density of each neuron in each bin.

    Parameters
    ----------
    eta : (time, state, neuron)
        Linear predictor.
    counts : (time, 1, neuron)
    link, family : str
    noise_std : (neuron,) or () or None

    Returns
    -------
    (time, state, neuron), nats
    """
    if family == "gaussian":
        z = (counts - eta) / noise_std
        return -0.5 * z * z - noise_std.log() - 0.5 * math.log(2 * math.pi)
    if family == "bernoulli":
        return counts * eta - F.softplus(eta)
    if link == "softplus":
        log_rate, rate = log_softplus(eta), F.softplus(eta)
    elif link == "exp":
        log_rate, rate = eta, eta.exp()
    else:
        log_rate, rate = F.logsigmoid(eta), torch.sigmoid(eta)
    return counts * log_rate - rate - torch.lgamma(counts + 1)


def log_likelihood(
    features: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    counts: torch.Tensor,
    link: str,
    family: str,
    mask: torch.Tensor | None,
    noise_std: torch.Tensor | None,
) -> torch.Tensor:
    """Sum the log density over neurons, block of time by block; (time, state), nats.

    Shapes as in the public call. Autograd keeps the blocks' intermediates only when a
    gradient is asked for; then memory is a few times time x state x neuron.
    """
    n_states, n_neurons, n_features = weight.shape
    n_bins = features.shape[0]
    flat = weight.reshape(-1, n_features).T
    block = max(1, BLOCK // (n_states * n_neurons))
    rows = []
    for start in range(0, n_bins, block):
        part = slice(start, start + block)
        eta = (features[part] @ flat).unflatten(1, (n_states, n_neurons)) + bias
        y = counts[part, None]
        if mask is not None:
            # A missing count may hold anything; 0 keeps the branch not taken finite.
            y = torch.where(mask[part, None], y, torch.zeros_like(y))
        ll = log_density(eta, y, link, family, noise_std)
        if mask is not None:
            ll = torch.where(mask[part, None], ll, torch.zeros_like(ll))
        rows.append(ll.sum(-1))
    return torch.cat(rows)
