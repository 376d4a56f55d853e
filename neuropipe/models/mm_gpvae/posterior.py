"""Posteriors over Fourier coefficients, from evidence in each bin or from a learned map over time.

Legend: B trials, T bins, D latents, F coefficients; A (D, F, T) the whitened basis, z = A^T u with
prior u ~ N(0, I). Latents are independent of each other under every posterior here, as published.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Posterior(NamedTuple):
    """What is known of the latents.

    Attributes
    ----------
    coefficient : (B, D, F)
        Mean of the whitened coefficients u.
    mean, variance : (B, T, D)
        Of the latents, bin by bin.
    divergence : (B,), nats
        Kullback-Leibler divergence from the prior.
    """

    coefficient: Tensor
    mean: Tensor
    variance: Tensor
    divergence: Tensor


class Evidence(NamedTuple):
    """What one modality says of latents: N(value; z, 1 / precision) in each bin, (B, T, D).

    Precision 0 says nothing, as for missing bins and for latents that the modality does not see.
    """

    value: Tensor
    precision: Tensor


def pool(parts: list[Evidence], fusion: str, present: list[Tensor]) -> Evidence:
    """Join what both modalities say.

    Parameters
    ----------
    parts : list of Evidence
        Over all latents.
    fusion : {"product", "average"}
        product: evidence adds up (product of experts, the prior counted once). average: where two
        modalities speak of a latent each counts half (logarithmic pool), the counterpart of the
        paper's average of means and log sds.
    present : list of (D,) bool
        Which latents each modality sees.
    """
    weights = [torch.ones_like(p.precision) for p in parts]
    if fusion == "average":
        speaks = [(p.precision > 0) & see for p, see in zip(parts, present, strict=True)]
        number = torch.stack(speaks).sum(0).clamp(min=1)
        weights = [1 / number.to(p.precision.dtype) for p in parts]
    precision = torch.stack([w * p.precision for w, p in zip(weights, parts, strict=True)])
    pull = torch.stack([w * p.precision * p.value for w, p in zip(weights, parts, strict=True)])
    total = precision.sum(0)
    return Evidence(pull.sum(0) / total.clamp(min=1e-12), total)


def covariance_factor(precision: Tensor, a: Tensor) -> Tensor:
    """Return the Cholesky factor L (B, D, F, F) of I + A diag(precision) A^T."""
    weighted = a * precision.transpose(1, 2)[:, :, None]
    m = weighted @ a.transpose(1, 2)
    whole = m + torch.eye(a.shape[1], dtype=a.dtype, device=a.device)
    # positive definite by construction, so nothing is checked, which on a card would wait for it
    return torch.linalg.cholesky_ex(whole).L


def divided(factor: Tensor, a: Tensor) -> Tensor:
    """Return L^-1 A, (B, D, F, T)."""
    return torch.linalg.solve_triangular(factor, a.expand(len(factor), -1, -1, -1), upper=False)


def marginal_variance(factor: Tensor, a: Tensor) -> Tensor:
    """Return the variance (B, T, D) of z = A^T u under u ~ N(., (L L^T)^-1)."""
    return divided(factor, a).square().sum(2).transpose(1, 2)


def from_evidence(evidence: Evidence, a: Tensor) -> Posterior:
    """Return the exact posterior of each latent given its evidence: GP regression.

    Notes
    -----
    The covariance of a latent's coefficients is full, (I + A R A^T)^-1, so window ends and missing
    bins are treated rightly; the paper's posterior is diagonal. Cost B D F^2 (F + T).
    """
    value, precision = evidence
    factor = covariance_factor(precision, a)
    half = divided(factor, a)
    pull = torch.einsum("bdft,btd->bdf", half, precision * value)
    # triangular solves alone: cholesky_solve waits for the card and cannot be recorded
    u = torch.linalg.solve_triangular(factor.mT, pull[..., None], upper=True)[..., 0]
    variance = half.square().sum(2).transpose(1, 2)
    return Posterior(
        u, torch.einsum("bdf,dft->btd", u, a), variance,
        divergence(u, factor, precision, variance),
    )  # fmt: skip


def divergence(u: Tensor, factor: Tensor, precision: Tensor, variance: Tensor) -> Tensor:
    """Return KL(N(u, (L L^T)^-1) || N(0, I)), (B,), nats; tr S - F = -sum_t r_t v_t."""
    logdet = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum((1, 2))
    return 0.5 * (u.square().sum((1, 2)) - (precision * variance).sum((1, 2)) + logdet)


def diagonal(mean: Tensor, log_sd: Tensor, prior: Tensor, basis: Tensor) -> Posterior:
    """Return the paper's posterior: independent coefficients c ~ N(mean, exp(log_sd)^2).

    Parameters
    ----------
    mean, log_sd : (B, D, F)
        Of the coefficients, not whitened.
    prior : (D, F)
        K(w).
    basis : (F, T)

    Notes
    -----
    KL with E[c^2] = m^2 + s^2 and variances where variances belong; the authors' code has (m +
    s)^2 and the standard deviation instead.
    """
    variance = (2 * log_sd).exp()
    kl = 0.5 * ((mean.square() + variance) / prior - 1 - (variance / prior).log()).sum((1, 2))
    return Posterior(
        mean / prior.sqrt(), torch.einsum("bdf,ft->btd", mean, basis),
        torch.einsum("bdf,ft->btd", variance, basis.square()), kl,
    )  # fmt: skip
