"""`trust`: what a run's model recovers of planted truth at the size of the run's own recordings."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from neuropipe.cli import Output, Results, app
from neuropipe.cli.files import results_of, working_folder, write_table
from neuropipe.errors import ConfigError

log = logging.getLogger(__name__)


@app.command()
def trust(
    config: Annotated[Path, typer.Argument(help="Configuration of the study.")],
    run: Annotated[str, typer.Option(help="Name of the run, prepared already.")],
    output: Output,
    results: Results = Path("results"),
) -> None:
    """Simulate the run's model at the size of its recordings, fit one fold, compare with the truth.

    Written as results/trust/RUN.tsv, it stands in the next report as "Can I trust this?".
    """
    from neuropipe.config import read_study
    from neuropipe.io.store import open_recording
    from neuropipe.likeness import LIKE, parameters_like, split_like
    from neuropipe.registry import hint
    from neuropipe.scripting import cross_validate, simulate, tabulate

    study = read_study(config)
    if run not in study.runs:
        raise ConfigError(f"{config}: no run {run!r}{hint(run, study.runs)}")
    block = study.runs[run]
    results = results_of(results, working_folder(study, config))
    stores = sorted((results / "preprocess" / block.dataset).glob("*.zarr"))
    if not stores:
        raise ConfigError(
            f"trust: {results / 'preprocess' / block.dataset}: no prepared recording; run the "
            "study, or its step preprocess, first"
        )
    recordings = [open_recording(store) for store in stores]
    like = LIKE[block.model]
    drawn, truth = [], {}
    for number, settings in enumerate(like.sizes(block, recordings), start=1):
        log.info("trust: drawing session %d of %s", number, settings)
        session, planted = simulate(block.model, seed=block.seed, **settings)
        session.attrs["session"] = f"drawn-{number}"
        drawn.append(like.prepare(session, planted, recordings[0]))
        truth[f"drawn-{number}"] = planted
    found = cross_validate(
        block.model, drawn, seed=block.seed, split=split_like(block, drawn),
        parameters=parameters_like(block), truth=truth, folds=[0],
    )  # fmt: skip
    write_table(output, tabulate(found, like.table))
