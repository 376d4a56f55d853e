"""Steps from a recording to a prepared one; none of them fits anything to the data."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from typing import Any

from neuropipe import __version__
from neuropipe.errors import ConfigError
from neuropipe.schema import Recording

STEPS = {
    "select_units": "neuropipe.preprocess.select_units:select_units",
    "bin_spikes": "neuropipe.preprocess.bin_spikes:bin_spikes",
    "smooth_rate": "neuropipe.preprocess.smooth_rate:smooth_rate",
    "resample_behavior": "neuropipe.preprocess.resample_behavior:resample_behavior",
    "mark_intervals": "neuropipe.preprocess.mark_intervals:mark_intervals",
    "cut_trials": "neuropipe.preprocess.cut_trials:cut_trials",
}


def resolve(name: str) -> Callable[..., Recording]:
    """Return a step by its name; an unknown one lists the known."""
    if name not in STEPS:
        raise ConfigError(f"preprocess: unknown step {name!r}; known are {', '.join(STEPS)}")
    module, function = STEPS[name].split(":")
    return getattr(importlib.import_module(module), function)


def apply_steps(recording: Recording, steps: list[Mapping[str, Any]]) -> Recording:
    """Apply steps in order; each one is appended to the recording's history.

    Parameters
    ----------
    recording : DataTree
        As ingested.
    steps : list of mapping
        Each with key ``step`` and the step's own parameters.

    Raises
    ------
    ConfigError
        For an unknown step or parameter.
    """
    for settings in steps:
        parameters = dict(settings)
        name = parameters.pop("step")
        try:
            out = resolve(name)(recording, **parameters)
        except TypeError as error:
            if "unexpected keyword" not in str(error) and "missing" not in str(error):
                raise
            raise ConfigError(f"preprocess: step {name}: {error}") from error
        history = json.loads(recording.attrs.get("history", "[]"))
        entry = {"name": name, "parameters": parameters, "version": __version__}
        out.attrs = {**recording.attrs, "history": json.dumps([*history, entry])}
        recording = out
    return recording
