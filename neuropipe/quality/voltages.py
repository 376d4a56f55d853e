"""Voltages, intracranial or extracellular: flat, clipped, noisy, outlying and bad channels."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy.signal import welch

from neuropipe.quality.rows import Row, row, rows_of
from neuropipe.quality.stream import blocks, names_of, nodes_of, pieces, rate_hz_of
from neuropipe.quality.thresholds import Thresholds
from neuropipe.quality.traces import Traces
from neuropipe.runs import named_runs
from neuropipe.schema import Recording

PIECE_S, PIECES, SEGMENT_S = 10.0, 12, 2.0
PIECE_BYTES = 16 * 2**20  # of many fast channels a piece is shorter, but one segment at least
FEWEST = 5  # channels of a kind, to tell an outlier
LEAST_SPREAD = 0.05  # of log10 amplitude: channels that differ by a tenth are alike


def check(recording: Recording, thresholds: Thresholds) -> list[Row]:
    """Return the rows of nodes `ieeg` and ``ephys/*``, a channel each."""
    rows: list[Row] = []
    for node, dataset in nodes_of(recording, "ieeg", "ephys").items():
        if dataset["voltage"].size:
            rows += _of_node(node, dataset, recording, thresholds)
    return rows


def _of_node(
    node: str, dataset: xr.Dataset, recording: Recording, thresholds: Thresholds
) -> list[Row]:
    rate_hz = rate_hz_of(dataset)
    line_hz = dataset.attrs.get("power_line_frequency_hz") or thresholds.power_line_frequency_hz
    voltage = dataset["voltage"]
    names = names_of(dataset, "channel")
    traces = Traces()
    seconds, flat = np.zeros(len(names)), np.zeros(len(names))
    ratios = [np.full(len(names), np.nan)]
    for _, run in named_runs(recording, node):
        for block in blocks(voltage, run):
            traces.add(block)
            windows = _seconds(block, rate_hz)
            spread_uv = 1e6 * windows.std(axis=1)
            flat += (spread_uv <= thresholds.flat_uv).sum(0)
            seconds += np.isfinite(spread_uv).sum(0)
        frequency, power = spectrum(voltage, run, rate_hz)
        if len(frequency):
            ratios.append(line_ratio(frequency, power, float(line_hz)))
    values = {
        "flat_share": (
            flat / np.maximum(seconds, 1),
            "a disconnected or grounded contact; mark it bad",
        ),
        "clipped_share": (
            traces.clipped(),
            "the amplifier saturated; filters would spread it, leave out these stretches",
        ),
        "missing_share": (traces.lost_share, "samples are NaN; filters would spread them"),
        "amplitude_z": (
            amplitude_z(traces.sd, dataset),
            "much larger or smaller than its neighbours: loose contact, or another kind of channel",
        ),
        "line_ratio": (
            np.fmax.reduce(ratios),
            f"noise of the mains, {float(line_hz):g} Hz and harmonics; notch it or re-reference",
        ),
    }
    rows = [
        one
        for name, (value, meaning) in values.items()
        for one in rows_of(node, names, name, value, thresholds, meaning, "channel")
    ]
    alive = traces.sd[traces.sd > 0]
    if len(alive):
        meaning = (
            "no brain is that loud or still: unit or resolution in the header is probably wrong; "
            "mend them in a copy of it"
        )
        rows += [
            row(node, "all", name, 1e6 * float(np.median(alive)), thresholds, meaning)
            for name in ("amplitude_uv", "amplitude_low_uv")
        ]
    if "status" in dataset:
        status = np.array([str(text).lower() for text in dataset["status"].values])
        bad = [name for name, text in zip(names, status, strict=True) if text == "bad"]
        told = ", ".join(bad[:10]) + (" ..." if len(bad) > 10 else "")
        rows.append(
            row(
                node,
                "all",
                "bad_channel_share",
                len(bad) / len(names),
                thresholds,
                f"the source calls {len(bad)} of {len(names)} bad ({told})",
            )
        )
    return rows


def _seconds(block: np.ndarray, rate_hz: float) -> np.ndarray:
    """Return the whole seconds of a block, (second, sample, channel)."""
    rows = min(len(block), max(2, round(rate_hz))) if np.isfinite(rate_hz) else len(block)
    whole = len(block) // rows
    return block[: whole * rows].astype(float).reshape(whole, rows, block.shape[1])


def spectrum(voltage: xr.DataArray, run: slice, rate_hz: float) -> tuple[np.ndarray, np.ndarray]:
    """Return frequencies and mean power, (frequency,), (frequency, channel), of spread pieces."""
    if not np.isfinite(rate_hz):
        return np.zeros(0), np.zeros((0, voltage.shape[1]))
    segment = max(8, round(SEGMENT_S * rate_hz))
    found = []
    frequency = np.zeros(0)
    most = PIECE_BYTES // (voltage.dtype.itemsize * max(1, voltage.shape[1]))
    rows = max(segment, min(round(PIECE_S * rate_hz), most))
    for piece in pieces(voltage, run, rows, PIECES):
        if len(piece) < segment:
            continue
        frequency, power = welch(np.nan_to_num(piece), rate_hz, nperseg=segment, axis=0)
        found.append(power)
    if not found:
        return np.zeros(0), np.zeros((0, voltage.shape[1]))
    return frequency, np.mean(found, axis=0)


def line_ratio(frequency: np.ndarray, power: np.ndarray, line_hz: float) -> np.ndarray:
    """Return, (channel,), the largest ratio of a mains harmonic's power to its neighbours'."""
    n = power.shape[1] if power.ndim == 2 else 0
    ratios = [np.full(n, np.nan)]
    top_hz = 0.9 * frequency[-1] if len(frequency) else 0.0
    for harmonic_hz in np.arange(line_hz, top_hz, line_hz):
        away = np.abs(frequency - harmonic_hz)
        beside = power[(away >= 2) & (away <= 6)]
        if len(beside):
            floor = np.median(beside, axis=0)
            peak = power[away <= 1].max(axis=0)
            ratios.append(np.divide(peak, floor, out=np.full(n, np.nan), where=floor > 0))
    table = np.stack(ratios)
    known = np.isfinite(table).any(axis=0)
    return np.where(known, np.nan_to_num(table, nan=-np.inf).max(axis=0), np.nan)


def amplitude_z(sd: np.ndarray, dataset: xr.Dataset) -> np.ndarray:
    """Return |robust z| of log amplitude among the channels of the same type, (channel,)."""
    kind = dataset["channel_type"].values if "channel_type" in dataset else np.full(len(sd), "")
    out = np.full(len(sd), np.nan)
    with np.errstate(divide="ignore"):
        size = np.log10(sd)
    for name in set(kind.tolist()):
        own = (kind == name) & np.isfinite(size)
        if own.sum() >= FEWEST:
            away = size[own] - np.median(size[own])
            spread = max(1.4826 * float(np.median(np.abs(away))), LEAST_SPREAD)
            out[own] = np.abs(away) / spread
    return out
