"""Rates of held-out windows beside what was recorded."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter1d

from neuropipe.errors import DataError
from neuropipe.figures.fits import fitted
from neuropipe.figures.latents import (
    MEASURED,
    PREDICTED,
    columns_of,
    shown_session,
    shown_windows,
    side_label,
)
from neuropipe.figures.style import drawn, new_figure, with_units
from neuropipe.latents import measured_units
from neuropipe.results import RunResults

MOST_UNITS = 6
GROUPS = 12  # of bins of alike rates
LEAST_SD_BINS = 1.0


@drawn
def plot(results: RunResults) -> Figure:
    """Rates of a few held-out windows of the first session. Left: for units spread evenly from
    the busiest to the median one, the spikes as counted, smoothed by a Gaussian whose sd is half
    the shortest length scale of the latents, in grey, and the model's expected rate in blue
    (traces: as recorded, and expected). Right: bins of all units and held-out windows of the
    session, grouped by their expected rate, and the mean count of each group with two standard
    errors of a Poisson count; on the line the rates are right on average. The latents were
    inferred from all units, each unit's own spikes among them, so agreement is no proof of
    prediction; the score of co-smoothing tells that, where each unit is left out.

    Parameters
    ----------
    results : RunResults
        `estimates` with ``rate`` (or ``trace``) ``(time, unit)`` and ``window (time)``;
        `recordings` with the series that was modelled.
    """
    parameters = fitted(results, "length_scale", "variance_explained")
    session, fold, estimate = shown_session(results)
    name = next((n for n in ("rate", "trace") if n in estimate), None)
    if name is None:
        raise DataError("This run modelled behaviour alone, so there are no rates to draw.")
    recorded = measured_units(results, session, estimate)
    if recorded is None:
        raise DataError("The recordings of this run lack the units of its estimates.")
    found = estimate[name].transpose("time", "unit").values
    units = str(estimate[name].attrs.get("units", "1"))
    width = float(parameters.attrs.get("bin_width_s", 1.0))
    scale = 1 / width if name == "rate" else 1.0
    half = float(parameters["length_scale"].min()) / width / 2
    smoothed = recorded * scale
    if name == "rate":
        smoothed = scale * _smoothed(recorded, estimate, max(half, LEAST_SD_BINS))
    windows = shown_windows(estimate, 3)
    shown = _units(np.nansum(np.abs(recorded), 0))
    figure = new_figure(max(0.8 + 0.55 * len(shown), 2.6))
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(2.6, 1))[0]
    panels = left.subplots(
        len(shown), len(windows), squeeze=False, sharey="row", sharex="col",
        width_ratios=columns_of(windows),
    )  # fmt: skip
    for row, unit in zip(panels, shown, strict=True):
        for axes, part in zip(row, windows, strict=True):
            time = estimate["time"].values[part]
            axes.plot(time - time[0], smoothed[part, unit], color=MEASURED, linewidth=1.6)
            axes.plot(time - time[0], found[part, unit], color=PREDICTED, linewidth=1.0)
            axes.locator_params(nbins=3)
        if name == "rate":
            row[0].set_ylim(0, None)
        side_label(row[0], f"{estimate['unit'].values[unit]}")
    for axes, part in zip(panels[0], windows, strict=True):
        axes.set_title(f"from {float(estimate['time'].values[part.start]):.4g} s")
    left.supxlabel("time in window (s)", fontsize=8)
    left.supylabel(f"unit: {with_units(name, units)}", fontsize=8)
    for label, color in (("smoothed" if name == "rate" else "recorded", MEASURED),
                         ("expected", PREDICTED)):  # fmt: skip
        panels[0, 0].plot([], [], color=color, label=label)
    left.legend(loc="outside upper right", ncols=2)
    left.suptitle(f"session {session}, held out in fold {fold}", fontsize=8.5, x=0.01, ha="left")
    _calibration(right.subplots(), found, recorded * scale, name, units, width)
    return figure


def _smoothed(counts: np.ndarray, estimate: xr.Dataset, sd_bins: float) -> np.ndarray:
    """Filter counts (time, unit) within each window, missing bins left out of the averages."""
    out = np.full_like(counts, np.nan)
    window = estimate["window"].values
    edges = [0, *(np.flatnonzero(np.diff(window)) + 1), len(window)]
    for start, stop in pairwise(edges):
        block = counts[start:stop]
        seen = np.isfinite(block)
        total, weight = (
            gaussian_filter1d(x, sd_bins, axis=0, mode="constant")
            for x in (np.where(seen, block, 0.0), seen.astype(float))
        )
        out[start:stop] = np.where(weight > 1e-6, total / np.maximum(weight, 1e-6), np.nan)
    return out


def _units(total: np.ndarray) -> np.ndarray:
    """Return units from the busiest to the median one."""
    order = np.argsort(-total, kind="stable")[: max(-(-len(total) // 2), 1)]
    return order[np.unique(np.linspace(0, len(order) - 1, MOST_UNITS).round().astype(int))]


def _calibration(
    axes: Axes, found: np.ndarray, recorded: np.ndarray, name: str, units: str, width: float
) -> None:
    seen = np.isfinite(recorded)
    x, y = found[seen], recorded[seen]
    order = np.argsort(x, kind="stable")
    groups = [g for g in np.array_split(order, GROUPS) if len(g)]
    middle = np.array([x[g].mean() for g in groups])
    mean = np.array([y[g].mean() for g in groups])
    if name == "rate":
        error = 2 * np.sqrt(mean * width / [len(g) for g in groups]) / width
    else:
        error = np.array([2 * y[g].std() / np.sqrt(len(g)) for g in groups])
    axes.errorbar(middle, mean, error, fmt="o", color=PREDICTED, markersize=3.5, linewidth=0.9)
    low, high = min(middle.min(), mean.min()), max(middle.max(), mean.max())
    axes.axline((low, low), (high, high + (high == low)), color="black", linewidth=0.7, zorder=0)
    positive = middle.min() > 0 and mean.min() > 0 and name == "rate"
    if positive and high / low > 20:
        axes.set(xscale="log", yscale="log")
    label = with_units(name, units).replace(" (", "\n(")
    axes.set(xlabel=f"expected {label}", ylabel=f"recorded {label}", title="calibration")
    axes.set_box_aspect(1)
