"""Whether the communities come out again."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import xarray as xr

from neuropipe.components import component_fits, matched
from neuropipe.metrics import bootstrap_interval, partition_agreement
from neuropipe.results import RunResults

COLUMNS = (
    "over",
    "component",
    "communities",
    "comparisons",
    "ari",
    "ari_low",
    "ari_high",
    "nmi",
    "nmi_low",
    "nmi_high",
)
TAKING_PART = 0.5  # of the component's largest loading


def table(results: RunResults) -> pd.DataFrame:
    """Agreement of the communities of each component's graph when they are found again: over
    restarts, each start with the best one; over animals, the graph that one animal shows by
    itself with that of all, animals in which the component has at least half of its largest
    loading; over halves, every other stretch of time with the rest, activations held; over folds,
    the first fold with fits that did not see other parts of the data. ARI is the adjusted Rand
    index, 0 at chance and 1 for the same; NMI the normalised mutual information, which rises with
    the number of communities by chance alone. Means over the comparisons with their 95 % bootstrap
    interval, for two comparisons or more; component "all": means over components first. Restarts,
    animals and halves of all folds are pooled by the component of the first fold that they match;
    a component without a match in a fold is not compared there. Graphs of one community on both
    sides agree fully and say little: see the number of communities.

    Parameters
    ----------
    results : RunResults
        `parameters` with ``community (component, unit)``; ``community_of_restart``,
        ``community_of_animal`` and ``community_of_half`` where the settings asked for
        ``community_repeats``.
    """
    fits = {f: p for f, p in component_fits(results).items() if "community" in p}
    if not fits:
        return pd.DataFrame(columns=list(COLUMNS))
    first = next(iter(fits.values()))
    n = first.sizes["component"]
    found: list[tuple[str, object, int, dict[str, float]]] = []
    for fold, fit in fits.items():
        match = matched(first, fit)[1] if fit is not first else np.arange(n)
        for component, own in enumerate(match):
            if own < 0:
                continue
            one = fit.isel(component=int(own))
            for over, part, labels, against in _comparisons(one):
                if (scores := _agreement(labels, against)) is not None:
                    found.append((over, (fold, part), component, scores))
            if fit is not first:
                scores = _agreement(*_shared(first.isel(component=component), one))
                if scores is not None:
                    found.append(("folds", (fold, 0), component, scores))
    number = [
        len(np.unique(row)) for row in first["community"].transpose("component", "unit").values
    ]
    rows = []
    for over in ("restarts", "animals", "halves", "folds"):
        pairs = pd.DataFrame(
            [(part, c, s["ari"], s["nmi"]) for o, part, c, s in found if o == over],
            columns=["part", "component", "ari", "nmi"],
        )
        if not len(pairs):
            continue
        each = pairs.groupby("part")[["ari", "nmi"]].mean()
        rows.append((over, "all", float(np.mean(number)), *_summary(each, results.seed)))
        for component, of_one in pairs.groupby("component"):
            rows.append((over, component, number[component], *_summary(of_one, results.seed)))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _comparisons(one: xr.Dataset) -> Iterator[tuple[str, int, np.ndarray, np.ndarray]]:
    """Yield what is compared: its kind, the number of the part, and labels (unit,) of both."""
    whole = one["community"].values
    if "community_of_restart" in one:
        labels = one["community_of_restart"].transpose("restart", "unit").values
        best = int(np.argmin(one["restart_error"].values))
        for number, again in enumerate(labels):
            if number != best:
                yield "restarts", number, again, whole
    if "community_of_animal" in one:
        labels = one["community_of_animal"].transpose("animal", "unit").values
        loading = one["animal_loading"].values
        for animal in np.flatnonzero(loading >= TAKING_PART * loading.max()):
            yield "animals", int(animal), labels[animal], whole
    if "community_of_half" in one:
        labels = one["community_of_half"].transpose("half", "unit").values
        yield "halves", 0, labels[0], labels[1]


def _shared(first: xr.Dataset, second: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels of units that both fits have."""
    _, a, b = np.intersect1d(first["unit"].values, second["unit"].values, return_indices=True)
    return first["community"].values[a], second["community"].values[b]


def _agreement(first: np.ndarray, second: np.ndarray) -> dict[str, float] | None:
    known = (first >= 0) & (second >= 0)
    return partition_agreement(first[known], second[known]) if known.sum() > 1 else None


def _summary(values: pd.DataFrame, seed: int) -> list[float]:
    out: list[float] = [len(values)]
    for name in ("ari", "nmi"):
        out += [float(values[name].mean()), *bootstrap_interval(values[name].values, seed=seed)]
    return out
