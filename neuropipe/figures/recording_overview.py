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
LABELS = {
    "rate": "rate (Hz)",
    "violations": "intervals\n< 2 ms (%)",
    "noise": "sd over noise\n(dimensionless)",
    "units": "units",
    "duration": "duration (min)",
    "tracked": "behaviour\ntracked (%)",
}


@drawn
def plot(results: RunResults) -> Figure:
    """Quality of the recordings at a glance, one row a session, as far as they hold such data.
    Of spikes: mean rate of each unit, with the median as a bar, and the share of each unit's
    inter-spike intervals shorter than 2 ms, a sign of contamination. Of traces: standard
    deviation of each over that of its noise, told by the differences of neighbouring samples (1
    is noise alone). Then the number of units, or traces; the duration, the missing part in grey;
    and the share of finite samples in the behaviour signals.

    Parameters
    ----------
    results : RunResults
        `recordings`, of which spikes are read block by block and traces lazily.
    """
    sessions = list(results.recordings)
    if not sessions:
        raise DataError("This run has no recording, so there is no overview.")
    found = {session: _measures(results, session) for session in sessions}
    shown = [name for name in LABELS if any(name in each for each in found.values())]
    figure = new_figure(0.9 + 0.35 * len(sessions))
    panels = dict(zip(shown, figure.subplots(1, len(shown), sharey=True, squeeze=False)[0],
                      strict=True))  # fmt: skip
    for row, measures in enumerate(found.values()):
        for name, value in measures.items():
            if name == "duration":
                kept_s, missing_s = value
                panels[name].barh(row, kept_s / 60, height=0.6, color=INK)
                panels[name].barh(row, missing_s / 60, left=kept_s / 60, height=0.6, color=GREY)
            elif name in ("units", "tracked"):
                panels[name].barh(row, value[0], height=0.6, color=INK)
            else:
                _strip(panels[name], row, value)
    first = panels[shown[0]]
    first.set_yticks(range(len(sessions)), sessions)
    first.set(ylabel="session", ylim=(len(sessions) - 0.5, -0.5))
    for name, axes in panels.items():
        axes.set(xlabel=LABELS[name], xlim=(0, 100) if name == "tracked" else (0, None))
        axes.locator_params(axis="x", nbins=4)
    whole_ticks(panels["units"], n_most=4)
    return figure


def _measures(results: RunResults, session: str) -> dict[str, np.ndarray]:
    """Return what the panels show of a session: an array a panel, panels without data left out."""
    recording, series = results.recordings[session], results.series(session)
    length_s, missing_s = results.extent_s(session)
    out = {"units": np.array([0 if series is None else series.shape[1]])}
    if "spikes" in recording.children or "counts" in recording.children:
        counts, violations = _spikes(recording)
        out["units"] = np.array([len(counts)])
        if length_s > missing_s:
            out["rate"] = counts / (length_s - missing_s)
        if violations is not None:
            out["violations"] = 100 * violations
    elif series is not None:
        out["noise"] = _over_noise(series)
    if np.isfinite(length_s):
        out["duration"] = np.array([length_s - missing_s, missing_s])
    share = _tracked(recording)
    if share is not None:
        out["tracked"] = np.array([100 * share])
    return out


def _over_noise(series: xr.DataArray) -> np.ndarray:
    """Return the sd of each trace over that of white noise with the same differences."""
    noise = series.diff("time").std("time").values / np.sqrt(2)
    sd = series.std("time").values
    return np.divide(sd, noise, out=np.full(len(sd), np.nan), where=noise > 0)


def _strip(axes: Axes, row: int, values: np.ndarray) -> None:
    values = np.sort(values[np.isfinite(values)])
    if not len(values):
        return
    spread = np.resize([0, 0.15, -0.15], len(values)) if len(values) > 1 else np.zeros(1)
    axes.plot(values, row + spread, "o", color=INK, markersize=2.5, alpha=0.6, linewidth=0)
    axes.vlines(np.median(values), row - 0.3, row + 0.3, color="black", linewidth=1.2)


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
