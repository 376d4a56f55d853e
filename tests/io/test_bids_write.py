"""Trees that we write say to other readers, and to ours, what the recording said."""

from __future__ import annotations

import json
from pathlib import Path

import dask.array as da
import h5py
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from neuropipe.errors import ConfigError, ReaderError, SchemaError
from neuropipe.io.bids_write import write_bids, write_embedding
from neuropipe.models.du_in.simulate import Plan as WordPlan
from neuropipe.models.du_in.simulate import simulate as words
from neuropipe.models.mindbridge.simulate import Plan as ImagePlan
from neuropipe.models.mindbridge.simulate import simulate as images

SPACE = "space-MNI152NLin2009cAsym"


@pytest.fixture
def voltage() -> xr.DataTree:
    """Two runs of 9 contacts, one of them bad, and a microphone on the same clock."""
    plan = WordPlan(
        n_words=3, n_repetitions=4, n_runs=2, n_channels=9, n_speech=4, word_units=3, lead_units=3
    )
    recording, _ = words(plan, 5)
    time = recording["ieeg/time"].variable
    sound = np.sin(np.arange(time.size) * 0.01)
    recording["behavior/microphone"] = xr.DataTree(
        xr.Dataset({"microphone": ("time", sound, {"units": "Pa"})}, {"time": time})
    )
    return recording


@pytest.fixture
def bold() -> xr.DataTree:
    plan = ImagePlan(
        n_voxels=40, n_own=18, n_shared=4, n_runs=2, image_tokens=2, text_tokens=1,
        token_features=8,
    )  # fmt: skip
    return images(plan, 5)[0]


def rows_of_run(recording: xr.DataTree, node: str, run: int) -> slice:
    start = recording["runs/start_time"].values
    edges = np.searchsorted(recording[node]["time"].values, [*start, np.inf], side="left")
    return slice(edges[run], edges[run + 1])


def bytes_of(root: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()
    }


@pytest.mark.parametrize("format", ["brainvision", "edf"])
def test_voltage_reads_back_in_mne_bids(voltage, tmp_path, format):
    import mne_bids

    files = write_bids(voltage, tmp_path / "tree", task="words", format=format)
    assert [f.name for f in files[:2]] == [
        f"sub-planted_ses-planted5_task-words_run-0{run}_ieeg"
        + {"brainvision": ".vhdr", "edf": ".edf"}[format]
        for run in (1, 2)
    ]
    assert all(file.is_file() for file in files)
    place = mne_bids.BIDSPath(
        subject="planted", session="planted5", task="words", run="02", datatype="ieeg",
        root=tmp_path / "tree",
    )  # fmt: skip
    raw = mne_bids.read_raw_bids(place, verbose="error")
    raw.load_data(verbose="error")
    rows = rows_of_run(voltage, "ieeg", 1)
    ieeg = voltage["ieeg"].to_dataset()
    names = ieeg["channel"].values.tolist()
    assert raw.ch_names == [*names, "microphone"]
    assert raw.get_channel_types() == ["seeg"] * 9 + ["misc"]
    assert raw.info["sfreq"] == 1000
    assert raw.info["bads"] == [
        n for n, s in zip(names, ieeg["status"].values, strict=True) if s == "bad"
    ]
    assert raw.info["line_freq"] == 50
    own = raw.get_data(picks=names).T
    want = ieeg["voltage"].values[rows]
    if format == "brainvision":
        np.testing.assert_array_equal(own.astype(np.float32), want)
    else:
        step = (want.max(0) - want.min(0)) / 65535
        assert (np.abs(own - want) <= 0.6 * step).all()
    sound = raw.get_data(picks=["microphone"])[0]
    np.testing.assert_allclose(
        sound, voltage["behavior/microphone/microphone"].values[rows], atol=2e-5
    )
    events = voltage["intervals/events"].to_dataset()
    mine = events.isel(interval=events["run_label"].values == "02")
    begun = ieeg["time"].values[rows][0]
    words_said = [a for a in raw.annotations if a["description"].startswith("word")]
    np.testing.assert_allclose(
        [a["onset"] for a in words_said], mine["start_time"] - begun, atol=1e-6
    )
    assert [a["description"] for a in words_said] == mine["trial_type"].values.tolist()
    placed = np.array(list(raw.get_montage().get_positions()["ch_pos"].values())[:9])
    np.testing.assert_allclose(1000 * placed, np.stack([ieeg[a].values for a in "xyz"], 1))


def test_voltage_comes_back_through_our_reader(voltage, tmp_path):
    ieeg = pytest.importorskip("neuropipe.io.ieeg")
    files = write_bids(voltage, tmp_path / "tree", task="words")
    back = ieeg.read(files[0].parent)
    mine, own = voltage["ieeg"].to_dataset(), back["ieeg"].to_dataset()
    np.testing.assert_array_equal(own["voltage"].values, mine["voltage"].values)
    np.testing.assert_allclose(own["time"].values, mine["time"].values, atol=1e-9)
    for name in ("channel", "shaft", "region", "channel_type", "status"):
        assert own[name].values.tolist() == mine[name].values.tolist(), name
    for axis in "xyz":
        np.testing.assert_allclose(own[axis].values, mine[axis].values)
    for key in mine.attrs:
        assert own.attrs[key] == mine.attrs[key], key
    assert back["runs"].to_dataset().equals(voltage["runs"].to_dataset())
    told, read = voltage["intervals/events"], back["intervals/events"]
    np.testing.assert_allclose(read["start_time"].values, told["start_time"].values, atol=1e-9)
    np.testing.assert_allclose(read["stop_time"].values, told["stop_time"].values, atol=1e-9)
    assert read["trial_type"].values.tolist() == told["trial_type"].values.tolist()
    assert back["behavior/microphone/microphone"].attrs["units"] == "Pa"


def test_bold_reads_back_in_nibabel(bold, tmp_path):
    root = tmp_path / "tree"
    files = write_bids(bold, root, task="images")
    node = bold["bold"].to_dataset()
    index = tuple(node[a].values for a in "ijk")
    stem = "sub-planted1_ses-planted15_task-images"
    for run, file in enumerate(files[:2]):
        assert file.name == f"{stem}_run-0{run + 1}_bold.nii.gz"
        image = nib.load(file)
        rows = rows_of_run(bold, "bold", run)
        values = image.get_fdata()
        assert image.get_data_dtype() == np.float32
        np.testing.assert_array_equal(values[index].T, node["bold"].values[rows])
        assert (np.delete(values.reshape(-1, values.shape[3]), np.ravel_multi_index(
            index, values.shape[:3]), axis=0) == 0).all()  # fmt: skip
        np.testing.assert_allclose(image.affine.ravel(), node.attrs["affine"], atol=1e-5)
        assert image.header.get_zooms()[3] == pytest.approx(1.6)
        assert image.header.get_xyzt_units() == ("mm", "sec")
        told = json.loads((file.parent / file.name.replace(".nii.gz", ".json")).read_text())
        assert told == {"TaskName": "images", "RepetitionTime": 1.6}
    derived = root / "derivatives/neuropipe/sub-planted1/ses-planted15/func"
    mask = nib.load(derived / f"{stem}_desc-brain_mask.nii.gz")
    assert mask.shape == tuple(node.attrs["grid_shape"])
    assert np.array_equal(np.stack(np.nonzero(mask.get_fdata())), np.stack(index))
    table = pd.read_csv(
        derived / f"{stem}_run-02_desc-confounds_timeseries.tsv", sep="\t", na_values="n/a"
    )
    want = bold["confounds/confound_value"].values[rows_of_run(bold, "bold", 1)]
    np.testing.assert_array_equal(table.to_numpy(), want)
    assert list(table) == bold["confounds/confound"].values.tolist()


def test_bold_comes_back_through_our_reader(bold, tmp_path):
    reader = pytest.importorskip("neuropipe.io.bold")
    files = write_bids(bold, tmp_path / "tree", task="images")
    back = reader.read(
        files,
        embedding="stimuli/embedding.h5",
        text_embedding="stimuli/text_embedding.h5",
    )
    mine, own = bold["bold"].to_dataset(), back["bold"].to_dataset()
    np.testing.assert_array_equal(own["bold"].values, mine["bold"].values)
    for name in ("time", *"ijkxyz"):
        np.testing.assert_allclose(own[name].values, mine[name].values, atol=1e-5)
    for key in ("grid_shape", "repetition_time_s", "space", "task"):
        assert own.attrs[key] == mine.attrs[key]
    np.testing.assert_array_equal(
        back["confounds/confound_value"].values, bold["confounds/confound_value"].values
    )
    assert back["confounds/confound_unit"].values.tolist() == ["mm"] * 3 + ["rad"] * 3 + ["mm"]
    assert back["intervals/events/stimulus"].values.tolist() == (
        bold["intervals/events/stimulus"].values.tolist()
    )
    for name in ("embedding", "text_embedding"):
        assert back[name].to_dataset().load().equals(bold[name].to_dataset())


def test_space_and_slice_times_of_bold_come_back(bold, tmp_path):
    moved = bold.copy()
    node = bold["bold"].to_dataset()
    moved["bold"] = xr.DataTree(
        node.assign_attrs(space="MNI152NLin2009cAsym", reference_time_s=0.75)
    )
    reader = pytest.importorskip("neuropipe.io.bold")
    back = reader.read(write_bids(moved, tmp_path / "tree", task="images"))
    own = back["bold"].attrs
    assert (own["space"], own["reference_time_s"]) == ("MNI152NLin2009cAsym", 0.75)
    np.testing.assert_allclose(own["affine"], node.attrs["affine"], atol=1e-5)


def test_sixteen_bits_keep_the_range(bold, tmp_path):
    files = write_bids(bold, tmp_path / "tree", task="images", int16=True)
    node = bold["bold"].to_dataset()
    image = nib.load(files[0])
    assert image.get_data_dtype() == np.int16
    values = image.get_fdata()
    want = node["bold"].values[rows_of_run(bold, "bold", 0)]
    found = values[tuple(node[a].values for a in "ijk")].T
    assert np.abs(found - want).max() <= 0.6 * want.max() / 65530
    assert np.abs(values[0, 0, 0]).max() <= 0.6 * want.max() / 65530


@pytest.mark.parametrize("kind", ["voltage", "bold"])
def test_same_content_same_bytes_lazy_or_not(kind, request, tmp_path, monkeypatch):
    recording = request.getfixturevalue(kind)
    write_bids(recording, tmp_path / "a", task="rest")
    monkeypatch.setattr("neuropipe.io.bids_write_bold.PIECE_BYTES", 5000)
    for module in ("ieeg", "bold"):
        monkeypatch.setattr(f"neuropipe.io.bids_write_{module}.layout", lambda *_: ((7,), (77,)))
    lazy = xr.map_over_datasets(lambda d: d.chunk() if d.variables else d, recording)
    lazy.attrs = recording.attrs
    write_bids(lazy, tmp_path / "b", task="rest")
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")


def test_replaces_its_own_tree_and_no_other(voltage, tmp_path):
    root = tmp_path / "tree"
    write_bids(voltage, root, task="words")
    (root / "stray.txt").write_text("left over")
    write_bids(voltage, root, task="words")
    assert not (root / "stray.txt").exists()
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("mine")
    with pytest.raises(ReaderError, match="neuropipe did not write"):
        write_bids(voltage, foreign, task="words")
    assert (foreign / "thesis.txt").read_text() == "mine"


def test_a_failure_leaves_nothing(voltage, tmp_path):
    def fail(block):
        raise OSError("disk is gone")

    node = voltage["ieeg"].to_dataset()
    broken = da.from_array(node["voltage"].values, chunks=(500, 9)).map_blocks(
        fail, dtype=np.float32, meta=np.empty((0, 0), np.float32)
    )
    voltage["ieeg"] = xr.DataTree(
        node.assign(voltage=(("time", "channel"), broken, {"units": "V"}))
    )
    with pytest.raises(OSError, match="disk is gone"):
        write_bids(voltage, tmp_path / "tree", task="words")
    assert list(tmp_path.iterdir()) == []


def test_true_starts_of_runs_are_kept(voltage, tmp_path):
    ieeg = pytest.importorskip("neuropipe.io.ieeg")
    runs, node = voltage["runs"].to_dataset(), voltage["ieeg"].to_dataset()
    begun = rows_of_run(voltage, "ieeg", 1).start
    shift = np.where(np.arange(node.sizes["time"]) >= begun, 30.25, 0.0)
    time = ("time", node["time"].values + shift, {"units": "s"})
    del voltage["behavior"], voltage["intervals"]
    voltage["ieeg"] = xr.DataTree(node.assign_coords(time=time))
    late = [
        runs[n].copy(data=runs[n].values + np.array([0, 30.25]))
        for n in ("start_time", "stop_time")
    ]
    voltage["runs"] = xr.DataTree(runs.assign({array.name: array for array in late}))
    files = write_bids(voltage, tmp_path / "tree", task="words")
    back = ieeg.read(files)
    np.testing.assert_allclose(back["ieeg/time"].values, time[1], atol=1e-6)
    assert back["runs"].attrs["clock"] == "acq_time of scans.tsv"


def test_what_is_missing_is_not_available(voltage, tmp_path):
    node = voltage["ieeg"].to_dataset()
    x = node["x"].values.copy()
    x[2] = np.nan
    bare = node.drop_vars(["region", "shaft", "status"]).assign_coords(
        x=("channel", x, {"units": "mm"})
    )
    del bare.attrs["power_line_frequency_hz"], bare.attrs["reference"]
    voltage["ieeg"] = xr.DataTree(bare)
    files = {f.name.split("_")[-1]: f for f in write_bids(voltage, tmp_path / "t", task="words")}
    told = json.loads(files["ieeg.json"].read_text())
    assert told["PowerLineFrequency"] == told["iEEGReference"] == "n/a"
    table = pd.read_csv(files["electrodes.tsv"], sep="\t", dtype=str, keep_default_na=False)
    assert (table["x"] == "n/a").tolist() == [i == 2 for i in range(9)]
    channels = pd.read_csv(files["channels.tsv"], sep="\t", dtype=str, keep_default_na=False)
    assert set(channels["status"]) == {"n/a"}
    assert files["electrodes.tsv"].name.endswith(f"{SPACE}_electrodes.tsv")


def test_embedding_alone(bold, tmp_path):
    node = bold["embedding"].to_dataset()
    path = write_embedding(node.chunk(), tmp_path / "sub" / "codes.h5")
    with h5py.File(path) as file:
        assert file["stimulus"].asstr()[:].tolist() == node["stimulus"].values.tolist()
        np.testing.assert_array_equal(file["embedding"][:], node["embedding"].values)
        assert file["embedding"].attrs["units"] == "1"
    assert [p.name for p in path.parent.iterdir()] == ["codes.h5"]


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"task": "two words"}, ConfigError, "letters and digits"),
        ({"format": "gdf"}, ConfigError, "brainvision, edf"),
    ],
)
def test_settings_that_bids_does_not_know(voltage, tmp_path, change, error, said):
    with pytest.raises(error, match=said):
        write_bids(voltage, tmp_path / "t", **{"task": "words", **change})


def test_nodes_that_bids_cannot_hold_are_refused(voltage, bold, tmp_path):
    def refused(recording, said, **settings):
        with pytest.raises(SchemaError, match=said):
            write_bids(recording, tmp_path / "t", task="words", **settings)

    both = voltage.copy()
    both["bold"] = bold["bold"].copy()
    refused(both, "one of bold and ieeg")
    clock = {"time": ("time", [0.0], {"units": "s"})}
    sensed = bold.copy()
    sensed["ephys/probe"] = xr.DataTree(
        xr.Dataset({"voltage": (("time", "channel"), [[1.0]], {"units": "V"})}, clock)
    )
    refused(sensed, "cannot write ephys/probe")
    moved = bold.copy()
    moved["behavior/place"] = xr.DataTree(
        xr.Dataset({"place": (("time", "axis"), [[1.0, 2.0]], {"units": "m"})}, clock)
    )
    refused(moved, r"behavior/place/place: .* expected numbers \(time\)")
    gap = voltage.copy()
    del gap["behavior"]
    time = gap["ieeg/time"].values.copy()
    time[300:2000] += 0.3
    gap["ieeg"] = xr.DataTree(
        gap["ieeg"].to_dataset().assign_coords(time=("time", time, {"units": "s"}))
    )
    del gap["runs"], gap["intervals"]
    gap["ieeg"] = xr.DataTree(gap["ieeg"].to_dataset()[{"time": slice(0, 1500)}])
    refused(gap, "samples span")
    nan = voltage.copy(deep=True)
    nan["ieeg/voltage"].values[5, 2] = np.nan
    refused(nan, "EDF cannot hold", format="edf")
    tab = voltage.copy(deep=True)
    tab["intervals/events/trial_type"].values[0] = "a\tb"
    refused(tab, "without tabs")
