"""Learning curves of the stages of a fit."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neuropipe.errors import DataError
from neuropipe.figures.style import drawn, new_figure, state_colors, whole_ticks
from neuropipe.results import RunResults

# Stage, its panel, its course, and what the axis says.
STAGES = (
    ("warm", 0, "warm_reconstruction", "squared error (dimensionless)"),
    ("units", 0, "units_reconstruction", "squared error (dimensionless)"),
    ("masked", 1, "masked_objective", "loss (nats)"),
    ("decode", 2, "objective", "loss (nats)"),
)
TITLES = ("1: units", "2: hidden tokens", "3: classes")


@drawn
def plot(results: RunResults) -> Figure:
    """Learning curves of the three stages, a colour a fold; lines are training, dashes the part of
    the training windows that was set aside to choose the epoch, and a dot marks the epoch that was
    kept. Left: squared error of rebuilt voltages, in units of their variance; behind the grey line
    tokens pass through codes. Middle: how badly hidden tokens are predicted. Right: how badly
    trials are told apart, with smoothed labels while training. Below: accuracy where there is one;
    of hidden codes the dotted line marks a guess of the most frequent code. Stages that the model
    was told to leave out are empty.

    Parameters
    ----------
    results : RunResults
        `history` with ``objective (step)`` and ``<stage>_<term> (<stage>_step)``.
    """
    fits = {
        fold: history
        for (estimator, fold), history in sorted(results.history.items())
        if estimator == results.model and "validation" in history and "accuracy" in history
    }
    if not fits:
        raise DataError(f"This run kept no stages of the fits of {results.model}.")
    figure = new_figure(3.8)
    panels = figure.subplots(2, 3, sharex="col", height_ratios=(3, 2))
    for (fold, history), color in zip(fits.items(), state_colors(len(fits)), strict=True):
        for stage, column, name, label in STAGES:
            if name in history:
                first = history.sizes.get("warm_step", 0) if stage == "units" else 0
                _draw(panels[0, column], history, stage, name, first, color, f"fold {fold}")
                panels[0, column].set_ylabel(label)
        for column, name in ((1, "masked_accuracy"), (2, "accuracy")):
            if name in history:
                course = history[name].values
                panels[1, column].plot(np.arange(1, len(course) + 1), course, color=color)
        if "units_perplexity" in history:
            course = history["units_perplexity"].values
            at = history.sizes.get("warm_step", 0) + np.arange(1, len(course) + 1)
            panels[1, 0].plot(at, course, color=color)
    _guess(panels[1, 1], results, len(fits))
    for axes, title in zip(panels[0], TITLES, strict=True):
        axes.set_title(title)
    for column, label in enumerate(("perplexity of a batch", "accuracy", "accuracy")):
        lower = panels[1, column]
        lower.set(xlabel="epoch", ylabel=f"{label}\n(dimensionless)")
        if label == "accuracy":
            lower.set_ylim(0, 1.05)
        whole_ticks(lower, n_most=5)
        if not panels[0, column].lines:
            for axes in (panels[0, column], lower):
                axes.set_axis_off()
            panels[0, column].text(0.5, 0.5, "left out", ha="center", va="center",
                                   transform=panels[0, column].transAxes)  # fmt: skip
    panels[0, 2].legend(loc="best")
    return figure


def _draw(
    axes: Axes, history: xr.Dataset, stage: str, name: str, first: int, color: str, label: str
) -> None:
    """Draw one stage's course, its validation and the epoch that was kept."""
    course = history[name].values
    at = first + np.arange(1, len(course) + 1)
    axes.plot(at, course, color=color, label=label)
    judged = "validation" if stage == "decode" else f"{stage}_validation"
    best = "best_step" if stage == "decode" else f"{stage}_best_step"
    if judged in history:
        value = history[judged].values
        axes.plot(at[: len(value)], value, color=color, linestyle="--", linewidth=0.9)
        kept = int(history.attrs.get(best, len(value) - 1))
        axes.plot(at[kept], value[kept], "o", color=color, markersize=4)
    if stage == "units" and first:
        axes.axvline(first + 0.5, color="#bbbbbb", linewidth=0.8, zorder=0)


def _guess(axes: Axes, results: RunResults, n_folds: int) -> None:
    """Mark how often the most frequent code would be right."""
    share = [
        float(p["code_count"].max() / p["code_count"].sum())
        for (estimator, _), p in sorted(results.parameters.items())
        if estimator == results.model and "code_count" in p
    ]
    for value, color in zip(share, state_colors(max(n_folds, len(share))), strict=False):
        axes.axhline(value, color=color, linewidth=0.8, linestyle=":")
