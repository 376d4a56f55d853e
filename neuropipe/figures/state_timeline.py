"""State probabilities over time."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from neuropipe.errors import DataError
from neuropipe.figures.fits import (
    model_folds,
    numbered_as_first_fold,
    states_in_truth,
    truth_of_fitted,
)
from neuropipe.figures.stretch import Stretch, representative
from neuropipe.figures.style import GREY, PALE, drawn, heat, new_figure, state_colors, with_units
from neuropipe.results import RunResults

MOST_SESSIONS = 4
MOST_SIGNALS = 3
SIGNAL = "behavior/"


@drawn
def plot(results: RunResults) -> Figure:
    """State probabilities over a held-out stretch of each session. From top to bottom: spike
    rate of every unit (dark is high), posterior probability of each state given the model
    fitted without these bins, the most probable path of states (and the planted path in
    simulated sessions), trials and behaviour where recorded. The stretch is a typical one: its
    number of state switches is the median of the well covered stretches. Pale areas belong to
    other folds or to the gaps between them. State colours are the same in all figures of the
    run.

    Parameters
    ----------
    results : RunResults
        `estimates` with ``state_probability (time, state)``, ``state (time)``, ``window (time)``.
    """
    sessions = _held_out(results)
    stretches = {s: representative(estimate) for s, (_, estimate) in sessions.items()}
    rows = [
        (session, kind, height)
        for session in sessions
        for kind, height in _rows(results, session, stretches[session])
    ]
    heights = [height for _, _, height in rows]
    figure = new_figure(0.75 * sum(heights) + 0.55 * len(sessions))
    grid = figure.add_gridspec(len(rows), 1, height_ratios=heights)
    colors = state_colors(max(e.sizes["label"] for _, e in sessions.values()))
    truth = truth_of_fitted(results)
    top: Axes | None = None
    for row, (session, kind, _) in enumerate(rows):
        stretch = stretches[session]
        is_first, is_last = kind == "rate", row + 1 == len(rows) or rows[row + 1][1] == "rate"
        axes = figure.add_subplot(grid[row], sharex=None if is_first else top)
        top = axes if is_first else top
        fold, estimate = sessions[session]
        if kind == "rate":
            _draw_rate(axes, results.recordings[session], stretch)
            axes.set_title(f"session {session}, held out in fold {fold}")
        elif kind == "probability":
            _draw_probability(axes, stretch.cut(estimate), stretch, colors)
        elif kind == "path":
            planted = None if truth is None else truth[1]
            _draw_path(axes, results, session, stretch.cut(estimate), stretch, colors, planted)
        elif kind == "trials":
            _draw_trials(axes, results.recordings[session]["trials"].to_dataset(), stretch)
        else:
            behavior = results.recordings[session]["behavior"].to_dataset()
            _draw_signal(axes, behavior[kind.removeprefix(SIGNAL)], stretch)
        axes.set_xlim(stretch.start_s, stretch.stop_s)
        if is_last:
            axes.set_xlabel("time from session start (s)")
        else:
            axes.tick_params(axis="x", labelbottom=False)
    if len(results.recordings) > len(sessions):
        left_out = len(results.recordings) - len(sessions)
        figure.text(
            1, 0, f"{left_out} more sessions not drawn", ha="right", va="bottom", color=GREY
        )
    return figure


def _held_out(results: RunResults) -> dict[str, tuple[int, xr.Dataset]]:
    """Return each session's estimates of the first fold that has any, states numbered alike."""
    chosen: dict[str, tuple[int, xr.Dataset]] = {}
    for fold in model_folds(results):
        for session in results.recordings:
            estimate = results.estimates.get((session, fold))
            if session in chosen or estimate is None or estimate.sizes.get("time", 0) == 0:
                continue
            if len(chosen) == MOST_SESSIONS:
                return chosen
            chosen[session] = fold, _renumbered(estimate, numbered_as_first_fold(results, fold))
    if not chosen:
        raise DataError(
            "This run left no state estimates of held-out bins, so there is no timeline."
        )
    return chosen


def _renumbered(estimate: xr.Dataset, labels: np.ndarray) -> xr.Dataset:
    probability = estimate["state_probability"].transpose("time", "state").values
    wide = np.zeros((len(probability), labels.max() + 1))
    wide[:, labels] = probability
    return xr.Dataset(
        {
            "state_probability": (("time", "label"), wide),
            "path": ("time", labels[estimate["state"].values]),
        },
        coords={"time": estimate["time"].values, "window": ("time", estimate["window"].values)},
    )


def _rows(results: RunResults, session: str, stretch: Stretch) -> list[tuple[str, float]]:
    recording = results.recordings[session]
    rows = [("rate", 1.3), ("probability", 1.2)]
    planted = session in results.truth and "state" in results.truth[session]
    rows.append(("path", 0.5 if planted else 0.3))
    if "trials" in recording.children:
        rows.append(("trials", 0.3))
    if "behavior" in recording.children:
        behavior = recording["behavior"].to_dataset()
        signals = [
            name
            for name, signal in behavior.data_vars.items()
            if signal.dims == ("time",)
            and signal.dtype.kind in "fiu"
            and bool(np.isfinite(stretch.cut(signal)).any())
        ]
        rows += [(f"{SIGNAL}{name}", 0.6) for name in signals[:MOST_SIGNALS]]
    return rows


def _draw_rate(axes: Axes, recording: xr.DataTree, stretch: Stretch) -> None:
    counts = stretch.cut(recording["counts"].to_dataset()["spike_count"])
    rate = np.asarray(counts.transpose("time", "unit")) / float(counts.attrs["bin_width_s"])
    image = stretch.mean(counts["time"].values, rate).T
    seen = image[np.isfinite(image)]
    top = float(np.quantile(seen, 0.995)) if len(seen) else 1.0
    drawn_image = heat(
        axes,
        image,
        aspect="auto",
        cmap="Greys",
        vmin=0,
        vmax=top or 1.0,
        extent=(stretch.start_s, stretch.stop_s, len(image) - 0.5, -0.5),
    )
    axes.set_ylabel("unit")
    axes.set_yticks([0, len(image) - 1] if len(image) > 1 else [0])
    ids = counts["unit"].values
    axes.set_yticklabels([str(ids[int(t)]) for t in axes.get_yticks()])
    beside = axes.inset_axes((1.01, 0, 0.012, 1))
    axes.figure.colorbar(drawn_image, cax=beside, label="rate (Hz)")


def _draw_probability(
    axes: Axes, estimate: xr.Dataset, stretch: Stretch, colors: list[str]
) -> None:
    probability = estimate["state_probability"].transpose("time", "label").values
    mean = stretch.mean(estimate["time"].values, probability)
    axes.set_facecolor(PALE)
    below = np.zeros(len(mean))
    for state, color in enumerate(colors[: mean.shape[1]]):
        above = below + mean[:, state]
        axes.stairs(above, stretch.edge_s, baseline=below, fill=True, color=color, label=f"{state}")
        below = above
    axes.set(ylim=(0, 1), yticks=[0, 1], ylabel="state\nprobability")
    axes.legend(
        title="state",
        title_fontsize=7,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        ncols=-(-len(colors) // 6),
        handlelength=1,
        labelspacing=0.2,
    )


def _draw_path(
    axes: Axes,
    results: RunResults,
    session: str,
    estimate: xr.Dataset,
    stretch: Stretch,
    colors: list[str],
    planted: np.ndarray | None,
) -> None:
    time = estimate["time"].values
    paths, names = [stretch.last(time, estimate["path"].values)], ["decoded"]
    true = states_in_truth(results, session, time)
    if true is not None and planted is not None:
        fitted_of = {int(p): state for state, p in enumerate(planted) if p >= 0}
        paths.append(stretch.last(time, np.array([fitted_of.get(s, np.nan) for s in true])))
        names.append("planted")
    axes.set_facecolor(PALE)
    heat(
        axes,
        np.stack(paths),
        aspect="auto",
        cmap=ListedColormap(colors),
        vmin=-0.5,
        vmax=len(colors) - 0.5,
        extent=(stretch.start_s, stretch.stop_s, len(paths) - 0.5, -0.5),
    )
    axes.set_yticks(range(len(names)), names)
    axes.hlines(np.arange(1, len(names)) - 0.5, *axes.get_xlim(), color="white", linewidth=1)


def _draw_trials(axes: Axes, trials: xr.Dataset, stretch: Stretch) -> None:
    start, stop = trials["start_time"].values, trials["stop_time"].values
    inside = (stop > stretch.start_s) & (start < stretch.stop_s)
    spans = list(zip(start[inside], (stop - start)[inside], strict=True))
    axes.broken_barh(spans, (0, 1), facecolor="#b5b5b5", edgecolor="black", linewidth=0.4)
    axes.set(ylim=(-0.2, 1.2), yticks=[0.5], yticklabels=["trials"])


def _draw_signal(axes: Axes, signal: xr.DataArray, stretch: Stretch) -> None:
    part = stretch.cut(signal)
    values = stretch.mean(part["time"].values, np.asarray(part))
    axes.plot(stretch.center_s, values, color="black", linewidth=0.8)
    name = str(signal.name).replace("_", " ")
    label = with_units(name, str(signal.attrs.get("units", "1"))).replace(" (", "\n(")
    axes.set_ylabel(label, rotation=0, ha="right", va="center")
    axes.locator_params(axis="y", nbins=3)
