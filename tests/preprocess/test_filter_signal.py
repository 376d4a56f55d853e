"""Filters: equal to mne and scipy on each whole run, whatever the blocks; runs never meet."""

import warnings

import dask
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_voltages import FEW, RATE, ieeg, is_close, noise, of_runs
from scipy import signal

from neuropipe.errors import DataError
from neuropipe.preprocess import filter_signal as room
from neuropipe.preprocess.filter_signal import filter_signal

BANDS = [
    {"low_hz": 1.0},
    {"high_hz": 40.0},
    {"low_hz": 4.0, "high_hz": 30.0},
    {"notch_hz": [50.0, 100.0]},
    {"low_hz": 2.0, "high_hz": 110.0, "notch_hz": [50.0]},
]


def by_mne(values, low_hz=None, high_hz=None, notch_hz=None):
    import mne

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "filter_length")  # said of short runs, as ours
        if low_hz or high_hz:
            values = mne.filter.filter_data(values, RATE, low_hz, high_hz, verbose="error")
        if notch_hz:
            values = mne.filter.notch_filter(values, RATE, np.array(notch_hz), verbose="error")
    return values


def by_scipy(values, order=4, low_hz=None, high_hz=None, notch_hz=()):
    design = {"fs": RATE, "output": "sos"}
    stages = []
    if low_hz and high_hz:
        stages.append(signal.butter(order, (low_hz, high_hz), "bandpass", **design))
    elif low_hz or high_hz:
        kind = "highpass" if low_hz else "lowpass"
        stages.append(signal.butter(order, low_hz or high_hz, kind, **design))
    for hz in notch_hz:
        edges = (hz - hz / 400 - 0.5, hz + hz / 400 + 0.5)
        stages.append(signal.butter(order, edges, "bandstop", **design))
    return signal.sosfiltfilt(np.concatenate(stages), values, axis=1)


@pytest.mark.parametrize("band", BANDS)
def test_fir_equals_mne(band):
    made = ieeg(noise(6000), chunks=500, runs=[2500])
    found = filter_signal(made, **band)["ieeg/voltage"]
    assert dask.is_dask_collection(found.data)
    is_close(found, of_runs(made, lambda x: by_mne(x, **band)), 1e-10)


@pytest.mark.parametrize("band", BANDS)
def test_iir_equals_scipy(band):
    made = ieeg(noise(20_000), chunks=2000, runs=[9000])
    found = filter_signal(made, method="iir", **band)["ieeg/voltage"]
    is_close(found, of_runs(made, lambda x: by_scipy(x, **band)), 1e-8)


def test_silence_after_a_burst_never_sinks_into_subnormal_numbers():
    values = np.zeros((50_000, 3))
    values[:100] = noise(100)
    made = ieeg(values, chunks=50_000)
    found = filter_signal(made, method="iir", low_hz=4.0, high_hz=30.0)["ieeg/voltage"].values
    assert (np.abs(found).min(axis=1) > np.finfo(float).tiny).all()
    expected = by_scipy(values.T, low_hz=4.0, high_hz=30.0).T
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@FEW
@given(
    n=st.integers(300, 6000),
    chunk=st.integers(50, 3000),
    cut=st.floats(0.1, 0.9),
    band=st.sampled_from(BANDS),
    method=st.sampled_from(["fir", "iir"]),
)
def test_any_blocks_give_the_same(n, chunk, cut, band, method):
    values, runs = noise(n, 2, seed=n), [int(cut * n)]
    whole = filter_signal(ieeg(values, runs=runs), method=method, **band)["ieeg/voltage"].values
    cut_up = filter_signal(ieeg(values, chunk, runs), method=method, **band)["ieeg/voltage"].values
    is_close(cut_up, whole, 1e-9)


def test_a_run_shorter_than_the_kernel_equals_mne(caplog):
    made = ieeg(noise(400), runs=[120])
    found = filter_signal(made, low_hz=1.0)["ieeg/voltage"]
    is_close(found, of_runs(made, lambda x: by_mne(x, low_hz=1.0)), 1e-10)
    assert "the shortest run of node ieeg 120" in caplog.text


def test_runs_never_meet():
    values = noise(4000)
    other = values.copy()
    other[2000:] *= 100
    for method in ("fir", "iir"):
        found = [
            filter_signal(ieeg(v, 300, [2000]), low_hz=1.0, method=method)["ieeg/voltage"][:2000]
            for v in (values, other)
        ]
        np.testing.assert_array_equal(*found)


def test_float32_stays_and_is_as_good():
    made = ieeg(noise(3000), chunks=700, dtype=np.float32)
    found = filter_signal(made, low_hz=4, high_hz=30)["ieeg/voltage"]
    assert found.dtype == np.float32
    is_close(found, of_runs(made, lambda x: by_mne(x, 4, 30)), 1e-6)


def test_a_nan_is_refused_by_channel_and_time():
    values = noise(3000)
    values[1500, 1] = np.nan
    out = filter_signal(ieeg(values, 400, runs=[1000]), low_hz=4)
    with pytest.raises(DataError, match=r"channel A2 is nan at 16 s.*select_channels"):
        out["ieeg/voltage"].compute()


def test_another_node_and_its_rate_from_the_clock():
    made = ieeg(noise(2000), node="ephys/probe")
    del made["ephys/probe"].attrs["sampling_rate_hz"]
    found = filter_signal(made, high_hz=40, node="ephys/probe")["ephys/probe"]
    assert found.attrs["sampling_rate_hz"] == RATE
    is_close(found["voltage"], of_runs(made, lambda x: by_mne(x, None, 40), "ephys/probe"), 1e-10)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "expected at least one"),
        ({"low_hz": 200}, "between 0 and 125 Hz"),
        ({"low_hz": 30, "high_hz": 20}, "low below high"),
        ({"notch_hz": [-50.0]}, "between 0"),
        ({"low_hz": 0.001, "method": "iir", "order": 8}, "reach"),
        ({"low_hz": 1, "method": "iir", "order": 0}, "order is 0"),
        ({"low_hz": 1, "node": "ephys/x"}, "no node of signals 'ephys/x'"),
    ],
)
def test_what_cannot_be(settings, message):
    with pytest.raises(DataError, match=message):
        filter_signal(ieeg(noise(20)), **settings)


@pytest.mark.gpu
@pytest.mark.parametrize("ends", [(True, True), (True, False), (False, True), (False, False)])
def test_the_card_equals_scipy(ends, monkeypatch):
    if not room._has_card():
        pytest.skip("torch sees no CUDA device")
    values, place = noise(30_000, 5), room.Place(4000, 20_000, 0, *ends)
    sos = signal.butter(4, (1, 40), "bandpass", fs=RATE, output="sos")
    found = room._run_through(values, place, sos, 27)
    monkeypatch.setattr(room, "_has_card", lambda: False)
    is_close(found, room._run_through(values, place, sos, 27), 1e-8)
