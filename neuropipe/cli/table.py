"""`table`: one table of one run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neuropipe.cli import Output, Results, app
from neuropipe.cli.files import parse_json, write_table


@app.command()
def table(
    name: Annotated[str, typer.Argument(help="Name of the table.")],
    run: Annotated[str, typer.Option(help="Name of the run.")],
    settings: Annotated[str, typer.Option(help="JSON of the run's block.")],
    output: Output,
    results: Results = Path("results"),
) -> None:
    """Write one table as TSV."""
    from neuropipe.cli.gather import gather
    from neuropipe.config import Run, build
    from neuropipe.tables import resolve

    block = build(Run, parse_json(settings, "--settings"), f"runs.{run}")
    write_table(output, resolve(name)(gather(run, block, results)))
