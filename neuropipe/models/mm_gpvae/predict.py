"""What a posterior of the latents implies for data: inference in pieces, and expected values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from neuropipe.models.mm_gpvae.model import MMGPVAENetwork
from neuropipe.models.mm_gpvae.posterior import Posterior
from neuropipe.models.mm_gpvae.refine import refine
from neuropipe.runtime import generator

PAIRS = 16  # of draws that expectations under a non-linear decoder are taken over
NUMBERS = 2e7  # at most, of the largest array of a pass


def rows_at_once(net: MMGPVAENetwork, n_bins: int) -> int:
    """Return how many pieces of `n_bins` bins fit into a pass."""
    d, f = net.n_latents, len(net.frequency)
    n = net.start.n_channels + len(net.start.neural_mean)
    largest = max(d * f * max(f, n_bins), n_bins * n * (1 if net.start.n_channels == 0 else d))
    return max(1, int(NUMBERS / largest))


@torch.no_grad()
def posterior(net: MMGPVAENetwork, batch: Mapping[str, Tensor]) -> Posterior:
    """Return the posterior of a batch, as the configuration says, refined where it has to be."""
    n_bins = batch["neural"].shape[1]
    rows = rows_at_once(net, n_bins)
    found = []
    for first in range(0, len(batch["n_bins"]), rows):
        part = {name: x[first : first + rows] for name, x in batch.items()}
        q = net.infer(part)
        if net.config.refine == "always" or _lacks(net, part):
            q = refine(net, part, q, net.config.refine_steps)
        found.append(q)
    return Posterior(*(torch.cat(x) for x in zip(*found, strict=True)))


def _lacks(net: MMGPVAENetwork, batch: Mapping[str, Tensor]) -> bool:
    """Return whether any value of a bin inside a piece is missing."""
    bins = torch.arange(batch["neural"].shape[1], device=batch["n_bins"].device)
    inside = bins < batch["n_bins"][:, None]
    return any(
        bool((~batch[f"{name}_seen"].all(-1) & inside).any()) for name, _ in net.modalities()
    )


def draws(n_latents: int) -> np.ndarray:
    """Return fixed standard normal draws (draw, latent), in pairs of opposite sign.

    The same for every bin, so that a bin's prediction does not depend on where it is cut.
    """
    half = generator(0, f"draws-{n_latents}").standard_normal((PAIRS, n_latents))
    half /= np.sqrt((half**2).mean(0))
    return np.concatenate([half, -half])


@torch.no_grad()
def expected(
    net: MMGPVAENetwork, q: Posterior, names: Sequence[str] = ("neural", "behavior")
) -> dict[str, Tensor]:
    """Return E[data] of each modality under the posterior, in the model's units, (B, T, channel).

    Exact for linear decoders; over fixed draws of the latents for others.
    """
    out = {}
    for name, part in net.modalities():
        if name not in names:
            continue
        if part.linear:
            out[name] = part.likelihood.mean(*part.predictor(q.mean, q.variance))
            continue
        sd = q.variance.clamp(min=0).sqrt()
        total = torch.zeros((), dtype=q.mean.dtype, device=q.mean.device)
        points = draws(q.mean.shape[-1])
        for point in torch.as_tensor(points).to(q.mean):
            total = total + part.likelihood.mean(part.predictor(q.mean + sd * point, None)[0], None)
        out[name] = total / len(points)
    return out


@torch.no_grad()
def held_out_bound(net: MMGPVAENetwork, batch: Mapping[str, Tensor]) -> float:
    """Return the bound on the log evidence of held-out pieces, nats per bin."""
    q = posterior(net, batch)
    bound = -q.divergence.sum()
    for name, part in net.modalities():
        data, seen = batch[name], batch[f"{name}_seen"]
        if part.linear:
            value = part.likelihood.value(data, *part.predictor(q.mean, q.variance), seen).sum()
        else:
            sd = q.variance.clamp(min=0).sqrt()
            points = torch.as_tensor(draws(q.mean.shape[-1])).to(q.mean)
            etas = (part.predictor(q.mean + sd * point, None)[0] for point in points)
            value = torch.stack([part.likelihood.value(data, e, None, seen).sum() for e in etas])
            value = value.mean()
        bound = bound + (net.start.weight if name == "behavior" else 1.0) * value
    return float(bound / batch["n_bins"].sum())


def withheld(
    batch: Mapping[str, Tensor], *, neural: bool | np.ndarray = True, behavior: bool = True
) -> dict[str, Tensor]:
    """Return the batch with a modality, or some units (unit,) bool, made missing.

    Parameters
    ----------
    neural : bool or (unit,) bool
        What stays seen.
    behavior : bool
        Whether behaviour stays seen.
    """
    out = dict(batch)
    seen = batch["neural_seen"]
    out["neural_seen"] = seen & torch.as_tensor(neural, device=seen.device)
    out["behavior_seen"] = batch["behavior_seen"] & behavior
    return out
