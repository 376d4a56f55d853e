"""What every door refuses before anything is learned, and what it says of scores without a value.

A clock that runs back, two units of one name, counts that no unit can have, and a recording that
is scored by a fit of other bins or another subject: each would give numbers without an error.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from neuropipe.errors import DataError, NotFittedError
from neuropipe.schema import Recording

log = logging.getLogger(__name__)

NO_SPIKE = "the scored windows hold no spike of the units that were fitted"
NOTHING_TO_TELL = "no spike, no second unit, or nothing that changes in the scored windows"
NO_PAIR = "no two neurons change together in the scored windows"
NO_TRIAL = "no trial of a class that was fitted lies in the scored windows as a whole"
MOST_PER_S = 1e5  # spikes of one unit; crossings of a whole electrode's threshold stay below


def refuse_clock(time: np.ndarray, session: str) -> None:
    """Refuse times (sample,), s, that decrease or are not finite: they are searched in order."""
    wrong = ~np.isfinite(time)
    wrong[1:] |= np.diff(time) < 0
    if wrong.any():
        at = int(wrong.argmax())
        before = f" after {time[at - 1]:g} s" if at else ""
        raise DataError(
            f"session {session or 'unnamed'}: the clock runs back or is not finite at sample {at}, "
            f"{time[at]:g} s{before}, expected seconds that never decrease; sort the samples or "
            "mend the times at their source"
        )


def refuse_lone(recordings: Sequence[Recording]) -> None:
    """Refuse one recording in place of a list, whose nodes would be taken for recordings."""
    if not isinstance(recordings, Sequence):
        raise DataError(
            f"fit: found a {type(recordings).__name__}, expected a list of recordings; of one "
            "recording say [recording]"
        )


def refuse_rank(who: str, rank: int, shape: tuple[int, int, int]) -> None:
    """Refuse more components than any tensor of a shape (windows, animals, pairs) can have."""
    t, w, p = shape
    most = min(t * w, t * p, w * p)
    if rank > most:
        raise DataError(
            f"{who}: rank {rank} is above {most}, the most that a tensor of {t} windows, {w} "
            f"animals and {p} pairs can have; lower rank"
        )


def refuse_unfitted(estimator: object, learned: str) -> None:
    """Refuse to go on before `fit`, which leaves the attribute `learned`."""
    if not hasattr(estimator, learned):
        raise NotFittedError(
            f"{type(estimator).__name__}: call fit (or load) before transform, score and save"
        )


def refuse_twice(names: Iterable[object], what: str) -> None:
    """Refuse two units of one name, since units are matched by it."""
    text = [str(name) for name in names]
    if len(set(text)) < len(text):
        twice = next(name for name in text if text.count(name) > 1)
        raise DataError(
            f"{what}: {twice!r} comes twice, expected a name of its own for each; units are "
            "matched by name, so rename or join them first"
        )


def refuse_counts(counts: np.ndarray, width_s: float, what: str) -> None:
    """Refuse counts (bin, unit) below zero, or above what a unit can fire in a bin."""
    if not counts.size:
        return
    low, high = counts.min(), counts.max()
    if low < 0:
        raise DataError(
            f"{what} holds {low}, expected spikes in a bin, 0 or more; a smaller dtype may have "
            "overflowed: bin the spikes again with bin_spikes"
        )
    most = max(MOST_PER_S * width_s, 1.0) if np.isfinite(width_s) else np.inf
    if high > most:
        raise DataError(
            f"{what} holds {high} spikes of one unit in a bin of {width_s:g} s, expected at most "
            f"{most:g}; are these counts? bin the spikes again with bin_spikes"
        )


def refuse_bins(found_s: float, known_s: float, session: str) -> None:
    """Refuse a recording whose bins are not as wide as those of the training data."""
    if abs(found_s - known_s) > 1e-9 + 1e-6 * known_s:
        raise DataError(
            f"session {session or 'unnamed'} has bins of {found_s:g} s, others of {known_s:g} s; "
            "bin all sessions alike"
        )


def refuse_stranger(found: str, known: str, session: str) -> None:
    """Refuse a recording of another subject, whose units are others under the same names."""
    if found and known and found != known:
        raise DataError(
            f"session {session or 'unnamed'} is of subject {found}, the fit of {known}; subjects "
            "share no units, whatever their identifiers say; split by trial, block or session, "
            "and fit each subject in a run of its own"
        )


def say_undefined(scores: Mapping[str, float], recording: Recording, why: str) -> dict[str, float]:
    """Return scores as they are; those without a value are named in the log, with the reason."""
    lost = [name for name, value in scores.items() if np.isnan(value)]
    if lost:
        log.warning(
            "session %s: no value of %s: %s", recording.attrs.get("session", "unnamed"),
            ", ".join(lost), why,
        )  # fmt: skip
    return dict(scores)
