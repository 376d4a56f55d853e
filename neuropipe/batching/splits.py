"""Folds without leaks: by trial, by block of time with a gap, by run, session or subject."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from neuropipe.batching.windows import cut_evenly, edges_of
from neuropipe.config import Split, build
from neuropipe.errors import ConfigError, DataError
from neuropipe.runtime import generator
from neuropipe.schema import Recording

Windows = dict[str, list[list[float]]]

# Whose clock says how long a session is, the first that it has.
FAMILIES = ("counts", "calcium", "regions", "bold", "ieeg", "ephys")
IMPULSE_S = 1e-3  # window of a trial whose event has no duration


def make_splits(
    recordings: Mapping[str, Recording],
    *,
    by: str,
    folds: int,
    seed: int,
    buffer_s: float = 0.0,
    window_s: float | None = None,
    blocks_per_fold: int = 1,
    column: str = "stimulus",
) -> dict[str, Any]:
    """Divide sessions into folds, each with a training and a held-out side.

    Parameters
    ----------
    recordings : mapping of session to DataTree
        Prepared recordings with node `trials`, which ``by="trial"`` needs, or with node `counts`
        (else calcium, regions, bold, ieeg or ephys), whose extent is cut to windows; with node
        `runs` for ``by="run"``, with `betas` or `trials` for ``by="stimulus"``.
    by : {"trial", "block", "run", "stimulus", "session", "subject"}
        What is held out together; a stimulus in all sessions at once, whoever saw it.
    folds : int
        At least 2.
    seed : int
        Shuffles trials, stimuli, runs, sessions or subjects.
    buffer_s : float
        Training data nearer than this to held-out data are left out.
    window_s : float, optional
        Length of the windows that a recording without trials is cut to; by default one window a
        block.
    blocks_per_fold : int
        For ``by="block"``: how many separate stretches a fold holds out, spread over the session.
    column : str
        For ``by="stimulus"``: column of the trials; those that agree in it stay together, so it
        may also name what stimuli were cut from.

    Returns
    -------
    dict
        ``by``, ``seed``, ``buffer_s`` and ``folds``: a list of ``{"train": {session: [[start,
        stop], ...]}, "test": {...}}``, times in s.

    Raises
    ------
    ConfigError
        When an argument is none of those above.
    DataError
        When there are fewer trials, blocks, runs, sessions or subjects than folds, when a fold's
        training side is empty, or when a trial has no finite, positive length.

    Notes
    -----
    By run, a window is a whole run, whatever trials it has: a model may then also learn from what
    lies between trials.
    """
    if not isinstance(recordings, Mapping):
        raise ConfigError(
            f"make_splits: found a {type(recordings).__name__}, expected a mapping of session to "
            "recording, such as {'a': recording}"
        )
    wanted = build(
        Split,
        {"by": by, "folds": folds, "buffer_s": buffer_s, "window_s": window_s,
         "blocks_per_fold": blocks_per_fold, "column": column},
        "make_splits",
    )  # fmt: skip
    folds = wanted.folds
    windows = {name: _windows(rec, by, window_s) for name, rec in recordings.items()}
    if by == "stimulus":
        groups = _groups_of_stimuli(recordings, folds, seed, column)
    else:
        groups = _groups(recordings, windows, by, folds, seed, blocks_per_fold)
    out = []
    for fold in range(folds):
        train: Windows = {}
        test: Windows = {}
        for name, edges in windows.items():
            held = edges[groups[name] == fold]
            kept = trim(edges[groups[name] != fold], held, buffer_s)
            if len(held):
                test[name] = held.tolist()
            if len(kept):
                train[name] = kept.tolist()
        if not train or not test:
            side = "training" if not train else "held-out"
            raise DataError(
                f"split by {by}: fold {fold} has no {side} data; use fewer folds, a shorter "
                f"buffer_s (now {buffer_s:g} s) or more data"
            )
        out.append({"train": train, "test": test})
    splits = {"by": by, "seed": seed, "buffer_s": buffer_s, "folds": out}
    check_splits(splits)
    return splits


def trim(kept: np.ndarray, held: np.ndarray, buffer_s: float) -> np.ndarray:
    """Cut from the windows `kept` all that lies within `buffer_s` of a window of `held`.

    Both are (window, 2), s. A window may fall into several pieces or vanish.
    """
    low, high = _joined(held, buffer_s)
    pieces = []
    for a, b in kept:
        near = slice(np.searchsorted(high, a, "right"), np.searchsorted(low, b, "left"))
        begin = [a, *high[near]]
        end = [*low[near], b]
        pieces += [(x, y) for x, y in zip(begin, end, strict=True) if x < y]
    return np.array(pieces, dtype=float).reshape(-1, 2)


def _joined(held: np.ndarray, buffer_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Return starts and stops, in order, of what lies within `buffer_s` of windows (window, 2)."""
    edges = held[np.argsort(held[:, 0], kind="stable")] + np.array([-buffer_s, buffer_s])
    reach = np.maximum.accumulate(edges[:, 1])
    first = np.ones(len(edges), dtype=bool)
    first[1:] = edges[1:, 0] > reach[:-1]
    last = np.roll(first, -1)
    return edges[first, 0], reach[last]


def check_splits(splits: Mapping[str, Any]) -> None:
    """Raise DataError if any time is on both sides of a fold, or within its buffer."""
    buffer_s = splits["buffer_s"]
    for number, fold in enumerate(splits["folds"]):
        for session, held in fold["test"].items():
            kept = np.array(fold["train"].get(session, []), dtype=float).reshape(-1, 2)
            kept = kept[np.argsort(kept[:, 0], kind="stable")]
            # the furthest end of all windows that begin before a time
            reach = np.concatenate([[-np.inf], np.maximum.accumulate(kept[:, 1])])
            edges = np.array(held, dtype=float).reshape(-1, 2)
            begun = np.searchsorted(kept[:, 0], edges[:, 1] + buffer_s - 1e-9, side="left")
            near = np.flatnonzero(reach[begun] > edges[:, 0] - buffer_s + 1e-9)
            if len(near):
                start, stop = edges[near[0]]
                raise DataError(
                    f"split: fold {number}, session {session}: held-out {start:g} to {stop:g} s "
                    f"lies within {buffer_s:g} s of training data"
                )


def _extent(recording: Recording) -> tuple[float, float]:
    session = recording.attrs.get("session")
    present = [group.lstrip("/") for group in recording.groups if recording[group].variables]
    clocks = [
        node
        for family in FAMILIES
        for node in sorted(present)
        if node.split("/")[0] == family and "time" in recording[node].to_dataset().variables
    ]
    if not clocks:
        raise DataError(
            f"session {session}: nothing to cut windows from; it has "
            f"{', '.join(sorted(recording.children)) or 'no node'}; add the step bin_spikes"
        )
    time = np.asarray(recording[clocks[0]].to_dataset()["time"])
    if len(time) < 2:
        raise DataError(
            f"session {session}: {len(time)} bins in node {clocks[0]}, expected at least 2"
        )
    half = (time[1] - time[0]) / 2
    return float(time[0] - half), float(time[-1] + half)


def _windows(recording: Recording, by: str, window_s: float | None) -> np.ndarray:
    """Return the windows that a session is made of, (window, 2), s."""
    if by == "run":
        if "runs" not in recording.children:
            raise DataError(
                f"session {recording.attrs.get('session')}: a split by run needs node runs, found "
                f"{', '.join(sorted(recording.children))}; split by trial or block"
            )
        return edges_of(recording, "runs")
    if by == "stimulus":
        return trial_edges(_shown(recording))
    if "trials" in recording.children:
        return edges_of(recording, "trials")
    if by == "trial":
        nodes = ", ".join(sorted(recording.children))
        raise DataError(
            f"session {recording.attrs.get('session')}: a split by trial needs node trials, found "
            f"{nodes}; add the step cut_trials to preprocess, or split by block"
        )
    start, stop = _extent(recording)
    return cut_evenly(start, stop, window_s) if window_s else np.array([[start, stop]])


def trial_edges(trials: xr.Dataset) -> np.ndarray:
    """Return start and stop of each trial of a table, (trial, 2), s; an impulse lasts 1 ms."""
    start = trials["start_time"].values.astype(float)
    if not np.isfinite(start).all():
        raise DataError("trials: a start_time is not finite, so a trial stands at no time")
    stop = trials["stop_time"].values.astype(float) if "stop_time" in trials else start
    return np.stack([start, np.fmax(stop, start + IMPULSE_S)], 1)


def _shown(recording: Recording) -> xr.Dataset:
    """Return the table of trials with their stimuli: that of the amplitudes, else node trials."""
    for name in ("betas", "trials"):
        if name in recording.children:
            return recording[name].to_dataset()
    raise DataError(
        f"session {recording.attrs.get('session')}: a split by stimulus needs node betas or "
        f"trials, found {', '.join(sorted(recording.children))}; add the step single_trial"
    )


def _groups_of_stimuli(
    recordings: Mapping[str, Recording], folds: int, seed: int, column: str
) -> dict[str, np.ndarray]:
    """Return the fold of every trial; those of one stimulus share it in all sessions."""
    names = {session: stimuli(_shown(rec), column, rec) for session, rec in recordings.items()}
    unique = sorted({name for shown in names.values() for name in shown})
    dealt = generator(seed, "splits").permutation(_deal(len(unique), folds, "stimuli"))
    fold_of = dict(zip(unique, dealt, strict=True))
    return {session: np.array([fold_of[n] for n in shown]) for session, shown in names.items()}


def stimuli(trials: xr.Dataset, column: str, recording: Recording) -> list[str]:
    """Return what each trial showed, by a column of its table.

    Raises
    ------
    DataError
        If the column is not there, or empty in a trial.
    """
    where = f"session {recording.attrs.get('session')}: column {column!r} of the trials"
    if column not in trials:
        raise DataError(f"{where} is missing; they have {', '.join(map(str, trials.data_vars))}")
    shown = [str(name) for name in trials[column].values]
    empty = [row for row, name in enumerate(shown) if name in ("", "n/a", "nan", "None")]
    if empty:
        raise DataError(
            f"{where} is empty in {len(empty)} of {len(shown)} trials, first in row {empty[0]}; "
            "choose trials that showed a stimulus with `where` of the step single_trial"
        )
    return shown


def _groups(
    recordings: Mapping[str, Recording],
    windows: dict[str, np.ndarray],
    by: str,
    folds: int,
    seed: int,
    blocks_per_fold: int,
) -> dict[str, np.ndarray]:
    """Return the fold of every window of every session."""
    rng = generator(seed, "splits")
    if by in ("trial", "run"):
        return {
            name: rng.permutation(_deal(len(edges), folds, f"session {name}: {by}s"))
            for name, edges in windows.items()
        }
    if by == "block":
        out = {}
        for name, edges in windows.items():
            if len(edges) == 1:
                start, stop = edges[0]
                edges = cut_evenly(start, stop, (stop - start) / (folds * blocks_per_fold))
                windows[name] = edges
            n_blocks = folds * blocks_per_fold
            if len(edges) < n_blocks:
                raise DataError(
                    f"split: session {name}: windows: found {len(edges)}, expected at least one a "
                    f"block ({folds} folds of {blocks_per_fold}); use fewer blocks or folds, or a "
                    "shorter window_s"
                )
            block = np.arange(len(edges)) * n_blocks // len(edges)
            out[name] = block % folds
        return out
    keys = {
        name: name if by == "session" else rec.attrs.get("subject", name)
        for name, rec in recordings.items()
    }
    unique = sorted(set(keys.values()))
    dealt = rng.permutation(_deal(len(unique), folds, f"{by}s"))
    fold_of = dict(zip(unique, dealt, strict=True))
    return {name: np.full(len(windows[name]), fold_of[keys[name]]) for name in recordings}


def _enough(found: int, folds: int, what: str) -> None:
    if found < folds:
        raise DataError(
            f"split: {what}: found {found}, expected at least one a fold ({folds}); use fewer folds"
        )


def _deal(n: int, folds: int, what: str) -> np.ndarray:
    _enough(n, folds, what)
    return np.arange(n) % folds
