"""`simulate`: a session with planted truth, as a real NWB file with its manifest."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

import typer
from rich.console import Console

from neuropipe.cli import Output, Seed, app
from neuropipe.errors import ConfigError


@app.command()
def simulate(
    model: Annotated[str, typer.Argument(help="Model to draw from, such as hmm_glm.")],
    seed: Seed,
    output: Output,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="key=value of the model's plan; repeatable.")
    ] = None,
) -> None:
    """Draw a session into folder OUTPUT: NWB file, truth and manifest pair."""
    from neuropipe.cli.fetch import draw_session
    from neuropipe.io.manifest import write_manifest

    wrong = [s for s in settings or [] if "=" not in s]
    if wrong:
        raise ConfigError(f"--set {wrong[0]!r}: expected key=value")
    query = urlencode({"seed": seed, **dict(s.split("=", 1) for s in settings or [])})
    session = f"{model.replace('_', '-')}-{seed}"
    recorded, planted = draw_session(f"simulate:{model}?{query}", session, output)
    page = write_manifest(output, output, f"planted_{model}")
    Console().print(f"wrote {recorded}, truth {planted}, manifest {page}")
