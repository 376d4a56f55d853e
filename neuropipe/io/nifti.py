"""NIfTI in: a header is held against the size of its file, then volumes are read in order."""

from __future__ import annotations

import gzip
import io
import logging
import math
import os
import threading
import warnings
import weakref
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import dask.array as da
import nibabel as nib
import numpy as np
from dask.base import tokenize
from nibabel.arrayproxy import ArrayProxy
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError

from neuropipe.errors import ReaderError
from neuropipe.io.gunzip import Gunzip
from neuropipe.io.store import layout

log = logging.getLogger(__name__)

ENDS = (".nii", ".nii.gz")
SURFACES = (".gii", ".dtseries.nii", ".ptseries.nii", ".dscalar.nii", ".dlabel.nii", ".dconn.nii")
# Volumes decoded at a time, in float64: bounds what a block needs beside its result.
PIECE_BYTES = 32 * 2**20
# deflate cannot pack tighter than this
MOST_PACKED = 1032
SAME_MM = 1e-3
BUFFER_BYTES = 2**20
# the warnings' filters are the process's, and blocks are read by threads
_FILTERS = threading.RLock()
DAMAGE = (
    ImageFileError, HeaderDataError, OSError, EOFError, zlib.error, ValueError, TypeError,
    OverflowError, KeyError, IndexError, MemoryError,
)  # fmt: skip


@dataclass(frozen=True)
class Volumes:
    """The volumes of one file, or some voxels of them; slicing (time, voxel) reads float32.

    `spec` is what nibabel needs to decode them: shape, dtype, offset, slope and intercept;
    `voxels` holds positions in a volume in the order of the file (first axis fastest).
    """

    path: str
    stamp: tuple[int, int]
    spec: tuple
    affine: np.ndarray
    step: float
    step_unit: str
    voxels: np.ndarray | None = None
    first: int = 0

    dtype = np.dtype(np.float32)
    ndim = 2

    @property
    def grid(self) -> tuple[int, int, int]:
        """Voxels along the three axes."""
        return self.spec[0][:3]

    @property
    def count(self) -> int:
        """Volumes in the file."""
        return self.spec[0][3]

    @property
    def shape(self) -> tuple[int, int]:
        """Volumes, voxels."""
        n = math.prod(self.grid) if self.voxels is None else len(self.voxels)
        return self.count - self.first, n

    def __getitem__(self, index) -> np.ndarray:
        rows, columns = index if isinstance(index, tuple) else (index, slice(None))
        start, stop, stride = rows.indices(self.shape[0])
        voxels = np.arange(self.shape[1]) if self.voxels is None else self.voxels
        voxels = voxels[columns]
        out = np.empty((max(0, stop - start), len(voxels)), self.dtype)
        for at, piece in self.pieces(start, stop):
            with np.errstate(over="ignore"):  # a float64 beyond float32 becomes inf, for QC to find
                out[at - start : at - start + len(piece)] = piece[:, voxels]
        return out[::stride]

    def __dask_tokenize__(self):
        return (self.path, self.stamp, self.first, tokenize(self.voxels))

    def pieces(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (volume, every voxel) a few volumes at a time, with the first one's number."""
        size = math.prod(self.grid)
        stop = self.shape[0] if stop is None else stop
        step = max(1, PIECE_BYTES // (8 * size))
        for at in range(start, stop, step):
            until = min(at + step, stop)
            block = self._decoded(at + self.first, until + self.first)
            yield at, block.reshape(size, until - at, order="F").T

    def _decoded(self, start: int, stop: int) -> np.ndarray:
        try:
            if _stamp(self.path) != self.stamp:
                raise ReaderError(f"{self.path}: changed since it was opened; read it again")
            return np.asarray(_stored(self.path, self.stamp, self.spec)[..., start:stop])
        except ReaderError:
            raise
        except DAMAGE as error:
            raise ReaderError(
                f"{self.path}: volumes {start} to {stop - 1} of {self.count} cannot be read "
                f"({error}), expected {self.grid} voxels each; get the file again"
            ) from error


@lru_cache(maxsize=8)
def _stored(path: str, stamp: tuple[int, int], spec: tuple) -> ArrayProxy:
    """Return the values of an open file; blocks that follow each other cost one pass through it."""
    shape, dtype, offset, *_ = spec
    end = offset + dtype.itemsize * math.prod(shape)
    packed = path.lower().endswith(".gz")
    raw = Gunzip(path, end) if packed else io.FileIO(path)
    stream = io.BufferedReader(raw, BUFFER_BYTES)
    array = ArrayProxy(stream, spec, mmap=False)
    weakref.finalize(array, stream.close)
    return array


def lazy(volumes: Volumes) -> da.Array:
    """Return volumes as a Dask array (time, voxel) whose blocks are about the store's shards."""
    chunks = layout(volumes.shape, volumes.dtype.itemsize)[1]
    meta = np.empty((0, 0), volumes.dtype)
    name = "nifti-" + tokenize(volumes)
    return da.from_array(volumes, chunks=chunks, name=name, lock=False, asarray=False, meta=meta)


def open_volumes(path: Path) -> Volumes:
    """Check a 4-D NIfTI file against its own header, without reading its values.

    Parameters
    ----------
    path : `.nii` or `.nii.gz`

    Returns
    -------
    Volumes
        All voxels of all volumes.

    Raises
    ------
    ReaderError
        Not NIfTI, a surface format, not 4-D, an affine that places nothing, complex or colour
        values, or a file that is shorter than its header says.
    """
    image = _opened(path)
    if len(image.shape) != 4:
        do = "give the volumes over time" if len(image.shape) == 3 else "split the file"
        raise ReaderError(
            f"{path}: found {len(image.shape)} dims {image.shape}, expected 4: three of space and "
            f"time; {do}"
        )
    header = image.header
    proxy = image.dataobj
    spec = (proxy.shape, proxy.dtype, proxy.offset, proxy.slope, proxy.inter)
    return Volumes(
        str(path), _stamp(path), spec, image.affine, float(header.get_zooms()[3]), _unit(header)
    )


def _unit(header) -> str:
    """Return the unit of the fourth dim as nibabel names it; a code that nobody defined is none."""
    try:
        return str(header.get_xyzt_units()[1])
    except KeyError:
        return "unknown"


def read_mask(path: Path, like: Volumes, resample: bool = False) -> np.ndarray:
    """Return the voxels of a mask, (i, j, k) boolean.

    Parameters
    ----------
    path : 3-D NIfTI with 0 outside and one other value inside
    like : the volumes that it is for
    resample : take the nearest voxel of a mask on another grid instead of refusing it

    Raises
    ------
    ReaderError
        Another grid, several values inside, or none.
    """
    values, affine = read_volume(path)
    if not same_grid(values.shape, affine, like):
        if not resample:
            raise ReaderError(
                f"{path}: found a grid of {values.shape} with affine {_text(affine)}, expected "
                f"{like.grid} with {_text(like.affine)} as {Path(like.path).name} has; take the "
                "mask of that space and resolution, or set resample_mask: true"
            )
        values = resampled(values, affine, like.grid, like.affine)
    inside = np.unique(values[np.isfinite(values) & (values != 0)])
    if len(inside) != 1:
        raise ReaderError(
            f"{path}: found {len(inside)} values other than 0, expected one; "
            + ("the mask is empty" if not len(inside) else "threshold it first")
        )
    return values == inside[0]


def read_volume(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return a 3-D file's values, (i, j, k), and its affine."""
    image = _opened(path)
    shape = image.shape
    if len(shape) < 3 or np.prod(shape) != np.prod(shape[:3]):
        raise ReaderError(f"{path}: found dims {shape}, expected one volume of 3 dims")
    try:
        return np.asarray(image.dataobj).reshape(shape[:3]), image.affine
    except DAMAGE as error:
        raise ReaderError(
            f"{path}: cannot be read ({error}), expected {shape} values; get the file again"
        ) from error


def same_grid(shape: tuple[int, ...], affine: np.ndarray, like: Volumes) -> bool:
    """Return whether a volume has the shape and, within a micrometre, the affine of another."""
    return tuple(shape) == like.grid and np.allclose(affine, like.affine, rtol=0, atol=SAME_MM)


def resampled(
    values: np.ndarray, affine: np.ndarray, grid: tuple[int, ...], to: np.ndarray
) -> np.ndarray:
    """Return a volume on another grid, the nearest voxel's value, by nilearn."""
    from nilearn.image import resample_img

    image = nib.Nifti1Image(values.astype(np.float32), affine)
    out = resample_img(
        image, target_affine=to, target_shape=grid, interpolation="nearest",
        force_resample=True, copy_header=True,
    )  # fmt: skip
    return np.asarray(out.dataobj)


def _opened(path: Path) -> Any:
    """Return an image whose header fits its file; its values are not read."""
    name = path.name.lower()
    if name.endswith(SURFACES):
        raise ReaderError(
            f"{path}: found a surface file (GIFTI or CIFTI), expected NIfTI volumes ending in "
            f"{' or '.join(ENDS)}; take the volumetric output of the same pipeline"
        )
    if not path.is_file():
        raise ReaderError(f"{path}: found no file, expected NIfTI; check the path")
    try:
        with _quiet(path):
            image = nib.load(path, mmap=False)
    except DAMAGE as error:
        raise ReaderError(
            f"{path}: found no NIfTI header ({error}), {path.stat().st_size} bytes; expected "
            "NIfTI-1 or NIfTI-2; get the file again"
        ) from error
    if not isinstance(image, nib.Nifti1Image | nib.Nifti2Image):
        raise ReaderError(
            f"{path}: found {type(image).__name__}, expected NIfTI volumes; take the volumetric "
            "output of the same pipeline"
        )
    if min(image.shape, default=0) < 1:
        raise ReaderError(f"{path}: found dims {image.shape}, expected all above 0; mend it")
    if image.get_data_dtype().kind not in "iuf":
        raise ReaderError(
            f"{path}: found values of type {image.get_data_dtype()}, expected real numbers; "
            "write the magnitude as its own file"
        )
    affine = image.affine
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
        raise ReaderError(
            f"{path}: found the affine {_text(affine)}, expected finite numbers that place every "
            "voxel elsewhere; mend the header"
        )
    _refuse_short(path, image)
    return image


def _refuse_short(path: Path, image: Any) -> None:
    """Hold what the header promises against the file: nothing is allocated for a wrong header."""
    itemsize = image.get_data_dtype().itemsize
    expected = int(image.dataobj.offset) + itemsize * math.prod(map(int, image.shape))
    size = path.stat().st_size
    found = size
    if path.name.lower().endswith(".gz"):
        with path.open("rb") as stream:
            stream.seek(-4, os.SEEK_END)
            said = int.from_bytes(stream.read(4), "little")
        if said == expected % 2**32 and expected <= size * MOST_PACKED:
            return
        found = _unpacked(path, expected)
    if found < expected:
        packed = f" ({size} packed)" if found != size else ""
        raise ReaderError(
            f"{path}: found {found} bytes{packed}, expected {expected} for {image.shape} of "
            f"{image.get_data_dtype()}; the file is cut short or its header is wrong, get it again"
        )


def _unpacked(path: Path, enough: int) -> int:
    """Return how many bytes a compressed file holds, counted up to what is enough."""
    count = 0
    try:
        with gzip.open(path) as stream:
            while count < enough and (piece := stream.read(2**22)):
                count += len(piece)
    except (OSError, EOFError, zlib.error) as error:
        log.info("%s: unpacks to %d bytes, then %s", path, count, error)
    return count


@contextmanager
def _quiet(path: str | Path) -> Iterator[None]:
    """Say what nibabel warns of in the log, once it is over."""
    with _FILTERS, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for text in dict.fromkeys(str(warning.message) for warning in caught):
        log.info("%s: nibabel says %s", path, text)


def _stamp(path: str | Path) -> tuple[int, int]:
    stat = os.stat(path)
    return stat.st_mtime_ns, stat.st_size


def _text(affine: np.ndarray) -> str:
    return np.array2string(np.round(affine[:3], 4), separator=" ").replace("\n", "")
