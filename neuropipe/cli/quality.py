"""`quality`: what is wrong with a recording, as a table of verdicts and a figure."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from neuropipe.cli import Output, app
from neuropipe.cli.files import parse_json, write_table

log = logging.getLogger(__name__)


@app.command()
def quality(
    store: Annotated[Path, typer.Argument(help="Store that ingest wrote.")],
    output: Output,
    thresholds: Annotated[str, typer.Option(help="JSON of the study's `quality`.")] = "{}",
) -> None:
    """Write the checks of a recording as TSV, and beside it a figure of the same name."""
    from neuropipe.config import build
    from neuropipe.figures.recording_quality import plot_quality
    from neuropipe.figures.style import save
    from neuropipe.io.store import open_recording
    from neuropipe.quality import measure
    from neuropipe.quality.thresholds import Thresholds

    recording = open_recording(store)
    checks = measure(
        recording, build(Thresholds, parse_json(thresholds, "--thresholds"), "quality")
    )
    write_table(output, checks)
    save(plot_quality(recording, checks), output.with_suffix(".svg"))
    for row in checks[checks["verdict"] != "PASS"].to_dict("records"):
        log.warning("%s %s %s: %s", row["verdict"], row["node"], row["item"], row["reason"])
