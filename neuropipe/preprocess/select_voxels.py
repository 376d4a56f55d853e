"""Which voxels of a recording are kept: by mask, by region, by variance."""

from __future__ import annotations

import logging
from typing import cast

import dask
import dask.array as da
import numpy as np
import xarray as xr

from neuropipe.errors import DataError
from neuropipe.preprocess.grids import labels_of
from neuropipe.preprocess.signals import node_dataset, replaced
from neuropipe.runs import run_slices
from neuropipe.schema import Recording

log = logging.getLogger(__name__)


def select_voxels(
    recording: Recording,
    *,
    mask: str = "",
    atlas: str = "",
    labels: list[int] | None = None,
    resample: bool = False,
    min_variance: float | None = None,
) -> Recording:
    """Keep some voxels of node `bold`, and of `betas` where it is there.

    Parameters
    ----------
    recording : DataTree
        With node `bold`.
    mask : str
        NIfTI file; voxels where it is not 0 are kept.
    atlas : str
        NIfTI file of integer labels; voxels of the `labels` are kept, or of any but 0.
    labels : list of int, optional
        Of the atlas.
    resample : bool
        Lay a file of another grid on this one, nearest voxel, instead of refusing it.
    min_variance : float, optional
        Keep voxels that are finite throughout and whose variance over each run is above this; 0
        leaves out those that never change. Not looked at by default.

    Raises
    ------
    DataError
        Nothing was asked, a file does not fit, or no voxel is left.

    Notes
    -----
    Lazy, but for `min_variance`, which reads the signal once, block by block, when the step is
    called: how many voxels there are must be known. Variance sees held-out trials, though no
    label of theirs.
    """
    node = node_dataset(recording, "bold", "select_voxels")
    if labels is not None and not atlas:
        raise DataError("select_voxels: labels without atlas; name the atlas file")
    if not mask and not atlas and min_variance is None:
        raise DataError("select_voxels: nothing to select by; give mask, atlas or min_variance")
    kept = np.ones(node.sizes["voxel"], dtype=bool)
    if mask:
        kept &= labels_of(mask, node, resample=resample, step="select_voxels") != 0
    if atlas:
        own = labels_of(atlas, node, resample=resample, step="select_voxels")
        lost = sorted(set(labels or ()) - set(np.unique(own).tolist()))
        if lost:
            raise DataError(
                f"select_voxels: {atlas}: no voxel of the recording has label "
                f"{', '.join(map(str, lost))}"
            )
        kept &= own != 0 if labels is None else np.isin(own, labels)
    if min_variance is not None:
        kept &= _varies(recording, node, min_variance)
    log.info("select_voxels: %d of %d voxels kept", kept.sum(), kept.size)
    if not kept.any():
        raise DataError(
            f"select_voxels: session {recording.attrs.get('session')}: no voxel of {kept.size} is "
            "left; relax the selection"
        )
    index = np.flatnonzero(kept)
    out = replaced(recording, "bold", node.isel(voxel=index))
    if "betas" in recording.children:
        betas = cast(xr.DataTree, recording["betas"]).to_dataset(inherit=False)
        if all(np.array_equal(betas[axis], node[axis]) for axis in "ijk"):
            out = replaced(out, "betas", betas.isel(voxel=index))
    return out


def _varies(recording: Recording, node: xr.Dataset, min_variance: float) -> np.ndarray:
    values = da.asarray(node["bold"].data)
    counted = node["kept"].values if "kept" in node else np.ones(len(values), dtype=bool)
    found = []
    for run in run_slices(recording, "bold"):
        own = values[run][np.flatnonzero(counted[run])]
        found.append(own.var(axis=0, dtype=np.float64, split_every=4))
    with np.errstate(invalid="ignore"):  # inf - inf, of a voxel that is left out for it
        variances = dask.compute(*found)
    return np.logical_and.reduce([variance > min_variance for variance in variances])
