"""Which voxels the decoder listens to."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from neuropipe.errors import DataError
from neuropipe.figures.style import drawn, heat, new_figure
from neuropipe.results import RunResults

VIEWS = ((2, "k", "ij"), (1, "j", "ik"), (0, "i", "jk"))


@drawn
def plot(results: RunResults) -> Figure:
    """Voxels that move the decoded embedding most, a row a subject (the first four): share of the
    squared sensitivity of the right image's cosine to each z-scored voxel, over the mean share,
    mean over folds. Each panel looks through the brain along one axis of its grid and shows the
    largest value on the way; white: no voxel. One is what a voxel would have if all counted
    alike. Sensitivity is no map of function: it also depends on noise that the decoder removes.

    Parameters
    ----------
    results : RunResults
        `parameters` with ``voxel_importance (voxel)`` and the coordinates ``i j k`` and
        ``voxel_subject``.
    """
    fits = [
        p for (estimator, _), p in sorted(results.parameters.items())
        if estimator == results.model and "voxel_importance" in p
    ]  # fmt: skip
    if not fits:
        raise DataError("This run has no importance of voxels.")
    names = list(dict.fromkeys(fits[0]["voxel_subject"].values.astype(str)))[:4]
    figure = new_figure(0.5 + 1.6 * len(names))
    panels = figure.subplots(len(names), 3, squeeze=False)
    image = None
    for row, name in enumerate(names):
        volume = _volume(fits, name)
        for axes, (axis, along, kept) in zip(panels[row], VIEWS, strict=True):
            with np.errstate(all="ignore"):
                seen = np.where(np.isfinite(volume), volume, -np.inf).max(axis=axis)
            seen = np.where(np.isfinite(seen), seen, np.nan)
            image = heat(axes, seen.T[::-1], cmap="viridis", vmin=0, vmax=_top(fits))
            axes.set(xticks=[], yticks=[], xlabel=f"voxel {kept[0]}", ylabel=f"voxel {kept[1]}")
            axes.set_title(f"subject {name}, along {along}", fontsize=7)
    if image is not None:
        figure.colorbar(image, ax=list(panels.ravel()), label="importance over the mean",
                        aspect=25, shrink=0.8)  # fmt: skip
    return figure


def _relative(fit, name: str) -> tuple[np.ndarray, np.ndarray]:
    at = fit["voxel_subject"].values.astype(str) == name
    share = fit["voxel_importance"].values[at]
    return np.stack([fit[a].values[at] for a in "ijk"], 1), share * len(share)


def _volume(fits: list, name: str) -> np.ndarray:
    """Return the mean over folds on the grid, NaN outside."""
    parts = [_relative(fit, name) for fit in fits]
    places = np.concatenate([p for p, _ in parts])
    low = places.min(0)
    total = np.zeros(places.max(0) - low + 1)
    count = np.zeros_like(total)
    for place, value in parts:
        at = tuple((place - low).T)
        total[at] += value
        count[at] += 1
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _top(fits: list) -> float:
    names = dict.fromkeys(fits[0]["voxel_subject"].values.astype(str))
    return max(float(np.percentile(_relative(fit, n)[1], 99)) for fit in fits for n in names)
