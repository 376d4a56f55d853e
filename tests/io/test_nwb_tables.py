"""NWB tables in: units with their spikes, trials, every other interval table."""

import h5py
import numpy as np
from pynwb import TimeSeries
from pynwb.behavior import (
    BehavioralEpochs,
)
from pynwb.epoch import TimeIntervals
from pynwb.misc import IntervalSeries

from neuropipe.io.nwb import read
from neuropipe.schema import validate


def test_units_with_electrodes_quality_and_a_silent_unit(make_nwb, add_electrodes):
    def fill(file):
        add_electrodes(file, depth=True)
        file.add_unit_column("snr", "quality")
        file.add_unit_column("label", "quality")
        for i, times in enumerate(([0.3, 0.4], [], [0.1, 0.2, 0.2])):
            file.add_unit(
                spike_times=np.array(times),
                electrodes=[i, 2],
                id=10 + i,
                snr=i / 2,
                label="good",
                obs_intervals=[[0.0, 1.0], [2.0, 3.0 + i]],
                waveform_mean=np.full((4, 2), float(i)),
            )

    recording = read(make_nwb(fill))
    validate(recording, "spikes", "units", "intervals/obs_intervals")
    np.testing.assert_array_equal(recording["spikes/spike_time"], [0.3, 0.4, 0.1, 0.2, 0.2])
    np.testing.assert_array_equal(recording["spikes/unit_index"], [0, 0, 2, 2, 2])
    units = recording["units"].to_dataset().compute()
    assert units["unit"].values.tolist() == [10, 11, 12]
    assert units["region"].values.tolist() == ["CA0;CA2", "CA1;CA2", "CA2"]
    assert units["depth"].values.tolist() == [0.0, 100.0, 200.0]
    assert units["electrode_x"].values.tolist() == [0.0, 1.0, 2.0]
    assert units["snr"].values.tolist() == [0.0, 0.5, 1.0]
    assert units["label"].values.tolist() == ["good"] * 3
    assert units["waveform_mean"].shape == (3, 4, 2)
    observed = recording["intervals/obs_intervals"].to_dataset()
    np.testing.assert_array_equal(observed["unit_index"], [0, 0, 1, 1, 2, 2])
    np.testing.assert_array_equal(observed["stop_time"], [1, 3, 1, 4, 1, 5])


def test_units_without_electrodes_or_spikes(make_nwb, nodes_of):
    recording = read(make_nwb(lambda file: file.add_unit(spike_times=[0.5])))
    assert nodes_of(recording) == {"spikes", "units"}
    assert "region" not in recording["units"]

    def only_quality(file):
        file.add_unit_column("snr", "quality")
        file.add_unit(snr=1.0)

    assert nodes_of(read(make_nwb(only_quality, "q.nwb"))) == {"units"}
    assert nodes_of(read(make_nwb(lambda file: None, "empty.nwb"))) == set()


def test_all_units_silent(make_nwb):
    def fill(file):
        for _ in range(3):
            file.add_unit(spike_times=np.empty(0))

    recording = read(make_nwb(fill))
    validate(recording, "spikes", "units")
    assert recording["spikes"].sizes["spike"] == 0
    assert recording["units"].sizes["unit"] == 3


def test_spikes_sort_only_when_asked(make_nwb):
    def fill(file):
        file.add_unit(spike_times=[0.9, 0.1])
        file.add_unit(spike_times=[0.2, 0.8])
        file.add_unit(spike_times=[0.7, 0.3, 0.5])

    path = make_nwb(fill)
    recording = read(path, sort_spikes=True)
    want = [0.1, 0.9, 0.2, 0.8, 0.3, 0.5, 0.7]
    np.testing.assert_array_equal(recording["spikes/spike_time"], want)
    assert "sort_spikes" in recording["spikes"].attrs["sorted_by"]
    assert '"sort_spikes": true' in recording.attrs["history"]
    array = recording["spikes/spike_time"].data.rechunk(2)
    np.testing.assert_array_equal(array, want)


def test_trials_with_every_kind_of_column(make_nwb, caplog):
    def fill(file):
        series = TimeSeries(name="s", data=np.arange(3.0), rate=1.0, unit="V")
        file.add_acquisition(series)
        file.add_trial_column("choice", "text")
        file.add_trial_column("correct", "yes or no")
        file.add_trial_column("go_time", "s")
        file.add_trial_column("licks", "ragged", index=True)
        file.add_trial_column("words", "ragged", index=True)
        file.add_trial_column("pair", "two numbers a row")
        for i, name in enumerate(("left", "right")):
            file.add_trial(
                start_time=float(i),
                stop_time=i + 0.5,
                choice=name,
                correct=bool(i),
                go_time=i + 0.1,
                licks=[0.1] * (2 * i + 1),
                words=["a", name],
                pair=[i, i + 1],
                timeseries=[series],
            )

    recording = read(make_nwb(fill))
    validate(recording, "trials")
    trials = recording["trials"].to_dataset().compute()
    assert trials["choice"].values.tolist() == ["left", "right"]
    assert trials["correct"].values.tolist() == [False, True]
    assert trials["correct"].dtype == bool
    assert trials["go_time"].attrs["units"] == "s"
    assert trials["licks"].values.tolist() == [0.1] * 4
    assert trials["licks_trial"].values.tolist() == [0, 1, 1, 1]
    assert trials["words"].values.tolist() == ["a", "left", "a", "right"]
    assert trials["pair"].shape == (2, 2)
    assert "columns left out (references or nested lists): timeseries" in caplog.text


def test_every_other_interval_table(make_nwb, nodes_of):
    def table(name):
        out = TimeIntervals(name=name, description=name)
        out.add_column("kind", "text")
        out.add_interval(start_time=0.0, stop_time=1.0, kind="a")
        return out

    def fill(file):
        file.add_time_intervals(table("ripples"))
        file.add_acquisition(table("in acquisition"))
        module = file.create_processing_module("states", "states")
        module.add(table("sleep"))
        file.add_epoch(0.0, 5.0, ["one", "two"])
        file.add_invalid_time_interval(start_time=1.0, stop_time=2.0)
        epochs = BehavioralEpochs(name="runs")
        epochs.add_interval_series(
            IntervalSeries(name="running", data=[1, -1, 2, -2], timestamps=[0.0, 1.0, 2.0, 3.0])
        )
        module.add(epochs)

    recording = read(make_nwb(fill))
    assert nodes_of(recording) == {
        f"intervals/{n}"
        for n in ("ripples", "in_acquisition", "sleep", "epochs", "invalid_times", "running")
    }
    validate(recording, *nodes_of(recording))
    assert recording["intervals/sleep/kind"].values.tolist() == ["a"]
    assert recording["intervals/epochs/tags"].values.tolist() == ["one", "two"]
    running = recording["intervals/running"].to_dataset()
    assert running["stop_time"].values.tolist() == [1.0, 3.0]
    assert running["kind"].values.tolist() == [1, 2]


def test_columns_whose_names_are_taken_step_aside(make_nwb):
    def fill(file):
        for name in ("unit", "region", "depth"):
            file.add_unit_column(name, "taken")
        file.add_unit(spike_times=[0.1], unit=5, region=7, depth=300)
        file.add_trial_column("trial", "taken")
        file.add_trial(start_time=0.0, stop_time=1.0, trial=4)

    recording = read(make_nwb(fill))
    validate(recording, "units", "trials")
    assert recording["units/unit"].values.tolist() == [0]
    assert recording["units/unit_"].values.tolist() == [5]
    assert recording["units/region_"].values.tolist() == [7]
    assert recording["units/depth"].values.tolist() == [300.0]
    assert recording["units/depth"].attrs["units"] == "um"
    assert recording["trials/trial_"].values.tolist() == [4]


def test_compound_columns_fall_apart_into_their_fields(make_nwb):
    cells = np.array([(1, 0.5), (2, 1.5)], dtype=[("count", "i4"), ("gain", "f8")])

    def fill(file):
        for row in range(2):
            file.add_trial(start_time=float(row), stop_time=row + 1.0)
        file.trials.add_column("both", "two fields", data=[0.0, 1.0])

    path = make_nwb(fill)
    with h5py.File(path, "r+") as file:
        attrs = dict(file["intervals/trials/both"].attrs)
        del file["intervals/trials/both"]
        file["intervals/trials/both"] = cells
        file["intervals/trials/both"].attrs.update(attrs)
    trials = read(path)["trials"].to_dataset()
    assert trials["both_count"].values.tolist() == [1, 2]
    assert trials["both_gain"].values.tolist() == [0.5, 1.5]
