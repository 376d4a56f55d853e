"""Folds without leaks: on the windows, and on the bins that a model is given."""

import json
import time

import numpy as np
import pytest
import xarray as xr
from counted_session import ONE, QUICK, SECOND, busy, prepared
from hypothesis import assume, given
from hypothesis import strategies as st

from neuropipe.batching.sequences import Source, stretches
from neuropipe.batching.splits import check_splits, make_splits, trim
from neuropipe.batching.windows import attach_windows
from neuropipe.errors import ConfigError, DataError

N_BINS, WIDTH = 300, 0.1
BUFFER = st.sampled_from([0.0, 0.05, 0.3, 1.0])
SEED = st.integers(0, 3)
TRIALS = st.lists(st.tuples(st.floats(0, 28), st.floats(0.2, 4)), min_size=3, max_size=14)


def sessions(n, trials=None, subjects=None):
    return {
        f"s{i}": prepared(
            busy(N_BINS, seed=i),
            trials=trials,
            session=f"s{i}",
            subject=(subjects or ["m1"] * n)[i],
        )
        for i in range(n)
    }


def bins_seen(recordings, side):
    """Numbers of the bins that a model reads from one side of a fold, by session."""
    seen = {}
    for name, windows in side.items():
        source = Source(min_spikes=0)
        try:
            parts = stretches(attach_windows(recordings[name], windows), source, None)
        except DataError:  # every window is shorter than a bin
            parts = []
        time = np.concatenate([p.time for p in parts]) if parts else np.zeros(0)
        seen[name] = np.round(time / WIDTH - 0.5).astype(int)
    return seen


def assert_apart(recordings, splits, buffer_s):
    """No bin is on both sides, and no training bin is nearer than the buffer."""
    assert splits["folds"]
    for fold in splits["folds"]:
        train, test = bins_seen(recordings, fold["train"]), bins_seen(recordings, fold["test"])
        for name, held in test.items():
            kept = train.get(name, np.zeros(0, int))
            assert not set(kept) & set(held)
            if len(kept) and len(held):
                # centres on either side of an edge lie less than one bin from it
                gap = np.abs(kept[:, None] - held).min() * WIDTH
                assert gap >= buffer_s - 1e-9


@QUICK
@given(TRIALS, st.integers(2, 4), BUFFER, SEED)
def test_by_trial_even_when_trials_overlap(trials, folds, buffer_s, seed):
    assume(len(trials) >= folds)
    edges = [(start, min(start + length, 30.0)) for start, length in trials]
    recordings = sessions(2, edges)
    try:
        splits = make_splits(recordings, by="trial", folds=folds, seed=seed, buffer_s=buffer_s)
    except DataError as error:
        assert "no training data" in str(error)  # noqa: PT017 - the other outcomes are checked
        return
    assert_apart(recordings, splits, buffer_s)
    held = [tuple(w) for fold in splits["folds"] for w in fold["test"].get("s0", [])]
    assert sorted(held) == sorted(edges)  # each trial is held out exactly once


@QUICK
@given(
    st.integers(2, 5),
    BUFFER,
    st.integers(1, 3),
    st.sampled_from([None, 0.7, 1.0, 2.5]),
    SEED,
)
def test_by_block(folds, buffer_s, blocks, window_s, seed):
    recordings = sessions(2)
    settings = {"by": "block", "folds": folds, "blocks_per_fold": blocks, "window_s": window_s}
    if window_s and int(30.0 / window_s) < folds * blocks:
        with pytest.raises(DataError, match=f"windows: found {int(30.0 / window_s)}, expected"):
            make_splits(recordings, seed=seed, buffer_s=buffer_s, **settings)
        return
    splits = make_splits(recordings, seed=seed, buffer_s=buffer_s, **settings)
    assert_apart(recordings, splits, buffer_s)
    for name in recordings:
        held = np.concatenate([bins_seen(recordings, f["test"])[name] for f in splits["folds"]])
        assert len(held) == len(set(held))
        assert len(held) > N_BINS - (10 * window_s if window_s else 1)


@QUICK
@given(st.integers(2, 6), st.integers(2, 4), SEED, st.sampled_from(["session", "subject"]))
def test_by_session_and_subject(n, folds, seed, by):
    subjects = [f"m{i % 3}" for i in range(n)]
    recordings = sessions(n, subjects=subjects)
    found = n if by == "session" else len(set(subjects))
    if found < folds:
        with pytest.raises(DataError, match=f"{by}s: found {found}"):
            make_splits(recordings, by=by, folds=folds, seed=seed)
        return
    splits = make_splits(recordings, by=by, folds=folds, seed=seed)
    for fold in splits["folds"]:
        assert not set(fold["train"]) & set(fold["test"])
        assert set(fold["train"]) | set(fold["test"]) == set(recordings)
        if by == "subject":
            of = {name: subjects[i] for i, name in enumerate(recordings)}
            assert not {of[n] for n in fold["train"]} & {of[n] for n in fold["test"]}


@QUICK
@given(TRIALS, TRIALS, BUFFER)
def test_trim_takes_what_is_near_and_nothing_else(kept, held, buffer_s):
    kept, held = (np.array([(a, a + b) for a, b in part]) for part in (kept, held))
    pieces = trim(kept, held, buffer_s)
    at = np.arange(0, 34, 0.013)

    def inside(edges, by=0.0):
        return ((at[:, None] >= edges[:, 0] - by) & (at[:, None] < edges[:, 1] + by)).any(1)

    expected = inside(kept) & ~inside(held, buffer_s)
    assert (inside(pieces) == expected).mean() > 0.999  # points on an edge may fall either way


def test_many_windows_take_no_longer_than_they_should():
    """An hour of trials of a tenth of a second; window by window it took minutes."""
    edges = np.arange(36_000)[:, None] / 10 + np.array([0, 0.1])
    began = time.monotonic()
    assert len(trim(edges[::2], edges[1::2], 0.02)) == 18_000
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"by": "trials"}, "make_splits: by: Input should be 'trial', 'block'"),
        ({"folds": 0}, "folds: Input should be greater than or equal to 2, found 0"),
        ({"buffer_s": -1.0}, "buffer_s: .* greater than or equal to 0, found -1"),
        ({"window_s": 0.0}, "window_s: .* greater than 0"),
        ({"seed": -1}, "seed: found -1"),
    ],
)
def test_arguments_that_cannot_be_are_refused(wrong, said):
    session = prepared(np.ones((100, 2)), trials=[[0, 4], [5, 9]])
    with pytest.raises(ConfigError, match=said):
        make_splits({"a": session}, **{"by": "trial", "folds": 2, "seed": 0, **wrong})
    with pytest.raises(ConfigError, match="expected a mapping of session to recording"):
        make_splits([session], by="trial", folds=2, seed=0)


@pytest.mark.parametrize("windows", [[1, 2], [[1, 2], [3]], [["a", "b"]], [[0, 1, 2]], None])
def test_windows_are_pairs_of_numbers(windows):
    with pytest.raises(DataError, match=r"attach_windows: found .* expected pairs of start and"):
        attach_windows(prepared(np.ones((100, 2))), windows)


def test_overlapping_trials_are_trimmed():
    edges = [(0.0, 10.0), (5.0, 15.0), (20.0, 30.0)]
    splits = make_splits(sessions(1, edges), by="trial", folds=3, seed=0)
    for fold in splits["folds"]:
        if fold["test"]["s0"] == [[0.0, 10.0]]:
            assert fold["train"]["s0"] == [[10.0, 15.0], [20.0, 30.0]]
        if fold["test"]["s0"] == [[5.0, 15.0]]:
            assert fold["train"]["s0"] == [[0.0, 5.0], [20.0, 30.0]]


def test_the_seed_alone_decides():
    recordings = sessions(2, [(i, i + 1.0) for i in range(12)])
    settings = {"by": "trial", "folds": 3}
    first, again, other = (make_splits(recordings, seed=s, **settings) for s in (4, 4, 5))
    assert first == again
    assert first["folds"] != other["folds"]
    assert json.loads(json.dumps(first)) == first


@pytest.mark.parametrize(
    ("recordings", "settings", "message"),
    [
        (sessions(1, [(0, 5)]), {"by": "trial"}, "session s0: trials: found 1, .*use fewer folds"),
        (sessions(1, [(0, 5), (6, 8)]), {"by": "trial", "folds": 5}, "found 2, .*a fold .5."),
        (sessions(1), {"by": "trial"}, "needs node trials, found counts; add the step cut_trials"),
        (sessions(1), {"by": "session"}, "sessions: found 1"),
        (sessions(1), {"by": "block", "buffer_s": 99.0}, "fold 0 has no training data"),
        (sessions(2, [(0, 5), (6, np.nan)]), {"by": "trial"}, "s0: 1 of 2 rows of node trials"),
        (sessions(2, [(0, 5), (7, 6)]), {"by": "block"}, "row 1 lasts from 7 to 6 s"),
        ({"s0": prepared(busy(1))}, {"by": "block"}, "1 bins in node counts, expected at least 2"),
    ],
)  # fmt: skip
def test_what_cannot_be_divided(recordings, settings, message):
    with pytest.raises(DataError, match=message):
        make_splits(recordings, seed=0, **{"folds": 2, **settings})


def test_a_trial_without_end_does_not_reach_into_others():
    """A NaN compares as False everywhere, so it would pass every check and see all bins."""
    recording = prepared(busy(N_BINS), trials=[(1.0, 2.0), (3.0, np.nan)])
    with pytest.raises(DataError, match="cut_trials"):
        stretches(recording, Source(), None)
    with pytest.raises(DataError, match="row 0 lasts"):
        stretches(attach_windows(recording, [[np.nan, 5.0]]), Source(), None)


def test_one_long_trial_is_cut_into_blocks():
    recordings = sessions(1, [(0.0, 30.0)])
    splits = make_splits(recordings, by="block", folds=3, seed=0, buffer_s=0.5)
    assert [f["test"]["s0"] for f in splits["folds"]] == [[[0, 10]], [[10, 20]], [[20, 30]]]
    assert_apart(recordings, splits, 0.5)


def test_imaging_without_counts_is_cut_by_its_own_clock():
    recording = prepared(busy(20))
    del recording["counts"]
    time = ("time", np.arange(100) / 10 + 0.05, SECOND)
    recording["calcium/plane"] = xr.DataTree(
        xr.Dataset({"dff": (("time", "roi"), np.zeros((100, 2)), ONE)}, {"time": time})
    )
    splits = make_splits({"s0": recording}, by="block", folds=2, seed=0)
    np.testing.assert_allclose(splits["folds"][0]["test"]["s0"], [[0, 5]], atol=1e-9)
    del recording["calcium"]
    with pytest.raises(DataError, match="add the step bin_spikes"):
        make_splits({"s0": recording}, by="block", folds=2, seed=0)


def test_a_leak_in_a_file_of_folds_is_found():
    fold = {"train": {"s0": [[0.0, 5.0]]}, "test": {"s0": [[4.5, 6.0]]}}
    with pytest.raises(DataError, match=r"fold 0, session s0: held-out 4\.5 to 6"):
        check_splits({"buffer_s": 0.0, "folds": [fold]})
    apart = {"train": {"s0": [[0.0, 4.0]]}, "test": {"s0": [[4.5, 6.0]]}}
    check_splits({"buffer_s": 0.5, "folds": [apart]})
    with pytest.raises(DataError, match=r"within 0\.6 s"):
        check_splits({"buffer_s": 0.6, "folds": [apart]})


def with_runs(recording, edges):
    out = recording.copy()
    node = {
        "run_label": ("run", np.array([f"{i}" for i in range(len(edges))], dtype=object)),
        "start_time": ("run", np.array([a for a, _ in edges])),
        "stop_time": ("run", np.array([b for _, b in edges])),
    }
    out["runs"] = xr.DataTree(xr.Dataset(node))
    return out


def test_by_run_holds_out_whole_runs_whatever_trials_they_have():
    edges = [(0.0, 6.0), (6.0, 15.0), (15.0, 21.0), (21.0, 30.0)]
    recordings = {
        name: with_runs(rec, edges) for name, rec in sessions(2, [(1.0, 2.0), (7.0, 9.0)]).items()
    }
    splits = make_splits(recordings, by="run", folds=2, seed=0)
    assert_apart(recordings, splits, 0.0)
    for name in recordings:
        held = [tuple(window) for fold in splits["folds"] for window in fold["test"][name]]
        assert sorted(held) == edges
        assert [len(fold["test"][name]) for fold in splits["folds"]] == [2, 2]
    with pytest.raises(DataError, match=r"session s0: runs: found 4, expected .* \(5\)"):
        make_splits(recordings, by="run", folds=5, seed=0)
    with pytest.raises(DataError, match="a split by run needs node runs"):
        make_splits(sessions(1), by="run", folds=2, seed=0)
