"""Du-IN from recordings to labelled results: three stages, variants, subjects, kills."""

import numpy as np
import pytest
import torch
import xarray as xr
from planted_words import SMALL, TINY, only, relabelled, sides, words

from neuropipe.batching.windows import attach_windows
from neuropipe.config import build
from neuropipe.errors import ConfigError, DataError, NotFittedError
from neuropipe.models.du_in.config import Config, ScratchConfig
from neuropipe.models.du_in.estimator import DuIN, DuINFromScratch, DuINUnquantised
from neuropipe.schema import faults_of_dataset
from neuropipe.training.checkpoint import Checkpoint


@pytest.fixture(scope="module")
def planted():
    return words(3)


@pytest.fixture(scope="module")
def fitted(planted):
    train, _ = sides(planted[0])
    return DuIN(**TINY).fit([train], seed=5, device="cpu")


def test_three_stages_give_what_is_declared(planted, fitted):
    recording = planted[0]
    _, held = sides(recording)
    assert faults_of_dataset(fitted.parameters_, fitted.learns, "learns") == []
    out = fitted.transform(held)
    assert faults_of_dataset(out, fitted.writes, "writes") == []
    assert out.sizes == {"trial": 16, "class": 4, "window": 13, "token": 8}
    trials = recording["trials"].to_dataset()
    start, stop = (float(held["windows"][f"{end}_time"].values[0]) for end in ("start", "stop"))
    inside = (trials["start_time"].values >= start) & (trials["stop_time"].values <= stop)
    np.testing.assert_allclose(out["time"], trials["start_time"].values[inside], atol=1e-6)
    assert out["label"].values.tolist() == trials["trial_type"].values[inside].tolist()
    np.testing.assert_allclose(out["class_probability"].sum("class"), 1, rtol=1e-5)
    token = out["token_time"].values
    np.testing.assert_allclose(np.diff(token.ravel()), 0.1, atol=1e-6)
    assert token[0, 0] == pytest.approx(start + 0.05)
    assert token.max() < stop
    assert 0 <= out["code"].values.min() <= out["code"].values.max() < 8
    history = fitted.history_
    assert history.sizes == {"step": 2, "warm_step": 2, "units_step": 2, "masked_step": 2}
    for name in ("units_perplexity", "units_validation", "masked_accuracy", "validation"):
        assert np.isfinite(history[name].values).all()
    p = fitted.parameters_
    assert int(p["code_count"].sum()) == p.attrs["n_fitted_windows"] * 8
    assert int(p["confusion"].sum()) > 0
    assert p["contact_p"].values.min() > 0
    assert p["channel"].values.tolist() == recording["ieeg"]["channel"].values.tolist()


def test_scores_are_those_of_the_probabilities(planted, fitted):
    _, held = sides(planted[0])
    out, scores = fitted.transform(held), fitted.score(held)
    p, label = out["class_probability"].values, out["label"].values
    classes = out["class"].values
    assert scores["accuracy"] == np.mean(classes[p.argmax(1)] == label)
    own = p[np.arange(len(label)), [list(classes).index(v) for v in label]]
    assert scores["class_log_likelihood"] == pytest.approx(float(np.log(own).mean()), rel=1e-5)
    assert scores["chance_accuracy"] == pytest.approx(0.25)
    assert "top_5_accuracy" not in scores
    strange = relabelled(held, np.where(label == "word01", "other", label)[
        np.arange(planted[0]["trials"].sizes["trial"]) % len(label)])  # fmt: skip
    assert np.isfinite(fitted.score(strange)["class_log_likelihood"])


def test_saved_and_loaded_it_is_the_same(planted, fitted, tmp_path):
    _, held = sides(planted[0])
    fitted.save(tmp_path)
    again = DuIN.load(tmp_path)
    assert again.config == fitted.config
    xr.testing.assert_identical(again.transform(held), fitted.transform(held))
    assert again.score(held) == fitted.score(held)
    with pytest.raises(NotFittedError, match="call fit"):
        DuIN(**TINY).transform(held)
    with pytest.raises(NotFittedError, match="nothing to save"):
        DuIN(**TINY).save(tmp_path)


def test_the_seed_decides_and_held_out_data_change_nothing(planted, fitted):
    recording, _ = planted
    train, held = sides(recording)
    spoilt = train.copy()
    node = train["ieeg"].to_dataset().load().copy(deep=True)
    time = node["time"].values
    start, stop = (float(held["windows"][f"{end}_time"].values[0]) for end in ("start", "stop"))
    node["voltage"].values[(time >= start) & (time < stop - 1e-6)] += 1e-3
    spoilt["ieeg"] = xr.DataTree(node)
    torch.manual_seed(99)
    before = torch.random.get_rng_state()
    again = DuIN(**TINY).fit([spoilt], seed=5, device="cpu")
    assert torch.equal(before, torch.random.get_rng_state())
    xr.testing.assert_identical(again.parameters_, fitted.parameters_)
    other = DuIN(**TINY).fit([train], seed=6, device="cpu")
    assert not np.array_equal(other.parameters_["confusion"], fitted.parameters_["confusion"]) or (
        not np.array_equal(
            other.parameters_["contact_weight"], fitted.parameters_["contact_weight"]
        )
    )


class Killed(Exception):
    pass


def killed_in(stage: str):
    """Let progress be written at every step, and die in the middle of one stage."""
    put, left = Checkpoint.put, [3]

    def dying(self, name, state, *, done=False):
        put(self, name, state, done=done)
        if name == stage and not done:
            left[0] -= 1
            if not left[0]:
                raise Killed

    return dying


@pytest.mark.parametrize("stage", ["warm", "units", "masked", "decode"])
def test_killed_in_any_stage_it_ends_with_the_same_numbers(
    stage, planted, fitted, tmp_path, monkeypatch
):
    train, _ = sides(planted[0])
    path = tmp_path / "kept.pt"
    monkeypatch.setattr(Checkpoint, "due", lambda self: True)
    with monkeypatch.context() as dying:
        dying.setattr(Checkpoint, "put", killed_in(stage))
        with pytest.raises(Killed):
            DuIN(**TINY).fit([train], seed=5, device="cpu", checkpoint=path)
    again = DuIN(**TINY).fit([train], seed=5, device="cpu", checkpoint=path)
    xr.testing.assert_identical(again.parameters_, fitted.parameters_)
    xr.testing.assert_identical(
        again.history_.drop_attrs(), fitted.history_.drop_attrs()
    )  # seconds differ


@pytest.mark.parametrize("pretraining", ["units", "quantised"])
def test_variants_of_one_class(pretraining, planted, tmp_path):
    train, held = sides(planted[0])
    model = DuIN(**TINY, pretraining=pretraining, tune="head").fit([train], seed=1, device="cpu")
    assert "masked_objective" not in model.history_
    assert faults_of_dataset(model.parameters_, model.learns, "learns") == []
    model.save(tmp_path)
    assert DuIN.load(tmp_path).score(held) == model.score(held)


@pytest.mark.parametrize("kind", [DuINFromScratch, DuINUnquantised])
def test_variants_that_stand_beside_it(kind, planted, tmp_path):
    train, held = sides(planted[0])
    model = kind(**TINY).fit([train], seed=1, device="cpu")
    assert ("masked_objective" in model.history_) is (kind is DuINUnquantised)
    assert "code" not in model.transform(held)
    assert "code_count" not in model.parameters_
    model.save(tmp_path)
    assert kind.load(tmp_path).score(held) == model.score(held)


def test_the_head_alone_leaves_the_encoder_as_it_was(planted):
    train, _ = sides(planted[0])
    model = DuIN(**TINY, pretraining="units", tune="head").fit([train], seed=1, device="cpu")
    units, decoder = model._units.encoder.state_dict(), model._decoder.encoder.state_dict()
    assert all(torch.equal(units[name], decoder[name]) for name in units)


def test_two_subjects_share_all_but_their_contacts(planted):
    first, _ = planted
    second, _ = words(8)
    second = only(second, np.arange(6) < 4)
    second.attrs = {**second.attrs, "subject": "other", "session": "s2"}
    trains, helds = zip(*(sides(r) for r in (first, second)), strict=True)
    model = DuIN(**TINY).fit(trains, seed=2, device="cpu")
    p = model.parameters_
    assert p["subject"].values.tolist() == ["other"] * 4 + ["planted"] * 6
    assert p["contact_weight"].values[:4].max() == p["contact_weight"].values[4:].max() == 1
    weight = model._decoder.encoder.spatial.weight
    assert weight.shape == (2, 6, 4)
    for held in helds:
        assert np.isfinite(list(model.score(held).values())).all()
    alone = DuIN(**TINY).fit(trains[::-1], seed=2, device="cpu")
    xr.testing.assert_identical(alone.parameters_, p)


def test_few_labels_are_all_fitted_and_the_rest_is_unlabelled(planted):
    train, _ = sides(planted[0])
    labels = train["trials"]["trial_type"].values.copy()
    start = train["trials"]["start_time"].values
    begin, stop = (train["windows"][f"{end}_time"].values for end in ("start", "stop"))
    inside = ((start[:, None] >= begin) & (start[:, None] < stop)).any(1)
    labels[np.flatnonzero(inside)[:-8]] = "n/a"
    labels[np.flatnonzero(inside)[-4:]] = "n/a"
    model = DuINFromScratch(**TINY, judge_trials=False)
    model.fit([relabelled(train, labels)], seed=1, device="cpu")
    assert model.parameters_.attrs["n_fitted_trials"] == 4
    assert "contact_p" not in model.parameters_
    assert int(model.parameters_["confusion"].sum()) == 0


def test_split_by_trial_takes_windows_from_trials(planted):
    train, held = sides(planted[0], by="trial")
    model = DuIN(**{**TINY, "window_s": None}).fit([train], seed=1, device="cpu")
    assert model.transform(held).sizes["token"] == 8
    with pytest.raises(DataError, match="lower window_s, or split by run"):
        DuIN(**{**TINY, "window_s": 3.0}).fit([train], seed=1, device="cpu")
    empty = attach_windows(planted[0], [(0.0, 0.3)])
    out = model.transform(empty)
    assert out.sizes["trial"] == 0
    assert np.isnan(model.score(empty)["accuracy"])


def test_faithful_is_the_papers_schedule_and_sizes():
    c = build(Config, {"preset": "faithful", "units": {"epochs": 3}}, "here")
    assert (c.tokenizer, c.warm_epochs, c.revival, c.initial) == ("linear", 0, 0.0, "published")
    assert (c.units.epochs, c.units.batch_size, c.units.learning_rate) == (3, 64, 3e-4)
    assert c.masked.epochs * c.masked.warmup_share == 40
    assert c.decode.learning_rate * c.decode.final_share == pytest.approx(5e-6)
    assert not c.sigmoid
    assert (c.n_codes, c.code_dim, c.n_layers, c.filters) == (2048, 64, 8, (128, 128, 16))
    scratch = build(ScratchConfig, {"preset": "faithful"}, "here")
    assert (scratch.pretraining, scratch.decode.epochs) == ("none", 200)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"strides": (10, 1)}, "one number a layer"),
        ({"kernels": (18, 3, 3)}, "expected odd numbers"),
        ({"strides": (0, 1, 1)}, "numbers from 1"),
        ({"pretraining": "some"}, "pretraining"),
        ({"units": {"epoch": 3}}, "units.epoch"),
        ({"n_code": 3}, "did you mean 'n_codes'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, said):
    with pytest.raises(ConfigError, match=said):
        build(Config, settings, "here")


def test_a_patch_that_the_strides_do_not_fit_is_refused(planted):
    with pytest.raises(DataError, match="expected a multiple of all strides together, 10"):
        DuIN(**{**TINY, "patch_s": 0.103}).fit([planted[0]], seed=1, device="cpu")


def test_small_settings_are_valid():
    build(Config, SMALL, "here")
