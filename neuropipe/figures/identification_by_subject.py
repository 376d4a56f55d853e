"""Identification of held-out stimuli in each subject."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from neuropipe.errors import DataError
from neuropipe.figures.style import GREY, drawn, new_figure, state_colors
from neuropipe.identified import by_subject, each, held_out
from neuropipe.metrics import bootstrap_interval
from neuropipe.results import RunResults

MODEL = "#0072B2"


@drawn
def plot(results: RunResults) -> Figure:
    """Two-way identification of held-out stimuli by subject: how often the right image is more
    similar to what the brain was decoded to than another held-out one. Left: the model in blue
    with its 95% bootstrap interval over stimuli, and its baselines, mean over folds; dashed:
    chance, one half. Right: the model's share of other images that are farther than the right
    one, for every held-out stimulus, sorted; the area under a line is the left panel's number.

    Parameters
    ----------
    results : RunResults
        `estimates` with ``predicted_image``; `scores` with ``two_way_image`` for the baselines.
    """
    groups = by_subject(held_out(results))
    if not groups:
        raise DataError("This run predicted no embeddings, so no image is identified by them.")
    figure = new_figure(0.9 + 0.45 * max(len(groups), 4))
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    rows = results.scores[results.scores["metric"] == "two_way_image"]
    others = [n for n in dict.fromkeys(rows["estimator"]) if n != results.model]
    offsets = np.linspace(0.32, -0.32, len(others) + 1) if others else np.zeros(1)
    marks = "osv^Dp"
    for place, (name, own) in enumerate(groups.items()):
        value = np.concatenate([each(h, "two_way_image", 2) for h in own])
        low, high = bootstrap_interval(value, seed=results.seed)
        y = place - offsets[0]
        left.hlines(y, low, high, color=MODEL, linewidth=2)
        left.plot(value.mean(), y, "D", color=MODEL, markersize=4.5,
                  label=results.model if place == 0 else None)  # fmt: skip
        sessions = {h.session for h in own}
        mine = rows[rows["session"].isin(sessions)]
        for n, other in enumerate(others):
            score = mine.loc[mine["estimator"] == other, "value"].astype(float).mean()
            label = other.replace("_", " ") if place == 0 else None
            left.plot(score, place - offsets[n + 1], marks[n % len(marks)], color=GREY,
                      markersize=4, label=label)  # fmt: skip
        color = state_colors(len(groups))[place]
        right.plot(np.linspace(0, 1, len(value)), np.sort(value)[::-1], color=color,
                   label=f"subject {name}")  # fmt: skip
    left.axvline(0.5, color="black", linewidth=0.8, linestyle="--", zorder=0)
    left.set_yticks(range(len(groups)), list(groups))
    left.set_ylim(len(groups) - 0.5, -0.5)
    left.set(xlabel="two-way identification (dimensionless)", ylabel="subject")
    left.grid(axis="x", color="#e0e0e0", linewidth=0.5)
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper left", fontsize=6.5,
                  ncols=len(others) + 1)  # fmt: skip
    right.axhline(0.5, color="black", linewidth=0.8, linestyle="--", zorder=0)
    right.set(xlabel="held-out stimuli, best first (share)", ylabel="images farther (share)",
              ylim=(0, 1.03))  # fmt: skip
    right.legend(loc="lower left", fontsize=6)
    return figure
