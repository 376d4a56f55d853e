"""Discrete units: codes on the unit sphere that follow the tokens nearest to them.

Legend: M tokens, D numbers of a token, K codes, Q numbers of a code.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from neuropipe_kernels import vq_ema, vq_update
from torch import Tensor, nn
from torch.nn import functional as F

from neuropipe.training.processes import draw_alike, gather, part, reduce_sum

ROUNDS = 10  # of k-means, as published


class Quantised(NamedTuple):
    """Tokens as codes.

    Attributes
    ----------
    out : (B, N, D)
        What the decoder sees.
    code : (B, N) int64
    commitment : ()
        Mean squared distance of a number of the token to that of its code.
    use : (K,)
        Tokens of each code.
    """

    out: Tensor
    code: Tensor
    commitment: Tensor
    use: Tensor


def straight_through(value: Tensor, code: Tensor) -> Tensor:
    """Return `code` with the gradient of `value`."""
    return value + (code - value).detach()


def perplexity(count: Tensor) -> Tensor:
    """Return exp of the entropy of code use: how many codes are used evenly, from 1 to K."""
    share = count.double() / count.double().sum().clamp(min=1)
    return torch.exp(-torch.xlogy(share, share).sum())


class Codebook(nn.Module):
    """Tokens to codes and back, (B, N, D) -> (B, N, D).

    Parameters
    ----------
    dim, n_codes, code_dim : int
        D, K and Q.
    decay : float
        Share of the old in the moving average of a code.
    revival : float
        A code whose moving average of tokens is below this share of the mean is replaced by a
        token of the batch; 0 for never, as published.

    Notes
    -----
    Source: Zheng et al. (2024), section 3.2 (equations 3 and 4 there), after Peng et al., BEiT v2
    (2022). Codes move by the mean direction of a batch's tokens and are divided by their length.
    """

    def __init__(
        self, dim: int, n_codes: int, code_dim: int, *, decay: float = 0.99, revival: float = 0.0
    ) -> None:
        super().__init__()
        self.into = nn.Sequential(nn.Linear(dim, dim), nn.Tanh(), nn.Linear(dim, code_dim))
        self.norm = nn.LayerNorm(code_dim)
        self.out = nn.Linear(code_dim, dim)
        self.decay, self.revival = decay, revival
        self.code: Tensor
        self.size: Tensor
        self.register_buffer("code", F.normalize(torch.randn(n_codes, code_dim), dim=-1))
        self.register_buffer("size", torch.ones(n_codes))

    def project(self, tokens: Tensor) -> Tensor:
        """Return points on the unit sphere, (..., Q)."""
        return F.normalize(self.into(tokens), dim=-1)

    def back(self, point: Tensor) -> Tensor:
        """Return what the decoder sees of points or codes."""
        return self.out(self.norm(point))

    def search(self, point: Tensor) -> Tensor:
        """Return the nearest code of each point, (...,) int64."""
        flat = point.detach().reshape(-1, point.shape[-1]).float()
        return vq_ema(flat, self.code).index.view(point.shape[:-1])

    def forward(self, tokens: Tensor) -> Quantised:
        """Replace tokens by codes; while training, let codes follow and dead ones return."""
        point = self.project(tokens)
        flat = point.detach().reshape(-1, point.shape[-1]).float()
        found = vq_ema(flat, self.code)
        code = self.code[found.index].view_as(point)
        if self.training:
            self.follow(flat, reduce_sum(found.count), reduce_sum(found.total))
        commitment = part(F.mse_loss(point, code), len(flat))
        out = self.back(straight_through(point, code))
        return Quantised(out, found.index.view(point.shape[:-1]), commitment, found.count)

    @torch.no_grad()
    def follow(self, flat: Tensor, count: Tensor, total: Tensor) -> None:
        """Move the codes towards their tokens, and dead ones onto tokens drawn at random.

        `count` and `total` are those of all processes, `flat` this one's.
        """
        code, size = vq_update(self.code, self.size, count, total, decay=self.decay)
        if self.revival:
            dead = size < self.revival * size.mean()
            flat = gather(flat)
            drawn = draw_alike(
                lambda g: torch.randint(len(flat), (len(code),), generator=g, device=flat.device)
            )
            code = torch.where(dead[:, None], flat[drawn], code)
            # a new code has time to find tokens before it counts as dead again
            size = torch.where(dead, size.mean(), size)
        self.code.copy_(code)
        self.size.copy_(size)

    @torch.no_grad()
    def settle(self, point: Tensor, generator: torch.Generator) -> None:
        """Place the codes by k-means on points of the unit sphere (M, Q)."""
        code, count = sphere_means(point, len(self.code), generator)
        self.code.copy_(code)
        self.size.copy_(count)


def sphere_means(
    point: Tensor, n_codes: int, generator: torch.Generator, rounds: int = ROUNDS
) -> tuple[Tensor, Tensor]:
    """Return codes (K, Q) and their counts (K,) by k-means with cosine distance.

    Parameters
    ----------
    point : (M, Q)
        Of length 1.
    n_codes : int
        May be more than points: codes then come twice.
    generator : torch.Generator
        Of the device of `point`.
    rounds : int

    Notes
    -----
    Starts are drawn far from each other (Arthur & Vassilvitskii, 2007). A code that loses all of
    its points moves to a point drawn at random.
    """
    n = len(point)
    code = point.new_empty(n_codes, point.shape[1])
    code[0] = point[torch.randint(n, (1,), generator=generator, device=point.device)]
    far = torch.full((n,), 4.0, device=point.device)
    for k in range(1, n_codes):
        far = torch.minimum(far, 2 - 2 * point @ code[k - 1])
        weight = far.clamp(min=0) + 1e-9
        code[k] = point[torch.multinomial(weight, 1, generator=generator)]
    count = point.new_ones(n_codes)
    for _ in range(rounds):
        _, count, total = vq_ema(point, code)
        drawn = torch.randint(n, (n_codes,), generator=generator, device=point.device)
        code = torch.where((count > 0)[:, None], F.normalize(total, dim=-1), point[drawn])
    return code, count
