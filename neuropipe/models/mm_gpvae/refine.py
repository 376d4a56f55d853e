"""From the encoders' posterior to the best one: Newton steps in Fourier coefficients.

An encoder has learned to read complete bins. Where units, bins or a whole modality are missing, the
bound itself says what the rest implies, so it is maximised over the posterior of each trial, the
model held: over means jointly for all latents, over covariances latent by latent (the posterior's
form, `posterior`). For linear decoders these are exact steps on the bound, and Gaussian data need
only one; a non-linear decoder is linearised at the mean (Gauss-Newton, Laplace).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from neuropipe.models.mm_gpvae.model import MMGPVAENetwork, Modality
from neuropipe.models.mm_gpvae.network import jacobian
from neuropipe.models.mm_gpvae.posterior import (
    Posterior,
    covariance_factor,
    divergence,
    marginal_variance,
)

INNER = 40  # most conjugate-gradient rounds of a Newton step
HALVINGS = 8  # of a step that does not raise the bound
DONE = 100  # relative length of a residual that counts as solved, in rounding errors


def refine(net: MMGPVAENetwork, batch: Mapping[str, Tensor], q: Posterior, steps: int) -> Posterior:
    """Maximise the bound over the posterior of each trial.

    Parameters
    ----------
    net : MMGPVAENetwork
    batch : mapping
        As of `MMGPVAENetwork.infer`.
    q : Posterior
        Where to start.
    steps : int
        Newton steps; 0 returns `q`.

    Notes
    -----
    Cost of a step: D F^2 (F + T) a trial for the covariances, and D F T a conjugate-gradient round
    for the means, which the covariances precondition.
    """
    if steps == 0:
        return q
    a = net.whitened(q.mean.shape[1])
    u, variance = q.coefficient, q.variance
    factor, precision = torch.empty(0), torch.empty(0)
    for _ in range(steps):
        z = torch.einsum("bdf,dft->btd", u, a)
        slope, h = _information(net, batch, z, variance)
        precision = h.diagonal(dim1=-2, dim2=-1)
        factor = covariance_factor(precision, a)
        variance = marginal_variance(factor, a)
        residual = torch.einsum("dft,btd->bdf", a, slope) - u
        step = _solve(residual, h, a, factor)
        u, moved = _advance(net, batch, a, u, step, variance)
        if moved < 1e-7:
            break
    z = torch.einsum("bdf,dft->btd", u, a)
    return Posterior(u, z, variance, divergence(u, factor, precision, variance))


def _weight(net: MMGPVAENetwork, name: str) -> float:
    return net.start.weight if name == "behavior" else 1.0


def _information(
    net: MMGPVAENetwork, batch: Mapping[str, Tensor], z: Tensor, variance: Tensor
) -> tuple[Tensor, Tensor]:
    """Return gradient (B, T, D) and information (B, T, D, D) of all data about the latents."""
    slope = torch.zeros_like(z)
    h = z.new_zeros(*z.shape, z.shape[-1])
    for name, part in net.modalities():
        seen = batch[f"{name}_seen"]
        if not seen.any():
            continue
        g, inner = _of_modality(part, batch[name], seen, z, variance)
        w = _weight(net, name)
        slope[..., part.which] += w * g
        rows, columns = torch.meshgrid(part.which, part.which, indexing="ij")
        h[..., rows, columns] += w * inner
    return slope, h


def _of_modality(
    part: Modality, data: Tensor, seen: Tensor, z: Tensor, variance: Tensor
) -> tuple[Tensor, Tensor]:
    if part.linear:
        eta, s = part.predictor(z, variance)
        slopes = part.matrix[0]
    else:
        eta, slopes = jacobian(part.decoder, z[..., part.which])
        s = None
    return part.likelihood.information(data, eta, s, seen, slopes)


def _bound(
    net: MMGPVAENetwork, batch: Mapping[str, Tensor], u: Tensor, a: Tensor, variance: Tensor
) -> Tensor:
    """Return the part of the bound that depends on the means, (B,), nats."""
    z = torch.einsum("bdf,dft->btd", u, a)
    total = -0.5 * u.square().sum((1, 2))
    for name, part in net.modalities():
        seen = batch[f"{name}_seen"]
        if seen.any():
            eta, s = part.predictor(z, variance)
            value = part.likelihood.value(batch[name], eta, s, seen).sum(1)
            total = total + _weight(net, name) * value
    return total


def _solve(residual: Tensor, h: Tensor, a: Tensor, factor: Tensor) -> Tensor:
    """Return (I + A H A^T)^-1 residual, H coupling the latents, by conjugate gradients."""

    def times(p: Tensor) -> Tensor:
        z = torch.einsum("bdf,dft->btd", p, a)
        return p + torch.einsum("dft,btd->bdf", a, (h @ z[..., None])[..., 0])

    def along(p: Tensor, q: Tensor) -> Tensor:
        return (p * q).sum((1, 2), keepdim=True)

    x, tiny = torch.zeros_like(residual), torch.finfo(residual.dtype).tiny
    rest = residual
    enough = (DONE * torch.finfo(residual.dtype).eps) ** 2 * along(residual, residual)
    z = torch.cholesky_solve(rest[..., None], factor)[..., 0]
    p, rz = z, along(rest, z)
    for _ in range(INNER):
        image = times(p)
        size = rz / along(p, image).clamp(min=tiny)
        x, rest = x + size * p, rest - size * image
        if bool((along(rest, rest) <= enough).all()):
            break
        z = torch.cholesky_solve(rest[..., None], factor)[..., 0]
        new = along(rest, z)
        p, rz = z + new / rz.clamp(min=tiny) * p, new
    return x


def _advance(
    net: MMGPVAENetwork, batch: Mapping[str, Tensor], a: Tensor, u: Tensor, step: Tensor,
    variance: Tensor,
) -> tuple[Tensor, float]:  # fmt: skip
    """Move each trial along its step, halved until the bound does not fall."""
    before = _bound(net, batch, u, a, variance)
    size = torch.ones_like(before)
    for _ in range(HALVINGS):
        after = _bound(net, batch, u + size[:, None, None] * step, a, variance)
        worse = ~(after >= before - 1e-9 * before.abs())
        if not worse.any():
            break
        size = torch.where(worse, 0.5 * size, size)
    else:
        size = torch.where(worse, 0.0, size)
    moved = (size[:, None, None] * step).abs()
    return u + size[:, None, None] * step, float(moved.max())
