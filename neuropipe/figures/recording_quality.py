"""Quality of one recording: for each kind of node the panels in which its faults show."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from neuropipe.errors import DataError
from neuropipe.figures import quality_bold, quality_signals
from neuropipe.figures.quality_signals import BAD, INK, Checks
from neuropipe.figures.style import (
    GREY,
    PALE,
    SEQUENTIAL,
    drawn,
    heat,
    name_ticks,
    new_figure,
    whole_decades,
    whole_ticks,
)

MOST_NODES = 6  # rows of panels; a session may hold dozens of series
MOST_LINES = 14  # nodes of the coverage panel
BLOCK = 1 << 20
STRETCHES = 60
GAP_FACTOR = 3.0
MARKS = {"PASS": "#009E73", "WARN": "#E69F00", "FAIL": "#A50026"}

Draw = Callable[[SubFigure, xr.DataTree, str, Checks], None]


MANY = 200  # marks that become pixels, so that the file stays small


@drawn
def plot_quality(recording: xr.DataTree, checks: pd.DataFrame) -> Figure:
    """Quality of one recording. On top, the time that each node covers, gaps left white, trials
    and runs as bars; then a row for each node of spikes, voltages, BOLD or calcium, whatever the
    recording holds. Units, channels and voxels that a check flagged are drawn in red.

    Parameters
    ----------
    recording : DataTree
        As ingested. Stretches of it are read, and of BOLD one run.
    checks : DataFrame
        Of `neuropipe.quality.measure`: node, item, check, value, units, verdict, reason.
    """
    nodes = [g.lstrip("/") for g in recording.groups if recording[g].variables]
    rows = [(node, draw, height) for node in nodes for family, draw, height in ROWS
            if node.split("/")[0] == family and _size(recording, node)][:MOST_NODES]  # fmt: skip
    lines = [node for node in nodes if _span(recording, node) is not None][:MOST_LINES]
    if not lines:
        raise DataError("This recording holds no node with a time, so there is nothing to look at.")
    top = 0.75 + 0.17 * len(lines)
    figure = new_figure(top + sum(height for *_, height in rows))
    heights = [top, *(height for *_, height in rows)]
    parts = figure.subfigures(1 + len(rows), 1, height_ratios=heights, squeeze=False)[:, 0]
    found = Checks(checks)
    _coverage(parts[0].subplots(), recording, lines, found)
    for part, (node, draw, _) in zip(parts[1:], rows, strict=True):
        verdict = found.worst(node)
        draw(part, recording, node, found)
        part.suptitle(f"{node}: {verdict}", x=0.01, ha="left", fontsize=9, color=MARKS[verdict])
    return figure


def _size(recording: xr.DataTree, node: str) -> int:
    return max((v.size for v in recording[node].to_dataset().data_vars.values()), default=0)


def _span(recording: xr.DataTree, node: str) -> tuple[float, float] | None:
    dataset = recording[node].to_dataset()
    for name in ("time", "spike_time", "start_time", "event_time"):
        if name in dataset.variables and dataset[name].size:
            first, last = float(dataset[name].min()), float(dataset[name].max())
            return (first, last) if np.isfinite([first, last]).all() else None
    return None


def _coverage(axes: Axes, recording: xr.DataTree, nodes: list[str], checks: Checks) -> None:
    """Draw which time each node covers, with the worst verdict on it as its colour."""
    for line, node in enumerate(nodes):
        dataset = recording[node].to_dataset()
        color = MARKS[checks.worst(node)]
        if "start_time" in dataset:
            start, stop = dataset["start_time"].values, dataset["stop_time"].values
            length = np.where(np.isfinite(stop), stop - start, 0.0)
            there = np.isfinite(start)
            bars = list(zip(start[there], length[there], strict=True))
            axes.broken_barh(bars, (line - 0.3, 0.6), color=color, linewidth=0.3,
                             edgecolor="white", rasterized=len(bars) > MANY)  # fmt: skip
        elif "event_time" in dataset:
            axes.vlines(_thinned(dataset["event_time"]), line - 0.3, line + 0.3, color=color,
                        linewidth=0.5, rasterized=True)  # fmt: skip
        else:
            bars = _covered(dataset) if "time" in dataset.variables else [_bar(recording, node)]
            axes.broken_barh(bars, (line - 0.3, 0.6), color=color)
    axes.set_yticks(range(len(nodes)), nodes)
    axes.set_ylim(len(nodes) - 0.5, -0.5)
    # one event with a broken time must not squeeze the recording into a line
    spans = [span for node in nodes if _is_signal(node) and (span := _span(recording, node))]
    if spans:
        first, last = min(span[0] for span in spans), max(span[1] for span in spans)
        margin = 0.03 * (last - first) or 1.0
        axes.set_xlim(first - margin, last + margin)
    axes.set(xlabel="time (s)", title="Time covered by each node, by its worst verdict")
    handles = [axes.plot([], [], "s", color=color, label=name)[0] for name, color in MARKS.items()]
    axes.legend(handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=3, borderpad=0,
                handletextpad=0.2, columnspacing=1)  # fmt: skip


def _is_signal(node: str) -> bool:
    return node.split("/")[0] not in ("trials", "intervals", "events", "runs", "windows")


def _bar(recording: xr.DataTree, node: str) -> tuple[float, float]:
    first, last = _span(recording, node) or (0.0, 0.0)
    return first, last - first


def _covered(dataset: xr.Dataset) -> list[tuple[float, float]]:
    """Return start and length of the stretches without a gap, the clock read block by block."""
    time = dataset["time"]
    bars: list[tuple[float, float]] = []
    step = begin = last = float("nan")
    for start in range(0, time.size, BLOCK):
        part = time[start : start + BLOCK].values
        if start == 0:
            begin, step = float(part[0]), float(np.median(np.diff(part))) if len(part) > 1 else 0.0
            last = begin
        steps = np.diff(part, prepend=last)
        for at in np.flatnonzero(steps > GAP_FACTOR * step) if step > 0 else ():
            before = float(part[at - 1]) if at else last
            bars.append((begin, before - begin + step))
            begin = float(part[at])
        last = float(part[-1])
    return [*bars, (begin, last - begin + step)]


def _thinned(times: xr.DataArray, most: int = 2000) -> np.ndarray:
    return np.asarray(times[:: max(1, times.size // most)].values)


def _spikes(part: SubFigure, recording: xr.DataTree, node: str, checks: Checks) -> None:
    """Draw rate and refractory violations of each unit, and its rate over the session."""
    rates, violations, course = part.subplots(1, 3, width_ratios=[1, 1, 1.6])
    rate, short = checks.values(node, "unit_rate_hz"), checks.values(node, "isi_violations")
    bad = checks.flagged(node)
    order = rate.sort_values(ascending=False).index
    colors = [BAD if unit in bad else INK for unit in order]
    rates.scatter(range(len(order)), rate[order], c=colors, s=10)
    whole_decades(rates, rate.to_numpy())
    rates.set(xlabel="unit, by rate", ylabel="rate (Hz)", title="Mean rate")
    whole_ticks(rates)
    shown = 100 * short.reindex(order)
    violations.scatter(rate[order], shown, c=colors, s=10)
    violations.set(xlabel="rate (Hz)", ylabel="share (%)", title="Refractory violations")
    violations.set_ylim(min(-0.1, -0.05 * shown.max()) if shown.notna().any() else -0.1, None)
    violations.locator_params(axis="x", nbins=4)
    counts, (first, last) = _courses(recording, node)
    peak = np.maximum(counts.max(axis=1, keepdims=True), 1)
    names = rate.index if len(rate) == len(counts) else range(len(counts))
    heat(course, counts / peak, cmap=SEQUENTIAL, aspect="auto", vmin=0, vmax=1,
         extent=(first, last, len(counts) - 0.5, -0.5))  # fmt: skip
    name_ticks(course, "y", list(names))
    course.set(xlabel="time (s)", ylabel="unit", title="Rate, of each unit's own peak")


def _courses(recording: xr.DataTree, node: str) -> tuple[np.ndarray, tuple[float, float]]:
    """Return spike counts, (unit, stretch), read block by block, and the time they span."""
    spikes = recording[node].to_dataset()
    first, last = _span(recording, node) or (0.0, 1.0)
    last = max(last, first + 1e-9)
    n_units = int(spikes["unit_index"].max()) + 1
    if "units" in recording.children:
        n_units = max(n_units, recording["units"].sizes["unit"])
    counts = np.zeros(n_units * STRETCHES)
    for start in range(0, spikes.sizes["spike"], BLOCK):
        part = spikes.isel(spike=slice(start, start + BLOCK))
        at = ((part["spike_time"].values - first) / (last - first) * STRETCHES).astype(int)
        at = np.clip(at, 0, STRETCHES - 1)
        unit = part["unit_index"].values.astype(int)
        counts += np.bincount(unit * STRETCHES + at, minlength=len(counts))
    return counts.reshape(n_units, STRETCHES), (first, last)


def _behavior(part: SubFigure, recording: xr.DataTree, node: str, checks: Checks) -> None:
    """Draw up to four signals of a series, thinned, with the untracked time in grey."""
    dataset = recording[node].to_dataset()
    floats = [v for v in dataset.data_vars.values() if v.dtype.kind == "f"]
    signals, wide = [[v for v in floats if v.ndim == ndim][:4] for ndim in (1, 2)]
    axes = part.subplots()
    at = np.linspace(0, dataset.sizes["time"] - 1, min(dataset.sizes["time"], 3000)).astype(int)
    time = dataset["time"].isel(time=at).values
    axes.set_xlabel("time (s)")
    if wide and not signals:
        _image(axes, wide[0].isel(time=at), time)
        return
    for signal in signals:
        values = signal.isel(time=at).values
        spread = np.nanpercentile(values, [1, 99]) if np.isfinite(values).any() else (0, 1)
        axes.plot(time, (values - spread[0]) / max(np.ptp(spread), 1e-12), linewidth=0.7,
                  label=str(signal.name))  # fmt: skip
        lost = np.isnan(values)
        axes.fill_between(time, 0, 1, where=lost, color=PALE, step="mid", linewidth=0,
                          transform=axes.get_xaxis_transform())  # fmt: skip
    if signals:
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=4, borderpad=0)
    else:
        axes.text(0.5, 0.5, "no signal of one number a sample", transform=axes.transAxes,
                  ha="center", va="center", color=GREY)  # fmt: skip
    axes.set(ylabel="scaled", yticks=[0, 1], ylim=(-0.3, 1.3))


def _image(axes: Axes, signal: xr.DataArray, time: np.ndarray) -> None:
    """Draw a signal of many columns, such as a spectrogram, from its 1st to 99th percentile."""
    values = np.asarray(signal.values, dtype=float)
    low, high = np.nanpercentile(values, [1, 99]) if np.isfinite(values).any() else (0.0, 1.0)
    heat(axes, values.T, cmap=SEQUENTIAL, aspect="auto", vmin=low, vmax=max(high, low + 1e-12),
         extent=(time[0], time[-1], -0.5, values.shape[1] - 0.5), origin="lower")  # fmt: skip
    axes.set(ylabel=str(signal.dims[1]))


# family, how its row is drawn, height in inches
ROWS: tuple[tuple[str, Draw, float], ...] = (
    ("spikes", _spikes, 2.2),
    ("ieeg", quality_signals.voltages, 2.5),
    ("ephys", quality_signals.voltages, 2.5),
    ("bold", quality_bold.bold, 2.9),
    ("calcium", quality_signals.calcium, 2.2),
    ("behavior", _behavior, 1.3),
)
