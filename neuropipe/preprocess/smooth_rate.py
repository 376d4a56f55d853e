"""Counts to smooth rates, for pictures and for models that want a signal."""

from __future__ import annotations

import dask.array as da
import numpy as np
from scipy.ndimage import convolve1d

from neuropipe.errors import DataError
from neuropipe.schema import Recording, validate


def smooth_rate(recording: Recording, *, sd_s: float, causal: bool = False) -> Recording:
    """Add `rate` (time, unit), Hz, to node `counts`: counts under a Gaussian kernel.

    Parameters
    ----------
    recording : DataTree
        With node `counts`.
    sd_s : float
        Standard deviation of the kernel.
    causal : bool
        Use the past and the present bin only. Needed when the rate is to predict anything.

    Notes
    -----
    Lazy. The kernel ends at 4 standard deviations; at the ends of the recording it is
    renormalised by the part of it that lies inside, so a constant rate stays constant.
    """
    validate(recording, "counts")
    node = recording["counts"].to_dataset()
    width = float(node["spike_count"].attrs["bin_width_s"])
    if not sd_s > 0:
        raise DataError(f"smooth_rate: sd_s is {sd_s}, expected a positive number")
    # no further than the recording is long: what lies outside of it weighs nothing
    half = min(int(np.ceil(4 * sd_s / width)), node.sizes["time"] - 1)
    kernel = np.exp(-0.5 * (np.arange(-half, half + 1) * width / sd_s) ** 2)
    if causal:
        kernel[:half] = 0.0  # convolve1d flips its kernel: these entries reach ahead in time
    counts = da.asarray(node["spike_count"].data).astype(np.float32)
    counts = counts.rechunk({0: max(counts.chunks[0][0], 2 * half + 1)})

    def convolve(block: np.ndarray) -> np.ndarray:
        return convolve1d(block, kernel, axis=0, mode="constant")

    depth = {0: half, 1: 0}
    total = counts.map_overlap(convolve, depth=depth, boundary=0.0, dtype=np.float32)
    inside = convolve1d(np.ones(counts.shape[0]), kernel, mode="constant")
    rate = total / (inside[:, None].astype(np.float32) * np.float32(width))
    node["rate"] = (("time", "unit"), rate, {"units": "Hz", "sd_s": float(sd_s)})
    out = recording.copy()
    out["counts"] = type(recording)(node)
    return out
