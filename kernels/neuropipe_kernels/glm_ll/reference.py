"""Log likelihood of a population under every state's GLM, in plain torch; the CPU path."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

# Elements of one block of the linear predictor: small enough for the cache, so that its ten or so
# element-wise passes never wait for memory (five times quicker than one large block).
BLOCK = 2**16
# The same on a GPU, where a block should fill the device.
DEVICE_BLOCK = 2**26
# Below this softplus(x) = exp(x) (1 - exp(x) / 2) to float64 rounding of its logarithm.
DEEP = -20.0
# Whole counts below this have their log factorial looked up: ten times quicker than lgamma.
TABLE = 512


def log_factorial(counts: torch.Tensor) -> torch.Tensor:
    """Sum log(counts!) over neurons; (time, neuron) in, (time,) out."""
    # On a GPU lgamma is quick, and looking at the counts would stall the stream.
    whole = (
        not counts.is_cuda
        and counts.numel() > 0
        and bool(((counts >= 0) & (counts < TABLE) & (counts == counts.floor())).all())
    )
    if not whole:
        return torch.lgamma(counts + 1).sum(-1)
    table = torch.lgamma(torch.arange(1, TABLE + 1, dtype=counts.dtype, device=counts.device))
    return table[counts.long()].sum(-1)


def density(
    eta: torch.Tensor,
    counts: torch.Tensor,
    link: str,
    family: str,
    noise_std: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log density without the log factorial, and its slope by the predictor.

    Parameters
    ----------
    eta : (time, state, neuron)
        Linear predictor.
    counts : (time, 1, neuron)
    link, family : str
    noise_std : (neuron,) or () or None

    Returns
    -------
    value, slope : (time, state, neuron), nats
    """
    if family == "gaussian":
        z = (counts - eta) / noise_std
        return -0.5 * z * z - noise_std.log() - 0.5 * math.log(2 * math.pi), z / noise_std
    if family == "bernoulli":
        return counts * eta - F.softplus(eta), counts - torch.sigmoid(eta)
    if link == "exp":
        rate = eta.exp()
        return counts * eta - rate, counts - rate
    if link == "softplus":
        rate = F.softplus(eta)
        share = -torch.expm1(-rate)  # sigmoid(eta)
        # Deep below zero the rate underflows, its logarithm does not.
        deep = eta < DEEP
        log_rate = torch.where(deep, eta - 0.5 * rate, rate.clamp_min(1e-30).log())
        ratio = torch.where(deep, 1 - 0.5 * rate, share / rate.clamp_min(1e-30))
        return counts * log_rate - rate, counts * ratio - share
    log_rate = F.logsigmoid(eta)
    rate = log_rate.exp()
    return counts * log_rate - rate, (counts - rate) * -torch.expm1(log_rate)


class _Summed(torch.autograd.Function):
    """Sum over neurons; the slope is kept from the forward pass, so backward is two products."""

    @staticmethod
    def forward(ctx, features, weight, bias, counts, link, family, mask, noise_std):
        n_states, n_neurons, n_features = weight.shape
        flat = weight.reshape(n_states * n_neurons, n_features).T  # of no feature too
        keep_slope = any(ctx.needs_input_grad)
        n_bins = features.shape[0]
        out = features.new_empty(n_bins, n_states)
        kept = features.new_empty(n_bins, n_states, n_neurons) if keep_slope else None
        elements = DEVICE_BLOCK if features.is_cuda else BLOCK
        block = max(1, elements // (n_states * n_neurons))
        for start in range(0, n_bins, block):
            part = slice(start, start + block)
            eta = (features[part] @ flat).unflatten(1, (n_states, n_neurons)) + bias
            y = counts[part]
            if mask is not None:
                # A missing count may hold anything; 0 keeps what is masked finite.
                y = y.masked_fill(~mask[part], 0.0)
            value, slope = density(eta, y[:, None], link, family, noise_std)
            if mask is not None:
                hidden = ~mask[part, None]
                value, slope = value.masked_fill(hidden, 0.0), slope.masked_fill(hidden, 0.0)
            torch.sum(value, -1, out=out[part])
            if family == "poisson":
                out[part] -= log_factorial(y)[:, None]
            if kept is not None:
                kept[part] = slope
        if kept is not None:
            ctx.save_for_backward(features, weight, kept)
        return out

    @staticmethod
    def backward(ctx, grad):
        features, weight, slope = ctx.saved_tensors
        slope = slope * grad[..., None]
        by_features = by_weight = by_bias = None
        if ctx.needs_input_grad[0]:
            by_features = torch.einsum("tkn,knf->tf", slope, weight)
        if ctx.needs_input_grad[1]:
            by_weight = (slope.flatten(1).T @ features).view_as(weight)
        if ctx.needs_input_grad[2]:
            by_bias = slope.sum(0)
        return by_features, by_weight, by_bias, None, None, None, None, None


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

    Shapes as in the public call. Memory is bounded without gradients; with them it is one number
    a bin, state and neuron.
    """
    return _Summed.apply(features, weight, bias, counts, link, family, mask, noise_std)
