"""Damaged and wrong NWB files: each is refused by what was found, expected and to be done."""

import contextlib

import h5py
import numpy as np
import pytest
from pynwb import TimeSeries
from pynwb.behavior import SpatialSeries
from pynwb.ecephys import ElectricalSeries

from neuropipe.errors import ReaderError
from neuropipe.io import nwb
from neuropipe.io.nwb import read


def fill(file):
    """Fill a file with one of everything that the tests below spoil."""
    device = file.create_device(name="probe")
    group = file.create_electrode_group("shank", "a shank", "CA1", device)
    for _ in range(2):
        file.add_electrode(group=group, location="CA1")
    for i in range(3):
        file.add_unit(
            spike_times=np.arange(1, 4) / 10 + i, electrodes=[0], obs_intervals=[[0.0, 9.0]]
        )
    for i in range(4):
        file.add_trial(start_time=float(i), stop_time=i + 0.5)
    file.add_acquisition(
        SpatialSeries(
            name="place", data=np.zeros((5, 2)), timestamps=np.arange(5.0), reference_frame="corner"
        )
    )
    file.add_acquisition(TimeSeries(name="rated", data=np.zeros(5), rate=10.0, unit="V"))
    file.add_acquisition(
        ElectricalSeries(
            name="raw",
            data=np.zeros((5, 2)),
            rate=10.0,
            electrodes=file.create_electrode_table_region([0, 1], "two"),
        )
    )


@pytest.fixture
def spoilt(make_nwb):
    """Return a function that writes the file, spoils it by a callback, and gives its path."""

    def make(spoil):
        path = make_nwb(fill)
        with h5py.File(path, "r+") as file:
            spoil(file)
        return path

    return make


def put(name, index, value):
    def spoil(file):
        file[name][index] = value

    return spoil


def resize(name, shape):
    def spoil(file):
        attrs = dict(file[name].attrs)
        values = np.resize(file[name][()], shape)
        del file[name]
        file[name] = values
        file[name].attrs.update(attrs)

    return spoil


def attribute(name, key, value):
    def spoil(file):
        file[name].attrs[key] = value

    return spoil


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (
            put("units/spike_times_index", 2, 99),
            r"spike_times_index: found an end at 99, expected 9, the number of values.*cut short",
        ),
        (put("units/spike_times_index", 2, 8), r"an end at 8, expected 9"),
        (
            put("units/spike_times_index", 1, 1),
            r"spike_times_index: found 1 after 3 in row 1.*never d",
        ),
        (
            put("units/spike_times", 4, np.nan),
            r"/units/spike_times: found nan at spike 4 \(unit 1\)",
        ),
        (put("units/spike_times", 4, np.inf), r"found inf at spike 4"),
        (
            put("units/spike_times", 5, 0.01),
            r"found unsorted times in unit 1 \(spike 2\).*option `sort_spikes: true`",
        ),
        (put("units/electrodes", 1, 7), r"/units/electrodes: found row 7, expected rows 0 to 1"),
        (put("units/obs_intervals_index", 2, 5), r"/units/obs_intervals_index: found an end at 5"),
        (
            put("intervals/trials/stop_time", 2, 1.0),
            r"/intervals/trials: found stop 1 s before start 2 s in row 2, expected start before",
        ),
        (
            put("acquisition/place/timestamps", 3, 0.5),
            r"/acquisition/place/timestamps: found a step back to 0.5 s at sample 3",
        ),
        (put("acquisition/place/timestamps", 3, np.nan), r"timestamps: found NaN at sample 3"),
        (
            resize("acquisition/place/timestamps", 4),
            r"/acquisition/place/timestamps: found 4 timestamps, expected 5, one for each sample",
        ),
        (
            attribute("acquisition/raw/data", "unit", "microvolts"),
            r"/acquisition/raw/data: found unit 'microvolts', expected 'volts'",
        ),
        (
            resize("acquisition/raw/data", (5, 3)),
            r"/acquisition/raw/electrodes: found 2 electrodes, expected 3",
        ),
        (
            attribute("acquisition/rated/starting_time", "rate", 0.0),
            r"/acquisition/rated: found rate 0.0, expected timestamps or a rate above 0 Hz",
        ),
        (
            resize("intervals/trials/start_time", 3),
            r"what pynwb cannot read \(/intervals/trials: .*Columns must be the same length\)",
        ),
        (attribute("/", "nwb_version", "1.0.6"), r"nwb_version: found '1.0.6', expected 2.x"),
    ],
)
def test_refused_by_name(spoilt, spoil, says):
    path = spoilt(spoil)
    with pytest.raises(ReaderError, match=rf"small\.nwb: .*{says}"):
        read(path)


def test_the_file_itself_is_fine(make_nwb):
    assert read(make_nwb(fill))["units"].sizes["unit"] == 3


def test_not_hdf5(tmp_path):
    path = tmp_path / "text.nwb"
    path.write_text("PK this is something else")
    with pytest.raises(ReaderError, match=r"text\.nwb: found no HDF5 signature .*PK this"):
        read(path)


def test_hdf5_but_no_nwb(tmp_path):
    with h5py.File(tmp_path / "plain.nwb", "w") as file:
        file["x"] = np.arange(3)
    with pytest.raises(ReaderError, match=r"found 'no nwb_version', expected 2\.x"):
        read(tmp_path / "plain.nwb")


def test_nwb_1_keeps_its_version_in_a_dataset(tmp_path):
    with h5py.File(tmp_path / "old.nwb", "w") as file:
        file["nwb_version"] = "NWB-1.0.6"
    with pytest.raises(ReaderError, match=r"found 'NWB-1.0.6', expected 2.x; convert"):
        read(tmp_path / "old.nwb")


@pytest.mark.parametrize("keep", [0.02, 0.5, 0.9, 0.999])
def test_truncated_at_any_place(make_nwb, keep):
    path = make_nwb(fill)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(ReaderError, match=r"small\.nwb: found damage .*get the file again"):
        read(path)


@pytest.mark.parametrize("seed", range(8))
def test_scrambled_bytes_never_crash_this_process(make_nwb, seed):
    """A block of noise anywhere: an error of ours, or values that pass every check."""
    path = make_nwb(fill)
    content = bytearray(path.read_bytes())
    generator = np.random.default_rng(seed)
    at = int(generator.integers(100, len(content) - 400))
    content[at : at + 400] = generator.bytes(400)
    path.write_bytes(content)
    with contextlib.suppress(ReaderError):
        read(path).compute()


def test_a_crash_in_the_library_is_an_error_here(make_nwb, monkeypatch, tmp_path):
    crash = tmp_path / "probe.py"
    crash.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.setattr(nwb, "PROBE", crash)
    with pytest.raises(ReaderError, match=r"crashed the HDF5 library"):
        read(make_nwb(fill))
    crash.write_text("import time\ntime.sleep(60)\n")
    monkeypatch.setattr("neuropipe.io.child.SECONDS", 0.2)
    with pytest.raises(ReaderError, match=r"no answer within 0.2 s"):
        read(make_nwb(fill, "other.nwb"))


def test_a_block_that_vanishes_later_is_named(make_nwb):
    path = make_nwb(fill)
    recording = read(path)
    with h5py.File(path, "r+") as file:
        del file["units/spike_times"]
    with pytest.raises(ReaderError, match=r"/units/spike_times: a block cannot be read"):
        recording["spikes/spike_time"].compute()


def test_nan_in_behavior_is_kept(spoilt):
    recording = read(spoilt(put("acquisition/place/data", (2, 0), np.nan)))
    np.testing.assert_array_equal(np.isnan(recording["behavior/place/x"]), np.arange(5) == 2)
