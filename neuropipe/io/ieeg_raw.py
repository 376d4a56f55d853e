"""What every format of iEEG says of one file: its channels, stretches, samples and marks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize

from neuropipe.errors import ReaderError
from neuropipe.io.store import layout


@dataclass(frozen=True)
class Channel:
    """One channel as the file's header has it; `unit` is empty where the header has none."""

    name: str
    unit: str
    rate_hz: float


@dataclass(frozen=True)
class Stretch:
    """Samples without a gap: seconds from the file's first sample, and how long."""

    start_s: float
    duration_s: float


class Sliceable(Protocol):
    """What Dask reads blocks from."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the dims."""

    @property
    def dtype(self) -> np.dtype:
        """Type of the values."""

    @property
    def ndim(self) -> int:
        """Number of dims."""

    def __getitem__(self, index) -> np.ndarray:
        """Return one block."""


@dataclass(frozen=True)
class RawFile:
    """One file, opened: nothing is read but its header and its marks.

    ``samples(stretch, columns, factors, dtype)`` is (time, column): header units times factor.
    """

    paths: tuple[Path, ...]
    channels: tuple[Channel, ...]
    stretches: tuple[Stretch, ...]
    samples: Callable[[int, Sequence[int], Sequence[float], type], Sliceable]
    annotations: xr.Dataset | None


@dataclass(frozen=True)
class Clock:
    """Times of a regularly sampled stretch, made block by block."""

    rate_hz: float
    shape: tuple[int]
    dtype = np.dtype(np.float64)
    ndim = 1

    def __getitem__(self, index) -> np.ndarray:
        return taken(self, index, lambda first, last: np.arange(first, last) / self.rate_hz)


def lazy(array: Sliceable) -> da.Array:
    """Return a Dask array whose chunks are the store's shards."""
    chunks = layout(array.shape, array.dtype.itemsize)[1]
    meta = np.empty((0,) * array.ndim, array.dtype)
    name = "ieeg-" + tokenize(array)
    return da.from_array(array, chunks=chunks, name=name, asarray=False, lock=False, meta=meta)


def taken(array: Sliceable, index, read: Callable[[int, int], np.ndarray]) -> np.ndarray:
    """Return what an index asks for, of rows that `read(first, last)` gives.

    Dask hands on the selections of its user, so that an index may be any that NumPy takes.
    """
    rows, *rest = index if isinstance(index, tuple) else (index,)
    if isinstance(rows, slice) and rows.step in (None, 1):
        first, last, _ = rows.indices(array.shape[0])
        block = read(first, max(first, last))
        return block[(slice(None), *rest)] if rest else block
    if isinstance(rows, slice):
        chosen = range(array.shape[0])[rows]
        wanted = np.arange(chosen.start, chosen.stop, chosen.step)
    else:
        wanted = np.asarray(rows)
    if wanted.size == 0:
        return read(0, 0)[(wanted, *rest)]
    first = int(wanted.min())
    return read(first, int(wanted.max()) + 1)[(wanted - first, *rest)]


def mapped(path: Path, dtype: np.dtype, offset: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return the file's values without reading them.

    Raises
    ------
    ReaderError
        The file became shorter since its header was read.
    """
    try:
        return np.memmap(path, dtype, "r", offset, shape)
    except (OSError, ValueError) as error:
        raise ReaderError(
            f"{path}: found fewer than {offset + dtype.itemsize * int(np.prod(shape)):,} bytes "
            f"({error}), expected as many as when it was opened; do not change files under way"
        ) from error


def marks(onset, duration, description) -> xr.Dataset | None:
    """Return annotations as point events, s from the file's first sample; None for none."""
    if not len(onset):
        return None
    order = np.argsort(np.asarray(onset, float), kind="stable")
    text = np.empty(len(onset), dtype=object)
    text[:] = list(description)
    return xr.Dataset(
        {
            "event_time": ("event", np.asarray(onset, float)[order], {"units": "s"}),
            "duration": ("event", np.asarray(duration, float)[order], {"units": "s"}),
            "description": ("event", text[order], {"units": ""}),
        }
    )
