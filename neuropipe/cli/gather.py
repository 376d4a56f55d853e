"""A finished run's files, opened lazily, as figures and tables expect them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from neuropipe.cli.files import read_json
from neuropipe.config import Run
from neuropipe.io.store import open_recording
from neuropipe.results import SCORE_COLUMNS, RunResults

NAMES = ("dataset", "session", "subject", "run", "estimator", "metric", "busiest_unit")
TEXT = dict.fromkeys(NAMES, str)


def gather(name: str, run: Run, results: Path) -> RunResults:
    """Collect everything that a run has left under its results folder.

    Parameters
    ----------
    name : str
        Of the run.
    run : Run
        Its block of the configuration.
    results : Path
        The study's folder.
    """
    splits = read_json(results / "preprocess" / "splits" / f"{name}.json")
    sessions = sorted({s for fold in splits["folds"] for s in (*fold["train"], *fold["test"])})
    folds = range(len(splits["folds"]))
    fits = {
        (estimator, fold): results / "fit" / name / estimator / f"fold-{fold}"
        for estimator in run.estimators()
        for fold in folds
    }
    scores = [
        pd.read_csv(path, sep="\t", na_values=["n/a"], keep_default_na=False, dtype=TEXT)
        for path in sorted((results / "score" / name).glob("*/fold-*.tsv"))
    ]
    return RunResults(
        run=name,
        model=run.model,
        dataset=run.dataset,
        seed=run.seed,
        recordings={
            s: open_recording(results / "preprocess" / run.dataset / f"{s}.zarr") for s in sessions
        },
        estimates={
            (s, fold): _dataset(results / "transform" / name / f"fold-{fold}" / f"{s}.zarr")
            for fold in folds
            for s in splits["folds"][fold]["test"]
        },
        parameters={key: _dataset(path / "parameters.zarr") for key, path in fits.items()},
        history={key: _dataset(path / "history.zarr") for key, path in fits.items()},
        scores=pd.concat(scores) if scores else pd.DataFrame(columns=list(SCORE_COLUMNS)),
        splits=splits,
        truth=_truth(sessions, results / "fetch" / run.dataset),
        settings=run.model_dump(),
    )


def _dataset(path: Path) -> xr.Dataset:
    return open_recording(path).to_dataset()


def _truth(sessions: list[str], folder: Path) -> dict[str, xr.Dataset]:
    stores: dict[str, Any] = {s: folder / f"{s}.truth.zarr" for s in sessions}
    return {s: _dataset(path) for s, path in stores.items() if path.exists()}
