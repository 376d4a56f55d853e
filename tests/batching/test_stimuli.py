"""The door of amplitudes and features: what is read, scaled and refused."""

import numpy as np
import pytest
import xarray as xr
from shown_sessions import shown

from neuropipe.batching.shown import refuse_seen
from neuropipe.batching.splits import make_splits
from neuropipe.batching.stimuli import (
    StimulusSource,
    averaged,
    read_responses,
    read_training,
    voxel_signal,
)
from neuropipe.batching.windows import attach_windows
from neuropipe.errors import DataError, SchemaError

NAMES = ["a", "b", "c", "a", "d", "e", "f", "b"]
SOURCE = StimulusSource()


def edited(recording, **changes):
    """Return a copy whose betas have other values at some places: beta[place] = value."""
    out = recording.copy()
    node = recording["betas"].to_dataset().copy(deep=True)
    for at, value in changes["places"]:
        node["beta"].values[at] = value
    out["betas"] = xr.DataTree(node)
    return out


def test_only_whole_trials_of_the_windows_are_read():
    recording = attach_windows(shown(NAMES), [[0.0, 7.0], [8.0, 20.0]])
    found = read_responses(recording, SOURCE)
    assert found.time.tolist() == [0, 4, 8, 12, 16]
    assert read_responses(attach_windows(shown(NAMES), [[0.5, 7.0]]), SOURCE).time.tolist() == [4]
    with pytest.raises(DataError, match="none of 8 trials lies whole"):
        read_responses(attach_windows(shown(NAMES), [[0.5, 5.0]]), SOURCE)


def test_subjects_of_unequal_voxels_share_one_table_of_codes():
    second = shown(["x", "b", "c", "a"], 4, seed=1, subject="s2")
    other = shown(["q", "b"], 6, seed=3, session="s1-2", subject="s1")
    third = shown(NAMES, 6, session="s1-1")
    subjects, codes = read_training([second, third, other], SOURCE)
    assert [(s.name, s.response.shape) for s in subjects] == [("s1", (10, 6)), ("s2", (4, 4))]
    assert codes.stimulus == ("a", "b", "c", "d", "e", "f", "q", "x")
    assert codes.text is None
    for recording in (second, third, other):
        node = recording["embedding"].to_dataset()
        rows = codes.rows(node["stimulus"].values)
        np.testing.assert_array_equal(codes.image[rows], node["embedding"].values)
    assert [codes.stimulus[r] for r in subjects[0].row] == [*NAMES, "q", "b"]
    for part in (subjects[0].response[:8], subjects[0].response[8:], subjects[1].response):
        np.testing.assert_allclose(part.mean(0), 0, atol=1e-5)  # each session on its own
        np.testing.assert_allclose(part.std(0), 1, atol=1e-4)


def test_held_out_trials_are_scaled_by_training_alone():
    whole = shown([f"n{i}" for i in range(20)])
    splits = make_splits({"s1-1": whole}, by="stimulus", folds=2, seed=0)
    train = attach_windows(whole, splits["folds"][0]["train"]["s1-1"])
    held = read_responses(attach_windows(whole, splits["folds"][0]["test"]["s1-1"]), SOURCE)
    [subject], codes = read_training([train], SOURCE)
    assert not set(held.stimulus) & set(codes.stimulus)
    refuse_seen(held.stimulus, codes.stimulus, "s1-1")
    with pytest.raises(DataError, match="1 held-out stimuli were in the training data, first 'n"):
        refuse_seen([codes.stimulus[0]], codes.stimulus, "s1-1")
    at = np.isin(whole["betas/stimulus"].values, codes.stimulus)
    beta = whole["betas/beta"].values[at].astype(float)
    scaled = (held.beta - beta.mean(0)) / beta.std(0)
    np.testing.assert_allclose(subject.scaling(held), scaled, rtol=1e-5)
    later = shown([f"n{i}" for i in range(20)], session="s1-2")
    np.testing.assert_allclose(
        subject.scaling(read_responses(later, SOURCE)),
        (later["betas/beta"].values - beta.mean(0)) / beta.std(0), rtol=1e-4,
    )  # fmt: skip
    stranger = read_responses(shown(NAMES, 5), SOURCE)
    with pytest.raises(DataError, match="5 voxels of subject s1 are not the 6"):
        subject.scaling(stranger)


def test_voxels_without_values_are_refused_by_place_or_dropped():
    recording = edited(shown(NAMES), places=[((3, 2), np.nan), ((slice(None), 4), 1.5)])
    with pytest.raises(DataError, match=r"NaN or constant in 2 of 6 voxels, first \[2, 2, 2\]"):
        read_training([recording], SOURCE)
    [subject], _ = read_training([recording], StimulusSource(missing="drop"))
    assert subject.scaling.voxel.tolist() == [0, 1, 3, 5]
    held = read_responses(edited(shown(NAMES), places=[((1, 3), np.inf)]), SOURCE)
    with pytest.raises(DataError, match=r"1 of 8 trials, first in the trial at 4 s, voxel \[3,"):
        subject.scaling(held)


def test_voxels_that_follow_the_features_are_chosen():
    names = [f"n{i:02d}" for i in range(60)]
    recording = shown(names, 10, signal=1.0)
    noise = np.random.default_rng(5).normal(size=(60, 5)).astype(np.float32)
    recording = edited(recording, places=[((slice(None), slice(0, 10, 2)), noise)])
    [subject], codes = read_training([recording], StimulusSource(n_voxels=5))
    assert subject.scaling.voxel.tolist() == [1, 3, 5, 7, 9]
    assert (subject.scaling.signal > 0.4).all()
    assert subject.response.shape == (60, 5)
    both, _ = read_training([recording], SOURCE)
    signal = voxel_signal(both[0].response, both[0].row, codes.image)
    assert signal[::2].max() < signal[1::2].min()


def test_repeats_are_averaged_in_the_order_of_their_first_trial():
    row, mean, number = averaged(np.array([[1.0], [2], [3], [6]]), np.array([7, 3, 7, 5]))
    assert row.tolist() == [7, 3, 5]
    assert mean.ravel().tolist() == [2, 2, 6]
    assert number.tolist() == [2, 1, 1]


def without(recording, name):
    out = recording.copy()
    node = recording["embedding"].to_dataset()
    out["embedding"] = xr.DataTree(node.isel(stimulus=node["stimulus"].values != name))
    return out


@pytest.mark.parametrize(
    ("recordings", "error", "message"),
    [
        ([], DataError, "no recording to fit"),
        ([without(shown(NAMES), "d")], DataError, "no features of 1 of 6 stimuli, first 'd'"),
        ([shown(NAMES), shown(NAMES)], DataError, "'s1' has session 's1-1' twice"),
        ([shown(["a", "b", "a"])], DataError, "s1: 2 different stimuli in training"),
        ([shown(["a"])], DataError, "1 different stimuli in training"),
        ([shown(NAMES), shown(NAMES, 5, session="s1-2")], DataError, "5 voxels of subject s1"),
        (
            [shown(NAMES), shown(NAMES, subject="s2", codes={n: np.ones(5) for n in NAMES})],
            DataError, "stimulus 'a' has other features",
        ),
        (
            [shown(NAMES), shown(list("xyz"), subject="s2", n_features=4)],
            DataError, "different numbers of features",
        ),
        ([shown(NAMES, codes={n: np.full(5, np.nan) for n in NAMES})], DataError, "'a' are NaN"),
        ([xr.DataTree()], SchemaError, "betas: node missing"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_refused(recordings, error, message):
    with pytest.raises(error, match=message):
        read_training(recordings, SOURCE)


def test_features_that_tell_nothing_or_two_things_are_refused():
    names = [f"n{i}" for i in range(6)]
    with pytest.raises(DataError, match="image features of all 6 training stimuli are alike"):
        read_training([shown(names, codes=dict.fromkeys(names, np.ones(4)))], SOURCE)
    twice = shown(names)
    node = twice["embedding"].to_dataset()
    same = xr.concat([node, node.isel(stimulus=[2])], "stimulus")
    twice["embedding"] = xr.DataTree(same)
    read_training([twice], SOURCE)
    same["embedding"].values[-1] += 1
    twice["embedding"] = xr.DataTree(same)
    with pytest.raises(DataError, match="stimulus 'n2' is there 2 times, with different features"):
        read_training([twice], SOURCE)


def test_text_is_read_where_all_have_it():
    text = {n: np.arange(3) + ord(n) for n in "abcdef"}
    with_text = shown(NAMES, text=text)
    _, codes = read_training([with_text], SOURCE)
    np.testing.assert_array_equal(codes.text[0], text["a"])
    for source in (StimulusSource(text="none"), SOURCE):
        others = [with_text, shown(NAMES, subject="s2")] if source is SOURCE else [with_text]
        assert read_training(others, source)[1].text is None
    with pytest.raises(SchemaError, match="text_embedding: node missing"):
        read_training([shown(NAMES)], StimulusSource(text="text_embedding"))
