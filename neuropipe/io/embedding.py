"""Features of stimuli that were computed elsewhere, by the stimulus' name."""

from __future__ import annotations

from pathlib import Path

import dask.array as da
import h5py
import numpy as np
import xarray as xr
from dask.base import tokenize

from neuropipe.errors import ReaderError
from neuropipe.io import hdf5
from neuropipe.io.sidecars import read_table
from neuropipe.io.store import layout

ENDS = (".h5", ".hdf5", ".npy")
STIMULUS, EMBEDDING = "stimulus", "embedding"


def read_embedding(path: Path) -> xr.Dataset:
    """Read features of stimuli as node `embedding`, lazily.

    Parameters
    ----------
    path : HDF5 with dataset ``stimulus`` (text) and ``embedding`` (stimulus, feature); or `.npy`
        of (stimulus, feature) with a `.tsv` of the same name beside it, column ``stimulus``

    Returns
    -------
    Dataset
        ``embedding (stimulus, feature)`` float32, its values unread; ``stimulus`` text.

    Raises
    ------
    ReaderError
        Another format, not two dims, a name missing, or one given twice.
    """
    if not path.is_file():
        raise ReaderError(f"{path}: found no file, expected an embedding; check the option")
    if path.suffix.lower() not in ENDS:
        raise ReaderError(
            f"{path}: found {path.suffix!r}, expected an embedding ending in {', '.join(ENDS)}"
        )
    stimuli, values = _npy(path) if path.suffix.lower() == ".npy" else _hdf5(path)
    if values.ndim != 2 or len(stimuli) != values.shape[0]:
        raise ReaderError(
            f"{path}: found features of shape {values.shape} for {len(stimuli)} stimuli, expected "
            "one row of features a stimulus"
        )
    if len(set(stimuli)) < len(stimuli):
        twice = next(name for name in stimuli if stimuli.count(name) > 1)
        raise ReaderError(f"{path}: stimulus {twice!r} stands there twice, expected once")
    return xr.Dataset(
        {"embedding": (("stimulus", "feature"), values, {"units": "1"})},
        {"stimulus": ("stimulus", np.array(stimuli, object), {"units": ""})},
        {"source_file": path.name},
    )


def _hdf5(path: Path) -> tuple[list[str], da.Array]:
    try:
        with h5py.File(path, "r") as file:
            found = [name for name, item in file.items() if isinstance(item, h5py.Dataset)]
            lost = {STIMULUS, EMBEDDING} - set(found)
            if lost:
                raise ReaderError(
                    f"{path}: found datasets {', '.join(found) or 'none'}, expected "
                    f"{STIMULUS} (text) and {EMBEDDING} (stimulus, feature)"
                )
            if not h5py.check_string_dtype(file[STIMULUS].dtype):
                raise ReaderError(
                    f"{path}: {STIMULUS}: found {file[STIMULUS].dtype}, expected text"
                )
            if file[EMBEDDING].dtype.kind not in "fiu":
                raise ReaderError(
                    f"{path}: {EMBEDDING}: found {file[EMBEDDING].dtype}, expected numbers"
                )
            stimuli = [str(name) for name in file[STIMULUS].asstr(errors="replace")[:].ravel()]
            array = hdf5.HDF5Array.of(file[EMBEDDING])
    except ReaderError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise ReaderError(
            f"{path}: found no whole HDF5 file ({error}), expected one; get it again"
        ) from error
    return stimuli, hdf5.lazy(array).astype(np.float32)


def _npy(path: Path) -> tuple[list[str], da.Array]:
    table = path.with_suffix(".tsv")
    if not table.is_file():
        raise ReaderError(
            f"{path}: found no {table.name} beside it, expected the names of its rows in a column "
            f"{STIMULUS}"
        )
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ReaderError(
            f"{path}: cannot be read ({error}), expected plain numbers; save it with "
            "numpy.save(..., allow_pickle=False)"
        ) from error
    if array.dtype.kind not in "fiu":
        raise ReaderError(f"{path}: found {array.dtype}, expected numbers")
    chunks = layout(array.shape, array.dtype.itemsize)[1]
    stat = path.stat()
    name = "embedding-" + tokenize(str(path), stat.st_mtime_ns, stat.st_size)
    values = da.from_array(array, chunks=chunks, name=name).astype(np.float32)
    names = read_table(table, STIMULUS)[STIMULUS]
    return names.fillna("").tolist(), values
