"""Amplitudes of single trials of several subjects, paired with the features of what was shown.

MindBridge and its baselines read through this one door, so they see the same trials, the same
voxels and the same scaling.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr

from neuropipe.batching.refusals import refuse_lone
from neuropipe.batching.splits import stimuli, trial_edges
from neuropipe.batching.windows import edges_of
from neuropipe.errors import DataError
from neuropipe.schema import NODES, Recording, validate

log = logging.getLogger(__name__)

EDGE_S = 1e-6  # rounding of a window's edges
CODES = 32  # most components of the features that voxels are judged by


@dataclass(frozen=True)
class StimulusSource:
    """Which part of a recording is decoded, and into what.

    Attributes
    ----------
    column : str
        Column of node `betas` that names what a trial showed.
    image : str
        Node of the image features.
    text : str
        Node of the text features, ``none``, or ``auto``: text_embedding where all have it.
    missing : {"refuse", "drop"}
        What a voxel does that is NaN or constant in training: stop, or be left out.
    n_voxels : int, optional
        Keep so many voxels of a subject, those that the features predict best.
    """

    column: str = "stimulus"
    image: str = "embedding"
    text: str = "auto"
    missing: Literal["refuse", "drop"] = "refuse"
    n_voxels: int | None = None


@dataclass(frozen=True)
class Responses:
    """Trials of one session that lie whole in its windows."""

    subject: str
    session: str
    stimulus: np.ndarray  # (trial,) names
    time: np.ndarray  # (trial,) s, onsets
    beta: np.ndarray  # (trial, voxel)
    place: np.ndarray  # (voxel, 3), indices in the grid


@dataclass(frozen=True)
class Codes:
    """Features of stimuli, a row each."""

    stimulus: tuple[str, ...]
    image: np.ndarray  # (stimulus, feature)
    text: np.ndarray | None  # (stimulus, feature)

    def rows(self, names: Sequence[str] | np.ndarray) -> np.ndarray:
        """Return the rows of some stimuli, (name,)."""
        at = {name: row for row, name in enumerate(self.stimulus)}
        return np.array([at[str(name)] for name in names], dtype=int)


@dataclass(frozen=True)
class Scaling:
    """What was learned of one subject's voxels in training, and holds for all other trials."""

    place: np.ndarray  # (voxel, 3), of all voxels
    voxel: np.ndarray  # (kept voxel,) positions
    mean: Mapping[str, np.ndarray]  # session: (kept voxel,)
    sd: Mapping[str, np.ndarray]
    signal: np.ndarray  # (kept voxel,) correlation with what the features predict, or NaN

    def __call__(self, responses: Responses) -> np.ndarray:
        """Return z-scored amplitudes (trial, kept voxel), float32.

        A session that training did not show is scaled by the mean of those that it did.
        """
        self.check(responses)
        session = responses.session
        if session in self.mean:
            mean, sd = self.mean[session], self.sd[session]
        else:
            mean = np.mean(list(self.mean.values()), axis=0)
            sd = np.mean(list(self.sd.values()), axis=0)
        kept = responses.beta[:, self.voxel]
        bad = ~np.isfinite(kept)
        if bad.any():
            trial, voxel = np.argwhere(bad)[0]
            raise DataError(
                f"session {session}: betas/beta is NaN in {int(bad.any(1).sum())} of {len(kept)} "
                f"trials, first in the trial at {responses.time[trial]:g} s, voxel "
                f"{responses.place[self.voxel[voxel]].tolist()}; leave such trials or voxels out "
                "(steps single_trial and select_voxels)"
            )
        return ((kept - mean) / sd).astype(np.float32)

    def check(self, responses: Responses) -> None:
        """Refuse a session whose voxels are others than those of the training sessions."""
        if not np.array_equal(responses.place, self.place):
            raise DataError(
                f"session {responses.session}: {len(responses.place)} voxels of subject "
                f"{responses.subject} are not the {len(self.place)} of the training sessions; "
                "align the sessions to one grid and mask"
            )


@dataclass(frozen=True)
class Subject:
    """One subject's training trials."""

    name: str
    row: np.ndarray  # (trial,) of the codes
    response: np.ndarray  # (trial, kept voxel), z-scored
    scaling: Scaling


def read_responses(recording: Recording, source: StimulusSource) -> Responses:
    """Read the trials of one session that lie whole in its windows.

    Raises
    ------
    DataError
        If no trial does, or one has no stimulus.
    """
    validate(recording, "betas")
    node = recording["betas"].to_dataset()
    session = str(recording.attrs.get("session", ""))
    names = np.array(stimuli(node, source.column, recording), dtype=object)
    trials = trial_edges(node)
    at = np.arange(len(trials))
    if "windows" in recording.children:
        edges = edges_of(recording, "windows")
        whole = (trials[:, :1] >= edges[:, 0] - EDGE_S) & (trials[:, 1:] <= edges[:, 1] + EDGE_S)
        at = np.flatnonzero(whole.any(1))
    if not len(at):
        raise DataError(
            f"session {session}: none of {len(trials)} trials lies whole in one of its windows; "
            "check the split and its buffer_s"
        )
    return Responses(
        str(recording.attrs.get("subject", "")), session, names[at], trials[at, 0],
        node["beta"].isel(trial=at).values, np.stack([node[a].values for a in "ijk"], 1),
    )  # fmt: skip


def has_text(recordings: Sequence[Recording], source: StimulusSource) -> bool:
    """Return whether text is predicted too."""
    if source.text != "auto":
        return source.text != "none"
    return all("text_embedding" in r.children for r in recordings)


def read_codes(
    recordings: Sequence[Recording], shown: Sequence[np.ndarray], source: StimulusSource, text: bool
) -> Codes:
    """Read the features of stimuli, each once.

    Parameters
    ----------
    recordings : sequence of DataTree
    shown : for each of them, the names of the stimuli that are needed
    source : StimulusSource
    text : whether to read the text features as well

    Raises
    ------
    DataError
        If a stimulus has no features, NaN ones, or others in another recording.
    """
    image = _features(recordings, shown, source.image)
    names = tuple(sorted(image))
    stacked = np.stack([image[name] for name in names])
    if not text:
        return Codes(names, stacked, None)
    node = "text_embedding" if source.text == "auto" else source.text
    words = _features(recordings, shown, node)
    return Codes(names, stacked, np.stack([words[name] for name in names]))


def _features(
    recordings: Sequence[Recording], shown: Sequence[np.ndarray], node: str
) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for recording, names in zip(recordings, shown, strict=True):
        if node in NODES:
            validate(recording, node)
        where = f"session {recording.attrs.get('session')}: node {node}"
        if node not in recording.children:
            raise DataError(f"{where} is missing; it has {', '.join(recording.children)}")
        data = recording[node].to_dataset()
        at = {str(name): row for row, name in enumerate(data["stimulus"].values)}
        wanted = list(dict.fromkeys(map(str, names)))
        lost = [name for name in wanted if name not in at]
        if lost:
            raise DataError(
                f"{where} has no features of {len(lost)} of {len(wanted)} stimuli, first "
                f"{lost[0]!r}; compute them (neuropipe embed) or choose other trials"
            )
        _refuse_ambiguous(data, set(wanted), where)
        values = data["embedding"].isel(stimulus=[at[name] for name in wanted]).values
        for name, row in zip(wanted, np.asarray(values, np.float32), strict=True):
            if not np.isfinite(row).all():
                raise DataError(f"{where}: the features of {name!r} are NaN")
            if name in found and not _same(found[name], row):
                raise DataError(
                    f"{where}: stimulus {name!r} has other features than in another recording; "
                    "give different stimuli different names"
                )
            found[name] = row
    if len({len(row) for row in found.values()}) > 1:
        raise DataError(f"node {node}: stimuli have different numbers of features")
    return found


def _refuse_ambiguous(data: xr.Dataset, wanted: Set[str], where: str) -> None:
    """Refuse a stimulus that a node has twice, with different features."""
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(data["stimulus"].values):
        rows.setdefault(str(name), []).append(row)
    for name, at in rows.items():
        if len(at) > 1 and name in wanted:
            first, *others = np.asarray(data["embedding"].isel(stimulus=at).values)
            if not all(_same(first, other) for other in others):
                raise DataError(
                    f"{where}: stimulus {name!r} is there {len(at)} times, with different "
                    "features; give different stimuli different names"
                )


def _same(first: np.ndarray, second: np.ndarray) -> bool:
    """Tell whether features are equal up to the rounding of the machines that made them."""
    return len(first) == len(second) and np.allclose(first, second, rtol=1e-3, atol=1e-5)


def read_training(
    recordings: Sequence[Recording], source: StimulusSource
) -> tuple[list[Subject], Codes]:
    """Read the training trials of all subjects, scaled, and the features of all they saw.

    Returns
    -------
    subjects : list of Subject
        In the order of their names; sessions of one subject joined.
    codes : Codes

    Raises
    ------
    DataError
        If sessions or voxels do not fit together, values are NaN, features are all alike, or a
        subject has fewer than three different stimuli.
    """
    refuse_lone(recordings)
    if not recordings:
        raise DataError("betas: no recording to fit")
    read = [read_responses(r, source) for r in recordings]
    sessions = [(r.subject, r.session) for r in read]
    if len(set(sessions)) < len(sessions):
        twice = next(s for s in sessions if sessions.count(s) > 1)
        raise DataError(f"betas: subject {twice[0]!r} has session {twice[1]!r} twice")
    codes = read_codes(recordings, [r.stimulus for r in read], source, has_text(recordings, source))
    for head, value in (("image", codes.image), ("text", codes.text)):
        if value is not None and len(value) > 2 and not np.ptp(value, axis=0).any():
            raise DataError(
                f"betas: the {head} features of all {len(value)} training stimuli are alike, so "
                "there is nothing to tell apart; compute them anew (neuropipe embed)"
            )
    out = []
    for name in sorted({r.subject for r in read}):
        own = sorted((r for r in read if r.subject == name), key=lambda r: r.session)
        row = codes.rows(np.concatenate([r.stimulus for r in own]))
        if len(set(row)) < 3:
            raise DataError(
                f"subject {name}: {len(set(row))} different stimuli in training, expected at "
                "least 3"
            )
        scaling = _scaling(own, source)
        response = np.concatenate([scaling(r) for r in own])
        if source.n_voxels is not None:
            scaling, chosen = _best_voxels(scaling, response, row, codes, source.n_voxels)
            response = response[:, chosen]
        out.append(Subject(name, row, response, scaling))
    return out, codes


def _scaling(own: Sequence[Responses], source: StimulusSource) -> Scaling:
    """Learn mean and sd of each session, and which voxels have any."""
    first = own[0]
    whole = Scaling(first.place, np.arange(len(first.place)), {}, {}, np.empty(0))
    for responses in own:
        whole.check(responses)
    with np.errstate(invalid="ignore"):
        mean = {r.session: r.beta.astype(float).mean(0) for r in own}
        sd = {r.session: r.beta.astype(float).std(0) for r in own}
    usable = np.all(
        [(s > 1e-9 * np.abs(mean[n])) & np.isfinite(s) & (s > 0) for n, s in sd.items()], axis=0
    )
    if not usable.all() and source.missing == "refuse":
        voxel = int(np.flatnonzero(~usable)[0])
        raise DataError(
            f"subject {first.subject}: betas/beta is NaN or constant in "
            f"{int((~usable).sum())} of {len(usable)} voxels, first {first.place[voxel].tolist()}; "
            "say missing: drop to leave them out, or use the step select_voxels"
        )
    if not usable.any():
        raise DataError(f"subject {first.subject}: no voxel varies over the training trials")
    kept = np.flatnonzero(usable)
    if len(kept) < len(usable):
        log.info("subject %s: %d of %d voxels left out, NaN or constant", first.subject,
                 len(usable) - len(kept), len(usable))  # fmt: skip
    return Scaling(
        first.place, kept, {n: m[kept] for n, m in mean.items()},
        {n: s[kept] for n, s in sd.items()}, np.full(len(kept), np.nan),
    )  # fmt: skip


def _best_voxels(
    scaling: Scaling, response: np.ndarray, row: np.ndarray, codes: Codes, n: int
) -> tuple[Scaling, np.ndarray]:
    signal = voxel_signal(response, row, codes.image)
    chosen = np.sort(np.argsort(-signal, kind="stable")[:n])
    return Scaling(
        scaling.place, scaling.voxel[chosen], {s: m[chosen] for s, m in scaling.mean.items()},
        {s: m[chosen] for s, m in scaling.sd.items()}, signal[chosen],
    ), chosen  # fmt: skip


def voxel_signal(response: np.ndarray, row: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Return how well features predict each voxel, trained on one half of the stimuli, (voxel,).

    Correlation over the stimuli of the other half, both ways averaged; a ridge on the leading
    components of the features.
    """
    unique, mean, _ = averaged(response, row)
    code = image[unique].astype(float)
    code = code - code.mean(0)
    n = min(CODES, max(len(unique) // 4, 1), code.shape[1])
    left, length, _ = np.linalg.svd(code, full_matrices=False)
    score = left[:, :n] * length[:n]
    score /= np.maximum(score.std(0), 1e-12)
    halves = np.arange(len(unique)) % 2 == 0
    out = np.zeros(mean.shape[1])
    for train in (halves, ~halves):
        x, y = score[train], mean[train]
        weight = np.linalg.solve(x.T @ x + len(x) * np.eye(n), x.T @ (y - y.mean(0)))
        guess, held = score[~train] @ weight, mean[~train]
        guess, held = guess - guess.mean(0), held - held.mean(0)
        lengths = np.linalg.norm(guess, axis=0) * np.linalg.norm(held, axis=0)
        out += (guess * held).sum(0) / np.where(lengths > 0, lengths, 1) / 2
    return out


def averaged(response: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Average the trials of each stimulus.

    Returns
    -------
    row : (stimulus,)
        The different rows, in the order in which they first came.
    mean : (stimulus, ...)
    number : (stimulus,)
        Trials of each.
    """
    _, first, group = np.unique(row, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    group = place[group.ravel()]
    number = np.bincount(group)
    total = np.zeros((len(order), *response.shape[1:]))
    np.add.at(total, group, response)
    shape = (-1, *[1] * (response.ndim - 1))
    return row[first[order]], total / number.reshape(shape), number


def coordinates(row: xr.Dataset, stimulus: np.ndarray, time: np.ndarray) -> xr.Dataset:
    """Give estimates of trials their names and onsets."""
    return row.assign_coords(
        stimulus=("trial", np.asarray(stimulus, dtype=object), {"units": ""}),
        time=("trial", np.asarray(time, dtype=float), {"units": "s"}),
    )
