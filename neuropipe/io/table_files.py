"""Arrays of csv, MATLAB and HDF5 files by their name; no object is ever unpickled."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from neuropipe.errors import ReaderError
from neuropipe.io.child import ask
from neuropipe.io.hdf5 import HDF5Array
from neuropipe.registry import hint

DELIMITERS = {".csv": ",", ".tsv": "\t", ".txt": "\t"}
HDF5 = (".h5", ".hdf5", ".hdf", ".he5")
PROBE = Path(__file__).with_name("probe_matlab.py")
SUFFIXES = (*DELIMITERS, ".mat", *HDF5)
MOST_NAMES = 60  # in an error; a file may hold thousands


@dataclass(frozen=True)
class Arrays:
    """The named arrays of one file.

    `get` returns an array in memory or an `HDF5Array`; `backward` is True where the file keeps
    the dims in reverse order, as MATLAB does in HDF5.
    """

    path: Path
    names: Callable[[], list[str]]
    get: Callable[[str], Any]
    backward: bool = False
    table: bool = False

    def load(self, name: str, where: str) -> Any:
        """Return an array by its name.

        Raises
        ------
        ReaderError
            No such array: lists those there are.
        """
        try:
            found = self.get(name)
        except KeyError as error:
            known = self.names()
            more = f" and {len(known) - MOST_NAMES} more" if len(known) > MOST_NAMES else ""
            raise ReaderError(
                f"{self.path}: {where}: found no array {name!r}"
                f"{hint(name, known[:MOST_NAMES])}{more}; mend the mapping"
            ) from error
        return found

    def matching(self, pattern: str) -> list[str]:
        """Return the names that a pattern such as ``cell_*`` stands for, in the file's order."""
        return [name for name in self.names() if fnmatchcase(name, pattern)]


def open_arrays(path: Path, columns: tuple[str, ...] = (), delimiter: str = "") -> Arrays:
    """Open a file of arrays.

    Parameters
    ----------
    path : ends in one of `SUFFIXES`
    columns : names of the columns of a text table that has no header
    delimiter : between two cells of a text table; empty: comma in csv, tabulator in tsv and txt

    Raises
    ------
    ReaderError
        Not there, of another kind, or damaged.
    """
    if not path.is_file():
        raise ReaderError(f"{path}: found no file, expected a table or arrays; check the path")
    suffix = path.suffix.lower()
    if suffix in DELIMITERS:
        return _text(path, columns, delimiter or DELIMITERS[suffix])
    if columns or delimiter:
        raise ReaderError(
            f"{path}: columns and delimiter are for text tables ({', '.join(DELIMITERS)}), "
            f"found {suffix}; remove them from the mapping"
        )
    if suffix in HDF5 or suffix == ".mat":
        is_hdf5 = h5py.is_hdf5(path)
        if is_hdf5:
            return _hdf5(path, backward=suffix == ".mat")
        if suffix == ".mat":
            return _matlab(path)
        raise ReaderError(f"{path}: found no HDF5 signature, expected HDF5; get the file again")
    raise ReaderError(
        f"{path}: found suffix {suffix!r}, expected one of {', '.join(SUFFIXES)}; "
        "choose the file by `file:` in the mapping, or another reader"
    )


class Absent(KeyError):
    """An array that a file does not hold."""


def _text(path: Path, columns: tuple[str, ...], delimiter: str) -> Arrays:
    import pandas as pd

    try:
        frame = pd.read_csv(
            path,
            sep=delimiter,
            header=None if columns else 0,
            skipinitialspace=True,
            encoding="utf-8-sig",
        )
    except (ValueError, UnicodeDecodeError, OSError) as error:
        raise ReaderError(
            f"{path}: found what is no table ({error}), expected text with {delimiter!r} between "
            "cells; name another `delimiter:` or mend the file"
        ) from error
    if columns:
        if len(columns) != frame.shape[1]:
            raise ReaderError(
                f"{path}: found {frame.shape[1]} columns, expected the {len(columns)} of columns: "
                f"{', '.join(columns)}; mend the mapping or name a `delimiter:`"
            )
        frame.columns = pd.Index(columns)
    frame.columns = [str(name).strip() for name in frame.columns]

    def get(name: str) -> np.ndarray:
        values = frame[name]
        if values.dtype.kind in "fiub":
            return values.to_numpy()
        return values.fillna("").astype(str).to_numpy(dtype=object)

    return Arrays(path, lambda: list(frame.columns), get, table=True)


def _matlab(path: Path) -> Arrays:
    """MATLAB 5 to 7.2; the array asked for is read whole, with the others left on disk."""
    import scipy.io

    def guarded(read: Callable, **options) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", scipy.io.matlab.MatReadWarning)
                return read(path, **options)
        except Exception as error:  # scipy raises whatever the damaged byte led to
            raise ReaderError(
                f"{path}: found what scipy cannot read ({type(error).__name__}: {error}), expected "
                "a MATLAB file; get the file again"
            ) from error

    ask(PROBE, path, "scipy", "a MATLAB file")
    tops = {name: kind for name, _, kind in guarded(scipy.io.whosmat)}

    def top(name: str) -> Any:
        return guarded(scipy.io.loadmat, variable_names=[name])[name]

    def get(name: str) -> np.ndarray:
        head, *fields = name.split(".")
        if head not in tops:
            raise KeyError(name)
        value = top(head)
        for field in fields:
            if value.dtype.names is None or field not in value.dtype.names or value.size != 1:
                raise KeyError(name)
            value = value.reshape(-1)[0][field]
        return _plain(value)

    def names() -> list[str]:
        found: list[str] = []
        for name, kind in tops.items():
            found += list(_fields(top(name), name)) if kind == "struct" else [name]
        return found

    return Arrays(path, names, get)


def _fields(value: np.ndarray, name: str) -> Iterator[str]:
    if value.dtype.names is None or value.size != 1:
        yield name
        return
    for field in value.dtype.names:
        yield from _fields(value.reshape(-1)[0][field], f"{name}.{field}")


def _plain(value: Any) -> np.ndarray:
    """Return a cell of texts as an array of texts; other arrays stay as they are."""
    if not isinstance(value, np.ndarray):  # scipy hands out sparse matrices as such
        return np.asarray(None, dtype=object)
    if value.dtype.kind == "U":
        return np.array([str(text).rstrip() for text in value.ravel()], dtype=object)
    if value.dtype == object and value.size:
        inside = [np.asarray(cell) for cell in value.ravel()]
        if all(cell.dtype.kind == "U" and cell.size <= 1 for cell in inside):
            return np.array([str(c.item()) if c.size else "" for c in inside], dtype=object)
    return value


def _hdf5(path: Path, backward: bool) -> Arrays:
    def opened(work: Callable[[h5py.File], Any]) -> Any:
        try:
            with h5py.File(path, "r") as file:
                return work(file)
        except Absent:
            raise
        except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
            raise ReaderError(
                f"{path}: found what HDF5 cannot read ({error}), expected a whole file; "
                "get the file again"
            ) from error

    def names() -> list[str]:
        found: list[str] = []

        def visit(name: str, item) -> None:
            if isinstance(item, h5py.Dataset) and not name.startswith("#"):
                found.append(name.replace("/", ".") if backward else name)

        opened(lambda file: file.visititems(visit))
        return found

    def get(name: str) -> Any:
        address = name.replace(".", "/") if backward else name

        def look(file: h5py.File) -> Any:
            item = file.get(address)
            if not isinstance(item, h5py.Dataset):
                raise Absent(name)
            kind = item.attrs.get("MATLAB_class", b"")
            if kind == b"char":
                return np.array(_chars(item), dtype=object)
            if h5py.check_ref_dtype(item.dtype):
                return _cell(file, item)
            ragged = h5py.check_vlen_dtype(item.dtype) and not h5py.check_string_dtype(item.dtype)
            if item.dtype.names is not None or ragged:
                return np.asarray(None, dtype=object)
            return HDF5Array.of(item)

        return opened(look)

    return Arrays(path, names, get, backward=backward)


def _chars(item: h5py.Dataset) -> list[str]:
    """Return a MATLAB char matrix, kept as UTF-16 numbers column by column, as its rows."""
    if item.attrs.get("MATLAB_empty"):
        return [""]
    rows = np.atleast_2d(np.asarray(item).astype("<u2").T)
    return [row.tobytes().decode("utf-16-le").rstrip("\0 ") for row in np.ascontiguousarray(rows)]


def _cell(file: h5py.File, item: h5py.Dataset) -> np.ndarray:
    """Return a MATLAB cell: its texts, or the arrays that it refers to."""
    inside = [file[ref] for ref in np.asarray(item).ravel()]
    out = np.empty(len(inside), dtype=object)
    for i, one in enumerate(inside):
        if not isinstance(one, h5py.Dataset):
            return np.asarray(None, dtype=object)
        text = one.attrs.get("MATLAB_class") == b"char"
        empty = bool(one.attrs.get("MATLAB_empty"))
        out[i] = _chars(one)[0] if text else np.zeros(0) if empty else np.asarray(one)
    return out
