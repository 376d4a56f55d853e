"""Nearest codes on the unit sphere and the moving average of a codebook, in plain torch."""

from __future__ import annotations

import torch

# Tokens times codes that are scored at once.
BLOCK = 2**22
# Scores, in float64, that count as equal; the lowest code then has the token.
TIE = 1e-12
# Least length that a vector is divided by.
SHORT = 1e-12


def unit(x: torch.Tensor) -> torch.Tensor:
    """Return rows of length 1; a row of zeros stays one."""
    return x / x.norm(dim=-1, keepdim=True).clamp(min=SHORT)


def nearest(x: torch.Tensor, code: torch.Tensor) -> torch.Tensor:
    """Return the code of largest cosine with each token, (token,) int64."""
    wide = code.double()
    out = torch.empty(len(x), dtype=torch.int64, device=x.device)
    step = max(1, BLOCK // len(code))
    for start in range(0, len(x), step):
        rows = slice(start, start + step)
        score = unit(x[rows].double()) @ wide.T
        best = score.amax(1, keepdim=True) - TIE
        # whatever is no number takes code 0
        out[rows] = (score >= best).to(torch.uint8).argmax(1)
    return out


def gather(x: torch.Tensor, index: torch.Tensor, n_codes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return how many tokens each code has, and the sum of their unit vectors."""
    count = torch.bincount(index, minlength=n_codes).to(x.dtype)
    total = x.new_zeros(n_codes, x.shape[1]).index_add_(0, index, unit(x))
    return count, total


def update(
    code: torch.Tensor,
    size: torch.Tensor,
    count: torch.Tensor,
    total: torch.Tensor,
    decay: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Move codes towards their tokens; arguments as ``vq_update``."""
    moved = unit(decay * code + (1 - decay) * unit(total))
    used = (count > 0)[:, None]
    return torch.where(used, moved, code), decay * size + (1 - decay) * count
