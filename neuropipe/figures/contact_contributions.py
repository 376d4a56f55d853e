"""Which contacts the classes come from, along the shafts and in space."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neuropipe.decoded import contact_table
from neuropipe.errors import DataError
from neuropipe.figures.style import GREY, SEQUENTIAL, drawn, name_ticks, new_figure
from neuropipe.results import RunResults

FOUND = 0.05
MOST_SHAFTS = 6
MODEL = "#0072B2"
PLANTED = "#D55E00"


@drawn
def plot(results: RunResults) -> Figure:
    """Contribution of each contact that any fold kept, mean over folds: by how much the contact's
    signal raises the log chance of its trial's class when another trial is given it, among trials
    that were not fitted. Top: along each shaft, in the order of the recording; filled where the
    false discovery rate over all contacts is below 5%. Grey diamonds, on the right axis, are the
    published score, the mean size of the contact's weights, which has no null. Where no contact was
    tested, weights are all there is. Bottom: the same contacts in space, seen from the front and
    from the side; rings mark found ones. In planted sessions crosses mark contacts that carry
    the classes. A bipolar channel lies half way between its contacts.

    Parameters
    ----------
    results : RunResults
        `parameters` with ``contact_weight (channel)`` and perhaps ``contact_contribution``,
        ``contact_z``.
    """
    table = contact_table(results)
    if not len(table):
        raise DataError("This run's model says nothing of single contacts.")
    tested = table["contact_contribution"].notna().any()
    table["value"] = table["contact_contribution" if tested else "contact_weight"]
    table["found"] = table["q_value"] < FOUND
    table["planted"] = _planted(results, table)
    table["on"] = table["shaft"].astype(str) if "shaft" in table else "all"
    table["on"] = table["subject"].astype(str) + " " + table["on"] if (
        table["subject"].nunique() > 1
    ) else table["on"]  # fmt: skip
    shafts = list(dict.fromkeys(table["on"]))[:MOST_SHAFTS]
    placed = {*"xyz"} <= set(table) and bool(table[[*"xyz"]].notna().all(axis=None))
    figure = new_figure(5.2 if placed else 2.6)
    grid = figure.add_gridspec(2 if placed else 1, 1, height_ratios=(1, 1.1)[: 1 + placed])
    sizes = [int((table["on"] == s).sum()) + 1 for s in shafts]
    upper = grid[0].subgridspec(1, len(shafts), width_ratios=sizes)
    panels = upper.subplots(sharey=True, squeeze=False)[0]
    label = "rise of the log chance (nats)" if tested else "mean size of weights (dimensionless)"
    for axes, shaft in zip(panels, shafts, strict=True):
        last = axes is panels[-1]
        _along(axes, table[table["on"] == shaft], tested=bool(tested), right=last)
        axes.set_title(f"shaft {shaft}" if "shaft" in table else shaft)
    panels[0].set_ylabel(label)
    if placed:
        _in_space(figure, grid[1].subgridspec(1, 2).subplots(), table, label)
    return figure


def _planted(results: RunResults, table: pd.DataFrame) -> np.ndarray:
    """Say which channels have a contact that was planted to carry the classes."""
    carry = {
        str(name)
        for truth in results.truth.values()
        if "is_speech" in truth
        for name in truth["channel"].values[truth["is_speech"].values]
    }
    names = table["channel"].astype(str)
    return np.array([bool(carry & {n, *n.split("-")}) for n in names], bool)


def _along(axes: Axes, rows: pd.DataFrame, *, tested: bool, right: bool) -> None:
    """Draw the contacts of one shaft."""
    at, value = np.arange(len(rows)), rows["value"].to_numpy(float)
    found, planted = rows["found"].to_numpy(bool), rows["planted"].to_numpy(bool)
    axes.axhline(0, color="black", linewidth=0.6, zorder=0)
    axes.plot(at, value, color=MODEL, linewidth=0.8, zorder=1)
    axes.plot(at[found], value[found], "o", color=MODEL, markersize=5)
    axes.plot(at[~found], value[~found], "o", color=MODEL, markersize=5, markerfacecolor="white")
    if planted.any():
        low = np.full(planted.sum(), 0.03)
        axes.plot(at[planted], low, "x", color=PLANTED, markersize=4,
                  transform=axes.get_xaxis_transform())  # fmt: skip
    if tested:
        twin = axes.twinx()
        twin.plot(at, rows["contact_weight"], "D", color=GREY, markersize=2.5)
        twin.set_ylim(0, 1.6)
        twin.spines["right"].set_visible(right)
        twin.tick_params(right=right, labelright=right, colors=GREY)
        if right:
            twin.set_ylabel("mean size of weights\n(dimensionless)", color=GREY)
    axes.set_xlim(-0.6, len(rows) - 0.4)
    name_ticks(axes, "x", rows["channel"].to_numpy(), 12)
    axes.tick_params(axis="x", rotation=90)


def _in_space(figure: Figure, panels: Any, table: pd.DataFrame, label: str) -> None:
    """Draw the contacts from the front and from the side."""
    front, side = panels
    value = table["value"].to_numpy(float)
    for axes, (across, up), title in (
        (front, ("x", "z"), "from the front"),
        (side, ("y", "z"), "from the side"),
    ):
        a, b = table[across].to_numpy(float), table[up].to_numpy(float)
        ring = np.where(table["found"], "black", "none")
        order = np.argsort(value)
        dots = axes.scatter(
            a[order], b[order], c=value[order], cmap=SEQUENTIAL, s=28, edgecolors=ring[order],
            linewidths=1.0,
        )  # fmt: skip
        on = table["planted"].to_numpy(bool)
        if on.any():
            axes.plot(a[on], b[on], "x", color=PLANTED, markersize=4)
        axes.set(xlabel=f"{across} (mm)", ylabel=f"{up} (mm)", title=title)
        axes.set_aspect("equal", adjustable="datalim")
    figure.colorbar(dots, ax=[front, side], label=label, shrink=0.9)
