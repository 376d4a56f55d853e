"""Held-out scores of the model and its baselines."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neuropipe.errors import DataError
from neuropipe.figures.style import GREY, drawn, new_figure, with_units
from neuropipe.metrics import bootstrap_interval
from neuropipe.results import RunResults

MODEL = "#0072B2"


@drawn
def plot(results: RunResults) -> Figure:
    """Held-out scores of the model and of its baselines on the same folds. Left: a dot for each
    session and fold, the mean as a diamond, and its 95% bootstrap interval over sessions and
    folds. Right: paired difference, model minus baseline, on the same sessions and folds; an
    interval right of the zero line means that the model predicts better. The best baseline is
    in bold. Folds of one session share training data, so their intervals are narrower than
    those over new sessions would be.

    Parameters
    ----------
    results : RunResults
        `scores`, long: a row a session, estimator, fold and metric.
    """
    scores = results.scores[np.isfinite(results.scores["value"].astype(float))]
    if not len(scores):
        raise DataError("This run has no finite held-out score, so there is nothing to compare.")
    metrics = list(dict.fromkeys(scores["metric"]))
    names = [n for n in dict.fromkeys(scores["estimator"]) if n != results.model]
    names = [results.model, *names] if results.model in set(scores["estimator"]) else names
    figure = new_figure(len(metrics) * (0.28 * len(names) + 0.75))
    panels = figure.subplots(len(metrics), 2, squeeze=False, sharey="row")
    for (left, right), metric in zip(panels, metrics, strict=True):
        rows = scores[scores["metric"] == metric]
        table = rows.pivot_table(index=["session", "fold"], columns="estimator", values="value")
        table = table.reindex(columns=names)
        label = with_units(metric.replace("_", " "), str(rows["units"].iloc[0]))
        baselines = table[[n for n in names if n != results.model]].mean()
        best = baselines.idxmax() if baselines.notna().any() else None
        _draw(left, table, results)
        left.set_xlabel(label)
        difference = (-table).add(table.get(results.model, np.nan), axis=0)
        _draw(right, difference.assign(**{results.model: np.nan}), results)
        right.axvline(0, color="black", linewidth=0.7, zorder=0)
        right.set_xlabel(f"difference of {label}")
        left.set_yticks(range(len(names)), [n.replace("_", " ") for n in names])
        left.set_ylim(len(names) - 0.5, -0.5)
        for tick, name in zip(left.get_yticklabels(), names, strict=True):
            tick.set_fontweight("bold" if name == best else "normal")
            tick.set_color(MODEL if name == results.model else "black")
    panels[0, 0].set_title("held-out score")
    panels[0, 1].set_title("model minus baseline, paired")
    return figure


def _draw(axes: Axes, table: pd.DataFrame, results: RunResults) -> None:
    """Draw a column a row of the panel: points, mean and interval."""
    axes.locator_params(axis="x", nbins=6)
    axes.grid(axis="x", color="#e0e0e0", linewidth=0.5)
    axes.set_axisbelow(True)
    for position, name in enumerate(table):
        values = table[name].dropna().to_numpy(float)
        if not len(values):
            continue
        color = MODEL if name == results.model else "black"
        scatter = np.linspace(-0.18, 0.18, len(values)) if len(values) > 1 else np.zeros(1)
        axes.plot(values, position + scatter, ".", color=GREY, markersize=4, zorder=2)
        axes.plot(values.mean(), position, "D", color=color, markersize=4.5, zorder=4)
        low, high = bootstrap_interval(values, seed=results.seed)
        if np.isfinite(low):
            axes.hlines(position, low, high, color=color, linewidth=2, zorder=3)
