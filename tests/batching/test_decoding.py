"""Scores of decoded behaviour, and their null."""

import numpy as np
import pytest
from scipy.signal import lfilter

from neuropipe.batching.decoding import circular_shifts, decoding_scores


def slow(n: int, seed: int) -> np.ndarray:
    """Return a signal that stays alike for about twenty samples."""
    return lfilter([1], [1, -0.95], np.random.default_rng(seed).normal(size=n))[:, None]


def scores(label, estimate, n_shuffles=200):
    return decoding_scores(
        label, estimate, rng=np.random.default_rng(0), n_shuffles=n_shuffles
    )  # fmt: skip


def test_r_and_r2_are_those_worked_out_by_hand():
    label = np.array([[0.0, 1.0], [1.0, 3.0], [2.0, 2.0], [3.0, 6.0], [np.nan, 1.0]])
    estimate = np.array([[0.0, 1.0], [1.0, 2.0], [2.0, 3.0], [4.0, 4.0], [9.0, 9.0]])
    found = scores(label, estimate)
    r = [np.corrcoef(label[:4, k], estimate[:4, k])[0, 1] for k in (0, 1)]
    assert found["decoding_r"] == pytest.approx(np.mean(r))
    r2 = [1 - 1 / 5, 1 - (1 + 1 + 4) / 14]
    assert found["decoding_r2"] == pytest.approx(np.mean(r2))
    assert np.isnan(found["decoding_p"])  # too few samples for shifts


def test_slow_signals_that_have_nothing_in_common_are_rarely_above_their_null():
    """White noise as a null would call almost all of them decoded."""
    above, naive = [], []
    for seed in range(60):
        label, estimate = slow(400, 2 * seed), slow(400, 2 * seed + 1)
        found = scores(label, estimate)
        above.append(found["decoding_p"] <= 0.05)
        naive.append(abs(found["decoding_r"]) > 1.96 / np.sqrt(400))
    assert np.mean(above) <= 0.15
    assert np.mean(naive) >= 0.4


def test_what_is_decoded_stands_above_its_null():
    label = slow(400, 0)
    found = scores(label, label + 0.5 * slow(400, 1))
    assert found["decoding_p"] == pytest.approx(1 / 201)
    assert found["decoding_r"] > found["decoding_null_r"]


def test_channels_that_never_change_have_no_score():
    label = np.concatenate([slow(50, 0), np.ones((50, 1))], 1)
    assert scores(label, label)["decoding_r"] == pytest.approx(1.0)
    assert np.isnan(scores(label[:, 1:], label[:, 1:])["decoding_r"])
    assert scores(label[:, :1], np.zeros((50, 1)))["decoding_r"] == 0.0


def test_shifts_stay_away_from_none():
    moved = circular_shifts(100, 1000, np.random.default_rng(0))
    assert (moved.min(), moved.max()) == (5, 95)
    assert len(circular_shifts(7, 10, np.random.default_rng(0))) == 0
