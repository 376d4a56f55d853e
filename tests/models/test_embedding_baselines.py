"""The decoders beside MindBridge: chance, scikit-learn's ridge, shared responses of brains."""

import numpy as np
import pytest
import xarray as xr
from planted_brains import sessions
from shown_sessions import shown
from sklearn.linear_model import Ridge

from neuropipe.baselines import BASELINES
from neuropipe.batching.splits import make_splits
from neuropipe.batching.stimuli import StimulusSource, averaged, read_responses, read_training
from neuropipe.batching.windows import attach_windows
from neuropipe.errors import DataError, NotFittedError
from neuropipe.models import resolve

NAMES = ("mean_embedding", "subject_ridge", "shared_response", "hyperalignment")


@pytest.fixture(scope="module")
def brains():
    named = {r.attrs["session"]: r for r in sessions(n_shared=60, n_own=40)}
    fold = make_splits(named, by="stimulus", folds=3, seed=0)["folds"][0]
    return [
        [attach_windows(named[n], w) for n, w in fold[side].items()] for side in ("train", "test")
    ]


def fitted(name, brains, **settings):
    return resolve(name, BASELINES)(pool_size=10, **settings).fit(brains[0], seed=0)


def test_chance_is_chance_and_the_others_are_above(brains):
    chance = fitted("mean_embedding", brains).score(brains[1][0])
    assert chance["two_way_image"] == chance["two_way_text"] == 0.5
    assert chance["image_retrieval_top1"] == pytest.approx(0.1)
    assert chance["brain_retrieval_top5"] == pytest.approx(0.5)
    for name in NAMES[1:]:
        scores = [fitted(name, brains).score(r)["two_way_image"] for r in brains[1]]
        assert np.mean(scores) > 0.75


def test_ridge_of_components_is_the_ridge_of_all_features(brains):
    model = fitted("subject_ridge", brains)
    source = StimulusSource()
    subjects, codes = read_training(brains[0], source)
    first = subjects[0]
    rows, x, _ = averaged(first.response, first.row)
    unit = codes.image / np.linalg.norm(codes.image, axis=1, keepdims=True)
    alpha = float(model.parameters_["alpha"].values[0])
    theirs = Ridge(alpha=alpha).fit(x, unit[rows])
    held = brains[1][0]
    found = model.transform(held)
    z = first.scaling(read_responses(held, source))
    names = read_responses(held, source).stimulus
    mean = np.stack([z[names == n].mean(0) for n in found["stimulus"].values])
    np.testing.assert_allclose(found["predicted_image"], theirs.predict(mean), atol=1e-5)


def test_rotated_brains_are_aligned_on_what_they_share():
    """Two subjects with the same responses in other coordinates: alignment finds the rotation."""
    rng = np.random.default_rng(0)
    codes = {f"n{i}": rng.normal(size=8) for i in range(120)}
    mix = rng.normal(size=(8, 8))
    turn = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    made = []
    for s, own in (("a", range(0, 80)), ("b", range(40, 120))):
        names = [f"n{i}" for i in own]
        recording = shown(names, 8, subject=s, codes=codes)
        node = recording["betas"].to_dataset()
        response = np.stack([codes[n] for n in names]) @ mix @ (turn if s == "b" else np.eye(8))
        node["beta"] = (("trial", "voxel"), response.astype(np.float32), {"units": "%"})
        recording["betas"] = xr.DataTree(node)
        made.append(recording)
    for name in ("shared_response", "hyperalignment"):
        model = resolve(name, BASELINES)(pool_size=10, features=8, rounds=30)
        model.fit(made, seed=0)
        error = model.history_["objective"].values
        assert error[-1] <= error[0] + 1e-9
        assert error[-1] < 0.1  # z-scores differ after a rotation, so it is not zero


def test_kept_on_disk_they_say_the_same(brains, tmp_path):
    for name in NAMES:
        model = fitted(name, brains)
        folder = tmp_path / name
        folder.mkdir()
        model.save(folder)
        again = type(model).load(folder)
        assert again.config == model.config
        xr.testing.assert_identical(again.transform(brains[1][1]), model.transform(brains[1][1]))
        assert again.score(brains[1][1]) == model.score(brains[1][1])


def test_what_they_refuse(brains):
    alone = [shown(list("abcd"), subject="a"), shown(list("cdef"), subject="b")]
    with pytest.raises(DataError, match="2 subjects saw 2 stimuli in common in training"):
        resolve("shared_response", BASELINES)().fit(alone, seed=0)
    model = fitted("subject_ridge", brains)
    with pytest.raises(DataError, match="were in the training data"):
        model.score(brains[0][0])
    with pytest.raises(DataError, match="subject 'x' is not among s1, s2, s3"):
        model.transform(shown(list("abc"), subject="x"))
    held = brains[1][0].copy()
    node = held["embedding"].to_dataset()
    held["embedding"] = xr.DataTree(node.isel(feature=slice(0, 3)))
    with pytest.raises(DataError, match="stimuli have 3 image features, in training"):
        model.score(held)
    with pytest.raises(NotFittedError, match="call fit"):
        resolve("subject_ridge", BASELINES)().transform(brains[1][0])
