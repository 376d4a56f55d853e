"""Small files that the verbs exchange: JSON and TSV, written whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd

from neuropipe.errors import ConfigError, ManifestError


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
