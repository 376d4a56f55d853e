"""`simulate`: a session with planted truth, as real files with their manifest."""

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
    """Draw a session into folder OUTPUT: NWB or BIDS files, truth and manifest pair."""
    from neuropipe.cli.fetch import draw_session
    from neuropipe.io.survey import write_manifests

    wrong = [s for s in settings or [] if "=" not in s]
    if wrong:
        raise ConfigError(f"--set {wrong[0]!r}: expected key=value")
    query = urlencode({"seed": seed, **dict(s.split("=", 1) for s in settings or [])})
    session = f"{model.replace('_', '-')}-{seed}"
    _, planted = draw_session(f"simulate:{model}?{query}", session, output)
    for page in write_manifests(output, output, f"planted_{model}"):
        Console().print(f"wrote {page} and the truth, {planted}")
