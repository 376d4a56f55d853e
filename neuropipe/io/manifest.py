"""What a data set consists of: a YAML page beside a table of files with sizes and checksums."""

from __future__ import annotations

import csv
import hashlib
import logging
import os
import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from neuropipe.errors import ManifestError, NeuropipeError
from neuropipe.io import CONVERTERS, READERS, reader

log = logging.getLogger(__name__)

COLUMNS = ("session_id", "subject", "path", "bytes", "sha256")
SESSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
SHA256 = re.compile(r"[0-9a-f]{64}")
SIMULATE = "simulate:"
# BIDS joins here: the suffix that marks a recording, and the reader for it.
SUFFIXES = {".nwb": "nwb"}


class Page(BaseModel):
    """The YAML page of a data set, as written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    licence: str
    reader: str
    nodes: tuple[str, ...]
    doi: str = ""
    citation: str = ""
    terms: str = ""
    source_note: str = ""
    options: dict[str, Any] = Field(default_factory=dict)
    convert: str = ""
    convert_options: dict[str, Any] = Field(default_factory=dict)


class Row(BaseModel):
    """One file: `path` says where it is; `bytes` and `sha256` are those of what is fetched."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    session_id: str
    subject: str
    path: str
    bytes: int | None = Field(default=None, ge=0)
    sha256: str = ""

    @property
    def simulated(self) -> bool:
        """True where the file is made here, by `neuropipe simulate`, and not fetched."""
        return self.path.startswith(SIMULATE)


class Manifest(Page):
    """A page with its table: everything that is known of a data set before it is fetched."""

    dataset: str
    folder: Path
    rows: tuple[Row, ...]

    def sessions(self) -> dict[str, tuple[Row, ...]]:
        """Return the rows of each session, in the order of the table."""
        found: dict[str, tuple[Row, ...]] = {}
        for row in self.rows:
            found[row.session_id] = (*found.get(row.session_id, ()), row)
        return found


def read_manifest(path: str | Path) -> Manifest:
    """Read `<dataset>.yaml` and the `<dataset>.tsv` beside it.

    Parameters
    ----------
    path : the YAML page

    Returns
    -------
    Manifest
        Frozen; file paths are still as written, relative to the manifest's folder.

    Raises
    ------
    ManifestError
        A key, column or value is unknown or missing; names the nearest known one.
    """
    path = Path(path)
    page = _read_page(path)
    table = path.with_suffix(".tsv")
    rows = _read_rows(table)
    return Manifest(
        **page.model_dump(), dataset=path.stem, folder=path.absolute().parent, rows=rows
    )


def verify(path: str | Path, row: Row) -> None:
    """Compare a file with the size and checksum that its row promises.

    Raises
    ------
    ManifestError
        The file is absent, or differs.
    """
    path = Path(path)
    if not path.is_file():
        raise ManifestError(
            f"{path}: found no file, expected that of session {row.session_id}; fetch it again"
        )
    size = path.stat().st_size
    if row.bytes is not None and size != row.bytes:
        raise ManifestError(
            f"{path}: found {size:,} bytes, expected {row.bytes:,} (manifest, "
            f"session {row.session_id}); fetch it again"
        )
    found = sha256_of(path)
    if row.sha256 and found != row.sha256:
        raise ManifestError(
            f"{path}: found sha256 {found}, expected {row.sha256} (manifest, "
            f"session {row.session_id}); fetch it again or mend the manifest"
        )


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_manifest(
    folder: str | Path,
    out_dir: str | Path,
    dataset: str | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Path:
    """Look through a folder of recordings and write the manifest pair for it.

    Each file is opened by its reader; one that cannot be read is left out with a warning.
    Subject and session are those the file names, or its own name where two would be alike.

    Parameters
    ----------
    folder : searched with its subfolders for `.nwb` files
    out_dir : where `<dataset>.yaml` and `<dataset>.tsv` go
    dataset : its name; default the folder's
    progress : called with files done, files in all, name of the file

    Returns
    -------
    Path
        The YAML page.

    Raises
    ------
    ManifestError
        No readable recording, or a manifest of that name is there already.
    """
    folder, out_dir = Path(folder).absolute(), Path(out_dir).absolute()
    dataset = dataset or _safe(folder.name)
    page = out_dir / f"{dataset}.yaml"
    if page.exists():
        raise ManifestError(
            f"{page}: a manifest is there already; remove it or choose another "
            "name for the data set"
        )
    files = sorted(p for p in folder.rglob("[!.]*") if p.suffix in SUFFIXES and p.is_file())
    rows, nodes = [], set()
    for done, file in enumerate(files):
        if progress is not None:
            progress(done, len(files), file.name)
        try:
            found = _look(file)
        except NeuropipeError as error:
            log.warning("left out of the manifest: %s", error)
            continue
        nodes |= found.pop("nodes")
        inside = file.is_relative_to(out_dir)
        rows.append({**found, "path": str(file.relative_to(out_dir) if inside else file)})
    if not rows:
        raise ManifestError(
            f"{folder}: found {len(files)} files ending in "
            f"{', '.join(SUFFIXES)}, none readable; expected at least one"
        )
    _tell_apart(rows)
    text = yaml.safe_dump(
        {
            "title": dataset,
            "licence": "not stated",
            "reader": "nwb",
            "nodes": sorted(nodes),
            "source_note": f"{len(rows)} of {len(files)} files found in {folder.name}",
        },
        sort_keys=False,
        allow_unicode=True,
    )
    lines = ["\t".join(COLUMNS), *("\t".join(str(row[c]) for c in COLUMNS) for row in rows)]
    out_dir.mkdir(parents=True, exist_ok=True)
    for target, content in ((page.with_suffix(".tsv"), "\n".join(lines) + "\n"), (page, text)):
        partial = target.with_name(f".{target.name}.partial")
        partial.write_text(content, encoding="utf-8")
        os.replace(partial, target)
    return page


def _look(file: Path) -> dict[str, Any]:
    digest = sha256_of(file)
    recording = reader(SUFFIXES[file.suffix])(file, sha256=digest)
    nodes = {group.lstrip("/") for group in recording.groups if recording[group].variables}
    return {
        "session_id": _safe(recording.attrs["session"]),
        "subject": recording.attrs["subject"],
        "stem": _safe(file.stem),
        "bytes": file.stat().st_size,
        "sha256": digest,
        "nodes": nodes,
    }


def _tell_apart(rows: list[dict[str, Any]]) -> None:
    """Give sessions of different files different names: two subjects may both have a `01`."""
    for key in (lambda r: _safe(f"{r['subject']}_{r['session_id']}"), lambda r: r["stem"]):
        if len({row["session_id"] for row in rows}) < len(rows):
            names = [key(row) for row in rows]
            for row, name in zip(rows, names, strict=True):
                row["session_id"] = name
    taken: dict[str, int] = {}
    for row in rows:
        count = taken[row["session_id"]] = taken.get(row["session_id"], 0) + 1
        if count > 1:
            row["session_id"] += f"-{count}"


def _safe(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._-") or "unnamed"


def _read_page(path: Path) -> Page:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        near = get_close_matches(path.stem, [p.stem for p in path.parent.glob("*.yaml")], n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ManifestError(f"{path}: no such manifest{hint}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: not YAML ({error}); mend it") from error
    if not isinstance(content, Mapping):
        raise ManifestError(f"{path}: found {type(content).__name__}, expected keys and values")
    try:
        page = Page(**{str(key): value for key, value in content.items()})
    except ValidationError as error:
        raise ManifestError(f"{path}: " + "; ".join(_faults(error, Page))) from error
    for value, registry, key in (
        (page.reader, READERS, "reader"),
        (page.convert, CONVERTERS, "convert"),
    ):
        if value and value not in registry:
            raise ManifestError(
                f"{path}: {key}: found {value!r}, expected "
                f"{', '.join(registry)}{_hint(value, registry)}"
            )
    return page


def _read_rows(table: Path) -> tuple[Row, ...]:
    try:
        with table.open(encoding="utf-8", newline="") as stream:
            lines = csv.DictReader(stream, delimiter="\t")
            header = lines.fieldnames or []
            for name in header:
                if name not in COLUMNS:
                    raise ManifestError(
                        f"{table}: unknown column {name!r}, expected "
                        f"{', '.join(COLUMNS)}{_hint(name, COLUMNS)}"
                    )
            missing = [name for name in COLUMNS if name not in header]
            if missing:
                raise ManifestError(
                    f"{table}: no column {', '.join(missing)}, expected {', '.join(COLUMNS)}"
                )
            rows = tuple(_row(table, lines.line_num, line) for line in lines)
    except FileNotFoundError as error:
        raise ManifestError(
            f"{table}: no such table; a manifest is a pair, .yaml and .tsv beside each other"
        ) from error
    except UnicodeDecodeError as error:
        raise ManifestError(f"{table}: not UTF-8 text ({error}); mend it") from error
    if not rows:
        raise ManifestError(f"{table}: found no session, expected at least one row")
    subjects: dict[str, str] = {}
    for row in rows:
        if subjects.setdefault(row.session_id, row.subject) != row.subject:
            raise ManifestError(
                f"{table}: session {row.session_id!r} belongs to subjects "
                f"{subjects[row.session_id]!r} and {row.subject!r}, expected one"
            )
    places = [(row.session_id, row.path) for row in rows]
    for place in places:
        if places.count(place) > 1:
            raise ManifestError(f"{table}: session {place[0]!r} names {place[1]!r} twice")
    return rows


def _row(table: Path, line: int, cells: dict[str, Any]) -> Row:
    where = f"{table}: line {line}"
    if None in cells or None in cells.values():
        raise ManifestError(f"{where}: expected {len(COLUMNS)} cells, one for each column")
    try:
        row = Row(**{**cells, "bytes": cells["bytes"] or None})
    except ValidationError as error:
        raise ManifestError(f"{where}: " + "; ".join(_faults(error, Row))) from error
    if not SESSION.fullmatch(row.session_id):
        raise ManifestError(
            f"{where}: session_id: found {row.session_id!r}, expected letters, "
            "digits, '.', '_' or '-', for it names files"
        )
    if not row.path:
        raise ManifestError(f"{where}: path: found nothing, expected a file or address")
    if not row.simulated and (row.bytes is None or not SHA256.fullmatch(row.sha256)):
        raise ManifestError(
            f"{where}: bytes {row.bytes}, sha256 {row.sha256!r}; expected the "
            "file's size and 64 hex digits (sha256sum prints them)"
        )
    return row


def _faults(error: ValidationError, model: type[BaseModel]) -> list[str]:
    faults = []
    for fault in error.errors():
        key = ".".join(map(str, fault["loc"]))
        if fault["type"] == "extra_forbidden":
            known = list(model.model_fields)
            faults.append(f"unknown key {key!r}{_hint(key, known)}")
        elif fault["type"] == "missing":
            faults.append(f"missing key {key!r}")
        else:
            faults.append(f"{key}: found {fault['input']!r}, {fault['msg']}")
    return faults


def _hint(name: str, known) -> str:
    near = get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
