"""The text of a first configuration, with a comment at each thing that one may want to change."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

from neuropipe.drafts.advice import Advice, steps_of, trials_of
from neuropipe.drafts.contents import Contents

WIDTH = 100
STEP_WORDS = {
    "bin_spikes": "counts in bins; finer bins cost time in proportion",
    "resample_behavior": "onto the clock of the bins",
    "cut_trials": "which table says the trials; before_s, after_s, where choose more closely",
    "filter_signal": "zero phase; notches at the mains, 50 or 60 Hz, and its multiples",
    "rereference": "average, bipolar, laplacian, white_matter or channels",
    "clean_bold": "drift, and confounds where there are any",
    "single_trial": "an amplitude for each trial and voxel",
    "select_voxels": "without those that never vary",
    "embed_names": "features of the names: minilm (the extra encoders) or one_hot",
}
SPLIT_WORDS = {
    "by": "what is held out together: trial, block, run, stimulus, session or subject",
    "folds": "for a first look; intervals mean something from five scores on",
    "buffer_s": "training data nearer than this to held-out data are left out",
    "window_s": "there are no trials: the recording is cut into windows of this length",
    "blocks_per_fold": "separate stretches that a fold holds out",
}


def draft(
    study: str, manifests: Mapping[str, str], found: Sequence[tuple[Contents, Sequence[Advice]]]
) -> str:
    """Return the text of a configuration.

    Parameters
    ----------
    study : its name
    manifests : path of the manifest of each data set, as the configuration shall name it
    found : what each data set holds, with the advice on each model

    Notes
    -----
    The first model that suits a data set is switched on; the others that suit stand ready as
    comments, so that the first report comes soon.
    """
    lines = [
        "# A first configuration, written by `neuropipe init` from what the recordings hold.",
        "# What changes results stands here; what changes execution (cores, cluster) in a profile.",
        f"study: {study}",
        f"title: {json.dumps('First look at ' + study.replace('_', ' '))}",
        "",
        "datasets:",
    ]
    for contents, _ in found:
        lines += _dataset(contents, manifests[contents.name])
    runs: list[str] = []
    remarks: list[str] = []
    for contents, advice in found:
        remarks += _remarks(contents, advice)
        suiting = [one for one in advice if one.suits]
        for place, one in enumerate(suiting):
            block = _run(contents, one)
            runs += block if not place else [f"  # {line.removeprefix('  ')}" for line in block]
    lines += ["", *remarks]
    if any(not line.lstrip().startswith("#") for line in runs):
        lines += ["runs:", *runs]
    else:
        lines += _comment(
            "No model suits yet, so the recordings are made ready and checked, and the report "
            "shows their quality."
        )
        lines += ["runs: {}"]
    return "\n".join(lines) + "\n"


def _comment(text: str, indent: str = "", hang: str = "") -> list[str]:
    start = f"{indent}# "
    wrapped = fill(text, WIDTH, initial_indent=start, subsequent_indent=start + hang)
    return wrapped.splitlines()


def _dataset(contents: Contents, manifest: str) -> list[str]:
    lines = [f"  {contents.name}:", *_comment(_held(contents), "    ")]
    lines += [f"    manifest: {manifest}", "    sessions: all # or a list: [id, id]"]
    steps = steps_of(contents)
    if not steps:
        return [*lines, "    preprocess: [] # steps in order; docs/own_data.md lists them"]
    lines.append("    preprocess: # in order; none of them fits anything")
    return [*lines, *(f"      - {_flow(step)} # {STEP_WORDS[step['step']]}" for step in steps)]


def _held(contents: Contents) -> str:
    """Return what a data set holds, in a sentence."""
    parts = [f"{contents.sessions} session{'' if contents.sessions == 1 else 's'}"]
    parts.append(f"{contents.subjects} subject{'' if contents.subjects == 1 else 's'}")
    if contents.duration_s == contents.duration_s:
        parts.append(f"{contents.duration_s:.4g} s")
    for node in sorted(contents.nodes):
        sizes = contents.sizes.get(node, {})
        rate = contents.rates_hz.get(node)
        told = ", ".join(f"{n} {dim}" for dim, n in sizes.items())
        parts.append(f"{node} ({told}{f', {rate:.4g} Hz' if rate else ''})")
    trials = trials_of(contents)
    if trials is not None:
        parts.append(f"trials: {trials.name}, {trials.n} of {trials.length_s:.3g} s")
    return "Found: " + "; ".join(parts) + "."


def _remarks(contents: Contents, advice: Sequence[Advice]) -> list[str]:
    lines = [f"# Which models suit {contents.name}, and why the others do not:"]
    for one in advice:
        word = "suits" if one.suits else "does not"
        also = f" ({one.also})" if one.also else ""
        lines += _comment(f"{one.model} {word}: {one.why}{also}", hang="  ")
    return lines


def _run(contents: Contents, advice: Advice) -> list[str]:
    run = advice.run
    lines = [
        f"  {contents.name}_{advice.model}:",
        f"    model: {advice.model}",
        f"    dataset: {contents.name}",
        f"    seed: {run['seed']} # of splits, starts and bootstraps",
        "    parameters: # all of them, with their defaults: neuropipe config show",
        *(f"      {key}: {_flow(value)}" for key, value in run["parameters"].items()),
        "    split:",
    ]
    for key, value in run["split"].items():
        said = f" # {SPLIT_WORDS[key]}" if key in SPLIT_WORDS else ""
        lines.append(f"      {key}: {_flow(value)}{said}")
    return [*lines, f"    baselines: {_flow(run['baselines'])}"]


def _flow(value: Any) -> str:
    """Return a value as YAML on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_flow(inner) for inner in value) + "]"
    if isinstance(value, str):
        plain = value.replace("_", "a").replace("/", "a")
        return value if plain.isalnum() and plain[0].isalpha() else json.dumps(value)
    return json.dumps(value)
