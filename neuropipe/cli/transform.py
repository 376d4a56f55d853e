"""`transform`: a fitted model's estimates for the held-out side of its fold."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from neuropipe.cli import Output, app
from neuropipe.cli.files import read_json, write_json
from neuropipe.cli.fit import fold_of, load_estimator


@app.command()
def transform(
    fitted: Annotated[Path, typer.Argument(help="fit.json of a fitted model.")],
    stores: Annotated[list[Path], typer.Argument(help="Prepared stores of the run.")],
    splits: Annotated[Path, typer.Option(help="Folds of the run.")],
    output: Output,
) -> None:
    """Write one store of estimates per held-out session, and OUTPUT (json) that lists them."""
    from neuropipe.batching.windows import attach_windows
    from neuropipe.io.store import open_recording, write

    note = read_json(fitted)
    model = load_estimator(note["estimator"]).load(fitted.parent)
    held = fold_of(splits, note["fold"], "test")
    folder = output.with_suffix("")
    shutil.rmtree(folder, ignore_errors=True)
    sessions = {}
    for store in stores:
        if store.stem in held:
            recording = attach_windows(open_recording(store), held[store.stem])
            content = write(model.transform(recording), folder / f"{store.stem}.zarr")
            sessions[store.stem] = content["content_sha256"]
    write_json(output, {"fold": note["fold"], "sessions": sessions})
