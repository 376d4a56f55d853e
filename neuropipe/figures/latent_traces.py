"""Latents over time, beside behaviour."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neuropipe.figures.fits import fitted
from neuropipe.figures.latents import (
    MEASURED,
    color_of,
    columns_of,
    shown_session,
    shown_windows,
    side_label,
)
from neuropipe.figures.style import drawn, new_figure, with_units
from neuropipe.latents import (
    halves,
    latent_names,
    measured_behavior,
    planted_latents,
    recovered_r2,
)
from neuropipe.results import RunResults

MOST_LATENTS = 8
MOST_CHANNELS = 4
PLANTED = "#000000"


@drawn
def plot(results: RunResults) -> Figure:
    """Latents over a few held-out windows of the first session, given all of its neural activity
    and behaviour there: posterior mean, and a band that holds the latent with 95% probability if
    the model is right (it leaves out that parameters are uncertain too). Colours tell shared,
    neural and behaviour latents; the scale of a latent is that of its prior, 1, and its sign
    means nothing. Below, in grey, the measured channels of behaviour. In simulated sessions the
    black line is the planted latent that goes best with the fitted one, brought to its scale
    over all held-out bins, which flatters it a little; the table of recovery does not.

    Parameters
    ----------
    results : RunResults
        `estimates` with ``latent`` and ``latent_sd (time, latent)``, ``window (time)``, coord
        ``kind (latent)``; `recordings` with ``behavior``.
    """
    fitted(results, "length_scale", "variance_explained")
    session, fold, estimate = shown_session(results, "latent", "latent_sd")
    windows = shown_windows(estimate)
    shown = min(estimate.sizes["latent"], MOST_LATENTS)
    measured = np.zeros((estimate.sizes["time"], 0))
    if "channel" in estimate.coords:
        measured = measured_behavior(results, session, estimate)
    channels = [k for k in range(measured.shape[1]) if np.isfinite(measured[:, k]).any()]
    channels = channels[:MOST_CHANNELS]
    n_rows = shown + len(channels)
    figure = new_figure(0.8 + 0.55 * n_rows)
    panels = figure.subplots(
        n_rows, len(windows), squeeze=False, sharey="row", sharex="col",
        width_ratios=columns_of(windows),
    )  # fmt: skip
    _draw_latents(panels[:shown], estimate, windows)
    _draw_planted(panels[:shown], results, session, estimate, windows)
    for row, channel in zip(panels[shown:], channels, strict=True):
        for axes, part in zip(row, windows, strict=True):
            axes.plot(_time(estimate, part), measured[part, channel], color=MEASURED)
        name = str(estimate["channel"].values[channel]).replace("_", " ")
        side_label(row[0], with_units(name, _unit(estimate, channel)).replace(" (", "\n("))
    for axes, part in zip(panels[0], windows, strict=True):
        axes.set_title(f"from {float(estimate['time'].values[part.start]):.4g} s")
    figure.supxlabel("time in window (s)", fontsize=8)
    left_out = estimate.sizes["latent"] - shown
    more = f"; {left_out} more latents not drawn" if left_out else ""
    figure.suptitle(
        f"session {session}, held out in fold {fold}{more}", fontsize=8.5, x=0.01, ha="left"
    )
    if planted_latents(results, session, estimate["time"].values) is not None:
        handle = panels[0, 0].plot([], [], color=PLANTED, linewidth=0.8, label="planted")
        figure.legend(handles=handle, loc="outside upper right")
    return figure


def _time(estimate: xr.Dataset, part: slice) -> np.ndarray:
    time = estimate["time"].values[part]
    return np.asarray(time - time[0])


def _unit(estimate: xr.Dataset, channel: int) -> str:
    if "channel_unit" not in estimate.coords:
        return "1"
    return str(estimate["channel_unit"].values[channel])


def _draw_latents(panels: np.ndarray, estimate: xr.Dataset, windows: list[slice]) -> None:
    mean = estimate["latent"].transpose("time", "latent").values
    half = 1.96 * estimate["latent_sd"].transpose("time", "latent").values
    kinds = [str(kind) for kind in estimate["kind"].values]
    names = latent_names(estimate)
    for k, row in enumerate(panels):
        color = color_of(kinds[k])
        for axes, part in zip(row, windows, strict=True):
            line, band, time = mean[part, k], half[part, k], _time(estimate, part)
            axes.fill_between(time, line - band, line + band, color=color, alpha=0.25, linewidth=0)
            axes.plot(time, line, color=color)
            axes.axhline(0, color="black", linewidth=0.4, zorder=0)
            axes.locator_params(axis="y", nbins=3)
            axes.locator_params(axis="x", nbins=4)
        side_label(row[0], f"{names[k]}\n(dimensionless)", color)


def _draw_planted(
    panels: np.ndarray,
    results: RunResults,
    session: str,
    estimate: xr.Dataset,
    windows: list[slice],
) -> None:
    """Draw each planted latent over the fitted one that it goes best with."""
    time = estimate["time"].values
    planted = planted_latents(results, session, time)
    if planted is None:
        return
    latent = estimate["latent"].transpose("time", "latent").values
    single, match = recovered_r2(latent, planted[0], halves(estimate["window"].values))[1:]
    for k in np.argsort(np.nan_to_num(single)):  # where several go with one, the best on top
        if not 0 <= match[k] < len(panels):
            continue
        slope, level = np.polyfit(planted[0][:, k], latent[:, match[k]], 1)
        for axes, part in zip(panels[match[k]], windows, strict=True):
            for old in [line for line in axes.lines if line.get_gid() == "planted"]:
                old.remove()
            _line(axes, _time(estimate, part), slope * planted[0][part, k] + level)


def _line(axes: Axes, time: np.ndarray, values: np.ndarray) -> None:
    axes.plot(time, values, color=PLANTED, linewidth=0.8, gid="planted")
