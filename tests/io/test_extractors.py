"""Features of images: written so that the reader takes them, nothing fetched, nothing unpickled."""

import numpy as np
import pytest
from made_nifti import save, volumes
from PIL import Image

from neuropipe.errors import BackendUnavailable, ConfigError, ReaderError
from neuropipe.io.bold import read
from neuropipe.io.extractors import EXTRACTORS, extractor, write_embedding


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "images"
    made.mkdir()
    for i in range(40):
        Image.new("RGB", (20, 30), (6 * i, 6 * i, 6 * i)).save(made / f"scene{i:02d}.png")
    return made


def test_features_reach_a_recording(folder, tmp_path):
    path = write_embedding(folder, tmp_path / "e.h5", name="pixels", size=4)
    node = read(save(tmp_path / "a.nii", volumes()), embedding="e.h5")["embedding"]
    assert node["stimulus"].values[[0, 39]].tolist() == ["scene00", "scene39"]
    assert node["embedding"].shape == (40, 16)
    np.testing.assert_allclose(node["embedding"].values[:, 3], 6 * np.arange(40) / 255, rtol=1e-6)
    assert [p.name for p in tmp_path.glob("*e.h5*")] == [path.name]


def test_what_is_missing_is_named(folder, tmp_path):
    with pytest.raises(BackendUnavailable, match=r"'clip' lacks.*model\.safetensors"):
        write_embedding(folder, tmp_path / "e.h5", name="clip", weights=tmp_path)
    assert not (tmp_path / "e.h5").exists()
    with pytest.raises(ConfigError, match="known are pixels, clip"):
        extractor("vgg")
    assert all(callable(extractor(name)) for name in EXTRACTORS)


def test_folders_that_cannot_be_used(folder, tmp_path):
    with pytest.raises(ReaderError, match="found no image"):
        write_embedding(tmp_path, tmp_path / "e.h5", name="pixels")
    (folder / "scene05.jpg").write_bytes(b"nothing")
    with pytest.raises(ReaderError, match="two images are called 'scene05'"):
        write_embedding(folder, tmp_path / "e.h5", name="pixels")
    (folder / "scene05.jpg").rename(folder / "scene99.jpg")
    with pytest.raises(ReaderError, match=r"scene99\.jpg: found no image"):
        write_embedding(folder, tmp_path / "e.h5", name="pixels")
    assert not list(tmp_path.glob("*.h5*"))


def test_clip_runs_on_weights_that_are_there(folder, tmp_path):
    transformers = pytest.importorskip("transformers", reason="CLIP needs transformers")
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
             "num_attention_heads": 2, "image_size": 32, "patch_size": 16,
             "projection_dim": 8}  # fmt: skip
    model = transformers.CLIPVisionModelWithProjection(transformers.CLIPVisionConfig(**sizes))
    model.save_pretrained(tmp_path / "clip", safe_serialization=True)
    transformers.CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    ).save_pretrained(tmp_path / "clip")
    path = write_embedding(folder, tmp_path / "e.h5", name="clip", weights=tmp_path / "clip")
    node = read(save(tmp_path / "a.nii", volumes()), embedding=str(path))["embedding"]
    assert node["embedding"].shape == (40, 8)
    assert np.isfinite(node["embedding"].values).all()
