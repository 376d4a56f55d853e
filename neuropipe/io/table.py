"""Plain tables and arrays in (csv, MATLAB, HDF5), by a mapping that the manifest declares."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from neuropipe import __version__
from neuropipe.errors import ConfigError, ReaderError
from neuropipe.io import table_arrays
from neuropipe.io.store import lazy_indexed
from neuropipe.io.table_arrays import Place
from neuropipe.io.table_files import SUFFIXES, Arrays, open_arrays
from neuropipe.io.table_mapping import Column, Node, columns_of, read_mapping, variables_of
from neuropipe.schema import SCHEMA_VERSION, Recording, Var, faults_of_dataset


def read(
    path: str | Path | Sequence[str | Path],
    *,
    dataset: str = "",
    session: str = "",
    subject: str = "",
    sha256: str = "",
    nodes: Mapping[str, Any] | None = None,
) -> Recording:
    """Read files of plain arrays as a recording, as a declared mapping says.

    Parameters
    ----------
    path : file, folder or several files
        One session: `.csv`, `.tsv`, `.txt`, `.mat` (any version) or HDF5 files.
    dataset, session, subject : names for the root
    sha256 : of the file, where it is known; empty computes it
    nodes : mapping of node name to what it is made of
        Keys of a node: `file` (a pattern such as ``"*_calcium.mat"``, needed where the session has
        several files), `variable`, `array`, `dims` (in the order of the file), `units`, or
        `variables` with the same keys for each; `rate_hz`, `rate` or `time`; `start_s`; `coords`;
        `attrs`; for a text table without header `columns`. Node `spikes`: `unit` and `time`, or
        `trains`. See `neuropipe.io.table_mapping`.

    Returns
    -------
    DataTree
        The declared nodes. Arrays of HDF5 stay on disk; text tables and MATLAB files older than
        7.3 are read whole. Values in ms, us, mV, uV, % or cm come out in the catalogue's units.

    Raises
    ------
    ConfigError
        The mapping is at fault: unknown or missing key, node or units.
    ReaderError
        The files are: absent array, other shape, no rate, times that step back, objects.

    Examples
    --------
    In a manifest page::

        reader: table
        options:
          nodes:
            calcium/hvc:
              {variable: fluorescence, array: NEURAL, dims: [roi, time], units: "1", rate: VIDEOfs}
            behavior/song:
              {variable: spectrogram, array: SONG, dims: [frequency, time], units: "1",
               rate_hz: 200}
            trials:
              file: "*_trials.csv"
              variables:
                start_time: {array: onset_ms, units: ms}
                stop_time: {array: offset_ms, units: ms}
                condition: condition
            spikes: {file: spikes.txt, columns: [cell, time], unit: cell, time: {array: time,
                     units: s}}
    """
    files = _files(path)
    if nodes is None:
        listed = "; ".join(f"{f.name}: {', '.join(open_arrays(f).names())}" for f in files)
        raise ConfigError(
            f"reader table: {files[0]}: no mapping; expected options: nodes: in the manifest's "
            f"page. The arrays are {listed}"
        )
    mapping = read_mapping(nodes)
    built: dict[str, xr.Dataset] = {}
    opened: dict[tuple, Arrays] = {}
    for name, node in mapping.items():
        chosen = _chosen(files, node, f"options: nodes: {name}")
        key = (chosen, node.columns, node.delimiter)
        if key not in opened:
            opened[key] = open_arrays(*key)
        place = Place(opened[key], f"options: nodes: {name}")
        if name == "spikes":
            built |= table_arrays.spikes(node, place)
        else:
            made = _node(name, node, place)
            built[name] = made
        built[name].attrs.update({"source_file": chosen.name, **node.attrs})
    _join_units(built, "units" in mapping, files[0])
    faults = [f for name, made in built.items()
              for f in faults_of_dataset(made, variables_of(name), name)]  # fmt: skip
    if faults:
        raise ConfigError(f"reader table: {files[0]}: options: nodes: " + "; ".join(faults))
    recording = xr.DataTree.from_dict({f"/{name}": made for name, made in built.items()})
    history = {"name": "read_table", "parameters": {"nodes": dict(nodes)}, "version": __version__}
    recording.attrs = {
        "dataset": dataset,
        "subject": subject,
        "session": session or files[0].stem,
        "source": ", ".join(file.name for file in files),
        "sha256": sha256 or _sha256(files),
        "history": json.dumps([history]),
        "schema_version": SCHEMA_VERSION,
    }
    return recording


def _files(path: str | Path | Sequence[str | Path]) -> list[Path]:
    given = [path] if isinstance(path, str | Path) else list(path)
    files: list[Path] = []
    for one in (Path(item).absolute() for item in given):
        inside = sorted(p for p in one.glob("*") if p.suffix.lower() in SUFFIXES)
        if one.is_dir() and not inside:
            raise ReaderError(
                f"{one}: found no file ending in {', '.join(SUFFIXES)}; check the folder"
            )
        files += inside if one.is_dir() else [one]
    if not files:
        raise ReaderError("reader table: found no file, expected at least one; check the manifest")
    for file in files:
        if not file.is_file():
            raise ReaderError(f"{file}: found no file, expected one; check the path")
    return files


def _chosen(files: list[Path], node: Node, where: str) -> Path:
    fits = [
        file
        for file in files
        if not node.file or fnmatchcase(file.name, node.file) or file.match(node.file)
    ]
    if len(fits) == 1:
        return fits[0]
    names = ", ".join(file.name for file in files)
    pattern = f"file {node.file!r} fits" if node.file else "no `file:` is declared for"
    raise ReaderError(
        f"{files[0].parent}: {where}: {pattern} {len(fits)} of the session's files, expected "
        f"one; they are {names}; mend `file:`"
    )


def _node(name: str, node: Node, place: Place) -> xr.Dataset:
    catalogue = variables_of(name)
    signal = "time" in catalogue
    row = "time" if signal else next(iter(catalogue.values())).dims[0]
    variables: dict[str, xr.Variable] = {}
    coords: dict[str, xr.Variable] = {}
    for key, column in columns_of(name, node).items():
        made = table_arrays.variable(key, column, catalogue.get(key, _any(row)), place)
        if signal and row not in made.dims:
            raise ConfigError(
                f"{place}: {key}: dims {', '.join(map(str, made.dims))} hold no 'time'; what "
                "does not change in time belongs under coords"
            )
        (coords if made.dims == (key,) else variables)[key] = made
        if made.attrs.pop("names", None) is not None:
            other = str(made.dims[1])
            texts = np.array(table_arrays.matched(column, place), dtype=object)
            coords.setdefault(other, xr.Variable(other, texts, {"units": ""}))
    for key, column in node.coords.items():
        own = _coord_var(key, column, catalogue, [*variables.values()])
        coords[key] = table_arrays.variable(key, column, own, place)
    for dim in node.numbered:
        coords[dim] = _numbered(dim, variables, place)
    _agree({**variables, **coords}, place)
    attrs: dict[str, Any] = {}
    if signal:
        n = next(iter(variables.values())).sizes["time"]
        coords["time"], rate_hz = table_arrays.clock(node, n, place)
        if rate_hz is not None:
            attrs["sampling_rate_hz"] = rate_hz
    return lazy_indexed(xr.Dataset(variables, xr.Coordinates(coords, indexes={}), attrs))


def _numbered(dim: str, variables: Mapping[str, xr.Variable], place: Place) -> xr.Variable:
    """Return names 1, 2, ... along a dim."""
    sizes = {d: n for made in variables.values() for d, n in made.sizes.items()}
    if dim not in sizes:
        raise ConfigError(
            f"{place}: numbered: found {dim!r}, expected a dim of {', '.join(map(str, sizes))}"
        )
    names = np.array([str(i + 1) for i in range(sizes[dim])], dtype=object)
    return xr.Variable(dim, names, {"units": ""})


def _any(row: str) -> Var:
    return Var((row,), None, "fibs", "a variable of its own", optional=True)


def _coord_var(
    key: str, column: Column, catalogue: Mapping[str, Var], variables: list[xr.Variable]
) -> Var:
    """Return what is known of a coordinate: that of the catalogue, or a name on its own dim."""
    if key in catalogue:
        return catalogue[key]
    dims = {str(dim) for variable in variables for dim in variable.dims}
    if column.dims:
        return Var(column.dims, None, "fibs", "a coordinate", optional=True)
    return Var((key,) if key in dims else (), None, "fibs", "a coordinate", optional=True)


def _agree(variables: Mapping[str, xr.Variable], place: Place) -> None:
    sizes: dict[str, tuple[int, str]] = {}
    for name, variable in variables.items():
        for dim, n in variable.sizes.items():
            first = sizes.setdefault(str(dim), (n, name))
            if first[0] != n:
                raise ReaderError(
                    f"{place}: found {n} along {dim!r} in {name}, expected {first[0]} as in "
                    f"{first[1]}; check `dims`, which are in the order of the file"
                )


def _join_units(built: dict[str, xr.Dataset], is_declared: bool, file: Path) -> None:
    """Point the spikes to the declared table of units, or to the units that were found in them."""
    if "spikes" not in built:
        return
    names = built["spikes"].attrs.pop("unit_names")
    if not is_declared:
        built["units"] = table_arrays.units_of(names)
        return
    units = built["units"]
    key = "unit_name" if "unit_name" in units else "unit"
    listed = units[key].values.tolist()
    if key == "unit":
        names = [int(name) if isinstance(name, int | float) else name for name in names]
    lost = [name for name in names if name not in listed]
    if lost:
        raise ReaderError(
            f"{file.parent}: options: nodes: units: found no unit {lost[0]!r} ({len(lost)} of "
            f"{len(names)} units of the spikes are missing in {key}), expected each; mend the table"
        )
    index = np.array([listed.index(name) for name in names], dtype=np.int32)
    built["spikes"] = table_arrays.reordered(built["spikes"], index)


def _sha256(files: list[Path]) -> str:
    """Return the hash of one file, or that of the hashes of several."""
    digests = []
    for file in files:
        with file.open("rb") as stream:
            digests.append(hashlib.file_digest(stream, "sha256").hexdigest())
    return (
        digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    )
