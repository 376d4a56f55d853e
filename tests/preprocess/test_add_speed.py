"""Speed of a path whose speed is known; nothing reaches over what was not seen."""

import numpy as np
import pytest
from made_session import counted, with_series

from neuropipe.errors import DataError
from neuropipe.preprocess.add_speed import add_speed
from neuropipe.preprocess.resample_behavior import resample_behavior

N, WIDTH = 400, 0.05


def path(radius=2.0, turns_per_s=0.25, lost=()):
    """Return a session with a path round a circle on the bins; `lost` bins have no position."""
    time = (np.arange(N) + 0.5) * WIDTH
    angle = 2 * np.pi * turns_per_s * time
    xy = radius * np.stack([np.cos(angle), np.sin(angle)], 1)
    xy[list(lost)] = np.nan
    recording = with_series(counted(np.ones((N, 1)), WIDTH), "place", time, xy)
    return resample_behavior(recording, signals=["place"], max_gap_s=0.01)


def speed_of(recording, **settings):
    out = add_speed(recording, signals=["place_0", "place_1"], **settings)
    return out["behavior/speed"]


def test_a_circle_has_one_speed():
    found = speed_of(path(), smoothing_s=0.0)
    # the chord of two steps over their arc
    step = 2 * np.pi * 0.25 * WIDTH
    assert found.attrs["units"] == "m/s"
    np.testing.assert_allclose(found.values[1:-1], np.pi * np.sin(step) / step, rtol=1e-9)


def test_smoothing_shortens_a_circle_as_it_must():
    """A Gaussian multiplies an oscillation by exp(-(omega s)^2 / 2)."""
    found = speed_of(path(), smoothing_s=0.2).values[40:-40]
    np.testing.assert_allclose(found, np.pi * np.exp(-0.5 * (np.pi / 2 * 0.2) ** 2), rtol=2e-3)


def test_nothing_reaches_over_a_gap():
    lost = range(100, 110)
    found = speed_of(path(lost=lost), smoothing_s=0.2).values
    assert np.isnan(found[100:110]).all()
    before = path()
    before["behavior"] = before["behavior"].isel(time=slice(0, 100))
    alone = add_speed(before, signals=["place_0", "place_1"], smoothing_s=0.2)
    np.testing.assert_allclose(found[:100], alone["behavior/speed"].values, rtol=1e-9)


def test_a_single_bin_between_gaps_has_no_speed():
    found = speed_of(path(lost=[10, 12])).values
    assert np.isnan(found[10:13]).all()
    assert np.isfinite(found[13:]).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"signals": ["place_0", "place_2"]}, "no signal 'place_2' in node behavior; did you mean"),
        ({"signals": []}, "signals are in nothing, expected one unit"),
        ({"signals": ["place_0"], "smoothing_s": -1.0}, "smoothing_s is -1"),
        ({"signals": ["place_0"], "name": "place_1"}, "already has place_1"),
    ],
)
def test_faults(settings, message):
    with pytest.raises(DataError, match=message):
        add_speed(path(), **settings)


def test_needs_signals_on_the_bins_and_a_place():
    with pytest.raises(DataError, match="put resample_behavior before"):
        add_speed(counted(np.ones((5, 1))), signals=["x"])
    with pytest.raises(DataError, match="no two bins in a row"):
        add_speed(path(lost=range(0, N, 2)), signals=["place_0"])
