"""Interaction weights of each state."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from neuropipe.figures.fits import fitted, total_weight, truth_of_fitted
from neuropipe.figures.style import (
    DIVERGING,
    WIDTH_IN,
    drawn,
    heat,
    name_ticks,
    new_figure,
    panel_grid,
    with_units,
)
from neuropipe.results import RunResults

MOST_ABREAST = 5
MOST_UNITS_WITH_DOTS = 30


@drawn
def plot(results: RunResults) -> Figure:
    """Interaction weights of each state, from source unit (column) to unit (row). Red excites,
    blue inhibits; all panels share one scale, centred at zero and cut at the 99.5th percentile.
    A dot marks a weight smaller than twice its standard error (left out above 30 units). With
    several history functions the weights are summed over them. In simulated sessions the
    planted weights of the matching state stand below. First fold of the run.

    Parameters
    ----------
    results : RunResults
        `parameters` with ``weight (state, unit, source_unit, basis)`` and perhaps ``weight_se``.
    """
    parameters = fitted(results, "weight")
    weight, error = total_weight(parameters)
    weight = weight.transpose("state", "unit", "source_unit")
    matched = truth_of_fitted(results)
    planted = None if matched is None else matched[0]["weight"].transpose("state", ...).values
    largest = np.abs(weight.values)
    scale = float(np.nanquantile(largest, 0.995)) if np.isfinite(largest).any() else 1.0
    scale = scale or 1.0

    n_states, rows_each = weight.sizes["state"], 1 if planted is None else 2
    lines, abreast = panel_grid(n_states, MOST_ABREAST)
    width = min(WIDTH_IN, 1.7 + 2.2 * abreast)
    figure = new_figure(rows_each * lines * ((width - 1.2) / abreast + 0.15) + 0.5, width)
    panels = figure.subplots(rows_each * lines, abreast, squeeze=False, sharex=True, sharey=True)
    for axes in panels.flat:
        axes.set_visible(False)
    for state in range(n_states):
        line, column = divmod(state, abreast)
        axes = panels[rows_each * line, column]
        image = _draw(axes, weight.values[state], scale)
        axes.set_title(f"state {state}")
        if error is not None and weight.sizes["unit"] <= MOST_UNITS_WITH_DOTS:
            unsure = np.abs(weight.values[state]) < 2 * error.transpose(*weight.dims).values[state]
            size = 150 / max(weight.sizes["unit"], weight.sizes["source_unit"]) ** 1.5
            axes.scatter(*np.nonzero(unsure)[::-1], s=size, color="#555555", linewidths=0)
        if planted is not None and matched is not None and matched[1][state] >= 0:
            below = panels[rows_each * line + 1, column]
            _draw(below, planted[matched[1][state]], scale)
            below.set_title(f"planted {matched[1][state]}")
    for axes in panels.flat:
        name_ticks(axes, "x", weight["source_unit"].values, n_most=5)
        name_ticks(axes, "y", weight["unit"].values, n_most=5)
        axes.label_outer()
    figure.supxlabel("source unit", fontsize=8)
    figure.supylabel("unit", fontsize=8)
    units = str(parameters["weight"].attrs.get("units", "1"))
    figure.colorbar(
        image, ax=panels, label=with_units("weight", units), extend="both", shrink=0.8, aspect=30
    )
    return figure


def _draw(axes: Axes, matrix: np.ndarray, scale: float) -> AxesImage:
    axes.set_visible(True)
    for spine in axes.spines.values():
        spine.set_visible(True)
    return heat(axes, matrix, cmap=DIVERGING, vmin=-scale, vmax=scale)
