"""Regions of an atlas: the mean signal of the voxels of each."""

from __future__ import annotations

import logging
from pathlib import Path

import dask.array as da
import numpy as np
import pandas as pd
import xarray as xr

from neuropipe.errors import DataError
from neuropipe.preprocess.grids import labels_of
from neuropipe.preprocess.signals import node_dataset
from neuropipe.schema import Recording

log = logging.getLogger(__name__)

MM = {"units": "mm"}


def average_regions(
    recording: Recording, *, atlas: str, names: str = "", resample: bool = False
) -> Recording:
    """Write node `regions`: the mean of `bold` over the voxels of each region.

    Parameters
    ----------
    recording : DataTree
        With node `bold`.
    atlas : str
        NIfTI file of integer labels; 0 is no region.
    names : str
        TSV with columns ``index`` and ``name`` (BIDS ``_dseg.tsv``); without it a region is called
        by its number.
    resample : bool
        Lay an atlas of another grid on this one, nearest voxel, instead of refusing it.

    Raises
    ------
    DataError
        A file does not fit, or no voxel lies in any region.

    Notes
    -----
    Lazy. The numbers are those of nilearn's NiftiLabelsMasker(strategy="mean") where all voxels
    are finite; a NaN voxel makes its region NaN. Regions without a voxel are left out.
    """
    node = node_dataset(recording, "bold", "average_regions")
    own = labels_of(atlas, node, resample=resample, step="average_regions")
    if not np.array_equal(own, np.round(own)):
        raise DataError(f"average_regions: {atlas}: found fractions, expected whole labels")
    inside = np.flatnonzero(own != 0)
    if not len(inside):
        raise DataError(f"average_regions: {atlas}: no voxel of the recording lies in a region")
    numbers, index = np.unique(own[inside].astype(np.int64), return_inverse=True)
    counts = np.bincount(index)
    called = _names(names) if names else {}
    absent = sorted(set(called) - set(numbers.tolist()) - {0})
    if absent:
        log.warning("average_regions: no voxel in regions %s, left out", absent)
    by_region = inside[np.argsort(index, kind="stable")]
    first = np.cumsum(counts) - counts

    def means(block: np.ndarray) -> np.ndarray:
        sums = np.add.reduceat(block[:, by_region], first, axis=1, dtype=np.float64)
        return (sums / counts).astype(np.float32)

    values = da.asarray(node["bold"].data).rechunk({1: -1})
    signal = values.map_blocks(means, chunks=(values.chunks[0], (len(numbers),)), dtype=np.float32)
    text = [called.get(int(n), str(int(n))) for n in numbers]
    regions = xr.Dataset(
        {"region_signal": (("time", "region"), signal, dict(node["bold"].attrs))},
        {
            "time": node["time"].variable,
            "region": ("region", np.array(text, object), {"units": ""}),
            "label": ("region", numbers, {"units": "1"}),
            "n_voxels": ("region", counts, {"units": "1"}),
            **{
                axis: ("region", np.bincount(index, node[axis].values[inside]) / counts, MM)
                for axis in "xyz"
            },
        },
        {**node.attrs, "atlas": Path(atlas).name},
    )  # fmt: skip
    if "kept" in node:
        regions["kept"] = node["kept"].variable
    out = recording.copy()
    out["regions"] = xr.DataTree(regions)
    return out


def _names(path: str) -> dict[int, str]:
    try:
        frame = pd.read_csv(path, sep="\t", dtype={"name": str}, keep_default_na=False)
        return {int(i): str(n) for i, n in zip(frame["index"], frame["name"], strict=True)}
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"average_regions: {path}: cannot be read ({error}), expected a TSV with columns index "
            "and name"
        ) from error
