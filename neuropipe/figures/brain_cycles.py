"""Patterns that were sent through other brains and back."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neuropipe.errors import DataError
from neuropipe.figures.style import SEQUENTIAL, drawn, heat, new_figure, state_colors
from neuropipe.results import RunResults


@drawn
def plot(results: RunResults) -> Figure:
    """Held-out patterns on their way through other brains, mean over stimuli and folds. Left: two-
    way identification of the image when the pattern of the row's subject is turned into one of
    the column's subject and decoded as that subject's; on the diagonal the subject's own pattern
    is decoded directly; chance is one half. Middle: correlation over voxels of the measured
    pattern with what comes back after the way to the column's brain and home again; on the
    diagonal it is only built back from its own code. Right: the same correlations, stimulus by
    stimulus: own code against the mean over other brains; points on the line lose nothing on
    the way.

    Parameters
    ----------
    results : RunResults
        `estimates` with ``transfer_two_way`` and ``cycle_correlation (trial, through)``.
    """
    parts = [
        e for _, e in sorted(results.estimates.items(), key=lambda item: item[0][::-1])
        if "cycle_correlation" in e
    ]  # fmt: skip
    if not parts:
        raise DataError("This run built no patterns of other brains: that takes the mode bridge.")
    names = [str(n) for n in parts[0]["through"].values]
    figure = new_figure(2.6)
    share, back, points = figure.subplots(1, 3, width_ratios=(5, 5, 4))
    _matrix(figure, share, _table(parts, names, "transfer_two_way"), names, (0.5, 1.0),
            "two-way identification")  # fmt: skip
    table = _table(parts, names, "cycle_correlation")
    _matrix(figure, back, table, names, (0.0, float(np.nanmax(table))), "correlation")
    share.set_title("decoded as another's")
    back.set_title("there and back")
    colors = dict(zip(names, state_colors(len(names)), strict=True))
    low, high = 0.0, 0.0
    for name in names:
        own = [e["cycle_correlation"] for e in parts if e.attrs.get("subject") == name]
        if not own or len(names) < 2:
            continue
        direct = np.concatenate([v.values[:, names.index(name)] for v in own])
        others = np.concatenate(
            [np.delete(v.values, names.index(name), axis=1).mean(1) for v in own]
        )
        points.plot(direct, others, ".", color=colors[name], markersize=2.5, alpha=0.6,
                    label=f"subject {name}")  # fmt: skip
        low, high = min(low, direct.min(), others.min()), max(high, direct.max(), others.max())
    points.plot([low, high], [low, high], color="black", linewidth=0.7)
    points.set(xlabel="r from own code", ylabel="r after other brains")
    points.set_box_aspect(1)
    if points.get_legend_handles_labels()[0]:
        points.legend(fontsize=5.5, loc="upper left", handletextpad=0.2)
    return figure


def _table(parts: list[xr.Dataset], names: list[str], variable: str) -> np.ndarray:
    """Return the mean over stimuli and folds, (subject, through)."""
    out = np.full((len(names), len(names)), np.nan)
    for row, name in enumerate(names):
        own = [e[variable].values for e in parts if e.attrs.get("subject") == name]
        if own:
            out[row] = np.concatenate(own).mean(0)
    return out


def _matrix(
    figure: Figure, axes: Axes, table: np.ndarray, names: list[str],
    span: tuple[float, float], label: str,
) -> None:  # fmt: skip
    image = heat(axes, table, cmap=SEQUENTIAL, vmin=span[0], vmax=max(span[1], span[0] + 1e-6))
    for (row, column), value in np.ndenumerate(table):
        if np.isfinite(value) and len(names) <= 8:
            bright = value > span[0] + 0.6 * (span[1] - span[0])
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=6,
                      color="black" if bright else "white")  # fmt: skip
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize=6)
    axes.set_yticks(range(len(names)), names, fontsize=6)
    axes.set(xlabel="through subject", ylabel="subject")
    figure.colorbar(image, ax=axes, label=label, aspect=20, shrink=0.8)
