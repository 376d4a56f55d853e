"""The share of each bin that intervals cover, against exact fractions."""

import logging
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_session import QUICK, counted, with_series, with_table

from neuropipe.errors import DataError
from neuropipe.preprocess.mark_intervals import mark_intervals
from neuropipe.preprocess.resample_behavior import resample_behavior
from neuropipe.schema import validate

N_BINS, WIDTH_MS = 30, 100
INTERVAL = st.tuples(st.integers(-500, 3500), st.integers(1, 900))


def marked(start, stop, **settings):
    recording = with_table(counted(np.ones((N_BINS, 1))), "laser", start, stop)
    return mark_intervals(recording, table="laser", name="laser", **settings)


def share_ms(intervals):
    """Share of each bin in the union of intervals of whole milliseconds, counted one by one."""
    inside = np.zeros(N_BINS * WIDTH_MS, dtype=bool)
    for start, stop in intervals:
        inside[max(start, 0) : max(stop, 0)] = True
    return [float(Fraction(int(n), WIDTH_MS)) for n in inside.reshape(N_BINS, -1).sum(1)]


@QUICK
@given(st.lists(INTERVAL, min_size=1, max_size=12))
def test_share_of_the_union(intervals):
    start, length = np.array(intervals).T
    out = marked(start / 1000, (start + length) / 1000)
    expected = share_ms(zip(start, start + length, strict=True))
    np.testing.assert_allclose(out["behavior/laser"].values, expected, atol=1e-7)


@QUICK
@given(st.lists(INTERVAL, min_size=1, max_size=12), st.integers(-300, 300), st.integers(1, 500))
def test_a_stretch_around_each_start(intervals, low, length):
    start, _ = np.array(intervals).T
    out = marked(start / 1000, start / 1000 + 5, from_s=low / 1000, to_s=(low + length) / 1000)
    expected = share_ms(zip(start + low, start + low + length, strict=True))
    np.testing.assert_allclose(out["behavior/laser"].values, expected, atol=1e-8)


def test_overlapping_intervals_count_once_and_whole_bins_are_one():
    out = marked([0.1, 0.1, 0.15], [0.3, 0.2, 0.3])["behavior/laser"]
    np.testing.assert_array_equal(out.values[:4], [0.0, 1.0, 1.0, 0.0])
    assert out.attrs["units"] == "1"


def test_stays_between_zero_and_one_late_in_a_long_session():
    recording = counted(np.ones((20_000, 1)), 0.02, 86_400.0)
    onset = 86_400 + np.arange(400) * 1.0
    out = mark_intervals(
        with_table(recording, "trials", onset, onset + 0.3), table="trials", name="on"
    )
    share = out["behavior/on"].values
    assert share.min() == 0.0
    assert share.max() == 1.0
    assert (share > 0).sum() == 400 * 15


def test_joins_signals_that_are_there_and_keeps_the_series():
    recording = with_series(
        counted(np.ones((N_BINS, 1))), "speed", np.arange(30) * 0.1, np.arange(30)
    )
    recording = with_table(recording, "laser", [0.5], [0.7])
    alone = mark_intervals(recording, table="laser", name="laser")
    assert set(alone["behavior"].data_vars) == {"laser"}
    both = resample_behavior(alone, signals=["speed"])
    assert set(both["behavior"].data_vars) == {"laser", "speed"}
    other = resample_behavior(recording, signals=["speed"])
    other = mark_intervals(other, table="laser", name="laser")
    for name in ("laser", "speed"):
        np.testing.assert_array_equal(both["behavior"][name].values, other["behavior"][name].values)
    validate(both, "behavior", "counts", "intervals/laser")
    assert "behavior" not in set(recording["behavior"].dims)  # the input is left as it was
    assert not recording["behavior"].variables


def test_intervals_without_times_are_left_out():
    out = marked([0.1, np.nan, 0.5], [0.2, 0.4, np.nan])
    assert out["behavior/laser"].values.sum() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"table": "lazer", "name": "x"}, "no table 'lazer' in session made-7; it has laser"),
        ({"table": "laser", "name": "x", "from_s": 1.0, "to_s": 0.5}, "to_s is 0.5"),
        ({"table": "laser", "name": "x", "from_s": 9.0}, "none of 1 intervals"),
        ({"table": "laser", "name": "speed"}, "already has speed"),
    ],
)
def test_refusals(settings, message):
    recording = with_series(
        counted(np.ones((N_BINS, 1))), "speed", np.arange(30) * 0.1, np.arange(30)
    )
    recording = with_table(resample_behavior(recording, signals=["speed"]), "laser", [0.1], [0.2])
    with pytest.raises(DataError, match=message):
        mark_intervals(recording, **settings)


def test_a_table_on_another_clock_is_said(caplog):
    with caplog.at_level(logging.WARNING):
        out = marked([500.0], [501.0])
    assert "zero throughout" in caplog.text
    assert not out["behavior/laser"].values.any()


def test_behavior_of_other_bins_is_refused():
    recording = marked([0.1], [0.2])
    rebinned = counted(np.ones((N_BINS, 1)), 0.05)
    recording["counts"] = rebinned["counts"].copy()
    recording = with_table(recording, "light", [0.1], [0.2])
    with pytest.raises(DataError, match="not on the clock of the neural data"):
        mark_intervals(recording, table="light", name="light")
