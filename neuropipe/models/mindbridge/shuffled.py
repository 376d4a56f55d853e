"""MindBridge of brains that saw other images: what a fit reaches that has nothing to learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from neuropipe.batching.stimuli import Codes, Subject
from neuropipe.config import build
from neuropipe.models.mindbridge.config import Config
from neuropipe.models.mindbridge.estimator import MindBridge
from neuropipe.runtime import generator
from neuropipe.schema import Recording


class ShuffledBridge(MindBridge):
    """The same fit after each subject's training trials were dealt out anew to what they showed.

    Parameters
    ----------
    **settings
        Fields of `config.Config`, as of the model that it stands beside; no adaptation is tried.

    Notes
    -----
    Held-out trials stay as they are. Whatever it scores above chance comes from elsewhere than
    from what brains say of images: a leak, or images that are alike.
    """

    def __init__(self, **settings: Any) -> None:
        given: Mapping[str, Any] = {**settings, "adaptation_trials": ()}
        self.config = build(Config, given, type(self).__name__)

    def _training(self, recordings: Sequence[Recording], seed: int) -> tuple[list[Subject], Codes]:
        subjects, codes = super()._training(recordings, seed)
        dealt = [
            replace(s, row=generator(seed, f"shuffled-{s.name}").permutation(s.row))
            for s in subjects
        ]
        return dealt, codes
