"""Whether the components come out again."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neuropipe.components import component_fits
from neuropipe.figures.fits import fitted
from neuropipe.figures.motifs import matches_by_fold
from neuropipe.figures.style import (
    SEQUENTIAL,
    drawn,
    heat,
    name_ticks,
    new_figure,
    state_colors,
)
from neuropipe.results import RunResults

MIN_STABILITY = 0.8  # where the settings do not say
MOST_WITH_NUMBERS = 10


@drawn
def plot(results: RunResults) -> Figure:
    """Whether the components come out again. Left: each random start of each fold, a colour a
    fold, by its relative error and by how alike its factors are to those of the best start (the
    diamond, 1 by definition); starts as good as the best that differ from it mean that the data
    do not settle the components. Below the dashed line a fit counts as unstable. Right: how
    alike each component's pattern is to its match in the other folds, which were fitted without
    other parts of the data: the cosine, 1 being the same.

    Parameters
    ----------
    results : RunResults
        `parameters` with ``restart_error (restart)``, ``restart_similarity (restart)`` and the
        patterns of each fold.
    """
    parameters = fitted(results, "restart_error", "restart_similarity", "membership")
    others = matches_by_fold(results)
    figure = new_figure(2.6)
    starts, folds = figure.subplots(1, 2)
    _draw_starts(starts, results)
    if not others:
        folds.set_axis_off()
        folds.text(0.5, 0.5, "one fold only", ha="center", va="center", transform=folds.transAxes)
        return figure
    similarity = np.stack([alike for _, alike, _ in others.values()])
    image = heat(folds, similarity, cmap=SEQUENTIAL, vmin=0, vmax=1, aspect="auto")
    if max(similarity.shape) <= MOST_WITH_NUMBERS:
        for row, column in np.ndindex(*similarity.shape):
            value = similarity[row, column]
            ink = "black" if value > 0.6 else "white"
            folds.text(column, row, f"{value:.2f}", ha="center", va="center", color=ink, fontsize=6)
    name_ticks(folds, "x", range(parameters.sizes["component"]), n_most=16)
    name_ticks(folds, "y", list(others))
    folds.set(xlabel="component of the first fold", ylabel="fold", title="patterns over folds")
    figure.colorbar(image, ax=folds, label="similarity (dimensionless)", aspect=15)
    return figure


def _draw_starts(axes: Axes, results: RunResults) -> None:
    fits = component_fits(results)
    for (fold, parameters), color in zip(fits.items(), state_colors(len(fits)), strict=True):
        error = parameters["restart_error"].values
        alike = parameters["restart_similarity"].values
        best = int(np.argmin(error))
        axes.plot(
            error,
            alike,
            "o",
            color=color,
            markersize=4,
            alpha=0.7,
            clip_on=False,
            label=f"fold {fold} ({len(error)} starts)",
        )
        axes.plot(error[best], alike[best], "D", color=color, markersize=6,
                  markeredgecolor="black")  # fmt: skip
    least = float(results.settings.get("parameters", {}).get("min_stability", MIN_STABILITY))
    axes.axhline(least, color="black", linewidth=0.7, linestyle="--", zorder=0)
    axes.set(xlabel="relative error (dimensionless)", ylabel="similarity to the best start")
    axes.set(title="random starts", ylim=(min(0.0, axes.get_ylim()[0]), 1.05))
    axes.ticklabel_format(axis="x", useOffset=False)
    axes.locator_params(axis="x", nbins=5)
    axes.legend(loc="lower left", ncols=2 if len(fits) > 4 else 1)
