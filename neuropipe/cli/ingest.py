"""`ingest`: a session's files to one labelled store."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from neuropipe.cli import Output, app
from neuropipe.cli.files import read_json
from neuropipe.cli.scheduler import scheduler
from neuropipe.errors import ManifestError

log = logging.getLogger(__name__)


@app.command()
def ingest(
    receipt: Annotated[Path, typer.Argument(help="Receipt that fetch wrote.")], output: Output
) -> None:
    """Read the files that a receipt names into one Zarr store."""
    from neuropipe.io import reader
    from neuropipe.io.store import write

    note = read_json(receipt)
    files = [Path(file["path"]) for file in note["files"]]
    if not files:
        raise ManifestError(f"{receipt}: no file; status {note['status']}")
    for path in files:
        if not path.exists():
            raise ManifestError(
                f"{receipt}: {path} is gone; delete the receipt, so that it is fetched again"
            )
    recording = reader(note["reader"])(
        files, dataset=note["dataset"], session=note["session"], subject=note["subject"],
        sha256=note["sha256"], **note["options"],
    )  # fmt: skip
    with scheduler():
        content = write(recording, output)
    log.info("ingested %s: %s", note["session"], ", ".join(sorted(content.get("nodes", {}))))
