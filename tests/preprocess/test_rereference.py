"""Channels and references: equal to mne, gaps not bridged, bad channels in no mean."""

import dask
import mne
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_voltages import FEW, RATE, ieeg, noise

from neuropipe.errors import DataError
from neuropipe.preprocess.rereference import rereference
from neuropipe.preprocess.select_channels import select_channels

NAMES = ["A1", "A2", "A3", "A5", "B1", "B2", "C1"]
COORDS = {
    "channel": NAMES,
    "shaft": [n[0] for n in NAMES],
    "status": ["good", "good", "good", "good", "good", "bad", "good"],
    "region": ["STG", "STG", "White Matter", "Left-Cerebral-White-Matter", "wm", "wm", "swmx"],
    "channel_type": ["SEEG"] * 6 + ["ECOG"],
    "x": np.arange(7.0),
}


def made(chunks=None, n=40, **changes):
    return ieeg(noise(n, 7), chunks, **{**COORDS, **changes})


def raw_of(recording):
    info = mne.create_info(NAMES, RATE, "seeg")
    raw = mne.io.RawArray(recording["ieeg/voltage"].values.T, info, verbose="error")
    raw.info["bads"] = ["B2"]
    return raw


def of(recording, names):
    return recording["ieeg/voltage"].values[:, [NAMES.index(n) for n in names]]


def test_average_equals_mne():
    recording = made(chunks=7)
    out = rereference(recording)["ieeg"]
    assert dask.is_dask_collection(out["voltage"].data)
    raw, _ = mne.set_eeg_reference(raw_of(recording), "average", ch_type="seeg", verbose="error")
    # mne leaves bad channels as they are; here they get the reference of the others
    good = out.status.values == "good"
    np.testing.assert_allclose(out["voltage"][:, good], raw[:][0].T[:, good], atol=1e-18)
    mean = of(recording, [n for n in NAMES if n != "B2"]).mean(axis=1)
    np.testing.assert_allclose(out["voltage"][:, 5], of(recording, ["B2"])[:, 0] - mean, atol=1e-18)
    assert out.attrs["reference"] == "average"


def test_average_within_a_shaft():
    recording = made(status=["good"] * 7)
    out = rereference(recording, within="shaft")["ieeg/voltage"]
    b = of(recording, ["B1", "B2"])
    np.testing.assert_allclose(out[:, 4:6], b - b.mean(axis=1, keepdims=True), atol=1e-18)
    np.testing.assert_array_equal(out[:, 6], 0)


def test_channels_equal_mne():
    recording = made()
    out = rereference(recording, scheme="channels", channels=["A1", "B1"])["ieeg/voltage"]
    raw, _ = mne.set_eeg_reference(raw_of(recording), ["A1", "B1"], ch_type="seeg", verbose="error")
    good = recording["ieeg"].status.values == "good"
    np.testing.assert_allclose(out[:, good], raw[:][0].T[:, good], atol=1e-18)


def test_bipolar_equals_mne_and_bridges_no_gap(caplog):
    recording = made(chunks=11)
    out = rereference(recording, scheme="bipolar")["ieeg"]
    assert out.channel.values.tolist() == ["A1-A2", "A2-A3", "B1-B2"]
    anodes, cathodes = ["A1", "A2", "B1"], ["A2", "A3", "B2"]
    raw = mne.set_bipolar_reference(
        raw_of(recording), anodes, cathodes, on_bad="ignore", verbose="error"
    )
    expected = raw.get_data(out.channel.values.tolist()).T
    np.testing.assert_allclose(out["voltage"], expected, atol=1e-18)
    assert out.status.values.tolist() == ["good", "good", "bad"]
    assert out.x.values.tolist() == [0.5, 1.5, 4.5]
    assert out.shaft.values.tolist() == ["A", "A", "B"]
    assert out.region.values.tolist() == ["STG", "STG-White Matter", "wm"]
    assert "left out: A5, C1" in caplog.text


def test_laplacian():
    recording = made()
    out = rereference(recording, scheme="laplacian")["ieeg"]
    assert out.channel.values.tolist() == ["A1", "A2", "A3", "B2"]
    v = recording["ieeg/voltage"].values
    expected = [v[:, 0] - v[:, 1], v[:, 1] - (v[:, 0] + v[:, 2]) / 2, v[:, 2] - v[:, 1]]
    np.testing.assert_allclose(out["voltage"][:, :3], np.stack(expected, axis=1), atol=1e-18)


def test_white_matter_by_whole_words():
    recording = made()
    out = rereference(recording, scheme="white_matter")["ieeg/voltage"]
    reference = of(recording, ["A3", "A5", "B1"]).mean(axis=1, keepdims=True)
    np.testing.assert_allclose(out, recording["ieeg/voltage"] - reference, atol=1e-18)
    with pytest.raises(DataError, match="no good channel to refer A1"):
        rereference(recording, scheme="white_matter", labels=["cerebellum"])


def test_a_bad_channel_of_nan_spreads_nowhere():
    values = noise(40, 7)
    values[:, 5] = np.nan
    for scheme in ("average", "laplacian"):
        out = rereference(ieeg(values, **COORDS), scheme=scheme)["ieeg"]
        lost = np.isnan(out["voltage"].values).any(axis=0)
        assert set(out.channel.values[lost]) == {"B2"}


@FEW
@given(chunk=st.integers(1, 40), scheme=st.sampled_from(["average", "bipolar", "laplacian"]))
def test_any_blocks_give_the_same(chunk, scheme):
    whole = rereference(made(), scheme=scheme)["ieeg/voltage"].values
    np.testing.assert_array_equal(rereference(made(chunk), scheme=scheme)["ieeg/voltage"], whole)


@pytest.mark.parametrize(
    ("settings", "changes", "message"),
    [
        ({"scheme": "channels", "channels": ["A9"]}, {}, "no channel 'A9' .*known are A1"),
        ({"scheme": "channels"}, {}, "with channels None"),
        ({"channels": ["A1"]}, {}, "scheme 'average' with channels"),
        ({"scheme": "bipolar"}, {"shaft": ["A"] * 7}, "A1 and B1 are both contact 1"),
        ({"scheme": "bipolar"}, {"shaft": NAMES}, "no two of 7 contacts"),
        ({}, {"status": ["bad"] * 7}, "no good channel"),
    ],
)
def test_what_cannot_be(settings, changes, message):
    with pytest.raises(DataError, match=message):
        rereference(made(**changes), **settings)


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({}, ["A1", "A2", "A3", "A5", "B1", "C1"]),
        ({"drop_bad": False}, NAMES),
        ({"status": ["bad"]}, ["B2"]),
        ({"names": ["B1", "A2"]}, ["A2", "B1"]),
        ({"types": ["ECOG"]}, ["C1"]),
        ({"shafts": ["A", "B"], "regions": ["wm", "STG"]}, ["A1", "A2", "B1"]),
    ],
)
def test_select_channels(settings, kept):
    recording = made(chunks=9)
    out = select_channels(recording, **settings)["ieeg"]
    assert out.channel.values.tolist() == kept
    assert dask.is_dask_collection(out["voltage"].data)
    np.testing.assert_array_equal(out["voltage"], of(recording, kept))


def test_select_channels_of_another_node():
    made = ieeg(noise(30), node="ephys/probe", channel=[7, 8, 9])
    out = select_channels(made, names=["8"], node="ephys/probe")
    assert out["ieeg"].channel.values.tolist() == ["8"]
    assert out["ephys/probe"].sizes["channel"] == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"names": ["A9"]}, "no channel of node ieeg has channel 'A9'; known are A1"),
        ({"names": ["B2"]}, "none of 7 channels"),
        ({"regions": ["V1"]}, "has region 'V1'"),
    ],
)
def test_select_what_is_not_there(settings, message):
    with pytest.raises(DataError, match=message):
        select_channels(made(), **settings)
    with pytest.raises(DataError, match="does not tell the region"):
        select_channels(ieeg(noise(9)), regions=["V1"])
