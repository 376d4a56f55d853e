"""Which animals have which component."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neuropipe.components import planted_components, planted_part, truth_of
from neuropipe.errors import DataError
from neuropipe.figures.fits import fitted
from neuropipe.figures.motifs import FIT, matches_by_fold
from neuropipe.figures.style import SEQUENTIAL, drawn, heat, name_ticks, new_figure, state_colors
from neuropipe.results import RunResults

MOST_WITH_NUMBERS = 12
MOST_NAMES = 30
MOST_IN_LEGEND = 12


@drawn
def plot(results: RunResults) -> Figure:
    """Which animals have which component. Left: loading of each animal in the first fold, its
    largest value in a component being 1; under a component stands its share of the summed
    energies. In simulated sessions a ring marks the animals in which the group that the
    component fits best was planted. Right: loadings in the other folds against those in the
    first, components matched by their patterns, a colour a component: points on the diagonal
    mean that the loading does not hang on which data were held out.

    Parameters
    ----------
    results : RunResults
        `parameters` with ``animal_loading (animal, component)``.
    """
    parameters = fitted(results, *FIT)
    loading = parameters["animal_loading"].transpose("animal", "component").values
    n_animals, n = loading.shape
    if n_animals < 2:
        raise DataError("The recordings are of one animal, so no loadings are to be compared.")
    figure = new_figure(1.1 + max(1.6, min(0.2 * n_animals, 6.0)))
    others = matches_by_fold(results)
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    image = heat(left, loading, cmap=SEQUENTIAL, vmin=0, vmax=1, aspect="auto")
    name_ticks(left, "y", _names(parameters), n_most=MOST_NAMES)
    shares = 100 * parameters["weight"].values
    labels = [f"{k}\n{share:.0f}%" for k, share in enumerate(shares)]
    name_ticks(left, "x", labels, n_most=16)
    left.set(xlabel="component", ylabel="animal", title="first fold")
    ringed = _ring_planted(left, results, parameters)
    if max(n_animals, n) <= MOST_WITH_NUMBERS:
        for row, column in np.ndindex(n_animals, n):
            value = loading[row, column]
            ink = "black" if value > 0.6 else "white"
            place = row + 0.3 if ringed else row
            left.text(column, place, f"{value:.2f}", ha="center", va="center", color=ink,
                      fontsize=6)  # fmt: skip
    figure.colorbar(image, ax=left, label="loading (dimensionless)", aspect=20)
    _draw_folds(right, parameters, others)
    return figure


def _names(parameters: xr.Dataset) -> list[str]:
    """Return subjects, or subjects and sessions where a subject comes twice."""
    keys = [str(key) for key in parameters["animal"].values]
    subjects = [key.split("/")[0] for key in keys]
    return subjects if len(set(subjects)) == len(keys) and all(subjects) else keys


def _ring_planted(axes: Axes, results: RunResults, parameters: xr.Dataset) -> bool:
    truth = truth_of(results, parameters)
    if truth is None:
        return False
    part = planted_part(parameters, truth)
    for group, component in enumerate(planted_components(parameters, truth)):
        if component >= 0:
            rows = np.flatnonzero(part[group])
            axes.plot(
                np.full(len(rows), component), rows - 0.15, "o", markersize=5, color="white",
                markeredgecolor="black", markeredgewidth=0.8,
            )  # fmt: skip
    return True


def _draw_folds(
    axes: Axes,
    parameters: xr.Dataset,
    others: dict[int, tuple[xr.Dataset, np.ndarray, np.ndarray]],
) -> None:
    if not others:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "one fold only", ha="center", va="center", transform=axes.transAxes)
        return
    names = [str(key) for key in parameters["animal"].values]
    first = parameters["animal_loading"].transpose("animal", "component").values
    colors = state_colors(first.shape[1])
    axes.plot([0, 1], [0, 1], color="black", linewidth=0.6, linestyle="--")
    for other, _, match in others.values():
        again = other["animal_loading"].transpose("animal", "component").values
        place = {str(key): row for row, key in enumerate(other["animal"].values)}
        rows = [row for row, name in enumerate(names) if name in place]
        theirs = [place[names[row]] for row in rows]
        for component, partner in enumerate(match):
            if partner >= 0:
                axes.plot(first[rows, component], again[theirs, partner], "o",
                          color=colors[component], markersize=3, alpha=0.8)  # fmt: skip
    if len(colors) <= MOST_IN_LEGEND:
        for component, color in enumerate(colors):
            axes.plot([], [], "o", color=color, markersize=3, label=str(component))
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), handletextpad=0.2)
    axes.set(xlim=(-0.04, 1.04), ylim=(-0.04, 1.04), aspect="equal", title="over folds")
    axes.set(xlabel="loading, first fold", ylabel="loading, other folds")
