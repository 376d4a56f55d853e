"""`config validate|show`: whether a configuration can run, and what it says with its defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from neuropipe.cli import app
from neuropipe.cli.files import working_folder
from neuropipe.errors import ConfigError

group = typer.Typer(no_args_is_help=True, help="Check or show a configuration.")
app.add_typer(group, name="config")
File = Annotated[Path, typer.Argument(help="Configuration file (.yaml).")]
Folder = Annotated[
    Path | None,
    typer.Option(help="Folder that its paths are relative to; default this one, or the file's."),
]


@group.command()
def validate(config: File, folder: Folder = None) -> None:
    """Refuse a configuration that no run could carry out; says where, and what was meant."""
    from neuropipe.checks import check_references
    from neuropipe.config import read_study

    study = read_study(config)
    place = folder if folder is not None else working_folder(study, config)
    manifests = check_references(study, place)
    sessions = sum(len(manifest.sessions()) for manifest in manifests.values())
    fits = sum(run.split.folds * len(run.estimators()) for run in study.runs.values())
    told = ((len(manifests), "data set"), (sessions, "session"), (len(study.runs), "run"),
            (fits, "fit"))  # fmt: skip
    data, held, runs, jobs = (f"{n} {thing}{'' if n == 1 else 's'}" for n, thing in told)
    Console(soft_wrap=True).print(
        f"{config}: valid; {data} of {held}, {runs}, {jobs}", highlight=False, markup=False
    )


@group.command()
def show(
    config: File,
    run: Annotated[str | None, typer.Option(help="One run alone.")] = None,
) -> None:
    """Print a configuration as it takes effect, defaults of every model included, as YAML."""
    import yaml

    from neuropipe.config import parameters_class, read_study
    from neuropipe.registry import hint

    study = read_study(config)
    if run is not None and run not in study.runs:
        raise ConfigError(f"{config}: no run {run!r}{hint(run, study.runs)}")
    shown = study.model_dump(mode="json")
    for name, block in study.runs.items():
        made = {
            estimator: parameters_class(estimator)(**given).model_dump(mode="json")
            for estimator, given in block.estimators().items()
        }
        shown["runs"][name]["parameters"] = made.pop(block.model)
        shown["runs"][name]["baselines"] = made
    content = shown if run is None else {"runs": {run: shown["runs"][run]}}
    Console(soft_wrap=True).print(
        yaml.safe_dump(content, sort_keys=False, allow_unicode=True), end="", markup=False,
        highlight=False,
    )  # fmt: skip
