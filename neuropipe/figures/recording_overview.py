"""Quality of the recordings at a glance."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neuropipe.errors import DataError
from neuropipe.figures.style import GREY, drawn, new_figure, whole_ticks
from neuropipe.results import RunResults

REFRACTORY_S = 0.002
BLOCK = 1 << 20  # spikes read at a time, so that memory does not grow with the recording
INK = "#0072B2"


@drawn
def plot(results: RunResults) -> Figure:
    """Quality of the recordings at a glance, one row a session. From left to right: mean rate
    of each unit, with the median as a bar; share of each unit's inter-spike intervals shorter
    than 2 ms, a sign of contamination; number of units; duration, the missing part in grey;
    share of finite samples in the behaviour signals. A panel without marks means that the
    recording holds no such data.

    Parameters
    ----------
    results : RunResults
        `recordings`, of which spikes are read block by block.
    """
    sessions = list(results.recordings)
    if not sessions:
        raise DataError("This run has no recording, so there is no overview.")
    figure = new_figure(0.9 + 0.35 * len(sessions))
    rate, violation, units, duration, tracked = figure.subplots(1, 5, sharey=True)
    for row, session in enumerate(sessions):
        recording = results.recordings[session]
        length_s, missing_s = _duration_s(recording)
        counts, violations = _spikes(recording)
        if length_s > missing_s:
            _strip(rate, row, counts / (length_s - missing_s))
        if violations is not None:
            _strip(violation, row, 100 * violations)
        units.barh(row, len(counts), height=0.6, color=INK)
        duration.barh(row, (length_s - missing_s) / 60, height=0.6, color=INK)
        duration.barh(row, missing_s / 60, left=(length_s - missing_s) / 60, height=0.6, color=GREY)
        share = _tracked(recording)
        if share is not None:
            tracked.barh(row, 100 * share, height=0.6, color=INK)
    rate.set_yticks(range(len(sessions)), sessions)
    rate.set_ylim(len(sessions) - 0.5, -0.5)
    rate.set(ylabel="session", xlabel="rate (Hz)", xlim=(0, None))
    violation.set(xlabel="intervals\n< 2 ms (%)", xlim=(0, None))
    units.set(xlabel="units")
    duration.set(xlabel="duration (min)")
    tracked.set(xlabel="behaviour\ntracked (%)", xlim=(0, 100))
    whole_ticks(units, n_most=4)
    for axes in (rate, violation, duration, tracked):
        axes.locator_params(axis="x", nbins=4)
    return figure


def _strip(axes: Axes, row: int, values: np.ndarray) -> None:
    values = np.sort(values[np.isfinite(values)])
    if not len(values):
        return
    spread = np.resize([0, 0.15, -0.15], len(values)) if len(values) > 1 else np.zeros(1)
    axes.plot(values, row + spread, "o", color=INK, markersize=2.5, alpha=0.6, linewidth=0)
    axes.vlines(np.median(values), row - 0.3, row + 0.3, color="black", linewidth=1.2)


def _duration_s(recording: xr.DataTree) -> tuple[float, float]:
    """Return the length of the session, and how much of it is missing, in seconds."""
    if "counts" not in recording.children:
        return float("nan"), 0.0
    counts = recording["counts"].to_dataset()
    bin_s = float(counts["spike_count"].attrs["bin_width_s"])
    time = counts["time"].values
    if not len(time):
        return 0.0, 0.0
    length_s = float(time[-1] - time[0]) + bin_s
    observed = len(time)
    if "observed" in counts:
        observed = int(counts["observed"].sum())
    return length_s, max(length_s - observed * bin_s, 0.0)


def _spikes(recording: xr.DataTree) -> tuple[np.ndarray, np.ndarray | None]:
    """Return spikes per unit and, where spike times are there, the share of short intervals."""
    if "spikes" not in recording.children:
        total = recording["counts"]["spike_count"].sum("time")
        return np.asarray(total.values, dtype=float), None
    spikes = recording["spikes"].to_dataset()
    n_units = recording["units"].sizes["unit"] if "units" in recording.children else 0
    n_spikes = spikes["spike_time"].sizes["spike"]
    counts, short = np.zeros(n_units), np.zeros(n_units)
    for start in range(0, n_spikes, BLOCK):
        part = slice(max(start - 1, 0), start + BLOCK)  # one spike of overlap
        time = spikes["spike_time"].isel(spike=part).values
        unit = spikes["unit_index"].isel(spike=part).values.astype(int)
        new = unit[start > 0 :]
        size = max(len(counts), int(unit.max()) + 1)
        counts, short = (np.pad(a, (0, size - len(a))) for a in (counts, short))
        counts += np.bincount(new, minlength=size)
        fast = (np.diff(unit) == 0) & (np.diff(time) < REFRACTORY_S)
        short += np.bincount(unit[1:][fast], minlength=size)
    with np.errstate(invalid="ignore", divide="ignore"):
        return counts, np.where(counts > 1, short / (counts - 1), np.nan)


def _tracked(recording: xr.DataTree) -> float | None:
    """Return the mean share of finite samples over the behaviour signals."""
    shares = [
        float(np.isfinite(signal).mean())
        for path, node in recording.subtree_with_keys
        if path.split("/")[0] == "behavior"
        for signal in node.data_vars.values()
        if signal.dtype.kind == "f" and signal.size
    ]
    return float(np.mean(shares)) if shares else None
