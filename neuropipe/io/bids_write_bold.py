"""BOLD out: a NIfTI file a run, streamed volume by volume; mask and confounds as a derivative."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import xarray as xr

from neuropipe.errors import SchemaError
from neuropipe.io.bids_write import Piece, generated, spans
from neuropipe.io.sidecars_write import CLOCK_SLACK, write_json, write_table
from neuropipe.io.store import layout
from neuropipe.schema import Recording

# Whole volumes held at a time, float32.
PIECE_BYTES = 32 * 2**20
SCANNER = 1  # of qform and sform: scanner coordinates
LEVEL = 1  # noise packs badly, so the quick level


def write_bold(
    recording: Recording,
    root: Path,
    home: Path,
    pieces: Sequence[Piece],
    task: str,
    int16: bool,
) -> tuple[list[Path], list[Path]]:
    """Write the runs; return the images in order, and all other files."""
    node = recording["bold"].to_dataset()
    shape, affine, tr_s = _grid(node)
    flat = np.ravel_multi_index(tuple(node[a].values for a in "ijk"), shape, order="F")
    derived = root / "derivatives" / "neuropipe"
    folder = derived / home.relative_to(root) / "func"
    described = derived / "dataset_description.json"
    files = [write_json(described, generated({"Name": "Masks and confounds"}))]
    mask = np.zeros(int(np.prod(shape)), np.uint8)
    mask[flat] = 1
    stem = pieces[0].stem.split("_run-")[0]
    masked = folder / f"{stem}_desc-brain_mask.nii.gz"
    _write_image(masked, mask.dtype, shape, affine, iter([mask[None]]))
    files += [masked, write_json(folder / f"{stem}_desc-brain_mask.json", {"Type": "Brain"})]
    main = []
    for piece in pieces:
        own = node.isel(time=piece.rows)
        _refuse_gaps(own, piece, tr_s)
        path = home / "func" / f"{piece.stem}_bold.nii.gz"
        _write_run(path, node["bold"], piece.rows, flat, shape, affine, tr_s, int16)
        main.append(path)
        told = {"TaskName": task, "RepetitionTime": tr_s, **_processed(node)}
        if own["bold"].attrs["units"] != "1":
            told["Units"] = own["bold"].attrs["units"]
        files.append(write_json(home / "func" / f"{piece.stem}_bold.json", told))
        if "confounds" in recording.children:
            files += _write_confounds(recording["confounds"].to_dataset(), own, piece, folder)
    return main, files


def _grid(node: xr.Dataset) -> tuple[tuple[int, int, int], np.ndarray, float]:
    lost = [n for n in ("affine", "grid_shape", "repetition_time_s") if n not in node.attrs]
    if lost:
        raise SchemaError(f"bold: attrs {', '.join(lost)} missing; an image needs them")
    i, j, k = (int(n) for n in node.attrs["grid_shape"])
    index = np.stack([node[a].values for a in "ijk"])
    if (index < 0).any() or (index.max(1) >= (i, j, k)).any():
        raise SchemaError(
            f"bold: voxels up to {index.max(1).tolist()} lie outside of grid_shape {[i, j, k]}"
        )
    if len(np.unique(index, axis=1).T) < index.shape[1]:
        raise SchemaError("bold: two voxels have the same i, j, k; expected one a place")
    affine = np.asarray(node.attrs["affine"], dtype=float).reshape(4, 4)
    return (i, j, k), affine, float(node.attrs["repetition_time_s"])


def _processed(node: xr.Dataset) -> dict[str, Any]:
    """Return what a sidecar says of space and slice times; raw names have no entity for them."""
    told: dict[str, Any] = {}
    if node.attrs.get("space", "native") != "native":
        told["SpatialReference"] = node.attrs["space"]
    if node.attrs.get("reference_time_s"):
        told |= {"SliceTimingCorrected": True, "StartTime": node.attrs["reference_time_s"]}
    return told


def _refuse_gaps(own: xr.Dataset, piece: Piece, tr_s: float) -> None:
    expected = piece.start_s + np.arange(own.sizes["time"]) * tr_s
    if np.abs(own["time"].values - expected).max() > CLOCK_SLACK * tr_s:
        raise SchemaError(
            f"bold: run {piece.label!r}: volumes are not {tr_s:g} s apart, expected a regular clock"
        )


def _write_run(
    path: Path,
    bold: xr.DataArray,
    rows: slice,
    flat: np.ndarray,
    shape: tuple[int, int, int],
    affine: np.ndarray,
    tr_s: float,
    int16: bool,
) -> None:
    n_places = int(np.prod(shape))
    step, few = layout(bold.shape, 4)[1][0], max(1, PIECE_BYTES // (4 * n_places))

    def blocks() -> Iterator[np.ndarray]:
        for part in spans(rows, step):
            block = bold.isel(time=part).values
            for at in range(0, len(block), few):
                yield block[at : at + few]

    def volumes(
        dtype: np.dtype, code: Callable[[np.ndarray], np.ndarray], outside: int = 0
    ) -> Iterator[np.ndarray]:
        for block in blocks():
            out = np.full((len(block), n_places), outside, dtype)
            out[:, flat] = code(block)
            yield out

    whole = (*shape, rows.stop - rows.start)
    if not int16:
        real = np.dtype(np.float32)
        _write_image(path, real, whole, affine, volumes(real, np.asarray), tr_s)
        return
    # 0 stays in the range: it stands outside of the mask
    low, high = 0.0, 0.0
    for block in blocks():
        if not np.isfinite(block).all():
            raise SchemaError(f"{path.name}: NaN or infinity, which 16 bits cannot hold")
        low, high = min(low, float(block.min())), max(high, float(block.max()))
    # the header keeps both as float32, so the coding uses what it will say
    slope = float(np.float32((high - low) / 65530)) or 1.0
    offset = float(np.float32(low + 32765 * slope))

    def coded(block: np.ndarray) -> np.ndarray:
        return np.round((block.astype(float) - offset) / slope)

    short = np.dtype(np.int16)
    stream = volumes(short, coded, round(-offset / slope))
    _write_image(path, short, whole, affine, stream, tr_s, (slope, offset))


def _write_image(
    path: Path,
    dtype: np.dtype,
    shape: tuple[int, ...],
    affine: np.ndarray,
    volumes: Iterator[np.ndarray],
    tr_s: float = 0.0,
    scale: tuple[float, float] = (1.0, 0.0),
) -> None:
    """Write volumes, each (time, grid in the order of the file, first axis fastest)."""
    header = nib.Nifti1Header(endianness="<")
    header.set_data_dtype(dtype)
    header.set_data_shape(shape)
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(0))
    header.set_zooms([*spacing, tr_s][: len(shape)])
    header.set_xyzt_units("mm", "sec")
    header.set_sform(affine, SCANNER)
    header.set_qform(affine, SCANNER, strip_shears=True)
    header["vox_offset"] = header.single_vox_offset
    header["magic"] = header.single_magic
    header["scl_slope"], header["scl_inter"] = scale
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as raw, gzip.GzipFile("", "wb", LEVEL, raw, mtime=0) as stream:
        header.write_to(stream)
        for block in volumes:
            stream.write(np.ascontiguousarray(block, dtype.newbyteorder("<")).tobytes())


def _write_confounds(
    confounds: xr.Dataset, own: xr.Dataset, piece: Piece, folder: Path
) -> list[Path]:
    rows = confounds.isel(time=piece.rows)
    if rows.sizes["time"] != own.sizes["time"] or not np.allclose(rows["time"], own["time"]):
        raise SchemaError(
            f"confounds: run {piece.label!r}: another clock than bold's, expected a row a volume"
        )
    names = [str(name) for name in rows["confound"].values]
    values = rows["confound_value"].values.T
    table = folder / f"{piece.stem}_desc-confounds_timeseries.tsv"
    units = [str(unit) for unit in rows["confound_unit"].values]
    told = {n: {"Units": u} for n, u in zip(names, units, strict=True) if u}
    return [
        write_table(table, dict(zip(names, values, strict=True))),
        write_json(table.with_suffix(".json"), told),
    ]
