"""How often the right stimulus is among the most similar ones."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neuropipe.errors import DataError
from neuropipe.figures.style import drawn, new_figure, state_colors
from neuropipe.identified import Held, by_subject, held_out, pool_size
from neuropipe.results import RunResults
from neuropipe.retrieval import retrieval_accuracy

N_RANKS = 24


@drawn
def plot(results: RunResults) -> Figure:
    """Retrieval of held-out stimuli, a line a subject, mean over folds: how often the right one is
    among the k most similar of a pool, mean over all pools that can be drawn from the other
    held-out stimuli. Left: an image is sought by the embedding that a brain was decoded to.
    Right: a brain is sought by the embedding of an image. Dashed: chance, k over the pool's size.
    Where the panel's upper left is reached sooner, fewer candidates have to be looked at.

    Parameters
    ----------
    results : RunResults
        `estimates` with ``predicted_image (trial, feature)``; `recordings` with the embeddings.
    """
    held = held_out(results)
    if not held:
        raise DataError("This run predicted no embeddings, so nothing can be retrieved by them.")
    pool = min(pool_size(results), *(len(set(h.label)) for h in held))
    if pool < 2:
        raise DataError("A fold holds out a single stimulus, so there is nothing to choose among.")
    ranks = np.unique(np.linspace(1, pool, min(N_RANKS, pool)).astype(int))
    figure = new_figure(2.7)
    panels = figure.subplots(1, 2, sharey=True)
    groups = by_subject(held)
    for color, (name, own) in zip(state_colors(len(groups)), groups.items(), strict=True):
        for axes, back in zip(panels, (False, True), strict=True):
            curve = np.mean([_curve(h, ranks, pool, back) for h in own], axis=0)
            axes.plot(ranks, curve, ".-", color=color, markersize=3.5, label=f"subject {name}")
    for axes, title in zip(panels, ("image found by a brain", "brain found by an image"),
                           strict=True):  # fmt: skip
        _finish(axes, ranks, pool, title)
    panels[0].set_ylabel("right one among the first k\n(share of stimuli)")
    panels[1].legend(loc="lower right", fontsize=6)
    return figure


def _curve(held: Held, ranks: np.ndarray, pool: int, back: bool) -> list[float]:
    table = held.similarity.T if back else held.similarity
    return [retrieval_accuracy(table, int(k), pool, held.label) for k in ranks]


def _finish(axes: Axes, ranks: np.ndarray, pool: int, title: str) -> None:
    axes.plot(ranks, ranks / pool, "--", color="black", linewidth=0.8, label="chance")
    axes.set(xlabel=f"k, of a pool of {pool} stimuli", title=title, ylim=(0, 1.03))
    axes.grid(color="#e0e0e0", linewidth=0.5)
