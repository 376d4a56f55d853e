"""Recordings out as NWB: what is read back is what was written, and the bytes are the same."""

import hashlib

import dask.array as da
import h5py
import numpy as np
import pynwb
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from neuropipe.errors import SchemaError
from neuropipe.io.nwb import read
from neuropipe.io.nwb_write import write_nwb

OWN = ("nwb_path", "description", "reference_frame")


def without_own_attrs(dataset: xr.Dataset) -> xr.Dataset:
    dataset = dataset.compute()
    dataset.attrs = {k: v for k, v in dataset.attrs.items() if k not in OWN}
    return dataset


def test_round_trip_keeps_values_units_times_and_labels(small_recording, tmp_path):
    write_nwb(small_recording, tmp_path / "a.nwb")
    back = read(tmp_path / "a.nwb", dataset="d")
    assert {n.path for n in back.leaves} == {n.path for n in small_recording.leaves}
    for node in small_recording.leaves:
        xr.testing.assert_identical(
            node.to_dataset(), without_own_attrs(back[node.path].to_dataset())
        )
    for name in ("dataset", "subject", "session"):
        assert back.attrs[name] == small_recording.attrs[name]


def test_names_of_regions_of_interest_come_back(small_recording, tmp_path):
    """Animals are matched by neuron names, so a name must not become a row number."""
    named = small_recording.copy()
    time = ("time", np.arange(4.0), {"units": "s"})
    named["calcium/cells"] = xr.DataTree(
        xr.Dataset(
            {"dff": (("time", "roi"), np.ones((4, 2), np.float32), {"units": "1"})},
            {"time": time, "roi": ("roi", np.array(["AWB", "ASEL"], object), {"units": ""})},
        )
    )
    write_nwb(named, tmp_path / "named.nwb")
    back = read(tmp_path / "named.nwb", dataset="d")
    assert back["calcium/cells/roi"].values.tolist() == ["AWB", "ASEL"]


def test_same_content_gives_same_bytes(small_recording, tmp_path):
    for name in ("a", "b"):
        write_nwb(small_recording, tmp_path / f"{name}.nwb", truth={"weights": np.eye(2)})
    digests = {hashlib.sha256((tmp_path / f"{n}.nwb").read_bytes()).hexdigest() for n in "ab"}
    assert len(digests) == 1


def test_what_is_written_is_valid_nwb(small_recording, tmp_path):
    write_nwb(small_recording, tmp_path / "a.nwb", truth={"weights": np.eye(2)})
    assert pynwb.validate(path=str(tmp_path / "a.nwb")) == []


def test_truth_travels_beside_the_data(small_recording, tmp_path):
    write_nwb(small_recording, tmp_path / "a.nwb", truth={"weights": np.eye(2), "state": [0, 1]})
    with h5py.File(tmp_path / "a.nwb") as file:
        np.testing.assert_array_equal(file["scratch/weights"][()], np.eye(2))
        np.testing.assert_array_equal(file["scratch/state"][()], [0, 1])
    assert not any("weights" in group for group in read(tmp_path / "a.nwb").groups)


def test_flat_behavior_becomes_one_series_a_variable(tmp_path):
    coords = xr.Coordinates({"time": ("time", np.arange(3.0), {"units": "s"})})
    signals = xr.Dataset(
        {
            "speed": ("time", np.arange(3.0), {"units": "cm/s"}),
            "pupil": ("time", np.arange(3.0), {"units": "mm"}),
        },
        coords,
    )
    write_nwb(xr.DataTree.from_dict({"/behavior": signals}), tmp_path / "b.nwb")
    back = read(tmp_path / "b.nwb")
    assert back["behavior/speed/speed"].attrs["units"] == "cm/s"
    assert back["behavior/pupil/pupil"].attrs["units"] == "mm"


def test_silent_units_and_no_unit_at_all(tmp_path):
    def tree(n_units):
        return xr.DataTree.from_dict(
            {
                "/spikes": xr.Dataset(
                    {
                        "spike_time": ("spike", np.empty(0), {"units": "s"}),
                        "unit_index": ("spike", np.empty(0, dtype=np.int64), {"units": "1"}),
                    }
                ),
                "/units": xr.Dataset(coords={"unit": ("unit", np.arange(n_units), {"units": "1"})}),
            }
        )

    for n_units in (2, 0):
        write_nwb(tree(n_units), tmp_path / f"{n_units}.nwb")
        back = read(tmp_path / f"{n_units}.nwb")
        assert back["units"].sizes["unit"] == n_units
        assert back["spikes"].sizes["spike"] == 0


def ramp(n: int, rate_hz: float, start_s: float) -> tuple:
    return ("time", start_s + np.arange(n) / rate_hz, {"units": "s"})


@st.composite
def series(draw):
    """Draw one voltage, one fluorescence and one event node, lazy or not."""
    n, width = draw(st.integers(2, 40)), draw(st.integers(1, 4))
    rate_hz = draw(st.sampled_from([1.0, 30.0, 1000.0, 2000.5]))
    start_s = draw(st.sampled_from([0.0, 0.25, 17.125]))
    numbers = st.floats(-1e3, 1e3, width=32)
    values = draw(arrays(np.float32, (n, width), elements=numbers))
    chunk = draw(st.integers(1, n))
    data = da.from_array(values, chunks=(chunk, width))
    text = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=5)
    labels = draw(st.lists(text, min_size=1, max_size=4))
    at = np.sort(draw(arrays(float, len(labels), elements=st.floats(0, 1e4))))
    place = draw(arrays(float, (3, width), elements=st.floats(-90, 90)))
    rois = draw(st.lists(st.integers(0, 99), min_size=width, max_size=width, unique=True))
    named = draw(st.booleans())
    roi = (np.array([f"N{i}" for i in rois], object), {"units": ""})
    roi = roi if named else (np.array(rois), {"units": "1"})
    return xr.DataTree.from_dict({
        "/": xr.Dataset(attrs={"dataset": "d", "subject": "m", "session": "s"}),
        "/ephys/lfp": xr.Dataset(
            {"voltage": (("time", "channel"), data, {"units": "V"})},
            {
                "time": ramp(n, rate_hz, start_s),
                "channel": ("channel", np.arange(width), {"units": "1"}),
                "channel_name": ("channel", np.array([f"A{i}µ" for i in range(width)], object),
                                 {"units": ""}),
                "region": ("channel", np.array(["CA1"] * width, object), {"units": ""}),
                "shaft": ("channel", np.array(["A"] * width, object), {"units": ""}),
                **{a: ("channel", p, {"units": "mm"}) for a, p in zip("xyz", place, strict=True)},
            },
        ),
        "/calcium/cells": xr.Dataset(
            {draw(st.sampled_from(["dff", "fluorescence"])): (("time", "roi"), data,
                                                              {"units": "1"})},
            {"time": ramp(n, rate_hz, start_s), "roi": ("roi", *roi)},
        ),
        "/events/notes": xr.Dataset(
            {
                "event_time": ("event", at, {"units": "s"}),
                "text": ("event", np.array(labels, object), {"units": ""}),
            }
        ),
    })  # fmt: skip


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(made=series())
def test_series_come_back_with_values_units_times_and_labels(made, tmp_path_factory):
    path = tmp_path_factory.mktemp("nwb") / "a.nwb"
    write_nwb(made, path)
    back = read(path)
    for node in ("ephys/lfp", "calcium/cells", "events/notes"):
        there, here = back[node].to_dataset().compute(), made[node].to_dataset().compute()
        assert set(here.variables) <= set(there.variables)
        for name in here.variables:
            found, put = there[name], here[name]
            assert found.attrs["units"] == put.attrs["units"], name
            if name == "time":
                np.testing.assert_allclose(found.values, put.values, rtol=0, atol=1e-9)
            else:
                np.testing.assert_array_equal(found.values, put.values, err_msg=name)


def test_what_has_no_place_in_nwb_is_refused(small_recording, tmp_path):
    codes = xr.DataArray(np.array(["a", "b"], object), dims="stimulus", attrs={"units": ""})
    small_recording["embedding"] = xr.DataTree(
        xr.Dataset(
            {"embedding": (("stimulus", "feature"), np.zeros((2, 3)), {"units": "1"})},
            {"stimulus": codes},
        )
    )
    with pytest.raises(SchemaError, match="embedding: has no clock"):
        write_nwb(small_recording, tmp_path / "a.nwb")
    del small_recording["embedding"]
    small_recording["spikes/unit_index"].values[:] = [2, 2, 0, 0]
    with pytest.raises(SchemaError, match="expected spikes ordered by unit"):
        write_nwb(small_recording, tmp_path / "a.nwb")
    assert not list(tmp_path.iterdir())


def test_a_movie_comes_back_with_its_times(small_recording, tmp_path):
    movie = xr.Dataset(
        {
            "frame": (("frame", "y", "x"), np.arange(24, dtype=np.float32).reshape(4, 2, 3),
                      {"units": "1"}),
            "frame_time": ("frame", np.array([0.0, 0.1, 0.25, 0.3]), {"units": "s"}),
        }
    )  # fmt: skip
    shown = small_recording.copy()
    shown["stimulus/bar"] = xr.DataTree(movie)
    write_nwb(shown, tmp_path / "a.nwb")
    back = read(tmp_path / "a.nwb", dataset="d")["stimulus/bar"].to_dataset()
    xr.testing.assert_identical(without_own_attrs(back), movie)
    shown["stimulus/bar"] = xr.DataTree(movie.drop_vars("frame_time"))
    with pytest.raises(SchemaError, match="stimulus/bar: has frame, expected"):
        write_nwb(shown, tmp_path / "b.nwb")
