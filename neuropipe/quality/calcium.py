"""Calcium: transients over noise, missing and saturated samples of each roi."""

from __future__ import annotations

import numpy as np
import xarray as xr

from neuropipe.quality.rows import Row, rows_of
from neuropipe.quality.stream import blocks, names_of, nodes_of, pieces
from neuropipe.quality.thresholds import Thresholds
from neuropipe.quality.traces import Traces
from neuropipe.runs import named_runs
from neuropipe.schema import Recording

PIECE_ROWS, PIECES, PIECE_BYTES = 4096, 8, 8 * 2**20


def check(recording: Recording, thresholds: Thresholds) -> list[Row]:
    """Return the rows of nodes ``calcium/*``, a roi each; of fluorescence where it is there."""
    rows: list[Row] = []
    for node, dataset in nodes_of(recording, "calcium").items():
        name = "fluorescence" if "fluorescence" in dataset else "dff"
        if name not in dataset or not dataset[name].size:
            continue
        traces, found = Traces(), []
        for _, run in named_runs(recording, node):
            for block in blocks(dataset[name], run):
                traces.add(block)
            found.append(snr(dataset[name], run))
        values = {
            "roi_snr": (
                np.nanmean(found, axis=0) if np.isfinite(found).any() else found[0],
                "transients drown in noise; leave it out, or average in time",
            ),
            "missing_share": (traces.lost_share, "samples are NaN: frames lost, or roi left view"),
            "clipped_share": (
                traces.clipped(both=False),
                "the detector saturated; the height of transients is lost",
            ),
        }
        rois = names_of(dataset, "roi")
        rows += [
            one
            for check, (value, meaning) in values.items()
            for one in rows_of(node, rois, check, value, thresholds, meaning, "roi")
        ]
    return rows


def snr(signal: xr.DataArray, run: slice) -> np.ndarray:
    """Return the height of transients, 99.5th percentile over median, in noise sd, (roi,).

    The noise is that of first differences (median absolute, over sqrt 2), which slow transients
    hardly change. NaN for a trace without noise: denoised or deconvolved before.
    """
    rows = max(256, min(PIECE_ROWS, PIECE_BYTES // (8 * max(1, signal.shape[1]))))
    parts = list(pieces(signal, run, rows, PIECES))
    steps = np.concatenate([np.abs(np.diff(part, axis=0)) for part in parts])
    values = np.concatenate(parts)
    out = np.full(values.shape[1], np.nan)
    some = np.isfinite(steps).any(axis=0)
    if some.any():
        noise = 1.4826 * np.nanmedian(steps[:, some], axis=0) / np.sqrt(2)
        low, high = np.nanpercentile(values[:, some], [50, 99.5], axis=0)
        out[some] = np.divide(high - low, noise, out=np.full(some.sum(), np.nan), where=noise > 0)
    return out
