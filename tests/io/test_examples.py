"""The examples of the documentation do what they say on the recordings that they name."""

import os
import runpy
from pathlib import Path

import numpy as np
import pytest

from neuropipe.io.manifest import read_manifest
from neuropipe.io.nwb import read
from neuropipe.io.survey import write_manifests

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


@pytest.mark.data
def test_the_w_maze_becomes_nwb_and_a_manifest(tmp_path):
    if "NEUROPIPE_TEST_DATA" not in os.environ:
        pytest.skip("NEUROPIPE_TEST_DATA is not set: no recording to convert")
    folder = Path(os.environ["NEUROPIPE_TEST_DATA"]) / "rat_wmaze"
    if not folder.is_dir():
        pytest.skip(f"no recording in {folder.name}")
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
