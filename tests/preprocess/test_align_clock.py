"""A clock that drifts is put right by its pulses, and refused where they do not match."""

import numpy as np
import pytest
import xarray as xr
from made_session import with_calcium, with_events, with_series

from neuropipe.errors import DataError
from neuropipe.preprocess.align_clock import align_clock

OFFSET_S, SLOPE = 12.5, 1.0002


def made(own, reference):
    recording = xr.DataTree(xr.Dataset(attrs={"session": "made-7", "history": "[]"}))
    recording = with_calcium(recording, "eye", np.ones((20, 1)), rate_hz=10.0)
    recording = with_series(recording, "gaze", np.arange(5.0), np.arange(5.0))
    return with_events(with_events(recording, "camera", own), "ephys", reference)


def aligned(own, reference, **more):
    return align_clock(
        made(own, reference),
        **{"nodes": ["calcium/eye", "behavior/gaze"], "pulses": "camera", "reference": "ephys",
           "max_residual_s": 0.005, **more},
    )  # fmt: skip


def pulses(n=40, seed=0):
    return np.random.default_rng(seed).uniform(0.5, 2.0, n).cumsum()


def test_times_move_to_the_session():
    own = pulses()
    jitter = np.random.default_rng(1).uniform(-0.001, 0.001, len(own))
    out = aligned(own, OFFSET_S + SLOPE * own + jitter)
    gaze = out["behavior/gaze"]
    np.testing.assert_allclose(gaze["time"].values, OFFSET_S + SLOPE * np.arange(5), atol=1e-3)
    assert 0 < gaze.attrs["clock_residual_ms"] < 2
    rate_hz = out["calcium/eye"].attrs["sampling_rate_hz"]
    np.testing.assert_allclose(rate_hz, 10 / SLOPE, rtol=1e-4)
    times = [out[f"events/{name}"]["event_time"].values for name in ("camera", "ephys")]
    np.testing.assert_allclose(*times, atol=2e-3)
    assert "time" in gaze.to_dataset().xindexes


@pytest.mark.parametrize(("first", "last"), [(3, 40), (0, 36), (2, 30)])
def test_pulses_missing_at_the_ends(first, last):
    own = pulses()
    session = OFFSET_S + SLOPE * own
    for a, b in ((own[first:last], session), (own, session[first:last])):
        gaze = aligned(a, b)["behavior/gaze"]
        np.testing.assert_allclose(gaze["time"].values, OFFSET_S + SLOPE * np.arange(5))


def test_pulses_that_do_not_match_are_refused():
    own = pulses()
    with pytest.raises(DataError, match=r"40 pulses in events/camera, 40 in .*: the best"):
        aligned(own, pulses(seed=5))
    with pytest.raises(DataError, match="the best straight line leaves"):
        aligned(np.delete(own, 20), OFFSET_S + own)
    with pytest.raises(DataError, match=r"slope 2"):
        aligned(own, 2 * own)
    regular = np.arange(30.0)
    with pytest.raises(DataError, match="3 pairings fit equally well"):
        aligned(regular, 5 + np.arange(32.0))
    aligned(regular, regular + 5)
    with pytest.raises(DataError, match="holds 2 times"):
        aligned([0.0, 1.0], [0.0, 1.0])
    with pytest.raises(DataError, match=r"no node events/cam .*it has camera, ephys"):
        aligned(own, own, pulses="cam")
    with pytest.raises(DataError, match=r"no node 'behavior/gase'.*behavior/gaze"):
        aligned(own, own, nodes=["behavior/gase"])
    with pytest.raises(DataError, match="max_residual_s"):
        aligned(own, own, max_residual_s=0.0)
