"""Expected negative log likelihood of low-rank Poisson counts, in plain torch; the CPU path."""

from __future__ import annotations

import torch


def expected_nll(
    z: torch.Tensor,
    weight: torch.Tensor,
    offset: torch.Tensor,
    variance: torch.Tensor | None,
    counts: torch.Tensor,
    mask: torch.Tensor | None,
    reduction: str,
) -> torch.Tensor:
    """Return E[rate] - y E[eta], summed over neurons; shapes as in the public call.

    The sum of y E[eta] is taken as z . (y W) + y . b, so that one array of bins times neurons is
    made, and kept for the gradient, beside the counts in the working dtype.
    """
    if mask is not None:
        # A missing bin may hold anything; zeros keep it finite, and out of every gradient.
        hidden = ~mask[:, None]
        z, counts = z.masked_fill(hidden, 0), counts.masked_fill(hidden, 0)
        variance = None if variance is None else variance.masked_fill(hidden, 0)
    y = counts.to(z.dtype)
    left, right = z, weight
    if variance is not None:
        left = torch.cat([z, variance], 1)
        right = torch.cat([weight, 0.5 * weight * weight], 1)
    rate = torch.addmm(offset, left, right.T).exp()
    nll = rate.sum(1) - (z * (y @ weight)).sum(1) - y @ offset
    if mask is not None:
        nll = nll.masked_fill(~mask, 0)
    return nll.sum() if reduction == "sum" else nll
