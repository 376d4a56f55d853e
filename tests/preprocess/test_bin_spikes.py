"""Binning against np.histogram and exact arithmetic, whatever the times, width and range."""

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import assume, given
from hypothesis import strategies as st
from made_session import ONE, QUICK, SECOND, session, with_table

from neuropipe.errors import DataError, SchemaError
from neuropipe.preprocess import bin_spikes as module
from neuropipe.preprocess.bin_spikes import EDGE_S, bin_spikes
from neuropipe.schema import validate

TIME = st.floats(-5, 50, allow_nan=False)
TRAINS = st.lists(st.lists(TIME, max_size=30), min_size=1, max_size=5)
WIDTH = st.one_of(st.sampled_from([0.001, 0.01, 0.02, 0.1, 0.3, 1.0]), st.floats(0.05, 5))


def counts_of(recording):
    return recording["counts/spike_count"].values


def edges_of(recording, width):
    first = np.round(recording["counts/time"].values[0] / width - 0.5)
    return (first + np.arange(recording["counts"].sizes["time"] + 1)) * width


@QUICK
@given(TRAINS, WIDTH, st.none() | st.floats(-4, 10), st.none() | st.floats(12, 40))
def test_equals_histogram(trains, width, start, stop):
    assume(any(trains))
    recording = session(trains)
    try:
        out = bin_spikes(recording, bin_width_s=width, start_s=start, stop_s=stop)
    except DataError:  # no bin in the range, which has a test of its own
        return
    edges = edges_of(out, width)
    every = np.concatenate(trains)
    assume(np.abs(edges[:, None] - every).min() > 2 * EDGE_S)  # edges have a test of their own
    for unit, train in enumerate(trains):
        expected, _ = np.histogram(train, np.append(edges, edges[-1] + width))
        np.testing.assert_array_equal(counts_of(out)[:, unit], expected[:-1])
    validate(out, "counts")


@QUICK
@given(TRAINS, WIDTH)
def test_no_spike_is_lost_by_default(trains, width):
    assume(any(trains))
    out = bin_spikes(session(trains), bin_width_s=width)
    np.testing.assert_array_equal(counts_of(out).sum(0), [len(t) for t in trains])


@QUICK
@given(
    st.lists(st.integers(0, 60_000), min_size=1, max_size=60),
    st.sampled_from([1, 2, 3, 5, 7, 20, 100, 300]),
)
def test_a_spike_on_an_edge_belongs_to_the_later_bin(ticks, width):
    """Times and widths in whole ms are not exact in binary; the bins must be all the same."""
    out = bin_spikes(session([np.array(ticks) / 1000]), bin_width_s=width / 1000, start_s=0.0)
    expected = np.bincount(np.array(ticks) // width)
    np.testing.assert_array_equal(counts_of(out)[:, 0], expected)


def test_far_from_zero_edges_still_hold():
    ticks = 80_000_000 + np.array([0, 3, 299, 300, 301, 600])  # a day, ms
    out = bin_spikes(session([ticks / 1000]), bin_width_s=0.3, start_s=80_000.0)
    np.testing.assert_array_equal(
        counts_of(out)[:, 0], np.bincount((ticks - ticks[0] + 200) // 300)[:3]
    )


@QUICK
@given(TRAINS, st.integers(1, 25))
def test_blocks_do_not_change_numbers(trains, block):
    assume(any(trains))
    whole = counts_of(bin_spikes(session(trains), bin_width_s=0.5))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_SPIKES", block)
        lazy = bin_spikes(session(trains, lazy=True), bin_width_s=0.5)
        assert lazy["counts/spike_count"].data.numblocks[1] >= min(len(trains), 1)
        np.testing.assert_array_equal(counts_of(lazy), whole)


def test_lazy_until_computed():
    touched = []

    def read(block):
        touched.append(len(block))
        return block

    recording = session([[0.1, 0.2], [0.15, 1.0], []], lazy=True)
    spikes = recording["spikes"].to_dataset()
    spikes["spike_time"] = (
        "spike",
        spikes["spike_time"].data.map_blocks(read, dtype=float),
        SECOND,
    )
    recording["spikes"] = xr.DataTree(spikes)
    touched.clear()
    out = bin_spikes(recording, bin_width_s=0.1, start_s=0.0, stop_s=1.1)
    assert isinstance(out["counts/spike_count"].data, da.Array)
    assert touched == []
    out["counts/spike_count"].compute(scheduler="synchronous")
    assert sum(touched) > 0


def test_units_and_their_names_are_kept():
    out = bin_spikes(session([[0.1], [0.2], [0.3]]), bin_width_s=0.1)
    np.testing.assert_array_equal(out["counts/unit"].values, [100, 101, 102])
    assert out["counts/spike_count"].attrs["units"] == "1"
    assert out["counts/spike_count"].attrs["bin_width_s"] == 0.1
    assert set(out.children) == {"spikes", "units", "counts"}


def test_a_unit_without_spikes_gives_zeros():
    out = bin_spikes(session([[], [0.05, 0.05, 0.25], []], lazy=True), bin_width_s=0.1)
    np.testing.assert_array_equal(counts_of(out), [[0, 2, 0], [0, 0, 0], [0, 1, 0]])


@pytest.mark.parametrize("trains", [[], [[], []]])
def test_nothing_to_bin_names_the_session(trains):
    with pytest.raises(DataError, match="session made-7"):
        bin_spikes(session(trains), bin_width_s=0.1)


@pytest.mark.parametrize("width", [0.0, -1.0, float("nan")])
def test_width_must_be_positive(width):
    with pytest.raises(DataError, match="bin_width_s"):
        bin_spikes(session([[1.0]]), bin_width_s=width)


def test_empty_range_is_refused():
    with pytest.raises(DataError, match="holds no bin"):
        bin_spikes(session([[1.0]]), bin_width_s=0.1, start_s=2.0, stop_s=1.0)


def test_too_wide_bins_are_refused_not_wrapped():
    crowd = np.full(2**16, 0.5)
    with pytest.raises(DataError, match="65536 spikes"):
        counts_of(bin_spikes(session([crowd]), bin_width_s=1.0))


def test_a_recording_without_spikes_lists_its_nodes():
    recording = xr.DataTree.from_dict({"/": xr.Dataset(attrs={"session": "made-7"})})
    with pytest.raises(SchemaError, match="made-7: spikes: node missing"):
        bin_spikes(recording, bin_width_s=0.1)


def test_bins_outside_of_the_observed_intervals_are_marked():
    recording = with_table(
        session([np.arange(10) / 10 + 0.05]), "observed", [0.1, 0.6], [0.4, 0.75]
    )
    out = bin_spikes(recording, bin_width_s=0.1, start_s=0.0)
    np.testing.assert_array_equal(
        np.flatnonzero(out["counts/observed"].values), [1, 2, 3, 6]
    )  # the bin from 0.7 to 0.8 is only half seen
    assert out["counts/observed"].attrs == ONE
