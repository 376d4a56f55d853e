"""`export`: a store as files that other tools read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from neuropipe.cli import Output, app
from neuropipe.errors import ConfigError


@app.command()
def export(
    store: Annotated[Path, typer.Argument(help="Store of ingest or preprocess.")],
    output: Output,
    form: Annotated[
        Literal["nwb", "bids"], typer.Option("--to", help="One NWB file, or a BIDS folder.")
    ],
    nodes: Annotated[str, typer.Option(help="Nodes to write, with commas; default all.")] = "",
    task: Annotated[
        str, typer.Option(help="BIDS task; by default the store's own, else export.")
    ] = "",
) -> None:
    """Write a store as NWB or BIDS; what the form has no place for is refused by name."""
    from neuropipe.io.bids_write import write_bids
    from neuropipe.io.nwb_write import write_nwb
    from neuropipe.io.store import open_recording
    from neuropipe.schema import keep_nodes

    recording = open_recording(store)
    if nodes:
        recording = keep_nodes(recording, [node.strip() for node in nodes.split(",")])
    if output.exists():
        raise ConfigError(f"{output}: is there already; remove it or name another place")
    if form == "nwb":
        if output.suffix != ".nwb":
            raise ConfigError(f"{output}: expected a name ending in .nwb")
        write_nwb(recording, output)
        written = [output]
    else:
        own = (recording[n].attrs.get("task") for n in ("bold", "ieeg") if n in recording.children)
        written = write_bids(recording, output, task=task or next(filter(None, own), "export"))
    Console().print(f"wrote {len(written)} file(s) under {output}")
