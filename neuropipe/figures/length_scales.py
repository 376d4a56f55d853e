"""How slow each latent is."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from neuropipe.figures.fits import fitted
from neuropipe.figures.latents import color_of
from neuropipe.figures.style import GREY, drawn, new_figure
from neuropipe.latents import latent_fits, latent_names
from neuropipe.results import RunResults


@drawn
def plot(results: RunResults) -> Figure:
    """How slow each latent is: the length scale l of its prior covariance exp(-d^2 / 2 l^2), so
    that bins l apart correlate by 0.61. Large dots are the first fold, small ones the other
    folds. Below the dashed line, the floor that the pruning of the prior sets, no length scale
    can be represented: a latent that lies on it may be faster than it seems. The dotted line is
    the width of a bin. In simulated sessions black bars mark the planted length scales of each
    kind, in no order within it. A length scale of a latent that explains little is hardly
    determined; compare the variance partition.

    Parameters
    ----------
    results : RunResults
        `parameters` with ``length_scale (latent)``, attrs ``min_length_scale_s`` and
        ``bin_width_s``; `truth` perhaps with ``length_scale (latent)``.
    """
    first = fitted(results, "length_scale", "variance_explained")
    fits = list(latent_fits(results).values())
    names = latent_names(first)
    kinds = [str(kind) for kind in first["kind"].values]
    figure = new_figure(2.6, 1.6 + 0.55 * max(len(names), 4))
    axes = figure.subplots()
    for other in fits[1:]:
        for name, value in zip(latent_names(other), other["length_scale"].values, strict=True):
            if name in names:
                axes.plot(names.index(name) + 0.22, value, "o", color=GREY, markersize=3)
    for k, value in enumerate(first["length_scale"].values):
        axes.plot(k, value, "o", color=color_of(kinds[k]), markersize=7)
    planted = next((t for t in results.truth.values() if "length_scale" in t), None)
    if planted is not None and "kind" in planted.coords:
        for value, kind in zip(planted["length_scale"].values, planted["kind"].values, strict=True):
            at = [k for k, own in enumerate(kinds) if own == str(kind)]
            if at:
                axes.hlines(value, at[0] - 0.35, at[-1] + 0.35, color="black", zorder=0)
        axes.plot([], [], color="black", label="planted")
    for attribute, style, label in (
        ("min_length_scale_s", "--", "floor of the prior"),
        ("bin_width_s", ":", "bin"),
    ):
        if np.isfinite(first.attrs.get(attribute, np.nan)):
            axes.axhline(first.attrs[attribute], color="black", linewidth=0.7, linestyle=style,
                         label=label, zorder=0)  # fmt: skip
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set(ylabel="length scale (s)", xlim=(-0.6, len(names) - 0.4))
    axes.set_xticks(range(len(names)), [n.replace(" ", "\n") for n in names])
    axes.set_xlabel("latent")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
