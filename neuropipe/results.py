"""What a finished run left behind, as figures and tables see it: labelled arrays, no files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import xarray as xr

SCORE_COLUMNS = (
    "dataset",
    "session",
    "run",
    "estimator",
    "fold",
    "seed",
    "metric",
    "value",
    "units",
)


@dataclass(frozen=True)
class RunResults:
    """One run: a model and its baselines, fitted on every fold of a data set.

    Attributes
    ----------
    run, model, dataset : str
        Names from the configuration.
    seed : int
        Of the run.
    recordings : mapping of session to DataTree
        Prepared recordings, lazy.
    estimates : mapping of (session, fold) to Dataset
        What the model's `transform` returned for the fold's held-out part of a session.
    parameters : mapping of (estimator, fold) to Dataset
        Learnt parameters, baselines included.
    history : mapping of (estimator, fold) to Dataset
        Course of each fit: ``objective (step)`` and ``seconds (step)``, attr ``converged``.
    scores : DataFrame
        Columns `SCORE_COLUMNS`; one row a session, estimator, fold and metric.
    splits : dict
        The folds, as `batching.splits` wrote them.
    truth : mapping of session to Dataset
        Planted parameters, for simulated sessions only.
    settings : dict
        The run's block of the configuration.
    """

    run: str
    model: str
    dataset: str
    seed: int
    recordings: Mapping[str, xr.DataTree]
    estimates: Mapping[tuple[str, int], xr.Dataset]
    parameters: Mapping[tuple[str, int], xr.Dataset]
    history: Mapping[tuple[str, int], xr.Dataset]
    scores: pd.DataFrame
    splits: Mapping[str, Any]
    truth: Mapping[str, xr.Dataset] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def folds(self) -> list[int]:
        """Folds of the run, in order."""
        return sorted({fold for _, fold in self.parameters})
