"""How traces of animals come in: what the training data fixed, and new recordings read likewise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neuropipe.batching.derivatives import Derivatives, Ends, derivatives, scaling_of
from neuropipe.batching.traces import (
    Clock,
    Traces,
    TraceSource,
    key_of,
    names_of,
    read,
    read_all,
)
from neuropipe.schema import Recording


@dataclass(frozen=True)
class TraceDoor:
    """What was learned of the training data before any model.

    Attributes
    ----------
    source : TraceSource
    clock : Clock
    ends : mapping of animal to neuron to (low, high)
        What each trace is scaled between.
    units : tuple of str
        All neurons of the training data.
    animals : tuple of str
        Keys of the training recordings.
    """

    source: TraceSource
    clock: Clock
    ends: Ends
    units: tuple[str, ...]
    animals: tuple[str, ...]

    def read(self, recording: Recording) -> Derivatives:
        """Read a recording on the clock of the training data; strangers are scaled by themselves.

        Raises
        ------
        DataError
            If none of its neurons is known, or its traces cannot be used (`traces.read`).
        """
        traces, ends = [read(recording, self.source, self.clock)[0]], self.ends
        if key_of(recording) not in ends:  # nothing was learned about its traces
            traces, ends = scaling_of(traces, self.source)
        return derivatives(traces, ends, self.units, self.source)

    def place(self, recording: Recording) -> int | None:
        """Return the position of a recording among the training animals, None for a stranger."""
        key = key_of(recording)
        return self.animals.index(key) if key in self.animals else None

    def seconds(self, window: np.ndarray) -> np.ndarray:
        """Return the times of windows of the clock, s from session start."""
        return self.clock.phase_s + window * self.clock.window_s

    def saved(self) -> dict[str, Any]:
        """Return everything but the source as numbers, text, lists and dicts."""
        return {
            "units": list(self.units), "animals": list(self.animals), **vars(self.clock),
            "ends": {k: {u: list(e) for u, e in of.items()} for k, of in self.ends.items()},
        }  # fmt: skip

    @classmethod
    def of(cls, source: TraceSource, saved: Mapping[str, Any]) -> TraceDoor:
        """Read what `saved` returned."""
        ends = {k: {u: (e[0], e[1]) for u, e in of.items()} for k, of in saved["ends"].items()}
        clock = Clock(saved["window_s"], saved["phase_s"])
        return cls(source, clock, ends, tuple(saved["units"]), tuple(saved["animals"]))


def source_of(config: Any) -> TraceSource:
    """Return what a configuration says of the data, by the names of `TraceSource`."""
    return TraceSource(**{name: getattr(config, name) for name in TraceSource.__dataclass_fields__})


def enter(
    recordings: Sequence[Recording], source: TraceSource
) -> tuple[TraceDoor, list[Traces], Derivatives]:
    """Read the training recordings.

    Returns
    -------
    door : TraceDoor
    traces : list of Traces
        Those that vary, of each animal.
    derivatives : Derivatives

    Raises
    ------
    DataError
        As `traces.read_all` and `derivatives.scaling_of`.
    """
    traces, clock = read_all(recordings, source)
    traces, ends = scaling_of(traces, source)
    units = names_of(traces)
    door = TraceDoor(source, clock, ends, units, tuple(t.key for t in traces))
    return door, traces, derivatives(traces, ends, units, source)
