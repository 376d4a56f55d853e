"""Likelihoods of a modality given its predictor, in expectation over a Gaussian predictor.

Legend: y data, eta predictor (log of the mean for counts, the mean for Gaussian data), s its
variance under the posterior, n channels. For a linear decoder eta = W z + b and s = W^2 v, so the
expectations below are exact (negative binomial: by quadrature).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

NODES = 9  # of Gauss-Hermite quadrature: error below 1e-6 nats up to s = 1


class Likelihood(nn.Module):
    """A family with its learned spread.

    Parameters
    ----------
    family : {"gaussian", "poisson", "negative_binomial"}
    n_channels : int
    sd : float
        Start of the noise of Gaussian data.
    common : bool
        One spread for all channels instead of one each.
    rank : int
        Gaussian: rank of correlated noise, covariance diag(sd^2) + U U^T.
    raw : bool
        Learn the variance itself instead of its log, as the authors do.
    """

    nodes: Tensor
    node_weights: Tensor
    factor: nn.Parameter | None

    def __init__(
        self, family: str, n_channels: int, *, sd: float = 1.0, common: bool = False,
        rank: int = 0, raw: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.family, self.n_channels, self.raw = family, n_channels, raw
        if family != "poisson":
            start = sd**2 if family == "gaussian" else 10.0  # 10: nearly Poisson
            start = start if raw else math.log(start)
            self.spread = nn.Parameter(torch.full((1 if common else n_channels,), start))
        self.factor = nn.Parameter(0.1 * sd * torch.randn(n_channels, rank)) if rank else None
        x, w = np.polynomial.hermite.hermgauss(NODES)
        self.register_buffer("nodes", torch.tensor(x * math.sqrt(2)), persistent=False)
        self.register_buffer("node_weights", torch.tensor(w / math.sqrt(math.pi)), persistent=False)

    def scale(self) -> Tensor:
        """Return the noise variance, or the size r of the negative binomial, (channel,)."""
        value = self.spread.clamp(min=1e-6) if self.raw else self.spread.exp()
        return value.expand(self.n_channels)

    def value(self, y: Tensor, eta: Tensor, s: Tensor | None, seen: Tensor) -> Tensor:
        """Return E log p(y | eta), nats, summed over seen channels, (B, T).

        Parameters
        ----------
        y, eta : (B, T, channel)
        s : (B, T, channel), optional
            Variance of the predictor; none for a sampled one.
        seen : (B, T, channel) or one that broadcasts to it, bool
        """
        if self.factor is not None:
            return self._correlated(y, eta, seen, self.factor)
        if self.family == "gaussian":
            variance = self.scale()
            square = (y - eta).square() + (0.0 if s is None else s)
            out = -0.5 * (square / variance + variance.log() + math.log(2 * math.pi))
        elif self.family == "poisson":
            mean = torch.exp(eta if s is None else eta + 0.5 * s)
            out = y * eta - mean - torch.lgamma(y + 1)
        else:
            r = self.scale()
            total = torch.zeros_like(eta)
            for x, w in self._around(eta, s):
                total = total + w * (y * x - (y + r) * torch.nn.functional.softplus(x - r.log()))
            constant = torch.lgamma(y + r) - torch.lgamma(r) - torch.lgamma(y + 1) - y * r.log()
            out = total + constant
        return torch.where(seen, out, 0.0).sum(-1)

    def slope(
        self, y: Tensor, eta: Tensor, s: Tensor | None, seen: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the expected gradient by eta and minus the expected curvature, (B, T, channel)."""
        if self.family == "gaussian":
            variance = self.scale()
            first, second = (y - eta) / variance, (1 / variance).expand_as(eta)
        elif self.family == "poisson":
            mean = torch.exp(eta if s is None else eta + 0.5 * s)
            first, second = y - mean, mean
        else:
            r = self.scale()
            first, second = torch.zeros_like(eta), torch.zeros_like(eta)
            for x, w in self._around(eta, s):
                p = torch.sigmoid(x - r.log())
                first = first + w * (y - (y + r) * p)
                second = second + w * (y + r) * p * (1 - p)
        return torch.where(seen, first, 0.0), torch.where(seen, second, 0.0)

    def information(
        self, y: Tensor, eta: Tensor, s: Tensor | None, seen: Tensor, slopes: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return gradient (B, T, D) and expected information (B, T, D, D) of the latents.

        Parameters
        ----------
        y, eta, s, seen
            As of `value`.
        slopes : (channel, D) or (B, T, channel, D)
            d eta / d z.
        """
        if self.factor is not None:
            u, whole = self.factor, seen.all(-1, keepdim=True)
            first = torch.where(whole, self._solve(y - eta, u), 0.0)
            solved = self._solve(slopes.transpose(-1, -2), u).transpose(-1, -2)
            h = slopes.transpose(-1, -2) @ solved
            h = h * whole[..., None].to(h.dtype)
        else:
            first, second = self.slope(y, eta, s, seen)
            if slopes.ndim == 2:
                n, d = slopes.shape
                outer = (slopes[:, :, None] * slopes[:, None, :]).reshape(n, d * d)
                h = (second @ outer).unflatten(-1, (d, d))
            else:
                h = slopes.transpose(-1, -2) @ (second[..., None] * slopes)
        return (first[..., None, :] @ slopes)[..., 0, :], h

    def mean(self, eta: Tensor, s: Tensor | None) -> Tensor:
        """Return E y: eta itself for Gaussian data, E exp(eta) for counts."""
        if self.family == "gaussian":
            return eta
        return torch.exp(eta if s is None else eta + 0.5 * s)

    def _around(self, eta: Tensor, s: Tensor | None) -> list[tuple[Tensor, Tensor | float]]:
        if s is None:
            return [(eta, 1.0)]
        sd = s.clamp(min=1e-12).sqrt()
        nodes, weights = self.nodes.to(eta.dtype), self.node_weights.to(eta.dtype)
        return [(eta + sd * x, w) for x, w in zip(nodes, weights, strict=True)]

    def _small(self, u: Tensor) -> Tensor:
        """Return the Cholesky factor of I + U^T diag(1 / sd^2) U."""
        inner = u.T @ (u / self.scale()[:, None])
        whole = inner + torch.eye(len(inner), dtype=u.dtype, device=u.device)
        return torch.linalg.cholesky_ex(whole).L  # as in `posterior.covariance_factor`

    def _solve(self, residual: Tensor, u: Tensor) -> Tensor:
        """Return (diag(sd^2) + U U^T)^-1 residual (..., channel), by Woodbury."""
        scaled = residual / self.scale()
        inner = torch.cholesky_inverse(self._small(u))
        return scaled - ((scaled @ u) @ inner) @ u.T / self.scale()

    def _correlated(self, y: Tensor, eta: Tensor, seen: Tensor, u: Tensor) -> Tensor:
        residual = y - eta
        logdet = self.scale().log().sum() + 2 * self._small(u).diagonal().log().sum()
        square = (residual * self._solve(residual, u)).sum(-1)
        out = -0.5 * (square + logdet + self.n_channels * math.log(2 * math.pi))
        return torch.where(seen.all(-1), out, 0.0)
