"""`preprocess`: a store to a prepared store, and the folds of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neuropipe.cli import Output, app
from neuropipe.cli.files import parse_json, write_json
from neuropipe.cli.scheduler import scheduler
from neuropipe.errors import ConfigError


@app.command()
def preprocess(
    stores: Annotated[list[Path], typer.Argument(help="Store, or with --split all of a run's.")],
    output: Output,
    steps: Annotated[str, typer.Option(help="JSON list of steps.")] = "[]",
    split: Annotated[str, typer.Option(help="JSON of a split: writes folds instead.")] = "",
    seed: Annotated[int | None, typer.Option(help="Of the split.")] = None,
) -> None:
    """Apply steps that fit nothing, or divide prepared sessions into folds."""
    from neuropipe.batching.splits import make_splits
    from neuropipe.config import Split, build
    from neuropipe.io.store import open_recording, write
    from neuropipe.preprocess import apply_steps

    if split:
        if seed is None:
            raise ConfigError("preprocess --split: needs --seed")
        wanted = build(Split, parse_json(split, "--split"), "--split")
        recordings = {store.stem: open_recording(store) for store in stores}
        write_json(output, make_splits(recordings, seed=seed, **wanted.model_dump()))
        return
    if len(stores) != 1:
        raise ConfigError(f"preprocess: expected one store, found {len(stores)}; or say --split")
    with scheduler():
        write(apply_steps(open_recording(stores[0]), parse_json(steps, "--steps")), output)
