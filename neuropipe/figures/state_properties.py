"""What the states are like."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neuropipe.figures.fits import fitted, model_folds, order_as_first_fold
from neuropipe.figures.style import SEQUENTIAL, drawn, name_ticks, new_figure, state_colors
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
    parameters = fitted(results, "transition", "occupancy", "mean_rate")
    colors = state_colors(parameters.sizes["state"])
    figure = new_figure(4.8)
    (transition, occupancy), (dwell, rate) = figure.subplots(2, 2)
    _draw_transition(transition, parameters)
    _draw_occupancy(occupancy, results, colors)
    _draw_dwell(dwell, results, parameters, colors)
    _draw_rate(rate, parameters)
    return figure


def _draw_transition(axes: Axes, parameters: xr.Dataset) -> None:
    matrix = parameters["transition"].transpose("state", "next_state").values
    image = axes.imshow(matrix, interpolation="none", cmap=SEQUENTIAL, vmin=0, vmax=1)
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


def _draw_occupancy(axes: Axes, results: RunResults, colors: list[str]) -> None:
    shares = np.full((len(model_folds(results)), len(colors)), np.nan)
    for row, fold in enumerate(model_folds(results)):
        order = order_as_first_fold(results, fold)
        shares[row, order] = results.parameters[results.model, fold]["occupancy"].values
    states = np.arange(len(colors))
    axes.bar(states, shares.mean(axis=0), color=colors, width=0.7)
    for row in shares:
        axes.plot(states, row, "o", color="white", markeredgecolor="black", markersize=3)
    name_ticks(axes, "x", states)
    axes.set(xlabel="state", ylabel="share of time", ylim=(0, None), title="occupancy")


def dwell_times_s(estimate: xr.Dataset, state: int, bin_width_s: float) -> np.ndarray:
    """Return how long each complete visit to a state lasted, in seconds.

    A visit is complete when its window shows the state before and the state after.
    """
    path, window = estimate["state"].values, estimate["window"].values
    new_window = np.diff(window, prepend=np.nan) != 0
    first = np.flatnonzero((np.diff(path, prepend=-1) != 0) | new_window)
    stop = np.append(first[1:], len(path))
    begins_inside = ~new_window[first]
    ends_inside = np.append(begins_inside[1:], False)
    complete = begins_inside & ends_inside & (path[first] == state)
    return (stop - first)[complete] * bin_width_s


def _draw_dwell(axes: Axes, results: RunResults, parameters: xr.Dataset, colors: list[str]) -> None:
    bin_s = float(parameters.attrs["bin_width_s"])
    estimates = [
        (order_as_first_fold(results, fold), estimate)
        for (_, fold), estimate in sorted(results.estimates.items(), key=lambda item: item[0])
        if fold in model_folds(results) and estimate.sizes.get("time", 0)
    ]
    longest = bin_s
    for state, color in enumerate(colors):
        parts = [
            dwell_times_s(estimate, int(np.argsort(order)[state]), bin_s)
            for order, estimate in estimates
        ]
        times = np.sort(np.concatenate(parts)) if parts else np.empty(0)
        if not len(times):
            continue
        longest = max(longest, times[-1])
        survival = 1 - np.arange(len(times) + 1) / len(times)
        axes.stairs(
            survival,
            np.concatenate([[0], times, times[-1:]]),
            baseline=None,
            color=color,
            label=f"state {state} ({len(times)})",
        )
    time = np.linspace(0, longest, 200)
    for state, color in enumerate(colors):
        stay = float(parameters["transition"].values[state, state])
        axes.plot(time, stay ** (time / bin_s), color=color, linestyle="--", linewidth=0.7)
    axes.set(xlabel="time t (s)", ylabel="share of dwells longer than t", ylim=(0, 1.02))
    axes.set_xlim(0, longest)
    axes.set_title("dwell times (number of dwells)")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(labelspacing=0.2)


def _draw_rate(axes: Axes, parameters: xr.Dataset) -> None:
    rate = parameters["mean_rate"].transpose("state", "unit")
    image = axes.imshow(rate, interpolation="none", cmap=SEQUENTIAL, aspect="auto", vmin=0)
    name_ticks(axes, "x", rate["unit"].values)
    name_ticks(axes, "y", range(rate.sizes["state"]))
    axes.set(xlabel="unit", ylabel="state", title="mean rate")
    units = str(rate.attrs.get("units", "Hz"))
    axes.figure.colorbar(image, ax=axes, label=f"rate ({units})", aspect=15)
