"""A folder of recordings, looked through: the manifest pairs that describe it."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from neuropipe.errors import ManifestError, NeuropipeError
from neuropipe.io import bids, reader
from neuropipe.io.manifest import COLUMNS, read_page, sha256_of, sha256_of_files
from neuropipe.io.sidecars import read_json
from neuropipe.io.table_files import SUFFIXES

log = logging.getLogger(__name__)

# Files that are a recording without any tree around them, by the reader that takes them.
BARE = {
    ".nwb": "nwb",
    ".nii": "bold",
    ".nii.gz": "bold",
    ".edf": "ieeg",
    ".bdf": "ieeg",
    ".vhdr": "ieeg",
}
PARTS = (".eeg", ".vmrk", ".dat")  # of a BrainVision recording


@dataclass(frozen=True)
class Candidate:
    """Files that look like one session, and what became of opening them."""

    kind: str
    files: tuple[Path, ...]
    session_id: str = ""
    subject: str = ""
    nodes: frozenset[str] = frozenset()
    sha256: tuple[str, ...] = ()


def write_manifests(
    folder: str | Path,
    out_dir: str | Path,
    dataset: str | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    suffixes: Sequence[str] = SUFFIXES,
) -> list[Path]:
    """Look through a folder of recordings and write a manifest pair for each kind in it.

    BIDS trees give sessions of all their files, derivatives beside raw as sessions of their own;
    NWB, NIfTI, EDF, BDF and BrainVision files outside of a tree are sessions by themselves. Each
    session is opened by its reader; one that cannot be read is left out with a warning. Plain
    arrays say nothing of themselves: where a page of the data set's name stands there without its
    table, and its reader is ``table``, each file of arrays is a session and the table is written.

    Parameters
    ----------
    folder : searched with its subfolders
    out_dir : where `<dataset>.yaml` and `<dataset>.tsv` go
    dataset : its name; default the folder's. With several kinds, the kind is appended to it
    progress : called with sessions done, sessions in all, name of the file
    suffixes : of files of arrays that are looked at

    Returns
    -------
    list of Path
        The YAML pages.

    Raises
    ------
    ManifestError
        No readable recording, or a manifest of that name is there already.
    """
    folder, out_dir = Path(folder).absolute(), Path(out_dir).absolute()
    if not folder.is_dir():
        raise ManifestError(f"{folder}: found no folder, expected one with recordings")
    name = dataset or safe(folder.name)
    page = out_dir / f"{name}.yaml"
    declared = read_page(page) if page.exists() else None
    if declared is not None and page.with_suffix(".tsv").exists():
        raise _there_already(page)
    if declared is not None and declared.reader == "table":
        files = sorted(p for p in folder.rglob("[!.]*") if p.suffix.lower() in suffixes)
        candidates = [Candidate("table", (p,), safe(p.stem), safe(p.stem)) for p in files]
        found = _all_opened(candidates, progress, declared.options)
        if not found:
            raise ManifestError(
                f"{folder}: found {len(files)} files of arrays, none as {page} says; expected at "
                f"least one ending in {', '.join(suffixes)}"
            )
        _write_table(page.with_suffix(".tsv"), found)
        return [page]
    candidates = list(_candidates(folder))
    found = _all_opened(candidates, progress, {})
    if not found:
        raise ManifestError(
            f"{folder}: found {len(candidates)} recordings, none readable; expected at least one "
            f"BIDS session, or file ending in {', '.join(BARE)}; for {', '.join(SUFFIXES)} write "
            f"the page {page} first (docs/own_data.md)"
        )
    kinds = list(dict.fromkeys(one.kind for one in found))
    names = {kind: name if len(kinds) == 1 else f"{name}_{kind}" for kind in kinds}
    for kind in kinds:
        if (out_dir / f"{names[kind]}.yaml").exists():
            raise _there_already(out_dir / f"{names[kind]}.yaml")
    return [
        _write_pair(
            out_dir / f"{names[kind]}.yaml",
            [one for one in found if one.kind == kind],
            sum(one.kind == kind for one in candidates),
            folder,
        )
        for kind in kinds
    ]


def _there_already(page: Path) -> ManifestError:
    return ManifestError(
        f"{page}: a manifest is there already; remove it or choose another name for the data set"
    )


def candidates_in(folder: str | Path) -> int:
    """Return how many files or sessions of a folder look like a recording; none is opened."""
    return sum(1 for _ in _candidates(Path(folder).absolute()))


def safe(name: str) -> str:
    """Return a name that may name files."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._-") or "unnamed"


def _candidates(folder: Path) -> Iterator[Candidate]:
    """Yield sessions of BIDS trees, then the recordings that lie outside of them."""
    described = sorted(p.parent for p in folder.rglob(bids.DESCRIPTION) if p.is_file())
    roots = [r for r in described if not any(o in r.parents for o in described)]
    outer = bids.root_of(folder / "file")
    if outer is not None and outer not in roots:
        roots = [outer]
    taken: set[Path] = set()
    for root in roots:
        for session in bids.sessions(root):
            if all(file.is_relative_to(folder) for file in session.recordings):
                taken |= set(session.files)
                yield Candidate(session.kind, session.files, session.session_id, session.subject)
    for file in sorted(folder.rglob("[!.]*")):
        kind = BARE.get(bids.Name(file).extension)
        if kind is None or file in taken or not file.is_file():
            continue
        if kind == "bold" and any(root in file.parents for root in roots):
            continue  # an anatomical image, map or mask: only files called bold are series
        parts = [file.with_suffix(end) for end in PARTS] if file.suffix == ".vhdr" else []
        yield Candidate(kind, (file, *(p for p in parts if p.is_file())))


def _all_opened(
    candidates: Sequence[Candidate],
    progress: Callable[[int, int, str], None] | None,
    options: Mapping[str, Any],
) -> list[Candidate]:
    found = []
    lost: list[tuple[Path, NeuropipeError]] = []
    for done, candidate in enumerate(candidates):
        if progress is not None:
            progress(done, len(candidates), candidate.files[0].name)
        try:
            found.append(_opened(candidate, options))
        except NeuropipeError as error:
            lost.append((candidate.files[0], error))
    _tell_lost(lost, found)
    return found


def _tell_lost(lost: Sequence[tuple[Path, NeuropipeError]], found: Sequence[Candidate]) -> None:
    """Say what was left out; of arrays, files unlike all that fit are no recordings, in a line."""
    fitting = {one.files[0].suffix.lower() for one in found if one.kind == "table"}
    beside = [path for path, _ in lost if fitting and path.suffix.lower() not in fitting]
    for path, error in lost:
        if path not in beside:
            log.warning("left out of the manifest: %s", error)
    if beside:
        log.info(
            "left out of the manifest, for they hold no such arrays: %s",
            ", ".join(path.name for path in beside),
        )


def _opened(candidate: Candidate, options: Mapping[str, Any]) -> Candidate:
    digests = tuple(sha256_of(file) for file in candidate.files)
    recording = reader(candidate.kind)(
        list(candidate.files), sha256=sha256_of_files(candidate.files, digests), **options
    )
    nodes = {group.lstrip("/") for group in recording.groups if recording[group].variables}
    return replace(
        candidate,
        session_id=safe(candidate.session_id or recording.attrs["session"]),
        subject=candidate.subject or recording.attrs["subject"],
        nodes=frozenset(nodes),
        sha256=digests,
    )


def _write_pair(page: Path, found: Sequence[Candidate], looked: int, folder: Path) -> Path:
    about: dict[str, Any] = {}
    root = bids.root_of(found[0].files[0])
    if root is not None:
        about = read_json(root / bids.DESCRIPTION)
    text = yaml.safe_dump(
        {
            "title": str(about.get("Name") or "").strip() or page.stem,
            "licence": str(about.get("License") or "").strip() or "not stated",
            **({"doi": str(about["DatasetDOI"])} if about.get("DatasetDOI") else {}),
            "reader": found[0].kind,
            "nodes": sorted(set().union(*(one.nodes for one in found))),
            "source_note": f"{len(found)} of {looked} recordings found in {folder.name}",
        },
        sort_keys=False,
        allow_unicode=True,
    )
    _write_table(page.with_suffix(".tsv"), found)
    _replace(page, text)
    return page


def _write_table(table: Path, found: Sequence[Candidate]) -> None:
    lines = ["\t".join(COLUMNS)]
    for one, session in zip(found, _told_apart(found), strict=True):
        for file, digest in zip(one.files, one.sha256, strict=True):
            inside = file.is_relative_to(table.parent)
            path = str(file.relative_to(table.parent) if inside else file)
            lines.append("\t".join([session, one.subject, path, str(file.stat().st_size), digest]))
    _replace(table, "\n".join(lines) + "\n")


def _replace(target: Path, content: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    partial.write_text(content, encoding="utf-8")
    os.replace(partial, target)


def _told_apart(found: Sequence[Candidate]) -> list[str]:
    """Return session ids that differ: two subjects may both have a `01`."""
    names = [one.session_id for one in found]
    for choice in (
        [safe(f"{one.subject}_{one.session_id}") for one in found],
        [safe(bids.Name(one.files[0]).stem()) for one in found],
    ):
        if len(set(names)) < len(names):
            names = choice
    taken: dict[str, int] = {}
    for place, name in enumerate(names):
        taken[name] = taken.get(name, 0) + 1
        if taken[name] > 1:
            names[place] = f"{name}-{taken[name]}"
    return names
