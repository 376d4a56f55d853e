"""Folds by stimulus: whoever saw it, and however often, it is on one side only."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shown_sessions import shown

from neuropipe.batching.splits import make_splits
from neuropipe.errors import DataError

SHOWN = st.lists(st.sampled_from("abcdefgh"), min_size=8, max_size=20)


def sides(recording, windows):
    """Return the stimuli of all trials that overlap one of the windows."""
    node = recording["betas"].to_dataset()
    start, stop = node["start_time"].values, node["stop_time"].values
    edges = np.array(windows).reshape(-1, 2)
    seen = ((start[:, None] < edges[:, 1]) & (stop[:, None] > edges[:, 0])).any(1)
    return set(node["stimulus"].values[seen])


@given(SHOWN, SHOWN, st.integers(2, 3), st.integers(0, 3), st.sampled_from([3.0, 1.5]))
def test_no_stimulus_is_on_both_sides_in_any_session(first, second, folds, seed, interval_s):
    recordings = {"a": shown(first, interval_s=interval_s), "b": shown(second, 4, subject="s2")}
    if len(set(first + second)) < folds:
        with pytest.raises(DataError, match="stimuli: found"):
            make_splits(recordings, by="stimulus", folds=folds, seed=seed)
        return
    try:
        splits = make_splits(recordings, by="stimulus", folds=folds, seed=seed)
    except DataError as error:
        assert "no training data" in str(error)  # noqa: PT017 - overlapping trials left none
        return
    held_once = []
    for fold in splits["folds"]:
        train = {n for s, w in fold["train"].items() for n in sides(recordings[s], w)}
        test = {n for s, w in fold["test"].items() for n in sides(recordings[s], w)}
        if interval_s == 3.0:  # else a held-out trial overlaps its neighbours
            assert not train & test
            assert train | test == set(first + second)
        held_once += sorted(
            {n for s, w in fold["test"].items() for n in set(recordings[s]["betas/stimulus"].values)
             if [t for t, m in zip(recordings[s]["betas/start_time"].values,
                                   recordings[s]["betas/stimulus"].values, strict=True)
                 if m == n and t in np.array(w)[:, 0]]}
        )  # fmt: skip
    assert sorted(held_once) == sorted(set(first + second))


def test_another_column_keeps_crops_of_one_photograph_together():
    names = [f"crop{i}" for i in range(12)]
    recording = shown(names, photograph=[f"p{i // 3}" for i in range(12)])
    splits = make_splits({"a": recording}, by="stimulus", folds=2, seed=0, column="photograph")
    for fold in splits["folds"]:
        train, test = (sides(recording, fold[side]["a"]) for side in ("train", "test"))
        of = {n: i // 3 for i, n in enumerate(names)}
        assert not {of[n] for n in train} & {of[n] for n in test}


def test_impulses_have_a_window_and_a_buffer_is_kept():
    recording = shown(list("abcdef"), length_s=0.0)
    splits = make_splits({"a": recording}, by="stimulus", folds=3, seed=0, buffer_s=1.0)
    assert all(b - a == pytest.approx(1e-3) for f in splits["folds"] for a, b in f["test"]["a"])


def test_trials_without_a_stimulus_are_refused():
    with pytest.raises(
        DataError, match=r"column 'stimulus' .* is empty in 1 of 3 trials, .* row 1"
    ):
        make_splits({"a": shown(["x", "", "y"])}, by="stimulus", folds=2, seed=0)
    with pytest.raises(DataError, match="column 'scene' of the trials is missing; they have beta"):
        make_splits({"a": shown(["x", "y"])}, by="stimulus", folds=2, seed=0, column="scene")
    bare = shown(["x", "y"])
    del bare["betas"]
    with pytest.raises(DataError, match="needs node betas or trials, found embedding"):
        make_splits({"a": bare}, by="stimulus", folds=2, seed=0)
