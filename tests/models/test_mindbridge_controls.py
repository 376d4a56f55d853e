"""What MindBridge scores when brains say nothing, and what it learns of classes that recur."""

import numpy as np
import pytest
import xarray as xr
from planted_brains import sessions

from neuropipe.baselines import BASELINES
from neuropipe.batching.splits import make_splits
from neuropipe.batching.windows import attach_windows
from neuropipe.models import resolve
from neuropipe.models.mindbridge.estimator import MindBridge
from neuropipe.models.mindbridge.shuffled import ShuffledBridge

QUICK = {
    "hidden": 16, "adapter": 4, "common_size": 32, "pool_size": 10,
    "training": {"epochs": 4, "batch_size": 20}, "adaptation": {"epochs": 4, "batch_size": 20},
}  # fmt: skip


def sides(recordings, by="stimulus", folds=3):
    named = {r.attrs["session"]: r for r in recordings}
    fold = make_splits(named, by=by, folds=folds, seed=0)["folds"][0]
    return [
        [attach_windows(named[n], w) for n, w in fold[side].items()] for side in ("train", "test")
    ]


def test_shuffled_brains_are_at_chance():
    train, held = sides(sessions())
    found, true = [], []
    for seed in range(5):
        control = ShuffledBridge(**QUICK, adaptation_trials=(8,)).fit(train, seed=seed)
        assert "adaptation_two_way" not in control.parameters_
        found += [control.score(r)["two_way_image"] for r in held]
    model = MindBridge(**QUICK).fit(train, seed=0)
    true = [model.score(r)["two_way_image"] for r in held]
    assert abs(np.mean(found) - 0.5) < 0.06
    assert np.mean(true) > np.max(found)


def test_shuffling_keeps_what_was_shown_and_how_often():
    train, _ = sides(sessions())
    control = ShuffledBridge(**QUICK)
    dealt, codes = control._training(train, 1)
    plain, same = MindBridge(**QUICK)._training(train, 1)
    np.testing.assert_array_equal(codes.image, same.image)
    for a, b in zip(dealt, plain, strict=True):
        np.testing.assert_array_equal(a.response, b.response)
        assert (a.row != b.row).mean() > 0.8
        np.testing.assert_array_equal(np.sort(a.row), np.sort(b.row))


def classes(n_classes=6, n_trials=48, n_voxels=60, seed=0):
    """Sessions in which few classes come again and again, in three runs."""
    rng = np.random.default_rng(seed)
    [recording] = sessions(n_own=0, n_shared=n_trials // 2, voxels=(n_voxels,))
    node = recording["betas"].to_dataset().load()
    kind = np.tile(np.arange(n_classes), n_trials // n_classes)
    mean = 0.35 * rng.normal(size=(n_classes, n_voxels))
    # a direction that varies much within classes, which means over trials do not show
    loud = rng.normal(size=n_voxels) / 3
    beta = mean[kind] + rng.normal(size=(n_trials, n_voxels))
    beta += 8 * rng.normal(size=(n_trials, 1)) * loud
    names = np.array([f"class{k}" for k in kind], object)
    recording["betas"] = xr.DataTree(
        node.assign(
            beta=(("trial", "voxel"), beta.astype(np.float32), {"units": "%"}),
            stimulus=("trial", names, {"units": ""}),
        )
    )
    recording["embedding"] = xr.DataTree(
        xr.Dataset(
            {"embedding": (("stimulus", "feature"), np.eye(n_classes), {"units": "1"})},
            {"stimulus": ("stimulus", np.array(sorted(set(names)), object), {"units": ""})},
        )
    )
    del recording["text_embedding"]
    start = node["start_time"].values
    step = float(np.diff(start).min())
    edges = np.array([start[i * n_trials // 3] for i in range(3)] + [start[-1] + step])
    recording["runs"] = xr.DataTree(
        xr.Dataset(
            {
                "run_label": ("run", np.array(["1", "2", "3"], object), {"units": ""}),
                "start_time": ("run", edges[:-1], {"units": "s"}),
                "stop_time": ("run", edges[1:], {"units": "s"}),
            }
        )
    )
    return recording


@pytest.mark.parametrize("name", ["mindbridge", "subject_ridge"])
def test_classes_that_recur_are_better_learned_from_trials(name):
    settings = {"shared_stimuli": "allow", "pool_size": 6}
    if name == "mindbridge":
        settings = {**QUICK, **settings, "mode": "single"}
    found = {}
    for samples in ("stimulus", "trial"):
        scores = []
        for seed in range(4):
            train, held = sides([classes(seed=seed)], by="run")
            make = MindBridge if name == "mindbridge" else resolve(name, BASELINES)
            model = make(**settings, samples=samples).fit(train, seed=1)
            scores.append(model.score(held[0])["two_way_image"])
        found[samples] = np.mean(scores)
    assert found["trial"] > found["stimulus"] + 0.05
    assert found["trial"] > 0.75
