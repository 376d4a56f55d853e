"""Hostile iEEG files: sizes, headers and companions that lie end in an error that names them."""

import shutil

import pytest
from made_ieeg import MARKS, signals, write_brainvision, write_edf

from neuropipe.errors import ReaderError
from neuropipe.io.ieeg import read


def cut(path, change):
    raw = path.read_bytes()
    path.write_bytes(raw[:change] if change < 0 else raw + b"\0" * change)


def test_sizes(edf, vhdr_of, caplog):
    cut(edf, 10)
    assert read(edf)["ieeg"].sizes["time"] == 8 * 256
    assert "10 bytes after the last of 8 records" in caplog.text
    cut(edf, -3000)
    with pytest.raises(ReaderError, match=r"8 records of .* bytes, found .* cut off"):
        read(edf)
    vhdr = vhdr_of(edf)
    cut(vhdr.with_suffix(".eeg"), -3)
    with pytest.raises(ReaderError, match=r"found 32,765 bytes, 2047 samples .* 13 bytes"):
        read(vhdr)


@pytest.fixture
def vhdr_of(tmp_path):
    def make(_):
        (tmp_path / "bare").mkdir()
        return write_brainvision(tmp_path / "bare", "b", signals())

    return make


FIELDS = {"header bytes": 184, "records": 236, "duration": 244, "signals": 252}


@pytest.mark.parametrize("value", ["-5", "99999999", "nan", "1e400", "", "x", "0"])
@pytest.mark.parametrize("field", [*FIELDS, "samples", "physical min", "digital max"])
def test_hostile_numbers_of_an_edf_header(tmp_path, field, value):
    path = write_edf(tmp_path / "a.edf", signals(), marks=MARKS)
    raw = bytearray(path.read_bytes())
    n = 5
    more = {"samples": 216, "physical min": 104, "digital max": 128}
    at = FIELDS[field] if field in FIELDS else 256 + more[field] * n
    width = 4 if field == "signals" else 8
    raw[at : at + width] = value[:width].encode().ljust(width)
    path.write_bytes(raw)
    fine = (field, value) in {
        ("physical min", "-5"), ("physical min", "99999999"), ("physical min", "0"),
        ("digital max", "99999999"), ("digital max", "-5"), ("digital max", "0"),
        ("duration", "99999999"),
    }  # fmt: skip
    if fine:
        read(path)
    else:
        with pytest.raises(ReaderError, match=r"found|says"):
            read(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("NumberOfChannels=4", "NumberOfChannels=-4"),
        ("NumberOfChannels=4", "NumberOfChannels=4000000000"),
        ("NumberOfChannels=4", "NumberOfChannels=5"),
        ("SamplingInterval=3906.25", "SamplingInterval=nan"),
        ("SamplingInterval=3906.25", "SamplingInterval=0"),
        ("DataOrientation=MULTIPLEXED", "DataOrientation=ROUND"),
        ("IEEE_FLOAT_32", "IEEE_FLOAT_16"),
        ("DataFormat=BINARY", "DataFormat=ASCII"),
        ("DataFormat=BINARY", "DataFormat=BINARY\nDataPoints=99"),
        ("[Channel Infos]", "[Channels]"),
        ("Ch2=A2,,0.1", "Ch2=A2,,inf"),
        ("Brain Vision", "Brian Vision"),
    ],
)
def test_hostile_brainvision_headers(vhdr, old, new):
    text = vhdr.read_text()
    assert old in text
    vhdr.write_text(text.replace(old, new, 1))
    with pytest.raises(ReaderError, match=r"found.*expected"):
        read(vhdr)


@pytest.mark.parametrize("name", ["../x.eeg", "gone.eeg", "/etc/hostname", "", "..\\x.eeg"])
def test_a_binary_that_is_not_beside_its_header(vhdr, name):
    shutil.copy(vhdr.with_suffix(".eeg"), vhdr.parent.parent / "x.eeg")
    text = vhdr.read_text()
    vhdr.write_text(text.replace(f"DataFile={vhdr.stem}.eeg", f"DataFile={name}"))
    with pytest.raises(ReaderError, match=r"DataFile: found"):
        read(vhdr)


def test_markers_of_another_recording(vhdr, caplog):
    vmrk = vhdr.with_suffix(".vmrk")
    mine = f"DataFile={vhdr.stem}.eeg"
    vmrk.write_text(vmrk.read_text().replace(mine, "DataFile=old.eeg"))
    assert read(vhdr)["events/annotations"].sizes["event"] == 2
    assert "taken as renamed" in caplog.text
    (vhdr.parent / "old.eeg").write_bytes(b"")
    with pytest.raises(ReaderError, match=r"markers of 'old\.eeg'"):
        read(vhdr)
    vmrk.unlink()
    assert "events" not in read(vhdr).children
    assert "without its markers" in caplog.text
