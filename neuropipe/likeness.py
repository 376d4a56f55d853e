"""Planted sessions as large as a user's own: what a simulator is told, how the draw is prepared.

Sizes (units, contacts, voxels, trials, classes, bins, rates) are the recording's; what is planted
in them is the simulator's own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import numpy as np
import xarray as xr

from neuropipe.config import Run, parameters_class
from neuropipe.errors import ConfigError
from neuropipe.preprocess import apply_steps
from neuropipe.schema import Recording

LEAST_COUNT = 1e-3  # of a bin, mean: an empty recording would draw nothing
BURST_S, LEAD_BURSTS = 0.1, 20  # of words: length of a burst, bursts before and after a run's words
# What names parts of the user's own recording, which a drawn one lacks, and what needs them.
FOREIGN = (
    "column", "covariates", "few_shot", "image", "label_share", "labels", "missing_covariates",
    "n_frames", "objective", "observations", "patch", "pictures", "pretrained", "response",
    "signals", "stimulus", "targets", "text", "trunk",
)  # fmt: skip

Sizes = list[dict[str, Any]]
Prepare = Callable[[Recording, xr.Dataset, Recording], Recording]


class Likeness(NamedTuple):
    """How one model is asked.

    Attributes
    ----------
    table : str
        That compares what was found with what was planted.
    sizes : callable
        From a run and its prepared recordings, settings of the simulator, one mapping a session.
    prepare : callable
        A drawn session, its truth and the user's recording, to a prepared session.
    parameters : mapping
        What names parts of the drawn session.
    """

    table: str
    sizes: Callable[[Run, list[Recording]], Sizes]
    prepare: Prepare
    parameters: Mapping[str, Any] = {}


def parameters_like(run: Run) -> dict[str, Any]:
    """Return the run's parameters, with names of the drawn session in the place of the user's."""
    own = {k: v for k, v in run.parameters.items() if k not in FOREIGN}
    return own | dict(LIKE[run.model].parameters)


def split_like(run: Run, drawn: list[Recording]) -> dict[str, Any]:
    """Return the run's split; by trial or block where the drawn sessions are fewer than folds.

    Stimuli are told apart by the simulators' own column.
    """
    split = run.split.model_dump() | {"column": "stimulus"}
    alone = split["by"] in ("session", "subject") and len(drawn) < run.split.folds
    runs = drawn[0].children.get("runs")
    few = split["by"] == "run" and (runs is None or runs.sizes["run"] < run.split.folds)
    if alone or few:
        split["by"] = "trial" if "trials" in drawn[0].children else "block"
    return split


def _trials(recording: Recording) -> tuple[int, float] | None:
    """Return number and median length, s, of the trials, or None without any."""
    if "trials" not in recording.children:
        return None
    trials = recording.children["trials"].to_dataset()
    length = np.median(trials["stop_time"].values - trials["start_time"].values)
    return trials["start_time"].size, float(length)


def _counted(recording: Recording) -> tuple[dict[str, Any], int]:
    """Return units, bins of a trial (or all) and their width, and how many trials there are.

    Raises
    ------
    ConfigError
        There are no counts: planted sessions of these models are spikes.
    """
    if "counts" not in recording.children:
        raise ConfigError(
            f"trust: session {recording.attrs.get('session')}: found nodes "
            f"{', '.join(recording.children)}, expected counts: what this model's simulator draws "
            "are spikes; docs/trust.md says how to ask it in a script"
        )
    counts = recording["counts"]["spike_count"]
    width = float(counts.attrs["bin_width_s"])
    number, n_bins = 1, counts.sizes["time"]
    if (found := _trials(recording)) is not None:
        number, n_bins = found[0], max(2, round(found[1] / width))
    return {"n_units": counts.sizes["unit"], "n_bins": n_bins, "bin_width_s": width}, number


def _states(run: Run, recordings: list[Recording]) -> Sizes:
    size, n_trials = _counted(recordings[0])
    states = run.parameters.get("n_states", 3)
    most = states if isinstance(states, int) else max(states)
    return [{**size, "n_sequences": n_trials, "n_states": most}]


def _latents(run: Run, recordings: list[Recording]) -> Sizes:
    size, n_trials = _counted(recordings[0])
    mean = max(float(recordings[0]["counts"]["spike_count"].mean()), LEAST_COUNT)
    numbers = {k: run.parameters.get(k, 1) for k in ("n_shared", "n_neural", "n_behavior")}
    channels = 0
    if "behavior" in recordings[0].children:
        signals = recordings[0]["behavior"].to_dataset()
        channels = sum(v.size // v.sizes["time"] for v in signals.data_vars.values())
    return [{**size, **numbers, "n_trials": n_trials, "n_channels": max(1, channels),
             "base_low": 0.5 * mean, "base_high": 1.5 * mean}]  # fmt: skip


def _spikes(run: Run, recordings: list[Recording]) -> Sizes:
    size, _ = _counted(recordings[0])
    width, n_units = size["bin_width_s"], size["n_units"]
    counts = recordings[0]["counts"]["spike_count"]
    hubs = min(3, max(1, n_units // 8))
    mean = max(float(counts.mean()), LEAST_COUNT)
    return [{"n_units": n_units, "duration_s": counts.sizes["time"] * width, "bin_width_s": width,
             "base_hz": mean / width, "n_hubs": hubs,
             "fan_out": min(7, max(1, n_units // (hubs + 1) - 1))}]  # fmt: skip


def _groups(run: Run, recordings: list[Recording]) -> Sizes:
    out = []
    for animal, recording in enumerate(recordings, start=1):
        node = next(g for g in recording.groups if g.startswith("/calcium/"))
        traces = cast("xr.DataTree", recording[node]).to_dataset()
        time = traces["time"].values
        out.append({"animal": animal, "n_animals": len(recordings), "missing": 0.0,
                    "n_units": traces.sizes["roi"], "n_windows": len(time),
                    "frame_rate_hz": 1 / float(time[1] - time[0])})  # fmt: skip
    return out


def _words(run: Run, recordings: list[Recording]) -> Sizes:
    """Trials of bursts; what lies between them is as long as in the recording."""
    recording = recordings[0]
    node = recording["ieeg"].to_dataset()
    trials = recording["trials"].to_dataset()
    name = run.parameters.get("labels", parameters_class(run.model).model_fields["labels"].default)
    n_trials, length = cast("tuple[int, float]", _trials(recording))
    n_words = max(2, len(np.unique(trials[name].values.astype(str))))
    rate = float(node.attrs["sampling_rate_hz"])
    n_runs = recording["runs"].sizes["run"] if "runs" in recording.children else 1
    n_units, word_units = 16, max(1, round(length / BURST_S))
    around = 2 * LEAD_BURSTS * BURST_S * n_runs
    spare = (node.sizes["time"] / rate - around) / n_trials - length
    channels = node.sizes["channel"]
    highest = min(60.0, 0.4 * rate)
    return [{"n_words": n_words, "n_repetitions": max(n_runs, round(n_trials / n_words)),
             "n_runs": n_runs, "n_channels": channels, "n_shafts": min(3, channels),
             "n_speech": max(1, channels // 3), "n_bad": 0, "word_units": word_units,
             "n_units": n_units if word_units > 1 else max(n_units, 4 * n_words),
             "unit_s": BURST_S, "lead_units": LEAD_BURSTS, "line_v": 0.0,
             "gap_units": int(np.clip(round(spare / BURST_S), 0, 600)),
             "lowest_hz": min(8.0, highest / 2), "highest_hz": highest,
             "sampling_rate_hz": rate}]  # fmt: skip


def _images(run: Run, recordings: list[Recording]) -> Sizes:
    """One volume a trial: what a trial's amplitude is, is drawn, and the scan left aside.

    Stimuli of all subjects, or those that one alone saw again, are shared; others are shown once.
    """
    column = run.parameters.get("column", "stimulus")
    shown = [r["betas"].to_dataset()[column].values.astype(str) for r in recordings]
    again = {name for name, n in Counter(shown[0].tolist()).items() if n > 1}
    common = set(shown[0]).intersection(*shown[1:]) if shown[1:] else again
    node = recordings[0][run.parameters.get("image", "embedding")]
    features = node["embedding"].sizes["feature"]
    out = []
    for subject, (recording, names) in enumerate(zip(recordings, shown, strict=True), start=1):
        n_shared = max(1, len(common))
        n_own = max(0, len(set(names)) - n_shared)
        out.append({"subject": subject, "n_voxels": recording["betas"].sizes["voxel"],
                    "n_shared": n_shared, "n_own": n_own,
                    "n_repetitions": max(1, round((len(names) - n_own) / n_shared)),
                    "n_runs": recording["runs"].sizes["run"] if "runs" in recording.children else 1,
                    "image_tokens": 1, "text_tokens": 1, "token_features": features,
                    "trial_interval_s": 6.0, "repetition_time_s": 6.0, "lead_s": 0.0,
                    "tail_s": 6.0})  # fmt: skip
    return out


def _binned(session: Recording, truth: xr.Dataset, like: Recording) -> Recording:
    """Count spikes in bins of the user's width; behaviour, where there is any, on the same bins."""
    width = float(like["counts"]["spike_count"].attrs["bin_width_s"])
    steps: list[dict[str, Any]] = [{"step": "bin_spikes", "bin_width_s": width, "start_s": 0.0}]
    if "behavior" in session.children:
        signals = [n for n in ("joints", "speed") if n in session["behavior"].children]
        steps.append({"step": "resample_behavior", "signals": signals})
    return apply_steps(session, steps)


def _as_drawn(session: Recording, truth: xr.Dataset, like: Recording) -> Recording:
    return session


def _cut(session: Recording, truth: xr.Dataset, like: Recording) -> Recording:
    return apply_steps(session, [{"step": "cut_trials", "table": "events"}])


def _amplitudes(session: Recording, truth: xr.Dataset, like: Recording) -> Recording:
    """Take the planted amplitudes of single trials, with the trials' own noise."""
    events = session["intervals/events"].to_dataset().rename(interval="trial")
    voxel = {axis: session["bold"][axis] for axis in "ijk"}
    node = xr.Dataset({"beta": truth["beta"]}, voxel).assign(
        {n: events[n].variable for n in events.data_vars}
    )
    out = session.copy()
    out["betas"] = xr.DataTree(node)
    return out


LIKE = {
    "hmm_glm": Likeness("recovery", _states, _binned),
    "mm_gpvae": Likeness("latent_recovery", _latents, _binned),
    "neuroformer": Likeness(
        "driver_recovery", _spikes, _binned, {"stimulus": "stimulus/bar", "patch": (12, 4)}
    ),
    "mindbridge": Likeness("identification", _images, _amplitudes),
    "du_in": Likeness("class_decoding", _words, _cut),
    "ntf_connectome": Likeness("group_recovery", _groups, _as_drawn),
}
