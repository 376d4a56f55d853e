"""`ingest`: a session's files to one labelled store."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from neuropipe.cli import Output, app
from neuropipe.cli.files import read_json
from neuropipe.errors import ManifestError, ReaderError

log = logging.getLogger(__name__)


@app.command()
def ingest(
    receipt: Annotated[Path, typer.Argument(help="Receipt that fetch wrote.")], output: Output
) -> None:
    """Read the files that a receipt names into one Zarr store."""
    from neuropipe.io import reader
    from neuropipe.io.store import write

    note = read_json(receipt)
    read = reader(note["reader"])
    recording = None
    for file in note["files"]:
        path = Path(file["path"])
        if not path.exists():
            raise ManifestError(
                f"{receipt}: {path} is gone; delete the receipt, so that it is fetched again"
            )
        part = read(
            path, dataset=note["dataset"], session=note["session"], subject=note["subject"],
            **note["options"],
        )  # fmt: skip
        if recording is None:
            recording = part
            continue
        for name, child in part.children.items():
            if name in recording.children:
                raise ReaderError(
                    f"{path}: session {note['session']} has node {name!r} in two files; give each "
                    "file a session_id of its own in the manifest"
                )
            recording[name] = child.copy()
    if recording is None:
        raise ManifestError(f"{receipt}: no file; status {note['status']}")
    content = write(recording, output)
    log.info("ingested %s: %s", note["session"], ", ".join(sorted(content.get("nodes", {}))))
