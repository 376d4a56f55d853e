"""How many labels a decoder of behaviour needs."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from neuropipe.errors import DataError
from neuropipe.figures.style import drawn, new_figure, state_colors
from neuropipe.results import RunResults


@drawn
def plot(results: RunResults) -> Figure:
    """Behaviour decoded after few labels, the first ones of the training data: Pearson's r of a
    later part of the training data that no fit was shown, by a network whose trunk was pretrained
    on spikes alone, and by the same network from scratch, with the same steps. Lines: mean over
    folds; dots: folds. Dashed: r that 5 of 100 circular shifts exceed, mean over folds and both
    networks; below it nothing was decoded. Where the pretrained line is above the other,
    pretraining saves labels.

    Parameters
    ----------
    results : RunResults
        `parameters` with ``few_shot_r`` and ``few_shot_null_r (start, label_share)``.
    """
    curves = [
        p[["few_shot_r", "few_shot_null_r"]]
        for (estimator, _), p in sorted(results.parameters.items())
        if estimator == results.model and "few_shot_r" in p
    ]
    if not curves:
        raise DataError("No few labels were tried; name shares as `few_shot` to have a curve.")
    figure = new_figure(2.7, 4.2)
    axes = figure.subplots()
    percent = 100 * curves[0]["label_share"].values
    starts = curves[0]["start"].values
    for color, start in zip(state_colors(len(starts)), starts, strict=True):
        values = np.stack([c["few_shot_r"].sel(start=start).values for c in curves])
        axes.plot(percent, values.mean(0), color=color, label=str(start))
        axes.plot(np.tile(percent, len(values)), values.ravel(), ".", color=color, markersize=4)
    null = np.stack([c["few_shot_null_r"].mean("start").values for c in curves]).mean(0)
    axes.plot(percent, null, color="black", linewidth=0.8, linestyle="--", zorder=0)
    axes.set_xscale("log")
    axes.minorticks_off()
    axes.set_xticks(percent, [f"{p:g}" for p in percent])
    axes.set(xlabel="labels (%)", ylabel="r of decoded behaviour (dimensionless)")
    axes.grid(color="#e0e0e0", linewidth=0.5)
    axes.legend(loc="best")
    return figure
