"""Behaviour as the model sees it."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
from neuropipe.figures.style import SEQUENTIAL, drawn, heat, new_figure, with_units
from neuropipe.latents import measured_behavior
from neuropipe.results import RunResults

MOST_CHANNELS = 5
MOST_FRAMES = 8


@drawn
def plot(results: RunResults) -> Figure:
    """Behaviour as the model sees it, over a few held-out windows of the first session: measured
    in grey, reconstructed in blue. Right: reconstructed against measured over all held-out bins
    of the session (darker: more bins) and the share of variance explained, R2; on the line they
    agree. The model was given this very behaviour, beside the neural activity, so this shows what
    its latents can hold, not what they predict; the score `behavior from neural` tells that. Of
    many channels the first are shown. Video is shown as frames, measured above, reconstructed
    below.

    Parameters
    ----------
    results : RunResults
        `estimates` with ``behavior (time, channel)`` and ``window (time)``; `recordings` with
        ``behavior``; setting ``image_shape`` for video.
    """
    fitted(results, "length_scale", "variance_explained")
    session, fold, estimate = shown_session(results, "behavior")
    measured = measured_behavior(results, session, estimate)
    found = estimate["behavior"].transpose("time", "channel").values
    channels = np.flatnonzero(np.isfinite(measured).any(0))
    if not len(channels):
        raise DataError("The recordings of this run hold no measured behaviour to compare with.")
    shape = results.settings.get("parameters", {}).get("image_shape")
    if shape is not None and len(channels) == int(np.prod(shape)) == measured.shape[1]:
        return _frames(measured, found, estimate, (int(shape[0]), int(shape[1])))
    channels = channels[:MOST_CHANNELS]
    windows = shown_windows(estimate, 3)
    figure = new_figure(0.7 + 0.85 * len(channels))
    widths = np.array(columns_of(windows))
    panels = figure.subplots(
        len(channels), len(windows) + 1, squeeze=False,
        width_ratios=[*(5 * widths / widths.sum()), 1.1],
    )  # fmt: skip
    for row, channel in zip(panels, channels, strict=True):
        units = str(estimate["channel_unit"].values[channel]) if (
            "channel_unit" in estimate.coords
        ) else "1"  # fmt: skip
        name = str(estimate["channel"].values[channel]).replace("_", " ")
        for axes, part in zip(row[:-1], windows, strict=True):
            time = estimate["time"].values[part]
            axes.plot(time - time[0], measured[part, channel], color=MEASURED, linewidth=1.6)
            axes.plot(time - time[0], found[part, channel], color=PREDICTED, linewidth=1.0)
            axes.sharey(row[0])
            axes.locator_params(nbins=4)
            axes.tick_params(labelbottom=channel == channels[-1], labelleft=axes is row[0])
        side_label(row[0], with_units(name, units).replace(" (", "\n("))
        _scatter(row[-1], measured[:, channel], found[:, channel])
    panels[-1, len(windows) // 2].set_xlabel("time in window (s)")
    panels[-1, -1].set_xlabel("measured")
    for axes, part in zip(panels[0, :-1], windows, strict=True):
        axes.set_title(f"from {float(estimate['time'].values[part.start]):.4g} s")
    for label, color in (("measured", MEASURED), ("reconstructed", PREDICTED)):
        panels[0, 0].plot([], [], color=color, label=label)
    figure.suptitle(f"session {session}, held out in fold {fold}", fontsize=8.5, x=0.01, ha="left")
    figure.legend(loc="outside upper right", ncols=2)
    return figure


def _scatter(axes: Axes, measured: np.ndarray, found: np.ndarray) -> None:
    seen = np.isfinite(measured)
    x, y = measured[seen], found[seen]
    axes.hexbin(x, y, gridsize=25, bins="log", cmap="Greys", linewidths=0.1, mincnt=1)
    low, high = min(x.min(), y.min()), max(x.max(), y.max())
    axes.plot([low, high], [low, high], color=PREDICTED, linewidth=0.8)
    total = float(((x - x.mean()) ** 2).sum())
    r2 = 1 - float(((x - y) ** 2).sum()) / total if total > 0 else float("nan")
    axes.set_title(f"R2 = {r2:.2f}", fontsize=7)
    axes.set_ylabel("reconstructed", fontsize=7)
    axes.locator_params(nbins=3)


def _frames(
    measured: np.ndarray, found: np.ndarray, estimate: xr.Dataset, shape: tuple[int, int]
) -> Figure:
    whole = np.flatnonzero(np.isfinite(measured).all(1))
    at = whole[np.unique(np.linspace(0, len(whole) - 1, MOST_FRAMES).round().astype(int))]
    figure = new_figure(1.9)
    panels = figure.subplots(2, len(at), squeeze=False)
    low, high = np.quantile(measured[at], [0.005, 0.995])
    for column, bin_number in enumerate(at):
        for axes, values in zip(panels[:, column], (measured, found), strict=True):
            image = heat(axes, values[bin_number].reshape(shape), cmap=SEQUENTIAL,
                         vmin=low, vmax=high)  # fmt: skip
            axes.set(xticks=[], yticks=[])
        panels[0, column].set_title(f"{float(estimate['time'].values[bin_number]):.4g} s")
    for axes, label in zip(panels[:, 0], ("measured", "reconstructed"), strict=True):
        axes.set_ylabel(label)
    units = str(estimate["channel_unit"].values[0]) if "channel_unit" in estimate.coords else "1"
    figure.colorbar(image, ax=panels, label=with_units("pixel", units), shrink=0.8)
    return figure
