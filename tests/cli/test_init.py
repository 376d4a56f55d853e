"""A folder of somebody's own becomes a study that can run, with one command."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from scipy.io import savemat

from neuropipe.config import read_study

ROOT = Path(__file__).parents[2]
FOLDERS = {
    "gripforce_bids": set(),
    "haxby2001_bids": {"mindbridge"},
    "ieeg_hfo_bids": set(),
    "nwb_human_mtl": {"hmm_glm"},
    "songbird_hvc": {"ntf_connectome"},
    "rat_wmaze": {"hmm_glm"},
}


@pytest.fixture
def songs(tmp_path):
    """A folder with traces in a MATLAB file, and beside them what is no recording."""
    folder = tmp_path / "songs"
    folder.mkdir()
    noise = np.random.default_rng(1)
    savemat(folder / "bird.mat", {"NEURAL": noise.random((6, 120)), "SONG": noise.random((9, 800)),
                                  "FPS_rate": 30.0, "SONGfs": 200.0})  # fmt: skip
    (folder / "README.txt").write_text("who knows\n")
    return folder


def test_arrays_that_speak_for_themselves_become_a_study(neuropipe, songs, capsys, caplog):
    study = songs.parent / "study"
    caplog.clear()
    assert neuropipe("init", songs, "--output", study) == 0
    assert "README.txt" not in caplog.text
    said = capsys.readouterr().out
    assert "ntf_connectome suits" in said
    assert "du_in does not suit: it needs intracranial voltages" in said
    text = (study / "config.yaml").read_text()
    assert "# Plan: " in text
    page = yaml.safe_load((study / "data_manifests" / "songs.yaml").read_text())
    calcium = page["options"]["nodes"]["calcium/neural"]
    assert (calcium["dims"], calcium["rate"]) == (["roi", "time"], "FPS_rate")
    assert page["options"]["nodes"]["behavior/song"]["rate"] == "SONGfs"
    assert neuropipe("config", "validate", study / "config.yaml") == 0
    assert "valid; 1 data set of 1 session, 1 run, 12 fits" in capsys.readouterr().out


def test_time_first_in_hdf5_is_seen(neuropipe, tmp_path):
    folder = tmp_path / "cells"
    folder.mkdir()
    with h5py.File(folder / "a.h5", "w") as file:
        file["traces/dff"] = np.random.default_rng(1).random((300, 5))
        file["rate_hz"] = 10.0
    study = tmp_path / "study"
    assert neuropipe("init", folder, "--output", study, "--name", "Cells 1") == 0
    page = yaml.safe_load((study / "data_manifests" / "cells_1.yaml").read_text())
    assert page["options"]["nodes"]["calcium/traces_dff"]["dims"] == ["time", "roi"]


def test_commands_hold_wherever_they_are_read(neuropipe, songs, capsys, monkeypatch):
    monkeypatch.chdir(songs.parent)
    assert neuropipe("init", songs, "--output", "study") == 0
    said = capsys.readouterr().out
    assert "in the clone" in said
    assert f"--directory {songs.parent / 'study'} --configfile" in said
    assert f"the report will be {songs.parent / 'study' / 'results'}" in said


def test_what_is_there_is_never_overwritten(neuropipe, refused, songs):
    study = songs.parent / "study"
    assert neuropipe("init", songs, "--output", study) == 0
    assert "is there already" in refused("init", songs, "--output", study)


def test_arrays_that_say_nothing_are_listed(refused, tmp_path):
    folder = tmp_path / "odd"
    folder.mkdir()
    savemat(folder / "odd.mat", {"a": np.zeros((3, 200)), "b": np.zeros((4, 90))})
    said = refused("init", folder, "--output", tmp_path / "study")
    assert "odd.mat holds a: 3 x 200; b: 4 x 90" in said
    assert "docs/own_data.md" in said
    assert not (tmp_path / "study" / "config.yaml").exists()


def test_show_fills_in_the_defaults(study, neuropipe, refused, capsys, tmp_path):
    config = tmp_path / "c.yaml"
    run = {"model": "hmm_glm", "dataset": "tiny", "seed": 1, "parameters": {"n_states": 2},
           "split": {"by": "trial", "folds": 2}, "baselines": ["poisson_glm"]}  # fmt: skip
    data = {"tiny": {"manifest": str(study.page)}}
    config.write_text(yaml.safe_dump({"study": "s", "datasets": data, "runs": {"r": run}}))
    assert neuropipe("config", "show", config) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown["runs"]["r"]["parameters"]["n_states"] == 2
    assert shown["runs"]["r"]["parameters"]["history_bins"] == 5
    assert "history_bins" in shown["runs"]["r"]["baselines"]["poisson_glm"]
    assert shown["datasets"]["tiny"]["sessions"] == "all"
    # what is shown is itself a configuration, and says the same
    config.with_name("again.yaml").write_text(yaml.safe_dump(shown))
    assert neuropipe("config", "show", config.with_name("again.yaml")) == 0
    assert yaml.safe_load(capsys.readouterr().out) == shown
    assert "did you mean 'r'" in refused("config", "show", config, "--run", "rr")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sessions": ["s2"]}, "no session 's2'"),
        ({"preprocess": [{"step": "bin_spike"}]}, "did you mean 'bin_spikes'"),
        ({"manifest": "nowhere.yaml"}, "no such manifest"),
    ],
)
def test_validate_refuses_what_no_run_could_do(study, refused, tmp_path, change, said):
    config = tmp_path / "c.yaml"
    data = {"tiny": {"manifest": str(study.page)} | change}
    config.write_text(yaml.safe_dump({"study": "s", "datasets": data}))
    assert said in refused("config", "validate", config)


@pytest.mark.data
@pytest.mark.filterwarnings("ignore")  # what readers say of other laboratories' files
@pytest.mark.parametrize("name", FOLDERS)
def test_every_folder_becomes_a_study_whose_dry_run_passes(neuropipe, shared_data, tmp_path, name):
    folder = shared_data / name
    if not folder.is_dir():
        pytest.skip(f"no {name} among the recordings")
    if name == "rat_wmaze":  # nested cells and a binary track: NWB first, as the docs say
        script = ROOT / "docs" / "examples" / "rat_wmaze_to_nwb.py"
        (tmp_path / "nwb").mkdir()
        subprocess.run([sys.executable, script, folder, tmp_path / "nwb" / "w.nwb"], check=True)
        folder = tmp_path / "nwb"
    place = tmp_path / "study"
    assert neuropipe("init", folder, "--output", place, "--name", name) == 0
    config = place / "config.yaml"
    assert {run.model for run in read_study(config).runs.values()} == FOLDERS[name]
    assert neuropipe("config", "validate", config) == 0
    words = ["snakemake", "--directory", place, "--configfile", config, "--cores", "1", "-n"]
    done = subprocess.run(
        [*words, "pipelines"], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "dry-run" in done.stdout + done.stderr
