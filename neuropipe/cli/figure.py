"""`figure`: one figure of one run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neuropipe.cli import Output, Results, app
from neuropipe.cli.files import parse_json


@app.command()
def figure(
    name: Annotated[str, typer.Argument(help="Name of the figure.")],
    run: Annotated[str, typer.Option(help="Name of the run.")],
    settings: Annotated[str, typer.Option(help="JSON of the run's block.")],
    output: Output,
    results: Results = Path("results"),
) -> None:
    """Draw one figure as SVG."""
    from neuropipe.cli.gather import gather
    from neuropipe.config import Run, build
    from neuropipe.figures import resolve
    from neuropipe.figures.style import save

    block = build(Run, parse_json(settings, "--settings"), f"runs.{run}")
    save(resolve(name)(gather(run, block, results)), output)
