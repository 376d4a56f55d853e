"""The pattern of each component, ordered by its communities."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from neuropipe.components import pattern
from neuropipe.figures.motifs import fitted_graphs, graph_panels, ordered_units
from neuropipe.figures.style import SEQUENTIAL, drawn, heat, name_ticks
from neuropipe.results import RunResults

MOST_UNITS = 400
BRIGHTEST = 99.5  # percentile, so that one pair does not darken all others
BORDER = "#D55E00"


@drawn
def plot(results: RunResults) -> Figure:
    """The pattern of each component as a matrix of its affinities, over its largest (the 99.5th
    percentile, so that a single pair does not darken the rest). Units are in the order of their
    communities, those with the largest affinity inside first, and within each by membership;
    red lines are borders of communities. White: the diagonal, and pairs that no animal showed
    together. Of more than 400 units those of the largest membership are shown. First
    fold of the run.

    Parameters
    ----------
    results : RunResults
        `parameters` with ``affinity`` or ``pair_affinity``, ``membership``, ``community``.
    """
    parameters = fitted_graphs(results)
    figure, panels = graph_panels(parameters, 2.0)
    colors = colormaps[SEQUENTIAL].with_extremes(bad="white")
    image = None
    for component, axes in panels.items():
        at, label = ordered_units(parameters, component, MOST_UNITS)
        matrix = pattern(parameters, component, at)
        np.fill_diagonal(matrix, np.nan)
        off = matrix[np.isfinite(matrix)]
        top = float(np.percentile(off, BRIGHTEST)) if len(off) else 0.0
        image = heat(axes, matrix / top if top > 0 else matrix, cmap=colors, vmin=0, vmax=1)
        for border in np.flatnonzero(np.diff(label)) + 0.5:
            axes.axhline(border, color=BORDER, linewidth=0.8)
            axes.axvline(border, color=BORDER, linewidth=0.8)
        names = parameters["unit"].values[at]
        name_ticks(axes, "y", names, n_most=8)
        axes.set_xticks([])
        if "community" in parameters:
            number = int(label.max(initial=0)) + 1
            axes.set_xlabel(f"{number} communit{'y' if number == 1 else 'ies'}", fontsize=7)
        axes.spines[:].set_visible(True)
        axes.tick_params(axis="y", labelsize=6)
    figure.supylabel("unit", fontsize=8)
    if image is not None:
        figure.colorbar(
            image, ax=list(panels.values()), label="affinity over the largest", aspect=25,
            shrink=0.8,
        )  # fmt: skip
    return figure
