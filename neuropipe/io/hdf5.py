"""HDF5 datasets as lazy arrays, opened anew for each block: nothing stays open, nothing is held."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import dask.array as da
import h5py
import numpy as np
from dask.base import tokenize
from dask.utils import SerializableLock

from neuropipe.errors import ReaderError
from neuropipe.io.store import layout

# HDF5 is not re-entrant: one block at a time in a process.
LOCK = SerializableLock("neuropipe-hdf5")
BLOCK_ROWS = 2**20


@dataclass(frozen=True)
class HDF5Array:
    """A dataset, or one field of a compound one, read as `value * factor + offset`.

    `factor` is a number or one number for each column; `dtype` is what comes out.
    """

    path: str
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype
    factor: float | np.ndarray = 1.0
    offset: float = 0.0
    part: str | None = None

    @classmethod
    def of(cls, dataset: h5py.Dataset, part: str | None = None) -> HDF5Array:
        """Return the lazy twin of an open dataset."""
        dtype = dataset.dtype if part is None else dataset.dtype[part]
        if h5py.check_string_dtype(dtype):
            dtype = np.dtype(object)
        return cls(dataset.file.filename, dataset.name, dataset.shape, dtype, part=part)

    @property
    def ndim(self) -> int:
        """Number of dims."""
        return len(self.shape)

    def __getitem__(self, index) -> np.ndarray:
        try:
            with h5py.File(self.path, "r") as file:
                dataset = file[self.name]
                if self.part is not None:
                    block = dataset[index][self.part]
                elif self.dtype == object:
                    block = dataset.asstr(errors="replace")[index]
                elif dataset.dtype == self.dtype:
                    block = dataset[index]
                else:  # HDF5 converts as it reads: no second copy in memory
                    block = dataset.astype(self.dtype)[index]
        except (OSError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ReaderError(
                f"{self.path}: {self.name}: a block cannot be read ({error}), expected "
                f"{self.shape} values; get the file again"
            ) from error
        return self._scaled(block, index)

    def __dask_tokenize__(self):
        stat = os.stat(self.path)
        return (
            self.path,
            stat.st_mtime_ns,
            stat.st_size,
            self.name,
            self.shape,
            str(self.dtype),
            self.part,
            tokenize(self.factor),
            self.offset,
        )

    def _scaled(self, block: np.ndarray, index) -> np.ndarray:
        if self.dtype == object:
            decode = np.frompyfunc(lambda v: v.decode() if isinstance(v, bytes) else v, 1, 1)
            return np.asarray(block) if self.part is None else decode(block).astype(object)
        out = np.asarray(block, self.dtype)
        factor = np.asarray(self.factor)
        if factor.ndim:
            columns = index[1] if isinstance(index, tuple) and len(index) > 1 else slice(None)
            factor = factor[columns]
        if np.any(factor != 1):
            out *= factor.astype(self.dtype)
        if self.offset:
            out += np.asarray(self.offset, self.dtype)
        return out


def lazy(array) -> da.Array:
    """Return a sliceable array as a Dask array whose chunks are the store's shards."""
    itemsize = 64 if array.dtype == object else array.dtype.itemsize
    chunks = layout(array.shape, itemsize)[1]
    meta = np.empty((0,) * array.ndim, array.dtype)
    name = "hdf5-" + tokenize(array)
    return da.from_array(array, chunks=chunks, name=name, lock=LOCK, asarray=False, meta=meta)


def text_of(value) -> str:
    """Return an HDF5 attribute as text."""
    return value.decode() if isinstance(value, bytes) else str(value)


def blocks(array, rows: int = BLOCK_ROWS) -> Iterator[np.ndarray]:
    """Yield a long array piece by piece, for checks that look at every value."""
    for start in range(0, array.shape[0], rows):
        yield array[start : start + rows]


@dataclass(frozen=True)
class Source:
    """The file being read, and what every part of the reader needs to know of it.

    `shift_s` is added to every time: seconds from the session start to the reference of the
    file's timestamps.
    """

    path: Path
    shift_s: float = 0.0
    sort_spikes: bool = False

    def fault(
        self, where: str, found: str, expected: str, do: str = "mend the file"
    ) -> ReaderError:
        """Return the error that names file, object, found, expected and what to do."""
        return ReaderError(f"{self.path}: {where}: found {found}, expected {expected}; {do}")

    def dataset(self, data) -> h5py.Dataset:
        """Return the HDF5 dataset inside whatever wrapper the NWB library put around it."""
        for wrapper in ("dset", "dataset", "data"):
            if type(data) is h5py.Dataset:
                break
            data = getattr(data, wrapper, data)
        return data

    def array(self, data, where: str, part: str | None = None) -> HDF5Array:
        """Return the lazy twin of a dataset that the NWB library handed out."""
        dataset = self.dataset(data)
        if type(dataset) is not h5py.Dataset:
            raise self.fault(where, type(data).__name__, "an HDF5 dataset")
        return HDF5Array.of(dataset, part)

    def table_column(self, data, where: str) -> np.ndarray:
        """Return a short column in memory, text decoded."""
        dataset = self.dataset(data)
        return np.asarray(HDF5Array.of(dataset)[:] if type(dataset) is h5py.Dataset else dataset)

    def times(self, data, where: str) -> HDF5Array:
        """Return a dataset of times in seconds from the session start, float64."""
        return replace(self.array(data, where), dtype=np.dtype(np.float64), offset=self.shift_s)
