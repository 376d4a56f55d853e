"""Units take turns in being held out, and scores of what is predicted of them."""

import numpy as np
import pytest
from sklearn.metrics import r2_score

from neuropipe.batching.held_units import groups_of
from neuropipe.metrics import mean_r2, rate_bits_per_spike


@pytest.mark.parametrize(("n_units", "n_groups"), [(1, 0), (2, 2), (4, 4), (5, 5), (13, 5)])
def test_every_unit_is_held_out_once_and_never_all(n_units, n_groups):
    groups = groups_of(n_units)
    assert len(groups) == n_groups
    if groups:
        np.testing.assert_array_equal(np.sum(groups, axis=0), 1)
        assert all(not g.all() for g in groups)
        assert not any(g[i] and g[i + 1] for g in groups for i in range(n_units - 1))


def test_bits_per_spike_by_hand_and_over_missing_bins():
    counts = np.array([[1.0, 0], [0, 2], [np.nan, 3], [1, 1]])
    rate = np.array([[0.9, 0.2], [0.3, 1.5], [7.0, 7.0], [0.8, 1.2]])
    null = np.array([0.5, 1.0])
    seen = [0, 1, 3]
    gain = (counts[seen] * np.log(rate[seen] / null) - rate[seen] + null).sum()
    want = gain / np.log(2) / 5
    assert rate_bits_per_spike(rate, counts, null) == pytest.approx(want, rel=1e-12)
    assert rate_bits_per_spike(np.broadcast_to(null, counts.shape), counts, null) == 0.0
    assert np.isnan(rate_bits_per_spike(rate[:1], np.zeros((1, 2)), null))
    # a rate of exactly zero where a spike fell is bad, not fatal
    assert np.isfinite(rate_bits_per_spike(np.zeros((1, 2)), counts[:1], null))


def test_r2_is_about_the_training_mean():
    rng = np.random.default_rng(0)
    data = rng.normal(3, 1, (50, 4))
    found = data + rng.normal(0, 0.5, data.shape)
    same = data.mean(0)
    assert mean_r2(found, data, same) == pytest.approx(r2_score(data, found), rel=1e-12)
    assert mean_r2(np.broadcast_to(same + 1, data.shape), data, same + 1) == 0.0
    data[:, 1] = 5.0  # never moves, so it cannot be explained
    data[7, 2] = np.nan
    kept = [0, 2, 3]
    want = np.mean([
        r2_score(data[ok, k], found[ok, k])
        + (1 - r2_score(data[ok, k], found[ok, k]))
        * (1 - data[ok, k].var() / np.mean((data[ok, k] - same[k]) ** 2))
        for k in kept
        for ok in [np.isfinite(data[:, k])]
    ])  # fmt: skip
    mean = np.where(np.arange(4) == 1, 5.0, same)
    assert mean_r2(found, data, mean) == pytest.approx(want, rel=1e-12)
    assert np.isnan(mean_r2(found[:, 1:2], data[:, 1:2], mean[1:2]))
