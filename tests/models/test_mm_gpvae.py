"""The MM-GPVAE as users meet it: recovery, missing and odd data, clear errors, resumption."""

import numpy as np
import pytest
import xarray as xr
from planted_latents import WIDTH_S, Planted, session, trials

from neuropipe.batching.windows import attach_windows
from neuropipe.errors import ConfigError, DataError, NotFittedError
from neuropipe.models import resolve
from neuropipe.models.mm_gpvae.config import Config
from neuropipe.models.mm_gpvae.estimator import MMGPVAE
from neuropipe.models.mm_gpvae.model import MMGPVAENetwork
from neuropipe.models.mm_gpvae.simulate import Plan, draw, simulate
from neuropipe.models.mm_gpvae.starts import effective_share, length_scale
from neuropipe.models.mm_gpvae.unshared import UnsharedGPVAE
from neuropipe.preprocess import apply_steps
from neuropipe.schema import faults_of_dataset
from neuropipe.training.checkpoint import Checkpoint

SMALL = {"n_units": 12, "n_bins": 40, "n_channels": 5, "length_scale_bins": 6.0}
QUICK = {"n_restarts": 1, "training": {"epochs": 4, "batch_size": 6, "learning_rate": 0.02}}
SCORES = {"co_smoothing_bits_per_spike", "behavior_from_neural_r2",
          "neural_from_behavior_bits_per_spike", "behavior_r2"}  # fmt: skip


@pytest.fixture(scope="module")
def planted():
    return Planted(0, 20, 6, **SMALL)


@pytest.fixture(scope="module")
def quick(planted):
    return MMGPVAE(**QUICK).fit([planted.train], seed=1)


def test_planted_latents_are_found_and_told_apart():
    planted = Planted(0, 40, 20, n_units=40, n_channels=12)
    settings = {"epochs": 60, "batch_size": 20, "learning_rate": 0.02}
    model = MMGPVAE(training=settings).fit([planted.train], seed=0)
    for name, (span, own) in planted.recovery(model).items():
        assert span >= 0.93, name
        assert own >= 0.8, name
    length = model.parameters_["length_scale"].values / WIDTH_S
    np.testing.assert_allclose(length, 10, rtol=0.25)
    shares = model.parameters_["variance_explained"]
    # neural activity owes nothing to behaviour's own latent, and the other way round
    assert float(shares[0, 2]) == pytest.approx(0, abs=1e-6)
    assert float(shares[1, 1]) == pytest.approx(0, abs=1e-6)
    assert (shares.values[[0, 0, 1, 1], [0, 1, 0, 2]] > 0.1).all()
    scores = model.score(planted.test)
    assert set(scores) == SCORES
    assert scores["co_smoothing_bits_per_spike"] > 0.15
    assert scores["neural_from_behavior_bits_per_spike"] > 0.05
    assert scores["behavior_from_neural_r2"] > 0.15
    assert scores["behavior_r2"] > 0.7


def test_what_is_written_and_learned(planted, quick):
    estimates = quick.transform(planted.test)
    assert faults_of_dataset(estimates, quick.writes) == []
    assert faults_of_dataset(quick.parameters_, quick.learns) == []
    assert estimates["kind"].values.tolist() == ["shared", "neural", "behavior"]
    assert estimates["channel_unit"].values.tolist() == ["mm"] * 5
    assert estimates["window"].values.tolist() == np.repeat(np.arange(6), 40).tolist()
    np.testing.assert_allclose(estimates["time"], (np.arange(800, 1040) + 0.5) * WIDTH_S)
    rate = estimates["rate"].values
    assert (rate > 0).all()
    p = quick.parameters_
    assert p["neural_loading"].dims == ("unit", "latent")
    assert "behavior_loading" not in p  # its decoder is a network
    assert p["modality_weight"].values[0] == 1
    # rates are those of the loadings at the latents, the uncertainty of latents included
    z, sd = estimates["latent"].values, estimates["latent_sd"].values
    weight = p["neural_loading"].values
    eta = z @ weight.T + p["neural_offset"].values + 0.5 * sd**2 @ (weight**2).T
    np.testing.assert_allclose(rate, np.exp(eta) / WIDTH_S, rtol=1e-4)


def test_saved_and_loaded_it_gives_the_same(planted, quick, tmp_path):
    quick.save(tmp_path)
    again = MMGPVAE.load(tmp_path)
    assert again.config == quick.config
    xr.testing.assert_identical(again.transform(planted.test), quick.transform(planted.test))
    assert again.score(planted.test) == quick.score(planted.test)


def test_both_modalities_of_the_unshared_model_come_back(planted, tmp_path):
    model = UnsharedGPVAE(**QUICK).fit([planted.train], seed=1)
    model.save(tmp_path)
    again = UnsharedGPVAE.load(tmp_path)
    assert again.score(planted.test) == model.score(planted.test)
    estimates = again.transform(planted.test)
    assert faults_of_dataset(estimates, model.writes) == []
    assert faults_of_dataset(model.parameters_, model.learns) == []
    assert estimates["kind"].values.tolist() == ["neural"] * 2 + ["behavior"] * 2


def test_held_out_behaviour_changes_nothing_that_is_learned(planted, quick):
    changed = planted.recording.copy()
    node = changed["behavior"].to_dataset().copy(deep=True)
    node["joints"].values[20 * 40 :] += 50
    changed["behavior"] = xr.DataTree(node)
    again = MMGPVAE(**QUICK).fit([trials(changed, planted.lengths, 0, 20)], seed=1)
    xr.testing.assert_identical(again.parameters_, quick.parameters_)


def test_a_killed_fit_resumes_to_the_same_numbers(planted, tmp_path, monkeypatch):
    settings = {**QUICK, "n_restarts": 2, "try_latents": [(1, 1, 1), (1, 0, 0)]}
    whole = MMGPVAE(**settings).fit([planted.train], seed=2)
    monkeypatch.setattr("neuropipe.training.checkpoint.Checkpoint.put", killed_after(11))
    monkeypatch.setattr("neuropipe.training.checkpoint.Checkpoint.due", lambda self: True)
    with pytest.raises(KeyboardInterrupt):
        MMGPVAE(**settings).fit([planted.train], seed=2, checkpoint=tmp_path / "c.pt")
    monkeypatch.undo()
    again = MMGPVAE(**settings).fit([planted.train], seed=2, checkpoint=tmp_path / "c.pt")
    xr.testing.assert_identical(again.parameters_, whole.parameters_)
    xr.testing.assert_equal(again.history_, whole.history_)
    assert whole.parameters_["dimension"].values.tolist() == ["1-1-1", "1-0-0"]
    assert np.isfinite(whole.parameters_["dimension_score"]).all()


def killed_after(n):
    """Return a `Checkpoint.put` that stops the fit at its n-th call."""
    put, calls = Checkpoint.put, []

    def stop(self, stage, state, *, done=False):
        calls.append(stage)
        if len(calls) > n:
            raise KeyboardInterrupt
        put(self, stage, state, done=done)

    return stop


def test_trials_of_any_length_missing_bins_and_a_missing_modality():
    lengths = [40, 25, 33, 8, 40, 1, 40, 37]
    drawn = draw(Plan(n_trials=6, **{**SMALL, "n_bins": 40}), 3)
    count, behavior = (drawn[k].reshape(-1, drawn[k].shape[-1])[: sum(lengths)].copy()
                       for k in ("count", "behavior"))  # fmt: skip
    observed = np.ones(len(count), bool)
    observed[10:20] = False
    behavior[30:45] = np.nan
    behavior[50:60, 2] = np.nan
    recording = session(count, behavior, observed=observed)
    other = count.copy()
    other[10:20] = 60  # what stands in bins that were not recorded is never used
    fits = [
        MMGPVAE(**QUICK).fit([trials(r, lengths, 0, 6)], seed=0)
        for r in (recording, session(other, behavior, observed=observed))
    ]
    xr.testing.assert_identical(fits[0].parameters_, fits[1].parameters_)
    estimates = fits[0].transform(trials(recording, lengths, 0, None))
    assert estimates.sizes["time"] == sum(lengths)
    assert np.isfinite(estimates["behavior"]).all()
    # bins without data are less certain than those around them
    sd = estimates["latent_sd"].values
    assert sd[15, 1] > sd[25, 1]
    blind = session(count, np.full_like(behavior, np.nan), observed=observed)
    alone = fits[0].transform(trials(blind, lengths, 6, None))
    np.testing.assert_allclose(alone["latent"][:, 2], 0, atol=1e-6)
    assert (alone["latent_sd"][:, 0].values > estimates["latent_sd"][-77:, 0].values).all()


def test_pieces_of_a_long_window_are_the_whole_of_it(planted):
    count, behavior = planted.flat["count"], planted.flat["behavior"]
    recording = session(count[:1000], behavior[:1000])
    model = MMGPVAE(max_bins=300, length_scale_bins=6.0, **QUICK).fit([recording], seed=0)
    pieces = model.transform(recording)
    start = model._net.start._replace(n_bins=1000)
    whole = MMGPVAENetwork(model.config, (1, 1, 1), start).double().eval()
    whole.load_state_dict(model._net.state_dict())
    model._net = whole
    np.testing.assert_allclose(
        model.transform(recording)["latent"], pieces["latent"], atol=0.02
    )  # fmt: skip


def test_one_modality_traces_and_other_families(planted):
    neural = MMGPVAE(modalities="neural", n_shared=0, n_neural=2, **QUICK)
    assert set(neural.fit([planted.train], seed=0).score(planted.test)) == {
        "co_smoothing_bits_per_spike"
    }
    video = MMGPVAE(modalities="behavior", n_shared=0, n_behavior=2, **QUICK)
    assert set(video.fit([planted.train], seed=0).score(planted.test)) == {"behavior_r2"}
    assert "rate" not in video.transform(planted.test)
    node = planted.recording["counts"].to_dataset()
    trace = node["spike_count"].values + 0.3
    cells = xr.Dataset({"dff": (("time", "roi"), trace, {"units": "1"})}, {"time": node["time"]})
    calcium = xr.DataTree.from_dict({
        "/": planted.recording.to_dataset(), "/calcium/cells": cells,
        "/behavior": planted.recording["behavior"].to_dataset(),
    })  # fmt: skip
    model = MMGPVAE(observations="calcium/cells", neural_likelihood="auto", **QUICK)
    model.fit([trials(calcium, planted.lengths, 0, 20)], seed=0)
    held = trials(calcium, planted.lengths, 20, None)
    scores = model.score(held)
    assert set(scores) == {"co_smoothing_r2", "neural_from_behavior_r2",
                           "behavior_from_neural_r2", "behavior_r2"}  # fmt: skip
    assert model.transform(held)["trace"].shape == (240, 12)
    muscles = session(planted.flat["count"][:, :6], planted.flat["count"][:, 6:].astype(float))
    counted = MMGPVAE(
        behavior_likelihood="poisson", behavior_decoder="linear",
        neural_likelihood="negative_binomial", training={**QUICK["training"], "epochs": 12},
    ).fit([trials(muscles, planted.lengths, 0, 20)], seed=0)  # fmt: skip
    found = counted.transform(trials(muscles, planted.lengths, 20, None))["behavior"].values
    assert (found > 0).all()
    assert abs(found.mean() / planted.flat["count"][:, 6:].mean() - 1) < 0.3


@pytest.mark.parametrize(
    "settings", [{"noise_rank": 2}, {"fusion": "average", "behavior_decoder": "linear"},
                 {"neural_decoder": "mlp", "neural_encoder": "linear"},
                 {"validation_share": 0.2}, {"behavior_weight": 0.1, "behavior_noise": "common"}],
)  # fmt: skip
def test_settings_train_and_score(planted, settings):
    model = MMGPVAE(**QUICK, **settings).fit([planted.train], seed=0)
    loss = model.history_["objective"].values
    assert loss[-1] < loss[0]
    assert all(np.isfinite(v) for v in model.score(planted.test).values())
    assert faults_of_dataset(model.parameters_, model.learns) == []


def test_images(planted):
    frames = np.tile(planted.flat["behavior"][:, :, None], (1, 1, 6)).reshape(-1, 30)
    recording = session(planted.flat["count"], frames)
    model = MMGPVAE(
        image_shape=(5, 6), behavior_encoder="conv", behavior_decoder="conv", **QUICK
    ).fit([trials(recording, planted.lengths, 0, 20)], seed=0)
    assert model.transform(trials(recording, planted.lengths, 20, None))["behavior"].shape == (
        240, 30,
    )  # fmt: skip
    # six copies of each channel are no further evidence
    assert model.parameters_["modality_weight"].values[1] == pytest.approx(5 / 30, rel=0.1)
    with pytest.raises(DataError, match=r"image_shape 5 x 5 has 25 pixels, signals have 30"):
        MMGPVAE(image_shape=(5, 5), **QUICK).fit([recording], seed=0)


def test_the_faithful_model(planted):
    few = {"epochs": 3, "batch_size": 6, "learning_rate": 8.8e-3, "clip_norm": 1.0}
    model = MMGPVAE(preset="faithful", training=few).fit([planted.train], seed=0)
    assert model.config.fusion == "average"
    assert Config(preset="faithful").training.epochs == 700
    net = model._net
    assert net.raw_length.numel() == 1
    assert float(net.raw_length.detach()) == pytest.approx(30, abs=0.1)  # and hardly moves
    assert net.behavior.likelihood.spread.numel() == 1
    assert set(model.score(planted.test)) == SCORES
    with pytest.raises(DataError, match=r"dense reads complete windows .* lengths \[20\]"):
        model.transform(attach_windows(planted.recording, [[0, 1.0]]))
    uneven = attach_windows(planted.recording, [[0, 2.0], [2.0, 3.0]])
    with pytest.raises(DataError, match="say posterior: sites"):
        MMGPVAE(preset="faithful", training=few).fit([uneven], seed=0)


@pytest.mark.parametrize("preset", ["default", "faithful"])
def test_what_is_not_said_of_the_schedule_stays(preset):
    whole = Config(preset=preset).training
    part = Config(preset=preset, training={"epochs": 3, "precision": "tf32"}).training
    assert part == whole.model_copy(update={"epochs": 3, "precision": "tf32"})


def test_one_unit_one_trial_silence_and_stillness(planted):
    count, behavior = planted.flat["count"].copy(), planted.flat["behavior"].copy()
    one = session(count[:, :1], behavior)
    scores = (
        MMGPVAE(**QUICK)
        .fit([trials(one, planted.lengths, 0, 20)], seed=0)
        .score(trials(one, planted.lengths, 20, None))
    )
    assert np.isnan(scores.pop("co_smoothing_bits_per_spike"))  # there are no other units
    assert all(np.isfinite(v) for v in scores.values())
    lone = MMGPVAE(**QUICK).fit([trials(planted.recording, planted.lengths, 0, 1)], seed=0)
    assert np.isfinite(lone.transform(planted.test)["latent"]).all()
    count[: 20 * 40, 3] = 0
    behavior[:, 1] = 4.0
    still = session(count, behavior)
    model = MMGPVAE(**QUICK).fit([trials(still, planted.lengths, 0, 20)], seed=0)
    assert "3" not in model.parameters_["unit"].values  # silent in training
    estimates = model.transform(trials(still, planted.lengths, 20, None))
    np.testing.assert_allclose(estimates["behavior"][:, 1], 4.0, atol=0.5)
    assert np.isfinite(model.score(trials(still, planted.lengths, 20, None))["behavior_r2"])
    behavior[:] = 4.0
    with pytest.raises(DataError, match="no signal of behaviour ever changes"):
        MMGPVAE(**QUICK).fit([session(count, behavior)], seed=0)


def test_clear_errors(planted):
    counts_only = session(planted.flat["count"])
    with pytest.raises(DataError, match="no signal of behaviour; add the step"):
        MMGPVAE(**QUICK).fit([counts_only], seed=0)
    with pytest.raises(DataError, match="no latent for neural"):
        MMGPVAE(n_shared=0, n_neural=0, **QUICK).fit([planted.train], seed=0)
    gone = planted.flat["behavior"].copy()
    gone[:, 3] = np.nan
    with pytest.raises(DataError, match="signal 'joints_3' has no value"):
        MMGPVAE(**QUICK).fit([session(planted.flat["count"], gone)], seed=0)
    with pytest.raises(NotFittedError, match="call fit"):
        MMGPVAE().transform(planted.test)
    for wrong, message in (
        ({"behavior_decoder": "conv"}, "image_shape"),
        ({"modalities": "neural"}, "n_shared: 0"),
        ({"n_shared": 0, "n_neural": 0, "n_behavior": 0}, "expected a latent"),
        ({"noise_rank": 1, "behavior_likelihood": "poisson"}, "correlated noise"),
        ({"training": {**QUICK["training"], "patience": 2}}, "validation_share"),
    ):
        with pytest.raises(ValueError, match=message):
            Config(**wrong)
    with pytest.raises(ConfigError, match="did you mean 'mm_gpvae'"):
        resolve("mm_gpvea")


@pytest.mark.parametrize("length", [5.0, 10.0, 20.0])
def test_length_scales_are_read_off_noisy_counts(length):
    drawn = draw(Plan(n_trials=60, n_bins=100, n_units=40, length_scale_bins=length), 1)
    found = length_scale([np.sqrt(y) for y in drawn["count"]], 2)
    assert found == pytest.approx(length, rel=0.3)


def test_noise_that_channels_share_weighs_less():
    drawn = draw(Plan(n_trials=30, n_channels=12), 0)
    assert effective_share(list(drawn["behavior"])) > 0.9  # independent noise, smooth latents
    shared = [b[:, [0] * 12] for b in drawn["behavior"]]
    assert effective_share(shared) == pytest.approx(1 / 12)
    assert effective_share([np.full((9, 3), np.nan)]) == 1.0


def test_the_session_that_is_simulated_is_the_one_drawn():
    plan = Plan(n_trials=4, **SMALL)
    recording, truth = simulate(plan, 2)
    prepared = apply_steps(recording, [
        {"step": "bin_spikes", "bin_width_s": WIDTH_S, "start_s": 0.0},
        {"step": "resample_behavior", "signals": ["joints"]},
    ])  # fmt: skip
    drawn = draw(plan, 2)
    at = np.searchsorted(prepared["counts"]["time"].values, truth["time"].values - 1e-6)
    counts = prepared["counts"]["spike_count"].values[at]
    np.testing.assert_array_equal(counts, drawn["count"].reshape(-1, 12))
    joints = np.stack([v.values[at] for v in prepared["behavior"].to_dataset().values()], 1)
    np.testing.assert_allclose(joints, drawn["behavior"].reshape(-1, 5), atol=1e-5)
    np.testing.assert_array_equal(truth["loading"][:, 2], 0)
    assert truth["kind"].values.tolist() == ["shared", "neural", "behavior"]
