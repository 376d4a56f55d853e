"""GPFA beside elephant itself, a dense Gaussian, and on unequal and gapped trials."""

import sys

import numpy as np
import planted_pairs as planted
import pytest

from neuropipe.baselines.gpfa import GP_NOISE, GPFA, MARGIN, Process, _pieces, elephant_core
from neuropipe.errors import BackendUnavailable

LENGTHS = (60, 35, 130, 50, 41, 66, 72, 33, 58, 210)


def test_without_elephant_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "elephant", None)
    monkeypatch.setitem(sys.modules, "elephant.gpfa", None)
    with pytest.raises(BackendUnavailable, match=r"pip install 'neuropipe\[gpfa\]'"):
        GPFA().fit([], seed=0)


@pytest.fixture(scope="module")
def elephant():
    pytest.importorskip("elephant", reason="needs the extra gpfa")
    return elephant_core()


@pytest.fixture(scope="module")
def process():
    rng = np.random.default_rng(0)
    return Process(
        False, rng.normal(size=(7, 2)), rng.normal(size=7), rng.uniform(0.3, 1, 7),
        np.array([0.02, 0.1]),
    )  # fmt: skip


def conditional_mean(process, data, seen):
    """Posterior mean of the latents of one window by the joint Gaussian of all bins."""
    n, p = len(data), len(process.gamma)
    gap = np.subtract.outer(np.arange(n), np.arange(n))
    prior = np.zeros((p, n, p, n))
    for k, gamma in enumerate(process.gamma):
        prior[k, :, k] = (1 - GP_NOISE) * np.exp(-gamma * gap**2 / 2) + GP_NOISE * np.eye(n)
    prior = prior.reshape(p * n, p * n)
    read = np.kron(process.loading[seen], np.eye(n))
    noise = np.kron(np.diag(process.noise[seen]), np.eye(n))
    value = (data - process.mean)[:, seen].T.ravel()
    mean = prior @ read.T @ np.linalg.solve(read @ prior @ read.T + noise, value)
    return mean.reshape(p, n).T


def test_latents_of_some_units_are_a_gaussian_conditional(elephant, process):
    rng = np.random.default_rng(1)
    blocks = [rng.normal(size=(n, 7)) for n in (9, 14, 9)]
    seen = np.arange(7) % 3 > 0
    want = np.concatenate([conditional_mean(process, b, seen) for b in blocks])
    np.testing.assert_allclose(process(blocks, seen), want, rtol=1e-7, atol=1e-9)


def test_long_windows_in_pieces_are_as_the_whole(elephant, process):
    rng = np.random.default_rng(2)
    block = rng.normal(size=(237, 7))
    want = conditional_mean(process, block, np.ones(7, bool))
    np.testing.assert_allclose(process([block], np.ones(7, bool)), want, atol=3e-3)


@pytest.mark.parametrize("length", [1, 100, 101, 150, 151, 999])
def test_pieces_keep_every_bin_once(length):
    seen = np.zeros(length, int)
    for first, last, low, high in _pieces(length, MARGIN[0]):
        assert 0 <= first < last <= length
        seen[first + low : first + high] += 1
    assert (seen == 1).all()


@pytest.mark.filterwarnings("ignore")  # elephant's own, of its packages and variance floors
def test_fit_is_elephants(elephant):
    """Trials of elephant's segment length, where its random overlaps play no part."""
    import neo
    import quantities as pq
    from elephant.gpfa import GPFA as Elephants

    lengths = (20,) * 30
    _, counts, _ = planted.drawn(lengths, n_units=10, seed=3)
    tree, edges = planted.session(lengths, counts)
    train, held = planted.sides(tree, edges, 25)
    settings = {"n_latents": 2, "max_iterations": 30, "segment_bins": 20}
    ours = GPFA(**settings).fit([train], seed=0)
    trials = []
    for k in range(30):
        block = counts[20 * k : 20 * (k + 1)]
        trials.append([
            neo.SpikeTrain(
                np.repeat((np.arange(20) + 0.5) * 20, block[:, u]) * pq.ms, t_stop=400 * pq.ms
            )
            for u in range(10)
        ])  # fmt: skip
    theirs = Elephants(bin_size=20 * pq.ms, x_dim=2, em_max_iters=30).fit(trials[:25])
    values = np.array(theirs.fit_info["log_likelihoods"], float)
    want = values[np.isfinite(values)]
    got = -ours.history_["objective"].values
    np.testing.assert_allclose(got[-1], want[-1], rtol=1e-3)
    fitted = theirs.params_estimated
    same = Process(True, fitted["C"], fitted["d"], np.diag(fitted["R"]), fitted["gamma"])
    blocks = [counts[20 * k : 20 * (k + 1)].astype(float) for k in range(25, 30)]
    latent = theirs.transform(trials[25:], returned_data=["latent_variable"])
    np.testing.assert_allclose(
        same(blocks, np.ones(10, bool)), np.concatenate([x.T for x in latent]), rtol=1e-6, atol=1e-8
    )
    found = ours.transform(held)["latent"].values
    span = planted.recovered(found, np.concatenate([x.T for x in latent]), found,
                             np.concatenate([x.T for x in latent]))  # fmt: skip
    assert (span > 0.98).all()


def test_unequal_and_gapped_trials_and_every_score(elephant, tmp_path):
    latent, counts, behavior = planted.drawn(LENGTHS, n_units=30, seed=2)
    observed = np.ones(len(counts), bool)
    observed[70:75] = observed[-100:-90] = False
    tree, edges = planted.session(LENGTHS, counts, behavior, observed)
    train, held = planted.sides(tree, edges, 8)
    model = GPFA(n_latents=(1, 2), max_iterations=20, choice_iterations=8).fit([train], seed=0)
    assert model.parameters_.sizes["latent"] == 2
    n = sum(LENGTHS[:8])
    found, found_held = (model.transform(r)["latent"].values for r in (train, held))
    assert np.isfinite(found_held).all()
    assert (planted.recovered(found, latent[:n], found_held, latent[n:])[:2] > 0.6).all()
    length_scale = model.parameters_["length_scale"].values / planted.WIDTH_S
    assert ((length_scale > 5) & (length_scale < 20)).all()  # planted: filter sd 8, so 8 sqrt 2
    scores = model.score(held)
    assert scores["co_smoothing_bits_per_spike"] > 0.1
    assert scores["behavior_from_neural_r2"] > 0.1
    model.save(tmp_path)
    assert GPFA.load(tmp_path).score(held) == scores
