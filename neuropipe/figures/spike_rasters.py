"""Recorded spikes beside those that the model draws."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neuropipe.figures.held_out import held_out
from neuropipe.figures.style import STATES, drawn, new_figure, whole_ticks
from neuropipe.results import RunResults

LONGEST_S = 8.0
MOST_UNITS = 120


@drawn
def plot(results: RunResults) -> Figure:
    """Recorded spikes of up to 8 s of held-out time, and below a run that the model drew for the
    same time from its own past: it saw the stimulus and covariates, and none of these spikes. A
    dot is a bin with a spike; units stand in order of their rate, at most 120, the most active.
    Bottom: rate of all units together, recorded, expected by the model given all spikes before
    each bin, and mean of the drawn runs. First session and fold.

    Parameters
    ----------
    results : RunResults
        `estimates` with ``predicted_rate``, and ``generated_count`` and ``generated_rate`` where
        runs were drawn.
    """
    held = held_out(results, "predicted_rate")
    part = held.span(LONGEST_S)
    time = held.time[part]
    order = np.argsort(held.counts.mean(0), kind="stable")[-MOST_UNITS:]
    generated = "generated_count" in held.estimate
    rows = [("recorded", held.counts[part])]
    if generated:
        rows.append(("drawn", held.estimate["generated_count"].values[part]))
    height = 0.5 + min(max(len(order) * 0.035, 0.9), 2.2)
    figure = new_figure(height * len(rows) + 1.5)
    panels = figure.subplots(
        len(rows) + 1, 1, sharex=True, height_ratios=[height] * len(rows) + [1.2]
    )
    for axes, (name, counts) in zip(panels, rows, strict=False):
        _dots(axes, time, counts[:, order])
        axes.set_title(name)
        axes.set_ylabel("unit, by rate")
    axes = panels[-1]
    smooth = max(round(0.05 / held.bin_s), 1)
    rates = [("recorded", held.counts[part] / held.bin_s, "#444444"),
             ("expected", held.estimate["predicted_rate"].values[part], STATES[0])]  # fmt: skip
    if generated:
        rates.append(("drawn, mean", held.estimate["generated_rate"].values[part], STATES[1]))
    for name, rate, color in rates:
        total = np.convolve(rate.mean(1), np.ones(smooth) / smooth, "same")
        axes.plot(time, total, color=color, label=name, linewidth=0.9)
    axes.set(xlabel="time from session start (s)", ylabel="mean rate (Hz)", xlim=_ends(time))
    axes.legend(ncols=3, loc="upper right")
    axes.set_ylim(0, axes.get_ylim()[1] * 1.25)
    return figure


def _dots(axes: Axes, time: np.ndarray, counts: np.ndarray) -> None:
    bins, units = np.nonzero(counts)
    size = float(np.clip(90 / max(counts.shape[1], 1), 0.6, 5.0))
    axes.scatter(time[bins], units, s=size, color="#222222", linewidths=0, rasterized=True)
    axes.set_ylim(-0.8, counts.shape[1] - 0.2)
    whole_ticks(axes, "y", 5)


def _ends(time: np.ndarray) -> tuple[float, float]:
    return float(time[0]), float(time[-1]) if len(time) > 1 else float(time[0]) + 1
