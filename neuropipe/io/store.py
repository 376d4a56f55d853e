"""Recordings on disk: sharded Zarr v3, whole or not there at all; chunks are decided only here."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import dask
import numpy as np
import xarray as xr
import zarr
from zarr.codecs import BloscCodec
from zarr.core.metadata import ArrayV3Metadata

from neuropipe.errors import NeuropipeError, ReaderError, SchemaError
from neuropipe.io.remote import is_address, remote_store
from neuropipe.schema import SCHEMA_VERSION, Recording, declared, faults_of_dataset

if TYPE_CHECKING:
    from zarr.storage import FsspecStore

log = logging.getLogger(__name__)

CHUNK_BYTES = 2 * 2**20
SHARD_BYTES = 64 * 2**20
# A longer clock stays lazy: a search tree over a 30 kHz hour would be a gigabyte in memory.
INDEXED_CLOCK = 2**22
# One shard in flight: a second would double the memory and save a tenth of the time.
WRITERS = 1
MARK = "content_sha256"
PACKAGES = ("xarray", "zarr", "dask", "numpy")


def layout(shape: Sequence[int], itemsize: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the chunk and the shard of an array: whole rows, cut along the first dim only.

    Parameters
    ----------
    shape : lengths of the dims, first is the one that grows (time, spike, frame)
    itemsize : bytes of one value

    Returns
    -------
    chunk, shard : lengths along each dim; a shard is a whole number of chunks of
        about `CHUNK_BYTES`, at most `SHARD_BYTES` unless a single row is larger
    """
    if not shape:
        return (), ()
    rows, rest = max(1, shape[0]), tuple(max(1, n) for n in shape[1:])
    row_bytes = max(1, itemsize * int(np.prod(rest)))
    chunk = min(rows, max(1, CHUNK_BYTES // row_bytes))
    per_shard = max(1, SHARD_BYTES // (chunk * row_bytes))
    return (chunk, *rest), (chunk * min(per_shard, -(-rows // chunk)), *rest)


def write(recording: Recording | xr.Dataset, path: str | Path) -> dict:
    """Write a recording as one sharded Zarr v3 store, in bounded memory, whole or not at all.

    The store is built beside its place under a hidden name and moved there at the end, so a
    whole store that stands there is replaced only by a whole one. Its content is read back and
    hashed, then described in `<path without .zarr>.json`.

    Parameters
    ----------
    recording : DataTree, or Dataset for estimates
        Lazy arrays are streamed shard by shard.
    path : where the store goes, ends in `.zarr`

    Returns
    -------
    dict
        What the JSON file beside the store holds: content hash, and for each variable its
        dims, shape, dtype, units, chunks, shards and hash.

    Raises
    ------
    SchemaError
        A node departs from the catalogue, or the path does not end in `.zarr`.
    NeuropipeError
        The file system refused (full, read-only); names the path and the bytes free.
    """
    path = Path(path)
    if path.suffix != ".zarr":
        raise SchemaError(f"store {path}: the name ends in {path.suffix!r}, expected '.zarr'")
    tree = xr.DataTree(recording) if isinstance(recording, xr.Dataset) else recording
    _refuse_faults(tree, f"store {path}: not written")
    partial, old = path.with_name(f".{path.name}.partial"), path.with_name(f".{path.name}.old")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _settle(path, partial, old)
        content = _write_partial(tree, partial)
        path.with_suffix(".json").unlink(missing_ok=True)
        if path.exists():
            path.rename(old)
        partial.rename(path)
        shutil.rmtree(old, ignore_errors=True)
        described = {"store": path.name, **content}
        _write_json(path.with_suffix(".json"), described)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError) and not isinstance(error, NeuropipeError):
            raise _disk_error(path, error) from error
        raise
    return described


def open_recording(
    path: str | Path, *, storage_options: Mapping[str, Any] | None = None
) -> Recording:
    """Open a store that `write` made, lazily: Dask chunks are the shards.

    Parameters
    ----------
    path : folder ending in `.zarr`, or an address such as ``s3://bucket/session.zarr``
        What serves an ``https://`` address must list folders, as object stores do by ``s3://``.
    storage_options : of fsspec, for an address: ``{"anon": True}`` for a public bucket

    Returns
    -------
    DataTree
        Clocks of at most `INDEXED_CLOCK` samples carry an index; longer ones stay lazy.

    Raises
    ------
    ReaderError
        No store there, or it was not written to its end.
    SchemaError
        Another schema version, or a node that departs from the catalogue.
    """
    # of a remote store, errors are those of whichever package reaches it
    faults: tuple[type[Exception], ...] = (OSError, ValueError, KeyError)
    store: Path | FsspecStore = Path(path)
    if is_address(path):
        store, faults = remote_store(str(path), storage_options), (Exception,)
    elif not Path(path).is_dir():
        raise ReaderError(
            f"store {path}: found nothing there, expected a folder; run the step that writes it"
        )
    try:
        attrs = dict(zarr.open_group(store, mode="r", zarr_format=3).attrs)
    except faults as error:
        todo = (
            "check the address and its rights"
            if is_address(path)
            else ("delete the folder and run the step that writes it")
        )
        raise ReaderError(
            f"store {path}: found no Zarr v3 group ({error or type(error).__name__}), expected a "
            f"neuropipe store; {todo}"
        ) from error
    found = attrs.get("schema_version")
    if found != SCHEMA_VERSION:
        todo = (
            "update neuropipe"
            if isinstance(found, int) and found > SCHEMA_VERSION
            else ("write it anew with `neuropipe ingest`, then `neuropipe preprocess`")
        )
        raise SchemaError(
            f"store {path}: schema_version {found!r}, expected {SCHEMA_VERSION}; {todo}"
        )
    if MARK not in attrs:
        raise ReaderError(
            f"store {path}: not written to its end (no {MARK!r} on its root); delete the folder "
            "and run the step that writes it"
        )
    try:
        tree = xr.open_datatree(
            store,  # type: ignore[arg-type]
            engine="zarr",
            chunks=None,
            consolidated=False,
            mask_and_scale=False,
            decode_times=False,
            decode_timedelta=False,
            create_default_indexes=False,
        )
    except faults as error:
        raise ReaderError(
            f"store {path}: damaged ({error}); delete the folder and run the step that writes it"
        ) from error
    opened = xr.DataTree.from_dict(
        {
            node.path: lazy_indexed(_in_shards(node.to_dataset(inherit=False)))
            for node in tree.subtree
        }
    )
    opened.attrs = {name: value for name, value in attrs.items() if name != MARK}
    _refuse_faults(opened, f"store {path}")
    return opened


def verify_store(path: str | Path) -> None:
    """Read a store to its end and compare it with the hash of what was written.

    Raises
    ------
    ReaderError
        A file of the store was lost or changed since it was written.
    """
    open_recording(path)
    root = zarr.open_group(path, mode="r", zarr_format=3)
    promised = root.attrs[MARK]
    try:
        found = _describe(root)[MARK]
    except (OSError, ValueError, RuntimeError) as error:
        found = str(error)
    if found != promised:
        raise ReaderError(
            f"store {path}: found content {found}, expected {promised}; delete the folder and run "
            "the step that writes it"
        )


def lazy_indexed(dataset: xr.Dataset) -> xr.Dataset:
    """Return the dataset with an index on each dim coordinate that is short enough to load."""
    short = [
        name
        for name in dataset.coords
        if dataset[name].dims == (name,)
        and name not in dataset.xindexes
        and dataset.sizes[name] <= INDEXED_CLOCK
    ]
    for name in short:
        dataset = dataset.assign_coords({name: dataset[name].variable.load()})
    return dataset


def _refuse_faults(tree: Recording, where: str) -> None:
    faults: list[str] = []
    for node in tree.subtree:
        name = node.path.lstrip("/")
        try:
            variables = declared(name)
        except SchemaError:
            continue
        if node.variables:
            faults += faults_of_dataset(node.to_dataset(inherit=False), variables, name)
    if faults:
        raise SchemaError(f"{where}: " + "; ".join(faults))


def _in_shards(dataset: xr.Dataset) -> xr.Dataset:
    """Return the dataset with one Dask chunk a shard, and text as Python strings."""
    variables = {}
    for name, variable in dataset.variables.items():
        blocks = variable.encoding.get("shards") or variable.encoding.get("chunks") or ()
        variable = variable.chunk(dict(zip(variable.dims, blocks, strict=True)))
        if variable.dtype.kind == "T":
            variable = variable.astype(object)
        variables[name] = xr.Variable(variable.dims, variable.data, variable.attrs)
    return _rebuilt(dataset, variables)


def _rebuilt(dataset: xr.Dataset, variables: dict) -> xr.Dataset:
    """Return a dataset of these variables, without the indexes that would load its clocks."""
    coords = xr.Coordinates({name: variables[name] for name in dataset.coords}, indexes={})
    data = {name: variables[name] for name in dataset.data_vars}
    return xr.Dataset(data, coords, dict(dataset.attrs))


def _settle(path: Path, partial: Path, old: Path) -> None:
    """Clear what a killed write left: half a new store, or the old one between two renames."""
    shutil.rmtree(partial, ignore_errors=True)
    if old.exists() and not path.exists():
        old.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def _write_partial(tree: Recording, partial: Path) -> dict:
    aligned, encoding = {}, {}
    for node in tree.subtree:
        aligned[node.path], encoding[node.path] = _aligned(node.to_dataset(inherit=False))
    whole = xr.DataTree.from_dict(aligned)
    whole.attrs = {**tree.attrs, "schema_version": SCHEMA_VERSION}
    whole.attrs.pop(MARK, None)
    with dask.config.set(num_workers=WRITERS):
        whole.to_zarr(partial, mode="w", zarr_format=3, consolidated=False, encoding=encoding)
    content = _describe(zarr.open_group(partial, mode="r+", zarr_format=3))
    zarr.open_group(partial, mode="r+", zarr_format=3).attrs[MARK] = content[MARK]
    return content


def _aligned(dataset: xr.Dataset) -> tuple[xr.Dataset, dict]:
    """Return the dataset with Dask chunks equal to shards, and the encoding that says so."""
    encoding: dict = {}
    variables = {}
    for name, variable in dataset.variables.items():
        if variable.dtype.kind in "USO":
            variable = variable.astype(np.dtypes.StringDType())
        text = variable.dtype.kind == "T"
        chunk, shard = layout(variable.shape, 64 if text else variable.dtype.itemsize)
        if variable.chunks is not None:
            variable = variable.chunk(dict(zip(variable.dims, shard, strict=True)))
        variables[name] = xr.Variable(variable.dims, variable.data, variable.attrs)
        encoding[name] = {"_FillValue": None, **({"chunks": chunk} if chunk else {})}
        if shard != chunk:
            encoding[name]["shards"] = shard
        if chunk and not text:
            encoding[name]["compressors"] = (BloscCodec(cname="zstd", clevel=3),)
    return _rebuilt(dataset, variables), encoding


def _describe(root: zarr.Group) -> dict:
    nodes: dict[str, dict] = {}
    attrs = {name: value for name, value in root.attrs.items() if name != MARK}
    whole = hashlib.sha256(json.dumps(attrs, sort_keys=True).encode())
    for name, array in sorted(root.members(max_depth=None)):
        if isinstance(array, zarr.Group):
            whole.update(json.dumps([name, dict(array.attrs)], sort_keys=True).encode())
            continue
        node, _, variable = name.rpartition("/")
        dims = list(cast(ArrayV3Metadata, array.metadata).dimension_names or ())
        head = [name, dims, str(array.dtype), dict(array.attrs)]
        digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
        for block in _blocks(array):
            digest.update(block)
        whole.update(digest.digest())
        nodes.setdefault(node or "/", {})[variable] = {
            "dims": dims,
            "shape": list(array.shape),
            "dtype": str(array.dtype),
            "units": array.attrs.get("units"),
            "chunks": list(array.chunks),
            "shards": list(array.shards or array.chunks),
            "sha256": digest.hexdigest(),
        }
    packages = {name: version(name) for name in PACKAGES}
    return {
        MARK: whole.hexdigest(),
        "schema_version": SCHEMA_VERSION,
        "nodes": nodes,
        "packages": packages,
    }


def _blocks(array: zarr.Array) -> Iterator[bytes | memoryview]:
    """Yield the values in C order, a few chunks at a time, so that the hash knows no layout."""
    if not array.ndim:
        yield _bytes(np.asarray(array[()]))
        return
    rows = 4 * array.chunks[0]
    for start in range(0, array.shape[0], rows):
        yield _bytes(np.asarray(array[start : start + rows]))


def _bytes(block: np.ndarray) -> bytes | memoryview:
    if block.dtype.kind in "OT":
        return "".join(f"{len(text)}:{text}" for text in block.ravel().tolist()).encode()
    return np.ascontiguousarray(block).ravel().view(np.uint8).data


def _write_json(path: Path, content: dict) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(partial, path)


def _disk_error(path: Path, error: OSError) -> NeuropipeError:
    existing = next(folder for folder in path.absolute().parents if folder.exists())
    free = shutil.disk_usage(existing).free
    todo = "free some space" if error.errno == errno.ENOSPC else "check the folder"
    return NeuropipeError(
        f"store {path}: {error.strerror or error} while writing, {free:,} bytes free in "
        f"{existing}; nothing half-written was left; {todo} and run again"
    )
