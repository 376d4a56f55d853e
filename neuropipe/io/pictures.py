"""Pictures of stimuli: a folder of image files, one a stimulus, lazily in and out."""

from __future__ import annotations

from pathlib import Path

import dask.array as da
import numpy as np
import xarray as xr

from neuropipe.errors import ReaderError, SchemaError

ENDS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
BLOCK_BYTES = 2**24


def read_pictures(folder: Path) -> xr.Dataset:
    """Read the images of a folder as node `stimulus/pictures`, lazily.

    Parameters
    ----------
    folder : of images of one size; a stimulus is called by its file's name without ending

    Returns
    -------
    Dataset
        ``frame_color (frame, y, x, color)`` of 0 to 255; ``stimulus (frame)`` text.

    Raises
    ------
    ReaderError
        No image there, two of one name, or one of another size.
    """
    paths = sorted(p for p in folder.glob("[!.]*") if p.suffix.lower() in ENDS)
    names = [p.stem for p in paths]
    if not paths:
        raise ReaderError(f"{folder}: found no image, expected files ending in {', '.join(ENDS)}")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ReaderError(f"{folder}: two images are called {twice!r}, expected names of their own")
    first = _opened(paths[0]).shape
    rows = max(1, BLOCK_BYTES // int(np.prod(first)))
    files = da.from_array(np.array([str(p) for p in paths]), chunks=rows)
    values = da.map_blocks(
        _read, files, shape=first, new_axis=(1, 2, 3), dtype=np.uint8,
        chunks=(files.chunks[0], *((n,) for n in first)), meta=np.empty((0, 0, 0, 0), np.uint8),
    )  # fmt: skip
    return xr.Dataset(
        {"frame_color": (("frame", "y", "x", "color"), values, {"units": "1"})},
        {"stimulus": ("frame", np.array(names, object), {"units": ""})},
        {"source_file": folder.name},
    )


def _read(files: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    out = np.empty((len(files), *shape), np.uint8)
    for row, name in enumerate(files):
        found = _opened(Path(str(name)))
        if found.shape != shape:
            raise ReaderError(
                f"{name}: found {found.shape[:2]} pixels, expected {shape[:2]} as in the first "
                "image; make all of one size"
            )
        out[row] = found
    return out


def _opened(path: Path) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, UnidentifiedImageError, ValueError, Image.DecompressionBombError) as error:
        raise ReaderError(f"{path}: found no image ({error}), expected one; get it again") from (
            error
        )


def write_pictures(dataset: xr.Dataset, folder: Path) -> list[Path]:
    """Write node `stimulus/pictures` as PNG files, and return their paths.

    Raises
    ------
    SchemaError
        The node has no colours of 0 to 255, or no names.
    """
    from PIL import Image

    if "frame_color" not in dataset or dataset["frame_color"].dtype != np.uint8:
        raise SchemaError("stimulus/pictures: expected frame_color of whole numbers, 0 to 255")
    names = [str(name) for name in dataset["stimulus"].values] if "stimulus" in dataset else []
    if not names or any(Path(name).name != name for name in names):
        raise SchemaError(
            "stimulus/pictures: expected stimulus (frame), names that a file can have"
        )
    folder.mkdir(parents=True, exist_ok=True)
    out = []
    for row, name in enumerate(names):
        out.append(folder / f"{name}.png")
        Image.fromarray(dataset["frame_color"].isel(frame=row).values).save(out[-1])
    return out
