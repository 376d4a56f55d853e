"""Resampling: equal to scipy and mne on each whole run, whatever the blocks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_voltages import FEW, RATE, ieeg, is_close, noise, of_runs
from scipy import signal

from neuropipe.errors import DataError
from neuropipe.preprocess.resample_signal import resample_signal


@pytest.mark.parametrize(("rate", "up", "down"), [(100, 2, 5), (125, 1, 2), (256, 128, 125)])
def test_equals_scipy(rate, up, down):
    made = ieeg(noise(4001), chunks=600, runs=[1500])
    node = resample_signal(made, rate_hz=rate)["ieeg"]
    found = node["voltage"].values
    expected = of_runs(made, lambda x: signal.resample_poly(x, up, down, axis=1, padtype="reflect"))
    is_close(found, expected, 1e-10)
    assert node.attrs["sampling_rate_hz"] == rate
    n = -(-1500 * up // down)
    np.testing.assert_allclose(node["time"][:n], np.arange(n) / rate)
    np.testing.assert_allclose(node["time"][n : n + 2], 16 + np.arange(2) / rate)


def test_equals_mne():
    import mne

    made = ieeg(noise(3000), chunks=700)
    expected = of_runs(
        made, lambda x: mne.filter.resample(x, 100, RATE, method="polyphase", verbose="error")
    )
    is_close(resample_signal(made, rate_hz=100)["ieeg/voltage"], expected, 1e-10)


@FEW
@given(
    n=st.integers(50, 4000),
    chunk=st.integers(20, 2000),
    cut=st.floats(0.1, 0.9),
    rate=st.sampled_from([50, 100, 200, 300, 500]),
)
def test_any_blocks_give_the_same(n, chunk, cut, rate):
    values, runs = noise(n, 2, seed=n), [int(cut * n)]
    whole = resample_signal(ieeg(values, runs=runs), rate_hz=rate)["ieeg"]
    cut_up = resample_signal(ieeg(values, chunk, runs), rate_hz=rate)["ieeg"]
    is_close(cut_up["voltage"].values, whole["voltage"].values, 1e-10)
    np.testing.assert_array_equal(cut_up["time"], whole["time"])


def test_nothing_folds_back():
    time = np.arange(5000) / RATE
    tones = np.stack([np.sin(2 * np.pi * 10 * time), np.sin(2 * np.pi * 80 * time)], axis=1)
    found = resample_signal(ieeg(tones), rate_hz=100)["ieeg/voltage"].values[100:-100]
    np.testing.assert_allclose(found[:, 0].std(), np.sqrt(0.5), rtol=0.001)
    assert np.abs(found[:, 1]).max() < 1e-3


@pytest.mark.parametrize("rate", [100.0001, 0, -5, np.inf, 1e-9])
def test_no_simple_ratio(rate):
    with pytest.raises(DataError, match=r"resample_signal: .*expected"):
        resample_signal(ieeg(noise(100)), rate_hz=rate)
