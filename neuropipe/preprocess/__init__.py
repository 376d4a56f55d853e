"""Steps from a recording to a prepared one; none of them fits anything to the data."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError, validate_call

from neuropipe import __version__, registry
from neuropipe.errors import ConfigError

if TYPE_CHECKING:  # read while the job graph is built, so nothing slow is imported
    from neuropipe.schema import Recording

STEPS = {
    "select_units": "neuropipe.preprocess.select_units:select_units",
    "bin_spikes": "neuropipe.preprocess.bin_spikes:bin_spikes",
    "smooth_rate": "neuropipe.preprocess.smooth_rate:smooth_rate",
    "resample_behavior": "neuropipe.preprocess.resample_behavior:resample_behavior",
    "add_speed": "neuropipe.preprocess.add_speed:add_speed",
    "mark_intervals": "neuropipe.preprocess.mark_intervals:mark_intervals",
    "cut_trials": "neuropipe.preprocess.cut_trials:cut_trials",
    "delta_f": "neuropipe.preprocess.delta_f:delta_f",
    "detrend_signal": "neuropipe.preprocess.detrend_signal:detrend_signal",
    "standardize": "neuropipe.preprocess.standardize:standardize",
    "align_clock": "neuropipe.preprocess.align_clock:align_clock",
    "select_channels": "neuropipe.preprocess.select_channels:select_channels",
    "rereference": "neuropipe.preprocess.rereference:rereference",
    "filter_signal": "neuropipe.preprocess.filter_signal:filter_signal",
    "resample_signal": "neuropipe.preprocess.resample_signal:resample_signal",
    "band_power": "neuropipe.preprocess.band_power:band_power",
    "mark_artifacts": "neuropipe.preprocess.mark_artifacts:mark_artifacts",
    "drop_volumes": "neuropipe.preprocess.drop_volumes:drop_volumes",
    "select_voxels": "neuropipe.preprocess.select_voxels:select_voxels",
    "average_regions": "neuropipe.preprocess.average_regions:average_regions",
    "clean_bold": "neuropipe.preprocess.clean_bold:clean_bold",
    "single_trial": "neuropipe.preprocess.single_trial:single_trial",
    "embed_names": "neuropipe.preprocess.embed_names:embed_names",
}


def resolve(name: str) -> Callable[..., Recording]:
    """Return a step by its name; an unknown one lists the known."""
    return registry.resolve(name, STEPS, "preprocess: step")


def check_steps(steps: Sequence[Mapping[str, Any]], where: str = "preprocess") -> None:
    """Check the names of steps and of their parameters, without importing a step.

    Raises
    ------
    ConfigError
        With the place, the name and the nearest match.
    """
    for number, step in enumerate(steps):
        place = f"{where}: step {number}"
        if "step" not in step:
            raise ConfigError(
                f"{place}: no key 'step' in {dict(step)}; known are {', '.join(STEPS)}"
            )
        known = parameters_of(step["step"], where)
        given = [key for key in step if key != "step"]
        unknown = [key for key in given if key not in known]
        missing = [key for key, required in known.items() if required and key not in given]
        if unknown:
            hint = registry.hint(unknown[0], known)
            raise ConfigError(f"{place}, {step['step']}: unknown parameter {unknown[0]!r}{hint}")
        if missing:
            raise ConfigError(f"{place}, {step['step']}: parameter {missing[0]!r} is missing")


def parameters_of(name: str, where: str = "preprocess") -> dict[str, bool]:
    """Return whether each parameter of a step is required, read from its source."""
    step = registry.source_of(name, STEPS, f"{where}: step")
    pairs = zip(step.args.kwonlyargs, step.args.kw_defaults, strict=True)
    return {argument.arg: default is None for argument, default in pairs}


def apply_steps(recording: Recording, steps: Sequence[Mapping[str, Any]]) -> Recording:
    """Apply steps in order; each one is appended to the recording's history.

    Parameters
    ----------
    recording : DataTree
        As ingested.
    steps : sequence of mapping
        Each with key ``step`` and the step's own parameters.

    Raises
    ------
    ConfigError
        For an unknown step or parameter, or a value of the wrong kind.
    """
    check_steps(steps)
    for settings in steps:
        parameters = dict(settings)
        name = parameters.pop("step")
        step = validate_call(config={"arbitrary_types_allowed": True})(resolve(name))
        try:
            out = step(recording, **parameters)
        except ValidationError as error:
            faults = [
                f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}, found {fault['input']!r}"
                for fault in error.errors()
            ]
            raise ConfigError(f"preprocess: step {name}: " + "; ".join(faults)) from None
        history = json.loads(recording.attrs.get("history", "[]"))
        entry = {"name": name, "parameters": parameters, "version": __version__}
        out.attrs = {**recording.attrs, "history": json.dumps([*history, entry])}
        recording = out
    return recording
