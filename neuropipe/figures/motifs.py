"""What figures of component graphs share: which components and units to show, in which order."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neuropipe.components import component_fits, matched, pattern
from neuropipe.errors import DataError
from neuropipe.figures.fits import fitted
from neuropipe.figures.style import new_figure, panel_grid
from neuropipe.results import RunResults

MOST_COMPONENTS = 9
MOST_ABREAST = 3
FIT = ("membership", "activation", "animal_loading", "weight")


def fitted_graphs(results: RunResults) -> xr.Dataset:
    """Return the components of the first fold, with their patterns; see `fitted`."""
    parameters = fitted(results, *FIT)
    if not {"affinity", "pair_affinity"} & set(parameters.data_vars):
        raise DataError(f"The {results.model} of this run kept no patterns of pairs.")
    return parameters


def graph_panels(parameters: xr.Dataset, side_in: float) -> tuple[Figure, dict[int, Axes]]:
    """Return a figure with a titled panel for each of the heaviest components."""
    n = parameters.sizes["component"]
    shown = min(n, MOST_COMPONENTS)
    lines, abreast = panel_grid(shown, MOST_ABREAST)
    figure = new_figure(lines * side_in + 0.5)
    grid = figure.subplots(lines, abreast, squeeze=False)
    panels = {}
    for place, axes in enumerate(grid.flat):
        axes.set_visible(place < shown)
        if place < shown:
            panels[place] = axes
            axes.set_title(component_title(parameters, place))
    if n > shown:
        figure.supxlabel(f"the {shown} heaviest of {n} components", fontsize=7)
    return figure, panels


def component_title(parameters: xr.Dataset, component: int) -> str:
    """Return the number of a component and its share of the summed energies."""
    return f"{component} ({100 * float(parameters['weight'][component]):.0f}% of energy)"


def ordered_units(
    parameters: xr.Dataset, component: int, most: int
) -> tuple[np.ndarray, np.ndarray]:
    """Choose the units of the largest membership and put them in order of their communities.

    Returns
    -------
    at : (chosen,), integer
        Positions of units: communities with the largest mean affinity inside come first, and in
        each of them the units of the largest membership.
    label : (chosen,), integer
        Their communities, numbered in that order.
    """
    member = parameters["membership"].transpose("component", "unit").values[component]
    chosen = np.argsort(-member, kind="stable")[:most]
    if "community" not in parameters:
        return chosen, np.zeros(len(chosen), dtype=int)
    found = parameters["community"].transpose("component", "unit").values[component][chosen]
    kinds = np.unique(found)
    inside = [_mean_inside(parameters, component, chosen[found == kind]) for kind in kinds]
    number = {kind: place for place, kind in enumerate(kinds[np.argsort(inside)[::-1]])}
    label = np.array([number[kind] for kind in found])
    order = np.argsort(label, kind="stable")
    return chosen[order], label[order]


def _mean_inside(parameters: xr.Dataset, component: int, at: np.ndarray) -> float:
    matrix = pattern(parameters, component, at)[np.triu_indices(len(at), 1)]
    known = matrix[np.isfinite(matrix)]
    return float(known.mean()) if len(known) else 0.0


def matches_by_fold(results: RunResults) -> dict[int, tuple[xr.Dataset, np.ndarray, np.ndarray]]:
    """Return, for each fold after the first, its fit, and similarity and match; see `matched`."""
    fits = component_fits(results)
    first, *others = fits
    return {fold: (fits[fold], *matched(fits[first], fits[fold])) for fold in others}
