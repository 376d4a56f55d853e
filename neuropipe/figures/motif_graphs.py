"""The strongest pairs of each component, as a graph."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from neuropipe.components import pattern
from neuropipe.figures.motifs import fitted_graphs, graph_panels, ordered_units
from neuropipe.figures.style import GREY, STATES, drawn
from neuropipe.results import RunResults

MOST_UNITS = 60  # on a circle
MOST_PLACED = 400  # in space
MOST_PAIRS = 80
LEAST_SHARE = 0.25  # of the strongest pair
MOST_NAMES = 40
MOST_COLORS = 7
COORDINATES = (("x", "y"), ("x", "z"), ("y", "z"))


@drawn
def plot(results: RunResults) -> Figure:
    """The strongest pairs of each component, at most 80 and none below a quarter of the strongest;
    the darker a line, the larger the affinity. A dot is a unit, the larger the more it belongs to
    the component, its colour the community (black: further ones). Units lie where they were
    recorded, if the recording says so, grey if they have no shown pair; else those with a pair
    stand on a circle in the order of their communities, at most the 60 of the largest membership.
    First fold of the run.

    Parameters
    ----------
    results : RunResults
        `parameters` with ``affinity`` or ``pair_affinity``, ``membership``, ``community``.
    """
    parameters = fitted_graphs(results)
    placed = positions(results, parameters)
    figure, panels = graph_panels(parameters, 2.3)
    for component, axes in panels.items():
        if placed is None:
            at, label = ordered_units(parameters, component, MOST_UNITS)
            linked = np.unique(strongest_pairs(parameters, component, at)[0])
            at, label = (at[linked], label[linked]) if len(linked) else (at, label)
            angle = np.pi / 2 - 2 * np.pi * np.arange(len(at)) / len(at)
            place = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        else:
            at, label = ordered_units(parameters, component, MOST_PLACED)
            place = placed[0][at]
            known = np.isfinite(place).all(axis=1)
            at, label, place = at[known], label[known], place[known]
        _draw_graph(axes, parameters, component, at, label, place)
        if placed is None:
            axes.set_aspect("equal")
            axes.set(xlim=(-1.35, 1.35), ylim=(-1.35, 1.35))
            axes.set_axis_off()
            _name(axes, parameters["unit"].values[at], place)
        else:
            axes.set(xlabel=placed[1][0], ylabel=placed[1][1])
            axes.locator_params(nbins=4)
            axes.margins(0.08)
            axes.set_aspect("equal", adjustable="datalim")
            axes.label_outer()
    return figure


def positions(
    results: RunResults, parameters: xr.Dataset
) -> tuple[np.ndarray, tuple[str, str]] | None:
    """Return where units lie in the plane, (unit, 2), and the labels of both axes.

    The places are those of the recording that has them for most units, NaN for the others: each
    animal has a frame of its own. None where fewer than two units have a place.
    """
    best: tuple[np.ndarray, tuple[str, str]] | None = None
    names = [str(u) for u in parameters["unit"].values]
    for session in results.recordings:
        series = results.series(session)
        if series is None or series.dims[1] not in series.coords:
            continue
        row = {str(u): k for k, u in enumerate(series[series.dims[1]].values)}
        at = np.array([row.get(name, -1) for name in names])
        for pair in COORDINATES:
            if all(a in series.coords and series[a].dims == series.dims[1:] for a in pair):
                xy = np.stack([series[a].values.astype(float) for a in pair], axis=1)
                spread = np.nanmax(xy, axis=0) - np.nanmin(xy, axis=0) if len(xy) else np.zeros(2)
                if not (spread > 0).all():
                    continue  # a plane seen from its edge
                out = np.where((at >= 0)[:, None], xy[at], np.nan)
                units = [str(series[a].attrs.get("units", "")) for a in pair]
                labels = [f"{a} ({u})" if u else a for a, u in zip(pair, units, strict=True)]
                if best is None or _n_known(out) > _n_known(best[0]):
                    best = out, (labels[0], labels[1])
                break
    return best if best is not None and _n_known(best[0]) >= 2 else None


def _n_known(place: np.ndarray) -> int:
    return int(np.isfinite(place).all(axis=1).sum())


def strongest_pairs(
    parameters: xr.Dataset, component: int, at: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs that are drawn (2, pair), places in `at`, and their strengths over the top.

    The strongest comes last, so that it lies on top.
    """
    i, j = np.triu_indices(len(at), 1)
    value = np.nan_to_num(pattern(parameters, component, at)[i, j])
    top = value.max(initial=0.0)
    strongest = np.argsort(-value, kind="stable")[:MOST_PAIRS]
    shown = strongest[value[strongest] > LEAST_SHARE * top][::-1]
    return np.stack([i[shown], j[shown]]), value[shown] / top if top > 0 else value[shown]


def _draw_graph(
    axes: Axes,
    parameters: xr.Dataset,
    component: int,
    at: np.ndarray,
    label: np.ndarray,
    place: np.ndarray,
) -> None:
    (i, j), strength = strongest_pairs(parameters, component, at)
    ink = [(0.1, 0.1, 0.1, 0.1 + 0.75 * s**2) for s in strength]
    ends = np.stack([place[i], place[j]], axis=1)
    axes.add_collection(LineCollection(list(ends), colors=ink, linewidths=0.4 + 0.9 * strength))
    linked = np.zeros(len(at), dtype=bool)
    linked[i] = linked[j] = True
    colors = np.array([*STATES[:MOST_COLORS], "#000000"])[np.minimum(label, MOST_COLORS)]
    member = parameters["membership"].transpose("component", "unit").values[component][at]
    for chosen, color in ((~linked, [GREY] * len(at)), (linked, colors)):
        axes.scatter(
            place[chosen, 0], place[chosen, 1], s=4 + 22 * member[chosen] ** 2,
            c=np.array(color)[chosen],
            alpha=1.0 if color is colors else 0.5, linewidths=0.4, edgecolors="white", zorder=3,
        )  # fmt: skip


def _name(axes: Axes, names: np.ndarray, place: np.ndarray) -> None:
    """Write names around a circle, turned outwards."""
    for name, (x, y) in zip(names, place, strict=True):
        angle = np.degrees(np.arctan2(y, x))
        flipped = abs(angle) > 90
        axes.text(
            1.08 * x, 1.08 * y, str(name), fontsize=5 if len(names) <= MOST_NAMES else 4,
            ha="right" if flipped else "left", va="center", rotation=angle + 180 * flipped,
            rotation_mode="anchor",
        )  # fmt: skip
