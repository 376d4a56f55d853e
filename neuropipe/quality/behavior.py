"""Behaviour: which share of each signal was tracked."""

from __future__ import annotations

import numpy as np

from neuropipe.quality.rows import Row, row
from neuropipe.quality.stream import blocks, nodes_of
from neuropipe.quality.thresholds import Thresholds
from neuropipe.schema import Recording


def check(recording: Recording, thresholds: Thresholds) -> list[Row]:
    """Return the rows of nodes `behavior` and ``behavior/*``, a signal each."""
    rows: list[Row] = []
    for node, dataset in nodes_of(recording, "behavior").items():
        for name, signal in dataset.data_vars.items():
            if signal.dtype.kind != "f" or signal.dims[:1] != ("time",) or not signal.size:
                continue
            finite = sum(int(np.isfinite(block).sum()) for block in blocks(signal))
            rows.append(
                row(
                    node,
                    str(name),
                    "tracked_share",
                    finite / signal.size,
                    thresholds,
                    "tracking was lost; say how gaps are to be bridged before it enters a model",
                    part=True,
                )
            )
    return rows
