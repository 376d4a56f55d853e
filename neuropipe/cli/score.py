"""`score`: one estimator on the held-out side of its fold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neuropipe.cli import Output, Seed, app
from neuropipe.cli.files import read_json, write_table
from neuropipe.cli.fit import fold_of, load_estimator


@app.command()
def score(
    fitted: Annotated[Path, typer.Argument(help="fit.json of a fitted estimator.")],
    stores: Annotated[list[Path], typer.Argument(help="Prepared stores of the run.")],
    splits: Annotated[Path, typer.Option(help="Folds of the run.")],
    run: Annotated[str, typer.Option(help="Name of the run.")],
    seed: Seed,
    output: Output,
) -> None:
    """Write one row a session and metric."""
    import pandas as pd

    from neuropipe.batching.windows import attach_windows
    from neuropipe.io.store import open_recording
    from neuropipe.metrics import UNITS
    from neuropipe.results import SCORE_COLUMNS

    note = read_json(fitted)
    model = load_estimator(note["estimator"]).load(fitted.parent)
    held = fold_of(splits, note["fold"], "test")
    rows = []
    for store in stores:
        if store.stem not in held:
            continue
        recording = attach_windows(open_recording(store), held[store.stem])
        for metric, value in model.score(recording).items():
            rows.append(
                {
                    "dataset": recording.attrs.get("dataset", ""), "session": store.stem,
                    "run": run, "estimator": note["estimator"], "fold": note["fold"],
                    "seed": seed, "metric": metric, "value": value, "units": UNITS[metric],
                }
            )  # fmt: skip
    write_table(output, pd.DataFrame(rows, columns=list(SCORE_COLUMNS)))
