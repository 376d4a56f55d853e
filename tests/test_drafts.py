"""What `init` makes of recordings: the right model for the right nodes, with a reason for each."""

import numpy as np
import pytest
import xarray as xr
import yaml

from neuropipe.config import check_study
from neuropipe.drafts import advise, draft, look
from neuropipe.drafts.advice import FEWEST_OF_A_CLASS, RULES, steps_of, trials_of
from neuropipe.models import MODELS, resolve
from neuropipe.preprocess import check_steps

# What steps make of what was recorded.
MADE = {"spikes": {"counts"}, "ieeg": {"trials"}, "bold": {"betas", "embedding"}}


def table(n, length_s, **columns):
    start = np.arange(n) * (length_s + 1.0)
    return xr.Dataset(
        {
            "start_time": ("interval", start, {"units": "s"}),
            "stop_time": ("interval", start + length_s, {"units": "s"}),
            **{k: ("interval", np.asarray(v), {"units": ""}) for k, v in columns.items()},
        }
    )


def series(name, n, rate_hz, *dims, width=4):
    time = np.arange(n) / rate_hz
    shape = (n, *(width for _ in dims))
    return xr.Dataset(
        {name: (("time", *dims), np.zeros(shape), {"units": "1"})},
        coords={"time": ("time", time, {"units": "s"})},
    )


def spikes(seconds=600.0):
    times = np.linspace(0, seconds, 500)
    return {
        "spikes": xr.Dataset({"spike_time": ("spike", times, {"units": "s"})}),
        "units": xr.Dataset(coords={"unit": ("unit", np.arange(7), {"units": "1"})}),
    }


def contents(nodes, subjects=("m1",)):
    trees = [xr.DataTree.from_dict(nodes) for _ in subjects]
    for tree, subject in zip(trees, subjects, strict=True):
        tree.attrs["subject"] = subject
    return look("mine", "nwb", trees)


def said(found):
    return {one.model: one for one in advise(found)}


def test_every_model_is_advised_on():
    assert set(RULES) == set(MODELS)


SESSIONS = {
    "spikes": (spikes(), {"hmm_glm", "ntf_connectome", "neuroformer"}),
    "spikes and running": (
        spikes() | {"behavior/speed": series("speed", 6000, 10.0)},
        {"hmm_glm", "ntf_connectome", "neuroformer", "mm_gpvae"},
    ),
    "too short": (spikes(5.0), {"ntf_connectome"}),
    "calcium": ({"calcium/cells": series("dff", 900, 30.0, "roi")}, {"ntf_connectome"}),
    "bold": ({"bold": series("bold", 200, 0.5, "voxel")}, set()),
    "bold and pictures": (
        {"bold": series("bold", 200, 0.5, "voxel"), "embedding": xr.Dataset({"embedding": 1.0}),
         "intervals/events": table(30, 4.0, stimulus=[f"p{i}" for i in range(30)])},
        {"mindbridge"},
    ),
    "bold and names": (
        {"bold": series("bold", 200, 0.5, "voxel"), "runs": table(4, 100.0),
         "intervals/events": table(48, 4.0, trial_type=["cat", "face", "shoe"] * 16)},
        {"mindbridge"},
    ),
    "bold and names in too few runs": (
        {"bold": series("bold", 200, 0.5, "voxel"), "runs": table(2, 200.0),
         "intervals/events": table(48, 4.0, trial_type=["cat", "face", "shoe"] * 16)},
        set(),
    ),
    "voltages": ({"ieeg": series("voltage", 5000, 1000.0, "channel")}, set()),
    "voltages and words": (
        {"ieeg": series("voltage", 5000, 1000.0, "channel"),
         "intervals/events": table(40, 1.0, word=["yes", "no"] * 20)},
        {"du_in"},
    ),
    "voltages and too few words": (
        {"ieeg": series("voltage", 5000, 1000.0, "channel"),
         "intervals/events": table(2 * FEWEST_OF_A_CLASS - 1, 1.0,
                                   word=(["yes", "no"] * 20)[: 2 * FEWEST_OF_A_CLASS - 1])},
        set(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SESSIONS)
def test_the_models_that_suit(case):
    nodes, expected = SESSIONS[case]
    found = contents(nodes)
    advice = said(found)
    assert {name for name, one in advice.items() if one.suits} == expected
    assert all(one.why and (one.run or not one.suits) for one in advice.values())


@pytest.mark.parametrize("case", SESSIONS)
def test_the_written_configuration_is_valid(case):
    found = contents(SESSIONS[case][0], ("m1", "m2"))
    text = draft("mine", {"mine": "data_manifests/mine.yaml"}, [(found, advise(found))])
    study = check_study(yaml.safe_load(text))
    check_steps(study.datasets["mine"].preprocess)
    suiting = [one for one in advise(found) if one.suits]
    assert len(study.runs) == bool(suiting)
    # what stands ready as comments is as valid as what is switched on
    bare = text.replace("\n  # ", "\n  ")
    everything = check_study(yaml.safe_load(bare))
    assert {run.model for run in everything.runs.values()} == {one.model for one in suiting}


@pytest.mark.parametrize("case", SESSIONS)
def test_a_model_that_suits_finds_what_it_reads(case):
    found = contents(SESSIONS[case][0])
    made = set(found.nodes) | {n.split("/")[0] for n in found.nodes}
    for node in found.nodes & MADE.keys():
        made |= MADE[node]
    for one in advise(found):
        if one.suits and one.run["parameters"].get("observations", "auto") == "auto":
            assert set(resolve(one.model).reads) <= made


def test_trials_are_the_table_that_covers_most():
    nodes = spikes() | {
        "intervals/licks": table(500, 0.01),
        "intervals/cues": table(40, 0.5),
        "intervals/laps": table(30, 8.0),
        "intervals/rest": table(2, 200.0),
    }
    found = contents(nodes)
    chosen = trials_of(found)
    assert chosen is not None
    assert chosen.name == "laps"
    assert {"step": "cut_trials", "table": "laps"} in steps_of(found)
    assert said(found)["hmm_glm"].run["split"]["by"] == "trial"


@pytest.mark.parametrize(
    ("told", "run_s", "expected"),
    [
        (60.0, 60.0, {"low_hz": 0.5, "notch_hz": [60.0, 120.0, 180.0]}),
        (None, 60.0, {"low_hz": 0.5, "notch_hz": [50.0, 100.0, 150.0]}),
        (None, 7.0, {"low_hz": 1.0}),
        (None, 3.0, {"low_hz": 2.0, "method": "iir"}),
    ],
)
def test_the_filter_knows_the_mains_and_fits_into_a_run(told, run_s, expected):
    voltage = series("voltage", 5000, 1000.0, "channel")
    if told:
        voltage.attrs["power_line_frequency_hz"] = told
    [step] = [s for s in steps_of(contents({"ieeg": voltage, "runs": table(2, run_s)}))
              if s["step"] == "filter_signal"]  # fmt: skip
    assert expected.items() <= step.items()
    assert ("method" in step) == ("method" in expected)


def test_names_of_conditions_are_held_out_by_run():
    found = contents(SESSIONS["bold and names"][0])
    run = said(found)["mindbridge"].run
    assert run["split"] == {"by": "run", "folds": 4}
    assert run["parameters"]["mode"] == "single"
    assert run["parameters"]["pool_size"] == 3
    assert [step["step"] for step in steps_of(found)] == [
        "select_voxels", "single_trial", "embed_names"]  # fmt: skip


def test_a_node_that_one_session_lacks_is_not_counted_on():
    both = spikes() | {"behavior/speed": series("speed", 6000, 10.0)}
    trees = [xr.DataTree.from_dict(nodes) for nodes in (both, spikes())]
    assert not said(look("mine", "nwb", trees))["mm_gpvae"].suits
