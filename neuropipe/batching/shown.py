"""What held-out trials truly showed, and whether a fit may be asked about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from neuropipe.batching.stimuli import StimulusSource, read_codes
from neuropipe.errors import DataError
from neuropipe.schema import Recording

ONE_STIMULUS = "fewer than two different stimuli were shown in the scored windows"


def refuse_seen(stimulus: Sequence[str] | np.ndarray, seen: Sequence[str], session: str) -> None:
    """Refuse to score trials whose stimulus the training data showed."""
    known = set(seen)
    both = [name for name in dict.fromkeys(map(str, stimulus)) if name in known]
    if both:
        raise DataError(
            f"session {session}: {len(both)} held-out stimuli were in the training data, first "
            f"{both[0]!r}; split by stimulus, or say shared_stimuli: allow where stimuli are "
            "classes that are meant to recur"
        )


def true_features(
    recording: Recording,
    names: np.ndarray,
    source: StimulusSource,
    center: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
    """Return the features of some stimuli by head, (name, feature).

    Parameters
    ----------
    recording : DataTree
    names : (name,)
    source : StimulusSource
    center : mapping of head to (feature,)
        Means of the training features.

    Raises
    ------
    DataError
        As of `read_codes`, or if there are more or fewer features than in training.
    """
    codes = read_codes([recording], [names], source, "text" in center)
    found = {"image": codes.image, "text": codes.text}
    out = {}
    for head, value in found.items():
        if value is None:
            continue
        if value.shape[1] != len(center[head]):
            raise DataError(
                f"session {recording.attrs.get('session')}: stimuli have {value.shape[1]} {head} "
                f"features, in training {len(center[head])}; compute them by the same network"
            )
        out[head] = value[codes.rows(names)].astype(float)
    return out
