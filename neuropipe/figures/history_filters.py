"""How the past of the spikes enters."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neuropipe.figures.fits import fitted, total_weight
from neuropipe.figures.style import (
    CATEGORIES,
    drawn,
    name_ticks,
    new_figure,
    state_colors,
    with_units,
)
from neuropipe.results import RunResults

N_STRONGEST = 6


@drawn
def plot(results: RunResults) -> Figure:
    """How the past of the spikes enters: history functions, weights, and filters of strong
    pairs. Left: the functions that weight the past bins, each of unit sum. Right: the weights
    of each state by category, as boxes from quartile to quartile with the median and whiskers
    from the 5th to the 95th percentile, and the number of connections; the category is the most
    probable one, or, without edge probabilities, the sign of a weight larger than twice its
    standard error. With several functions the filters of the strongest pairs stand below,
    source unit first, with bands of 95% under independent errors. First fold of the run.

    Parameters
    ----------
    results : RunResults
        `parameters` with ``basis_function (lag, basis)``, coord ``lag_s``, and ``weight``.
    """
    parameters = fitted(results, "basis_function", "weight")
    n_basis = parameters.sizes["basis"]
    figure = new_figure(2.5 if n_basis == 1 else 5.2)
    top, *below = figure.subfigures(1 if n_basis == 1 else 2, 1, squeeze=False)[:, 0]
    functions, weights = top.subplots(1, 2, width_ratios=(1, 1.5))
    _draw_functions(functions, parameters)
    _draw_weights(weights, parameters)
    for part in below:
        _draw_strongest(part.subplots(2, N_STRONGEST // 2, sharex=True, squeeze=False), parameters)
    return figure


def _lag_ms(parameters: xr.Dataset) -> np.ndarray:
    return np.asarray(parameters["lag_s"], dtype=float) * 1000


def _draw_functions(axes: Axes, parameters: xr.Dataset) -> None:
    basis = parameters["basis_function"].transpose("lag", "basis").values
    for number, column in enumerate(basis.T):
        shade = str(0.65 * number / max(basis.shape[1] - 1, 1))
        axes.plot(_lag_ms(parameters), column, marker=".", color=shade)
    units = str(parameters["basis_function"].attrs.get("units", "1"))
    axes.set(xlabel="lag (ms)", ylabel=with_units("history function", units), ylim=(0, None))


def _categories(parameters: xr.Dataset) -> np.ndarray:
    """Return the category of each weight (state, unit, source_unit), as a text."""
    weight, error = total_weight(parameters)
    dims = ("state", "unit", "source_unit")
    if "edge_probability" in parameters:
        probability = parameters["edge_probability"].transpose(*dims, "category")
        return parameters["category"].values.astype(str)[probability.values.argmax(axis=-1)]
    values = weight.transpose(*dims).values
    sure = np.ones(values.shape, bool)
    if error is not None:
        sure = np.abs(values) >= 2 * error.transpose(*dims).values
    return np.where(sure, np.where(values > 0, "excitatory", "inhibitory"), "none")


def _draw_weights(axes: Axes, parameters: xr.Dataset) -> None:
    weight = total_weight(parameters)[0].transpose("state", "unit", "source_unit").values
    category = _categories(parameters)
    states = range(len(weight))
    low, high = np.nanmin(weight), np.nanmax(weight)
    room = 0.13 * ((high - low) or 1.0)
    for offset, (name, color) in zip((-0.26, 0, 0.26), CATEGORIES.items(), strict=True):
        groups = [weight[state][category[state] == name] for state in states]
        present = [state for state in states if len(groups[state])]
        if not present:
            continue
        axes.boxplot(
            [groups[state] for state in present],
            positions=[state + offset for state in present],
            widths=0.2,
            whis=(5, 95),
            showfliers=False,
            patch_artist=True,
            boxprops={"facecolor": color, "alpha": 0.75, "linewidth": 0.5},
            medianprops={"color": "black"},
            manage_ticks=False,
        )
        for state in present:
            axes.text(
                state + offset,
                low - room / 2,
                str(len(groups[state])),
                color=color,
                fontsize=6,
                ha="center",
                va="center",
                rotation=90 if len(states) > 4 else 0,
            )
        axes.plot([], [], "s", color=color, alpha=0.75, label=name)
    axes.axhline(0, color="black", linewidth=0.5, zorder=0)
    axes.set_ylim(low - room, high + room)
    name_ticks(axes, "x", list(states))
    units = str(parameters["weight"].attrs.get("units", "1"))
    axes.set(xlabel="state", ylabel=with_units("weight", units))
    axes.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0), handletextpad=0.1)


def _draw_strongest(panels: np.ndarray, parameters: xr.Dataset) -> None:
    dims = ("state", "unit", "source_unit", "basis")
    basis = parameters["basis_function"].transpose("lag", "basis").values
    weight = parameters["weight"].transpose(*dims).values
    filters = weight @ basis.T  # (state, unit, source_unit, lag)
    error = np.zeros_like(filters)
    if "weight_se" in parameters:
        error = np.sqrt(parameters["weight_se"].transpose(*dims).values ** 2 @ (basis**2).T)
    strength = np.nan_to_num(np.abs(filters).max(axis=(0, 3)))
    strongest = np.argsort(-strength, axis=None, kind="stable")[: panels.size]
    colors = state_colors(len(weight))
    lag = _lag_ms(parameters)
    units = str(parameters["weight"].attrs.get("units", "1"))
    for axes in panels.flat[len(strongest) :]:
        axes.set_visible(False)
    for axes, flat in zip(panels.flat, strongest, strict=False):
        unit, source = np.unravel_index(flat, strength.shape)
        for state, color in enumerate(colors):
            line, half = filters[state, unit, source], 1.96 * error[state, unit, source]
            axes.fill_between(lag, line - half, line + half, color=color, alpha=0.2, linewidth=0)
            axes.plot(lag, line, color=color, label=f"state {state}")
        axes.axhline(0, color="black", linewidth=0.5, zorder=0)
        ids = parameters["source_unit"].values[source], parameters["unit"].values[unit]
        axes.set_title(f"{ids[0]} → {ids[1]}")
        axes.set_xlabel("lag (ms)")
    panels[0, 0].figure.supylabel(with_units("filter", units), fontsize=8)
    panels[0, -1].legend(loc="upper left", bbox_to_anchor=(1, 1))
