"""Recordings in other libraries' hands: same times, same values, identifiers kept."""

import sys

import numpy as np
import pytest
import xarray as xr

import neuropipe
from neuropipe.errors import DataError, NeuropipeError
from neuropipe.io.interop import to_numpy, to_pandas, to_pynapple

nap = pytest.importorskip("pynapple")


def test_everything_of_a_small_recording(small_recording):
    made = to_pynapple(small_recording)
    assert set(made) == {"spikes", "trials", "behavior/position", "behavior/speed",
                         "intervals/sleep"}  # fmt: skip
    spikes = made["spikes"]
    assert list(spikes.keys()) == [3, 5, 9]
    np.testing.assert_allclose(spikes[3].index, [0.1, 0.4])
    assert len(spikes[5]) == 0
    assert spikes["region"].tolist() == ["CA1", "", "é"]
    assert spikes["depth"].tolist()[::2] == [1.0, 3.0]
    assert spikes.time_support.tot_length() == pytest.approx(0.4)
    position = made["behavior/position"]
    assert isinstance(position, nap.TsdFrame)
    assert list(position.columns) == ["x", "y"]
    assert isinstance(made["behavior/speed"], nap.Tsd)
    trials = made["trials"]
    assert trials.start.tolist() == [0.0, 1.0]
    assert trials["condition"].tolist() == ["left", "right"]


def test_signals_of_channels_events_and_touching_trials(small_recording):
    time = ("time", np.arange(4) / 10, {"units": "s"})
    names = ("channel", np.array(["A1", "A2"], object), {"units": ""})
    small_recording["ieeg"] = xr.DataTree(
        xr.Dataset(
            {"voltage": (("time", "channel"), np.arange(8.0).reshape(4, 2), {"units": "V"})},
            {"time": time, "channel": names},
        )
    )
    small_recording["events/lick"] = xr.DataTree(
        xr.Dataset({"event_time": ("event", np.array([2.0, 1.0]), {"units": "s"})})
    )
    trials = small_recording["trials"].to_dataset()
    trials["stop_time"] = ("trial", np.array([1.0, 1.5]), {"units": "s"})
    small_recording["trials"].dataset = trials
    made = to_pynapple(small_recording, nodes=["ieeg", "events/lick", "trials"])
    assert list(made["ieeg"].columns) == ["A1", "A2"]
    np.testing.assert_array_equal(made["ieeg"].d, np.arange(8.0).reshape(4, 2))
    assert made["events/lick"].index.tolist() == [1.0, 2.0]
    assert len(made["trials"]) == 2
    trials["stop_time"] = ("trial", np.array([1.2, 1.5]), {"units": "s"})
    small_recording["trials"].dataset = trials
    with pytest.raises(DataError, match="1 of 2 intervals begin before another has ended"):
        to_pynapple(small_recording)


def test_tables_and_arrays(small_recording):
    table = to_pandas(small_recording, "trials")
    assert table["condition"].tolist() == ["left", "right"]
    assert table.attrs["units"]["start_time"] == "s"
    signal = to_pandas(small_recording, "behavior/position")
    assert signal.index.name == "time"
    assert list(signal.columns) == ["x", "y"]
    units = to_pandas(small_recording, "units")
    assert units["unit"].tolist() == [3, 5, 9]
    arrays = to_numpy(small_recording, "behavior/position")
    assert set(arrays) == {"time", "x", "y"}
    assert all(type(array) is np.ndarray for array in arrays.values())
    wide = small_recording["behavior/speed"].to_dataset()
    wide["ear"] = (("time", "side"), np.ones((6, 2)), {"units": "1"})
    small_recording["behavior/speed"].dataset = wide
    assert list(to_pandas(small_recording, "behavior/speed").columns) == [
        "speed", "ear_0", "ear_1"
    ]  # fmt: skip


def test_unknown_nodes_and_no_pynapple(small_recording, monkeypatch):
    for ask in (to_pandas, to_numpy, lambda r, n: to_pynapple(r, nodes=[n])):
        with pytest.raises(DataError, match="no node 'trial'; did you mean 'trials'"):
            ask(small_recording, "trial")
    with pytest.raises(DataError, match="no object for node 'units'"):
        to_pynapple(small_recording, nodes=["units"])
    monkeypatch.setitem(sys.modules, "pynapple", None)
    with pytest.raises(NeuropipeError, match=r"pip install .*pynapple"):
        to_pynapple(small_recording)


def test_public_names():
    assert neuropipe.to_pandas is to_pandas
