"""Files that promise what they do not hold: said with numbers, never a crash or a wrong value."""

import gzip
import io
import struct
from contextlib import suppress
from itertools import pairwise

import numpy as np
import pytest
from made_nifti import save, volumes

from neuropipe.errors import ReaderError
from neuropipe.io import gunzip, nifti
from neuropipe.io.bold import read

RUN = "sub-01/func/sub-01_task-look_run-1"


def test_surfaces_are_refused_by_name(tmp_path):
    for name in ("sub-01_task-a_bold.dtseries.nii", "sub-01_hemi-L_bold.func.gii"):
        (tmp_path / name).write_bytes(b"x" * 1000)
        with pytest.raises(ReaderError, match=r"GIFTI or CIFTI.*volumetric"):
            read(tmp_path / name)
    save(tmp_path / "sub-01_task-a_bold.nii", volumes())
    assert read(tmp_path).attrs["source"] == "sub-01_task-a_bold.nii"


@pytest.mark.parametrize("values", [volumes()[..., 0], volumes()[..., None, :]])
def test_not_four_dims(tmp_path, values):
    path = save(tmp_path / "a.nii", values)
    with pytest.raises(ReaderError, match=rf"found {values.ndim} dims .*expected 4"):
        read(path)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_files_cut_short(tmp_path, name, share):
    path = save(tmp_path / name, volumes(40))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ReaderError, match=r"a\.nii.*found.*expected"):
        read(path)


@pytest.mark.parametrize("packed", [False, True])
def test_a_header_that_promises_too_much_allocates_nothing(tmp_path, packed):
    path = save(tmp_path / "a.nii", volumes())
    raw = bytearray(path.read_bytes())
    raw[40:56] = struct.pack("<8h", 4, 30000, 30000, 30000, 30000, 1, 1, 1)
    path = tmp_path / ("b.nii.gz" if packed else "b.nii")
    path.write_bytes(gzip.compress(raw) if packed else raw)
    with pytest.raises(ReaderError, match=r"found 1312 bytes.*expected 3240000000000000352"):
        read(path)


def test_more_volumes_than_the_file_holds(tmp_path):
    path = save(tmp_path / "a.nii.gz", volumes())
    raw = bytearray(gzip.decompress(path.read_bytes()))
    raw[48:50] = struct.pack("<h", 11)
    path.write_bytes(gzip.compress(raw))
    with pytest.raises(ReaderError, match=r"found 1312 bytes.*expected 1408"):
        read(path)


def test_wrong_magic_and_bad_affines(tmp_path):
    raw = bytearray(save(tmp_path / "a.nii", volumes()).read_bytes())
    bad = tmp_path / "bad.nii"
    for at, piece, match in (
        (344, b"nope", "no NIfTI header"),
        (280, struct.pack("<4f", np.nan, 0, 0, 0), "affine"),
        (280, struct.pack("<4f", 0, 0, 0, 0), "affine"),
        (42, struct.pack("<h", -4), "expected"),
        (70, struct.pack("<h", 32), "complex64"),
    ):
        bad.write_bytes(raw[:at] + piece + raw[at + len(piece) :])
        with pytest.raises(ReaderError, match=match):
            read(bad)


def test_no_flip_of_a_header_byte_breaks_the_reader(tmp_path):
    """Any damage to the header ends in a recording or in a ReaderError."""
    raw = save(tmp_path / "a.nii", volumes()).read_bytes()
    random = np.random.default_rng(1)
    bad = tmp_path / "bad.nii"
    for at in range(352):
        damaged = bytearray(raw)
        damaged[at] ^= int(random.integers(1, 256))
        bad.write_bytes(damaged)
        with suppress(ReaderError):
            read(bad, repetition_time_s=2.0, sha256="x")["bold/bold"].values  # noqa: B018


def test_damage_inside_a_compressed_file_is_named_when_it_is_met(tmp_path):
    path = save(tmp_path / "a.nii.gz", volumes(200))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    path.write_bytes(raw)
    with pytest.raises(ReaderError, match=r"a\.nii\.gz: volumes"):
        read(path)["bold/bold"].values  # noqa: B018


def test_a_file_that_changed_is_not_read_on(tmp_path):
    path = save(tmp_path / "a.nii", volumes())
    recording = read(path)
    save(path, volumes(9))
    with pytest.raises(ReaderError, match="changed since"):
        recording.compute()


@pytest.mark.parametrize("members", [1, 3])
def test_a_compressed_file_is_unpacked_once_forwards_and_little_more_backwards(
    tmp_path, monkeypatch, members
):
    raw = save(tmp_path / "a.nii", volumes(60)).read_bytes()
    cuts = np.linspace(0, len(raw), members + 1).astype(int)
    path = tmp_path / "a.nii.gz"
    packed = b"".join(gzip.compress(raw[a:b]) for a, b in pairwise(cuts))
    path.write_bytes(packed + b"\0" * 70_000)
    monkeypatch.setattr(gunzip, "MARK_BYTES", 500)
    monkeypatch.setattr(gunzip, "INPUT_BYTES", 100)
    monkeypatch.setattr(nifti, "BUFFER_BYTES", 64)
    expected = volumes(60).reshape(24, 60, order="F").T
    part = nifti.open_volumes(path)
    with gunzip.Gunzip(path, len(raw)) as stream:
        assert io.BufferedReader(stream).read() == raw
    unpacked = []
    inner = gunzip.Gunzip._piece
    monkeypatch.setattr(
        gunzip.Gunzip, "_piece", lambda self, n: unpacked.append(inner(self, n)) or unpacked[-1]
    )
    for order in (range(12), reversed(range(12)), np.random.default_rng(0).permutation(12)):
        unpacked.clear()
        nifti._stored.cache_clear()
        found = {at: part[5 * at : 5 * at + 5] for at in order}
        found = np.concatenate([found[at] for at in range(12)])
        np.testing.assert_array_equal(found, expected)
        assert sum(map(len, unpacked)) < (1.1 if isinstance(order, range) else 8) * len(raw)


@pytest.mark.parametrize("code", [184, 255, 7])
def test_an_undefined_code_of_units_is_no_unit(tmp_path, code):
    path = save(tmp_path / "a.nii", volumes(), tr=2.0)
    raw = bytearray(path.read_bytes())
    raw[123] = code
    path.write_bytes(bytes(raw))
    with pytest.raises(ReaderError, match=r"a\.nii: found no repetition time.*unknown"):
        read(path)
    assert read(path, repetition_time_s=2.0)["bold"].attrs["repetition_time_s"] == 2.0
