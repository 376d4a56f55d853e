"""What training lowers: SoftCLIP and MSE from two Gram matrices, and the cycle over subjects.

Legend: p predicted and t true embeddings (sample, feature), t of length 1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

TINY = 1e-12


def cosines(p: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return cos(p_i, t_j) and cos(t_i, t_j), each (sample, sample).

    Parameters
    ----------
    p : (sample, feature)
        Of any length.
    t : (sample, feature)
        Of length 1.

    Notes
    -----
    Two products with t and one sum of squares: the wide tensors are neither copied nor
    normalised. In mixed precision they are float32 all the same: a cosine rounded to bfloat16 is
    off by .002, which a temperature of .005 makes .4 nats.
    """
    with torch.autocast(p.device.type, enabled=False):
        p = p.float() if p.dtype in (torch.bfloat16, torch.float16) else p
        length = p.square().sum(1, keepdim=True).clamp_min(TINY).sqrt()
        return p @ t.T / length, t @ t.T


def soft_clip(pt: Tensor, tt: Tensor, temperature: float) -> Tensor:
    """Return SoftCLIP, nats: cross-entropy of the truth's own similarities, both ways.

    Mean over samples of -sum_j softmax_j(tt_i / T) log softmax_j(pt_i / T), averaged with the same
    of pt transposed.

    Parameters
    ----------
    pt, tt : (sample, sample)
        From `cosines`.
    temperature : float
        T, 0.005 in the paper.

    Notes
    -----
    Source: MindEye (Scotti et al. 2023), as MindBridge uses it.
    """
    wanted = F.softmax(tt / temperature, dim=1)
    return weighted_cross_entropy(pt / temperature, wanted, wanted)


def weighted_cross_entropy(logit: Tensor, wanted: Tensor, wanted_back: Tensor) -> Tensor:
    """Return the cross-entropy of rows with `wanted`, and of columns with `wanted_back`, halved."""
    forth = -(wanted * F.log_softmax(logit, dim=1)).sum(1).mean()
    back = -(wanted_back * F.log_softmax(logit.T, dim=1)).sum(1).mean()
    return (forth + back) / 2


def unit_mse(pt: Tensor, n_features: int) -> Tensor:
    """Return the mean squared difference of p / |p| and t over all entries, (2 - 2 cos) / D."""
    return (2 - 2 * torch.diagonal(pt)).mean() / n_features


def mix(x: Tensor, beta: float, share: float) -> tuple[Tensor, Tensor, Tensor]:
    """Mix each pattern with another one of the batch.

    Parameters
    ----------
    x : (sample, voxel)
    beta : float
        Of the symmetric Beta distribution of the mixing weights.
    share : float
        Of samples that are mixed at all.

    Returns
    -------
    mixed : (sample, voxel)
    weight : (sample,)
        Of the sample itself; 1 where it was not mixed.
    other : (sample,)
        Which sample it was mixed with.
    """
    n = len(x)
    other = torch.randperm(n, device=x.device)
    weight = torch.distributions.Beta(beta, beta).sample((n,)).to(x)
    weight = torch.where(torch.rand(n, device=x.device) < share, weight, torch.ones_like(weight))
    return weight[:, None] * x + (1 - weight[:, None]) * x[other], weight, other


def mix_clip(pt: Tensor, weight: Tensor, other: Tensor, temperature: float) -> Tensor:
    """Return MixCo, nats: each prediction belongs to both images that were mixed, by weight.

    Parameters
    ----------
    pt : (sample, sample)
        Cosines of predictions from mixed patterns with the true embeddings.
    weight, other : (sample,)
        From `mix`.

    Notes
    -----
    Source: BiMixCo of MindEye (Scotti et al. 2023). MindBridge trains without it.
    """
    wanted = torch.diag(weight)
    rows = torch.arange(len(weight), device=weight.device)
    wanted = wanted.index_put((rows, other), 1 - weight, accumulate=True)
    return weighted_cross_entropy(pt / temperature, wanted, wanted.T)
