"""Whether expected and drawn counts are those that were recorded."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neuropipe.figures.held_out import HeldOut, held_out
from neuropipe.figures.style import GREY, STATES, drawn, new_figure
from neuropipe.results import RunResults

N_LEVELS = 12
MOST_BARS = 40


@drawn
def plot(results: RunResults) -> Figure:
    """Calibration in held-out time. Left: bins of single units sorted by their expected count, in
    twelve parts of equal size; recorded mean of each part against the expected one, with two
    standard errors; on the line the model is right. Middle: mean rate of each unit, recorded
    against expected, and against drawn runs where there are any. Right: how many windows hold how
    many spikes of all units, recorded, and drawn by the model from its own past. First session and
    fold.

    Parameters
    ----------
    results : RunResults
        `estimates` with ``predicted_rate``, and ``generated_count`` where runs were drawn.
    """
    held = held_out(results, "predicted_rate")
    figure = new_figure(2.5)
    left, middle, right = figure.subplots(1, 3)
    _reliability(left, held)
    _rates(middle, held)
    _windows(right, held)
    return figure


def _reliability(axes: Axes, held: HeldOut) -> None:
    expected = held.estimate["predicted_rate"].values.ravel() * held.bin_s
    counts = held.counts.ravel()
    order = np.argsort(expected, kind="stable")
    parts = np.array_split(order, min(N_LEVELS, len(order)))
    x = np.array([expected[p].mean() for p in parts])
    y = np.array([counts[p].mean() for p in parts])
    error = np.array([2 * counts[p].std() / np.sqrt(len(p)) for p in parts])
    positive = (x > 0) & (y > 0)
    ends = [x[positive].min(initial=1.0) / 1.5, max(x.max(), y.max(), 1e-6) * 1.5]
    axes.plot(ends, ends, color=GREY, linewidth=0.8)
    low = np.minimum(error[positive], 0.9 * y[positive])
    axes.errorbar(
        x[positive], y[positive], [low, error[positive]], fmt="o", markersize=3, color=STATES[0],
        linewidth=0.8,
    )  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="expected (spikes/bin)",
             ylabel="recorded (spikes/bin)", title="single bins")  # fmt: skip


def _rates(axes: Axes, held: HeldOut) -> None:
    recorded = held.counts.mean(0) / held.bin_s
    pairs = [("expected", held.estimate["predicted_rate"].values.mean(0), STATES[0])]
    if "generated_rate" in held.estimate:
        pairs.append(("drawn", held.estimate["generated_rate"].values.mean(0), STATES[1]))
    top = max(recorded.max(), *(p[1].max() for p in pairs), 1e-6) * 1.08
    axes.plot([0, top], [0, top], color=GREY, linewidth=0.8)
    for name, rate, color in pairs:
        axes.scatter(rate, recorded, s=9, color=color, linewidths=0, label=name, alpha=0.8)
    axes.set(xlabel="model (Hz)", ylabel="recorded (Hz)", title="units", xlim=(0, top),
             ylim=(0, top))  # fmt: skip
    axes.legend(loc="upper left")


def _windows(axes: Axes, held: HeldOut) -> None:
    window = held.windows()
    rows = [("recorded", held.counts, "#444444")]
    if "generated_count" in held.estimate:
        rows.append(("drawn", held.estimate["generated_count"].values, STATES[1]))
    totals = [(name, np.bincount(window, c.sum(1)), color) for name, c, color in rows]
    top = max(t.max() for _, t, _ in totals)
    step = max(int(np.ceil((top + 1) / MOST_BARS)), 1)
    edges = np.arange(-0.5, top + step + 0.5, step)
    for name, total, color in totals:
        share = np.histogram(total, edges)[0] / len(total)
        axes.stairs(share, edges, color=color, label=f"{name}, mean {total.mean():.3g}")
    axes.set(xlabel="spikes in a window", ylabel="share of windows", title="windows")
    axes.set_ylim(0, axes.get_ylim()[1] * 1.3)
    axes.legend(loc="upper right")
