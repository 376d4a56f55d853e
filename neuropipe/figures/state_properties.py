"""What the states are like."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neuropipe.figures.fits import fitted, model_folds, numbered_as_first_fold
from neuropipe.figures.style import SEQUENTIAL, drawn, heat, name_ticks, new_figure, state_colors
from neuropipe.results import RunResults

MOST_STATES_WITH_NUMBERS = 8


@drawn
def plot(results: RunResults) -> Figure:
    """What the states are like: transitions, occupancy, dwell times and firing rates. Top left:
    probability of the next state given the present one, a bin later. Top right: share of
    training time in each state, a dot for each fold (states matched to the first fold), the bar
    their mean. Bottom left: share of dwells on the held-out decoded paths that last longer than
    a time, with the geometric law of the transition matrix dashed; dwells cut by the edge of a
    window are left out. Bottom right: mean rate of each unit in each state. Transitions and
    rates are of the first fold.

    Parameters
    ----------
    results : RunResults
        `parameters` with ``transition``, ``occupancy`` and ``mean_rate``; `estimates`.
    """
    parameters = fitted(results, "transition", "occupancy")
    labels = {fold: numbered_as_first_fold(results, fold) for fold in model_folds(results)}
    colors = state_colors(max(int(each.max()) for each in labels.values()) + 1)
    figure = new_figure(4.8)
    (transition, occupancy), (dwell, rate) = figure.subplots(2, 2)
    _draw_transition(transition, parameters)
    _draw_occupancy(occupancy, results, labels, colors)
    _draw_dwell(dwell, results, labels, colors)
    _draw_rate(rate, parameters)
    return figure


def _draw_transition(axes: Axes, parameters: xr.Dataset) -> None:
    matrix = parameters["transition"].transpose("state", "next_state").values
    image = heat(axes, matrix, cmap=SEQUENTIAL, vmin=0, vmax=1)
    axes.set(xlabel="next state", ylabel="state", title="transition in one bin")
    states = range(len(matrix))
    name_ticks(axes, "x", states)
    name_ticks(axes, "y", states)
    if len(matrix) <= MOST_STATES_WITH_NUMBERS:
        for row in states:
            for column in states:
                value = matrix[row, column]
                ink = "black" if value > 0.6 else "white"
                text = f"{value:.3f}".removeprefix("0")
                axes.text(column, row, text, ha="center", va="center", color=ink, fontsize=6.5)
    axes.figure.colorbar(image, ax=axes, label="probability", aspect=15)


def _draw_occupancy(
    axes: Axes, results: RunResults, labels: dict[int, np.ndarray], colors: list[str]
) -> None:
    shares = np.zeros((len(labels), len(colors)))
    for row, (fold, numbers) in enumerate(labels.items()):
        shares[row, numbers] = results.parameters[results.model, fold]["occupancy"].values
    states = range(len(colors))
    axes.bar(states, shares.mean(axis=0), color=colors, width=0.7)
    for share in shares:
        axes.plot(states, share, "o", color="white", markeredgecolor="black", markersize=3)
    name_ticks(axes, "x", states)
    axes.set(xlabel="state", ylabel="share of time", ylim=(0, None), title="occupancy")


def dwells(estimate: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the state and the length, in bins, of each complete visit.

    A visit is complete when its window shows the state before and the state after.
    """
    path, window = estimate["state"].values, estimate["window"].values
    new_window = np.diff(window, prepend=-1) != 0
    new_window[:1] = True
    first = np.flatnonzero((np.diff(path, prepend=-1) != 0) | new_window)
    n_bins = np.diff(np.append(first, len(path)))
    begins_inside = ~new_window[first]
    complete = begins_inside & np.append(begins_inside[1:], False)
    return path[first[complete]], n_bins[complete]


def _draw_dwell(
    axes: Axes, results: RunResults, labels: dict[int, np.ndarray], colors: list[str]
) -> None:
    parameters = fitted(results)
    bin_s = float(parameters.attrs["bin_width_s"])
    states, times = [np.empty(0, int)], [np.empty(0)]
    for (_, fold), estimate in results.estimates.items():
        if fold in labels:
            visited, n_bins = dwells(estimate)
            states.append(labels[fold][visited])
            times.append(n_bins * bin_s)
    state_of, time_of = np.concatenate(states), np.concatenate(times)
    longest = max(time_of.max(initial=0), bin_s)
    for state, color in enumerate(colors):
        own = np.sort(time_of[state_of == state])
        if len(own):
            survival = 1 - np.arange(len(own) + 1) / len(own)
            edges = np.concatenate([[0], own, own[-1:]])
            label = f"state {state} ({len(own)})"
            axes.stairs(survival, edges, baseline=None, color=color, label=label)
    time = np.linspace(0, longest, 200)
    stay_of = np.diagonal(parameters["transition"].transpose("state", "next_state").values)
    for stay, color in zip(stay_of, colors, strict=False):
        axes.plot(time, stay ** (time / bin_s), color=color, linestyle="--", linewidth=0.7)
    axes.set(xlabel="time t (s)", ylabel="share of dwells longer than t", ylim=(0, 1.02))
    axes.set_xlim(0, longest)
    axes.set_title("dwell times (number of dwells)")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(labelspacing=0.2)


def _draw_rate(axes: Axes, parameters: xr.Dataset) -> None:
    if "mean_rate" not in parameters:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no rates: these are not spike counts", ha="center", va="center")
        return
    rate = parameters["mean_rate"].transpose("state", "unit")
    image = heat(axes, rate.values, cmap=SEQUENTIAL, aspect="auto", vmin=0)
    name_ticks(axes, "x", rate["unit"].values)
    name_ticks(axes, "y", range(rate.sizes["state"]))
    axes.set(xlabel="unit", ylabel="state", title="mean rate")
    units = str(rate.attrs.get("units", "Hz"))
    axes.figure.colorbar(image, ax=axes, label=f"rate ({units})", aspect=15)
