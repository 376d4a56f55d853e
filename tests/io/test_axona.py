"""Axona sets to NWB: a tiny set whose every value is known, its damage, and the real mouse."""

import hashlib
from pathlib import Path

import numpy as np
import pynwb
import pytest

from neuropipe.errors import FetchError, ReaderError
from neuropipe.io.axona import convert
from neuropipe.io.fetch import fetch
from neuropipe.io.manifest import read_manifest
from neuropipe.io.nwb import read
from neuropipe.schema import validate

TRIAL = "trial_date Monday, 8 Sep 2014\r\ntrial_time 17:25:52\r\nexperimenter Nobody\r\n"
GAINS = [1000, 2000, 4000, 8000]
SPIKES_S = np.array([0.5, 1.0, 1.25, 2.0, 3.5])
LABELS = [1, 0, 2, 1, 2]
N_POS, N_PADDING = 200, 50


def binary(header: str, body: bytes) -> bytes:
    return (TRIAL + header + "data_start").encode() + body + b"\r\ndata_end\r\n"


def spikes_body() -> bytes:
    wire = np.dtype([("t", ">u4"), ("v", "i1", (50,))])
    spikes = np.zeros((len(SPIKES_S), 4), dtype=wire)
    spikes["t"] = np.round(SPIKES_S * 96000).astype(np.int64)[:, None]
    spikes["v"] = np.arange(4)[None, :, None] * 10 + np.array(LABELS)[:, None, None]
    return spikes.tobytes()


def position_body(second_light: bool) -> bytes:
    record = np.dtype([("t", ">u4"), ("v", ">u2", (8,))])
    rows = np.zeros(N_POS + N_PADDING, dtype=record)
    rows["t"][:N_POS] = np.arange(N_POS)
    rows["t"][N_POS:] = 99999
    rows["v"][:, 0] = 300 + np.arange(len(rows))
    rows["v"][:, 1] = 150
    rows["v"][:, 2:4] = 1023
    if second_light:
        rows["v"][:, 2] = 300 + np.arange(len(rows))
        rows["v"][:, 3] = 140
    rows["v"][3, :4] = 1023
    return rows.tobytes()


@pytest.fixture
def axona_set(tmp_path):
    """Return a function that writes a set of 4 s: one tetrode, two clusters, pulses, LFP."""

    def write(second_light: bool = False) -> Path:
        folder = tmp_path / "set"
        folder.mkdir(exist_ok=True)
        gains = "".join(f"gain_ch_{i} {gain}\r\n" for i, gain in enumerate(GAINS))
        (folder / "m.set").write_bytes(
            (
                TRIAL
                + "comments a small box\r\nADC_fullscale_mv 1500\r\n"
                + gains
                + "stim_pwidth 10000\r\nEEG_ch_1 2\r\nsaveEEG_ch_1 1\r\n"
            ).encode()
        )
        (folder / "m.1").write_bytes(
            binary(
                "timebase 96000 hz\r\nsamples_per_spike 50\r\nsample_rate 48000 hz\r\n"
                f"num_spikes {len(SPIKES_S)}     \r\n",
                spikes_body(),
            )
        )
        (folder / "m_1.cut").write_text(
            "n_clusters: 3\n cluster: 0 center: 0 0\nExact_cut_for: m spikes: 5\n"
            + " ".join(map(str, LABELS))
            + " \n"
        )
        (folder / "m.pos").write_bytes(
            binary(
                "timebase 50 hz\r\npixels_per_metre 300\r\n"
                f"num_pos_samples {N_POS + N_PADDING}\r\n",
                position_body(second_light),
            )
        )
        (folder / "m.stm").write_bytes(
            binary(
                "timebase 1000 hz\r\nnum_stm_samples 3\r\n",
                np.array([600, 750, 900], dtype=">u4").tobytes(),
            )
        )
        (folder / "m.eeg").write_bytes(
            binary(
                "sample_rate 250.0 hz\r\nbytes_per_sample 1\r\nnum_EEG_samples 1250\r\n",
                (np.arange(1250) % 100).astype("i1").tobytes(),
            )
        )
        (folder / "m.egf").write_bytes(
            binary(
                "sample_rate 4800 hz\r\nbytes_per_sample 2\r\nnum_EGF_samples 24000\r\n",
                np.arange(24000, dtype="<i2").tobytes(),
            )
        )
        return folder

    return write  # fmt: skip


def test_every_value_arrives(axona_set, tmp_path, caplog, nodes_of):
    out = convert(axona_set(), tmp_path / "m.nwb", session="s", subject="m1", egf=True)
    assert pynwb.validate(path=str(out)) == []
    recording = read(out)
    nodes = nodes_of(recording)
    assert nodes == {
        "spikes",
        "units",
        "behavior/position",
        "intervals/laser_pulses",
        "ephys/lfp",
        "ephys/lfp_fast",
    }
    validate(recording, *nodes)
    np.testing.assert_allclose(recording["spikes/spike_time"], [0.5, 2.0, 1.25, 3.5])
    np.testing.assert_array_equal(recording["spikes/unit_index"], [0, 0, 1, 1])
    assert recording["units/cluster"].values.tolist() == [1, 2]
    assert recording["units/tetrode"].values.tolist() == [1, 1]
    mean = recording["units/waveform_mean"].values
    want = (np.arange(4) * 10 + 2) * 1.5 / (128 * np.array(GAINS))
    np.testing.assert_allclose(mean[1], np.broadcast_to(want, (50, 4)), rtol=1e-12)
    place = recording["behavior/position"].to_dataset()
    assert place.sizes["time"] == N_POS
    np.testing.assert_allclose(place["time"], np.arange(N_POS) / 50)
    np.testing.assert_array_equal(np.isnan(place["x"]), np.arange(N_POS) == 3)
    np.testing.assert_allclose(place["x"][4], 304 / 300)
    assert place["y"].attrs["units"] == "m"
    assert "the clock stops after 200 of 250 samples" in caplog.text
    pulses = recording["intervals/laser_pulses"].to_dataset()
    np.testing.assert_allclose(pulses["start_time"], [0.6, 0.75, 0.9])
    np.testing.assert_allclose(pulses["stop_time"] - pulses["start_time"], 0.01)
    lfp = recording["ephys/lfp/voltage"]
    assert lfp.shape == (1000, 1)
    assert lfp["channel"].values.tolist() == [1]
    np.testing.assert_allclose(lfp[7, 0], 7 * 1.5 / (128 * 2000), rtol=1e-6)
    np.testing.assert_allclose(recording["ephys/lfp_fast/voltage"][7, 0],
                               7 * 1.5 / (32768 * 2000), rtol=1e-6)  # fmt: skip
    assert "Nobody" not in out.read_bytes().decode("latin-1")


def test_head_direction_needs_two_lights(axona_set, tmp_path):
    recording = read(convert(axona_set(second_light=True), tmp_path / "m.nwb"))
    angle = recording["behavior/head_direction/head_direction"]
    assert angle.attrs["units"] == "rad"
    np.testing.assert_allclose(np.delete(angle.values, 3), np.pi / 2)


def test_scale_can_be_set(axona_set, tmp_path):
    out = convert(axona_set(), tmp_path / "m.nwb", pixels_per_metre=150.0)
    np.testing.assert_allclose(read(out)["behavior/position/x"][4], 304 / 150)


def test_same_files_give_same_bytes(axona_set, tmp_path):
    outs = [convert(axona_set(), tmp_path / f"{name}.nwb") for name in "ab"]
    assert len({hashlib.sha256(out.read_bytes()).hexdigest() for out in outs}) == 1


def test_position_alone_is_enough(axona_set, tmp_path, nodes_of):
    folder = axona_set()
    for name in ("m.1", "m_1.cut", "m.stm", "m.eeg"):
        (folder / name).unlink()
    assert nodes_of(read(convert(folder, tmp_path / "m.nwb"))) == {"behavior/position"}


def cut_short(name, n=40):
    def spoil(folder):
        content = (folder / name).read_bytes()
        end = content.index(b"\r\ndata_end")
        (folder / name).write_bytes(content[: end - n] + content[end:])

    return spoil


def replaced(name, old, new):
    def spoil(folder):
        content = (folder / name).read_bytes()
        assert old in content
        (folder / name).write_bytes(content.replace(old, new, 1))

    return spoil


@pytest.mark.parametrize(("spoil", "says"), [
    (cut_short("m.1"), r"m\.1: found 4 records of 216 bytes, expected 5 \(num_spikes\)"),
    (cut_short("m.pos"), r"m\.pos: found 248 records of 20 bytes, expected 250"),
    (cut_short("m.stm", 4), r"m\.stm: found 2 records of 4 bytes, expected 3"),
    (cut_short("m.eeg"), r"m\.eeg: found 1210 records of 1 bytes, expected 1250"),
    (replaced("m.pos", b"\r\ndata_end", b""), r"m\.pos: found no data_end"),
    (replaced("m.pos", b"data_start", b"xxxx"), r"m\.pos: found no data_(start|end)"),
    (replaced("m.pos", b"pixels_per_metre 300", b"x 3"), r"header pixels_per_metre: found None"),
    (replaced("m_1.cut", b"1 0 2", b"1 2"), r"m_1\.cut: found 4 labels for 'm', expected 5 for"),
    (replaced("m_1.cut", b"for: m", b"for: other"), r"belongs to another recording"),
    (replaced("m.set", b"8 Sep 2014", b"once"), r"trial_date and trial_time: found 'once"),
    (replaced("m.set", b"saveEEG_ch_1 1", b"saveEEG_ch_1 0"), r"saveEEG_ch_1: found no saved"),
    (lambda folder: (folder / "m.pos").unlink(), r"m\.pos: found no file"),
    (lambda folder: (folder / "n.set").touch(), r"found 2 files ending in \.set, expected one"),
])  # fmt: skip
def test_damage_is_named(axona_set, tmp_path, spoil, says):
    folder = axona_set()
    spoil(folder)
    with pytest.raises(ReaderError, match=says):
        convert(folder, tmp_path / "m.nwb")
    assert not list(tmp_path.glob("*.nwb"))


def test_wires_of_a_spike_agree(axona_set, tmp_path):
    folder = axona_set()
    content = bytearray((folder / "m.1").read_bytes())
    content[content.index(b"data_start") + 10 + 54 + 3] ^= 1
    (folder / "m.1").write_bytes(bytes(content))
    with pytest.raises(ReaderError, match="wires of one spike at different times"):
        convert(folder, tmp_path / "m.nwb")


@pytest.mark.network
def test_the_mouse_comes_by_its_manifest(tmp_path, nodes_of):
    manifest = read_manifest(Path(__file__).parents[2] / "data_manifests" / "mouse_arena.yaml")
    try:
        receipt = fetch(manifest.rows[0], manifest, tmp_path)
    except FetchError as error:
        pytest.skip(str(error))
    recording = read(receipt.path, dataset="mouse_arena")
    assert receipt.converted
    assert nodes_of(recording) == set(manifest.nodes)
    validate(recording, *manifest.nodes)
    assert recording["units"].sizes["unit"] == 11
    counts = np.bincount(recording["spikes/unit_index"].values)
    assert counts.tolist() == [5700, 3885, 1494, 3043, 991, 930, 1507, 651, 340, 337, 1650]
    pulses = recording["intervals/laser_pulses/start_time"].values
    assert len(pulses) == 8000
    assert np.median(np.diff(pulses)) == pytest.approx(0.15)
    tracked = np.isfinite(recording["behavior/position/x"].values)
    assert tracked.size == 120_000
    assert tracked.mean() == pytest.approx(0.85, abs=0.01)
    assert recording["ephys/lfp/voltage"].shape == (600_000, 1)
    assert fetch(manifest.rows[0], manifest, tmp_path) == receipt
