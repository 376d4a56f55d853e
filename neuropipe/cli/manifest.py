"""`manifest`: the pair of manifest files for a folder of one's own data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from neuropipe.cli import app


@app.command()
def manifest(
    path: Annotated[Path, typer.Argument(help="Folder of recordings: NWB, BIDS, bare files.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the pair goes.")] = Path(
        "data_manifests"
    ),
    name: Annotated[str | None, typer.Option(help="Name of the data set.")] = None,
) -> None:
    """Look through a folder and write <name>.yaml and <name>.tsv for each kind of data in it."""
    from neuropipe.io.survey import write_manifests

    for page in write_manifests(path, output, name):
        Console().print(f"wrote {page}; name it in config/config.yaml under datasets, key manifest")
