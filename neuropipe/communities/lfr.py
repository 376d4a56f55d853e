"""Weighted LFR graphs: planted communities with uneven degrees, sizes and strengths."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from neuropipe.errors import ConfigError, DataError

_TRIES = 1000
_ENOUGH = 50
_TOLERATED = 0.12


@dataclass(frozen=True, eq=False)
class PlantedGraph:
    """A graph and its planted communities.

    Attributes
    ----------
    weights : (n, n), symmetric, 0 where there is no edge
    labels : (n,), integer, planted community
    strengths : (n,), strength that was asked for: degree to the power `beta`
    """

    weights: np.ndarray
    labels: np.ndarray
    strengths: np.ndarray


def lfr_graph(
    n: int = 125, *, mean_degree: float = 25, max_degree: int = 100, degree_exponent: float = 2,
    size_exponent: float = 1, mixing_topology: float = 0.5, mixing_weights: float = 0.5,
    beta: float = 2, seed: int,
) -> PlantedGraph:  # fmt: skip
    """Draw a weighted graph with planted communities.

    Parameters
    ----------
    n : number of nodes
    mean_degree, max_degree : edges of a node, on average and at most
    degree_exponent, size_exponent : of the power laws of degrees (tau 1) and community sizes
        (tau 2); sizes lie between the least and the largest degree
    mixing_topology : share of a node's edges that leave its community, mu_t
    mixing_weights : share of a node's strength that leaves its community, mu_w
    beta : strength = degree ** beta
    seed : int

    Returns
    -------
    PlantedGraph
        Always with two planted communities or more.

    Raises
    ------
    ConfigError
        If a mixing is outside [0, 1] or the degrees do not fit the number of nodes.
    DataError
        If the drawn degrees and sizes cannot be assigned to each other.

    Notes
    -----
    Milliseconds to a second. Degrees are met but for a few edges that no simple graph can hold,
    mixing of edges but for rounding, mixing of weights as far as positive weights allow.

    Source
    ------
    Lancichinetti & Fortunato 2009, PRE 80 016118, Sec. II; unweighted part Lancichinetti et al.
    2008, PRE 78 046110. Written from the papers. Ours: edges are laid by a greedy match of the
    largest open degrees and then shuffled by ten swaps an edge, where the papers rewire a
    configuration model; outer edges without a possible partner become inner ones, and sizes that
    turn more than an eighth of them are drawn anew, 50 times at most; no weight falls below a
    hundredth of what is typical of the weaker of its nodes.
    """
    for name, value in (("mixing_topology", mixing_topology), ("mixing_weights", mixing_weights)):
        if not 0 <= value <= 1:
            raise ConfigError(f"lfr_graph: {name} is {value}, expected 0 to 1")
    if not 1 <= mean_degree < max_degree < n:
        raise ConfigError(
            f"lfr_graph: mean_degree {mean_degree}, max_degree {max_degree} and n {n}, expected "
            "1 <= mean_degree < max_degree < n"
        )
    rng = np.random.default_rng(seed)
    best = None
    for turn in range(_TRIES):
        degrees = _power_law(rng, n, degree_exponent, mean_degree, max_degree)
        sizes = _community_sizes(rng, n, size_exponent, int(degrees.min()), int(degrees.max()))
        wanted = _stochastic_round(rng, degrees * (1 - mixing_topology))
        labels = _assign(rng, wanted, sizes)
        if labels is None:
            continue
        inner, outer = _balance(rng, wanted, degrees - wanted, labels)
        moved = (inner - wanted).clip(0).sum() / max((degrees - wanted).sum(), 1)
        if best is None or moved < best[0]:
            best = (moved, inner, outer, labels)
        if best[0] <= _TOLERATED or turn >= _ENOUGH:
            break
    if best is None:
        raise DataError(
            f"lfr_graph: no community of {_TRIES} draws holds the {wanted.max()} inner edges of "
            "the largest node; lower max_degree or raise mixing_topology"
        )
    _, inner, outer, labels = best
    same = labels[:, None] == labels
    within = _edges(rng, inner, same & ~np.eye(n, dtype=bool))
    between = _edges(rng, outer, ~same)
    edges = within | between
    strengths = edges.sum(axis=1).astype(float) ** beta
    return PlantedGraph(_weigh(edges, same, strengths, mixing_weights), labels, strengths)


def _power_law(
    rng: np.random.Generator, n: int, exponent: float, mean: float, largest: int
) -> np.ndarray:
    """Draw integers from a truncated power law, its lower end chosen for the mean."""
    values = np.arange(1, largest + 1)
    means = []
    for least in range(1, largest):
        p = values[least - 1 :] ** -float(exponent)
        means.append((values[least - 1 :] * p).sum() / p.sum())
    above = int(np.searchsorted(means, mean))  # means[above - 1] < mean <= means[above]
    low = max(above - 1, 0)
    gap = means[min(above, len(means) - 1)] - means[low]
    share = (mean - means[low]) / gap if gap > 0 else 0.0
    draws = np.empty(n, dtype=int)
    upper = rng.random(n) < np.clip(share, 0, 1)
    for chosen, least in ((upper, above + 1), (~upper, low + 1)):
        p = values[least - 1 :] ** -float(exponent)
        draws[chosen] = rng.choice(values[least - 1 :], chosen.sum(), p=p / p.sum())
    if draws.sum() % 2:  # an odd sum of degrees is no graph
        draws[int(np.argmin(draws))] += 1
    return draws


def _community_sizes(
    rng: np.random.Generator, n: int, exponent: float, least: int, largest: int
) -> np.ndarray:
    values = np.arange(max(least, 1), max(largest, least) + 1)
    p = values ** -float(exponent)
    p /= p.sum()
    sizes: list[int] = []
    while sum(sizes) < n:
        sizes.append(int(rng.choice(values, p=p)))
    rest = n - sum(sizes[:-1])
    if len(sizes) > 1 and rest < least:  # too few nodes are left for one more: spread them
        sizes.pop()
        for _ in range(rest):
            sizes[int(rng.integers(len(sizes)))] += 1
    else:
        sizes[-1] = rest
    return np.array(sizes)


def _stochastic_round(rng: np.random.Generator, values: np.ndarray) -> np.ndarray:
    return (np.floor(values) + (rng.random(len(values)) < values % 1)).astype(int)


def _assign(rng: np.random.Generator, inner: np.ndarray, sizes: np.ndarray) -> np.ndarray | None:
    """Place nodes in communities larger than their inner degree; a full one evicts a member."""
    if inner.max() >= sizes.max():
        return None
    labels = np.full(len(inner), -1)
    homeless = list(rng.permutation(len(inner)))
    for _ in range(200 * len(inner)):
        if not homeless:
            return labels
        node = homeless.pop()
        fits = np.flatnonzero(sizes > inner[node])
        home = int(rng.choice(fits, p=sizes[fits] / sizes[fits].sum()))
        members = np.flatnonzero(labels == home)
        if len(members) == sizes[home]:
            out = int(rng.choice(members))
            labels[out] = -1
            homeless.insert(0, out)
        labels[node] = home
    return None


def _balance(
    rng: np.random.Generator, inner: np.ndarray, outer: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Turn outer edges that find no partner into inner ones, and make inner sums even.

    A community with more outer edges than all others together cannot place them; nor can a node
    with more than there are nodes outside.
    """
    inner, outer = inner.copy(), outer.copy()
    sizes = np.bincount(labels)
    excess = np.maximum(outer - (len(labels) - sizes[labels]), 0)
    inner, outer = inner + excess, outer - excess
    for _ in range(len(sizes)):
        sums = np.bincount(labels, outer)
        largest = int(np.argmax(sums))
        n_moved = int(2 * sums[largest] - sums.sum()) // 2 * 2
        if n_moved <= 0:
            break
        for _ in range(n_moved):
            able = np.flatnonzero((labels == largest) & (outer > 0) & (inner < sizes[labels] - 1))
            if not len(able):
                break
            node = int(rng.choice(able, p=outer[able] / outer[able].sum()))
            inner[node] += 1
            outer[node] -= 1
    for community in range(len(sizes)):
        if np.sum(inner[labels == community]) % 2:
            able = np.flatnonzero((labels == community) & (inner > 1))
            if len(able):
                node = int(rng.choice(able))
                inner[node] -= 1
                outer[node] += len(sizes) > 1
    return inner, outer


def _edges(rng: np.random.Generator, degrees: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """Return a random simple graph with these degrees, edges on allowed pairs only."""
    n = len(degrees)
    edges = np.zeros((n, n), dtype=bool)
    need = degrees.astype(float).copy()
    jitter = rng.random(n)
    while True:
        node = int(np.argmax(need + jitter * (need > 0)))
        if need[node] <= 0:
            break
        open_ = np.flatnonzero(allowed[node] & ~edges[node] & (need > 0))
        chosen = open_[np.argsort(-(need[open_] + jitter[open_]))][: int(need[node])]
        edges[node, chosen] = edges[chosen, node] = True
        need[chosen] -= 1
        need[node] = 0
    pairs = np.argwhere(np.triu(edges))
    if len(pairs) < 2:
        return edges
    picks = rng.integers(len(pairs), size=(10 * len(pairs), 2))
    flips = rng.random(len(picks)) < 0.5
    for (p, q), flip in zip(picks, flips, strict=True):
        (a, b), (c, d) = pairs[p], pairs[q][::-1] if flip else pairs[q]
        if len({a, b, c, d}) < 4 or edges[a, d] or edges[c, b]:
            continue
        if not (allowed[a, d] and allowed[c, b]):
            continue
        edges[a, b] = edges[b, a] = edges[c, d] = edges[d, c] = False
        edges[a, d] = edges[d, a] = edges[c, b] = edges[b, c] = True
        pairs[p], pairs[q] = (a, d), (c, b)
    return edges


def _weigh(edges: np.ndarray, same: np.ndarray, strengths: np.ndarray, mixing: float) -> np.ndarray:
    """Give weights so that inner and outer strengths come out as asked (Sec. II of 2009)."""
    inner, outer = edges & same, edges & ~same
    weights = np.where(edges, strengths.mean() / max(edges.sum(axis=1).mean(), 1) / 100, 0.0)
    share = np.where(outer.any(axis=1), mixing, 0.0)
    share = np.where(inner.any(axis=1), share, 1.0)
    typical = strengths / np.maximum(edges.sum(axis=1), 1)
    least = np.minimum(typical[:, None], typical) / 100
    for _ in range(100):
        gap = 0.0
        for node in range(len(edges)):
            for part, wanted in ((inner, 1 - share[node]), (outer, share[node])):
                links = part[node]
                if not links.any():
                    continue
                old = weights[node, links]
                miss = wanted * strengths[node] - old.sum()
                new = np.maximum(old + miss / len(old), least[node, links])
                weights[node, links] = weights[links, node] = new
                gap += np.abs(new - old).sum()
        if gap < 1e-4 * weights.sum():
            break
    return weights
