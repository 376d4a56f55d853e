"""Masks and atlases: what a file of labels says of each voxel of a recording."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from neuropipe.errors import DataError

SAME_MM = 1e-3


def labels_of(path: str, node: xr.Dataset, *, resample: bool, step: str) -> np.ndarray:
    """Return the value of a 3-D file at each voxel of a node, (voxel,), NaN as 0.

    Parameters
    ----------
    path : NIfTI on the grid of the node
    node : with i, j, k on voxel, and attrs affine and grid_shape
    resample : take the nearest voxel of a file on another grid, by nilearn, instead of refusing it

    Raises
    ------
    DataError
        No such file, no volume in it, or another grid.
    """
    import nibabel as nib

    if not Path(path).is_file():
        raise DataError(f"{step}: {path}: found no file, expected NIfTI; check the path")
    try:
        image: Any = nib.load(path)
        values, own = np.asarray(image.dataobj), image.affine
    except Exception as error:  # whatever a damaged file makes nibabel say
        raise DataError(f"{step}: {path}: cannot be read ({error}), expected NIfTI") from error
    if values.ndim < 3 or values.size != np.prod(values.shape[:3]):
        raise DataError(f"{step}: {path}: found dims {values.shape}, expected one volume")
    values = np.nan_to_num(values.reshape(values.shape[:3]))
    grid = tuple(int(n) for n in node.attrs["grid_shape"])
    affine = np.reshape(node.attrs["affine"], (4, 4))
    if values.shape != grid or not np.allclose(own, affine, rtol=0, atol=SAME_MM):
        if not resample:
            raise DataError(
                f"{step}: {path}: found a grid of {values.shape} with affine "
                f"{np.round(own[:3], 4).tolist()}, expected {grid} with "
                f"{np.round(affine[:3], 4).tolist()}; take the file of that space and resolution, "
                "or set resample: true"
            )
        from nilearn.image import resample_img

        moved = resample_img(
            nib.Nifti1Image(values.astype(np.float32), own), target_affine=affine,
            target_shape=grid, interpolation="nearest", force_resample=True, copy_header=True,
        )  # fmt: skip
        values = np.asarray(moved.dataobj)
    return values[tuple(node[axis].values for axis in "ijk")]
