"""NWB series in: each on its own clock, in its units, in the node of its family."""

import numpy as np
import pytest
from pynwb import TimeSeries
from pynwb.base import ImageReferences, Images
from pynwb.behavior import (
    BehavioralEvents,
    BehavioralTimeSeries,
    CompassDirection,
    Position,
    SpatialSeries,
)
from pynwb.ecephys import LFP, ElectricalSeries
from pynwb.event import EventsTable
from pynwb.image import GrayscaleImage, ImageSeries, IndexSeries
from pynwb.misc import AnnotationSeries
from pynwb.ophys import (
    DfOverF,
    Fluorescence,
    ImageSegmentation,
    OpticalChannel,
    RoiResponseSeries,
)

from neuropipe.io.hdf5 import lazy
from neuropipe.io.nwb import read
from neuropipe.io.nwb_series import Ramp
from neuropipe.schema import validate


def test_behavior_at_its_own_rates(make_nwb, nodes_of):
    xy = np.array([[0, 1], [2, np.nan], [4, 5]])

    def fill(file):
        module = file.create_processing_module("behavior", "behaviour")
        module.add(
            Position(
                spatial_series=SpatialSeries(
                    name="xy",
                    data=xy,
                    rate=50.0,
                    starting_time=2.0,
                    unit="centimeters",
                    conversion=10.0,
                    reference_frame="corner",
                )
            )
        )
        module.add(
            CompassDirection(
                spatial_series=SpatialSeries(
                    name="head",
                    data=[0.1, 0.2],
                    timestamps=[0.5, 0.7],
                    unit="radians",
                    reference_frame="north",
                )
            )
        )
        module.add(
            BehavioralTimeSeries(
                time_series=TimeSeries(
                    name="pupil",
                    data=np.arange(4, dtype=np.int16),
                    rate=30.0,
                    unit="pixels",
                    conversion=0.5,
                    offset=1.0,
                )
            )
        )
        file.add_acquisition(
            TimeSeries(
                name="wheel-speed", data=np.arange(10.0).reshape(5, 2), rate=100.0, unit="cm/s"
            )
        )

    recording = read(make_nwb(fill))
    assert nodes_of(recording) == {f"behavior/{n}" for n in ("xy", "head", "pupil", "wheel_speed")}
    validate(recording, *nodes_of(recording))
    place = recording["behavior/xy"].to_dataset()
    np.testing.assert_allclose(place["time"], 2 + np.arange(3) / 50)
    np.testing.assert_allclose(place["y"], xy[:, 1] * 10)
    assert place["x"].attrs["units"] == "cm"
    assert place.attrs["reference_frame"] == "corner"
    np.testing.assert_array_equal(recording["behavior/head/time"], [0.5, 0.7])
    np.testing.assert_allclose(recording["behavior/pupil/pupil"], [1.0, 1.5, 2.0, 2.5])
    assert recording["behavior/pupil/pupil"].dtype == np.float64
    assert recording["behavior/wheel_speed/wheel_speed"].dims == ("time", "dimension")


def test_events_of_every_kind(make_nwb, caplog, nodes_of):
    def fill(file):
        file.add_acquisition(
            AnnotationSeries(name="notes", data=["go", "stop"], timestamps=[1.0, 2.0])
        )
        file.add_acquisition(
            TimeSeries(
                name="ttl",
                data=np.array([1, 4, 2], dtype=np.int8),
                timestamps=[-5e8, 0.0, 0.0],
                unit="NA",
            )
        )
        file.add_acquisition(
            TimeSeries(
                name="counter", data=np.array([1, 2, 3]), timestamps=[0.0, 1.0, 2.0], unit="pixels"
            )
        )
        module = file.create_processing_module("behavior", "behaviour")
        module.add(
            BehavioralEvents(
                time_series=TimeSeries(
                    name="licks", data=[0.5, 0.7], timestamps=[1.0, 1.5], unit="volts"
                )
            )
        )
        table = EventsTable(name="rewards", description="water")
        table.add_column("size", "ul")
        table.add_event(timestamp=3.0, size=2.5)
        file.add_events_table(table)

    recording = read(make_nwb(fill))
    assert nodes_of(recording) == {
        "events/notes",
        "events/ttl",
        "events/licks",
        "events/rewards",
        "behavior/counter",
    }
    validate(recording, *nodes_of(recording))
    assert recording["events/notes/label"].values.tolist() == ["go", "stop"]
    assert recording["events/ttl/event_time"].values.tolist() == [-5e8, 0.0, 0.0]
    assert recording["events/ttl/value"].values.tolist() == [1, 4, 2]
    assert recording["events/licks/value"].attrs["units"] == "V"
    assert recording["events/rewards/size"].values.tolist() == [2.5]
    assert "/acquisition/ttl: 1 times before the session start" in caplog.text
    assert "1 repeated times and 0 steps back" in caplog.text


def test_voltage_in_volts_with_every_factor(make_nwb, add_electrodes):
    raw = np.arange(12, dtype=np.int16).reshape(4, 3)

    def fill(file):
        add_electrodes(file)
        region = file.create_electrode_table_region([2, 0, 1], "three")
        file.add_acquisition(
            ElectricalSeries(
                name="raw",
                data=raw,
                electrodes=region,
                rate=30000.0,
                conversion=2e-6,
                offset=1e-3,
                channel_conversion=[1.0, 2.0, 4.0],
            )
        )
        one = file.create_electrode_table_region([1], "one")
        module = file.create_processing_module("ecephys", "lfp")
        module.add(
            LFP(
                electrical_series=ElectricalSeries(
                    name="lfp", data=np.arange(5.0), electrodes=one, rate=1250.0
                )
            )
        )

    recording = read(make_nwb(fill))
    validate(recording, "ephys/raw", "ephys/lfp")
    voltage = recording["ephys/raw/voltage"]
    np.testing.assert_allclose(voltage, raw * np.array([1.0, 2, 4]) * 2e-6 + 1e-3, rtol=1e-6)
    assert voltage.dtype == np.float32
    assert voltage["channel"].values.tolist() == [2, 0, 1]
    assert voltage["region"].values.tolist() == ["CA2", "CA0", "CA1"]
    np.testing.assert_allclose(recording["ephys/raw/time"], np.arange(4) / 30000)
    assert recording["ephys/lfp/voltage"].shape == (5, 1)


def test_two_photon_traces(make_nwb):
    def fill(file):
        device = file.create_device(name="microscope")
        channel = OpticalChannel(name="c", description="c", emission_lambda=500.0)
        plane = file.create_imaging_plane(
            name="plane",
            optical_channel=channel,
            description="p",
            device=device,
            excitation_lambda=600.0,
            indicator="GCaMP",
            location="V1",
        )
        module = file.create_processing_module("ophys", "ophys")
        segmentation = ImageSegmentation()
        module.add(segmentation)
        rois = segmentation.create_plane_segmentation(
            name="ps", description="d", imaging_plane=plane
        )
        for i in range(3):
            rois.add_roi(image_mask=np.ones((2, 2)), id=7 + i)
        two = rois.create_roi_table_region(region=[2, 0], description="two")
        module.add(
            Fluorescence(
                roi_response_series=RoiResponseSeries(
                    name="raw", data=np.arange(8).reshape(4, 2), rois=two, unit="lumens", rate=30.0
                )
            )
        )
        module.add(
            DfOverF(
                roi_response_series=RoiResponseSeries(
                    name="rel",
                    data=np.arange(8.0).reshape(4, 2),
                    rois=two,
                    unit="percent",
                    rate=30.0,
                )
            )
        )

    recording = read(make_nwb(fill))
    validate(recording, "calcium/raw", "calcium/rel")
    raw = recording["calcium/raw/fluorescence"]
    assert raw.dtype == np.float32
    assert raw.attrs["units"] == "lumens"
    assert raw["roi"].values.tolist() == [9, 7]
    np.testing.assert_allclose(recording["calcium/rel/dff"], np.arange(8.0).reshape(4, 2) / 100)


def test_images_and_the_order_they_were_shown_in(make_nwb, caplog, nodes_of):
    frames = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)

    def fill(file):
        file.add_stimulus(ImageSeries(name="movie", data=frames, rate=10.0, unit="n.a."))
        file.add_stimulus(
            ImageSeries(
                name="colour", data=np.zeros((2, 3, 4, 3), dtype=np.uint8), rate=10.0, unit="n.a."
            )
        )
        file.add_stimulus(
            ImageSeries(
                name="outside",
                external_file=["a/one.avi", "c:\\two.avi"],
                format="external",
                starting_frame=[0, 5],
                rate=10.0,
                unit="n.a.",
                num_samples=8,
            )
        )
        stills = [GrayscaleImage(name=f"im{i}", data=frames[i]) for i in (0, 1)]
        album = Images(
            name="album",
            images=stills,
            order_of_images=ImageReferences(name="order_of_images", data=[stills[1], stills[0]]),
        )
        file.add_stimulus_template(album)
        file.add_stimulus(
            IndexSeries(
                name="shown",
                data=np.array([1, 0, 1], dtype=np.uint32),
                indexed_images=album,
                timestamps=[0.0, 1.0, 2.0],
                unit="N/A",
            )
        )
        file.add_stimulus(TimeSeries(name="sound", data=np.arange(4.0), rate=1e4, unit="Pa"))

    recording = read(make_nwb(fill))
    validate(recording, *nodes_of(recording))
    assert nodes_of(recording) == {
        f"stimulus/{n}" for n in ("movie", "colour", "outside", "album", "shown", "sound")
    }
    np.testing.assert_array_equal(recording["stimulus/movie/frame"], frames)
    assert recording["stimulus/movie/frame"].dtype == np.uint8
    assert recording["stimulus/movie/frame_time"].values.tolist() == [0.0, 0.1]
    assert recording["stimulus/colour/frame_color"].dims == ("frame", "y", "x", "color")
    outside = recording["stimulus/outside"].to_dataset()
    assert outside["external_file"].values.tolist() == ["one.avi", "two.avi"]
    assert outside["external_file"].dims == ("file",)
    np.testing.assert_allclose(outside["frame_time"], np.arange(8) / 10)
    assert "frame" not in outside.data_vars
    assert "2 external image files (2 absent), no frames are read" in caplog.text
    np.testing.assert_array_equal(recording["stimulus/album/frame"], frames[::-1])
    assert recording["stimulus/album/frame_name"].values.tolist() == ["im1", "im0"]
    assert recording["stimulus/shown/frame_index"].values.tolist() == [1, 0, 1]
    assert recording["stimulus/shown"].attrs["images"] == "album"
    assert recording["stimulus/sound/value"].attrs["units"] == "Pa"


@pytest.mark.parametrize("index", [np.s_[::2], np.s_[5], np.s_[::-1], np.s_[3:9:4], np.s_[[3, 7]]])
def test_any_choice_of_a_regular_clock(index):
    time = lazy(Ramp(2.0, 10.0, (12,)))
    np.testing.assert_array_equal(time[index].compute(), (2.0 + np.arange(12) / 10)[index])
