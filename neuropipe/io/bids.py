"""BIDS trees: which files belong to one session, and what their names and sidecars say."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from neuropipe.errors import ReaderError
from neuropipe.io.sidecars import read_json

log = logging.getLogger(__name__)

DESCRIPTION = "dataset_description.json"
# Suffix and extensions of the files that hold a recording, by the reader that takes them.
KINDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "bold": ("bold", (".nii", ".nii.gz")),
    "ieeg": ("ieeg", (".vhdr", ".edf", ".bdf", ".nwb")),
}
# What describes a recording without being one; .eeg and .vmrk are parts of a BrainVision file.
COMPANIONS: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
    "bold": (
        ("bold", (".json",)),
        ("events", (".tsv", ".json")),
        ("timeseries", (".tsv", ".json")),
        ("regressors", (".tsv", ".json")),
        ("mask", (".nii", ".nii.gz")),
        ("scans", (".tsv",)),
        ("physio", (".tsv.gz", ".json")),
        ("stim", (".tsv.gz", ".json")),
    ),
    "ieeg": (
        ("ieeg", (".json", ".eeg", ".vmrk", ".dat")),
        ("events", (".tsv", ".json")),
        ("channels", (".tsv",)),
        ("electrodes", (".tsv",)),
        ("coordsystem", (".json",)),
        ("scans", (".tsv",)),
        ("physio", (".tsv.gz", ".json")),
        ("stim", (".tsv.gz", ".json")),
    ),
}
# A CIFTI file ends in .nii too, but holds no volumes.
DOUBLE = re.compile(r"\.(nii\.gz|tsv\.gz|[a-z]+(series|scalar|label|conn)\.nii)$")
# These name the space of the contacts, not of the recording.
PLACED = ("electrodes", "coordsystem")
# Of one run there may be several, told apart by an entity that the run lacks.
CONTINUOUS = ("physio", "stim")


@dataclass(frozen=True)
class Name:
    """A file of a BIDS tree and what its name says."""

    path: Path

    @cached_property
    def _parts(self) -> Mapping[str, Any]:
        from ancpbids.utils import parse_bids_name

        return parse_bids_name(self.path.name) or {}

    @property
    def entities(self) -> dict[str, str]:
        """Return sub, ses, task, run... as written, without their keys' dash."""
        return dict(self._parts.get("entities") or {})

    @property
    def suffix(self) -> str:
        """Return the last word of the name, such as bold or events; empty for a bare file."""
        return str(self._parts.get("suffix") or "") if self.entities else ""

    @property
    def extension(self) -> str:
        """Return the extension with both parts of .nii.gz or .dtseries.nii, in lower case."""
        name = self.path.name.lower()
        found = DOUBLE.search(name)
        return found.group() if found else self.path.suffix.lower()

    def stem(self, *without: str) -> str:
        """Return the name without suffix, extension and some entities."""
        kept = [f"{key}-{value}" for key, value in self.entities.items() if key not in without]
        return "_".join(kept) or self.path.name.removesuffix(self.extension)

    def describes(self, recording: Name) -> bool:
        """Return whether BIDS lets this file speak of that recording: no entity contradicts."""
        theirs = recording.entities
        free = {"desc", "space"} if self.suffix in PLACED else {"desc"}
        free |= {"recording"} if self.suffix in CONTINUOUS else set()
        return all(
            theirs.get(key) == value or (key in free and (key == "desc" or key not in theirs))
            for key, value in self.entities.items()
        )


@dataclass(frozen=True)
class Session:
    """The files of one session: its recordings, in the order of their runs, then the rest."""

    session_id: str
    subject: str
    kind: str
    recordings: tuple[Path, ...]
    companions: tuple[Path, ...]

    @property
    def files(self) -> tuple[Path, ...]:
        """Return all files, recordings first."""
        return self.recordings + self.companions


def root_of(path: Path) -> Path | None:
    """Return the folder of the whole tree, the raw data set's, or None outside of any."""
    described = [folder for folder in path.absolute().parents if (folder / DESCRIPTION).is_file()]
    return described[-1] if described else None


def sessions(folder: Path) -> list[Session]:
    """Return every session of a tree: runs of one subject, session, task and space together.

    Parameters
    ----------
    folder : a BIDS data set, derivatives and all

    Raises
    ------
    ReaderError
        A file of a session is a link that leads out of the tree.
    """
    names = _indexed(folder)
    groups: dict[tuple[str, Path, str], list[Name]] = {}
    for name in names:
        for kind, (suffix, extensions) in KINDS.items():
            if name.suffix == suffix and name.extension in extensions and "sub" in name.entities:
                home = _data_set(name.path, folder)
                groups.setdefault((kind, home, name.stem("run", "echo", "split")), []).append(name)
    homes: dict[tuple[str, str], set[Path]] = {}
    for kind, home, stem in groups:
        homes.setdefault((kind, stem), set()).add(home)
    found = []
    for (kind, home, stem), recordings in sorted(groups.items(), key=lambda item: str(item[0])):
        twins = len(homes[kind, stem]) > 1
        session_id = f"{home.name}_{stem}" if twins and home != folder.absolute() else stem
        recordings = sorted(recordings, key=lambda name: natural(name.path.name))
        files = _companions(recordings, names, kind, folder)
        for path in (*(r.path for r in recordings), *files):
            refuse_outside(path, folder)
        found.append(
            Session(
                session_id,
                recordings[0].entities["sub"],
                kind,
                tuple(r.path for r in recordings),
                files,
            )
        )
    return found


def session_files(path: str | Path | Sequence[str | Path], kind: str) -> Session:
    """Return the session that a path, or exactly these paths, make up.

    Parameters
    ----------
    path : one recording, whose companions are then found on disk; a folder or a list of files,
        which then are the session, matched to each other by their names
    kind : a key of `KINDS`

    Raises
    ------
    ReaderError
        No such file, or none that holds a recording of this kind.
    """
    suffix, extensions = KINDS[kind]
    given = [Path(p).absolute() for p in ([path] if isinstance(path, str | Path) else path)]
    alone = isinstance(path, str | Path) and not given[0].is_dir()
    files: list[Path] = []
    for one in given:
        if one.is_dir():
            files += sorted(p for p in one.rglob("[!.]*") if p.is_file())
        elif one.is_file():
            files.append(one)
        else:
            raise ReaderError(f"{one}: found no file, expected a {kind} recording; check the path")
    names = [Name(file) for file in files]
    described = [n for n in names if n.extension in extensions and n.suffix == suffix]
    recordings = described or [n for n in names if n.extension in extensions and not n.suffix]
    if not recordings:
        raise ReaderError(
            f"{files[0] if files else given[0]}: found no {kind} recording among {len(files)} "
            f"file(s), expected one ending in {', '.join(extensions)}"
        )
    recordings.sort(key=lambda name: natural(name.path.name))
    root = root_of(recordings[0].path)
    if alone and root is not None and recordings[0].suffix:
        refuse_outside(recordings[0].path, root)
        companions = _companions(recordings, _indexed(root), kind, root)
        for file in companions:
            refuse_outside(file, root)
    else:
        companions = tuple(n.path for n in names if n not in recordings)
    entities = recordings[0].entities
    return Session(
        recordings[0].stem("run", "echo", "split"),
        entities.get("sub", ""),
        kind,
        tuple(r.path for r in recordings),
        companions,
    )


def best(
    files: Sequence[Path], recording: Path, suffix: str, *extensions: str, desc: str | None = None
) -> Path | None:
    """Return the companion that speaks most closely of a recording, or None.

    Raises
    ------
    ReaderError
        Two files speak of it equally closely.
    """
    own = Name(recording)
    fitting = [
        name
        for name in map(Name, files)
        if name.suffix == suffix
        and name.extension in extensions
        and (desc is None or name.entities.get("desc") == desc)
        and name.describes(own)
    ]
    if not fitting:
        return None
    closest = max(len(name.entities) for name in fitting)
    first = [name.path for name in fitting if len(name.entities) == closest]
    if len(first) > 1:
        raise ReaderError(
            f"{recording}: found {len(first)} {suffix} files that describe it equally, "
            f"{', '.join(p.name for p in first)}; expected one, name the files of the session "
            "in a manifest"
        )
    return first[0]


def sidecar(files: Sequence[Path], recording: Path) -> dict[str, Any]:
    """Return the JSON metadata of a recording; a closer file overrules a wider one."""
    own = Name(recording)
    fitting = [
        name
        for name in map(Name, files)
        if name.extension == ".json" and name.suffix == own.suffix and name.describes(own)
    ]
    merged: dict[str, Any] = {}
    for name in sorted(fitting, key=lambda name: len(name.entities)):
        merged.update(read_json(name.path))
    return merged


def natural(name: str) -> tuple:
    """Return a key that sorts run-2 before run-10."""
    return tuple(int(p) if p.isdigit() else p for p in re.split(r"(\d+)", name))


def refuse_outside(path: Path, root: Path) -> None:
    """Refuse a file whose links lead out of its tree.

    Raises
    ------
    ReaderError
        Names the file and where it leads.
    """
    if not path.resolve().is_relative_to(root.resolve()):
        raise ReaderError(
            f"{path}: leads to {path.resolve()}, outside of the data set {root}; expected a file "
            "or a link inside it, copy the file there"
        )


def _indexed(folder: Path) -> list[Name]:
    """Return the files of a tree that have a BIDS name."""
    import ancpbids

    tree = ancpbids.load_dataset(str(folder.absolute()))
    names = (Name(Path(str(path))) for path in tree.query(return_type="filename"))
    return [name for name in names if name.suffix]


def _data_set(path: Path, root: Path) -> Path:
    """Return the data set that a file belongs to: a derivative's folder, or the raw one."""
    for folder in path.absolute().parents:
        if folder == root.absolute() or folder.parent.name == "derivatives":
            return folder
    return root.absolute()


def _companions(
    recordings: Sequence[Name], names: Sequence[Name], kind: str, root: Path
) -> tuple[Path, ...]:
    """Return what speaks of these recordings: their own data set's, then the raw one's.

    A raw recording takes from derivatives what no raw file says, where only one of them says it.
    """
    home, raw = _data_set(recordings[0].path, root), root.absolute()
    wanted = dict(COMPANIONS[kind])
    found: dict[Path, Name] = {}
    for name in names:
        if name.extension in wanted.get(name.suffix, ()) and any(
            name.describes(recording) for recording in recordings
        ):
            found[name.path] = name
    near = {p for p in found if _data_set(p, root) in (home, raw)}
    suffixes = {found[p].suffix for p in near}
    far = {p: n for p, n in found.items() if p not in near and n.suffix not in suffixes}
    for suffix in sorted({n.suffix for n in far.values()}) if home == raw else ():
        paths = [p for p, n in far.items() if n.suffix == suffix]
        homes = {_data_set(p, root) for p in paths}
        if len(homes) == 1:
            near |= set(paths)
        else:
            log.warning(
                "%s: %s left out, %d derivatives hold one: %s", recordings[0].path, suffix,
                len(homes), ", ".join(sorted(h.name for h in homes)),
            )  # fmt: skip
    return tuple(sorted(near))
