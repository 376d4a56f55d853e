"""What brains were decoded to against what was shown, stimulus by stimulus."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from neuropipe.errors import DataError
from neuropipe.figures.style import DIVERGING, drawn, heat, new_figure, whole_ticks
from neuropipe.identified import by_subject, held_out
from neuropipe.results import RunResults

MOST = 60  # stimuli of a matrix
RIGHT, OTHER = "#0072B2", "#8a8a8a"


@drawn
def plot(results: RunResults) -> Figure:
    """Cosines of decoded with true image embeddings, about the mean training embedding, for
    held-out stimuli of the first fold, a column a subject (the first four). Top, or left of a
    single subject: each row is a brain, each column an image, both in the same order, at most
    60, those best identified first; a dark diagonal means that brains are decoded to their own
    image. Bottom, or right: how cosines with the right image (blue) and with all others (grey)
    are spread; the more the two overlap, the more often a wrong image is taken.

    Parameters
    ----------
    results : RunResults
        `estimates` with ``predicted_image``; `recordings` with the embeddings.
    """
    held = held_out(results)
    if not held:
        raise DataError("This run predicted no embeddings, so there is nothing to compare.")
    first = min(h.fold for h in held)
    groups = list(by_subject([h for h in held if h.fold == first]).items())[:4]
    if len(groups) > 1:
        figure = new_figure(3.9)
        panels = figure.subplots(2, len(groups), squeeze=False, height_ratios=(3, 2))
    else:
        figure = new_figure(2.4)
        panels = figure.subplots(1, 2, squeeze=False, width_ratios=(2, 3)).T
    top = max(float(np.percentile(np.abs(own[0].similarity), 99)) for _, own in groups)
    image = None
    for column, (name, (one, *_)) in enumerate(groups):
        matrix, spread = panels[0, column], panels[1, column]
        right = np.diag(one.similarity)
        order = np.argsort(-right, kind="stable")
        order = order[np.linspace(0, len(order) - 1, min(MOST, len(order))).astype(int)]
        image = heat(matrix, one.similarity[np.ix_(order, order)], cmap=DIVERGING, vmin=-top,
                     vmax=top)  # fmt: skip
        matrix.set(title=f"subject {name}", xlabel="image shown")
        whole_ticks(matrix, "x", 4)
        whole_ticks(matrix, "y", 4)
        rival = one.label[:, None] != one.label
        bins = np.linspace(min(one.similarity.min(), -0.1), max(one.similarity.max(), 0.1), 41)
        for value, color, label in ((one.similarity[rival], OTHER, "other images"),
                                    (right, RIGHT, "right image")):  # fmt: skip
            spread.hist(value, bins, density=True, color=color, alpha=0.6, label=label)
        spread.set_xlabel("cosine (dimensionless)")
        spread.set_yticks([])
    panels[0, 0].set_ylabel("brain decoded")
    panels[1, 0].set_ylabel("density")
    panels[1, 0].legend(fontsize=6)
    if image is not None:
        figure.colorbar(image, ax=list(panels[0]), label="cosine", aspect=25, shrink=0.9)
    return figure
