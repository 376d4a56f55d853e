"""Which class is taken for which."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from neuropipe.decoded import held_out_trials
from neuropipe.errors import DataError
from neuropipe.figures.style import SEQUENTIAL, drawn, heat, name_ticks, new_figure
from neuropipe.results import RunResults

MOST_NAMES = 20


@drawn
def plot(results: RunResults) -> Figure:
    """Held-out trials of all sessions and folds: a row is what a trial was, a column what it was
    taken for, the colour the share of the row's trials; each row adds up to one. Labels that
    training did not show have a row and no column. Right: share of right ones by class, with its
    number of trials; the dashed line is the share that always naming the most frequent class would
    get.

    Parameters
    ----------
    results : RunResults
        `estimates` with ``class_probability (trial, class)`` and ``label (trial)``.
    """
    trials = held_out_trials(results)
    if not trials:
        raise DataError("This run has no held-out trial with a label.")
    label = np.concatenate([t.label for t in trials])
    guess = np.concatenate([t.guess for t in trials])
    columns = sorted({str(c) for t in trials for c in t.classes})
    rows = sorted(set(label), key=lambda n: (n not in columns, n))
    count = np.array([[np.sum((label == r) & (guess == c)) for c in columns] for r in rows])
    share = count / count.sum(1, keepdims=True)
    right = np.array([np.mean(guess[label == r] == r) for r in rows])
    figure = new_figure(3.4)
    left, side = figure.subplots(1, 2, width_ratios=(2.2, 1), sharey=True)
    image = heat(left, share, cmap=SEQUENTIAL, vmin=0, vmax=1, aspect="auto")
    figure.colorbar(image, ax=left, label="share of the row (dimensionless)", shrink=0.8)
    name_ticks(left, "x", columns, MOST_NAMES)
    name_ticks(left, "y", rows, MOST_NAMES)
    left.tick_params(axis="x", rotation=90)
    left.set(xlabel="taken for", ylabel="was", title=f"accuracy {np.mean(label == guess):.3f}")
    size = np.array([np.sum(label == r) for r in rows])
    side.barh(range(len(rows)), right, color="#0072B2", height=0.7)
    if len(rows) <= MOST_NAMES:
        for at, (value, n) in enumerate(zip(right, size, strict=True)):
            side.text(value + 0.02, at, str(n), va="center", fontsize=6, color="#555555")
    side.axvline(size.max() / size.sum(), color="black", linewidth=0.7, linestyle="--")
    side.set(xlabel="accuracy (dimensionless)", xlim=(0, 1.15), title="by class")
    return figure
