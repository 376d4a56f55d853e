"""iEEG in: equal to what mne reads, every trap of real files either right or refused by name."""

import json
import logging

import dask
import numpy as np
import pytest
from made_ieeg import (
    MARKS,
    RATE,
    bids_tree,
    channels_tsv,
    names,
    signals,
    table,
    tsv_beside,
    write_brainvision,
    write_edf,
)

from neuropipe.errors import ReaderError
from neuropipe.io.ieeg import read
from neuropipe.io.store import open_recording, write
from neuropipe.schema import validate


def mne_volts(path, **options):
    import mne

    reader = {".edf": mne.io.read_raw_edf, ".bdf": mne.io.read_raw_bdf}.get(
        path.suffix, mne.io.read_raw_brainvision
    )
    raw = reader(path, verbose="error", **options)
    return raw[:][0].T, raw


@pytest.mark.parametrize("bdf", [False, True])
@pytest.mark.parametrize("unit", ["uV", "mV", "V"])
def test_edf_and_bdf_equal_mne(tmp_path, unit, bdf):
    path = write_edf(tmp_path / f"a.{'bdf' if bdf else 'edf'}", signals(), unit=unit, bdf=bdf)
    voltage = read(path)["ieeg/voltage"]
    assert dask.is_dask_collection(voltage.data)
    assert voltage.dtype == np.float32
    expected, _ = mne_volts(path)
    np.testing.assert_allclose(voltage, expected, rtol=2e-7, atol=1e-12)
    np.testing.assert_allclose(voltage, signals(), atol=2e-8 if not bdf else 1e-10)


@pytest.mark.parametrize("orientation", ["multiplexed", "vectorized"])
@pytest.mark.parametrize("binary", ["binary_float32", "binary_int16"])
def test_brainvision_equals_mne(vhdr, binary, orientation):
    options = {"fmt": binary, "resolution": 0.1 if binary == "binary_float32" else 0.5}
    write_brainvision(vhdr.parent, vhdr.stem, signals(), overwrite=True, **options)
    if orientation == "vectorized":
        data = vhdr.with_suffix(".eeg")
        kind = "<f4" if binary == "binary_float32" else "<i2"
        frames = np.fromfile(data, kind).reshape(-1, 4)
        data.write_bytes(frames.T.tobytes())
        vhdr.write_text(vhdr.read_text().replace("=MULTIPLEXED", "=VECTORIZED"))
    found = read(vhdr)["ieeg/voltage"]
    expected, _ = mne_volts(vhdr)
    np.testing.assert_allclose(found, expected, rtol=2e-7, atol=1e-12)


def test_nodes_channels_and_round_trip(edf, tmp_path):
    tsv_beside(edf, A2=["A2", "SEEG", "µV", "bad"])
    recording = read(edf, dataset="d")
    validate(recording, "ieeg", "runs", "events/annotations")
    node = recording["ieeg"]
    assert node.channel.values.tolist() == ["A1", "A2", "B1", "B2"]
    assert node.shaft.values.tolist() == ["A", "A", "B", "B"]
    assert node.status.values.tolist() == ["good", "bad", "good", "good"]
    assert node.attrs["sampling_rate_hz"] == RATE
    assert recording.attrs["session"] == "sub-01_task-words"
    write(recording, tmp_path / "a.zarr")
    opened = open_recording(tmp_path / "a.zarr")
    np.testing.assert_array_equal(opened["ieeg/voltage"], node["voltage"])


def test_any_block_is_the_same(edf):
    voltage = read(edf)["ieeg/voltage"].data
    whole = voltage.compute()
    for first, last in [(0, 1), (255, 257), (100, 1000), (2047, 2048), (5, 5)]:
        np.testing.assert_array_equal(voltage[first:last].compute(), whole[first:last])
    for index in [
        np.s_[::3, 1],
        np.s_[7],
        np.s_[::-1],
        np.s_[[5, 2000, 5], [0, 0, 3]],
        np.s_[..., 2],
    ]:
        if isinstance(index, tuple) and isinstance(index[0], list):
            found = voltage[index[0]][:, index[1]]
            np.testing.assert_array_equal(found, whole[index[0]][:, index[1]])
        else:
            np.testing.assert_array_equal(voltage[index].compute(), whole[index])


def test_other_rates_keep_their_own_clock(tmp_path):
    folder, base = bids_tree(tmp_path)
    slow, fast = np.linspace(-1, 1, 8 * 16), np.sin(np.arange(8 * 512.0))
    others = [("Temp", slow, 16, "C"), ("Audio", fast, 512, "V")]
    path = write_edf(folder / f"{base}_ieeg.edf", signals(), others=others)
    rows = [(n, "SEEG", "µV", "good") for n in names(4)]
    rows += [("Temp", "MISC", "C", "n/a"), ("Audio", "AUDIO", "V", "n/a")]
    channels_tsv(folder / f"{base}_channels.tsv", rows)
    recording = read(path)
    assert recording["ieeg/voltage"].shape == (8 * 256, 4)
    expected, _ = mne_volts(path, include=names(4))
    np.testing.assert_allclose(recording["ieeg/voltage"], expected, rtol=2e-7, atol=1e-12)
    temp = recording["behavior/Temp"]
    assert temp["Temp"].attrs["units"] == "C"
    np.testing.assert_allclose(temp["Temp"], slow, atol=1e-4)
    np.testing.assert_allclose(temp["time"], np.arange(128) / 16)
    np.testing.assert_allclose(recording["behavior/Audio/Audio"], fast, atol=1e-4)


def test_neural_channels_of_two_rates_are_refused(tmp_path):
    others = [("B9", signals(1, rate=128)[:, 0] * 1e6, 128, "uV")]
    path = write_edf(tmp_path / "a.edf", signals(), others=others)
    with pytest.raises(ReaderError, match=r"128 Hz: B9.*256 Hz: A1.*expected one.*types="):
        read(path)


@pytest.mark.parametrize("bdf", [False, True])
def test_annotations_equal_mne(tmp_path, bdf):
    path = write_edf(tmp_path / f"a.{'bdf' if bdf else 'edf'}", signals(), marks=MARKS, bdf=bdf)
    node = read(path)["events/annotations"]
    _, raw = mne_volts(path)
    np.testing.assert_allclose(node["event_time"], raw.annotations.onset)
    assert node["description"].values.tolist() == list(raw.annotations.description)
    np.testing.assert_array_equal(node["duration"], [np.nan, 0.5])


def test_brainvision_markers_equal_mne(vhdr):
    node = read(vhdr)["events/annotations"]
    _, raw = mne_volts(vhdr)
    np.testing.assert_allclose(node["event_time"], raw.annotations.onset, atol=1e-6)
    np.testing.assert_allclose(node["duration"], raw.annotations.duration)
    assert node["description"].values.tolist() == list(raw.annotations.description)


def discontinuous(path, onsets):
    """Rewrite the time-keeping annotation of each record."""
    raw = path.read_bytes().replace(b"EDF+C", b"EDF+D", 1)
    for record, onset in enumerate(onsets):
        raw = raw.replace(
            f"+{record}\x14\x14\0\0".encode(), f"+{onset}\x14\x14\0".encode().ljust(6, b"\0"), 1
        )
    path.write_bytes(raw)


def test_a_discontinuous_file_keeps_its_gaps(tmp_path):
    path = write_edf(tmp_path / "a.edf", signals(), marks=[(0.5, None, "longer than a gap")])
    discontinuous(path, [0, 1, 2, 30, 31, 32, 33, 60])
    recording = read(path)
    time = recording["ieeg/time"].values
    second = int(RATE)
    expected = np.concatenate([s + np.arange(second) / RATE for s in [0, 1, 2, 30, 31, 32, 33, 60]])
    np.testing.assert_allclose(time, expected)
    runs = recording["runs"]
    np.testing.assert_allclose(runs["start_time"], [0, 30, 60])
    np.testing.assert_allclose(runs["stop_time"], [3, 34, 61])
    assert "onsets" in runs.attrs["clock"]
    np.testing.assert_allclose(recording["ieeg/voltage"], signals(), atol=2e-8)


def test_a_discontinuous_file_without_onsets_is_refused(tmp_path):
    path = write_edf(tmp_path / "a.edf", signals(), marks=MARKS)
    path.write_bytes(path.read_bytes().replace(b"EDF+C", b"EDF+D").replace(b"+3\x14\x14", b"    "))
    with pytest.raises(ReaderError, match=r"record 3 does not say when it begins"):
        read(path)
    path = write_edf(tmp_path / "b.edf", signals(), marks=MARKS)
    discontinuous(path, [0, 1, 2, 1, 2, 3, 4, 5])
    with pytest.raises(ReaderError, match=r"record 3 begins -1 s after"):
        read(path)


def test_units_of_header_and_table(edf, caplog):
    tsv_beside(edf, A1=["A1", "SEEG", "V", "good"])
    np.testing.assert_allclose(read(edf)["ieeg/voltage"], signals(), atol=2e-8)
    assert "A1 in uV, not V" in caplog.text


def test_a_unit_is_never_guessed(tmp_path, caplog):
    folder, base = bids_tree(tmp_path)
    path = write_edf(folder / f"{base}_ieeg.edf", signals(), unit="")
    tsv_beside(path, A1=["A1", "SEEG", "n/a", "good"])
    with pytest.raises(ReaderError, match=r"without a unit: A1;.*unit="):
        read(path)
    np.testing.assert_allclose(read(path, unit="uV")["ieeg/voltage"], signals(), atol=2e-8)
    tsv_beside(path, A1=["A1", "SEEG", "mmHg", "good"])
    with pytest.raises(ReaderError, match=r"no voltage: A1 'mmHg'"):
        read(path)
    with pytest.raises(ReaderError, match=r"unit: found 'volt-ish'"):
        read(path, unit="volt-ish")


def test_names_of_the_table_must_be_the_files(edf):
    tsv_beside(edf, A1=["A9", "SEEG", "µV", "good"])
    with pytest.raises(ReaderError, match=r"only in the file A1; only in the table A9"):
        read(edf)
    tsv_beside(edf, A1=None)
    with pytest.raises(ReaderError, match=r"only in the file A1; only in the table none"):
        read(edf)


def test_the_table_may_have_another_order(edf):
    rows = [(n, "SEEG", "µV", f"s{n}") for n in reversed(names(4))]
    channels_tsv(edf.with_name("sub-01_task-words_channels.tsv"), rows)
    assert read(edf)["ieeg"].status.values.tolist() == ["sA1", "sA2", "sB1", "sB2"]


def test_repeated_labels(tmp_path, caplog):
    folder, base = bids_tree(tmp_path)
    labels = ["A1", "A1", "B1", "B2"]
    path = write_edf(folder / f"{base}_ieeg.edf", signals(), labels=labels)
    _, raw = mne_volts(path)
    node = read(path)["ieeg"]
    assert node.channel.values.tolist() == raw.ch_names == ["A1-0", "A1-1", "B1", "B2"]
    assert "repeated labels A1" in caplog.text
    tsv_beside(path)
    assert read(path)["ieeg"].channel.values.tolist() == names(4)


@pytest.mark.parametrize("told", [RATE + 0.1, 1000.0])
def test_a_rate_that_differs(edf, told):
    sidecar = edf.with_suffix(".json")
    sidecar.write_text(json.dumps({"SamplingFrequency": told, "PowerLineFrequency": 60}))
    if told == 1000:
        with pytest.raises(ReaderError, match=r"rate of 1000 Hz, expected the 256 Hz"):
            read(edf)
    else:
        attrs = read(edf)["ieeg"].attrs
        assert (attrs["sampling_rate_hz"], attrs["power_line_frequency_hz"]) == (RATE, 60.0)


def test_runs_lie_one_after_another(tmp_path):
    folder, base = bids_tree(tmp_path)
    for run in (1, 2):
        path = write_edf(folder / f"{base}_run-{run}_ieeg.edf", signals(seed=run), marks=MARKS)
        tsv_beside(path)
        rows = [(0.5, "n/a", "yes"), (1.0, 0.25, "no")]
        events = folder / f"{base}_run-{run}_events.tsv"
        table(events, ("onset", "duration", "trial_type"), rows)
    recording = read(folder)
    assert recording["ieeg/voltage"].shape == (2 * 8 * 256, 4)
    np.testing.assert_allclose(recording["ieeg/voltage"][2048:], signals(seed=2), atol=2e-8)
    node = recording["intervals/events"]
    np.testing.assert_allclose(node["start_time"], [0.5, 1.0, 8.5, 9.0])
    np.testing.assert_array_equal(node["stop_time"], [np.nan, 1.25, np.nan, 9.25])
    assert node["run_label"].values.tolist() == ["1", "1", "2", "2"]
    np.testing.assert_allclose(recording["events/annotations/event_time"][2:], [9.5, 10.25])
    rows = [(f"ieeg/{base}_run-{r}_ieeg.edf", f"2020-01-01T00:0{r}:00") for r in (1, 2)]
    table(folder.parent / "sub-01_scans.tsv", ("filename", "acq_time"), rows)
    np.testing.assert_allclose(read(tmp_path)["runs/start_time"], [0, 60])


def test_nan_stays_nan(vhdr):
    data = vhdr.with_suffix(".eeg")
    frames = np.fromfile(data, "<f4").reshape(-1, 4)
    frames[7, 1] = np.nan
    data.write_bytes(frames.tobytes())
    voltage = read(vhdr)["ieeg/voltage"].values
    assert np.isnan(voltage[7, 1])
    assert np.isnan(voltage).sum() == 1


def test_a_start_date_of_zero_and_no_person(edf):
    raw = bytearray(edf.read_bytes())
    raw[8:88] = b"X M 01-JAN-1970 Doe_Jane".ljust(80)
    raw[168:184] = b"00.00.0000.00.00"
    edf.write_bytes(raw)
    attrs = json.dumps(read(edf).attrs)
    assert "Doe" not in attrs
    assert "1970" not in attrs


def test_unclosed_file(edf, caplog):
    raw = bytearray(edf.read_bytes())
    raw[236:244] = b"-1".ljust(8)
    edf.write_bytes(raw)
    assert read(edf)["ieeg"].sizes["time"] == 8 * 256
    assert "not closed" in caplog.text


def test_bare_files_go_by_label_and_unit(tmp_path, caplog):
    others = [("ECG", np.sin(np.arange(2048.0)), 256, "mV"), ("Temp", np.ones(128), 16, "C")]
    others[1] = ("Temp", np.linspace(0, 1, 128), 16, "C")
    recording = read(write_edf(tmp_path / "a.edf", signals(), others=others))
    assert set(recording["behavior"].children) == {"ECG", "Temp"}
    assert recording["ieeg"].channel_type.values.tolist() == ["n/a"] * 4
    assert "no channels.tsv" in caplog.text
    with pytest.raises(ReaderError, match=r"no neural channel among types ECG, MISC, n/a"):
        read(tmp_path / "a.edf", types=["SEEG"])


def nwb_of(make_nwb, rates=(500.0,), timestamps=None, name="a.nwb"):
    from pynwb.ecephys import ElectricalSeries

    def fill(file):
        device = file.create_device(name="amp")
        group = file.create_electrode_group("A", "depth", "STG", device)
        file.add_electrode_column("label", "names")
        for i in range(3):
            place = {axis: 1000.0 * (i + k) for k, axis in enumerate("xyz")}
            file.add_electrode(group=group, location="STG", label=f"A{i + 1}", **place)
        region = file.create_electrode_table_region([2, 0, 1], "all")
        for number, rate in enumerate(rates):
            clock = {"rate": rate} if timestamps is None else {"timestamps": timestamps}
            data = np.arange(60.0).reshape(20, 3)
            file.add_acquisition(
                ElectricalSeries(
                    name=f"raw{number}", data=data, electrodes=region, conversion=1e-6, **clock
                )
            )

    return make_nwb(fill, name)


def test_nwb(make_nwb, caplog):
    recording = read(nwb_of(make_nwb))
    validate(recording, "ieeg", "runs")
    node = recording["ieeg"]
    assert node.channel.values.tolist() == ["A3", "A1", "A2"]
    assert node.region.values.tolist() == ["STG"] * 3
    assert node.attrs["sampling_rate_hz"] == 500.0
    np.testing.assert_allclose(node.x, [2, 0, 1])
    np.testing.assert_allclose(node["voltage"][1], np.arange(3, 6) * 1e-6)
    assert recording.attrs["subject"] == "m1"
    assert read(nwb_of(make_nwb), coordinate_unit="mm")["ieeg"].x[0] == 2000


def test_nwb_with_several_series_or_an_irregular_clock(make_nwb):
    two = nwb_of(make_nwb, rates=(500.0, 100.0))
    with pytest.raises(ReaderError, match=r"found ElectricalSeries raw0, raw1.*series="):
        read(two)
    recording = read(two, series="raw1")
    assert recording["ieeg"].attrs["sampling_rate_hz"] == 100.0
    assert "raw0" in recording["ephys"].children
    bent = np.arange(20) / 500
    bent[10:] += 1
    with pytest.raises(ReaderError, match=r"off a regular clock"):
        read(nwb_of(make_nwb, timestamps=bent, name="b.nwb"))


@pytest.mark.data
@pytest.mark.parametrize("name", ["ieeg_hfo_bids", "gripforce_bids"])
def test_recordings_of_others(data_dir, name, caplog):
    from neuropipe.io.bids import session_files

    tree = data_dir / name / "bids"
    if not tree.is_dir():
        pytest.skip(f"no {name} among the recordings")
    caplog.set_level(logging.ERROR)
    found = session_files(tree, "ieeg")
    recording = read(found.files)
    node = recording["ieeg"]
    expected, raw = mne_volts(found.recordings[0])
    picks = [raw.ch_names.index(n) for n in node.channel.values]
    np.testing.assert_allclose(node["voltage"], expected[:, picks], rtol=2e-7)
    if name == "ieeg_hfo_bids":
        assert node["voltage"].shape == (10_000, 50)
        assert recording["intervals/events"].sizes["interval"] == 68
        assert set(node.shaft.values) == {"IAR", "IPR", "AHR", "AL", "AR", "HL", "PHR"}
    else:
        assert node["voltage"].shape == (19_001, 9)
        np.testing.assert_allclose(node.x[0], 11.8280802308701)
        assert recording["behavior/MOV_RIGHT"].sizes["time"] == 19_001
