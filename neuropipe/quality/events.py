"""Trials, intervals and events: onsets that are missing, overlap, or lie outside."""

from __future__ import annotations

import numpy as np

from neuropipe.quality.rows import Row, row
from neuropipe.quality.stream import extent_s, nodes_of
from neuropipe.quality.thresholds import Thresholds
from neuropipe.schema import Recording

EDGE_S = 1.0  # a trial may end a little after the last sample


def check(recording: Recording, thresholds: Thresholds) -> list[Row]:
    """Return the rows of nodes `trials`, ``intervals/*`` and ``events/*``."""
    extent = extent_s(recording)
    rows: list[Row] = []
    for node, dataset in nodes_of(recording, "trials", "intervals", "events").items():
        name = "event_time" if "event_time" in dataset else "start_time"
        if name not in dataset or not dataset[name].size:
            continue
        start = np.asarray(dataset[name].values, dtype=float)
        stop = start
        if "stop_time" in dataset:
            end = np.asarray(dataset["stop_time"].values, dtype=float)
            stop = np.where(np.isfinite(end), end, start)
        there = np.isfinite(start)
        rows.append(
            row(
                node,
                "all",
                "na_onset_share",
                float((~there).mean()),
                thresholds,
                f"{int((~there).sum())} of {len(start)} have no onset; they cannot be cut",
            )
        )
        start, stop = start[there], stop[there]
        if not len(start):
            continue
        if node == "trials":
            order = np.argsort(start, kind="stable")
            until = np.maximum.accumulate(stop[order])
            within = np.append(False, start[order][1:] < until[:-1] - 1e-9)
            rows.append(
                row(
                    node,
                    "all",
                    "overlap_share",
                    float(within.mean()),
                    thresholds,
                    f"{int(within.sum())} trials begin before another has ended: their "
                    "samples would count twice",
                )
            )
        if extent is not None:
            first, last = extent[0] - EDGE_S, extent[1] + EDGE_S
            outside = (start < first) | (start > last) | (stop > last)
            rows.append(
                row(
                    node,
                    "all",
                    "outside_share",
                    float(outside.mean()),
                    thresholds,
                    f"{int(outside.sum())} of {len(start)} lie outside of {extent[0]:.6g} "
                    f"to {extent[1]:.6g} s: another clock, or a part is missing",
                )
            )
    return rows
