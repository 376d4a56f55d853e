"""What figures of latents share: a colour for each kind, and which held-out windows to show."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from neuropipe.errors import DataError
from neuropipe.latents import held_out_latents
from neuropipe.results import RunResults

COLORS = {"shared": "#009E73", "neural": "#0072B2", "behavior": "#D55E00"}
MODALITIES = {"neural": "neural activity", "behavior": "behaviour"}
MEASURED, PREDICTED = "#8a8a8a", "#0072B2"
MOST_WINDOWS = 4
MOST_BINS = 250  # of a window


def color_of(kind: str) -> str:
    """Return the colour of a kind of latents."""
    return COLORS.get(kind, "#000000")


def shown_session(results: RunResults, *needed: str) -> tuple[str, int, xr.Dataset]:
    """Return the first session with held-out latents, its fold and its estimates.

    Raises
    ------
    DataError
        There are none, or they lack a needed variable.
    """
    found = held_out_latents(results)
    if not found:
        raise DataError("This run left no latents of held-out bins, so there is nothing to draw.")
    session, (fold, estimate) = next(iter(found.items()))
    missing = [name for name in needed if name not in estimate]
    if missing:
        raise DataError(
            f"The estimates of this run have no {', '.join(missing)}, so there is nothing to draw "
            "here."
        )
    return session, fold, estimate


def shown_windows(estimate: xr.Dataset, most: int = MOST_WINDOWS) -> list[slice]:
    """Return a few windows of usual length, evenly over the held-out data, as positions on time.

    Windows longer than 250 bins are shown from their beginning; of a single long one several
    stretches are shown.
    """
    window = estimate["window"].values
    edge = np.flatnonzero(np.diff(window)) + 1
    starts = np.concatenate([[0], edge])
    stops = np.concatenate([edge, [len(window)]])
    if len(starts) < most and (stops - starts).max() > 2 * MOST_BINS:
        pieces = [
            (s, min(s + MOST_BINS, b))
            for a, b in zip(starts, stops, strict=True)
            for s in range(a, b, MOST_BINS)
        ]
        starts, stops = (np.array(x) for x in zip(*pieces, strict=True))
    length = stops - starts
    usual = np.flatnonzero(length >= 0.8 * np.median(length))
    chosen = usual[np.unique(np.linspace(0, len(usual) - 1, most).round().astype(int))]
    return [slice(int(starts[k]), int(min(stops[k], starts[k] + MOST_BINS))) for k in chosen]


def columns_of(windows: list[slice]) -> list[float]:
    """Return the relative widths of panels, so that time has one scale in all of them."""
    return [float(max(part.stop - part.start, 2)) for part in windows]


def side_label(axes: Axes, text: str, color: str = "black") -> None:
    """Write a label at the left of a panel, upright."""
    axes.set_ylabel(text, rotation=0, ha="right", va="center", color=color)
