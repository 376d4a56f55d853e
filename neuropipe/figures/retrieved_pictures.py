"""Pictures that were shown, beside those that brains were decoded to."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from neuropipe.errors import DataError
from neuropipe.figures.style import drawn, new_figure
from neuropipe.identified import Held, by_subject, held_out
from neuropipe.results import RunResults
from neuropipe.retrieval import two_way_each

PICTURES = "stimulus/pictures"
QUANTILES = (1.0, 0.75, 0.5, 0.25, 0.0)  # of identification, a row each
N_BEST, EDGE, MOST = 4, 2, 3
RIGHT = "#009E73"


@drawn
def plot(results: RunResults) -> Figure:
    """Retrieved pictures of held-out stimuli, a block a subject (the first three). Left of each
    row what was shown, then the four held-out pictures of the same subject and fold whose
    embedding is nearest to the decoded one, the nearest first; a green frame marks the right one.
    Rows are chosen by how well the stimulus was identified, not by eye: the best of the first
    fold, the quartiles, and the worst, with the share of other pictures that were farther.

    Parameters
    ----------
    results : RunResults
        `estimates` with ``predicted_image``; `recordings` with embeddings and with
        ``frame_color`` in node ``stimulus/pictures``.
    """
    held = [h for h in held_out(results) if f"/{PICTURES}" in results.recordings[h.session].groups]
    if not held:
        raise DataError(
            "No pictures of the stimuli are there; name their folder as the reader's option "
            "`pictures` to see them."
        )
    first = min(h.fold for h in held)
    blocks = list(by_subject([h for h in held if h.fold == first]).items())[:MOST]
    figure = new_figure(3.6)
    panels = figure.subplots(1, len(blocks), squeeze=False)[0]
    for axes, (name, (one, *_)) in zip(panels, blocks, strict=True):
        pictures = _pictures(results, one)
        share = two_way_each(one.similarity, one.label)
        order = np.argsort(np.nan_to_num(share), kind="stable")
        rows = [order[round(q * (len(order) - 1))] for q in QUANTILES]
        size = pictures.shape[1] + EDGE
        board = np.full((len(rows) * size, (N_BEST + 2) * size, 3), 255, np.uint8)
        for line, row in enumerate(rows):
            nearest = np.argsort(-one.similarity[row], kind="stable")[:N_BEST]
            for place, at in zip((0, *range(2, N_BEST + 2)), (row, *nearest), strict=False):
                y, x = line * size, place * size
                board[y : y + size - EDGE, x : x + size - EDGE] = pictures[at]
                if place and one.label[at] == one.label[row]:
                    frame = Rectangle((x - 1, y - 1), size - 1, size - 1, fill=False,
                                      edgecolor=RIGHT, linewidth=1.6)  # fmt: skip
                    axes.add_patch(frame)
            axes.text(1.45 * size, (line + 0.5) * size, f"{share[row]:.2f}", fontsize=6,
                      ha="center", va="center")  # fmt: skip
        axes.imshow(board, interpolation="nearest")
        axes.set_xticks([size / 2, (2 + N_BEST / 2) * size], ["shown", "nearest to the decoded"])
        axes.tick_params(length=0)
        axes.set(yticks=[], title=f"subject {name}")
        axes.spines[:].set_visible(False)
    return figure


def _pictures(results: RunResults, held: Held) -> np.ndarray:
    """Return the pictures of the held-out trials, (trial, y, x, 3) of 0 to 255, square."""
    node = results.recordings[held.session][PICTURES].to_dataset()
    at = {str(name): row for row, name in enumerate(node["stimulus"].values)}
    lost = [name for name in held.label if name not in at]
    if lost or "frame_color" not in node:
        raise DataError(f"Node {PICTURES} has no picture of {lost[0] if lost else 'any stimulus'}.")
    found = node["frame_color"].isel(frame=[at[name] for name in held.label]).values
    side = min(found.shape[1:3])
    top, left = ((n - side) // 2 for n in found.shape[1:3])
    return found[:, top : top + side, left : left + side]
