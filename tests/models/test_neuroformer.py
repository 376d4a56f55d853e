"""The Neuroformer as an estimator: sessions, transfer, resuming, what it must not see."""

import logging

import numpy as np
import pytest
import torch
import xarray as xr
from planted_spikes import session, sides

from neuropipe.batching.windows import attach_windows
from neuropipe.errors import ConfigError, DataError, NotFittedError
from neuropipe.models.neuroformer.batches import Loader
from neuropipe.models.neuroformer.config import Config
from neuropipe.models.neuroformer.estimator import Neuroformer
from neuropipe.training.checkpoint import Checkpoint

SMALL = {
    "width": 16, "n_heads": 2, "layers_past": 1, "layers_state": 1, "history_bins": 5,
    "patch": (6, 10), "n_shuffles": 20, "training": {"epochs": 2, "batch_size": 32},
}  # fmt: skip
SEEING = {**SMALL, "stimulus": "stimulus/bar"}


@pytest.fixture(scope="module")
def planted() -> xr.DataTree:
    return session(0, duration_s=40, n_units=8, n_hubs=1, fan_out=3)[0]


@pytest.fixture(scope="module")
def fitted(planted) -> Neuroformer:
    return Neuroformer(**SEEING, targets=("speed",), n_samples=2).fit([sides(planted)[0]], seed=1)


def changed(recording: xr.DataTree, node: str, after: float, by) -> xr.DataTree:
    """Return a recording with the values of a node changed from some time on."""
    out = recording.copy()
    data = recording[node].to_dataset().load().copy(deep=True)
    name = {"counts": "spike_count", "behavior": "speed", "stimulus/bar": "frame"}[node]
    clock = data["frame_time" if node == "stimulus/bar" else "time"].values
    data[name].values[clock >= after] = by(data[name].values[clock >= after])
    out[node] = xr.DataTree(data)
    return out


def test_what_it_returns_is_labelled_and_on_the_bins_of_the_windows(fitted, planted):
    held = sides(planted)[1]
    out = fitted.transform(held)
    start, stop = (float(held["windows"][n].values[0]) for n in ("start_time", "stop_time"))
    time = out["time"].values
    assert time[0] == pytest.approx(start + 0.005)
    assert time[-1] == pytest.approx(stop - 0.005)
    assert out["unit"].values.tolist() == list(range(8))
    assert out["behavior"].attrs["units"] == "1"
    assert out["channel"].values.tolist() == ["speed"]
    # one value a window, held over its bins
    value = out["behavior"].values[:, 0]
    assert (value[: 5 * (len(value) // 5)].reshape(-1, 5).std(1) < 1e-6).all()
    rate = out["predicted_rate"].values
    counts = planted["counts"]["spike_count"].values
    inside = (planted["counts"]["time"].values >= start) & (planted["counts"]["time"].values < stop)
    assert rate.mean() == pytest.approx(counts[inside].mean() / 0.01, rel=0.25)
    assert out["generated_rate"].mean() == pytest.approx(rate.mean(), rel=0.4)
    assert set(fitted.parameters_.data_vars) == {
        "rate", "unit_embedding", "connectivity", "connectivity_z"
    }  # fmt: skip
    scores = fitted.score(held)
    parts = scores["time_cross_entropy"] + scores["unit_cross_entropy"]
    assert scores["joint_cross_entropy"] == pytest.approx(parts)
    again = fitted.transform(held)
    xr.testing.assert_identical(out, again)


def test_nothing_outside_of_the_windows_changes_anything(fitted, planted):
    train, held = sides(planted)
    edge = float(held["windows"]["start_time"].values[0]) - 0.1
    other = changed(train, "counts", edge, lambda x: x + 1)
    other = changed(other, "behavior", edge, lambda x: x + 9)
    other = changed(other, "stimulus/bar", edge, lambda x: x * 0 + 5)
    again = Neuroformer(**SEEING, targets=("speed",), n_samples=2).fit([other], seed=1)
    xr.testing.assert_identical(again.parameters_, fitted.parameters_)
    # nor does what came before the held-out windows reach into them
    early = held.copy()
    counts = held["counts"].to_dataset().load().copy(deep=True)
    counts["spike_count"].values[counts["time"].values < edge + 0.1] = 3
    early["counts"] = xr.DataTree(counts)
    xr.testing.assert_identical(fitted.transform(early), fitted.transform(held))
    assert fitted.score(early) == fitted.score(held)


def test_the_future_of_a_window_changes_nothing_in_it(fitted, planted):
    held = sides(planted)[1]
    start = float(held["windows"]["start_time"].values[0])
    other = changed(held, "counts", start + 1.0, lambda x: x + 1)
    other = changed(other, "stimulus/bar", start + 1.0, lambda x: x * 0 + 5)
    before, after = fitted.transform(held), fitted.transform(other)
    inside = before["time"].values < start + 1.0
    for name in ("predicted_rate", "behavior"):
        a, b = before[name].values, after[name].values
        # windows are packed with others, so the last digits may differ
        assert a[inside] == pytest.approx(b[inside], abs=1e-3 * float(np.abs(a).max()))
        assert np.abs(a[~inside] - b[~inside]).max() > 1e-3


def test_an_interrupted_fit_goes_on_to_the_same_numbers(planted, tmp_path, monkeypatch):
    train = sides(planted)[0]
    monkeypatch.setattr(Checkpoint, "due", lambda self: True)
    settings = {**SEEING, "dropout": 0.1, "null_refits": 1}
    whole = Neuroformer(**settings).fit([train], seed=3)
    calls = []

    def stopping(self, epoch, real=Loader.__call__):
        for batch in real(self, epoch):
            calls.append(epoch)
            if len(calls) == 30:
                raise KeyboardInterrupt
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(Loader, "__call__", stopping)
        with pytest.raises(KeyboardInterrupt):
            Neuroformer(**settings).fit([train], seed=3, checkpoint=tmp_path / "c.pt")
    again = Neuroformer(**settings).fit([train], seed=3, checkpoint=tmp_path / "c.pt")
    xr.testing.assert_identical(again.parameters_, whole.parameters_)
    assert again.history_["objective"].values == pytest.approx(whole.history_["objective"].values)
    p = whole.parameters_["connectivity_p"].values
    assert ((p > 0) & (p <= 1)).all()


def test_sessions_keep_units_of_their_own(planted):
    other, _ = session(1, duration_s=30, n_units=5, n_hubs=1, fan_out=2)
    other.attrs["session"] = "second"
    model = Neuroformer(**SMALL, connectivity=("readout", "attention", "perturbation"))
    model.fit([planted, other], seed=0)
    p = model.parameters_
    names = p["unit"].values.tolist()
    assert names[0] == "planted/planted-0:0"
    assert names[8:] == [f"planted/second:{n}" for n in range(5)]
    for name in ("connectivity", "attention_connectivity", "perturbation_connectivity"):
        value = p[name].values
        assert np.isfinite(value[:8, :8]).all()
        assert np.isfinite(value[8:, 8:]).all()
        assert np.isnan(value[:8, 8:]).all()
        assert np.isnan(value[8:, :8]).all()
    assert model.transform(other)["unit"].values.tolist() == list(range(5))
    stranger = planted.copy()
    stranger.attrs["session"] = "third"
    with pytest.raises(DataError, match=r"units of session planted/third were not in the training"):
        model.score(stranger)
    with pytest.raises(DataError, match=r"two recordings have the key 'planted/planted-0'"):
        Neuroformer(**SMALL).fit([planted, planted], seed=0)


def test_a_frozen_trunk_stays_and_a_new_target_is_learned(fitted, planted, tmp_path, caplog):
    train, held = sides(planted)
    base = Neuroformer(**SEEING).fit([train], seed=1)
    base.save(tmp_path)
    few = {"targets": ("speed",), "objective": "behavior", "label_share": 0.5,
           "pretrained": str(tmp_path)}  # fmt: skip
    schedule = {"epochs": 6, "batch_size": 32, "learning_rate": 0.01}
    settings = {**SEEING, **few, "dropout": 0.0, "training": schedule}
    model = Neuroformer(**settings, trunk="frozen").fit([train], seed=2)
    before = base._fitted.network.state_dict()
    after = model._fitted.network.state_dict()
    for name, value in before.items():
        assert torch.equal(after[name], value), name
    assert {n.split(".")[0] for n in set(after) - set(before)} == {"behavior"}
    assert model.history_["objective"].values[-1] < model.history_["objective"].values[0]
    free = Neuroformer(**settings).fit([train], seed=2)
    moved = free._fitted.network.state_dict()
    assert any(not torch.equal(moved[name], value) for name, value in before.items())
    # windows that only the pretrained network saw are not held out
    late = Neuroformer(**settings).fit([attach_windows(planted, [[5.0, 20.0]])], seed=2)
    with caplog.at_level(logging.WARNING):
        late.score(held)
        assert not caplog.records
        late.score(attach_windows(planted, [[21.0, 30.0]]))
    assert "has seen these windows" in caplog.text
    # another session takes the trunk and brings its own units
    other, _ = session(1, duration_s=30, n_units=5, n_hubs=1, fan_out=2)
    other.attrs["session"] = "second"
    moved = Neuroformer(**{**settings, "objective": "all"}, trunk="frozen").fit([other], seed=0)
    kept = moved._fitted.network.state_dict()
    assert torch.equal(kept["to_past.0.mlp.0.weight"], before["to_past.0.mlp.0.weight"])
    with pytest.raises(ConfigError, match=r"has width 16, this fit 32; set width as there"):
        Neuroformer(**{**settings, "width": 32}).fit([train], seed=0)
    with pytest.raises(ConfigError, match=r"no config\.json and no weights\.pt"):
        Neuroformer(**{**settings, "pretrained": str(tmp_path / "none")}).fit([train], seed=0)


def test_few_labels_are_the_first_ones(planted):
    """Labels behind the share may be anything, and a fit on them alone needs some."""
    train = sides(planted)[0]
    settings = {**SMALL, "targets": ("speed",), "label_share": 0.25, "validation_share": 0.0}
    model = Neuroformer(**settings).fit([train], seed=0)
    other = changed(train, "behavior", 8.01, lambda x: x[::-1] * 3)
    again = Neuroformer(**settings).fit([other], seed=0)
    scaled = again._fitted.network.state_dict()
    for name, value in model._fitted.network.state_dict().items():
        assert torch.equal(value, scaled[name]), name
    assert again._fitted.scaling.sd == model._fitted.scaling.sd
    with pytest.raises(DataError, match=r"target 'speed' has no value in the training"):
        Neuroformer(**{**settings, "objective": "behavior", "label_share": 1e-9}).fit(
            [train], seed=0
        )


def test_classes_decode_to_the_mean_of_their_labels(planted):
    train, held = sides(planted)
    model = Neuroformer(**SMALL, targets=("speed",), target_kind="classes", n_classes=4)
    model.fit([train], seed=0)
    scaling = model._fitted.scaling
    assert (np.diff(scaling.edges[0]) > 0).all()
    assert (scaling.centers[0, :-1] < scaling.edges[0]).all()
    assert (scaling.centers[0, 1:] >= scaling.edges[0]).all()
    value = model.transform(held)["behavior"].values
    assert scaling.centers.min() <= value.min()
    assert value.max() <= scaling.centers.max()
    assert -1 <= model.score(held)["decoding_r"] <= 1


def test_missing_covariates_and_labels(planted):
    train, held = sides(planted)
    speed = train["behavior"].to_dataset().load().copy(deep=True)
    speed["speed"].values[100:140] = np.nan
    train = train.copy()
    train["behavior"] = xr.DataTree(speed)
    with pytest.raises(DataError, match=r"covariate 'speed' is NaN in 40 of 3200 bins"):
        Neuroformer(**SMALL, covariates=("speed",)).fit([train], seed=0)
    masked = Neuroformer(**SMALL, covariates=("speed",), missing_covariates="hide")
    assert np.isfinite(masked.fit([train], seed=0).score(held)["bits_per_spike"])
    decoding = Neuroformer(**SMALL, targets=("speed",)).fit([train], seed=0)
    assert all(np.isfinite(v) for v in decoding.score(train).values())


def test_frames_and_signals_of_another_kind_are_not_scored(fitted, planted):
    held = sides(planted)[1]
    larger = held.copy()
    movie = held["stimulus/bar"].to_dataset().load()
    larger["stimulus/bar"] = xr.DataTree(movie.pad(y=(0, 2), mode="edge"))
    with pytest.raises(DataError, match=r"has frames of \(\d+, \d+\) pixels, the training data of"):
        fitted.score(larger)
    slower = held.copy()
    speed = held["behavior"].to_dataset().load().copy(deep=True)
    speed["speed"].attrs["units"] = "m/s"
    slower["behavior"] = xr.DataTree(speed)
    with pytest.raises(DataError, match=r"in \('m/s',\), of the training data in \('1',\)"):
        fitted.score(slower)


def test_small_and_silent_data(planted):
    one = planted.copy()
    counts = planted["counts"].to_dataset().isel(unit=[0])
    one["counts"] = xr.DataTree(counts)
    model = Neuroformer(**SMALL).fit([sides(one)[0]], seed=0)
    held = sides(one)[1]
    assert model.transform(held)["predicted_rate"].shape[1] == 1
    assert np.isfinite(model.score(held)["bits_per_spike"])
    short = attach_windows(one, [[32.0, 32.03]])  # less than a window
    assert model.transform(short).sizes["time"] == 3
    silent = changed(short, "counts", 0.0, lambda x: x * 0)
    scores = model.score(silent)
    assert np.isnan(scores["bits_per_spike"])
    assert np.isfinite(scores["joint_cross_entropy"])
    with pytest.raises(DataError, match=r"none of 1 units has 10 spikes"):
        Neuroformer(**SMALL).fit([silent], seed=0)
    with pytest.raises(DataError, match=r"no training window is left"):
        Neuroformer(**SMALL, min_spikes=1).fit([changed(short, "counts", 0, np.ones_like)], seed=0)
    with pytest.raises(NotFittedError, match="call fit"):
        Neuroformer().transform(one)


def test_presets_and_contradictions():
    faithful = Config(preset="faithful", width=128)
    assert (faithful.width, faithful.n_heads, faithful.layers_state) == (128, 8, 6)
    assert faithful.training.weight_decay == 1.0
    assert faithful.training.epochs == 250
    assert Config(preset="faithful", training={"epochs": 3}).training.batch_size == 160
    assert Config.model_validate_json(faithful.model_dump_json()) == faithful
    assert Config(heads="independent").ordered is False
    for settings, text in (
        ({"covariates": ("a",), "targets": ("a",)}, "'a' is a covariate too"),
        ({"objective": "behavior"}, "objective: behavior needs targets"),
        ({"trunk": "frozen"}, "trunk: frozen needs pretrained"),
        ({"width": 30, "n_heads": 4}, "width: 30 does not divide by n_heads, 4"),
        ({"heads": "independent", "ordered": True}, "independent heads know no order"),
    ):
        with pytest.raises(ValueError, match=text):
            Config(**settings)


def test_the_published_network_fits_and_draws(planted):
    train, held = sides(planted)
    settings = {**SEEING, "preset": "faithful", "layers_current": 1, "layers_frames": 1,
                "layers_stimulus": 1, "n_frames": 3, "n_samples": 1}  # fmt: skip
    model = Neuroformer(**settings).fit([train], seed=0)
    out = model.transform(held)
    assert np.isfinite(out["predicted_rate"].values).all()
    assert out["generated_count"].values.sum() > 0
