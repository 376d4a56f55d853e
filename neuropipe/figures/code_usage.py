"""How many codes are in use, and how evenly."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from neuropipe.decoded import decoder_fits
from neuropipe.errors import DataError
from neuropipe.figures.style import drawn, new_figure, state_colors, whole_ticks
from neuropipe.results import RunResults


@drawn
def plot(results: RunResults) -> Figure:
    """Use of the codes in the training windows, a colour a fold. Left: share of all tokens, codes
    ordered by it; the dashed line is even use. Right: number of codes, of codes that are used at
    all, and the perplexity, which is how many codes in even use would be as varied. A perplexity
    near 1 means that all tokens fell onto one code: whatever is predicted of such codes is
    trivially right and says nothing.

    Parameters
    ----------
    results : RunResults
        `parameters` with ``code_count (code)``.
    """
    fits = {f: p for f, p in decoder_fits(results).items() if "code_count" in p}
    if not fits:
        raise DataError("This run's model was fitted without codes.")
    figure = new_figure(2.5)
    share_axes, number_axes = figure.subplots(1, 2, width_ratios=(3, 2))
    colors = state_colors(len(fits))
    n_codes = 0
    for (fold, p), color in zip(fits.items(), colors, strict=True):
        count = np.sort(p["code_count"].values)[::-1].astype(float)
        n_codes = max(n_codes, len(count))
        share = count / max(count.sum(), 1)
        share_axes.plot(np.arange(1, len(share) + 1), share, color=color, label=f"fold {fold}",
                        drawstyle="steps-mid")  # fmt: skip
    share_axes.axhline(1 / n_codes, color="black", linewidth=0.7, linestyle="--", zorder=0)
    share_axes.set(xlabel="code, by use", ylabel="share of tokens (dimensionless)", title="use")
    share_axes.set_ylim(0, None)
    share_axes.legend(loc="best")
    whole_ticks(share_axes)
    width = 0.8 / len(fits)
    for number, ((_, p), color) in enumerate(zip(fits.items(), colors, strict=True)):
        count = p["code_count"].values
        values = [len(count), int((count > 0).sum()), float(p["code_perplexity"])]
        at = np.arange(3) + (number - (len(fits) - 1) / 2) * width
        bars = number_axes.bar(at, values, width * 0.9, color=color)
        number_axes.bar_label(bars, fmt="%.3g", fontsize=6, padding=1)
    number_axes.set_xticks(range(3), ["there", "used", "perplexity"])
    number_axes.set(ylabel="codes (dimensionless)", title="variety")
    return figure
