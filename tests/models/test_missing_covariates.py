"""Gaps in a covariate: a model and its baselines are fitted to, and scored on, the same bins."""

import numpy as np
import pytest
from counted_session import busy, prepared

from neuropipe.baselines import BASELINES
from neuropipe.batching.windows import attach_windows
from neuropipe.config import Run
from neuropipe.errors import DataError
from neuropipe.metrics import poisson_log_likelihood
from neuropipe.models import resolve

N_BINS = 240
GAP = slice(20, 45)


@pytest.fixture(scope="module")
def sides():
    """Training and held-out half of a session whose speed is missing in either."""
    speed = np.random.default_rng(1).normal(size=N_BINS)
    speed[GAP] = speed[200:205] = np.nan
    recording = prepared(busy(N_BINS), behavior={"speed": speed})
    windows = ([[0, 12]], [[12, 24]])
    return [attach_windows(recording, w) for w in windows], np.isfinite(speed)


def fitted(name, recording, settings):
    return resolve(name, BASELINES)(**settings).fit([recording], seed=0, device="cpu")


def settings_of(model, missing, *baselines):
    run = Run(
        model=model, dataset="d", seed=0, split={"by": "block", "folds": 2}, baselines=baselines,
        parameters={"covariates": ["speed"], "missing_covariates": missing},
    )  # fmt: skip
    return run.estimators()


@pytest.mark.parametrize(("model", "missing"), [("hmm_glm", "mask"), ("neuroformer", "hide")])
def test_all_are_scored_on_the_bins_of_the_model(sides, model, missing):
    (train, held), known = sides
    names = ("homogeneous_rate", "poisson_glm")
    settings = settings_of(model, missing, *names)
    counts = busy(N_BINS).astype(float)
    bins = known if missing == "mask" else np.ones(N_BINS, bool)
    rate = counts[:120][bins[:120]].mean(0)
    floor, glm = (fitted(name, train, settings[name]).score(held) for name in names)
    seen = counts[120:][bins[120:]]
    expected = poisson_log_likelihood(seen, rate) / len(seen)
    assert floor["log_likelihood_per_bin"] == pytest.approx(expected)
    assert floor["bits_per_spike"] == 0
    # the regression's bits are what it gains on these very bins
    bits = (glm["log_likelihood_per_bin"] - expected) * len(seen) / np.log(2) / seen.sum()
    assert glm["bits_per_spike"] == pytest.approx(bits)


def test_a_plain_hmm_leaves_the_same_bins_out(sides):
    (train, held), known = sides
    counts = busy(N_BINS).astype(float)
    settings = settings_of("hmm_glm", "mask", "poisson_hmm")["poisson_hmm"]
    settings |= {"n_states": 1, "pseudo_count": 1e-9}
    found = fitted("poisson_hmm", train, settings)
    rate = counts[:120][known[:120]].mean(0)
    expected = poisson_log_likelihood(counts[120:][known[120:]], rate) / known[120:].sum()
    assert found.score(held)["log_likelihood_per_bin"] == pytest.approx(expected, rel=1e-5)


def test_a_hidden_covariate_stands_at_its_mean_and_needs_a_value(sides):
    (train, held), known = sides
    settings = settings_of("neuroformer", "hide", "poisson_glm")["poisson_glm"]
    settings |= {"history_bins": 0}
    found = fitted("poisson_glm", train, settings)
    rate = found.transform(held)["rate"].values
    assert np.isfinite(rate).all()
    hidden = rate[~known[120:]]
    np.testing.assert_allclose(hidden, np.broadcast_to(hidden[0], hidden.shape))
    silent = prepared(busy(N_BINS), behavior={"speed": np.full(N_BINS, np.nan)})
    with pytest.raises(DataError, match="covariate 'speed' is NaN in all training bins"):
        fitted("poisson_glm", attach_windows(silent, [[0, 12]]), settings)
