"""Baselines beside the MM-GPVAE: planted latents, unequal trials, missing bins, their read-outs."""

import numpy as np
import planted_pairs as planted
import pytest
import xarray as xr
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.linear_model import Ridge

from neuropipe.baselines.pca_regression import PCARegression, components
from neuropipe.baselines.readouts import (
    cut_in_folds,
    fold_of_bins,
    linear_readout,
    poisson_readout,
    ridge,
    smooth,
)
from neuropipe.baselines.smoothed_factors import Factors, SmoothedFactors, factor_analysis
from neuropipe.errors import DataError
from neuropipe.metrics import UNITS

LENGTHS = (60, 35, 80, 50, 41, 66, 72, 33, 58, 90, 47, 61, 55, 70, 64, 38)
N_TRAIN = 11
SMALL = {"n_latents": (1, 2, 4), "smoothing_bins": (2.0, 6.0)}
QUICK = {"n_latents": 2, "smoothing_bins": 4.0, "behavior_degree": 1}


@pytest.fixture(scope="module")
def truth():
    return planted.drawn(LENGTHS)


def split(truth, **more):
    _, counts, behavior = truth
    tree, edges = planted.session(LENGTHS, counts, behavior, **more)
    return planted.sides(tree, edges, N_TRAIN)


@pytest.mark.parametrize(("kind", "least"), [(SmoothedFactors, 0.85), (PCARegression, 0.75)])
def test_planted_latents_and_every_score(kind, least, truth):
    train, held = split(truth)
    model = kind(**SMALL).fit([train], seed=0)
    n = sum(LENGTHS[:N_TRAIN])
    found, found_held = (model.transform(r)["latent"].values for r in (train, held))
    r2 = planted.recovered(found, truth[0][:n], found_held, truth[0][n:])
    assert (r2[:2] > least).all()
    assert r2[2] < 0.2  # behaviour alone knows it
    scores = model.score(held)
    assert set(scores) <= set(UNITS)
    assert scores["co_smoothing_bits_per_spike"] > 0.2
    assert scores["neural_from_behavior_bits_per_spike"] > 0.05
    assert scores["behavior_from_neural_r2"] > 0.2
    estimates = model.transform(held)
    assert estimates.sizes["time"] == sum(LENGTHS) - n
    np.testing.assert_array_equal(
        np.bincount(estimates["window"].values), LENGTHS[N_TRAIN:]
    )  # windows of any length
    np.testing.assert_allclose(
        estimates["rate"].values.mean() * planted.WIDTH_S, truth[1][n:].mean(), rtol=0.1
    )


def test_held_out_behaviour_changes_nothing_that_is_fitted(truth):
    train, held = split(truth)
    changed = train.copy()
    node = train["behavior"].to_dataset().copy(deep=True)
    node["limb"].values[node["time"].values >= held["windows"]["start_time"].values[0]] *= -9
    changed["behavior"] = xr.DataTree(node)
    for kind in (SmoothedFactors, PCARegression):
        first, second = (kind(**QUICK).fit([r], seed=0).parameters_ for r in (train, changed))
        xr.testing.assert_identical(first, second)


def test_a_unit_is_told_from_the_others_alone(truth):
    """Spikes of a held-out unit change no prediction of it."""
    train, held = split(truth)
    model = SmoothedFactors(**QUICK).fit([train], seed=0)
    coupled = model._coupled
    first = [b[:, :24] for b in model._windows(held).neural]
    unit = 3
    changed = [b.copy() for b in first]
    for block in changed:
        block[:, unit] += 5
    seen = np.arange(24) % 5 != unit % 5
    a, b = (coupled.encoder(x, seen) for x in (first, changed))
    np.testing.assert_array_equal(a, b)


def test_missing_bins_are_bridged_and_not_scored(truth):
    observed = np.ones(sum(LENGTHS), bool)
    observed[100:110] = observed[-40:-30] = False
    train, held = split(truth, observed=observed)
    model = SmoothedFactors(**QUICK).fit([train], seed=0)
    estimates = model.transform(held)
    assert np.isfinite(estimates["latent"].values).all()
    loud = truth[1].copy()
    loud[-40:-30] = 100
    noisy = split((truth[0], loud, truth[2]), observed=observed)[1]
    assert model.score(noisy) == model.score(held)


def test_traces_are_scored_by_r2(truth):
    train, held = split(truth)
    for r in (train, held):
        node = r["counts"].to_dataset()
        trace = np.sqrt(node["spike_count"].values) + 3.0
        r["calcium/cells"] = xr.DataTree(
            xr.Dataset(
                {"dff": (("time", "roi"), trace, {"units": "1"})}, {"time": node["time"]}
            )
        )  # fmt: skip
    for kind in (SmoothedFactors, PCARegression):
        model = kind(**QUICK, observations="calcium/cells").fit([train], seed=0)
        scores = model.score(held)
        assert set(scores) == {
            "co_smoothing_r2", "behavior_from_neural_r2", "neural_from_behavior_r2"
        }  # fmt: skip
        assert scores["co_smoothing_r2"] > 0.1
        assert "trace" in model.transform(held)


def test_one_unit_has_no_others_and_no_behaviour_no_second_modality():
    lengths = (80, 80, 80)
    _, counts, _ = planted.drawn(lengths, n_units=1)
    tree, edges = planted.session(lengths, counts)
    train, held = planted.sides(tree, edges, 2)
    for kind in (SmoothedFactors, PCARegression):
        scores = kind().fit([train], seed=0).score(held)
        assert set(scores) == {"co_smoothing_bits_per_spike"}
        assert np.isnan(scores["co_smoothing_bits_per_spike"])


def test_other_signals_are_refused(truth):
    train, held = split(truth)
    model = SmoothedFactors(**QUICK).fit([train], seed=0)
    node = held["behavior"].to_dataset().rename(limb="arm")
    held["behavior"] = xr.DataTree(node)
    with pytest.raises(DataError, match=r"has the signals arm_0, .* others limb_0"):
        model.score(held)


def test_factors_are_scikit_learns_and_those_of_some_units_a_conditional_mean():
    rng = np.random.default_rng(1)
    data = rng.normal(size=(400, 3)) @ rng.normal(size=(3, 9)) + rng.normal(2, 0.7, (400, 9))
    direct = FactorAnalysis(2, svd_method="lapack", max_iter=2000).fit(data)
    model, mean = factor_analysis(data, 2)
    np.testing.assert_allclose(
        model.get_covariance(), direct.get_covariance(), rtol=1e-3, atol=1e-3
    )
    factors = Factors(0.0, False, mean, model.noise_variance_, model.components_.T)
    model.mean_ = mean
    np.testing.assert_allclose(factors([data], np.ones(9, bool)), model.transform(data), rtol=1e-9)
    seen = np.arange(9) % 3 > 0
    loading = model.components_.T
    covariance = model.get_covariance()[np.ix_(seen, seen)]
    want = (data - mean)[:, seen] @ np.linalg.solve(covariance, loading[seen])
    np.testing.assert_allclose(factors([data], seen), want, rtol=1e-9, atol=1e-12)


def test_components_are_scikit_learns():
    rng = np.random.default_rng(2)
    data = rng.normal(size=(200, 4)) @ rng.normal(size=(4, 6)) + 1.0
    masks = [np.ones(6, bool), np.arange(6) > 1]
    made = components(data, masks, 3, 0.0)
    scaled = (data - data.mean(0)) / data.std(0)
    for mask in masks:
        want = PCA(3).fit_transform(scaled[:, mask])
        np.testing.assert_allclose(np.abs(made([data], mask)), np.abs(want), rtol=1e-8, atol=1e-9)


def test_ridge_is_scikit_learns_and_leaves_missing_targets_out():
    rng = np.random.default_rng(3)
    x, weight = rng.normal(size=(120, 4)), rng.normal(size=(3, 4))
    y = x @ weight.T + 0.1 * rng.normal(size=(120, 3)) + 2
    y[5:20, 1] = np.nan
    found, offset = ridge(x, y, 0.3)
    for k in range(3):
        rows = np.isfinite(y[:, k])
        want = Ridge(alpha=0.3 * rows.sum()).fit(x[rows], y[rows, k])
        np.testing.assert_allclose(found[k], want.coef_, rtol=1e-9)
        np.testing.assert_allclose(offset[k], want.intercept_, rtol=1e-9)
    fold = fold_of_bins([60, 60])
    noise = linear_readout(x, rng.normal(size=(120, 1)), fold)
    signal = linear_readout(x, y[:, :1], fold)
    assert np.abs(noise.weight).max() < 0.1  # the penalty of what cannot be predicted is large
    np.testing.assert_allclose(signal.weight, weight[:1] * x.std(0), atol=0.05)


def test_poisson_regression_finds_its_weights_and_stays_in_bounds():
    rng = np.random.default_rng(4)
    x = rng.normal(3, 2, (4000, 2))
    weight = np.array([[0.3, -0.2], [0.0, 0.25]])
    y = rng.poisson(np.exp((x - 3) @ weight.T - 0.5)).astype(float)
    y[7] = np.nan
    found = poisson_readout(x, y, 1.0)
    np.testing.assert_allclose(found.by_input(), weight, atol=0.03)
    far = found(np.full((1, 2), 1e3))
    assert (far <= np.nanmax(y, 0) + 1).all()


def test_smoothing_by_hand_around_a_missing_bin():
    block = np.arange(12.0)[:, None] ** 2
    block[4] = np.nan
    got = smooth(block, 1.5)
    at = np.arange(12)
    kernel = np.exp(-0.5 * ((at[:, None] - at) / 1.5) ** 2) * (np.abs(at[:, None] - at) <= 6)
    kernel[:, 4] = 0
    want = kernel @ np.nan_to_num(block) / kernel.sum(1, keepdims=True)
    np.testing.assert_allclose(got, want, rtol=1e-10)


@pytest.mark.parametrize("lengths", [(10,), (1, 1, 1, 1), (7, 30, 2, 5), (1, 1)])
def test_folds_hold_every_bin_once(lengths):
    seen = [np.zeros(n, int) for n in lengths]
    for fold in cut_in_folds(lengths):
        for window, part in fold:
            seen[window][part] += 1
    assert all((s == 1).all() for s in seen)
