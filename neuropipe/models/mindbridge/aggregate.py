"""Brains of any size to one size: pooling of voxels in the order in which they stand."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def pool(x: Tensor, size: int, how: str) -> Tensor:
    """Pool voxels to a common number of bins.

    Parameters
    ----------
    x : (..., voxel)
    size : int
        Bins; bin i covers voxels floor(i V / size) to ceil((i + 1) V / size).
    how : {"max", "average", "resize"}
        The largest or mean voxel of a bin, or linear interpolation.

    Returns
    -------
    (..., bin)

    Notes
    -----
    Without parameters, so a recording is pooled once. The result depends on the order of the
    voxels. Source: MindBridge's adaptive signal aggregation, ``max``.
    """
    flat = x.reshape(-1, 1, x.shape[-1])
    if how == "max":
        out = F.adaptive_max_pool1d(flat, size)
    elif how == "average":
        out = F.adaptive_avg_pool1d(flat, size)
    else:
        out = F.interpolate(flat, size, mode="linear", align_corners=False)
    return out.reshape(*x.shape[:-1], size)
