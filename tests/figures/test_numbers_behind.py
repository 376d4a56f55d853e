from __future__ import annotations

import dataclasses

import numpy as np
import xarray as xr
from made_run import BIN_S, made_run

from neuropipe.figures.fits import numbered_as_first_fold, truth_of_fitted
from neuropipe.figures.recording_overview import _measures, _spikes
from neuropipe.figures.state_properties import dwells
from neuropipe.figures.stretch import Stretch, representative


def estimate(path, window, time=None):
    time = np.arange(len(path), dtype=float) if time is None else time
    return xr.Dataset(
        {"path": ("time", path), "state": ("time", path)},
        coords={"time": time, "window": ("time", window)},
    )


def test_dwells_leave_out_visits_that_a_window_cuts():
    # window 0: nine bins; window 1: seven
    path = [0, 0, 1, 1, 1, 0, 2, 2, 1, 1, 2, 2, 2, 2, 0, 0]
    window = [0] * 9 + [1] * 7
    state, n_bins = dwells(estimate(path, window))
    np.testing.assert_array_equal(state, [1, 0, 2, 2])
    np.testing.assert_array_equal(n_bins, [3, 1, 2, 4])


def test_dwells_of_one_endless_state_are_none():
    state, n_bins = dwells(estimate([0] * 50, [0] * 50))
    assert len(state) == len(n_bins) == 0


def test_states_are_numbered_alike_across_folds_and_as_planted():
    run = made_run(n_states=4, n_bins=3000)
    for fold in run.folds:
        # made_run rolls the planted states by the number of the fold
        np.testing.assert_array_equal(
            numbered_as_first_fold(run, fold), np.roll(np.arange(4), fold)
        )
    _, planted = truth_of_fitted(run)
    np.testing.assert_array_equal(planted, np.arange(4))


def test_stretch_averages_bins_and_keeps_gaps():
    stretch = Stretch(np.linspace(0, 4, 5))
    time = np.array([0.25, 0.75, 2.5])
    np.testing.assert_allclose(
        stretch.mean(time, np.array([1.0, 3.0, 5.0])), [2, np.nan, 5, np.nan]
    )
    np.testing.assert_allclose(stretch.last(time, np.array([1, 3, 5])), [3, np.nan, 5, np.nan])


def test_stretch_covers_held_out_bins_and_fits_a_page():
    run = made_run(n_bins=20_000, n_units=2, n_sessions=1)
    held_out = run.estimates["session-1", 0].rename(state="path")
    stretch = representative(held_out)
    assert 0 < stretch.stop_s - stretch.start_s <= 90 + BIN_S
    assert len(stretch.edge_s) <= 1201
    assert stretch.cut(held_out).sizes["time"] > 100


def test_short_intervals_are_counted_across_blocks(monkeypatch):
    run = made_run(n_bins=2000, n_sessions=1)
    recording = run.recordings["session-1"]
    whole = _spikes(recording)
    monkeypatch.setattr("neuropipe.figures.recording_overview.BLOCK", 97)
    parts = _spikes(recording)
    np.testing.assert_array_equal(whole[0], parts[0])
    np.testing.assert_array_equal(whole[1], parts[1])
    counts = recording["counts"]["spike_count"].sum("time").values
    np.testing.assert_array_equal(whole[0], counts)
    spikes = recording["spikes"]
    third = spikes["spike_time"].values[spikes["unit_index"].values == 3]
    expected = np.mean(np.diff(third) < 0.002)
    np.testing.assert_allclose(whole[1][3], expected)


def test_duration_counts_missing_time():
    run = made_run(n_bins=2000, n_sessions=1)
    length_s, missing_s = run.extent_s("session-1")
    np.testing.assert_allclose([length_s, missing_s], [100.0, 5.0])


def test_recordings_of_traces_are_told_by_what_they_hold():
    rng = np.random.default_rng(0)
    time = np.delete(np.arange(400) * 0.5, slice(100, 120))
    slow = np.sin(np.arange(380) / 20)[:, None] + [0.0, 1.0, 2.0]
    calcium = xr.Dataset(
        {
            "fluorescence": (("time", "roi"), slow, {"units": "1"}),
            "dff": (("time", "roi"), rng.normal(size=slow.shape), {"units": "1"}),
        },
        {"time": ("time", time, {"units": "s"})},
    )
    run = made_run(n_bins=500, n_sessions=1)
    recording = xr.DataTree.from_dict({"/calcium/cells": calcium, "/bold": calcium[["dff"]]})
    run = dataclasses.replace(run, recordings={"a": recording, "b": xr.DataTree()})
    assert run.series("a").attrs["node"] == "calcium/cells"
    assert run.series("a").name == "dff"
    assert run.series("b") is None
    np.testing.assert_allclose(run.extent_s("a"), [200.0, 10.0])
    measures = _measures(run, "a")
    assert set(measures) == {"noise", "units", "duration"}
    np.testing.assert_allclose(measures["noise"], 1, atol=0.15)
    named = dataclasses.replace(run, settings={"parameters": {"observations": "bold"}})
    assert named.series("a").attrs["node"] == "bold"
    plain = dataclasses.replace(
        run, recordings={"a": xr.DataTree.from_dict({"/calcium/cells": calcium[["fluorescence"]]})}
    )
    assert _measures(plain, "a")["noise"].min() > 10
