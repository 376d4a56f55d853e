"""NWB files in: names, clocks, privacy, laziness, and a file of another laboratory."""

from datetime import UTC, datetime, timedelta

import dask
import numpy as np
import pytest
import xarray as xr
from hdmf.common import DynamicTable, VectorData
from pynwb import TimeSeries
from pynwb.behavior import (
    Position,
    SpatialSeries,
)
from pynwb.ecephys import ElectricalSeries

from neuropipe.io import hdf5
from neuropipe.io.nwb import read
from neuropipe.schema import validate

START = datetime(2024, 3, 1, 12, 0, 0, tzinfo=UTC)


def test_names_that_collide_carry_their_place(make_nwb, nodes_of):
    def fill(file):
        for name in ("one", "two"):
            module = file.create_processing_module(name, name)
            module.add(
                Position(
                    spatial_series=SpatialSeries(
                        name="place", data=np.zeros((2, 2)), rate=1.0, reference_frame="corner"
                    )
                )
            )
        file.add_acquisition(TimeSeries(name="a-b", data=[0.0], rate=1.0, unit="V"))
        file.add_acquisition(TimeSeries(name="a b", data=[1.0], rate=1.0, unit="V"))

    recording = read(make_nwb(fill))
    assert nodes_of(recording) == {
        "behavior/one_Position_place",
        "behavior/two_Position_place",
        "behavior/a_b",
        "behavior/a_b_",
    }
    assert recording["behavior/one_Position_place"].attrs["nwb_path"] == (
        "/processing/one/Position/place"
    )


def test_times_are_shifted_to_the_session_start(make_nwb):
    def fill(file):
        file.add_unit(spike_times=[1.0])
        file.add_trial(start_time=1.0, stop_time=2.0)
        file.add_acquisition(TimeSeries(name="rated", data=[0.0, 1.0], rate=1.0, unit="V"))
        file.add_acquisition(TimeSeries(name="timed", data=[0.0], timestamps=[4.0], unit="V"))

    later = START + timedelta(seconds=10)
    recording = read(make_nwb(fill, session_start_time=START, timestamps_reference_time=later))
    assert recording["spikes/spike_time"].values.tolist() == [11.0]
    assert recording["trials/stop_time"].values.tolist() == [12.0]
    assert recording["behavior/rated/time"].values.tolist() == [10.0, 11.0]
    assert recording["behavior/timed/time"].values.tolist() == [14.0]


def test_no_birth_date_and_no_name_of_a_person(make_nwb):
    attrs = read(make_nwb(lambda file: None, session_start_time=START)).attrs
    assert attrs["subject"] == "m1"
    assert attrs["species"] == "Mus musculus"
    assert attrs["session_start_time"] == START.isoformat()
    text = str(attrs)
    assert "Nobody" not in text
    assert "2023" not in text


def test_what_is_not_read_is_named(make_nwb, caplog, nodes_of):
    def fill(file):
        module = file.create_processing_module("odd", "odd")
        module.add(
            DynamicTable(
                name="table",
                description="t",
                columns=[VectorData(name="c", description="c", data=[1, 2])],
            )
        )

    assert nodes_of(read(make_nwb(fill))) == set()
    assert "/processing/odd/table: DynamicTable is not read" in caplog.text


def test_nothing_large_is_read_before_it_is_asked_for(make_nwb, monkeypatch, add_electrodes):
    def fill(file):
        add_electrodes(file)
        region = file.create_electrode_table_region([0, 1, 2], "three")
        file.add_acquisition(
            ElectricalSeries(
                name="raw",
                data=np.zeros((50_000, 3), dtype=np.int16),
                electrodes=region,
                rate=30000.0,
            )
        )

    seen = []
    read_block = hdf5.HDF5Array.__getitem__

    def spy(self, index):
        block = read_block(self, index)
        seen.append((self.name, block.size))
        return block

    monkeypatch.setattr(hdf5.HDF5Array, "__getitem__", spy)
    recording = read(make_nwb(fill))
    assert not [name for name, size in seen if "raw" in name and size]
    voltage = recording["ephys/raw/voltage"]
    assert dask.is_dask_collection(voltage.data)
    voltage[:10].compute()
    assert seen


def test_arrays_survive_a_trip_to_another_process(make_nwb):
    import pickle

    recording = read(make_nwb(lambda file: file.add_unit(spike_times=[0.1, 0.2])))
    graph = pickle.dumps(recording["spikes/spike_time"].variable)
    np.testing.assert_array_equal(pickle.loads(graph), [0.1, 0.2])


def test_same_file_gives_same_graph_names(make_nwb):
    path = make_nwb(lambda file: file.add_unit(spike_times=[0.1, 0.2]))
    names = {read(path)["spikes/spike_time"].data.name for _ in range(2)}
    assert len(names) == 1


@pytest.mark.data
def test_human_recording_equals_plain_pynwb(human_mtl, nodes_of):
    from pynwb import NWBHDF5IO

    recording = read(human_mtl, dataset="human_mtl")
    nodes = nodes_of(recording)
    assert nodes == {
        "spikes",
        "units",
        "events/events",
        "events/experiment_ids",
        "stimulus/StimulusPresentation_encoding",
        "intervals/encoding_table",
        "intervals/recognition_table",
        "intervals/timediscrimination_table",
    }
    validate(recording, *nodes)
    with NWBHDF5IO(str(human_mtl), mode="r") as io:
        with pytest.warns(UserWarning, match="external_file"):
            file = io.read()
        ragged = [file.units["spike_times"][i] for i in range(len(file.units))]
        np.testing.assert_array_equal(recording["spikes/spike_time"], np.concatenate(ragged))
        owner = np.repeat(np.arange(35), [len(one) for one in ragged])
        np.testing.assert_array_equal(recording["spikes/unit_index"], owner)
        for name, table in file.intervals.items():
            frame = table.to_dataframe()
            node = recording[f"intervals/{name}"].to_dataset().compute()
            assert set(frame.columns) | {"id"} == set(node.data_vars)
            for column in frame.columns:
                want = [v.decode() if isinstance(v, bytes) else v for v in frame[column]]
                np.testing.assert_array_equal(node[column].values, want)
        for name in ("events", "experiment_ids"):
            series = file.acquisition[name]
            node = recording[f"events/{name}"].to_dataset()
            np.testing.assert_array_equal(node["event_time"], series.timestamps[:])
            np.testing.assert_array_equal(node["value"], series.data[:])
        places = [file.units["electrodes"][i] for i in range(35)]
        regions = [row["location"].iloc[0].decode() for row in places]
        assert recording["units/region"].values.tolist() == regions
    assert recording["spikes"].sizes["spike"] == 214278
    assert isinstance(recording, xr.DataTree)
