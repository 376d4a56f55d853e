"""How many components: hidden entries, stability over restarts, and the published criterion."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from neuropipe.metrics import congruence
from neuropipe.models.ntf_connectome.entries import Entries
from neuropipe.models.ntf_connectome.model import Factors, Outcome, misfit


class Curve(NamedTuple):
    """What speaks for each rank.

    Attributes
    ----------
    held_out : (rank, repeat)
        Explained share of hidden entries; NaN where not asked for.
    stability : (rank,)
        Mean congruence of the best start with the others.
    nuclear : (rank, start)
        Sum of the variances of the normalised patterns' principal components over the largest.
    """

    held_out: np.ndarray
    stability: np.ndarray
    nuclear: np.ndarray


def similarities(outcome: Outcome) -> np.ndarray:
    """Return the congruence of each start with the best one, (start,); 1 for the best itself."""
    factors = [[f[k].double().cpu().numpy() for f in outcome.factors]
               for k in range(len(outcome.factors.pair))]  # fmt: skip
    best = factors[outcome.best]
    return np.array([float(congruence(best, other)[0].mean()) for other in factors])


def stability(outcome: Outcome) -> float:
    """Return the mean congruence of the best start with the others; NaN for one start."""
    others = np.delete(similarities(outcome), outcome.best)
    return float(others.mean()) if len(others) else float("nan")


def nuclear_ratio(pair: torch.Tensor) -> float:
    """Return the sum of PCA variances of normalised patterns (pair, R) over the largest one."""
    c = pair.double() / pair.double().norm(dim=0).clamp(min=1e-300)
    c = c - c.mean(0)
    variance = torch.linalg.eigvalsh(c.T @ c).clamp(min=0)
    return float(variance.sum() / variance.max().clamp(min=1e-300))


def hide(
    x: Entries, share: float, n_blocks: int, rng: np.random.Generator
) -> Entries:  # fmt: skip
    """Hide some neurons in each animal and block of time, drawn anew in every block.

    Parameters
    ----------
    x : Entries
        Not stored.
    share : float
        Of the neurons; a pair is hidden with either, so 0.15 hides 28 % of the entries.
    n_blocks : int
        Of time, of equal length.
    rng : Generator
    """
    n_blocks = min(n_blocks, x.n_times)
    block = x.time * n_blocks // x.n_times + x.animal * n_blocks
    n_units = x.present.shape[1]
    n_hidden = min(max(1, round(share * n_units)), n_units - 2)
    order = rng.random((len(x.rows_of) * n_blocks, n_units)).argsort(1)
    drawn = torch.as_tensor(order < n_hidden).to(x.data.device)
    return x.hidden(block, drawn)


def explained_hidden(full: Entries, seen: Entries, factors: Factors) -> float:
    """Return 1 - |X - X^|^2 / |X|^2 over the entries of `full` that `seen` lacks."""
    lost = float((misfit(full, factors) - misfit(seen, factors))[0])
    return 1 - lost / max(full.total - seen.total, 1e-300)


def knee(ranks: tuple[int, ...], nuclear: np.ndarray) -> int:
    """Return the rank after which the smoothed rise of the criterion falls most.

    Source: the authors' sister project picks the knee of the curve by its smoothed derivative.
    """
    if len(ranks) < 3:
        return ranks[-1]
    mean = nuclear.mean(1)
    rise = np.gradient(mean, np.asarray(ranks, float))
    smooth = np.convolve(np.pad(rise, 1, mode="edge"), [0.25, 0.5, 0.25], "valid")
    return ranks[int(np.argmin(np.diff(smooth)))]


def choose(ranks: tuple[int, ...], curve: Curve, rule: str, min_stability: float) -> int:
    """Return the rank that a rule picks from the curves.

    Notes
    -----
    ``combined``: among ranks whose restarts agree to `min_stability` (all, where none does), the
    lowest within one standard error of the best held-out score.
    """
    if rule == "knee":
        return knee(ranks, curve.nuclear)
    if rule == "stability":
        stable = np.flatnonzero(curve.stability >= min_stability)
        return ranks[int(stable[-1])] if len(stable) else ranks[int(np.argmax(curve.stability))]
    allowed = np.ones(len(ranks), bool)
    if rule == "combined" and (curve.stability >= min_stability).any():
        allowed = curve.stability >= min_stability
    mean = np.where(allowed, curve.held_out.mean(1), -np.inf)
    top = int(np.argmax(mean))
    n = curve.held_out.shape[1]
    # repeats hide other entries, so it is the difference to the best that varies by chance
    gap = curve.held_out[top] - curve.held_out
    error = gap.std(1, ddof=1) / np.sqrt(n) if n > 1 else np.zeros(len(ranks))
    near = allowed & (gap.mean(1) <= error)
    return ranks[int(np.flatnonzero(near)[0])]
