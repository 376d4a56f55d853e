"""Baselines beside the Neuroformer: decoders on the same windows, and lagged correlation."""

import numpy as np
import pytest
from planted_spikes import edges_found, session, sides
from sklearn.linear_model import Ridge

from neuropipe.baselines.lagged_correlation import LaggedCorrelation
from neuropipe.baselines.window_nets import GRUDecoder, MLPDecoder
from neuropipe.baselines.window_ridge import ReducedRank, RidgeDecoder, apply, low_rank
from neuropipe.baselines.windowed import in_pieces, inputs_of
from neuropipe.batching.raster import read_raster
from neuropipe.batching.tokens import cut_windows, window_mean
from neuropipe.errors import DataError
from neuropipe.models.neuroformer.estimator import Neuroformer

COMMON = {"targets": ("speed",), "history_bins": 10, "window_bins": 5}


@pytest.fixture(scope="module")
def planted():
    return session(0, duration_s=80)


def test_inputs_are_the_counts_of_past_and_present(planted):
    held = sides(planted[0])[1]
    raster = read_raster(held, signals=["speed"])
    windows = cut_windows(raster, 5, 10)
    x = inputs_of(raster, windows, RidgeDecoder(**COMMON, covariates=("speed",)).config)
    counts = raster.counts()
    assert x.shape == (len(windows), 15, 31)
    assert np.array_equal(x[2, :, :30], counts[0:15])
    assert x[2, :, 30] == pytest.approx(raster.signal[0:15, 0], abs=1e-6)
    assert not x[0, :10].any()
    pieces = in_pieces(x, 5)
    assert pieces.shape == (len(windows), 3, 31)
    assert pieces[2, 2, :30] == pytest.approx(counts[10:15].sum(0))
    assert in_pieces(x[:, 2:], 5)[2, 0, :30] == pytest.approx(counts[2:5].sum(0))


def test_ridge_is_that_of_the_library(planted):
    train, held = sides(planted[0])
    model = RidgeDecoder(**COMMON).fit([train], seed=0)
    raster = read_raster(train, signals=["speed"]).only(model._scale.unit)
    windows = cut_windows(raster, 5, 10)
    flat = in_pieces(model._scaled(raster, windows), 5).reshape(len(windows), -1)
    label = window_mean(raster, windows, np.array([0]))
    y = (label - model._scale.label_mean) / model._scale.label_sd
    sd = flat.std(0)
    errors = []
    for penalty in 10.0 ** np.arange(-4, 3):
        oracle = Ridge(alpha=penalty * len(flat)).fit((flat - flat.mean(0)) / sd, y)
        errors.append(np.abs(oracle.coef_ / sd - model._learned["weight"]).max())
    assert min(errors) < 1e-6
    assert model.score(held)["decoding_r"] > model.score(held)["decoding_null_r"]


def test_a_covariate_that_is_missing_stands_at_its_mean(planted):
    train = sides(planted[0])[0]
    gappy = train.copy()
    signals = train["behavior"].to_dataset().load().copy(deep=True)
    signals["pace"] = signals["speed"] + 5
    signals["pace"].values[100:140] = np.nan
    gappy["behavior"] = type(train)(signals)
    with pytest.raises(DataError, match="missing_covariates: hide"):
        RidgeDecoder(**COMMON, covariates=("pace",)).fit([gappy], seed=0)
    settings = {**COMMON, "covariates": ("pace",), "missing_covariates": "hide"}
    model = RidgeDecoder(**settings).fit([gappy], seed=0)
    raster = read_raster(gappy, signals=["pace", "speed"]).only(model._scale.unit)
    windows = cut_windows(raster, 5, 10)
    lost = np.isnan(inputs_of(raster, windows, model.config))[:, :, -1]
    assert lost.any()
    assert (model._scaled(raster, windows)[:, :, -1][lost] == 0).all()
    assert np.nanmean(signals["pace"].values) == pytest.approx(model._scale.mean[-1], rel=0.05)
    assert np.isfinite(model.transform(gappy)["behavior"].values).all()


def test_few_courses_are_found_where_they_were_planted():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(800, 12, 6))
    course = np.stack([np.ones(12), np.linspace(-1, 1, 12)], 1) / 4
    weight = rng.normal(size=(6, 2, 2))
    y = apply(x, course, weight) + 0.3 * rng.normal(size=(800, 2))
    one, two = (low_rank(x[:400], y[:400], r, 1e-3) for r in (1, 2))
    lost = [((y[400:] - apply(x[400:], c, w) - o) ** 2).mean() for c, w, o in (one, two)]
    assert lost[1] == pytest.approx(0.09, rel=0.15)
    assert lost[0] > 1.5 * lost[1]


@pytest.mark.parametrize("kind", [RidgeDecoder, ReducedRank, MLPDecoder, GRUDecoder])
def test_speed_is_decoded_on_the_windows_of_the_model(kind, planted):
    train, held = sides(planted[0])
    few = {"epochs": 6, "batch_size": 64, "learning_rate": 2e-3}
    more = {"schedule": few} if issubclass(kind, MLPDecoder) else {}
    model = kind(**COMMON, **more).fit([train], seed=1)
    scores = model.score(held)
    assert scores["decoding_p"] < 0.02
    assert scores["decoding_r"] > 0.5
    small = {"width": 8, "n_heads": 1, "training": {"epochs": 1}, "connectivity": ()}
    own = Neuroformer(**COMMON, **small).fit([train], seed=0).transform(held)
    assert np.array_equal(model.transform(held)["time"], own["time"])
    again = kind(**COMMON, **more).fit([train], seed=1)
    for name, value in model._learned.items():
        assert np.array_equal(value, again._learned[name])


def test_lagged_correlation_finds_hubs_and_little_else(planted):
    recording, truth = planted
    model = LaggedCorrelation(lag_bins=1, n_shuffles=200).fit([recording], seed=0)
    weight, p = truth["weight"].values, model.parameters_["connectivity_p"].values
    counts = recording["counts"]["spike_count"].values.astype(float)
    r = np.corrcoef(counts[1:, 7], counts[:-1, 0])[0, 1]
    assert model.parameters_["connectivity"].values[7, 0] == pytest.approx(r, abs=1e-3)
    assert edges_found(model.parameters_["connectivity"].values, weight) > 0.95
    assert (p[weight > 0] < 0.02).mean() > 0.9


def test_what_decoders_refuse(planted):
    train, _ = sides(planted[0])
    with pytest.raises(DataError, match=r"2 sessions, expected one"):
        RidgeDecoder(**COMMON).fit([train, train], seed=0)
    with pytest.raises(DataError, match=r"`targets` names no signal"):
        RidgeDecoder().fit([train], seed=0)
    with pytest.raises(DataError, match=r"0 training windows with a label"):
        RidgeDecoder(**COMMON, label_share=1e-9).fit([train], seed=0)
