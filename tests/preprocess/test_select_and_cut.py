"""Which units are kept, and which intervals become trials."""

import dask.array as da
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_session import QUICK, counted, session, with_table

from neuropipe.errors import DataError
from neuropipe.preprocess.bin_spikes import bin_spikes
from neuropipe.preprocess.cut_trials import cut_trials
from neuropipe.preprocess.select_units import select_units
from neuropipe.schema import validate


@QUICK
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=8))
def test_kept_units_keep_their_spikes(units):
    """Spikes of a kept unit are those it had, whatever is taken away around it."""
    grade, count = np.array(units).T
    trains = [i + np.arange(n) / 100 for i, n in enumerate(count)]
    if not (grade >= 2).any():
        return
    out = select_units(session(trains, lazy=True, grade=grade), where={"grade": {"min": 2}})
    kept = np.flatnonzero(grade >= 2)
    np.testing.assert_array_equal(out["units/unit"].values, 100 + kept)
    for position, unit in enumerate(kept):
        mine = out["spikes/unit_index"].values == position
        np.testing.assert_array_equal(out["spikes/spike_time"].values[mine], trains[unit])
    validate(out, "spikes", "units")


def test_conditions_hold_together():
    recording = session(
        [[1.0], [2.0], [3.0]], grade=np.array([1, 2, 3]), area=np.array(list("aba"))
    )
    out = select_units(recording, where={"area": ["a", "c"], "grade": {"max": 2}})
    np.testing.assert_array_equal(out["units/unit"].values, [100])
    out = select_units(recording, where={"unit": 102})
    np.testing.assert_array_equal(out["spikes/spike_time"].values, [3.0])
    assert recording["units"].sizes["unit"] == 3


def test_counts_follow_the_units():
    recording = session([[0.1], [0.2, 0.3], [0.4]], grade=np.array([1, 2, 2]))
    first = bin_spikes(select_units(recording, where={"grade": 2}), bin_width_s=0.1, start_s=0.0)
    last = select_units(bin_spikes(recording, bin_width_s=0.1, start_s=0.0), where={"grade": 2})
    np.testing.assert_array_equal(
        first["counts/spike_count"].values, last["counts/spike_count"].values
    )


def test_selection_stays_lazy():
    out = select_units(session([[1.0] * 9, [2.0] * 9], lazy=True), where={"unit": 101})
    assert isinstance(out["spikes/spike_time"].data, da.Array)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"grad": 1}, "no column 'grad' in node units; it has .*grade"),
        ({"grade": 7}, "none of 2 units of session made-7"),
        ({"grade": {"min": np.nan}}, "none of 2 units"),
    ],
)
def test_no_unit_left(where, message):
    with pytest.raises(DataError, match=message):
        select_units(session([[1.0], [2.0]], grade=np.array([1, 2])), where=where)


def trials_of(recording):
    node = recording["trials"]
    return np.stack([node["start_time"].values, node["stop_time"].values], 1)


def test_trials_around_a_column_keep_the_others():
    recording = with_table(
        counted(np.ones((90, 1))), "light", [1.0, 3.0], [2.0, 4.0], cue=[1.5, 3.5], side=[0, 1]
    )
    out = cut_trials(recording, table="light", align="cue", before_s=0.25, after_s=1.0)
    np.testing.assert_allclose(trials_of(out), [[1.25, 2.5], [3.25, 4.5]])
    np.testing.assert_array_equal(out["trials/side"].values, [0, 1])
    assert out["trials/side"].dims == ("trial",)
    np.testing.assert_allclose(trials_of(cut_trials(out, before_s=0.5))[:, 0], [0.75, 2.75])
    validate(out, "trials")


def test_intervals_without_length_are_left_out():
    start, stop = [0.0, np.nan, 2.0, 3.0, 5.0], [1.0, 2.0, np.nan, 3.0, 4.0]
    out = cut_trials(with_table(counted(np.ones((90, 1))), "trials", start, stop))
    np.testing.assert_allclose(trials_of(out), [[0, 1]])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"table": "lights"}, "no table 'lights' in session made-7; it has light"),
        ({"table": "light", "align": "cue"}, "no column 'cue'; it has start_time"),
        ({"table": "light", "after_s": -1.0}, "none of 1 intervals"),
    ],
)
def test_trials_that_cannot_be(settings, message):
    recording = with_table(counted(np.ones((90, 1))), "light", [1.0], [2.0])
    with pytest.raises(DataError, match=message):
        cut_trials(recording, **settings)
