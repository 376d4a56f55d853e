"""Course of the fits."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from neuropipe.errors import DataError
from neuropipe.figures.style import drawn, new_figure, state_colors, whole_ticks, with_units
from neuropipe.results import RunResults

CROSS = "#c00000"
SCREENINGS = (
    ("screen_objective", "screen_step", "screening step"),
    ("restart_objective", "step", "step of all starts"),
)


@drawn
def plot(results: RunResults) -> Figure:
    """Course of the model's fits, one colour a fold. Left: all random starts, one line each, where
    they were kept: screened against each other on a part of the training data, after which the
    best one was continued, or each fitted to its end. Middle: the objective of the best start on
    all training data, a log-likelihood that rises or an error that falls; a filled circle ends a
    fit that met its criterion of convergence, a red cross one that did not. Right: the distance
    to the best value that the fold reached, on a logarithmic scale. Baselines that did not
    converge are named below.

    Parameters
    ----------
    results : RunResults
        `history` with ``objective (step)``, or ``(restart, step)``, the attr ``converged``, and
        perhaps ``screen_objective (restart, screen_step)`` or ``restart_objective (restart,
        step)``.
    """
    fits = {
        fold: history
        for (estimator, fold), history in sorted(results.history.items())
        if estimator == results.model and history.sizes.get("step", 0) > 0
    }
    if not fits:
        raise DataError(f"This run kept no course of the fits of {results.model}.")
    figure = new_figure(2.6)
    screen, course, distance = figure.subplots(1, 3)
    colors = state_colors(len(fits))
    _draw_screening(screen, fits, colors)
    for color, (fold, history) in zip(colors, fits.items(), strict=True):
        lines = _lines(history["objective"])
        best = _best(lines)
        for number, line in enumerate(lines):
            step = np.flatnonzero(np.isfinite(line))
            if not len(step):
                continue
            label = f"fold {fold}" if number == 0 else None
            course.plot(step, line[step], color=color, label=label, alpha=0.9)
            below = np.abs(best - line[step])
            shown = below > 1e-9 * abs(best)  # less is rounding
            distance.plot(step[shown], below[shown], ".-", color=color, alpha=0.9, markersize=3)
        step = np.flatnonzero(np.isfinite(lines).any(axis=0))
        if len(step):
            converged = bool(history.attrs.get("converged", 0))
            mark = (
                {"marker": "o", "color": color, "zorder": 3}
                if converged
                else {"marker": "X", "color": CROSS, "zorder": 4}
            )
            ends = lines[:, step[-1]]
            end = ends[np.nanargmin(np.abs(ends - best))]
            course.plot(step[-1], end, markersize=5, linestyle="none", clip_on=False, **mark)
    units = str(next(iter(fits.values()))["objective"].attrs.get("units", "nats"))
    course.set(xlabel="step", ylabel=with_units("objective", units))
    course.ticklabel_format(axis="y", useOffset=False)
    if not all(history.attrs.get("converged", 0) for history in fits.values()):
        course.plot([], [], "X", color=CROSS, markersize=5, label="not converged")
    course.legend(ncols=2 if len(fits) > 4 else 1)
    distance.set(xlabel="step", ylabel=with_units("distance to the best", units), yscale="log")
    last = max(history.sizes["step"] for history in fits.values()) - 1
    for axes in (course, distance):
        axes.set_xlim(-0.5, last + 0.5)
        whole_ticks(axes)
    if not any(len(line.get_xdata()) for line in distance.lines):
        distance.set_axis_off()
        distance.text(
            0.5,
            0.5,
            "every step is at the best value",
            ha="center",
            va="center",
            transform=distance.transAxes,
        )
    unfinished = _unfinished_baselines(results)
    if unfinished:
        figure.supxlabel(f"Not converged: {', '.join(unfinished)}", fontsize=7)
    return figure


def _draw_screening(axes, fits: dict[int, xr.Dataset], colors: list) -> None:
    """Draw every restart of every fold, as far as they were kept."""
    for name, step, title in SCREENINGS:
        for color, history in zip(colors, fits.values(), strict=True):
            if name in history:
                lines = history[name].transpose(step, "restart")
                axes.plot(lines.values, color=color, alpha=0.6, linewidth=0.8)
                units = str(lines.attrs.get("units", "nats/bin"))
                axes.set(xlabel=title, ylabel=with_units("objective", units))
    if axes.lines:
        whole_ticks(axes)
        return
    axes.set_axis_off()
    axes.text(0.5, 0.5, "no further starts\nwere kept", ha="center", va="center",
              transform=axes.transAxes)  # fmt: skip


def _lines(objective: xr.DataArray) -> np.ndarray:
    """Return the objective as (restart, step)."""
    return np.atleast_2d(objective.transpose(..., "step").values.astype(float))


def _best(lines: np.ndarray) -> float:
    """Return the largest objective of a log-likelihood, the smallest of an error that falls."""
    known = lines[np.isfinite(lines)]
    if not len(known):
        return float("nan")
    course = lines[np.isfinite(lines).any(axis=1)][0]
    course = course[np.isfinite(course)]
    return float(known.min() if course[-1] < course[0] else known.max())


def _unfinished_baselines(results: RunResults) -> list[str]:
    flags: dict[str, list[bool]] = {}
    for (estimator, _), history in sorted(results.history.items()):
        flags.setdefault(estimator, []).append(bool(history.attrs.get("converged", 1)))
    return [
        f"{estimator} ({len(own) - sum(own)} of {len(own)} folds)"
        for estimator, own in flags.items()
        if estimator != results.model and not all(own)
    ]
