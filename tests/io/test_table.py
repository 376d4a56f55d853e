"""Plain tables and arrays by a declared mapping: what is declared comes out, faults are told."""

import dask
import h5py
import numpy as np
import pytest
import scipy.io

from neuropipe.errors import ConfigError, ManifestError, ReaderError
from neuropipe.io.manifest import read_manifest
from neuropipe.io.store import open_recording, write
from neuropipe.io.survey import write_manifests
from neuropipe.io.table import read

FRAMES = np.arange(12.0).reshape(3, 4)  # (roi, time)
NEURAL = {"variable": "fluorescence", "array": "NEURAL", "dims": ["roi", "time"], "units": "1"}


def mat5(path, **more):
    scipy.io.savemat(path, {"NEURAL": FRAMES, "fs": np.uint8(30), **more})
    return path


def mat73(path):
    """Write as MATLAB does since 7.3: dims reversed, text as numbers, cells as references."""
    with h5py.File(path, "w") as file:
        file["NEURAL"] = FRAMES.T
        file["fs"] = np.array([[30.0]])
        file["data/place"] = np.arange(4.0)[:, None]
        cell = file.create_dataset("names", (3, 1), dtype=h5py.ref_dtype)
        trains = file.create_dataset("trains", (2, 1), dtype=h5py.ref_dtype)
        for i, name in enumerate(["a1", "b", "é"]):
            text = np.frombuffer(name.encode("utf-16-le"), "<u2")[:, None]
            file[f"#refs#/{i}"] = text
            file[f"#refs#/{i}"].attrs["MATLAB_class"] = np.bytes_("char")
            cell[i, 0] = file[f"#refs#/{i}"].ref
        for i, times in enumerate([[0.3, 0.1], [0.2]]):
            file[f"#refs#/t{i}"] = np.array(times)[:, None]
            trains[i, 0] = file[f"#refs#/t{i}"].ref
    return path


@pytest.mark.parametrize("make", [mat5, mat73])
def test_both_kinds_of_matlab_file_agree(make, tmp_path):
    path = make(tmp_path / "a.mat")
    recording = read(path, nodes={"calcium/hvc": {**NEURAL, "rate": "fs", "start_s": 2.0}})
    node = recording["calcium/hvc"]
    assert node["fluorescence"].dims == ("time", "roi")
    np.testing.assert_array_equal(node["fluorescence"].values, FRAMES.T)
    np.testing.assert_allclose(node["time"].values, 2 + np.arange(4) / 30)
    assert node.attrs["sampling_rate_hz"] == 30
    assert dask.is_dask_collection(node["fluorescence"].data)


@pytest.mark.parametrize("kind", ["5", "7.3"])
def test_cells_of_names_and_of_spike_trains(kind, tmp_path):
    path = tmp_path / "a.mat"
    if kind == "7.3":
        mat73(path)
    else:
        cells = np.empty((2, 1), dtype=object)
        cells[0, 0], cells[1, 0] = np.array([[0.3, 0.1]]), np.array([[0.2]])
        mat5(path, names=np.array(["a1", "b", "é"], dtype=object), trains=cells)
    recording = read(
        path,
        nodes={
            "calcium/hvc": {**NEURAL, "rate_hz": 30, "coords": {"roi": "names"}},
            "spikes": {"trains": {"array": "trains", "units": "s"}},
        },
    )
    assert recording["calcium/hvc/roi"].values.tolist() == ["a1", "b", "é"]
    np.testing.assert_allclose(recording["spikes/spike_time"], [0.1, 0.3, 0.2])
    assert recording["spikes/unit_index"].values.tolist() == [0, 0, 1]


def test_fields_of_structures_and_whole_numbers(tmp_path):
    trials = {"on": np.array([1000.0, 2000.0]), "off": np.array([1500.0, 2500.0]),
              "side": np.array(["left", "right"], dtype=object)}  # fmt: skip
    path = mat5(tmp_path / "a.mat", data={"trials": trials})
    mapping = {
        "trials": {
            "variables": {
                "start_time": {"array": "data.trials.on", "units": "ms"},
                "stop_time": {"array": "data.trials.off", "units": "ms"},
                "condition": "data.trials.side",
            }
        }
    }
    trials = read(path, nodes=mapping)["trials"]
    assert trials["start_time"].values.tolist() == [1.0, 2.0]
    assert trials["condition"].values.tolist() == ["left", "right"]
    assert trials["start_time"].attrs["units"] == "s"


def test_hdf5_stays_on_disk_and_cuts_time(tmp_path):
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["g/raw"] = np.arange(6, dtype=np.int16).reshape(2, 3)
        file["g/t"] = np.array([0, 10, 30])
        file["g/names"] = np.array(["A", "B"], dtype=object)
    mapping = {
        "ieeg": {
            "variables": {
                "voltage": {
                    "array": "g/raw",
                    "dims": ["channel", "time"],
                    "units": "uV",
                    "factor": 0.5,
                }
            },
            "coords": {"channel": "g/names"},
            "time": {"array": "g/t", "units": "ms"},
            "attrs": {"sampling_rate_hz": 1000.0},
        }
    }
    node = read(path, nodes=mapping)["ieeg"]
    np.testing.assert_allclose(node["voltage"].values, np.arange(6).reshape(2, 3).T * 0.5e-6)
    np.testing.assert_allclose(node["time"].values, [0, 0.01, 0.03])
    assert node["voltage"].dtype == np.float32
    assert node["voltage"].attrs["units"] == "V"
    assert node["channel"].values.tolist() == ["A", "B"]


def test_long_files_are_cut_along_time_only(tmp_path, monkeypatch):
    monkeypatch.setattr("neuropipe.io.store.CHUNK_BYTES", 64)
    monkeypatch.setattr("neuropipe.io.store.SHARD_BYTES", 256)
    path = tmp_path / "a.h5"
    data = np.random.default_rng(0).normal(size=(4, 100))
    with h5py.File(path, "w") as file:
        file["NEURAL"] = data
    recording = read(path, nodes={"calcium/a": {**NEURAL, "rate_hz": 10.0}})
    found = recording["calcium/a/fluorescence"]
    assert found.data.numblocks[0] > 5
    assert found.data.numblocks[1] == 1
    np.testing.assert_array_equal(found.values, data.T)
    write(recording, tmp_path / "a.zarr")
    np.testing.assert_array_equal(
        open_recording(tmp_path / "a.zarr")["calcium/a/fluorescence"].values, data.T
    )


def test_columns_of_a_table_become_rois(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("frame_s,cell_2,cell_10,note\n0.0,1,2,x\n0.5,3,n/a,\n")
    mapping = {
        "calcium/ca1": {"variable": "dff", "array": "cell_*", "dims": ["time", "roi"],
                        "units": "%", "time": {"array": "frame_s", "units": "s"}},
        "behavior/note": {"variable": "note", "array": "note", "time": {"array": "frame_s",
                                                                       "units": "s"}},
    }  # fmt: skip
    recording = read(path, nodes=mapping)
    np.testing.assert_allclose(recording["calcium/ca1/dff"], [[0.01, 0.02], [0.03, np.nan]])
    assert recording["calcium/ca1/roi"].values.tolist() == ["cell_2", "cell_10"]
    assert recording["behavior/note/note"].values.tolist() == ["x", ""]


def test_spikes_of_named_units_and_a_table_of_units(tmp_path):
    (tmp_path / "spikes.csv").write_text("cell,t\nB,2\nA,3\nB,1\n")
    (tmp_path / "cells.tsv").write_text("name\tarea\nA\tHVC\nC\tRA\nB\tHVC\n")
    spikes = {"file": "spikes*", "unit": "cell", "time": {"array": "t", "units": "ms"}}
    both = [tmp_path / "spikes.csv", tmp_path / "cells.tsv"]
    recording = read(both, nodes={"spikes": spikes})
    assert recording["units/unit_name"].values.tolist() == ["A", "B"]
    np.testing.assert_allclose(recording["spikes/spike_time"], [0.003, 0.001, 0.002])
    with pytest.raises(ConfigError, match=r"units: the catalogue wants unit"):
        read(both, nodes={"spikes": spikes, "units": {"file": "*.tsv", "variables": {"region":
             "area"}}})  # fmt: skip
    (tmp_path / "cells.tsv").write_text("id\tname\tarea\n7\tA\tHVC\n9\tC\tRA\n8\tB\tHVC\n")
    unit = {"unit": {"array": "id", "units": "1"}, "unit_name": "name", "region": "area"}
    units = {"file": "*.tsv", "variables": unit}
    recording = read(tmp_path, nodes={"spikes": spikes, "units": units})
    assert recording["spikes/unit_index"].values.tolist() == [0, 2, 2]
    assert recording["units/unit"].values.tolist() == [7, 9, 8]
    (tmp_path / "cells.tsv").write_text("id\tname\tarea\n7\tA\tHVC\n")
    with pytest.raises(ReaderError, match=r"found no unit 'B' \(1 of 2"):
        read(tmp_path, nodes={"spikes": spikes, "units": units})


WRONG = {
    "key": ({"rate_hz": 1, "unitz": "1"}, r"calcium/a: unitz: unknown key 'unitz'; did you mean"),
    "deep key": ({"time": {"array": "t", "unit": "s"}}, r"time\.unit: unknown key 'unit'; did you"),
    "array": ({"array": "NEURA", "rate_hz": 1}, r"no array .NEURA.; did you mean .NEURAL"),
    "no clock": ({}, r"found no clock, expected one of rate_hz"),
    "two clocks": ({"rate_hz": 1, "rate": "fs"}, r"found rate_hz and rate, expected one"),
    "rate": ({"rate": "NEURAL"}, r"rate: array 'NEURAL' holds \[0.0, .*rate_hz: <number>"),
    "rate below 0": ({"rate_hz": -1}, r"rate_hz: found -1"),
    "no units": ({"units": None, "rate_hz": 1}, r"units are missing; write units"),
    "no dims": ({"dims": [], "rate_hz": 1}, r"dims are missing.*dims: \[time, roi\]"),
    "other dims": ({"dims": ["cell", "time"], "rate_hz": 1}, r"dims .*expected.*roi"),
    "shape": ({"array": "deep", "rate_hz": 1}, r"shape \(2, 3, 4\), expected 2 dims"),
    "no time": ({"time": {"array": "t"}}, r"time: units None, expected one of s, ms"),
    "other length": ({"time": {"array": "fs", "units": "s"}}, r"found 1 times in 'fs', expected 4"),
    "step back": ({"time": {"array": "back", "units": "s"}}, r"step back to 0.5 s at sample 2"),
    "nan": ({"time": {"array": "gap", "units": "s"}}, r"found nan at sample 1"),
    "objects": ({"array": "cells", "rate_hz": 1}, r"holds objects"),
    "structure": ({"array": "data", "rate_hz": 1}, r"holds a structure with the fields x"),
    "file": ({"file": "*.csv", "rate_hz": 1}, r"'\*\.csv' fits 0 .*they are a\.mat"),
    "no variable": ({"variable": "", "rate_hz": 1}, r"which one is array.*fluorescence, dff"),
    "columns": ({"columns": ["a"], "rate_hz": 1}, r"columns and delimiter are for text tables"),
    "names": ({"rate_hz": 1, "coords": {"roi": "two"}}, r"found 2 along 'roi' in roi, expected 3"),
}


@pytest.mark.parametrize("more", WRONG)
def test_a_wrong_mapping_is_told(more, tmp_path):
    changes, message = WRONG[more]
    cells = np.empty((1, 2), dtype=object)
    cells[0, 0], cells[0, 1] = np.arange(3.0), np.arange(4.0)
    path = mat5(
        tmp_path / "a.mat", deep=np.zeros((2, 3, 4)), cells=cells, data={"x": 1.0},
        back=[0.0, 1.0, 0.5, 2.0], gap=[0.0, np.nan, 0.5, 2.0],
        two=np.array(["p", "q"], dtype=object),
    )  # fmt: skip
    with pytest.raises((ConfigError, ReaderError), match=message):
        read(path, nodes={"calcium/a": {**NEURAL, **changes}})


def test_nodes_that_are_not_in_the_catalogue(tmp_path):
    path = mat5(tmp_path / "a.mat")
    with pytest.raises(ConfigError, match=r"unknown node 'calcim/a'; did you mean 'calcium/\*'"):
        read(path, nodes={"calcim/a": NEURAL})
    with pytest.raises(ConfigError, match=r"'calcium'; a name of its own is missing"):
        read(path, nodes={"calcium": NEURAL})
    with pytest.raises(ConfigError, match=r"no mapping; .* a\.mat: NEURAL, fs"):
        read(path)
    with pytest.raises(ConfigError, match="found none"):
        read(path, nodes={})


@pytest.mark.parametrize("name", ["a.csv", "a.mat", "a.h5"])
def test_damaged_files_are_refused(name, tmp_path):
    bad = tmp_path / name
    bad.write_bytes(bytes(range(256)) * 8)
    with pytest.raises(ReaderError, match=r"a\.(csv|mat|h5).*found.*expected"):
        read(bad, nodes={"calcium/a": {**NEURAL, "rate_hz": 1}})


PAGE = """
title: a bird
licence: MIT
reader: table
nodes: [calcium/hvc, behavior/song, spikes]
options:
  nodes:
    calcium/hvc:
      {file: "*.mat", variable: fluorescence, array: NEURAL, dims: [roi, time], units: "1",
       rate: VIDEOfs}
    behavior/song:
      {file: "*.mat", variable: spectrogram, array: SONG, dims: [frequency, time], units: "1",
       rate: SONGfs}
    spikes:
      {file: songbird_spikes.txt, columns: [cell, time], unit: cell, time: {array: time, units: s}}
"""


@pytest.mark.data
def test_a_songbird_by_mapping_only(shared_data, tmp_path):
    """Calcium of HVC and song, from the authors' own file; facts of its README."""
    folder = shared_data / "songbird_hvc"
    files = [folder / name for name in ("MackeviciusData.mat", "songbird_spikes.txt")]
    if not all(file.is_file() for file in files):
        pytest.skip("no songbird_hvc among the recordings")
    (tmp_path / "bird.yaml").write_text(PAGE)
    (tmp_path / "bird.tsv").write_text(
        "session_id\tsubject\tpath\tbytes\tsha256\n" + f"s1\tb1\ta.mat\t1\t{'0' * 64}\n"
    )
    page = read_manifest(tmp_path / "bird.yaml")
    recording = read(files, session="s1", subject="b1", **page.options)
    neural, song = recording["calcium/hvc"], recording["behavior/song"]
    assert dict(neural["fluorescence"].sizes) == {"time": 666, "roi": 75}
    assert dict(song["spectrogram"].sizes) == {"time": 4440, "frequency": 141}
    np.testing.assert_allclose(neural["time"].values[-1], 665 / 30)
    np.testing.assert_allclose(song["time"].values[-1], 4439 / 200)
    truth = scipy.io.loadmat(files[0])
    np.testing.assert_array_equal(song["spectrogram"].values, truth["SONG"].T)
    text = np.loadtxt(files[1])
    assert recording["units"].sizes["unit"] == len(np.unique(text[:, 0])) == 74
    assert recording["spikes"].sizes["spike"] == len(text) == 3336
    assert text[:, 1].max() <= 22.2
    write(recording, tmp_path / "a.zarr")


def test_a_page_without_its_table_gets_one(tmp_path, caplog):
    (tmp_path / "birds").mkdir()
    mat5(tmp_path / "birds" / "a.mat", VIDEOfs=np.uint8(30))
    (tmp_path / "birds" / "other.csv").write_text("x,y\n1,2\n")
    page = tmp_path / "birds.yaml"
    with pytest.raises(ManifestError, match=r"write the page .*birds\.yaml first"):
        write_manifests(tmp_path / "birds", tmp_path)
    page.write_text(PAGE.split("    behavior/song:")[0].replace(", behavior/song, spikes", ""))
    caplog.set_level("INFO", logger="neuropipe")
    assert write_manifests(tmp_path / "birds", tmp_path) == [page]
    [line] = [r for r in caplog.records if "other.csv" in r.getMessage()]
    assert line.levelname == "INFO"
    assert "they hold no such arrays: other.csv" in line.getMessage()
    manifest = read_manifest(page)
    assert [(row.session_id, row.path) for row in manifest.rows] == [("a", "birds/a.mat")]
    with pytest.raises(ManifestError, match="is there already"):
        write_manifests(tmp_path / "birds", tmp_path)
    page.with_suffix(".tsv").unlink()
    page.write_text(page.read_text().replace("NEURAL", "NEURON"))
    with pytest.raises(ManifestError, match="found 2 files of arrays, none as"):
        write_manifests(tmp_path / "birds", tmp_path)


def test_names_that_the_file_lacks_are_numbers(tmp_path):
    path = mat5(tmp_path / "a.mat")
    signal = {"variable": "region_signal", "array": "NEURAL", "dims": ["region", "time"],
              "units": "1", "rate_hz": 1.0}  # fmt: skip
    with pytest.raises(ConfigError, match="region as well; declare its array, or name it under"):
        read(path, nodes={"regions": signal})
    with pytest.raises(ConfigError, match="numbered: found 'regio', expected a dim of"):
        read(path, nodes={"regions": {**signal, "numbered": ["region", "regio"]}})
    recording = read(path, nodes={"regions": {**signal, "numbered": ["region"]}})
    assert recording["regions/region"].values.tolist() == ["1", "2", "3"]


def test_a_matlab_file_that_crashes_scipy_is_an_error_here(tmp_path, monkeypatch):
    crash = tmp_path / "probe.py"
    crash.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.setattr("neuropipe.io.table_files.PROBE", crash)
    nodes = {"calcium/c": {**NEURAL, "rate_hz": 30.0}}
    with pytest.raises(ReaderError, match=r"a\.mat: opening it crashed scipy"):
        read(mat5(tmp_path / "a.mat"), nodes=nodes)
