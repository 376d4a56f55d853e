"""Signals beside a run: on its clock, in their units, out and in again; faults are told."""

import gzip
import json
import logging

import numpy as np
import pytest
import xarray as xr
from made_ieeg import signals, write_edf
from made_nifti import tree

from neuropipe.errors import SchemaError
from neuropipe.io import bold, ieeg
from neuropipe.io.bids_write import write_bids

STEM = "sub-01/func/sub-01_task-look_run-"


def physio(stem, columns, rate=50.0, start=0.0, suffix="physio", **said):
    """Write a table and its sidecar beside a run."""
    table = stem.with_name(f"{stem.name}_{suffix}.tsv.gz")
    rows = zip(*columns.values(), strict=True)
    text = "\n".join("\t".join("n/a" if np.isnan(v) else repr(float(v)) for v in r) for r in rows)
    table.write_bytes(gzip.compress((text + "\n").encode()))
    about = {"SamplingFrequency": rate, "StartTime": start, "Columns": list(columns), **said}
    table.with_name(f"{stem.name}_{suffix}.json").write_text(json.dumps(about))
    return table


def wave(n, seed=0):
    return np.random.default_rng(seed).normal(size=n)


def test_signals_lie_on_the_clock_of_their_run(tmp_path):
    folder = tree(tmp_path / "d", n_runs=2, n=10)  # 20 s a run
    pulse = [wave(1200, run) for run in (1, 2)]
    pulse[0][7] = np.nan
    for run in (1, 2):
        # from 2 s before the first volume to 2 s after the last one
        columns = {"cardiac": pulse[run - 1], "trigger": np.ones(1200)}
        physio(folder / f"{STEM}{run}", columns, start=-2.0, cardiac={"Units": "mV"})
    recording = bold.read(folder)
    node = recording["behavior/cardiac"]
    np.testing.assert_allclose(node["time"].values, np.arange(2000) / 50, atol=1e-9)
    expected = np.concatenate([p[100:1100] for p in pulse])
    np.testing.assert_array_equal(node["cardiac"].values, expected)
    assert node["cardiac"].attrs["units"] == "mV"
    assert recording["behavior/trigger/trigger"].attrs["units"] == "1"


def test_several_recordings_of_one_run_are_told_apart(tmp_path):
    folder = tree(tmp_path / "d", n_runs=1, n=10)
    for label, rate in (("pulse", 100.0), ("breath", 25.0)):
        n = int(20 * rate)
        stem = folder / f"{STEM}1_recording-{label}"
        physio(stem, {label: wave(n), "trigger": np.zeros(n)}, rate)
    physio(folder / f"{STEM}1", {"gaze": wave(200)}, 10.0, suffix="stim")
    names = set(bold.read(folder)["behavior"].children)
    assert names == {"pulse", "breath", "pulse_trigger", "breath_trigger", "gaze"}
    assert bold.read(folder)["behavior/breath/breath"].size == 500


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda t, j: j.write_text(json.dumps({"SamplingFrequency": 50})), "StartTime None"),
        (lambda t, j: j.unlink(), "SamplingFrequency None"),
        (lambda t, j: t.write_bytes(t.read_bytes()[:40]), "not a table in gzip"),
        (lambda t, j: t.write_bytes(gzip.compress(b"1\t2\n3\t4\n")), "found 2 columns"),
        (lambda t, j: t.write_bytes(gzip.compress(b"cardiac\n1\n2\n")), "and no header"),
    ],
)
def test_faults_leave_the_signal_out_and_are_told(tmp_path, caplog, spoil, told):
    folder = tree(tmp_path / "d", n_runs=1, n=10)
    table = physio(folder / f"{STEM}1", {"cardiac": wave(1000)})
    spoil(table, table.with_name(table.name.replace(".tsv.gz", ".json")))
    with caplog.at_level(logging.WARNING):
        recording = bold.read(folder)
    assert "behavior" not in recording.children
    assert recording["bold/bold"].sizes["time"] == 10
    assert told in caplog.text
    assert "left out" in caplog.text


def test_one_that_ends_early_is_told(tmp_path, caplog):
    folder = tree(tmp_path / "d", n_runs=1, n=10)
    physio(folder / f"{STEM}1", {"cardiac": wave(500)})
    with caplog.at_level(logging.WARNING):
        assert bold.read(folder)["behavior/cardiac/cardiac"].size == 500
    assert "ends 10.0 s before its run" in caplog.text


def test_it_comes_back_from_an_export(tmp_path):
    folder = tree(tmp_path / "d", n_runs=2, n=10)
    for run in (1, 2):
        columns = {"cardiac": wave(990, run)}
        physio(folder / f"{STEM}{run}", columns, start=0.1, cardiac={"Units": "mV"})
    first = bold.read(folder)
    files = write_bids(first, tmp_path / "out", task="look")
    assert len([f for f in files if f.name.endswith("_recording-cardiac_physio.tsv.gz")]) == 2
    again = bold.read(tmp_path / "out")
    one, two = (r["behavior/cardiac"].to_dataset() for r in (first, again))
    np.testing.assert_array_equal(one["cardiac"].values, two["cardiac"].values)
    np.testing.assert_allclose(one["time"].values, two["time"].values, atol=1e-6)
    assert two["cardiac"].attrs["units"] == "mV"
    gappy = one.isel(time=np.delete(np.arange(one.sizes["time"]), 50))
    first["behavior/cardiac"] = xr.DataTree(gappy)
    with pytest.raises(SchemaError, match="cardiac: samples are not equally far apart"):
        write_bids(first, tmp_path / "other", task="look")


def test_beside_voltages_it_keeps_its_clock(tmp_path):
    folder = tmp_path / "sub-01" / "ieeg"
    folder.mkdir(parents=True)
    (tmp_path / "dataset_description.json").write_text('{"Name": "made", "BIDSVersion": "1.9.0"}')
    write_edf(folder / "sub-01_task-rest_ieeg.edf", signals(seconds=8))
    physio(folder / "sub-01_task-rest", {"breath": wave(200)}, 25.0)
    recording = ieeg.read(tmp_path)
    assert recording["behavior/breath/breath"].size == 200
    files = write_bids(recording, tmp_path / "out", task="rest")
    assert any(f.name.endswith("_recording-breath_physio.tsv.gz") for f in files)
    again = ieeg.read(tmp_path / "out")
    np.testing.assert_array_equal(
        again["behavior/breath/breath"].values, recording["behavior/breath/breath"].values
    )
