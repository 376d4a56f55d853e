"""What the verbs exchange: JSON, TSV and folders, written whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from neuropipe.config import Study
from neuropipe.errors import ConfigError, ManifestError, NeuropipeError

USUAL_RESULTS = Path("results")


def working_folder(study: Study, config: Path) -> Path:
    """Return the folder that a study's paths are named from: here, or where its file lies."""
    named = [Path(data.manifest) for data in study.datasets.values()]
    here = all(path.exists() for path in named)
    beside = all((config.parent / path).exists() for path in named)
    return config.parent if beside and not here else Path()


def results_of(given: Path, folder: Path) -> Path:
    """Return the folder of results: the usual one lies with the study, any other where it says."""
    return folder / given if given == USUAL_RESULTS else given


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, path)
    except OSError as error:
        raise ManifestError(f"{path}: could not be written: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)


def check_replaceable(folder: Path, mark: str) -> None:
    """Refuse a folder whose content would be lost: one that holds files, but not `mark`."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / mark).exists():
        raise ConfigError(
            f"{folder}: holds files that no neuropipe step wrote, and would be replaced; name a "
            "folder of its own"
        )


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a hidden folder to fill, which takes the place of `folder` when all went well.

    Raises
    ------
    NeuropipeError
        If the file system refused; what was there before then still stands.
    """
    part, old = (folder.with_name(f".{folder.name}.{end}") for end in ("part", "old"))
    try:
        for left in (part, old):  # of a run that was killed here
            shutil.rmtree(left, ignore_errors=True)
        part.mkdir(parents=True)
        yield part
        if folder.exists():
            folder.rename(old)
        part.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    except (OSError, RuntimeError) as error:
        # torch's writer says "enforce fail" where the file system said why
        if isinstance(error, NeuropipeError) or (
            isinstance(error, RuntimeError) and "enforce fail" not in str(error)
        ):
            raise
        free = shutil.disk_usage(next(p for p in folder.absolute().parents if p.exists())).free
        said = getattr(error, "strerror", None) or "the disk refused (full?)"
        raise NeuropipeError(
            f"{folder}: {said} while writing, {free:,} bytes free; nothing half-written was left; "
            "free some space, or check the folder, and run again"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically, keys in order."""
    write_text(path, json.dumps(content, indent=1, sort_keys=True) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON, or say which file is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ManifestError(f"{path}: {error}; delete it and run its step again") from error


def parse_json(text: str, option: str) -> Any:
    """Parse a JSON option of the command line."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{option}: not JSON: {error}; found {text[:80]!r}") from error


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as TSV, six significant digits."""
    write_text(path, table.to_csv(sep="\t", index=False, float_format="%.6g", na_rep="n/a"))
