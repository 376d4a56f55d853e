"""fMRI: temporal SNR, voxels without signal, head motion, spikes and the first volumes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from neuropipe.quality.rows import Row, row
from neuropipe.quality.stream import blocks, nodes_of
from neuropipe.quality.thresholds import Thresholds
from neuropipe.quality.traces import Traces
from neuropipe.runs import named_runs
from neuropipe.schema import Recording

FEWEST = 10  # volumes of a run, to tell the first from the others
MOTION = "framewise_displacement"


@dataclass(frozen=True)
class Run:
    """What one reading of a run gives: (voxel,) moments, (time,) global signal and DVARS."""

    traces: Traces
    global_signal: np.ndarray
    dvars: np.ndarray


def check(recording: Recording, thresholds: Thresholds) -> list[Row]:
    """Return the rows of nodes `bold` and `confounds`, a run each."""
    rows: list[Row] = []
    for node, dataset in nodes_of(recording, "bold").items():
        if dataset["bold"].size:
            for label, run in named_runs(recording, node):
                rows += _of_run(node, label, dataset["bold"], run, thresholds)
    for node, dataset in nodes_of(recording, "confounds").items():
        names = dataset["confound"].values.tolist()
        if MOTION not in names:
            continue
        values = dataset["confound_value"].isel(confound=names.index(MOTION))
        for label, run in named_runs(recording, node):
            moved_mm = np.asarray(values.isel(time=run).values, dtype=float)
            moved_mm = moved_mm[np.isfinite(moved_mm)]
            if len(moved_mm):
                share = float((moved_mm > thresholds.fd_mm).mean())
                rows.append(
                    row(
                        node,
                        label,
                        "fd_mean_mm",
                        float(moved_mm.mean()),
                        thresholds,
                        "the head moved throughout; regress motion out, compare without this run",
                    )
                )
                rows.append(
                    row(
                        node,
                        label,
                        "fd_share",
                        share,
                        thresholds,
                        f"volumes moved by more than {thresholds.fd_mm:g} mm; censor them",
                    )
                )
    return rows


def _of_run(
    node: str, label: str, bold: xr.DataArray, run: slice, thresholds: Thresholds
) -> list[Row]:
    found = read_run(bold, run)
    n_voxels = len(found.traces.n)
    still = found.traces.sd == 0
    holes = found.traces.lost > 0
    live = ~still & (found.traces.n > 0)
    values: dict[str, tuple[float, str]] = {
        "zero_variance_share": (
            float(still.mean()),
            "voxels outside of the brain or of the field of view; narrow the mask",
        ),
        "nan_voxel_share": (
            float(holes.mean()),
            f"{int(holes.sum())} of {n_voxels} voxels; narrow the mask",
        ),
    }
    if bold.attrs.get("units") == "1" and live.any():  # of % signal the mean is no brightness
        tsnr = found.traces.mean[live] / found.traces.sd[live]
        low = float((tsnr < thresholds.tsnr_low).mean())
        values["tsnr_median"] = (
            float(np.median(tsnr)),
            "motion, drift or small voxels; look at the map",
        )
        values["tsnr_low_share"] = (low, f"voxels below {thresholds.tsnr_low:g}; smooth, or mask")
    dvars = found.dvars[np.isfinite(found.dvars)]
    if len(dvars):
        spikes = dvars > thresholds.dvars_factor * np.median(dvars)
        values["dvars_share"] = (float(spikes.mean()), "sudden changes: motion or scanner spikes")
    signal = found.global_signal
    if len(signal) >= FEWEST and bold.attrs.get("units") == "1":
        rest = float(np.nanmedian(signal[1:]))
        jump = abs(float(signal[0]) / rest - 1) if rest else float("nan")
        values["dummy_jump"] = (
            jump,
            "dummy scans were kept; drop the first volumes before fitting",
        )
    return [
        row(node, label, name, value, thresholds, meaning)
        for name, (value, meaning) in values.items()
    ]


def read_run(bold: xr.DataArray, run: slice) -> Run:
    """Read a run once, block by block."""
    traces = Traces()
    signal, dvars = [], []
    for block in blocks(bold, run):
        there = np.isfinite(block)
        n = np.maximum(there.sum(axis=1), 1)
        signal.append(np.where(there, block, 0).sum(axis=1, dtype=np.float64) / n)
        before = np.full((1, block.shape[1]), np.nan) if traces.last is None else traces.last
        steps = np.diff(block, axis=0, prepend=before.astype(block.dtype))
        known = np.isfinite(steps)
        total = np.where(known, steps, 0).astype(np.float64)
        count = known.sum(axis=1)
        mean = (total**2).sum(axis=1) / np.maximum(count, 1)
        dvars.append(np.where(count > 0, np.sqrt(mean), np.nan))
        traces.add(block)
    return Run(traces, np.concatenate(signal), np.concatenate(dvars))
