"""Any laboratory's folder becomes a store with two commands, and comes out again as it was."""

import csv

import numpy as np
import pytest

from neuropipe.io.store import open_recording

FOLDERS = {
    "gripforce_bids": ("ieeg", {"voltage": (19001, 9)}),
    "haxby2001_bids": ("bold", {"bold": (1452, 800)}),
    "ieeg_hfo_bids": ("ieeg", {"voltage": (10000, 50)}),
    "nwb_human_mtl": ("spikes", {"spike_time": (214278,)}),
}
pytestmark = pytest.mark.data


@pytest.fixture
def folder(request, shared_data):
    if not (shared_data / request.param).is_dir():
        pytest.skip(f"no {request.param} among the recordings")
    return shared_data / request.param


def store_of(neuropipe, folder, place, name):
    """Write the manifest of a folder and ingest its only session."""
    assert neuropipe("manifest", folder, "--output", place, "--name", name) == 0
    page = place / f"{name}.yaml"
    with page.with_suffix(".tsv").open() as stream:
        [session] = {row["session_id"] for row in csv.DictReader(stream, delimiter="\t")}
    receipt, store = place / f"{name}.json", place / f"{name}.zarr"
    assert neuropipe("fetch", page, "--session", session, "--output", receipt) == 0
    assert neuropipe("ingest", receipt, "--output", store) == 0
    return store


@pytest.mark.filterwarnings("ignore")  # what pynwb says of another laboratory's file
@pytest.mark.parametrize("folder", FOLDERS, indirect=True)
def test_a_folder_becomes_a_store(neuropipe, folder, tmp_path):
    node, shapes = FOLDERS[folder.name]
    recording = open_recording(store_of(neuropipe, folder, tmp_path, "own"))
    for variable, shape in shapes.items():
        assert recording[node][variable].shape == shape


@pytest.mark.parametrize(
    ("folder", "nodes"),
    [
        ("gripforce_bids", "ieeg,behavior,runs"),
        ("haxby2001_bids", "bold,intervals,runs"),
        ("ieeg_hfo_bids", "ieeg,intervals,runs"),
    ],
    indirect=["folder"],
)
def test_bids_comes_out_as_it_went_in(neuropipe, folder, nodes, tmp_path):
    store = store_of(neuropipe, folder, tmp_path, "own")
    tree = tmp_path / "tree"
    assert neuropipe("export", store, "--to", "bids", "--nodes", nodes, "--output", tree) == 0
    again = open_recording(store_of(neuropipe, tree, tmp_path, "again")).compute()
    before = open_recording(store).compute()
    for path in (p.lstrip("/") for p in before.groups if p.lstrip("/").split("/")[0] in nodes):
        here, there = before[path].to_dataset(), again[path].to_dataset()
        if path in ("bold", "ieeg"):
            assert there.attrs["task"] == here.attrs.get("task", "export")
        for name, variable in here.variables.items():
            found = there[name].variable
            assert found.attrs["units"] == variable.attrs["units"], name
            if name == "run_label":
                assert len(found) == len(variable)  # the labels are numbered anew
            elif variable.dtype.kind == "f":
                np.testing.assert_allclose(found, variable, rtol=2e-7, atol=1e-9, err_msg=name)
            else:
                np.testing.assert_array_equal(found, variable, err_msg=name)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("folder", ["nwb_human_mtl", "gripforce_bids"], indirect=True)
def test_nwb_comes_out_as_it_went_in(neuropipe, folder, tmp_path):
    store = store_of(neuropipe, folder, tmp_path, "own")
    nodes = {"nwb_human_mtl": "spikes,units,intervals,events", "gripforce_bids": "ieeg,behavior"}
    out = tmp_path / "out"
    words = ("--to", "nwb", "--nodes", nodes[folder.name], "--output", out / "own.nwb")
    out.mkdir()
    assert neuropipe("export", store, *words) == 0
    again = open_recording(store_of(neuropipe, out, tmp_path, "again")).compute()
    before = open_recording(store).compute()
    if folder.name == "nwb_human_mtl":
        for path in ("spikes", "units", "intervals/recognition_table", "events/events"):
            here, there = before[path].to_dataset(), again[path].to_dataset()
            for name in here.variables:
                np.testing.assert_array_equal(there[name], here[name], err_msg=f"{path}/{name}")
                assert there[name].attrs["units"] == here[name].attrs["units"]
        return
    here, there = before["ieeg"].to_dataset(), again["ephys/ieeg"].to_dataset()
    np.testing.assert_array_equal(there["voltage"], here["voltage"])
    np.testing.assert_allclose(there["time"], here["time"], rtol=0, atol=1e-9)
    assert there["channel_name"].values.tolist() == here["channel"].values.tolist()
    for axis in "xyz":
        np.testing.assert_array_equal(there[axis], here[axis])
        assert there[axis].attrs["units"] == "mm"
