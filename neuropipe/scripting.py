"""What the workflow does with files, in memory for a script: simulate, cross-validate, plot."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pandas as pd
import xarray as xr

from neuropipe import figures, tables
from neuropipe.baselines import BASELINES
from neuropipe.batching.splits import make_splits
from neuropipe.batching.windows import attach_windows
from neuropipe.config import Run, build, parameters_class
from neuropipe.errors import ConfigError
from neuropipe.metrics import UNITS
from neuropipe.models import MODELS, SIMULATORS, resolve
from neuropipe.registry import hint
from neuropipe.results import SCORE_COLUMNS, RunResults
from neuropipe.schema import Recording

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger(__name__)


def simulate(model: str, *, seed: int, **settings: Any) -> tuple[Recording, xr.Dataset]:
    """Draw one session from a model, with the truth behind it.

    Parameters
    ----------
    model : str
        Name of a model, such as ``"hmm_glm"``.
    seed : int
        Of all that is drawn.
    **settings
        Of the model's plan, such as ``n_units``; unknown ones are refused with the nearest match.

    Returns
    -------
    recording : DataTree
        As recorded: spikes, traces or voltages, not yet prepared.
    truth : Dataset
        What was planted.

    Raises
    ------
    ConfigError
        An unknown model, or a setting that its plan does not have.
    """
    if model not in SIMULATORS:
        raise ConfigError(f"simulate: unknown model {model!r}{hint(model, SIMULATORS)}")
    module = import_module(SIMULATORS[model])
    recording, truth = module.simulate(build(module.Plan, settings, f"simulate {model}"), seed)
    recording.attrs.setdefault("session", f"{model}-{seed}")
    return recording, truth


def cross_validate(
    model: str,
    recordings: Sequence[Recording] | Recording,
    *,
    seed: int,
    split: Mapping[str, Any],
    parameters: Mapping[str, Any] | None = None,
    baselines: Sequence[str] | Mapping[str, Mapping[str, Any]] = (),
    truth: Mapping[str, xr.Dataset] | None = None,
    folds: Sequence[int] | None = None,
    device: str = "auto",
) -> RunResults:
    """Fit a model and its baselines on each fold, and score them on what the fold held out.

    Parameters
    ----------
    model : str
        Name of a model, such as ``"hmm_glm"``.
    recordings : DataTree or sequence of DataTree
        Prepared sessions, told apart by their attr ``session``.
    seed : int
        Of splits, starts and bootstraps.
    split : mapping
        As in a configuration: ``by``, ``folds``, ``buffer_s``, ``window_s``, ...
    parameters : mapping, optional
        Of the model.
    baselines : sequence of str, or mapping of name to parameters
        Which take the model's value of every setting that both have.
    truth : mapping of session to Dataset, optional
        Of simulated sessions, for the tables of recovery.
    folds : sequence of int, optional
        Those to carry out; all by default.
    device : str
        ``"auto"``, ``"cpu"`` or ``"cuda"``.

    Returns
    -------
    RunResults
        What `plot` and `tabulate` take.

    Raises
    ------
    ConfigError
        An unknown name, parameter or fold.
    """
    sessions = [recordings] if isinstance(recordings, xr.DataTree) else list(recordings)
    held = {str(r.attrs["session"]): r for r in sessions}
    if len(held) != len(sessions):
        raise ConfigError("cross_validate: two recordings have the same attr 'session'")
    run = build(
        Run,
        {"model": model, "dataset": "script", "seed": seed, "parameters": dict(parameters or {}),
         "split": dict(split), "baselines": _plain(baselines)},
        "cross_validate",
    )  # fmt: skip
    classes = {name: resolve(name, {**MODELS, **BASELINES}) for name in run.estimators()}
    for name, given in run.estimators().items():
        build(parameters_class(name), given, f"parameters of {name}")
    splits = make_splits(held, seed=seed, **run.split.model_dump())
    wanted = list(range(len(splits["folds"])) if folds is None else folds)
    unknown = [k for k in wanted if not 0 <= k < len(splits["folds"])]
    if unknown:
        raise ConfigError(f"cross_validate: no fold {unknown[0]}, there are {run.split.folds}")
    estimates: dict[tuple[str, int], xr.Dataset] = {}
    fitted: dict[tuple[str, int], xr.Dataset] = {}
    history: dict[tuple[str, int], xr.Dataset] = {}
    rows: list[dict[str, Any]] = []
    for fold in wanted:
        sides = splits["folds"][fold]
        train = [attach_windows(held[s], windows) for s, windows in sides["train"].items()]
        test = {s: attach_windows(held[s], windows) for s, windows in sides["test"].items()}
        for name, given in run.estimators().items():
            estimator = classes[name](**given).fit(train, seed=seed, device=device)
            log.info("cross_validate: %s, fold %d fitted", name, fold)
            fitted[name, fold] = estimator.parameters_
            history[name, fold] = estimator.history_
            for session, recording in test.items():
                if name == model:
                    estimates[session, fold] = estimator.transform(recording)
                rows += [
                    {"dataset": "script", "session": session, "run": "script", "estimator": name,
                     "fold": fold, "seed": seed, "metric": m, "value": v, "units": UNITS[m]}
                    for m, v in estimator.score(recording).items()
                ]  # fmt: skip
    return RunResults(
        run="script",
        model=model,
        dataset="script",
        seed=seed,
        recordings=held,
        estimates=estimates,
        parameters=fitted,
        history=history,
        scores=pd.DataFrame(rows, columns=list(SCORE_COLUMNS)),
        splits=splits,
        truth=dict(truth or {}),
        settings=run.model_dump(),
    )


def _plain(baselines: Sequence[str] | Mapping[str, Mapping[str, Any]]) -> Any:
    if isinstance(baselines, Mapping):
        return {name: dict(given) for name, given in baselines.items()}
    return list(baselines)


def plot(results: RunResults, name: str) -> Figure:
    """Draw one figure of a run; an unknown name lists the known ones.

    Parameters
    ----------
    results : RunResults
        Of `cross_validate`.
    name : str
        Of the figure, such as ``"score_comparison"``.
    """
    [suiting] = figures.suiting(results.model, [name])
    return figures.resolve(suiting)(results)


def tabulate(results: RunResults, name: str) -> pd.DataFrame:
    """Make one table of a run; an unknown name lists the known ones.

    Parameters
    ----------
    results : RunResults
        Of `cross_validate`.
    name : str
        Of the table, such as ``"scores"``.
    """
    [suiting] = tables.suiting(results.model, [name])
    return tables.resolve(suiting)(results)
