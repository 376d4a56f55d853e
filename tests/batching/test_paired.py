"""The door of models of neural activity with behaviour."""

import numpy as np
import pytest
import xarray as xr
from counted_session import ONE, busy, prepared

from neuropipe.batching.paired import channel_scaling, read_paired, read_training
from neuropipe.batching.windows import attach_windows
from neuropipe.errors import DataError, SchemaError

N = 100
SPEED = np.arange(float(N))


def session(**more):
    options = {"unit": [4, 7, 9], "behavior": {"speed": SPEED, "light": -SPEED}, **more}
    counts = options.pop("counts", busy(N))
    return prepared(counts, **options)


def test_windows_bins_and_names():
    recording = attach_windows(session(), [[8, 9.5], [0, 1]])
    p = read_paired(recording)
    assert [len(t) for t in p.time] == [10, 15]
    assert p.units == ("4", "7", "9")
    assert p.channels == ("light", "speed")
    assert p.channel_units == ("1", "1")
    assert p.bin_width_s == pytest.approx(0.1)
    np.testing.assert_array_equal(np.concatenate(p.neural), busy(N)[[*range(10), *range(80, 95)]])
    np.testing.assert_array_equal(p.behavior[1][:, 0], -SPEED[80:95])
    np.testing.assert_allclose(p.time[1], recording["counts"]["time"].values[80:95])


def test_channels_come_in_the_order_of_their_names_whatever_the_stores():
    names = [f"joint_{n}" for n in (10, 2, 0, 11, 1)]
    p = read_paired(session(behavior=dict.fromkeys(names, SPEED)))
    assert p.channels == ("joint_0", "joint_1", "joint_2", "joint_10", "joint_11")


def test_bins_that_were_not_recorded_are_missing():
    observed = np.ones(N, bool)
    observed[3] = False
    speed = SPEED.copy()
    speed[5] = np.nan
    p = read_paired(session(observed=observed, behavior={"speed": speed}))
    assert np.flatnonzero(np.isnan(p.neural[0]).all(1)).tolist() == [3]
    assert np.flatnonzero(np.isnan(p.behavior[0][:, 0])).tolist() == [5]


def test_signals_by_name_and_of_several_dimensions():
    recording = session()
    node = recording["behavior"].to_dataset()
    video = np.arange(N * 6.0).reshape(N, 2, 3)
    node["video"] = (("time", "y", "x"), video, ONE)
    recording["behavior"] = xr.DataTree(node)
    p = read_paired(recording, signals=("video", "speed"))
    assert p.channels[:2] == ("video_0_0", "video_0_1")
    assert p.channels[-1] == "speed"
    np.testing.assert_array_equal(p.behavior[0][:, :6], video.reshape(N, 6))


def test_traces_and_no_behaviour():
    time = ("time", np.arange(5) / 4, {"units": "s"})
    trace = np.arange(10.0).reshape(5, 2)
    trace[2, 1] = np.nan
    node = xr.Dataset(
        {"dff": (("time", "roi"), trace, ONE)}, {"time": time, "roi": ("roi", ["a", "b"], ONE)}
    )
    p = read_paired(xr.DataTree.from_dict({"/calcium/cells": node}), neural="calcium/cells")
    np.testing.assert_array_equal(p.neural[0], trace)
    assert p.units == ("a", "b")
    assert p.behavior[0].shape == (5, 0)
    assert p.bin_width_s == pytest.approx(0.25)


def test_traces_that_never_change_in_training_are_left_out():
    time = ("time", np.arange(8) / 4, {"units": "s"})
    trace = np.stack([np.arange(8.0), np.repeat([3.0, 4.0], 4), np.full(8, 2.0)], 1)
    trace[1, 2] = np.nan
    node = xr.Dataset(
        {"dff": (("time", "roi"), trace, ONE)}, {"time": time, "roi": ("roi", list("abc"), ONE)}
    )
    recording = xr.DataTree.from_dict({
        "/": xr.Dataset(attrs={"session": "s", "subject": "m"}), "/calcium/cells": node,
    })  # fmt: skip
    early = attach_windows(recording, [[-0.1, 0.9]])
    assert read_training([early], neural="calcium/cells")[0].units == ("a",)
    whole = read_training([recording], neural="calcium/cells")[0]
    assert whole.units == ("a", "b")
    node["dff"] = node["dff"] * 0
    still = xr.DataTree.from_dict({"/": recording.to_dataset(), "/calcium/cells": node})
    with pytest.raises(DataError, match="none of 3 traces of calcium/cells changes"):
        read_training([still], neural="calcium/cells")


def test_units_of_several_sessions_are_those_with_training_spikes():
    counts = busy(N)
    counts[50:, 1] += 1
    counts[:50, 1] = 0
    one = attach_windows(session(counts=counts), [[0, 5]])
    two = session(counts=busy(N)[:, ::-1], unit=[9, 7, 11], session="made-8")
    two = attach_windows(two, [[0, 5]])
    assert read_training([one])[0].units == ("4", "9")
    both = read_training([one, two])
    assert [p.units for p in both] == [("7", "9")] * 2
    np.testing.assert_array_equal(both[1].neural[0][:, 1], busy(N)[:50, 2])


def test_scaling_leaves_missing_bins_out_and_constant_channels_alone():
    speed = np.array([1.0, 3, np.nan, 1, 3])
    recording = prepared(busy(5), behavior={"speed": speed, "still": np.full(5, 7.0)})
    mean, sd = channel_scaling([read_paired(recording)])
    np.testing.assert_allclose(mean, [2, 7])
    np.testing.assert_allclose(sd, [1, 1])


@pytest.mark.parametrize(
    ("recording", "settings", "error", "message"),
    [
        (session(), {"signals": ("sped",)}, DataError, "did you mean 'speed'"),
        (prepared(busy(9)), {"signals": ("speed",)}, DataError, "resample_behavior"),
        (session(), {"neural": "calcium/cells"}, SchemaError, "node missing"),
    ],
)
def test_what_is_not_there(recording, settings, error, message):
    with pytest.raises(error, match=message):
        read_paired(recording, **settings)


def test_another_clock_and_other_subjects():
    recording = session()
    moved = recording["behavior"].to_dataset().assign_coords(time=recording["counts"].time + 0.01)
    other = recording.copy()
    other["behavior"] = xr.DataTree(moved)
    with pytest.raises(DataError, match="not on the clock"):
        read_paired(other)
    with pytest.raises(DataError, match="share no units"):
        read_training([recording, session(subject="m2")])
    with pytest.raises(DataError, match="share their signals"):
        read_training([recording, session(behavior={"speed": SPEED}, session="made-8")])
    with pytest.raises(DataError, match=r"none of 3 units has 5000 spikes"):
        read_training([recording], min_spikes=5000)
