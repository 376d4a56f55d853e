"""What would give numbers without an error is refused at every door, in words."""

import numpy as np
import pytest
import xarray as xr
from counted_session import busy, prepared

from neuropipe.batching.paired import read_known, read_paired, read_training
from neuropipe.batching.raster import read_raster
from neuropipe.batching.sequences import Source, held_out, in_order, stretches, training_sequences
from neuropipe.batching.windows import attach_windows
from neuropipe.errors import DataError

DOORS = {
    "sequences": lambda r: stretches(r, Source(), None),
    "paired": read_paired,
    "raster": read_raster,
}


def changed(recording, edit):
    """Return a copy whose node of counts is edited."""
    out = recording.copy()
    out["counts"] = xr.DataTree(edit(recording["counts"].to_dataset().copy(deep=True)))
    return out


def recounted(value, dtype):
    def edit(node):
        counts = node["spike_count"].values.astype(dtype)
        counts[4, 1] = value
        return node.assign(spike_count=(("time", "unit"), counts, node["spike_count"].attrs))

    return changed(prepared(busy(60)), edit)


@pytest.mark.parametrize("door", DOORS)
def test_counts_that_no_unit_fires(door):
    with pytest.raises(DataError, match=r"counts.* holds -3, .* bin the spikes again"):
        DOORS[door](recounted(-3, np.int8))
    with pytest.raises(DataError, match=r"holds 20000 spikes of one unit in a bin of 0\.1 s"):
        DOORS[door](recounted(20_000, np.int64))
    DOORS[door](recounted(9000, np.uint64))


@pytest.mark.parametrize("door", DOORS)
def test_two_units_of_one_name(door):
    with pytest.raises(DataError, match="'7' comes twice"):
        DOORS[door](prepared(busy(60), unit=[7, 3, 7]))


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("at", [0, 20])
def test_a_clock_that_runs_back_or_stops(door, at):
    def back(node):
        order = np.arange(60)
        order[at : at + 2] = order[at : at + 2][::-1]
        return node.isel(time=order)

    def lost(node):
        time = node["time"].values.copy()
        time[at] = np.nan
        return node.assign_coords(time=("time", time, node["time"].attrs))

    for edit, sample in ((back, at + 1), (lost, at)):
        with pytest.raises(DataError, match=f"runs back or is not finite at sample {sample},"):
            DOORS[door](changed(prepared(busy(60)), edit))


@pytest.mark.parametrize("door", ["sequences", "paired"])
def test_what_follows_a_gap_has_another_past(door):
    def gap(node):
        return node.isel(time=np.r_[0:20, 30:60])

    found = DOORS[door](changed(prepared(busy(60)), gap))
    times = found.time if door == "paired" else [part.time for part in found]
    assert [len(t) for t in times] == [20, 30]


def test_a_covariate_is_one_number_a_bin():
    recording = prepared(busy(60), behavior={"speed": np.arange(60.0)})
    node = recording["behavior"].to_dataset()
    for name, wrong in (("xy", node["speed"].expand_dims(xy=2, axis=1)),
                        ("word", node["speed"].astype(str))):  # fmt: skip
        recording["behavior"] = xr.DataTree(node.assign({name: wrong}))
        with pytest.raises(DataError, match=f"'{name}' of node behavior has dims .* expected one"):
            stretches(recording, Source(covariates=(name,)), None)


def test_an_infinite_signal_is_no_measurement():
    speed = np.arange(60.0)
    speed[3] = np.inf
    found = read_paired(prepared(busy(60), behavior={"speed": speed}))
    assert np.isnan(found.behavior[0][3, 0])


def sequences_like(recording, other):
    source = Source(min_spikes=1)
    return held_out(other, source, training_sequences([recording], source)[1])


def paired_like(recording, other):
    class Known:
        units, channels, channel_units, bin_width_s, subject = (), (), (), 0.1, "m1"

    return read_known(other, Known())


@pytest.mark.parametrize("like", [sequences_like, paired_like])
def test_a_recording_of_other_bins_or_another_subject_is_not_scored(like):
    one = prepared(busy(60), session="a")
    like(one, prepared(busy(30), session="b"))
    with pytest.raises(DataError, match=r"session b has bins of 0\.2 s, others of 0\.1 s"):
        like(one, prepared(busy(60), width=0.2, session="b"))
    with pytest.raises(DataError, match="session b is of subject m2, the fit of m1"):
        like(one, prepared(busy(60), subject="m2", session="b"))


def test_signals_of_another_unit_are_not_joined():
    speed = np.arange(60.0)
    one, two = (prepared(busy(60), behavior={"speed": speed}, session=s) for s in "ab")
    node = two["behavior"].to_dataset()
    node["speed"].attrs["units"] = "km/h"
    two["behavior"] = xr.DataTree(node)
    with pytest.raises(DataError, match="session b has the signal 'speed' in 'km/h', others in"):
        read_training([one, two])


def test_the_order_of_a_list_means_nothing_and_a_twin_is_refused():
    one, two = (
        attach_windows(prepared(busy(60, seed=n), session=s), [[0, 5]]) for n, s in enumerate("ab")
    )
    assert [r.attrs["session"] for r in in_order([two, one])] == ["a", "b"]
    parts, scaling = training_sequences([two, one], Source())
    again, same = training_sequences([one, two], Source())
    assert [p.session for p in parts] == [p.session for p in again] == ["a", "b"]
    np.testing.assert_array_equal(scaling.rate, same.rate)
    with pytest.raises(DataError, match="two recordings have the key 'm1/a'"):
        training_sequences([one, one], Source())


def test_units_that_a_session_lacks_are_told(caplog):
    one = prepared(busy(60), unit=[1, 2, 3], session="a")
    two = prepared(busy(60), unit=[2, 3, 4], session="b")
    training_sequences([one, two], Source(min_spikes=1))
    assert "1 of 3 units are not in all of them" in caplog.text
