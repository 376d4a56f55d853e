"""The prior of a latent as independent Fourier coefficients on a circle longer than the window.

Legend: n circle in bins, T bins of a window, F kept coefficients, w angular frequency (radians a
bin), l length scale in bins, K(w) prior variance. Gondur et al. (ICLR 2024), section 3.1: a latent
with kernel exp(-d^2 / 2 l^2) is z = B^T c with c_f ~ N(0, K(w_f)), the real basis B orthonormal on
the circle.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def circle_bins(n_bins: int, circle: float | str, length: float) -> int:
    """Return the length of the circle that windows of `n_bins` are laid on.

    Parameters
    ----------
    n_bins : int
        Of the longest window.
    circle : float or ``"auto"``
        Multiple of the window; auto adds four length scales, so that the kernel between the ends
        of a window is below 4e-4 whichever way round.
    length : float, bins
        Longest starting length scale.
    """
    if circle == "auto":
        return n_bins + math.ceil(4 * length)
    return max(n_bins, math.ceil(float(circle) * n_bins - 1e-9))


def highest_frequency(n_circle: int, min_length: float, pruning: float) -> int:
    """Return the highest frequency, in cycles a circle, that is kept.

    Those above have less than 1/`pruning` of the largest prior variance for every length scale
    from `min_length` (bins) on: k <= n sqrt(0.5 ln c) / (pi l_min).

    Notes
    -----
    The authors' code loses the cosine of the last frequency; here it is kept.
    """
    bound = n_circle / (math.pi * min_length) * math.sqrt(0.5 * math.log(pruning))
    return min(int(bound), n_circle // 2)


def fourier_basis(
    n_circle: int, n_bins: int, highest: int, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor]:
    """Return the basis at the first bins of the circle, and its frequencies.

    Returns
    -------
    basis : (F, T)
        Constant, cosines, then sines; rows have length 1 over the whole circle.
    frequency : (F,), radians a bin
    """
    k = torch.arange(highest + 1, dtype=torch.float64)
    sines = k[1:] if 2 * highest < n_circle else k[1:-1]  # sin at the last one would be zero
    t = torch.arange(n_bins, dtype=torch.float64)
    turn = 2 * math.pi / n_circle
    scale = torch.full((highest + 1, 1), math.sqrt(2 / n_circle), dtype=torch.float64)
    scale[0] = math.sqrt(1 / n_circle)
    if 2 * highest == n_circle:
        scale[-1] = math.sqrt(1 / n_circle)
    cosine = scale * torch.cos(turn * k[:, None] * t)
    sine = math.sqrt(2 / n_circle) * torch.sin(turn * sines[:, None] * t)
    return torch.cat([cosine, sine]).to(dtype), torch.cat([k, sines]).to(dtype) * turn


def prior_variance(frequency: Tensor, length: Tensor, jitter: float = 0.0) -> Tensor:
    """Return K(w) = sqrt(2 pi) l exp(-w^2 l^2 / 2) + jitter, (latent, F), for lengths (latent,)."""
    decay = torch.exp(-0.5 * (frequency * length[:, None]) ** 2)
    return math.sqrt(2 * math.pi) * length[:, None] * decay + jitter


def whitened_basis(basis: Tensor, frequency: Tensor, length: Tensor, jitter: float = 0.0) -> Tensor:
    """Return A (latent, F, T), with which z = A^T u has the prior for standard normal u."""
    if jitter > 0:
        return prior_variance(frequency, length, jitter).sqrt()[:, :, None] * basis
    # the root of a variance that underflows to zero would have no gradient
    decay = torch.exp(-0.25 * (frequency * length[:, None]) ** 2)
    return ((math.sqrt(2 * math.pi) * length[:, None]).sqrt() * decay)[:, :, None] * basis
