"""Suspect files looked at in a process of its own: what crashes a C library crashes only that."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from neuropipe.errors import ReaderError

SECONDS = 120


def ask(script: Path, path: Path, library: str, kind: str) -> dict[str, Any]:
    """Run a script on a file and return the JSON that it prints.

    Parameters
    ----------
    script : prints one JSON object; `fault`, where there is one, says what is wrong
    path : its only argument
    library, kind : for the error: who opens the file, and what it should be

    Raises
    ------
    ReaderError
        The child crashed, hung, or found a fault.
    """
    try:
        child = subprocess.run(
            [sys.executable, "-I", str(script), str(path)],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ReaderError(
            f"{path}: {library} gave no answer within {SECONDS} s, expected {kind}; "
            "get the file again"
        ) from error
    if child.returncode:
        why = child.stderr.strip().splitlines()[-1:] or [f"exit status {child.returncode}"]
        raise ReaderError(
            f"{path}: opening it crashed {library} ({why[0]}), expected {kind}; get the file again"
        )
    answer = json.loads(child.stdout)
    if "fault" in answer:
        raise ReaderError(
            f"{path}: {answer['fault']}, expected {kind}; get the file again and compare its size "
            "and checksum"
        )
    return answer
