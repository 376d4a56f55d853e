"""Who drives whom, by every estimator that says so."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from neuropipe.components import area_under_curve
from neuropipe.errors import DataError
from neuropipe.figures.style import DIVERGING, drawn, heat, name_ticks, new_figure, panel_grid
from neuropipe.matching import edge_estimates, planted_edges
from neuropipe.results import RunResults

MOST_ABREAST = 4
MOST_UNITS = 300


@drawn
def plot(results: RunResults) -> Figure:
    """Estimated drive from source unit (column) to unit (row), a panel an estimator and method,
    each on a scale of its own that is centred at zero and cut at the 99.5th percentile; the
    diagonal is left out. Red excites, blue inhibits. In simulated sessions the planted weights
    come last, and a title tells the chance that a planted edge has a larger value than another
    pair (AUC; one half is chance). First fold, at most 300 units.

    Parameters
    ----------
    results : RunResults
        `parameters` with matrices (unit, source_unit): connectivity, or weights of a GLM.
    """
    fold = min(results.folds, default=0)
    found = edge_estimates(results, fold)
    if not any(name == results.model for name, _ in found):
        raise DataError(f"This {results.model} was not asked who drives whom: nothing to draw.")
    panels = []
    for (estimator, method), matrix in found.items():
        off = ~np.eye(len(matrix), dtype=bool)
        truth = planted_edges(results, matrix)
        label = f"{estimator.replace('_', ' ')}\n{method}"
        if truth is not None and (truth[off] != 0).any():
            auc = area_under_curve(matrix.values[off], truth[off] > 0)
            label += f", AUC {auc:.3f}"
        panels.append((label, matrix))
    first = next(iter(found.values()))
    planted = planted_edges(results, first)
    if planted is not None:
        panels.append(("planted", first.copy(data=planted)))
    lines, abreast = panel_grid(len(panels), MOST_ABREAST)
    figure = new_figure(lines * (7.0 / max(abreast, 2) + 0.35) + 0.2)
    grid = figure.subplots(lines, abreast, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for axes, (label, matrix) in zip(grid.flat, panels, strict=False):
        shown = matrix.values[:MOST_UNITS, :MOST_UNITS].astype(float).copy()
        np.fill_diagonal(shown, np.nan)
        size = np.abs(shown[np.isfinite(shown)])
        scale = float(np.quantile(size, 0.995)) if size.size else 1.0
        scale = scale or float(size.max(initial=0.0)) or 1.0
        heat(axes, shown, cmap=DIVERGING, vmin=-scale, vmax=scale)
        axes.set_title(f"{label}\nscale ±{scale:.2g}", fontsize=7)
        name_ticks(axes, "x", matrix["source_unit"].values[:MOST_UNITS], n_most=5)
        name_ticks(axes, "y", matrix["unit"].values[:MOST_UNITS], n_most=5)
        for spine in axes.spines.values():
            spine.set_visible(True)
    figure.supxlabel("source unit", fontsize=8)
    figure.supylabel("unit", fontsize=8)
    return figure
