"""Clocks: gaps, repeated times, the declared rate, and the fit of a stream's own clock."""

from __future__ import annotations

import numpy as np
import xarray as xr

from neuropipe.quality.rows import Row, row
from neuropipe.quality.stream import blocks
from neuropipe.quality.thresholds import Thresholds
from neuropipe.runs import named_runs
from neuropipe.schema import Recording


def check(recording: Recording, thresholds: Thresholds) -> list[Row]:
    """Return the rows of every node that has a clock, a run each."""
    rows: list[Row] = []
    for path in recording.groups:
        node = path.lstrip("/")
        variables = recording[path].variables
        if "time" in variables and recording[path].sizes.get("time", 0) > 1:
            dataset = recording[path].to_dataset()
            for label, run in named_runs(recording, node):
                rows += _of_run(node, label, dataset, run, thresholds)
        residual_ms = recording[path].attrs.get("clock_residual_ms")
        if residual_ms is not None:
            rows.append(
                row(
                    node,
                    "all",
                    "clock_residual_ms",
                    float(residual_ms),
                    thresholds,
                    "this stream may be shifted against the others; look for missed sync pulses",
                )
            )
    return rows


def _of_run(
    node: str, label: str, dataset: xr.Dataset, run: slice, thresholds: Thresholds
) -> list[Row]:
    n_steps, repeated, lost_s, step_s, last = 0, 0, 0.0, np.nan, None
    first_s = last_s = float("nan")
    for block in blocks(dataset["time"], run):
        steps = np.diff(block, prepend=block[:1] if last is None else last)[last is None :]
        if last is None:
            first_s = float(block[0])
        if np.isnan(step_s) and (steps > 0).any():
            step_s = float(np.median(steps[steps > 0]))
        gaps = steps[steps > thresholds.gap_factor * step_s]
        lost_s += float((gaps - step_s).sum())
        repeated += int((steps == 0).sum())
        n_steps += len(steps)
        last, last_s = block[-1:], float(block[-1])
    if not n_steps:
        return []
    whole_s = last_s - first_s
    rows = [
        row(
            node,
            label,
            "gap_share",
            lost_s / whole_s if whole_s > 0 else 0.0,
            thresholds,
            f"{lost_s:.3g} s are missing: samples were dropped, or the recording was paused; do "
            "not filter across",
        ),
        row(
            node,
            label,
            "repeated_times",
            repeated / n_steps,
            thresholds,
            f"{repeated} samples share a time with the one before: a buffer was written twice, or "
            "times were rounded",
        ),
    ]
    declared = dataset.attrs.get("sampling_rate_hz")
    if declared and step_s > 0:
        rows.append(
            row(
                node,
                label,
                "rate_error",
                abs(1 / (step_s * float(declared)) - 1),
                thresholds,
                f"the clock runs at {1 / step_s:.6g} Hz, the header says {float(declared):.6g} Hz",
            )
        )
    return rows
