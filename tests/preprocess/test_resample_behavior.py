"""Behaviour on the clock of the neural data: averaged or interpolated, never made up."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_session import QUICK, counted, with_calcium, with_series

from neuropipe.errors import DataError, SchemaError
from neuropipe.preprocess.bin_spikes import EDGE_S
from neuropipe.preprocess.resample_behavior import onto_grid, resample_behavior


def resampled(time, values, n_bins=20, width=0.1, **settings):
    recording = with_series(counted(np.ones((n_bins, 1)), width), "speed", time, values)
    out = resample_behavior(recording, signals=["speed"], **settings)
    return out["behavior/speed"].values


def test_a_fast_signal_is_averaged_in_each_bin():
    time = np.arange(2000) / 1000
    values = np.random.default_rng(1).normal(size=2000)
    np.testing.assert_allclose(
        resampled(time, values), values.reshape(20, 100).mean(1), rtol=1e-9, atol=1e-12
    )


def test_a_fast_oscillation_does_not_alias():
    time = (np.arange(4000) + 0.5) / 2000
    assert np.abs(resampled(time, np.sin(2 * np.pi * 200 * time))).max() < 1e-9


@QUICK
@given(st.floats(2.1, 9.9), st.floats(-3, 3), st.floats(-3, 3))
def test_a_slow_line_is_interpolated(rate, slope, offset):
    time = np.arange(-1, 3, 1 / rate)
    grid = (np.arange(20) + 0.5) * 0.1
    values = onto_grid(time, slope * time + offset, grid, 0.1, 1.0)
    lone = np.diff(np.searchsorted(time, np.append(grid - 0.05, 2.0) - EDGE_S)) == 0
    np.testing.assert_allclose(values[lone], (slope * grid + offset)[lone], atol=1e-9)


@QUICK
@given(st.lists(st.floats(0, 2), min_size=3, max_size=40, unique=True), st.floats(0.05, 0.5))
def test_unequal_rates_stay_within_what_was_measured(time, max_gap):
    time = np.sort(time)
    values = np.sin(7 * time)
    out = onto_grid(time, values, (np.arange(20) + 0.5) * 0.1, 0.1, max_gap)
    seen = out[np.isfinite(out)]
    assert ((seen >= values.min() - 1e-9) & (seen <= values.max() + 1e-9)).all()


@QUICK
@given(st.integers(0, 19), st.integers(4, 12))
def test_a_gap_stays_missing(first, length):
    """Fast samples, some of them NaN: a bin far from any finite sample is NaN."""
    time = (np.arange(200) + 0.5) / 100
    values = np.ones(200)
    lost = (time >= first * 0.1) & (time < (first + length) * 0.1)
    values[lost] = np.nan
    if np.isfinite(values).sum() < 2:
        return
    out = resampled(time, values, max_gap_s=0.25)
    grid = (np.arange(20) + 0.5) * 0.1
    inside = (grid > first * 0.1) & (grid < (first + length) * 0.1)
    # at the ends of the data a bin within max_gap_s of the last sample still counts as seen
    deep = inside & (np.abs(grid[:, None] - time[~lost]).min(1) > 0.25)
    assert np.isnan(out[deep]).all()
    np.testing.assert_allclose(out[~inside], 1.0)
    if first > 0 and first + length < 20:
        assert np.isnan(out[inside]).all()


def test_columns_and_names_and_units():
    xy = np.stack([np.arange(20.0), -np.arange(20.0)], 1)
    recording = with_series(counted(np.ones((20, 1))), "place", np.arange(20) * 0.1, xy, "cm")
    out = resample_behavior(recording, signals=["place"])
    assert set(out["behavior"].data_vars) == {"place_0", "place_1"}
    assert out["behavior/place_1"].attrs["units"] == "cm"
    np.testing.assert_array_equal(out["behavior/time"].values, out["counts/time"].values)
    np.testing.assert_array_equal(out["behavior_source/place/place"].values, xy)


def test_a_second_call_adds_to_the_first():
    recording = counted(np.ones((20, 1)))
    for name in ("a", "b"):
        recording = with_series(recording, name, np.arange(20) * 0.1, np.arange(20))
    once = resample_behavior(recording, signals=["a"])
    twice = resample_behavior(once, signals=["b"])
    assert set(twice["behavior"].data_vars) == {"a", "b"}
    with pytest.raises(DataError, match="already has a"):
        resample_behavior(twice, signals=["a"])


@pytest.mark.parametrize(
    ("signals", "message"),
    [(["sped"], "no series 'sped'.*it has speed"), (["speed/x"], "has speed, not 'x'")],
)
def test_unknown_signals_list_the_known(signals, message):
    recording = with_series(counted(np.ones((20, 1))), "speed", np.arange(20) * 0.1, np.arange(20))
    with pytest.raises(DataError, match=message):
        resample_behavior(recording, signals=signals)


def test_another_clock_is_noticed():
    with pytest.raises(DataError, match="check its clock"):
        resampled(1e6 + np.arange(20) * 0.1, np.arange(20))


def test_needs_counts():
    recording = with_series(counted(np.ones((20, 1))), "speed", [0, 1], [0, 1])
    del recording["counts"]
    with pytest.raises(SchemaError, match="counts: node missing"):
        resample_behavior(recording, signals=["speed"])


def test_the_clock_of_traces():
    recording = counted(np.ones((20, 1)))
    recording = with_calcium(recording, "hvc", np.zeros((10, 2)), rate_hz=20.0, start_s=0.1)
    values = np.random.default_rng(2).normal(size=(200, 2))
    recording = with_series(recording, "song", (np.arange(200) + 0.5) / 200, values)
    out = resample_behavior(recording, signals=["song"], clock="calcium/hvc")
    np.testing.assert_array_equal(out["behavior/time"].values, out["calcium/hvc/time"].values)
    # samples that lie within half an interval of 50 ms around each of the traces
    expected = values[15:115].reshape(10, 10, 2).mean(1)
    np.testing.assert_allclose(out["behavior/song_1"].values, expected[:, 1], atol=1e-12)
    with pytest.raises(SchemaError, match="calcium/ca1"):
        resample_behavior(recording, signals=["song"], clock="calcium/ca1")
