"""The examples of the documentation do what they say on the recordings that they name."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from neuropipe.io.manifest import read_manifest
from neuropipe.io.nwb import read
from neuropipe.io.survey import write_manifests

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


@pytest.mark.data
def test_the_w_maze_becomes_nwb_and_a_manifest(shared_data, tmp_path):
    folder = shared_data / "rat_wmaze"
    if not folder.is_dir():
        pytest.skip(f"no {folder.name} among the recordings")
    example = runpy.run_path(str(EXAMPLES / "rat_wmaze_to_nwb.py"))
    example["convert"](folder, tmp_path / "w.nwb")
    recording = read(tmp_path / "w.nwb")
    assert recording["units"].sizes["unit"] == 25
    assert recording["spikes"].sizes["spike"] == 518_352
    track = recording["behavior/position"].to_dataset()
    assert track["x"].attrs["units"] == "pixels"
    rate_hz = 1 / np.median(np.diff(track["time"].values))
    assert rate_hz == pytest.approx(60, rel=0.01)
    [page] = write_manifests(tmp_path, tmp_path, "wmaze")
    assert {"spikes", "units", "behavior/position"} <= set(read_manifest(page).nodes)
