"""What a data set consists of: a YAML page beside a table of files with sizes and checksums."""

from __future__ import annotations

import csv
import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from neuropipe.errors import ManifestError
from neuropipe.io import CONVERTERS, READERS

COLUMNS = ("session_id", "subject", "path", "bytes", "sha256")
SESSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
SHA256 = re.compile(r"[0-9a-f]{64}")
SIMULATE = "simulate:"


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
        found: dict[str, list[Row]] = {}
        for row in self.rows:
            found.setdefault(row.session_id, []).append(row)
        return {session: tuple(rows) for session, rows in found.items()}


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
    page = read_page(path)
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


def sha256_of_files(files: Sequence[Path], digests: Sequence[str] = ()) -> str:
    """Return one checksum of a session: that of its file, or of its list of `sha256  name`."""
    known = list(digests) or [sha256_of(file) for file in files]
    if len(known) == 1:
        return known[0]
    lines = sorted(f"{digest}  {file.name}\n" for file, digest in zip(files, known, strict=True))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def read_page(path: Path) -> Page:
    """Read the YAML page alone; its faults are those of `read_manifest`."""
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
    for (session, path), n in Counter((row.session_id, row.path) for row in rows).items():
        if n > 1:
            raise ManifestError(f"{table}: session {session!r} names {path!r} twice")
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
