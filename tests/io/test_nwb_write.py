"""Recordings out as NWB: what is read back is what was written, and the bytes are the same."""

import hashlib

import h5py
import numpy as np
import pynwb
import pytest
import xarray as xr

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


def test_what_has_no_place_in_nwb_is_refused(small_recording, tmp_path):
    small_recording["counts"] = xr.DataTree(
        xr.Dataset({"spike_count": (("time", "unit"), np.zeros((2, 3), dtype=int), {"units": "1"})})
    )
    with pytest.raises(SchemaError, match="cannot write counts as NWB"):
        write_nwb(small_recording, tmp_path / "a.nwb")
    del small_recording["counts"]
    small_recording["spikes/unit_index"].values[:] = [2, 2, 0, 0]
    with pytest.raises(SchemaError, match="expected spikes ordered by unit"):
        write_nwb(small_recording, tmp_path / "a.nwb")
    assert not list(tmp_path.iterdir())
