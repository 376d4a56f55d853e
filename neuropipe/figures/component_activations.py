"""When each component is active."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from neuropipe.components import planted_components, truth_of
from neuropipe.figures.fits import fitted, model_folds
from neuropipe.figures.motifs import FIT
from neuropipe.figures.style import drawn, new_figure, state_colors
from neuropipe.results import RunResults

INK, HELD_OUT = "#0072B2", "#D55E00"
EPOCHS = ("#009E73", "#CC79A7", "#F0E442", "#56B4E9", "#8a8a8a")  # the last for all others
MOST_COMPONENTS = 12
MOST_ANIMALS = 8
MOST_EPOCHS = 200
LEAST_LOADING = 0.05  # of the largest
GAP = 1.5  # windows between two points from which a line breaks
MOST_POINTS = 20_000  # beyond, lines are drawn as pixels


@drawn
def plot(results: RunResults) -> Figure:
    """When each component is active, the heaviest on top, with its number and its share of the
    summed energies on the left, each on its own scale: blue in the training windows, where all
    animals share it; red in the held-out windows, a line for each recording, refitted there with
    the patterns held (none for an animal whose loading is below a twentieth of the largest: what it
    lacks cannot be timed in it). Where each recording has times of its own, every colour is an
    animal. Shaded are the trials or stimulus epochs of the first recording that has them. In
    simulated sessions a black bar marks when the group that a component fits best was planted.
    First fold of the run.

    Parameters
    ----------
    results : RunResults
        `parameters` with ``activation (window, component)``, `estimates` likewise, and
        `recordings` with ``trials`` or ``intervals``.
    """
    parameters = fitted(results, *FIT)
    n = parameters.sizes["component"]
    shown = min(n, MOST_COMPONENTS)
    figure = new_figure(1.0 + 0.55 * shown)
    panels = figure.subplots(shown, 1, sharex=True, squeeze=False)[:, 0]
    lines = _lines(results, parameters)
    epochs, handles = _epochs(results)
    n_points = sum(len(time) for time, _, _, _ in lines) * shown
    for component, axes in enumerate(panels):
        for start_s, stop_s, color in epochs:
            axes.axvspan(start_s, stop_s, color=color, alpha=0.25, linewidth=0)
        for time, values, color, label in lines:
            axes.plot(
                time, values[:, component], color=color, label=label, linewidth=0.9,
                rasterized=n_points > MOST_POINTS,
            )  # fmt: skip
        share = 100 * float(parameters["weight"][component])
        axes.set_ylabel(f"{component}\n{share:.0f}%", rotation=0, ha="right", va="center")
        axes.set_ylim(0, None)
        axes.locator_params(axis="y", nbins=2)
    _draw_planted(panels, results, parameters)
    panels[-1].set_xlabel("time from session start (s)")
    heaviest = f", the {shown} heaviest of {n}" if n > shown else ""
    text = f"component{heaviest}: activation (dimensionless)"
    figure.supylabel(text if shown > 3 else "activation\n(dimensionless)", fontsize=8)
    handles = [*panels[0].get_legend_handles_labels()[0], *handles]
    if handles:
        figure.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 6))
    return figure


def broken(time: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sort a course (window, component) by time and put NaN where windows are left out."""
    order = np.argsort(time, kind="stable")
    time, values = time[order], np.asarray(values, dtype=float)[order]
    gaps = np.diff(time)
    step = np.median(gaps) if len(gaps) else 0.0
    at = np.flatnonzero(gaps > GAP * step) + 1
    return np.insert(time, at, time[at - 1] + step), np.insert(values, at, np.nan, axis=0)


def _lines(
    results: RunResults, parameters: xr.Dataset
) -> list[tuple[np.ndarray, np.ndarray, str, str | None]]:
    """Return time, values (window, component), colour and perhaps a label of every line."""
    activation = parameters["activation"].transpose("window", "component").values
    time = parameters["time"].values
    held_out = [
        (estimate["time"].values, _timed(estimate, session, parameters))
        for (session, fold), estimate in results.estimates.items()
        if fold == model_folds(results)[0] and "activation" in estimate
    ]
    out: list[tuple[np.ndarray, np.ndarray, str, str | None]] = []
    if "window_animal" in parameters.coords:
        owner = parameters["window_animal"].values.astype(str)
        names = [str(a) for a in parameters["animal"].values]
        colors = state_colors(len(names))
        for name, color in zip(names, colors, strict=True):
            own = owner == name
            label = name if len(names) <= MOST_ANIMALS else None
            out.append((*broken(time[own], activation[own]), color, label))
        return out
    for number, (at, values) in enumerate(held_out):
        out.append((*broken(at, values), HELD_OUT, None if number else "held out, each recording"))
    return [(*broken(time, activation), INK, "training"), *out]


def _timed(estimate: xr.Dataset, session: str, parameters: xr.Dataset) -> np.ndarray:
    """Return activations (window, component), NaN for what the recording's animal lacks."""
    values = estimate["activation"].transpose("window", "component").values
    own = [str(key).split("/")[-1] == session for key in parameters["animal"].values]
    if not any(own):
        return values
    loading = parameters["animal_loading"].transpose("animal", "component").values
    return np.where(loading[own].max(axis=0) >= LEAST_LOADING * loading.max(axis=0), values, np.nan)


def _epochs(results: RunResults) -> tuple[list[tuple[float, float, str]], list[Patch]]:
    """Return begin, end and colour of the first recording's epochs, and what to put in a legend."""
    for recording in results.recordings.values():
        paths = [p.strip("/") for p in recording.groups]
        for path in [p for p in paths if p == "trials" or p.startswith("intervals/")]:
            node = recording[path].to_dataset()
            if not {"start_time", "stop_time"} <= set(node.variables):
                continue
            start, stop = node["start_time"].values, node["stop_time"].values
            known = np.flatnonzero(np.isfinite(start) & np.isfinite(stop))[:MOST_EPOCHS]
            if not len(known):
                continue
            kind = np.full(len(start), path.split("/")[-1], dtype=object)
            for name in ("trial_type", "stimulus", "condition"):
                if name in node:
                    kind = node[name].values.astype(str)
                    break
            names = list(dict.fromkeys(kind[known]))
            color = {name: EPOCHS[min(k, len(EPOCHS) - 1)] for k, name in enumerate(names)}
            labels = [str(n) for n in names[: len(EPOCHS) - 1]]
            patches = [
                Patch(color=EPOCHS[k], alpha=0.25, label=label) for k, label in enumerate(labels)
            ]
            if len(names) > len(labels):
                patches.append(Patch(color=EPOCHS[-1], alpha=0.25, label="others"))
            return [(start[k], stop[k], color[kind[k]]) for k in known], patches
    return [], []


def _draw_planted(panels: np.ndarray, results: RunResults, parameters: xr.Dataset) -> None:
    truth = truth_of(results, parameters)
    if truth is None:
        return
    time, active = truth["time"].values, truth["active"].transpose("group", "window").values
    step = float(np.median(np.diff(time))) if len(time) > 1 else 1.0
    for group, component in enumerate(planted_components(parameters, truth)):
        if 0 <= component < len(panels):
            edge = np.flatnonzero(np.diff(np.concatenate([[0], active[group], [0]])))
            axes: Axes = panels[component]
            top = axes.get_ylim()[1]
            for first, last in edge.reshape(-1, 2):
                axes.plot(
                    [time[first], time[last - 1] + step], [1.05 * top] * 2, color="black",
                    linewidth=2.5, solid_capstyle="butt",
                )  # fmt: skip
            axes.set_ylim(0, 1.12 * top)
