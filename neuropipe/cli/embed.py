"""`embed`: features of stimuli, computed once and kept beside the recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from neuropipe.cli import Output, app
from neuropipe.errors import ConfigError


@app.command()
def embed(
    images: Annotated[
        Path,
        typer.Argument(help="Folder of images, one a stimulus; a .tsv of stimulus and caption."),
    ],
    output: Output,
    extractor: Annotated[str, typer.Option(help="pixels, lite0, clip; of captions minilm.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value of the extractor; repeatable.")
    ] = None,
) -> None:
    """Write the file that the reader's option `embedding` names; nothing is downloaded."""
    from neuropipe.io.extractors import write_embedding

    wrong = [s for s in settings or [] if "=" not in s]
    if wrong:
        raise ConfigError(f"--set {wrong[0]!r}: expected key=value")
    options = dict(s.split("=", 1) for s in settings or [])
    Console().print(f"wrote {write_embedding(images, output, name=extractor, **options)}")
