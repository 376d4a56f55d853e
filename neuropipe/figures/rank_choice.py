"""How the number of components was chosen."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neuropipe.components import component_fits
from neuropipe.errors import DataError
from neuropipe.figures.fits import fitted
from neuropipe.figures.style import drawn, new_figure, state_colors, whole_ticks
from neuropipe.results import RunResults

MIN_STABILITY = 0.8  # where the settings do not say


@drawn
def plot(results: RunResults) -> Figure:
    """How the rank, the number of components, was chosen inside the training data, a colour a
    fold; a ring marks the fold's choice. Left: explained variance of hidden entries (a share of
    the neurons in each animal and block of time, refitted without them), mean over the draws
    with its standard deviation. Middle: how alike the factors of the best random start are to
    those of the others; below the dashed line a rank counts as unstable. Right: the published
    criterion, the sum of the variances of the patterns' principal components over the largest
    one, mean over starts with its standard deviation; its knee is where further patterns add
    little.

    Parameters
    ----------
    results : RunResults
        `parameters` with ``rank_stability (rank)``, ``rank_nuclear (rank, restart)`` and perhaps
        ``rank_held_out (rank, repeat)``.
    """
    first = fitted(results, "membership")
    fits = {
        fold: parameters
        for fold, parameters in component_fits(results).items()
        if "rank_stability" in parameters
    }
    if not fits:
        raise DataError(
            f"The rank was set to {first.sizes['component']}; give several numbers as `rank` to "
            "have one chosen."
        )
    figure = new_figure(2.5)
    hidden, stability, nuclear = figure.subplots(1, 3)
    colors = state_colors(len(fits))
    shift = np.linspace(-0.12, 0.12, len(fits)) if len(fits) > 1 else np.zeros(1)
    for (fold, parameters), color, aside in zip(fits.items(), colors, shift, strict=True):
        rank = parameters["rank"].values
        step = aside * (np.diff(rank).min() if len(rank) > 1 else 1)
        chosen = rank == parameters.sizes["component"]
        for axes, name, over in (
            (hidden, "rank_held_out", "repeat"),
            (stability, "rank_stability", None),
            (nuclear, "rank_nuclear", "restart"),
        ):
            if name in parameters:
                label = f"fold {fold}" if axes is stability else None
                _draw(axes, parameters[name], over, rank + step, chosen, color, label)
    least = float(results.settings.get("parameters", {}).get("min_stability", MIN_STABILITY))
    stability.axhline(least, color="black", linewidth=0.7, linestyle="--", zorder=0)
    stability.set_ylim(None, 1.02)
    if not hidden.lines:
        hidden.text(0.5, 0.5, "no entries\nwere hidden", ha="center", va="center",
                    transform=hidden.transAxes)  # fmt: skip
    hidden.set(ylabel="explained variance\nof hidden entries (dimensionless)", title="prediction")
    stability.set(ylabel="similarity of starts\n(dimensionless)", title="stability")
    nuclear.set(ylabel="variances over the largest\n(dimensionless)", title="published criterion")
    stability.legend(loc="best", ncols=2 if len(fits) > 4 else 1)
    for axes in (hidden, stability, nuclear):
        axes.set_xlabel("rank")
        whole_ticks(axes)
    return figure


def _draw(
    axes: Axes,
    curve: xr.DataArray,
    over: str | None,
    rank: np.ndarray,
    chosen: np.ndarray,
    color: str,
    label: str | None,
) -> None:
    mean = (curve.mean(over) if over else curve).values
    if over and curve.sizes[over] > 1:
        sd = curve.std(over, ddof=1).values
        axes.vlines(rank, mean - sd, mean + sd, color=color, linewidth=0.8)
    axes.plot(rank, mean, ".-", color=color, markersize=4, label=label)
    axes.plot(
        rank[chosen], mean[chosen], "o", markersize=8, markerfacecolor="none", color=color,
        markeredgewidth=1.2,
    )  # fmt: skip
