"""Pictures of stimuli go to a folder of image files and come back as they were, lazily."""

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from made_nifti import save, volumes
from PIL import Image

from neuropipe.errors import ReaderError, SchemaError
from neuropipe.io.bids_write import write_bids
from neuropipe.io.bold import read
from neuropipe.io.pictures import read_pictures, write_pictures
from neuropipe.schema import validate


def made(n=5, size=(6, 8)):
    frames = np.random.default_rng(0).integers(0, 255, (n, *size, 3)).astype(np.uint8)
    names = np.array([f"scene{i}" for i in range(n)], object)
    return xr.Dataset(
        {"frame_color": (("frame", "y", "x", "color"), frames, {"units": "1"})},
        {"stimulus": ("frame", names, {"units": ""})},
    )


def test_a_tree_keeps_them(tmp_path):
    recording = read(save(tmp_path / "a.nii", volumes()))
    recording["stimulus/pictures"] = xr.DataTree(made())
    files = write_bids(recording, tmp_path / "tree", task="look")
    again = read(files[0], pictures="stimuli/pictures")
    validate(again, "stimulus/pictures")
    node = again["stimulus/pictures"].to_dataset()
    assert isinstance(node["frame_color"].data, da.Array)
    np.testing.assert_array_equal(node["frame_color"].values, made()["frame_color"].values)
    assert node["stimulus"].values.tolist() == made()["stimulus"].values.tolist()
    with pytest.raises(ReaderError, match="found no folder, expected what option pictures names"):
        read(files[0], pictures="stimuli/none")


def test_folders_that_cannot_be_read(tmp_path):
    with pytest.raises(ReaderError, match="found no image"):
        read_pictures(tmp_path)
    write_pictures(made(), tmp_path)
    Image.new("RGB", (3, 3)).save(tmp_path / "small.png")
    with pytest.raises(ReaderError, match=r"small\.png: found \(3, 3\) pixels, expected \(6, 8\)"):
        read_pictures(tmp_path)["frame_color"].values  # noqa: B018
    (tmp_path / "small.png").write_bytes(b"nothing")
    with pytest.raises(ReaderError, match=r"small\.png: found no image"):
        read_pictures(tmp_path)["frame_color"].compute()
    (tmp_path / "scene1.jpg").write_bytes(b"")
    with pytest.raises(ReaderError, match="two images are called 'scene1'"):
        read_pictures(tmp_path)


def test_nodes_that_cannot_be_written(tmp_path):
    with pytest.raises(SchemaError, match="expected frame_color of whole numbers"):
        write_pictures(made().drop_vars("frame_color"), tmp_path)
    named = made().assign_coords(stimulus=("frame", np.array(["../a", *"bcde"], object)))
    with pytest.raises(SchemaError, match="names that a file can have"):
        write_pictures(named, tmp_path)
