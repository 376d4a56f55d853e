"""Panels of voltages and of calcium for the figure of a recording's quality."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import SubFigure
from scipy.signal import welch

from neuropipe.figures.style import GREY, SEQUENTIAL, heat, name_ticks, whole_decades

INK, BAD = "#0072B2", "#D55E00"
PIECES, PIECE_S, SNIPPET_S = 6, 10.0, 2.0
PIECE_BYTES = 8 * 2**20  # of many fast channels a piece is shorter
MOST_TRACES = 12
LONGEST = 7  # letters of a channel's name under its point
MOST_HZ = 250.0
COLUMNS = 600  # samples of a carpet


class Checks:
    """The table of checks, asked by node."""

    def __init__(self, table: pd.DataFrame) -> None:
        self.table = table

    def values(self, node: str, check: str) -> pd.Series:
        """Return the values of one check by item, without the row of all."""
        rows = self.table[(self.table["node"] == node) & (self.table["check"] == check)]
        return rows[rows["item"] != "all"].set_index("item")["value"].astype(float)

    def flagged(self, node: str) -> set[str]:
        """Return the units, channels or rois of which a check is no PASS."""
        rows = self.table[(self.table["node"] == node) & (self.table["verdict"] != "PASS")]
        return set(rows["item"].astype(str)) - {"all"}

    def worst(self, node: str) -> str:
        """Return the worst verdict on a node."""
        found = set(self.table.loc[self.table["node"] == node, "verdict"])
        return next((v for v in ("FAIL", "WARN") if v in found), "PASS")


def voltages(part: SubFigure, recording: xr.DataTree, node: str, checks: Checks) -> None:
    """Draw the amplitude of each channel, spectra with the mains marked, and a stretch."""
    sizes, spectra, traces = part.subplots(1, 3, width_ratios=[1, 1.1, 1.5])
    dataset = recording[node].to_dataset()
    voltage = dataset["voltage"]
    names = _names(dataset, "channel")
    bad = checks.flagged(node) | _marked_bad(dataset, names)
    rate_hz = _rate_hz(dataset)
    most = PIECE_BYTES // (4 * len(names))
    rows = max(2, min(round(PIECE_S * rate_hz), max(round(2 * rate_hz), most)))
    pieces = _pieces(voltage, rows)
    size_uv = 1e6 * np.nanmedian([_sd(piece) for piece in pieces], axis=0)
    colors = [BAD if name in bad else INK for name in names]
    sizes.scatter(range(len(names)), np.maximum(size_uv, 1e-3), c=colors, s=9)
    whole_decades(sizes, size_uv)
    sizes.set(xlabel="channel", ylabel="standard deviation (µV)", title="Amplitude")
    name_ticks(sizes, "x", [_short(name) for name in names], n_most=6)
    sizes.tick_params(axis="x", rotation=90 if max(map(len, names)) > 3 else 0)
    _spectra(spectra, pieces, rate_hz, [name in bad for name in names])
    line_hz = dataset.attrs.get("power_line_frequency_hz")
    top_hz = min(rate_hz / 2, MOST_HZ)
    for hz in np.arange(line_hz, top_hz, line_hz) if line_hz else ():
        spectra.axvline(hz, color=GREY, linewidth=0.6, linestyle=":", zorder=0)
    mains = f"mains {line_hz:g} Hz dotted" if line_hz else "mains frequency not stated"
    spectra.set_title(f"Spectra, {mains}")
    _snippet(traces, dataset, names, bad, rate_hz)


def _short(name: str) -> str:
    """Return a name of at most `LONGEST` letters; of a longer one both ends, for numbers end it."""
    if len(name) <= LONGEST:
        return name
    half = LONGEST // 2
    return f"{name[:half]}…{name[-half:]}"


def _spectra(axes, pieces: list[np.ndarray], rate_hz: float, bad: list[bool]) -> None:
    segment = max(8, round(2 * rate_hz))
    usable = [np.nan_to_num(piece) for piece in pieces if len(piece) >= segment]
    axes.set(xlabel="frequency (Hz)", ylabel="power (µV²/Hz)")
    if not usable:
        axes.text(0.5, 0.5, "too short", transform=axes.transAxes, ha="center", color=GREY)
        return
    found = [welch(1e6 * piece, rate_hz, nperseg=segment, axis=0) for piece in usable]
    frequency, power = found[0][0], np.mean([p for _, p in found], axis=0)
    keep = (frequency > 0) & (frequency <= min(rate_hz / 2, MOST_HZ))
    frequency, power = frequency[keep], np.maximum(power[keep], 1e-9)
    flags = np.array(bad)
    for color, own in ((BAD, flags), (INK, ~flags)):
        shown = power[:, own][:, power[:, own].max(axis=0) > 1e-8]
        thinned = shown[:, :: max(1, shown.shape[1] // 40)]
        axes.plot(frequency, thinned, color=color, linewidth=0.5, alpha=0.5, rasterized=True)
    if (~flags).any():
        axes.plot(frequency, np.median(power[:, ~flags], axis=1), color="black", linewidth=1)
    axes.set_yscale("log")
    sound = power[:, ~flags] if (~flags).any() else power
    if (sound > 1e-8).any():
        floor = np.percentile(sound[sound > 1e-8], 1) / 10
        axes.set_ylim(floor, power.max() * 3)


def _snippet(axes, dataset: xr.Dataset, names: list[str], bad: set[str], rate_hz: float) -> None:
    """Draw up to a dozen channels, sound and flagged ones in turn, in the middle."""
    rows = max(2, round(SNIPPET_S * rate_hz))
    sound = [i for i, name in enumerate(names) if name not in bad]
    flagged = [i for i, name in enumerate(names) if name in bad]
    flagged = flagged[: max(MOST_TRACES // 2, MOST_TRACES - len(sound))]
    step = max(1, len(sound) // max(1, MOST_TRACES - len(flagged)))
    chosen = sorted([*flagged, *sound[::step][: MOST_TRACES - len(flagged)]])
    start = max(0, dataset.sizes["time"] // 2 - rows // 2)
    part = dataset.isel(time=slice(start, start + rows), channel=chosen)
    values, time = 1e6 * part["voltage"].values, part["time"].values
    values = values - np.nanmedian(values, axis=0)
    spread = np.nanstd(values, axis=0)
    alive = spread[np.isfinite(spread) & (spread > 0)]
    gap_uv = 6 * float(np.median(alive)) if len(alive) else 1.0
    pauses = np.flatnonzero(np.diff(time) > 3 / rate_hz)
    values[pauses] = np.nan  # no line across a gap of the clock
    for line, i in enumerate(chosen):
        shown = np.clip(values[:, line], -0.6 * gap_uv, 0.6 * gap_uv)
        color = BAD if names[i] in bad else INK
        axes.plot(time, line - shown / gap_uv, color=color, linewidth=0.5, rasterized=True)
    axes.set_yticks(range(len(chosen)), [names[i] for i in chosen])
    axes.set_ylim(len(chosen) - 0.2, -0.8)
    axes.set(xlabel="time (s)", title=f"{gap_uv:.3g} µV a line, cut above")


def calcium(part: SubFigure, recording: xr.DataTree, node: str, checks: Checks) -> None:
    """Draw all rois as a carpet, their signal-to-noise ratio, and some traces."""
    carpet, snr, traces = part.subplots(1, 3, width_ratios=[1.5, 0.8, 1.3])
    dataset = recording[node].to_dataset()
    signal = dataset["fluorescence" if "fluorescence" in dataset else "dff"]
    names, bad = _names(dataset, "roi"), checks.flagged(node)
    at = np.unique(np.linspace(0, signal.sizes["time"] - 1, COLUMNS).astype(int))
    values = np.asarray(signal.isel(time=at).values, dtype=float)
    time = dataset["time"].isel(time=at).values
    usable = np.isfinite(values).any(axis=0)
    low, high = np.full((2, values.shape[1]), np.nan)
    if usable.any():
        low[usable], high[usable] = np.nanpercentile(values[:, usable], [5, 99.5], axis=0)
        # a trace that is mostly silent has both percentiles at rest
        high[usable] = np.where(
            high[usable] > low[usable], high[usable], np.nanmax(values[:, usable], axis=0)
        )
    scaled = (values - low) / np.where(high > low, high - low, np.nan)
    heat(carpet, scaled.T, cmap=SEQUENTIAL, aspect="auto", vmin=0, vmax=1,
         extent=(time[0], time[-1], len(names) - 0.5, -0.5))  # fmt: skip
    name_ticks(carpet, "y", names)
    carpet.set(xlabel="time (s)", ylabel="roi", title=f"{signal.name}, 5th to 99.5th percentile")
    ratio = checks.values(node, "roi_snr")
    colors = [BAD if name in bad else INK for name in ratio.index]
    snr.scatter(ratio.to_numpy(), range(len(ratio)), c=colors, s=9)
    snr.set_ylim(carpet.get_ylim())
    snr.set(xlabel="transients / noise", ylabel="roi", xlim=(0, None))
    if not ratio.notna().any():
        snr.text(
            0.5,
            0.5,
            "no noise:\ndenoised or\ndeconvolved",
            transform=snr.transAxes,
            ha="center",
            va="center",
            color=GREY,
        )
        snr.set(xticks=[])
    name_ticks(snr, "y", names)
    flagged = [i for i, name in enumerate(names) if name in bad][:3]
    sound = [i for i, name in enumerate(names) if name not in bad]
    chosen = sorted([*flagged, *sound[:: max(1, len(sound) // 5)][: 8 - len(flagged)]])
    for line, i in enumerate(chosen):
        color = BAD if names[i] in bad else INK
        traces.plot(
            time, line + 0.9 - 0.9 * np.minimum(scaled[:, i], 1.2), color=color, linewidth=0.6
        )
    traces.set_yticks(np.arange(len(chosen)) + 0.9, [names[i] for i in chosen])
    traces.set_ylim(len(chosen) + 0.2, -0.4)
    traces.set(xlabel="time (s)", ylabel="roi", title="Some traces, each on its own scale")


def _names(dataset: xr.Dataset, dim: str) -> list[str]:
    if dim in dataset.coords:
        return [str(name) for name in dataset[dim].values]
    return [str(i) for i in range(dataset.sizes[dim])]


def _marked_bad(dataset: xr.Dataset, names: list[str]) -> set[str]:
    if "status" not in dataset:
        return set()
    marks = dataset["status"].values.tolist()
    return {name for name, mark in zip(names, marks, strict=True) if str(mark).lower() == "bad"}


def _rate_hz(dataset: xr.Dataset) -> float:
    declared = dataset.attrs.get("sampling_rate_hz")
    if declared:
        return float(declared)
    steps = np.diff(dataset["time"][:10_000].values)
    return float(1 / np.median(steps)) if len(steps) and np.median(steps) > 0 else 1.0


def _pieces(signal: xr.DataArray, rows: int) -> list[np.ndarray]:
    n = signal.sizes["time"]
    if n <= rows:
        return [np.asarray(signal.values)]
    starts = np.linspace(0, n - rows, min(PIECES, n // rows)).astype(int)
    return [np.asarray(signal.isel(time=slice(s, s + rows)).values) for s in starts]


def _sd(piece: np.ndarray) -> np.ndarray:
    there = np.isfinite(piece).any(axis=0)
    out = np.full(piece.shape[1], np.nan)
    out[there] = np.nanstd(piece[:, there], axis=0)
    return np.where(there, out, 0.0)
