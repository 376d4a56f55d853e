"""What a finished run left behind, as figures and tables see it: labelled arrays, no files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
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
SERIES = ("counts", "calcium", "regions", "bold", "ieeg", "ephys")
GAP = 1.5  # steps between two samples from which something is missing


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

    def series(self, session: str) -> xr.DataArray | None:
        """Return what the model saw of a recording: counts or traces (time, ...), lazy.

        The node is the one that the model's setting ``observations`` names, else the first of
        `SERIES` that is there; None where there is none.
        """
        recording = self.recordings[session]
        named = str(self.settings.get("parameters", {}).get("observations", ""))
        nodes = [path.strip("/") for path in recording.groups]
        found = [n for first in (named, *SERIES) for n in nodes if first in (n, n.split("/")[0])]
        for node in found:
            dataset = recording[node].to_dataset()
            variables = [v for v in dataset.data_vars.values() if v.dims[:1] == ("time",)
                         and v.ndim == 2]  # fmt: skip
            if variables:
                return next((v for v in variables if v.name == "dff"), variables[0]).assign_attrs(
                    node=node
                )
        return None

    def extent_s(self, session: str) -> tuple[float, float]:
        """Return the length of what the model saw, and how much of it is missing, in s.

        Missing are samples whose ``observed`` is False and gaps between samples; NaN and 0 where
        there is no series.
        """
        series = self.series(session)
        if series is None:
            return float("nan"), 0.0
        time = series["time"].values
        if not len(time):
            return 0.0, 0.0
        gaps = np.diff(time)
        step = float(series.attrs.get("bin_width_s", np.median(gaps) if len(gaps) else 0.0))
        lost = float((gaps[gaps > GAP * step] - step).sum())
        node = self.recordings[session][series.attrs["node"]]
        if "observed" in node:
            lost += step * float(len(time) - int(node["observed"].sum()))
        return float(time[-1] - time[0]) + step, lost
