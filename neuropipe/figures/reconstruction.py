"""Voltages, and what the units keep of them."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from neuropipe.decoded import decoder_fits
from neuropipe.errors import DataError
from neuropipe.figures.style import GREY, drawn, new_figure
from neuropipe.results import RunResults

MOST = 6
MODEL = "#0072B2"


@drawn
def plot(results: RunResults) -> Figure:
    """A window that no stage was fitted on (it chose the epoch), first fold: recorded voltages in
    grey, in standard deviations of the training data, and in blue what is rebuilt from the codes
    alone, for up to six contacts of which most is rebuilt. Numbers are the explained share of the
    variance of this window. Codes keep what is common to contacts and repeats in time, so noise and
    slow drifts of single contacts are missing by design.

    Parameters
    ----------
    results : RunResults
        `parameters` with ``example_voltage (lag, contact)`` and ``example_reconstruction``.
    """
    fits = [p for p in decoder_fits(results).values() if "example_reconstruction" in p]
    if not fits:
        raise DataError("This run's model was fitted without a stage that rebuilds voltages.")
    value = fits[0]["example_voltage"].transpose("lag", "contact").values
    again = fits[0]["example_reconstruction"].transpose("lag", "contact").values
    lag = fits[0]["lag"].values
    spread = np.maximum(value.var(0), 1e-12)
    explained = 1 - np.square(value - again).mean(0) / spread
    best = np.sort(np.argsort(-explained, kind="stable")[:MOST])
    names = fits[0]["channel"].values.astype(str)
    figure = new_figure(0.6 + 0.62 * len(best))
    panels = figure.subplots(len(best), 1, sharex=True, squeeze=False)[:, 0]
    for axes, contact in zip(panels, best, strict=True):
        axes.plot(lag, value[:, contact], color=GREY, linewidth=0.7)
        axes.plot(lag, again[:, contact], color=MODEL, linewidth=1.1)
        axes.set_ylabel(f"{names[contact]}\n{explained[contact]:.2f}", rotation=0, ha="right",
                        va="center")  # fmt: skip
        axes.spines["bottom"].set_visible(axes is panels[-1])
        if axes is not panels[-1]:
            axes.tick_params(bottom=False)
    panels[0].set_title("voltage (sd) of contact, and explained share of its variance")
    panels[-1].set_xlabel("time (s)")
    return figure
