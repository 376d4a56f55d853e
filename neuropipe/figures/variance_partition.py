"""Which latent explains what."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from neuropipe.figures.fits import fitted
from neuropipe.figures.latents import MODALITIES, color_of
from neuropipe.figures.style import GREY, drawn, new_figure
from neuropipe.latents import latent_fits, latent_names
from neuropipe.results import RunResults


@drawn
def plot(results: RunResults) -> Figure:
    """Which latent explains what: the share of each modality's predicted variance that is lost
    when a latent is held at its mean, over training bins. Bars are the first fold, dots the other
    folds, where latents come in the same order: by kind, then by what they explain, so that two
    of alike importance may change places. Shares need not add up to one: what two latents explain
    together counts for both or for neither. They speak of the model's prediction, not of the
    data, so a large share of a modality that is poorly predicted means little.

    Parameters
    ----------
    results : RunResults
        `parameters` with ``variance_explained (modality, latent)`` and coord ``kind (latent)``.
    """
    first = fitted(results, "variance_explained", "length_scale")
    fits = list(latent_fits(results).values())
    names = latent_names(first)
    kinds = [str(kind) for kind in first["kind"].values]
    modalities = [str(m) for m in first["modality"].values]
    figure = new_figure(0.9 + 0.24 * len(names))
    panels = figure.subplots(1, len(modalities), squeeze=False, sharey=True, sharex=True)[0]
    for axes, modality in zip(panels, modalities, strict=True):
        share = first["variance_explained"].sel(modality=modality).values
        axes.barh(range(len(names)), share, height=0.7, color=[color_of(k) for k in kinds])
        for other in fits[1:]:
            known = [latent_names(other).index(n) if n in latent_names(other) else -1
                     for n in names]  # fmt: skip
            at = np.flatnonzero(np.array(known) >= 0)
            values = other["variance_explained"].sel(modality=modality).values
            axes.plot(values[np.array(known)[at]], at, "o", color=GREY, markersize=4.5,
                      markeredgecolor="white", markeredgewidth=0.4)  # fmt: skip
        axes.axvline(0, color="black", linewidth=0.5)
        axes.set_title(MODALITIES.get(modality, modality))
        axes.set_xlabel("share of predicted variance (dimensionless)")
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.4, -0.6)
    panels[0].set_ylabel("latent")
    return figure
