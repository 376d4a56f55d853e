"""The one-hot prior that the states share."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import FancyArrowPatch

from neuropipe.figures.fits import fitted, truth_of_fitted
from neuropipe.figures.style import (
    CATEGORIES,
    DIVERGING,
    EXCITATORY,
    INHIBITORY,
    drawn,
    heat,
    name_ticks,
    new_figure,
    panel_grid,
)
from neuropipe.results import RunResults

EDGE_PROBABILITY = 0.5
MOST_EDGES = 150
MOST_NAMED_UNITS = 40
MOST_ABREAST = 5
N_BINS = 10


@drawn
def plot(results: RunResults) -> Figure:
    """The graph that all states share, and the connections of each state. Top: probability that
    a connection is excitatory minus that it is inhibitory under the shared prior, as a matrix
    and as a graph of the connections with a probability above one half (at most the 150 surest;
    red excites, blue inhibits, source to unit). In simulated sessions the third panel compares
    the stated probability of each category with how often it was planted, with 95% intervals:
    points on the diagonal mean honest probabilities. Bottom: the same difference for each
    state. First fold of the run.

    Parameters
    ----------
    results : RunResults
        `parameters` with ``edge_prior (unit, source_unit, category)`` and ``edge_probability``.
    """
    parameters = fitted(results, "edge_prior", "edge_probability")
    prior = _signed(parameters["edge_prior"], parameters)
    matched = truth_of_fitted(results)
    calibrated = matched is not None and "adjacency" in matched[0]
    n_states = parameters.sizes["state"]
    lines, abreast = panel_grid(n_states, MOST_ABREAST)
    heights = 2.7, lines * (min(6.2 / abreast, 2.4) + 0.2) + 0.3
    figure = new_figure(sum(heights))
    top, bottom = np.asarray(figure.subfigures(2, 1, height_ratios=heights))
    panels = top.subplots(1, 3 if calibrated else 2)
    image = _draw_matrix(panels[0], prior, "shared prior")
    panels[0].set(xlabel="source unit", ylabel="unit")
    _draw_graph(panels[1], prior)
    if matched is not None and calibrated:
        _draw_calibration(panels[2], parameters, *matched)
    states = bottom.subplots(lines, abreast, squeeze=False, sharex=True, sharey=True)
    for state, axes in enumerate(states.flat):
        if state >= n_states:
            axes.set_visible(False)
            continue
        each = _signed(parameters["edge_probability"].isel(state=state), parameters)
        _draw_matrix(axes, each, f"state {state}")
        axes.label_outer()
    bottom.supxlabel("source unit", fontsize=8)
    bottom.supylabel("unit", fontsize=8)
    bottom.colorbar(image, ax=states, label="P(exc.) − P(inh.)", shrink=0.9, aspect=20)
    return figure


def _signed(probability: xr.DataArray, parameters: xr.Dataset) -> xr.DataArray:
    names = [str(name) for name in parameters["category"].values]
    excitatory = probability.isel(category=names.index("excitatory"))
    return (excitatory - probability.isel(category=names.index("inhibitory"))).transpose(
        "unit", "source_unit"
    )


def _draw_matrix(axes: Axes, signed: xr.DataArray, title: str) -> AxesImage:
    image = heat(axes, signed.values, cmap=DIVERGING, vmin=-1, vmax=1)
    name_ticks(axes, "x", signed["source_unit"].values, n_most=5)
    name_ticks(axes, "y", signed["unit"].values, n_most=5)
    axes.set(title=title)
    axes.spines[:].set_visible(True)
    return image


def _draw_graph(axes: Axes, signed: xr.DataArray) -> None:
    matrix, ids = np.nan_to_num(signed.values), signed["unit"].values
    angle = np.pi / 2 - 2 * np.pi * np.arange(len(ids)) / len(ids)
    x, y = np.cos(angle), np.sin(angle)
    strength = np.where(np.eye(len(ids), dtype=bool), 0, np.abs(matrix))
    strongest = np.argsort(-strength, axis=None, kind="stable")[:MOST_EDGES]
    shown = [flat for flat in strongest if strength.flat[flat] > EDGE_PROBABILITY]
    for flat in reversed(shown):
        unit, source = np.unravel_index(flat, matrix.shape)
        axes.add_patch(
            FancyArrowPatch(
                (float(x[source]), float(y[source])),
                (float(x[unit]), float(y[unit])),
                connectionstyle="arc3,rad=0.15",
                arrowstyle="-|>,head_length=2.5,head_width=1.2",
                color=EXCITATORY if matrix[unit, source] > 0 else INHIBITORY,
                alpha=0.35 + 0.6 * float(strength[unit, source] - EDGE_PROBABILITY),
                linewidth=0.7,
                shrinkA=3,
                shrinkB=3,
            )
        )
    axes.plot(x, y, "o", color="black", markersize=3)
    if len(ids) <= MOST_NAMED_UNITS:
        for name, px, py in zip(ids, x, y, strict=True):
            axes.text(1.15 * px, 1.15 * py, str(name), ha="center", va="center", fontsize=6.5)
    axes.set(xlim=(-1.3, 1.3), ylim=(-1.3, 1.3), aspect="equal")
    surest = "surest " if len(shown) == MOST_EDGES else ""
    axes.set_title(f"{len(shown)} {surest}connections, P > {EDGE_PROBABILITY}")
    axes.set_axis_off()


def _draw_calibration(
    axes: Axes, parameters: xr.Dataset, truth: xr.Dataset, planted: np.ndarray
) -> None:
    known = planted >= 0
    adjacency = truth["adjacency"].transpose("state", "unit", "source_unit").values[planted[known]]
    probability = parameters["edge_probability"].transpose(
        "category", "state", "unit", "source_unit"
    )
    names = [str(name) for name in parameters["category"].values]
    axes.plot([0, 1], [0, 1], color="black", linewidth=0.6, linestyle="--")
    for (name, color), sign, mark in zip(CATEGORIES.items(), (-1, 0, 1), "v.^", strict=True):
        stated = probability.values[names.index(name)][known].ravel()
        happened = (adjacency == sign).ravel()
        column = np.minimum((stated * N_BINS).astype(int), N_BINS - 1)
        n = np.bincount(column, minlength=N_BINS)
        used = n > 0
        mean = np.bincount(column, stated, minlength=N_BINS)[used] / n[used]
        share = np.bincount(column, happened, minlength=N_BINS)[used] / n[used]
        low, high = _wilson(share, n[used])
        axes.vlines(mean, low, high, color=color, linewidth=0.8)
        axes.plot(mean, share, mark, color=color, linestyle="none", markersize=3.5, label=name)
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal", title="calibration")
    axes.set(xlabel="stated probability", ylabel="share planted")
    axes.legend(loc="upper left", handlelength=1.2, frameon=True, edgecolor="none")


def _wilson(share: np.ndarray, n: np.ndarray, z: float = 1.96) -> tuple[np.ndarray, np.ndarray]:
    """Return the Wilson score interval of a share of `n`."""
    center = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return center - half, center + half
