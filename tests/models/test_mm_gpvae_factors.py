"""Where the MM-GPVAE starts from: factors of smoothed data, and an encoder that fits them."""

import numpy as np
from planted_latents import Planted

from neuropipe.models.mm_gpvae.estimator import MMGPVAE
from neuropipe.models.mm_gpvae.factors import factors, regression
from neuropipe.models.mm_gpvae.simulate import gp_latents


def test_factors_come_back_with_their_loadings_the_smoothest_first():
    rng = np.random.default_rng(0)
    z = gp_latents(rng, 8, 400, np.array([6.0, 40.0]))
    loading = rng.standard_normal((12, 2))
    blocks = [x @ loading.T + 5 + 0.01 * rng.standard_normal((400, 12)) for x in z]
    found, weight = factors(blocks, 2, lag=6)
    r = np.corrcoef(found.T, z.reshape(-1, 2).T)[:2, 2:]
    np.testing.assert_allclose(np.abs(r), [[0, 1], [1, 0]], atol=0.2)
    np.testing.assert_allclose(found.T @ found / len(found), np.eye(2), atol=1e-6)
    data = np.concatenate(blocks)
    np.testing.assert_allclose(found @ weight.T, data - data.mean(0), atol=0.1)


def test_regression_says_what_share_it_explains():
    rng = np.random.default_rng(1)
    y = rng.standard_normal((20_000, 1))
    x = y + np.array([0.5, 1.0]) * rng.standard_normal((20_000, 2))
    slope, offset, share = regression(x, y)
    # precisions of the prior and of both channels: 1, 4 and 1
    np.testing.assert_allclose(slope, [[4 / 6, 1 / 6]], atol=0.02)
    np.testing.assert_allclose(offset, 0, atol=0.02)
    np.testing.assert_allclose(share, 5 / 6, atol=0.02)


def test_a_fit_begins_near_its_end():
    planted = Planted(0, 40, 10)
    still = {"epochs": 1, "batch_size": 20, "learning_rate": 1e-7}
    first = {}
    for start in ("factors", "random"):
        model = MMGPVAE(align_share=0, neural_start=start, training=still)
        history = model.fit([planted.train], seed=0).history_
        first[start] = float(history["neural_log_likelihood"][0])
    model = MMGPVAE(align_share=0, training={**still, "epochs": 10, "learning_rate": 0.01})
    end = float(model.fit([planted.train], seed=0).history_["neural_log_likelihood"][-1])
    assert first["random"] < first["factors"] < end
    assert end - first["factors"] < 0.3 * (end - first["random"])
