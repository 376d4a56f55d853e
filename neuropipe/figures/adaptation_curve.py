"""How many stimuli a new subject needs."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from neuropipe.errors import DataError
from neuropipe.figures.style import drawn, new_figure, state_colors
from neuropipe.results import RunResults


@drawn
def plot(results: RunResults) -> Figure:
    """A new subject by the number of its stimuli: two-way identification of other stimuli of the
    same subject, which no fit was shown, all inside the training data. The bridge of the other
    subjects adapted to the new one, the same network trained on the new one alone, and ridge
    regression, all with the same trials. Lines: mean over folds; dots: folds. Dashed: chance, one
    half. Where the adapted line is above the others, what other brains taught saves trials.

    Parameters
    ----------
    results : RunResults
        `parameters` with ``adaptation_two_way (approach, n_stimuli)``.
    """
    curves = [
        p["adaptation_two_way"]
        for (estimator, _), p in sorted(results.parameters.items())
        if estimator == results.model and "adaptation_two_way" in p
    ]
    if not curves:
        raise DataError(
            "No adaptation was tried; name numbers of stimuli as `adaptation_trials` to have one."
        )
    figure = new_figure(2.7, 4.2)
    axes = figure.subplots()
    number = curves[0]["n_stimuli"].values
    colors = state_colors(curves[0].sizes["approach"])
    for color, approach in zip(colors, curves[0]["approach"].values, strict=True):
        values = np.stack([c.sel(approach=approach).values for c in curves])
        axes.plot(number, values.mean(0), color=color, label=str(approach))
        axes.plot(np.tile(number, len(values)), values.ravel(), ".", color=color, markersize=4)
    axes.axhline(0.5, color="black", linewidth=0.8, linestyle="--", zorder=0)
    axes.set_xticks(number, [str(n) for n in number])
    axes.set(xlabel="stimuli of the new subject", ylabel="two-way identification (dimensionless)")
    axes.grid(color="#e0e0e0", linewidth=0.5)
    axes.legend(loc="best")
    return figure
