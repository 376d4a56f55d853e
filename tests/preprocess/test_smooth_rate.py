"""Smoothing: a constant stays a constant, nothing leaks from the future, all stays lazy."""

import dask.array as da
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_session import QUICK, counted

from neuropipe.errors import DataError
from neuropipe.preprocess.smooth_rate import smooth_rate

SIZES = {"n_bins": st.integers(1, 60), "sd": st.floats(0.01, 3), "causal": st.booleans()}


def rate_of(counts, sd, causal=False, lazy=False):
    return smooth_rate(counted(counts, lazy=lazy), sd_s=sd, causal=causal)["counts/rate"].values


@QUICK
@given(**SIZES, level=st.integers(0, 9))
def test_a_constant_stays_constant(n_bins, sd, causal, level):
    rate = rate_of(np.full((n_bins, 2), level), sd, causal)
    np.testing.assert_allclose(rate, level / 0.1, rtol=1e-5)


@QUICK
@given(**SIZES, at=st.integers(0, 59))
def test_causal_uses_no_future_bin(n_bins, sd, causal, at):
    at = at % n_bins
    counts = np.random.default_rng(n_bins).poisson(2, (n_bins, 1))
    other = counts.copy()
    other[at] += 5
    before = rate_of(counts, sd, True), rate_of(other, sd, True)
    np.testing.assert_array_equal(before[0][:at], before[1][:at])
    assert before[0][at] < before[1][at]


@QUICK
@given(**SIZES)
def test_chunks_do_not_change_numbers(n_bins, sd, causal):
    counts = np.random.default_rng(n_bins).poisson(2, (n_bins, 3))
    whole, cut = rate_of(counts, sd, causal), rate_of(counts, sd, causal, lazy=True)
    np.testing.assert_allclose(whole, cut, rtol=1e-6)


def test_equals_the_sum_written_out():
    counts = np.random.default_rng(0).poisson(1, (25, 1)).astype(float)
    sd, width = 0.15, 0.1
    lag = (np.arange(25)[:, None] - np.arange(25)) * width
    kernel = np.where(np.abs(lag) <= 4 * sd + 1e-9, np.exp(-0.5 * (lag / sd) ** 2), 0)
    expected = kernel @ counts / kernel.sum(1, keepdims=True) / width
    np.testing.assert_allclose(rate_of(counts, sd), expected, rtol=1e-5)


def test_lazy_with_units():
    out = smooth_rate(counted(np.ones((9, 2)), lazy=True), sd_s=0.2)
    assert isinstance(out["counts/rate"].data, da.Array)
    assert out["counts/rate"].attrs["units"] == "Hz"
    assert out["counts/rate"].dims == ("time", "unit")


def test_a_kernel_longer_than_the_recording():
    assert rate_of(np.eye(5), 30.0).shape == (5, 5)


def test_sd_must_be_positive():
    with pytest.raises(DataError, match="sd_s"):
        smooth_rate(counted(np.ones((9, 2))), sd_s=0.0)
