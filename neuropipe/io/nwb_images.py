"""NWB images and movies shown to the subject: frames on disk, and when each was shown."""

from __future__ import annotations

import logging
from pathlib import PurePosixPath, PureWindowsPath

import dask.array as da
import numpy as np
import xarray as xr
from pynwb.base import Images
from pynwb.image import ImageSeries, IndexSeries

from neuropipe.io.hdf5 import Source, lazy, text_of
from neuropipe.io.nwb_series import Ramp, clock, values

log = logging.getLogger(__name__)

DIMS = {3: ("frame", ("frame", "y", "x")), 4: ("frame_color", ("frame", "y", "x", "color"))}


def _frames(array, where: str, source: Source) -> dict[str, tuple]:
    if array.ndim not in DIMS:
        log.warning("%s: %s: images of %d dims are not read", source.path, where, array.ndim - 1)
        return {}
    name, dims = DIMS[array.ndim]
    return {name: (dims, array, {"units": "1"})}


def movie(series: ImageSeries, source: Source, where: str, name: str) -> xr.Dataset:
    """Read an image series: frames as stored, first axis frame; external files are not opened."""
    if series.external_file is not None:
        return _external(series, source, where)
    time = lazy(clock(series, source, where))
    frames = _frames(lazy(values(series, source, where)), where, source)
    return xr.Dataset({**frames, "frame_time": ("frame", time, {"units": "s"})})


def _external(series: ImageSeries, source: Source, where: str) -> xr.Dataset:
    files = [text_of(file) for file in series.external_file[:]]
    absent = [file for file in files if not (source.path.parent / file).exists()]
    log.warning(
        "%s: %s: %d external image files (%d absent), no frames are read",
        source.path,
        where,
        len(files),
        len(absent),
    )
    names = [PurePosixPath(PureWindowsPath(file).as_posix()).name for file in files]
    out = xr.Dataset()
    dim = "file"
    if series.timestamps is not None:
        times = source.times(series.timestamps, f"{where}/timestamps")
        out["frame_time"] = ("frame", lazy(times), {"units": "s"})
        dim = "frame" if times.shape[0] == len(files) else dim
    elif series.rate and getattr(series, "num_samples", None):
        ramp = Ramp(series.starting_time + source.shift_s, series.rate, (series.num_samples,))
        out["frame_time"] = ("frame", lazy(ramp), {"units": "s"})
    out["external_file"] = (dim, np.asarray(names, dtype=object), {"units": ""})
    return out


def index(series: IndexSeries, source: Source, where: str, name: str) -> xr.Dataset:
    """Read which image was shown when: `frame_index` into the images that it points to."""
    target = (
        series.indexed_images if series.indexed_images is not None else (series.indexed_timeseries)
    )
    shown = lazy(source.array(series.data, f"{where}/data")).astype(np.int64)
    time = lazy(clock(series, source, where))
    return xr.Dataset(
        {
            "frame_index": ("frame", shown, {"units": "1"}),
            "frame_time": ("frame", time, {"units": "s"}),
        },
        attrs={"images": getattr(target, "name", "")},
    )


def album(images: Images, source: Source, where: str, name: str) -> xr.Dataset:
    """Read a set of still images of one size as frames, in the declared order if there is one."""
    ordered = images.order_of_images
    stills = list(ordered.data[:]) if ordered is not None else list(images.images.values())
    arrays = [
        source.array(still.data, f"{where}/{still.name}")
        for still in stills
        if getattr(still, "data", None) is not None
    ]
    shapes = {array.shape for array in arrays}
    if len(arrays) < len(stills) or len(shapes) != 1:
        log.warning(
            "%s: %s: images of sizes %s (%d of %d inside the file), no frames are read",
            source.path,
            where,
            sorted(shapes),
            len(arrays),
            len(stills),
        )
        frames = {}
    else:
        frames = _frames(da.stack([lazy(array) for array in arrays]), where, source)
    labels = np.asarray([still.name for still in stills], dtype=object)
    return xr.Dataset({**frames, "frame_name": ("frame", labels, {"units": ""})})
