"""HMM-GLM: enumeration and closed forms at tiny size, an independent library, small recovery."""

from itertools import pairwise, product

import numpy as np
import pytest
import torch
import xarray as xr
from planted import FORM, batch_of, compare, fit, plant
from scipy import stats
from sklearn.linear_model import PoissonRegressor

from neuropipe.batching.history import filter_history, history_basis
from neuropipe.errors import ConfigError, DataError, NotFittedError
from neuropipe.models.hmm_glm import ascent
from neuropipe.models.hmm_glm.config import Config
from neuropipe.models.hmm_glm.estimator import HMMGLM
from neuropipe.models.hmm_glm.faithful import fit_faithful
from neuropipe.models.hmm_glm.model import (
    Batch,
    Form,
    Parameters,
    e_step,
    expectation_maximization,
    fisher_errors,
)
from neuropipe.models.hmm_glm.search import one_state, take
from neuropipe.models.hmm_glm.simulate import Plan, draw, simulate
from neuropipe.preprocess import apply_steps
from neuropipe.training.checkpoint import Checkpoint


def random_parameters(rng, n_states: int, n_units: int, n_features: int) -> Parameters:
    chain = rng.dirichlet(np.ones(n_states), n_states)
    return Parameters(
        torch.as_tensor(rng.normal(0, 0.4, (1, n_states, n_units, n_features))),
        torch.as_tensor(rng.normal(-0.5, 0.3, (1, n_states, n_units))),
        torch.as_tensor(chain)[None],
        torch.as_tensor(rng.dirichlet(np.ones(n_states)))[None],
        torch.ones(1, n_units, dtype=torch.float64),
    )


def random_batch(rng, n_bins: int, n_units: int, n_features: int, lengths=None) -> Batch:
    return Batch(
        torch.as_tensor(rng.normal(size=(n_bins, n_features))),
        torch.as_tensor(rng.poisson(0.7, (n_bins, n_units)).astype(float)),
        torch.ones(n_bins, dtype=torch.bool),
        torch.as_tensor(lengths or [n_bins]),
    )


def enumerated(batch: Batch, p: Parameters) -> tuple[float, np.ndarray, np.ndarray]:
    """Sum over every state path: evidence, state probabilities, expected transitions."""
    x, y = batch.features.numpy(), batch.counts.numpy()
    weight, bias, chain, initial = (t[0].numpy() for t in p[:4])
    rate = 1 / (1 + np.exp(-(np.einsum("tf,snf->tsn", x, weight) + bias)))
    log_p = stats.poisson.logpmf(y[:, None], rate).sum(2)
    log_p[~batch.observed.numpy()] = 0.0
    n_bins, n_states = log_p.shape
    evidence, gamma, xi = 0.0, np.zeros_like(log_p), np.zeros_like(chain)
    for path in product(range(n_states), repeat=n_bins):
        steps = list(pairwise(path))
        joint = initial[path[0]] * np.prod([chain[a, b] for a, b in steps])
        joint *= np.exp(log_p[range(n_bins), path].sum())
        evidence += joint
        gamma[range(n_bins), path] += joint
        for a, b in steps:
            xi[a, b] += joint
    return np.log(evidence), gamma / evidence, xi / evidence


@pytest.mark.parametrize("missing", [(), (2, 3)])
def test_e_step_equals_the_sum_over_all_paths(missing):
    rng = np.random.default_rng(0)
    batch, p = random_batch(rng, 6, 4, 3), random_parameters(rng, 3, 4, 3)
    batch.observed[list(missing)] = False
    evidence, gamma, xi = enumerated(batch, p)
    got = e_step(batch, p, Form())
    assert float(got.log_evidence) == pytest.approx(evidence, abs=1e-10)
    np.testing.assert_allclose(got.state_probability[:, 0], gamma, atol=1e-10)
    np.testing.assert_allclose(got.transition_count[0], xi, atol=1e-10)


def test_sequences_of_unequal_length_and_restarts_are_independent():
    rng = np.random.default_rng(1)
    batch = random_batch(rng, 12, 4, 3, [7, 1, 4])
    both = [random_parameters(rng, 3, 4, 3) for _ in range(2)]
    together = Parameters(*(torch.cat(pair) for pair in zip(*both, strict=True)))
    got = e_step(batch, together, Form())
    for r, p in enumerate(both):
        alone = [e_step(take(batch, [i]), p, Form()) for i in range(3)]
        evidence = sum(float(a.log_evidence) for a in alone)
        assert float(got.log_evidence[r]) == pytest.approx(evidence, abs=1e-9)
        gamma = torch.cat([a.state_probability[:, 0] for a in alone])
        np.testing.assert_allclose(got.state_probability[:, r], gamma, atol=1e-12)


@pytest.mark.parametrize(
    ("family", "link"),
    [("poisson", "sigmoid"), ("poisson", "softplus"), ("poisson", "exp"), ("bernoulli", "sigmoid"),
     ("gaussian", "exp")],
)  # fmt: skip
@pytest.mark.parametrize("share_bias", [True, False])
def test_objective_never_falls(family, link, share_bias):
    rng = np.random.default_rng(2)
    batch = random_batch(rng, 300, 5, 4, [120, 180])
    if family == "bernoulli":
        batch = batch._replace(counts=batch.counts.clamp(max=1))
    start = random_parameters(rng, 3, 5, 4)
    if share_bias:
        start = start._replace(bias=start.bias.mean(1, keepdim=True).expand(-1, 3, -1).clone())
    form = Form(family, link, share_bias, 1 / 3, 5.0)
    found = expectation_maximization(batch, start, form, max_iterations=25, tolerance=1e-9)
    assert torch.diff(found.objective[:, 0]).min() > -1e-6
    assert found.objective[-1, 0] > found.objective[0, 0] + 1


def test_gradient_of_the_m_step_equals_differences():
    rng = np.random.default_rng(3)
    batch, p = random_batch(rng, 60, 3, 2), random_parameters(rng, 2, 3, 2)
    form = Form(share_bias=False, prior_sd=0.5)
    gamma = torch.as_tensor(rng.dirichlet(np.ones(2), 60))
    shares = [[ascent._share(batch, gamma[:, s]) for s in range(2)]]
    centre = p.weight.mean(1, keepdim=True)

    def value(weight, bias):
        return ascent._evaluate(shares, weight, bias, centre, p, form)[0][0]

    _, (by_weight, by_bias) = ascent._evaluate(shares, p.weight, p.bias, centre, p, form)
    step = 1e-6
    for index in [(0, 0, 1, 1), (0, 1, 2, 0)]:
        nudge = torch.zeros_like(p.weight)
        nudge[index] = step
        slope = (value(p.weight + nudge, p.bias) - value(p.weight - nudge, p.bias)) / (2 * step)
        assert float(by_weight[index]) == pytest.approx(float(slope), rel=1e-5)
    nudge = torch.zeros_like(p.bias)
    nudge[0, 1, 1] = step
    slope = (value(p.weight, p.bias + nudge) - value(p.weight, p.bias - nudge)) / (2 * step)
    assert float(by_bias[0, 1, 1]) == pytest.approx(float(slope), rel=1e-5)


@pytest.mark.parametrize("share_bias", [True, False])
def test_gaussian_m_step_is_weighted_least_squares_in_one_step(share_bias):
    rng = np.random.default_rng(4)
    batch = random_batch(rng, 200, 2, 3)
    gamma = torch.as_tensor(rng.dirichlet(np.ones(2), 200))[:, None]
    start = random_parameters(rng, 2, 2, 3)
    start = start._replace(bias=torch.zeros_like(start.bias))
    form = Form("gaussian", "exp", share_bias, None, 1e4)
    weight, bias = ascent.ascend(batch, gamma, start, form, 1)
    x, y = batch.features.numpy(), batch.counts.numpy()
    g = gamma[:, 0].numpy()
    intercept = [np.ones((200, 1)), np.zeros((200, 1))]
    blocks = []
    for s in range(2):
        own = [np.zeros_like(x), np.zeros_like(x)]
        own[s] = x
        ones = [np.ones((200, 1))] if share_bias else [intercept[s], intercept[1 - s]]
        blocks.append(np.concatenate([*own, *ones], 1) * np.sqrt(g[:, s, None]))
    design = np.concatenate(blocks)
    target = np.concatenate([y * np.sqrt(g[:, s, None]) for s in range(2)])
    solution = np.linalg.lstsq(design, target, rcond=None)[0]
    np.testing.assert_allclose(weight[0, 0].numpy().T, solution[:3], atol=1e-6)
    np.testing.assert_allclose(weight[0, 1].numpy().T, solution[3:6], atol=1e-6)
    np.testing.assert_allclose(bias[0, 0].numpy(), solution[6], atol=1e-6)
    np.testing.assert_allclose(bias[0, 1].numpy(), solution[6 if share_bias else 7], atol=1e-6)


def test_one_state_equals_the_poisson_regression_of_scikit_learn():
    rng = np.random.default_rng(5)
    batch = random_batch(rng, 800, 3, 4)
    got = one_state(batch, Form("poisson", "exp", ridge_sd=2.0))
    for unit in range(3):
        own = PoissonRegressor(alpha=1 / (800 * 4.0), tol=1e-10, max_iter=5000)
        own.fit(batch.features.numpy(), batch.counts[:, unit].numpy())
        np.testing.assert_allclose(got.weight[0, 0, unit], own.coef_, atol=2e-5)
        assert float(got.bias[0, 0, unit]) == pytest.approx(own.intercept_, abs=2e-5)


def test_standard_errors_equal_the_inverse_hessian():
    rng = np.random.default_rng(6)
    batch = random_batch(rng, 500, 1, 2)
    form = Form("poisson", "exp", ridge_sd=5.0)
    p = one_state(batch, form)
    got, _ = fisher_errors(batch, p, torch.ones(500, 1, dtype=torch.float64), form, 1 / 25)

    def loss(theta):
        eta = batch.features @ theta[:2] + theta[2]
        own = (batch.counts[:, 0] * eta - eta.exp()).sum()
        return -own + 0.5 / 25 * theta[:2].square().sum()

    theta = torch.cat([p.weight[0, 0, 0], p.bias[0, 0]])
    covariance = torch.linalg.inv(torch.autograd.functional.hessian(loss, theta))
    np.testing.assert_allclose(got[0, 0], covariance.diagonal().sqrt()[:2], rtol=1e-4)


@pytest.mark.parametrize("n_units", [50, 100, 200])
def test_states_do_not_collapse_with_many_neurons(n_units):
    rng = np.random.default_rng(7)
    state = np.repeat([0, 1, 2, 1, 0, 2], 100)
    rate = rng.choice([0.05, 0.9], (3, n_units))
    batch = Batch(
        torch.zeros(600, 1, dtype=torch.float64),
        torch.as_tensor(rng.poisson(rate[state]).astype(float)),
        torch.ones(600, dtype=torch.bool),
        torch.tensor([600]),
    )
    bias = torch.as_tensor(np.log(rate / (1 - rate)))[None]
    chain = torch.full((1, 3, 3), 0.01, dtype=torch.float64)
    chain[0].fill_diagonal_(0.98)
    p = Parameters(
        torch.zeros(1, 3, n_units, 1, dtype=torch.float64), bias, chain,
        torch.full((1, 3), 1 / 3, dtype=torch.float64),
        torch.ones(1, n_units, dtype=torch.float64),
    )  # fmt: skip
    guess = e_step(batch, p, Form(share_bias=False)).state_probability[:, 0].argmax(-1)
    assert (guess.numpy() == state).all()


def test_agrees_with_dynamax():
    """Filter, smoother, evidence and expected transitions of an independent library."""
    pytest.importorskip("dynamax", reason="dynamax is not installed (extra: oracles)")
    import jax

    jax.config.update("jax_enable_x64", True)
    from dynamax.hidden_markov_model import hmm_smoother
    from neuropipe_kernels import hmm_fb

    rng = np.random.default_rng(8)
    log_likelihood = rng.normal(0, 3, (500, 4))
    chain, initial = rng.dirichlet(np.ones(4), 4), rng.dirichlet(np.ones(4))
    theirs = hmm_smoother(initial, chain, log_likelihood)
    ours = hmm_fb(
        torch.as_tensor(log_likelihood)[None], torch.as_tensor(chain), torch.as_tensor(initial)
    )
    assert float(ours.log_evidence[0]) == pytest.approx(float(theirs.marginal_loglik), abs=1e-6)
    np.testing.assert_allclose(ours.state_probability[0], theirs.smoothed_probs, atol=1e-6)
    np.testing.assert_allclose(ours.transition_count[0], theirs.trans_probs, atol=1e-6)
    # the filter at t is the smoother of the sequence that ends at t
    for t in (0, 1, 250):
        ended = hmm_fb(
            torch.as_tensor(log_likelihood[: t + 1])[None], torch.as_tensor(chain),
            torch.as_tensor(initial),
        )  # fmt: skip
        np.testing.assert_allclose(
            ended.state_probability[0, -1], theirs.filtered_probs[t], atol=1e-6
        )


def test_small_planted_session_is_recovered_and_beats_what_is_simpler():
    planted = plant(3, 4, 4, n_states=3, n_units=10, n_bins=1000)
    one_hot = compare(planted, fit(planted, "one_hot"))
    plain = compare(planted, fit(planted, "none"))
    glm = compare(planted, fit(planted, "none", n_states=1))
    assert one_hot["gap"] < plain["gap"] < glm["gap"]
    assert one_hot["gap"] < 0.05
    assert one_hot["accuracy_lost"] < 0.02
    assert one_hot["adjacency"] > max(one_hot["all_none"], 0.9)


def test_history_and_simulator_share_one_convention():
    counts, _, truth = draw(Plan(n_sequences=1, n_bins=50, n_units=4, n_states=2), 0)
    basis = history_basis("exponential", 5, 1)
    np.testing.assert_allclose(basis[:, 0], [0.6364, 0.2341, 0.0861, 0.0317, 0.0117], atol=5e-5)
    features = filter_history(counts[0], basis)
    by_hand = sum(basis[k, 0] * counts[0][19 - k] for k in range(5))
    np.testing.assert_allclose(features[20], by_hand)
    assert set(np.unique(truth["adjacency"])) <= {-1, 0, 1}
    assert batch_of(counts).features.shape == (50, 4)
    assert FORM.share_bias


def planted_choices(seed: int) -> xr.DataTree:
    """Draw sessions of choices: an engaged state that follows the stimulus, a biased one."""
    rng = np.random.default_rng(seed)
    n = 1500
    state = (rng.random(n) < 0.02).cumsum() % 2
    stimulus = rng.normal(size=n)
    eta = np.where(state == 0, 4 * stimulus, 1.5)
    choice = (rng.random(n) < 1 / (1 + np.exp(-eta))).astype(float)
    trials = xr.Dataset(
        {
            "start_time": ("trial", np.arange(n) * 2.0, {"units": "s"}),
            "stop_time": ("trial", np.arange(n) * 2.0 + 1, {"units": "s"}),
            "choice": ("trial", choice, {"units": "1"}),
            "stimulus": ("trial", stimulus, {"units": "1"}),
            "state": ("trial", state, {"units": "1"}),
        }
    )
    root = xr.Dataset(attrs={"session": f"s{seed}"})
    return xr.DataTree.from_dict({"/": root, "/trials": trials})


def test_choices_of_trials_fit_a_bernoulli_glm_hmm():
    sessions = [planted_choices(seed) for seed in (0, 1)]
    model = HMMGLM(
        n_states=2, observations="trials", response="choice", covariates=("stimulus",),
        family="bernoulli", link="sigmoid", prior="none",
    )  # fmt: skip
    model.fit(sessions, seed=1)
    sd = np.concatenate([s["trials"]["stimulus"].values for s in sessions]).std()
    weight = np.sort(model.parameters_["covariate_weight"].values[:, 0, 0]) / sd
    assert abs(weight[0]) < 0.4
    assert weight[1] == pytest.approx(4, abs=0.8)
    path = model.transform(sessions[0])["state"].values
    truth = sessions[0]["trials"]["state"].values
    assert max(np.mean(path == truth), np.mean(path != truth)) > 0.9
    assert set(model.score(sessions[0])) == {"log_likelihood_per_bin"}


def test_observations_that_a_family_gives_no_chance_are_refused():
    """Choices of -1 and 1 had a likelihood above 1 under a Bernoulli family, and no error."""
    one, two = (planted_choices(seed) for seed in (0, 1))
    settings = {
        "n_states": 2, "observations": "trials", "response": "choice", "covariates": ("stimulus",),
        "family": "bernoulli", "link": "sigmoid", "prior": "none", "max_iterations": 3,
    }  # fmt: skip

    def chosen(values: np.ndarray) -> xr.DataTree:
        out, node = one.copy(), one["trials"].to_dataset()
        out["trials"] = xr.DataTree(node.assign(choice=("trial", values, {"units": "1"})))
        return out

    choice = one["trials/choice"].values
    with pytest.raises(DataError, match=r"trials holds -1, expected 0 or 1 for family bernoulli"):
        HMMGLM(**settings).fit([chosen(2 * choice - 1)], seed=1)
    side = np.where(choice > 0, "left", "right").astype(object)
    with pytest.raises(DataError, match=r"'choice' of node trials has .* dtype object, expected"):
        HMMGLM(**settings).fit([chosen(side)], seed=1)
    two.attrs["subject"] = "another"  # who may choose alike
    one.attrs["subject"] = "one"
    assert HMMGLM(**settings).fit([one], seed=1).score(two)["log_likelihood_per_bin"] < 0


def test_without_history_and_covariates_it_is_a_plain_hmm():
    drawn, _ = simulate(Plan(n_states=2, n_units=5, n_bins=400, n_sequences=2), 3)
    rec = apply_steps(drawn, [{"step": "bin_spikes", "bin_width_s": 0.02, "start_s": 0.0}])
    quick = {"n_restarts": 2, "screen_iterations": 4, "max_iterations": 10}
    model = HMMGLM(n_states=2, history_bins=0, prior="gaussian", **quick).fit([rec], seed=1)
    assert model.parameters_["weight"].size == 0
    assert 0 < model.score(rec)["bits_per_spike"] < 1


def test_choosing_the_number_of_states_needs_windows_and_finds_the_planted_number():
    drawn, _ = simulate(Plan(n_states=2, n_units=8, n_bins=800, n_sequences=6, stay=0.95), 11)
    rec = apply_steps(drawn, [{"step": "bin_spikes", "bin_width_s": 0.02, "start_s": 0.0}])
    model = HMMGLM(
        n_states=(1, 2, 3), link="sigmoid", prior="gaussian", share_bias=True, n_restarts=3,
        screen_iterations=10, selection_folds=2,
    )  # fmt: skip
    model.fit([rec], seed=1)
    table = model.parameters_["state_number_log_likelihood"]
    assert model.parameters_.sizes["state"] == 2
    assert int(np.argmax(table.mean("inner_fold").values)) == 1
    whole = rec.copy()
    del whole["trials"]
    with pytest.raises(DataError, match="at least 2 training windows"):
        HMMGLM(n_states=(1, 2)).fit([whole], seed=1)


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="one_hot judges one weight an edge"):
        Config(basis="raised_cosine", n_basis=4)
    with pytest.raises(ValueError, match="bernoulli needs link sigmoid"):
        Config(family="bernoulli", link="exp", prior="none")
    with pytest.raises(NotFittedError, match="call fit"):
        HMMGLM(n_states=2).score(xr.DataTree())
    planted = plant(0, 1, 1, n_states=2, n_units=3, n_bins=200)
    wide = planted.train._replace(features=planted.train.features.repeat(1, 2))
    config = Config(n_states=2, preset="faithful_2024", link="sigmoid")
    with pytest.raises(ConfigError, match="no covariates"):
        fit_faithful(wide, 2, config, seed=0, checkpoint=Checkpoint(None, ""))
