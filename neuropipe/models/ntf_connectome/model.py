"""Non-negative factorisation of the affinities: HALS or multiplicative, many starts at once.

Legend: X (time, animal, pair) affinities, A (time, R) activations, B (animal, R) loadings, C
(pair, R) patterns, X = sum_r a_r o b_r o c_r. K starts are carried side by side, since one pass
over X serves them all. Dyballa et al. (ICLR 2024), section 2; entries that were not observed are
left out of all sums (weighted least squares), never zero.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from neuropipe_kernels import ntf_update

from neuropipe.models.ntf_connectome.entries import CHUNK, Entries

log = logging.getLogger(__name__)

# Rounds after which a refit of activations with all else held is looked at, and the most.
ROUNDS, MOST_ROUNDS = 50, 4000


class Factors(NamedTuple):
    """Factors of K starts.

    Attributes
    ----------
    time : (start, time, component)
    animal : (start, animal, component)
    pair : (start, pair, component)
    """

    time: torch.Tensor
    animal: torch.Tensor
    pair: torch.Tensor

    def of(self, which: torch.Tensor | list[int]) -> Factors:
        """Return some of the starts."""
        return Factors(*(f[which] for f in self))


class Outcome(NamedTuple):
    """What the starts came to.

    Attributes
    ----------
    factors : Factors
        Columns of animal and pair factors have length 1; time carries the scale.
    error : (sweep, start)
        Relative error |X - X^| / |X| over the observed entries; constant once converged.
    converged : (start,) bool
    """

    factors: Factors
    error: torch.Tensor
    converged: torch.Tensor

    @property
    def best(self) -> int:
        """Start of the smallest error."""
        return int(self.error[-1].argmin())


def random_start(x: Entries, rank: int, n_starts: int, rng: np.random.Generator) -> Factors:
    """Draw factors uniformly from 0 to 1."""

    dtype = x.data.dtype if x.data.dtype == torch.float64 else torch.float32

    def draw(n: int) -> torch.Tensor:
        return torch.as_tensor(rng.random((n_starts, n, rank))).to(x.data.device, dtype)

    return Factors(draw(x.n_times), draw(len(x.rows_of)), draw(x.n_pairs))


def update_pairs(
    x: Entries, row: torch.Tensor, product: torch.Tensor, pair: torch.Tensor, rule: str,
    rounds: int, shrink: float,
) -> torch.Tensor:  # fmt: skip
    """Update the pair factor; `row` (start, row, R) is time times animal factor."""
    how: dict[str, Any] = {"rule": rule, "rounds": rounds}
    of_rows = x.gram_of_rows(row)
    if x.cells is None and bool(x.present.all()):
        return ntf_update(product, pair, of_rows.sum(1, keepdim=True), **how)
    towards = _mean_pattern(x, of_rows, pair) if shrink else None
    if x.cells is None and x.pair_groups is not None:
        group, shown = x.pair_groups
        gram = torch.einsum("ge,kers->kgrs", shown.to(row.dtype), of_rows)
        if towards is not None:
            gram, pull = _shrunken(gram, of_rows, towards, shrink)
            product = product + pull[:, group]
        return ntf_update(product, pair, gram, group, **how)
    out = torch.empty_like(pair)
    for start in range(0, pair.shape[1], CHUNK):
        part = slice(start, start + CHUNK)
        if x.cells is not None:
            shown = x.cells[:, part].to(row.dtype)
        else:
            i, j = (u[part] for u in x.units)
            shown = (x.present[:, i] & x.present[:, j]).to(row.dtype)
        gram = torch.einsum("ep,kers->kprs", shown, of_rows)
        own, m = torch.arange(gram.shape[1], device=pair.device), product[:, part]
        if towards is not None:
            gram, pull = _shrunken(gram, of_rows, towards, shrink)
            m = m + pull
        out[:, part] = ntf_update(m, pair[:, part], gram, own, **how)
    return out


def _mean_pattern(x: Entries, of_rows: torch.Tensor, pair: torch.Tensor) -> torch.Tensor:
    """Return each component's mean over pairs, weighted by how well they were seen, (start, R)."""
    worth = torch.diagonal(of_rows, dim1=2, dim2=3)
    if x.cells is not None:
        weight = torch.einsum("ep,ker->kpr", x.cells.to(pair.dtype), worth)
        return (weight * pair).sum(1) / weight.sum(1).clamp(min=torch.finfo(pair.dtype).tiny)
    above = below = torch.zeros_like(pair[:, 0])
    i, j = x.units
    for kind, seen in enumerate(x.present):
        both = (seen[i] & seen[j]).to(pair.dtype)
        above = above + worth[:, kind] * torch.einsum("p,kpr->kr", both, pair)
        below = below + worth[:, kind] * both.sum()
    return above / below.clamp(min=torch.finfo(pair.dtype).tiny)


def _shrunken(
    gram: torch.Tensor, of_rows: torch.Tensor, towards: torch.Tensor, shrink: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Pull pairs to their component's mean by a share of the evidence that they lack.

    A pair that was seen only where a component is absent has next to no evidence, and its value
    would be noise divided by next to nothing. With all entries observed nothing changes.
    """
    full = torch.diagonal(of_rows.sum(1), dim1=1, dim2=2)[:, None]
    lost = shrink * (full - torch.diagonal(gram, dim1=2, dim2=3)).clamp(min=0)
    return gram + torch.diag_embed(lost), lost * towards[:, None]


def _grouped(gram: torch.Tensor) -> torch.Tensor | None:
    n = gram.shape[1]
    return None if n == 1 else torch.arange(n, device=gram.device)


def sweep(
    x: Entries, f: Factors, of_pairs: torch.Tensor, rule: str, rounds: int, shrink: float = 0.0
) -> tuple[Factors, torch.Tensor, torch.Tensor]:
    """Update time, animal and pair factors once, in two passes over X.

    Parameters
    ----------
    x : Entries
    f : Factors
    of_pairs : (start, kind, R, R)
        ``x.gram_of_pairs(f.pair)``.
    rule, rounds
        Of the updates.
    shrink : float
        Weight of a pair's missing evidence, taken to show its component's mean.

    Returns
    -------
    factors : Factors
    of_pairs : (start, kind, R, R)
        Of the new pair factor.
    error : (start,)
        Relative error of the new factors.
    """
    y = x.over_pairs(f.pair)  # serves both modes, as the pair factor is still the same
    how: dict[str, Any] = {"rule": rule, "rounds": rounds}
    gram = x.gram_of_time(f.animal, of_pairs)
    time = ntf_update(
        x.to_time(y * f.animal[:, x.animal]), f.time, gram, _grouped(gram), **how
    )  # fmt: skip
    gram = x.gram_of_animal(time, of_pairs)
    animal = ntf_update(
        x.to_animal(y * time[:, x.time]), f.animal, gram, _grouped(gram), **how
    )  # fmt: skip
    length = animal.norm(dim=1, keepdim=True).clamp(min=torch.finfo(animal.dtype).tiny)
    animal, time = animal / length, time * length
    row = x.rows(time, animal)
    product = x.over_rows(row)
    pair = update_pairs(x, row, product, f.pair, rule, rounds, shrink)
    length = pair.norm(dim=1, keepdim=True).clamp(min=torch.finfo(pair.dtype).tiny)
    pair, time, row = pair / length, time * length, row * length
    of_pairs = x.gram_of_pairs(pair)
    inner = (product.double() * (pair * length).double()).sum((1, 2))
    error = _error(x, inner, x.gram_of_rows(row), of_pairs)
    return Factors(time, animal, pair), of_pairs, error


def _error(
    x: Entries, inner: torch.Tensor, of_rows: torch.Tensor, of_pairs: torch.Tensor
) -> torch.Tensor:
    """Return the relative error (start,), given <X, X^> and the Gram matrices of both sides."""
    return (squared_error(x.total, inner, of_rows, of_pairs) / max(x.total, 1e-300)).sqrt()


def squared_error(
    total: float, inner: torch.Tensor, of_rows: torch.Tensor, of_pairs: torch.Tensor
) -> torch.Tensor:
    """Return |X - X^|^2 of each start over the observed entries."""
    model = (of_rows.double() * of_pairs.double()).sum((1, 2, 3))
    return (total - 2 * inner + model).clamp(min=0)


def misfit(x: Entries, f: Factors) -> torch.Tensor:
    """Return |X - X^|^2 (start,) of given factors, in one pass."""
    row = x.rows(f.time, f.animal)
    inner = (x.over_rows(row).double() * f.pair.double()).sum((1, 2))
    return squared_error(x.total, inner, x.gram_of_rows(row), x.gram_of_pairs(f.pair))


def factorise(
    x: Entries,
    start: Factors,
    *,
    rule: str = "hals",
    rounds: int = 3,
    max_sweeps: int = 300,
    tolerance: float = 1e-6,
    shrink: float = 0.0,
    resume: Outcome | None = None,
    keep: Callable[[Outcome], None] = lambda _: None,
) -> Outcome:
    """Sweep all starts until the error falls by less than `tolerance` a sweep.

    Parameters
    ----------
    x : Entries
    start : Factors
    rule, rounds
        ``hals`` or ``mu``; updates of a factor per contraction.
    max_sweeps : int
    tolerance : float
        Fall of the relative error below which a start has converged and is left alone.
    shrink : float
        See `sweep`.
    resume : Outcome, optional
        Of the same fit, unfinished: goes on from there instead of from `start`.
    keep : callable
        Called with the state after every sweep.

    Notes
    -----
    Memory beyond the entries: a few times the factors, for all starts together.
    """
    f, errors = start, []
    active = torch.ones(len(start.pair), dtype=torch.bool)
    if resume is not None:
        f, errors, active = resume.factors, list(resume.error), ~resume.converged
    of_pairs = x.gram_of_pairs(f.pair)
    while active.any() and len(errors) < max_sweeps:
        which = torch.nonzero(active)[:, 0]
        at = which.to(f.pair.device)
        # all starts at work: no copies of the factors
        part, g = (f, of_pairs) if active.all() else (f.of(at), of_pairs[at])
        part, g, error = sweep(x, part, g, rule, rounds, shrink)
        if active.all():
            f, of_pairs = part, g
        else:
            # states that were handed out stay as they are
            of_pairs = of_pairs.index_copy(0, at, g)
            f = Factors(*(old.index_copy(0, at, new) for old, new in zip(f, part, strict=True)))
        now = errors[-1].clone() if errors else torch.full((len(active),), torch.inf).double()
        now[which] = error.cpu()
        if errors:
            fall = errors[-1] - now
            active[which] = fall[which] >= tolerance
        errors.append(now)
        log.info("ntf: sweep %d, relative error %.6f", len(errors), float(now.min()))
        keep(Outcome(f, torch.stack(errors), ~active))
    return Outcome(f, torch.stack(errors), ~active)


def activate(
    x: Entries, pair: torch.Tensor, animal: torch.Tensor
) -> tuple[torch.Tensor, float]:  # fmt: skip
    """Refit activations by non-negative least squares, patterns and loadings held.

    Parameters
    ----------
    x : Entries
        Other times, or other animals.
    pair : (pair, R)
    animal : (animal, R)

    Returns
    -------
    time : (time, R)
    squared_error : float
        Over the observed entries of `x`.
    """
    pair, animal = pair[None], animal[None]
    of_pairs = x.gram_of_pairs(pair)
    gram = x.gram_of_time(animal, of_pairs)
    product = x.to_time(x.over_pairs(pair) * animal[:, x.animal])
    below = torch.diagonal(gram, dim1=2, dim2=3).clamp(min=torch.finfo(pair.dtype).tiny)
    time = (product / below).clamp(min=0) / pair.shape[2]
    for _ in range(0, MOST_ROUNDS, ROUNDS):
        old = time
        time = ntf_update(product, old, gram, _grouped(gram), rounds=ROUNDS, floor=0.0)
        if float((time - old).norm()) <= 1e-6 * float(time.norm()):
            break
    inner = (product.double() * time.double()).sum((1, 2))
    model = torch.einsum("ktr,ktrs,kts->k", time, gram.expand(-1, time.shape[1], -1, -1), time)
    return time[0], float((x.total - 2 * inner + model.double()).clamp(min=0)[0])


def refit_patterns(
    x: Entries, time: torch.Tensor, animal: torch.Tensor, pair: torch.Tensor, shrink: float = 0.0
) -> torch.Tensor:
    """Refit patterns by non-negative least squares, activations and loadings held.

    Parameters
    ----------
    x : Entries
        Some of the rows that the factors were learned from.
    time : (time, R)
    animal : (animal, R)
    pair : (pair, R)
        Where to start.
    shrink : float
        See `sweep`.

    Returns
    -------
    (pair, R)
    """
    row, out = x.rows(time[None], animal[None]), pair[None]
    product = x.over_rows(row)
    for _ in range(0, MOST_ROUNDS, ROUNDS):
        old = out
        out = update_pairs(x, row, product, old, "hals", ROUNDS, shrink)
        if float((out - old).norm()) <= 1e-6 * float(out.norm()):
            break
    return out[0]
