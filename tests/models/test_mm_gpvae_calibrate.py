"""Predictions of what is left out are set right on training windows, by two numbers a channel."""

import numpy as np
import pytest
import torch
from planted_latents import Planted, session, trials
from sklearn.linear_model import LinearRegression, PoissonRegressor

from neuropipe.models.mm_gpvae.calibrate import Line, _exponential, _straight
from neuropipe.models.mm_gpvae.estimator import MMGPVAE

QUICK = {"epochs": 4, "batch_size": 10, "learning_rate": 0.02}


def test_lines_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    p = np.exp(rng.standard_normal(3000))
    y = rng.poisson(0.4 * p**0.6)
    offset, slope, center, low, high = _exponential(p, y)
    assert (low, high) == (pytest.approx(np.log(p.min())), pytest.approx(np.log(p.max())))
    theirs = PoissonRegressor(alpha=0, tol=1e-10, max_iter=1000).fit(np.log(p)[:, None], y)
    assert slope == pytest.approx(theirs.coef_[0], abs=1e-3)  # ours leans towards 1, by a prior
    assert offset - slope * center == pytest.approx(theirs.intercept_, abs=1e-3)
    y = 3 - 0.5 + 0.7 * p + 0.1 * rng.standard_normal(3000)
    offset, slope, center, *_ = _straight(p, y)
    theirs = LinearRegression().fit(p[:, None], y)
    assert slope == pytest.approx(theirs.coef_[0])
    assert offset - slope * center == pytest.approx(theirs.intercept_)


@pytest.mark.parametrize("fit", [_straight, _exponential])
def test_what_tells_the_opposite_or_nothing_leaves_the_mean(fit):
    p = np.linspace(0.5, 2.0, 200)
    y = np.where(np.arange(200) < 120, 2.0, 0.0)  # falls where the prediction rises
    offset, slope, *_ = fit(p, y)
    mean = np.exp(offset) if fit is _exponential else offset
    assert (slope, mean) == (0.0, pytest.approx(1.2))
    offset, *_ = fit(np.ones(200), y)
    assert (np.exp(offset) if fit is _exponential else offset) == pytest.approx(1.2)


def test_a_silent_unit_stays_as_predicted():
    p = np.array([0.1, 0.2, 0.4])
    line = Line(np.array(_exponential(p, np.zeros(3)))[:, None], True)
    np.testing.assert_allclose(line(torch.as_tensor(p)[:, None])[:, 0], p)


def test_no_rate_runs_away_beyond_what_training_windows_showed():
    p = np.linspace(0.1, 1.0, 50)
    line = Line(np.array(_exponential(p, np.round(4 * p**2)))[:, None], True)
    most = line(torch.tensor([[1.0], [80.0]], dtype=torch.float64))[:, 0]
    assert most[1] == most[0]
    assert most[0] == pytest.approx(4.0, rel=0.1)


def test_bursts_that_no_gaussian_process_draws_cost_the_raw_model_more_than_it_tells():
    """One unit fires in short bursts of its own, others slowly together."""
    rng = np.random.default_rng(1)
    bursts = 12.0 * (rng.random((60, 50, 3)) < 0.03)
    count = rng.poisson(0.05 + bursts)
    recording = session(count.reshape(-1, 3))
    train, test = (trials(recording, [50] * 60, a, b) for a, b in ((0, 45), (45, None)))
    settings = {"modalities": "neural", "n_shared": 0, "n_neural": 1, "n_behavior": 0,
                "training": {**QUICK, "epochs": 25}}  # fmt: skip
    score = {
        calibrate: MMGPVAE(**settings, calibrate=calibrate).fit([train], seed=0).score(test)
        for calibrate in (True, False)
    }
    found = {k: s["co_smoothing_bits_per_spike"] for k, s in score.items()}
    assert found[True] > found[False] + 0.05
    assert abs(found[True]) < 0.05  # the units know nothing of each other


def test_lines_are_fitted_on_training_windows_alone_and_kept(tmp_path):
    planted = Planted(0, 20, 5)
    model = MMGPVAE(training=QUICK).fit([planted.train], seed=1)
    assert set(model._lines) == {"co_smoothing", "behavior_from_neural", "neural_from_behavior"}
    assert all(np.isfinite(line.values[:3]).all() for line in model._lines.values())
    model.save(tmp_path)
    assert MMGPVAE.load(tmp_path).score(planted.test) == pytest.approx(model.score(planted.test))
    assert MMGPVAE(preset="faithful").config.calibrate is False
