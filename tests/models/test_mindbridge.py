"""MindBridge on small planted brains: what it decodes, sends across, keeps and refuses."""

import numpy as np
import pytest
import torch
import xarray as xr
from planted_brains import sessions

from neuropipe.batching.splits import make_splits
from neuropipe.batching.windows import attach_windows
from neuropipe.config import build
from neuropipe.errors import ConfigError, DataError, NotFittedError, SchemaError
from neuropipe.models.mindbridge.config import Config
from neuropipe.models.mindbridge.estimator import MindBridge
from neuropipe.retrieval import structural_similarity
from neuropipe.training.checkpoint import Checkpoint

QUICK = {
    "hidden": 16, "adapter": 4, "common_size": 32, "pool_size": 10,
    "training": {"epochs": 4, "batch_size": 20}, "adaptation": {"epochs": 4, "batch_size": 20},
}  # fmt: skip
POOLED = {
    "preset": "faithful", "common_size": 20, "hidden": 16, "adapter": 4, "n_blocks": 2,
    "pool_size": 10, "training": {"epochs": 40, "batch_size": 20, "learning_rate": 3e-3},
    "adaptation": {"epochs": 20, "batch_size": 20, "learning_rate": 3e-3},
}  # fmt: skip


def sides(recordings, fold=0, folds=3):
    named = {r.attrs["session"]: r for r in recordings}
    splits = make_splits(named, by="stimulus", folds=folds, seed=0)["folds"][fold]
    return (
        [attach_windows(named[n], w) for n, w in splits["train"].items()],
        [attach_windows(named[n], w) for n, w in splits["test"].items()],
    )


@pytest.fixture(scope="module")
def brains():
    return sides(sessions())


@pytest.fixture(scope="module")
def fitted(brains):
    return MindBridge(**QUICK).fit(brains[0], seed=1)


def test_held_out_images_are_identified_in_every_subject(fitted, brains):
    for recording in brains[1]:
        scores = fitted.score(recording)
        assert scores["two_way_image"] > 0.85
        assert scores["two_way_text"] > 0.85
        assert scores["image_retrieval_top1"] > 0.3
        assert scores["brain_retrieval_top1"] > 0.3
        assert scores["image_retrieval_top5"] >= scores["image_retrieval_top1"]


def test_a_brain_that_saw_other_images_is_at_chance(fitted, brains):
    found = []
    for n, recording in enumerate(brains[1]):
        shuffled = recording.copy()
        node = recording["betas"].to_dataset().load().copy(deep=True)
        order = np.random.default_rng(n).permutation(node.sizes["trial"])
        node["beta"] = node["beta"].copy(data=node["beta"].values[order])
        shuffled["betas"] = xr.DataTree(node)
        found.append(fitted.score(shuffled)["two_way_image"])
    assert abs(np.mean(found) - 0.5) < 0.12


def test_estimates_carry_names_times_and_ways_through_other_brains(fitted, brains):
    held = brains[1][0]
    found = fitted.transform(held)
    assert found.sizes["feature"] == 16
    assert found.sizes["text_feature"] == 7
    assert len(set(found["stimulus"].values)) == found.sizes["trial"]
    assert set(found["n_repeats"].values) == {1, 2}
    alone = MindBridge(**{**QUICK, "average_repeats": False})
    alone.__dict__.update({k: v for k, v in vars(fitted).items() if k != "config"})
    single = alone.transform(held)
    assert single.sizes["trial"] == int(found["n_repeats"].sum())
    assert alone.score(held)["two_way_image"] <= fitted.score(held)["two_way_image"] + 0.02
    assert found["through"].values.tolist() == ["s1", "s2", "s3"]
    own, others = found["cycle_correlation"].values[:, 0], found["cycle_correlation"].values[:, 1:]
    assert own.mean() > 0.5
    assert others.mean() > 0.4
    assert found["transfer_two_way"].values[:, 1:].mean() > 0.8
    direct = fitted.score(held)["two_way_image"]
    assert found["transfer_two_way"].values[:, 0].mean() == pytest.approx(direct, abs=1e-6)


def test_synthesised_brain_activity_resembles_the_other_brains_own(fitted):
    """Both subjects saw the shared images, so what is synthesised can be compared."""
    recordings = sessions()
    names = [n for n in recordings[1]["betas/stimulus"].values if str(n).startswith("shared")]
    node = recordings[1]["betas"].to_dataset()
    beta = {n: node["beta"].values[node["stimulus"].values == n].mean(0) for n in set(names)}
    made = fitted.synthesize(recordings[0], "s2")
    assert made["synthesized_beta"].shape == (made.sizes["trial"], 30)
    at = [i for i, n in enumerate(made["stimulus"].values) if n in beta]
    real = np.stack([beta[made["stimulus"].values[i]] for i in at])
    fake = made["synthesized_beta"].values[at]
    z = [(x - x.mean(0)) / x.std(0) for x in (real, fake)]
    by_voxel = (z[0] * z[1]).mean(0)
    assert by_voxel.mean() > 0.35
    with pytest.raises(DataError, match="no builder of subject 'nobody'; there are those of s1"):
        fitted.synthesize(recordings[0], "nobody")


def test_what_was_learned_is_labelled(fitted):
    p = fitted.parameters_
    assert p["n_voxels"].values.tolist() == [40, 30, 25]
    for name in p["subject"].values:
        share = p["voxel_importance"].values[p["voxel_subject"].values == name]
        assert share.sum() == pytest.approx(1)
    assert fitted.history_["objective"].sizes["step"] == 4
    assert "validation" in fitted.history_
    assert {"soft_clip", "reconstruction", "cycle"} <= set(fitted.history_)


def test_a_loaded_fit_adapts_to_a_new_brain_from_few_trials(brains, fitted, tmp_path):
    train, held = brains
    source = MindBridge(**QUICK).fit(train[:2], seed=1)
    source.save(tmp_path)
    loaded = MindBridge.load(tmp_path)
    with pytest.raises(DataError, match="subject 's3' is not among s1, s2; call adapt"):
        loaded.score(held[2])
    few = attach_windows(train[2], train[2]["windows"].to_dataset()["start_time"].values[:24, None]
                         + [0, 2])  # fmt: skip
    adapted = loaded.adapt([few], seed=2, sources=train[:2])
    assert adapted.score(held[2])["two_way_image"] > 0.7
    for number in (0, 1):  # what was there before is as it was
        xr.testing.assert_identical(
            adapted.transform(held[number])["predicted_image"],
            loaded.transform(held[number])["predicted_image"],
        )
    again = loaded.adapt([few], seed=2, sources=train[:2])
    assert again.score(held[2]) == adapted.score(held[2])
    adapted.save(tmp_path)
    assert MindBridge.load(tmp_path).score(held[2]) == adapted.score(held[2])
    assert loaded.adapt([few], seed=2).score(held[2])["two_way_image"] > 0.65
    with pytest.raises(DataError, match="expected one that is not among s1, s2"):
        loaded.adapt([train[0]], seed=2)
    with pytest.raises(DataError, match="mode single has no shared part"):
        MindBridge(mode="single", **QUICK).fit(train[:2], seed=1).adapt([few], seed=2)
    with pytest.raises(DataError, match="held-out stimuli were in the training data"):
        adapted.score(few)
    assert not loaded._seen & {n for n in adapted._seen if n.startswith("own3")}
    assert any(n.startswith("own3") for n in adapted._seen)


def test_the_published_network_learns_and_its_builders_too(brains):
    model = MindBridge(**POOLED).fit(brains[0], seed=1)
    assert model.config.temperature == 0.005
    scores = [model.score(r)["two_way_image"] for r in brains[1]]
    assert np.mean(scores) > 0.75
    objective = model.history_["objective"].values
    assert objective[-1] < 0.9 * objective[0]
    assert model.history_["reconstruction"].values[-1] < model.history_["reconstruction"].values[0]
    made = model.synthesize(brains[1][0], "s3")
    assert made["synthesized_beta"].dims == ("trial", "bin")
    assert made.sizes["bin"] == 20
    adapted = (
        MindBridge(**POOLED)
        .fit(brains[0][:2], seed=1)
        .adapt([brains[0][2]], seed=1, sources=brains[0][:2])
    )
    assert adapted.score(brains[1][2])["two_way_image"] > 0.6


@pytest.mark.parametrize(
    "settings",
    [
        {"mode": "single"},
        {"mode": "naive", "aggregation": "average", "common_size": 20},
        {"aggregation": "resize", "common_size": 20, "head_rank": 8},
        {"start": ("random",)},
        {"mixco_share": 0.5, "synthetic_weight": 0.5, "mse_weight": 100.0, "cycle_pairs": "one"},
        {"repeats": "average", "validation_share": 0.0, "center": False, "temperature": 0.01},
        {"n_voxels": 15},
    ],
)
def test_every_mode_and_option_decodes_above_chance(settings, brains):
    learning = {"training": {"epochs": 15, "batch_size": 20, "learning_rate": 2e-3}}
    random = settings.get("start") == ("random",) or "aggregation" in settings
    given = {**QUICK, **settings, **(learning if random else {})}
    model = MindBridge(**given).fit(brains[0], seed=1)
    assert np.mean([model.score(r)["two_way_image"] for r in brains[1]]) > 0.65
    builds = settings.get("mode") != "single"
    assert ("cycle_correlation" in model.transform(brains[1][0])) == (
        builds and settings.get("mode") != "naive"
    )


def test_how_many_trials_a_new_brain_needs_is_tried_inside_the_training_data(brains):
    model = MindBridge(**QUICK, adaptation_trials=(24, 8)).fit(brains[0], seed=1)
    curve = model.parameters_["adaptation_two_way"]
    assert curve["n_stimuli"].values.tolist() == [8, 24]
    assert np.isfinite(curve).all()
    assert float(curve.sel(approach="adapted", n_stimuli=24)) > 0.65
    with pytest.raises(DataError, match=r"adaptation_trials: 50 of 5\d stimuli of subject s3"):
        MindBridge(**QUICK, adaptation_trials=(50,)).fit(brains[0], seed=1)


def test_pictures_are_retrieved_among_those_of_training(fitted, brains):
    recording = brains[1][0].copy()
    names = np.array(sorted({str(n) for n in recording["embedding/stimulus"].values}), object)
    frames = np.random.default_rng(0).integers(0, 255, (len(names), 16, 16, 3)).astype(np.uint8)
    recording["stimulus/pictures"] = xr.DataTree(
        xr.Dataset(
            {"frame_color": (("frame", "y", "x", "color"), frames, {"units": "1"})},
            {"stimulus": ("frame", names, {"units": ""})},
        )
    )
    scores = fitted.score(recording)
    assert -1 <= scores["pixel_correlation"] <= 1
    guess = fitted.transform(recording)
    center = fitted._center["image"]
    seen = [n for n in names if n in fitted._seen]
    table = recording["embedding"].to_dataset()
    at = {str(n): i for i, n in enumerate(table["stimulus"].values)}
    code = np.stack([table["embedding"].values[at[n]] for n in seen]).astype(float)
    code = code / np.linalg.norm(code, axis=1, keepdims=True) - center
    p = guess["predicted_image"].values.astype(float) - center
    nearest = [seen[i] for i in (p @ code.T / np.linalg.norm(code, axis=1)).argmax(1)]
    grey = {n: f / 255 @ [0.2989, 0.587, 0.114] for n, f in zip(names, frames, strict=True)}
    shown = guess["stimulus"].values
    expected = [
        structural_similarity(grey[a], grey[b]) for a, b in zip(shown, nearest, strict=True)
    ]
    assert scores["structural_similarity"] == pytest.approx(np.mean(expected))


class Killed(Exception):
    """Stands for a kill."""


def test_a_killed_fit_resumes_to_the_same_numbers(brains, tmp_path, monkeypatch):
    whole = MindBridge(**QUICK).fit(brains[0], seed=3)
    path = tmp_path / "fit.pt"
    put, calls = Checkpoint.put, []

    def dying(self, stage, state, *, done=False):
        put(self, stage, state, done=done)
        calls.append(stage)
        if len(calls) == 3:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "put", dying)
        patch.setattr(Checkpoint, "due", lambda self: True)
        with pytest.raises(Killed):
            MindBridge(**QUICK).fit(brains[0], seed=3, checkpoint=path)
    again = MindBridge(**QUICK).fit(brains[0], seed=3, checkpoint=path)
    xr.testing.assert_identical(again.parameters_, whole.parameters_)
    for recording in brains[1]:
        assert again.score(recording) == whole.score(recording)
    other = MindBridge(**QUICK).fit(brains[0], seed=4)
    assert other.score(brains[1][0]) != whole.score(brains[1][0])


def test_what_cannot_be_fitted_or_scored_is_refused(fitted, brains):
    train, held = brains
    with pytest.raises(DataError, match="held-out stimuli were in the training data"):
        fitted.score(train[0])
    allowed = MindBridge(**QUICK, shared_stimuli="allow")
    allowed.__dict__.update({k: v for k, v in vars(fitted).items() if k != "config"})
    assert allowed.score(train[0])["two_way_image"] > 0.9
    broken = train[0].copy()
    node = train[0]["betas"].to_dataset().load().copy(deep=True)
    node["beta"].values[3, 5] = np.nan
    broken["betas"] = xr.DataTree(node)
    with pytest.raises(DataError, match="betas/beta is NaN or constant in 1 of 40 voxels"):
        MindBridge(**QUICK).fit([broken], seed=1)
    bare = train[0].copy()
    del bare["embedding"]
    with pytest.raises(SchemaError, match="embedding: node missing"):
        MindBridge(**QUICK).fit([bare], seed=1)
    one = attach_windows(train[0], [train[0]["windows"].to_dataset()["start_time"].values[0]
                                    + np.array([0, 2])])  # fmt: skip
    with pytest.raises(DataError, match="1 different stimuli in training"):
        MindBridge(**QUICK).fit([one], seed=1)
    with pytest.raises(NotFittedError, match="call fit"):
        MindBridge().transform(held[0])
    with pytest.raises(NotFittedError, match="nothing to save"):
        MindBridge().save(None)
    with pytest.raises(NotFittedError, match="before adapt"):
        MindBridge().adapt([held[0]], seed=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "naive"}, "mode naive has no part of a subject's own"),
        ({"start": ("random", "ridge")}, "expected ridge, inversion or both, or random"),
        ({"adaptation_trials": (8, 8)}, "expected different numbers from 4 on"),
        ({"clip_weight": 0.0}, "nothing would be learned"),
        ({"temprature": 1}, "did you mean 'temperature'"),
        ({"training": {"epochs": 0}}, "training.epochs: Input should be greater than or equal"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        build(Config, settings, "config")


def test_the_faithful_preset_is_the_papers_and_can_be_overruled_in_part():
    config = Config(preset="faithful", hidden=64, training={"epochs": 3})
    assert (config.aggregation, config.mse_weight, config.hidden) == ("max", 1e4, 64)
    assert config.training.epochs == 3
    assert config.training.clip_norm == 1.0
    assert Config.model_validate_json(config.model_dump_json()) == config
    assert Config(training={"epochs": 3}).training.learning_rate == 3e-4


def test_random_numbers_of_others_change_nothing(brains):
    torch.manual_seed(5)
    a = MindBridge(**QUICK).fit(brains[0][:2], seed=3)
    torch.manual_seed(6)
    before = torch.get_rng_state()
    b = MindBridge(**QUICK).fit(brains[0][:2], seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    xr.testing.assert_identical(a.parameters_, b.parameters_)
