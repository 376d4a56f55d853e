"""Band power: near the Hilbert transform of the whole, never negative, whatever the blocks."""

import dask
import mne
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_voltages import FEW, RATE, ieeg, is_close, noise
from scipy import signal

from neuropipe.errors import DataError
from neuropipe.preprocess.band_power import band_power
from neuropipe.schema import validate

GAMMA = {"high_gamma": (70, 110)}
HILBERT_TOLERANCE = 1e-3  # of the largest power: the transform's window is cut


@pytest.mark.parametrize("band", [(4, 8), (13, 30), (70, 110)])
@pytest.mark.parametrize("kind", ["power", "envelope"])
def test_equals_hilbert_of_the_whole(band, kind):
    made = ieeg(noise(20_000), chunks=2500)
    node = band_power(made, bands={"b": band}, rate_hz=50, kind=kind)["band_power"]
    # mirrored, since a Hilbert transform joins the end of what it gets to its start
    values = np.pad(
        made["ieeg/voltage"].values.T, ((0, 0), (5000, 5000)), "reflect", reflect_type="odd"
    )
    passed = mne.filter.filter_data(values, RATE, *band, verbose="error")
    whole = np.abs(signal.hilbert(passed, axis=1)[:, 5000:-5000]) ** (2 if kind == "power" else 1)
    expected = whole.reshape(3, -1, 5).mean(axis=2).T
    is_close(node["power"][..., 0], expected, HILBERT_TOLERANCE)
    assert node["power"].attrs["units"] == {"power": "V^2", "envelope": "V"}[kind]


def test_node():
    made = ieeg(noise(4003), chunks=900, runs=[2002], x=[1.0, 2, 3])
    out = band_power(made, bands={"theta": (4, 8), **GAMMA}, rate_hz=25)
    validate(out, "band_power")
    node = out["band_power"]
    assert dask.is_dask_collection(node["power"].data)
    assert node["power"].shape == (200 + 200, 3, 2)
    assert node["low_hz"].values.tolist() == [4, 70]
    np.testing.assert_allclose(node["time"][:2], [4.5 / RATE, 14.5 / RATE])
    np.testing.assert_allclose(node["time"][200], 2002 / RATE + 10 + 4.5 / RATE)
    assert (node["power"] >= 0).all()
    assert node["x"].values.tolist() == [1, 2, 3]


def test_a_tone_has_its_own_power():
    time = np.arange(10_000) / RATE
    tone = 3e-5 * np.sin(2 * np.pi * 90 * time)[:, None]
    made = ieeg(tone)
    power = band_power(made, bands=GAMMA, rate_hz=10)["band_power/power"].values[20:-20]
    np.testing.assert_allclose(power, 9e-10, rtol=0.01)
    level = band_power(made, bands=GAMMA, rate_hz=10, log=True)["band_power/power"]
    np.testing.assert_allclose(level[20:-20], 10 * np.log10(9e-10), atol=0.05)
    assert level.attrs["units"] == "dB"


def test_sub_bands_are_averaged():
    made = ieeg(noise(5000), chunks=900)
    parts = {f"{low}": (low, low + 10) for low in (70, 80, 90, 100)}
    for log in (False, True):
        one = band_power(made, bands=GAMMA, rate_hz=25, sub_band_hz=10, log=log)
        four = band_power(made, bands=parts, rate_hz=25, log=log)
        np.testing.assert_allclose(
            one["band_power/power"][..., 0], four["band_power/power"].mean("band"), rtol=1e-5
        )


@FEW
@given(n=st.integers(200, 4000), chunk=st.integers(30, 2000), cut=st.floats(0.2, 0.8))
def test_any_blocks_give_the_same(n, chunk, cut):
    values, runs, bands = noise(n, 2, seed=n), [int(cut * n)], {"a": (8, 12), **GAMMA}
    whole = band_power(ieeg(values, runs=runs), bands=bands, rate_hz=25)["band_power"]
    cut_up = band_power(ieeg(values, chunk, runs), bands=bands, rate_hz=25)["band_power"]
    is_close(cut_up["power"].values, whole["power"].values, 1e-6)
    np.testing.assert_array_equal(cut_up["time"], whole["time"])


def test_a_silent_channel_is_no_infinity():
    made = ieeg(np.zeros((1000, 1)))
    level = band_power(made, bands=GAMMA, rate_hz=25, log=True)["band_power/power"].values
    np.testing.assert_allclose(level, -300)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bands": GAMMA, "rate_hz": 60}, "60 Hz does not divide the 250 Hz .*take 62.5 Hz"),
        ({"bands": GAMMA, "rate_hz": 0}, "does not divide"),
        ({"bands": {"g": (70, 150)}, "rate_hz": 25}, "band 'g' is 70 to 150 Hz.*125 Hz"),
        ({"bands": {}, "rate_hz": 25}, "found 0 bands"),
        ({"bands": GAMMA, "rate_hz": 1}, "shortest run of 0 bins"),
        ({"bands": GAMMA, "rate_hz": 25, "sub_band_hz": 0}, "parts of 0 Hz"),
    ],
)
def test_what_cannot_be(settings, message):
    with pytest.raises(DataError, match=message):
        band_power(ieeg(noise(100)), **settings)
