"""Recordings out as BIDS trees: BOLD as NIfTI, intracranial voltage as BrainVision or EDF."""

from __future__ import annotations

import json
import os
import re
import shutil
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from neuropipe import __version__
from neuropipe.errors import ConfigError, ReaderError, SchemaError
from neuropipe.io.physio_write import behavior_of, write_physio
from neuropipe.io.pictures import write_pictures
from neuropipe.io.sidecars_write import CLOCK_SLACK, write_events, write_json, write_table
from neuropipe.io.store import layout
from neuropipe.schema import Recording, validate

BIDS_VERSION = "1.10.0"
PICTURES = "stimulus/pictures"
DESCRIPTION = "dataset_description.json"
MADE_BY = {"Name": "neuropipe", "Version": __version__}
# Years before 1925 say that a date is not the true one.
EPOCH = "1910-01-01T00:00:00"
KNOWN = {
    "bold": (
        "behavior",
        "bold",
        "confounds",
        "embedding",
        "text_embedding",
        PICTURES,
        "intervals/events",
        "runs",
    ),
    "ieeg": ("ieeg", "behavior", "embedding", "intervals/events", "runs"),
}
FORMATS = ("brainvision", "edf")
PEOPLE = ("species", "age", "sex")


@dataclass(frozen=True)
class Piece:
    """One run of a recording: its files' name without suffix, its label, rows and start."""

    stem: str
    label: str
    rows: slice
    start_s: float


def write_bids(
    recording: Recording,
    root: str | Path,
    *,
    task: str,
    format: str = "brainvision",
    int16: bool = False,
) -> list[Path]:
    """Write one session as a BIDS tree of its own; the same content gives the same bytes.

    The tree is built beside its place under a hidden name and moved there at the end; only a
    tree that neuropipe wrote is replaced.

    Parameters
    ----------
    recording : DataTree
        With node ``bold`` (and confounds) or ``ieeg``; runs, intervals/events, embedding and
        behavior/<signal> with either. A signal on the clock of ``ieeg`` becomes a MISC channel,
        any other a physio.tsv.gz.
    root : folder of the tree
    task : label of the task, letters and digits
    format : of voltages
        ``brainvision``: float32 in volts, streamed block by block. ``edf``: 16 bits over the range
        of each channel, in microvolts; a run is held in memory, so at most 1 GiB of one is taken.
    int16 : write BOLD as 16 bits over the range of each run, which takes a second pass

    Returns
    -------
    list of Path
        Files of the session: recordings first, in the order of their runs.

    Raises
    ------
    SchemaError
        A node departs from the catalogue, or cannot be written as BIDS.
    ConfigError
        Task or format is none that BIDS knows.
    ReaderError
        `root` holds something that neuropipe did not write.

    Notes
    -----
    The brain mask (which voxels there are) and the confounds stand in ``derivatives/neuropipe``,
    embeddings in ``stimuli/embedding.h5`` and ``stimuli/text_embedding.h5``, node
    ``stimulus/pictures`` in the folder ``stimuli/pictures``. Runs without a gap
    between them get no acq_time. A contact whose type is not known is written as SEEG, for BIDS
    wants a type.
    """
    root = Path(root)
    kind = _kind(recording, root)
    if not re.fullmatch(r"[0-9A-Za-z]+", task):
        raise ConfigError(f"task: found {task!r}, expected letters and digits only")
    if format not in FORMATS:
        raise ConfigError(f"format: found {format!r}, expected one of {', '.join(FORMATS)}")
    _refuse_foreign(root)
    building = root.with_name(f".{root.name}.partial")
    shutil.rmtree(building, ignore_errors=True)
    try:
        files = _write_tree(recording, building, kind, task, format, int16)
        _swap(building, root)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return [root / file.relative_to(building) for file in files]


def write_embedding(dataset: xr.Dataset, path: str | Path) -> Path:
    """Write features of stimuli as one HDF5 file, whole or not at all.

    Parameters
    ----------
    dataset : node ``embedding``: ``embedding (stimulus, feature)``, ``stimulus`` text
    path : ends in `.h5`; dataset ``stimulus`` holds text, ``embedding`` float32 with its units

    Raises
    ------
    SchemaError
        The node departs from the catalogue.
    """
    path = Path(path)
    validate(xr.DataTree.from_dict({"/embedding": dataset}), "embedding")
    values = dataset["embedding"]
    path.parent.mkdir(parents=True, exist_ok=True)
    building = path.with_name(f".{path.name}.partial")
    try:
        with h5py.File(building, "w") as file:
            names = dataset["stimulus"].values.astype(object)
            file.create_dataset("stimulus", data=names, dtype=h5py.string_dtype())
            out = file.create_dataset("embedding", values.shape, np.float32)
            out.attrs["units"] = values.attrs["units"]
            rows = layout(values.shape, 4)[1][0]
            for at in range(0, values.shape[0], rows):
                part = values.isel(stimulus=slice(at, at + rows))
                out[at : at + rows] = part.values
        os.replace(building, path)
    finally:
        building.unlink(missing_ok=True)
    return path


def _kind(recording: Recording, root: Path) -> str:
    """Return which of bold and ieeg is written, all its nodes checked."""
    nodes = [g.lstrip("/") for g in recording.groups if g != "/" and recording[g].variables]
    kinds = [kind for kind in KNOWN if kind in nodes]
    if len(kinds) != 1:
        raise SchemaError(
            f"{root}: found nodes {', '.join(nodes) or 'none'}, expected one of bold and ieeg; "
            "write the other to a tree of its own"
        )
    strange = [
        n for n in nodes if n not in KNOWN[kinds[0]] and n.split("/")[0] not in KNOWN[kinds[0]]
    ]
    if strange:
        raise SchemaError(
            f"{root}: cannot write {', '.join(strange)} as BIDS beside {kinds[0]}, expected nodes "
            f"of {', '.join(KNOWN[kinds[0]])}; drop them first"
        )
    validate(recording, *nodes)
    return kinds[0]


def _refuse_foreign(root: Path) -> None:
    if root.is_symlink() or (root.exists() and not root.is_dir()):
        raise ReaderError(f"{root}: found a file or a link, expected a folder to write; move it")
    if not root.is_dir() or not any(root.iterdir()):
        return
    try:
        made = json.loads((root / DESCRIPTION).read_text(encoding="utf-8"))["GeneratedBy"]
        ours = any(one["Name"] == MADE_BY["Name"] for one in made)
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    if not ours:
        raise ReaderError(
            f"{root}: found files that neuropipe did not write, expected an empty or new folder; "
            "choose another"
        )


def _swap(building: Path, root: Path) -> None:
    """Move the tree into place; an older one is deleted once the new one stands there."""
    older = root.with_name(f".{root.name}.older")
    shutil.rmtree(older, ignore_errors=True)
    if root.exists():
        os.replace(root, older)
    os.replace(building, root)
    shutil.rmtree(older, ignore_errors=True)


def _write_tree(
    recording: Recording, root: Path, kind: str, task: str, format: str, int16: bool
) -> list[Path]:
    subject = _label(recording.attrs.get("subject", "")) or "unknown"
    session = _session(recording.attrs.get("session", ""))
    sub = f"sub-{subject}"
    home = root / sub / f"ses-{session}" if session else root / sub
    prefix = f"{sub}_ses-{session}" if session else sub
    pieces = _pieces(recording, kind, f"{prefix}_task-{task}")
    signals = behavior_of(recording)
    if kind == "bold":
        from neuropipe.io.bids_write_bold import write_bold

        main, files = write_bold(recording, root, home, pieces, task, int16)
    else:
        from neuropipe.io.bids_write_ieeg import write_ieeg

        node = recording["ieeg"].to_dataset()
        others = {name: array for name, array in signals.items() if _on_clock(array, node)}
        signals = {name: array for name, array in signals.items() if name not in others}
        main, files = write_ieeg(node, others, home / "ieeg", pieces, prefix, task, format)
    for piece, file in zip(pieces, main, strict=True):
        files += _events(recording, piece, file.parent)
    stems = [file.parent / piece.stem for piece, file in zip(pieces, main, strict=True)]
    files += write_physio(signals, stems, [piece.start_s for piece in pieces])
    for name in ("embedding", "text_embedding"):
        if name in recording.children:
            node = recording[name].to_dataset()
            files.append(write_embedding(node, root / "stimuli" / f"{name}.h5"))
    if "stimulus" in recording.children:
        files += write_pictures(recording[PICTURES].to_dataset(), root / "stimuli" / "pictures")
    acquired = _acquired(recording, pieces)
    names = [file.relative_to(home).as_posix() for file in main]
    scans = home / f"{prefix}_scans.tsv"
    files.append(write_table(scans, {"filename": names, "acq_time": acquired}))
    files += _top(recording, root, sub)
    return [*main, *sorted(files)]


def _top(recording: Recording, root: Path, sub: str) -> list[Path]:
    """Write what speaks of the whole data set."""
    name = recording.attrs.get("dataset") or "recording"
    people = {key: [recording.attrs[key]] for key in PEOPLE if recording.attrs.get(key)}
    readme = root / "README"
    readme.write_text(
        f"{name}\n\nOne session, written by neuropipe {__version__} from a recording of source "
        f"{recording.attrs.get('source') or 'unknown'}.\n",
        encoding="utf-8",
    )
    description = {
        "Name": name,
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "raw",
        "GeneratedBy": [MADE_BY],
    }
    return [
        readme,
        write_json(root / DESCRIPTION, description),
        write_table(root / "participants.tsv", {"participant_id": [sub], **people}),
    ]


def _events(recording: Recording, piece: Piece, folder: Path) -> list[Path]:
    if "intervals" not in recording.children or "events" not in recording["intervals"].children:
        return []
    table = recording["intervals/events"].to_dataset()
    if piece.label and "run_label" in table:
        table = table.isel(interval=np.flatnonzero(table["run_label"].values == piece.label))
    elif piece.label and len(recording["runs"]["run_label"]) > 1:
        raise SchemaError(
            "intervals/events: found no run_label, expected one for a recording of several runs; "
            "say which run each event belongs to"
        )
    return write_events(folder / f"{piece.stem}_events.tsv", table, piece.start_s)


def _pieces(recording: Recording, node: str, stem: str) -> list[Piece]:
    """Return the runs of the main node, each with its rows on the node's clock."""
    time = recording[node].to_dataset()["time"]
    size = time.sizes["time"]
    if "runs" not in recording.children:
        return [Piece(stem, "", slice(0, size), float(time[0]))]
    runs = recording["runs"].to_dataset()
    labels = [str(label) for label in runs["run_label"].values]
    step = float(time[1] - time[0]) if size > 1 else 0.0
    # bisected, so that a lazy clock stays so
    edges = [
        bisect_left(range(size), at - step / 2, key=lambda i: float(time[i]))
        for at in runs["start_time"].values
    ]
    if edges[0] > 0 or sorted(set(edges)) != edges or edges[-1] >= size:
        raise SchemaError(
            f"runs: start times {runs['start_time'].values.tolist()} leave samples of {node} "
            "outside of any run, or a run without samples; mend the node"
        )
    plain = all(label.isdigit() for label in labels) and len(set(map(int, labels))) == len(labels)
    names = labels if plain else [f"{i + 1:02d}" for i in range(len(labels))]
    return [
        Piece(f"{stem}_run-{name}", label, slice(first, last), float(time[first]))
        for name, label, first, last in zip(names, labels, edges, [*edges[1:], size], strict=True)
    ]


def _on_clock(array: xr.DataArray, node: xr.Dataset) -> bool:
    """Return whether a signal has the samples of a node; its first and last ones are compared."""
    ends = [float(node["time"][i]) for i in (0, -1)]
    slack = CLOCK_SLACK * (ends[1] - ends[0]) / max(1, node.sizes["time"] - 1)
    return array.sizes["time"] == node.sizes["time"] and all(
        abs(float(array["time"][i]) - end) <= slack for i, end in zip((0, -1), ends, strict=True)
    )


def spans(rows: slice, step: int) -> Iterator[slice]:
    """Cut rows at multiples of a step, where lazy arrays have their blocks."""
    at = rows.start
    while at < rows.stop:
        until = min((at // step + 1) * step, rows.stop)
        yield slice(at, until)
        at = until


def _acquired(recording: Recording, pieces: Sequence[Piece]) -> list[str]:
    """Return the runs' acq_time: n/a for runs without a gap between them, whose clock is ours."""
    began = recording.attrs.get("session_start_time")
    base = datetime.fromisoformat(began or EPOCH).replace(tzinfo=None)
    when = [
        (base + timedelta(seconds=piece.start_s)).isoformat(timespec="microseconds")
        for piece in pieces
    ]
    runs = recording["runs"].to_dataset() if "runs" in recording.children else None
    if runs is not None and not np.allclose(
        runs["start_time"].values[1:], runs["stop_time"].values[:-1], rtol=0, atol=1e-3
    ):
        return when
    return [when[0] if began else "n/a", *["n/a"] * (len(pieces) - 1)]


def _label(text: str) -> str:
    return re.sub(r"[^0-9A-Za-z]", "", text)


def _session(name: str) -> str:
    """Return the session's label; of a name that came from BIDS, what its ses- says."""
    if name.startswith("sub-"):
        found = re.search(r"_ses-([0-9A-Za-z]+)", name)
        return found[1] if found else ""
    return _label(name)


def generated(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of a derivative."""
    return {
        "BIDSVersion": BIDS_VERSION, "DatasetType": "derivative", "GeneratedBy": [MADE_BY], **extra,
    }  # fmt: skip
