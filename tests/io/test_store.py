"""Stores: what is written comes back, in shards, lazily, and never half."""

import errno
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from neuropipe.errors import NeuropipeError, ReaderError, SchemaError
from neuropipe.io import store
from neuropipe.io.store import CHUNK_BYTES, SHARD_BYTES, layout, open_recording, verify_store, write


def long_recording(n: int = 300_000, value: float = 1.0) -> xr.DataTree:
    """Return a lazy recording of one voltage series, n samples of 16 channels."""
    coords = xr.Coordinates({"time": ("time", np.arange(n) / 1000, {"units": "s"})})
    voltage = da.full((n, 16), value, chunks=(70_000, 16), dtype=np.float32)
    series = xr.Dataset({"voltage": (("time", "channel"), voltage, {"units": "V"})}, coords)
    return xr.DataTree.from_dict({"/ephys/raw": series})


def test_round_trip_keeps_values_dims_and_attrs(small_recording, tmp_path):
    described = write(small_recording, tmp_path / "deep" / "s.zarr")
    opened = open_recording(tmp_path / "deep" / "s.zarr")
    xr.testing.assert_identical(small_recording, opened.compute())
    assert opened["units/region"].dtype == object
    assert json.loads((tmp_path / "deep" / "s.json").read_text()) == described
    assert described["nodes"]["units"]["depth"]["units"] == "um"


VALUES = {
    "float": npst.arrays(np.float64, st.integers(0, 7)),
    "single": npst.arrays(np.float32, st.tuples(st.integers(0, 5), st.integers(1, 3))),
    "whole": npst.arrays(np.int16, st.integers(0, 7)),
    "yes": npst.arrays(np.bool_, st.integers(0, 7)),
    "text": st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=5).map(
        lambda words: np.array(words, dtype=object)
    ),
}
VARIABLES = st.dictionaries(
    st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True),
    st.sampled_from(sorted(VALUES)).flatmap(lambda kind: VALUES[kind]),
    max_size=4,
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    nodes=st.dictionaries(st.from_regex(r"[a-z]{1,5}", fullmatch=True), VARIABLES, max_size=3),
    units=st.sampled_from(["s", "seconds", "days", "1", "µV", ""]),
)
def test_round_trip_of_any_small_tree(nodes, units, tmp_path):
    datasets = {}
    for node, variables in nodes.items():
        arrays = {
            f"v_{name}": (
                tuple(f"{name}_{i}" for i in range(values.ndim)),
                values,
                {"units": units},
            )
            for name, values in variables.items()
        }
        datasets[f"/extra/{node}"] = xr.Dataset(arrays)
    tree = xr.DataTree.from_dict(datasets)
    tree.attrs = {"schema_version": store.SCHEMA_VERSION}
    first = write(tree, tmp_path / "any.zarr")
    opened = open_recording(tmp_path / "any.zarr")
    xr.testing.assert_identical(tree, opened.compute())
    assert write(opened, tmp_path / "any.zarr") == first


def test_content_hash_is_of_the_content(small_recording, tmp_path):
    first = write(small_recording, tmp_path / "a.zarr")
    assert write(small_recording, tmp_path / "b.zarr")["content_sha256"] == first["content_sha256"]
    rechunked = small_recording.chunk({"time": 2})
    assert write(rechunked, tmp_path / "c.zarr")["content_sha256"] == first["content_sha256"]
    small_recording["behavior/speed/speed"].values[3] += 1e-9
    assert write(small_recording, tmp_path / "a.zarr")["content_sha256"] != first["content_sha256"]


@pytest.mark.parametrize(
    ("shape", "itemsize"),
    [
        ((0,), 8),
        ((1,), 8),
        ((10,), 8),
        ((10**9,), 8),
        ((10**8, 384), 2),
        ((10**8, 384), 4),
        ((1000, 4096, 4096), 2),
        ((3, 1080, 1920, 3), 1),
        ((), 8),
        ((10**7, 0), 4),
        ((17, 5), 1),
    ],
)
def test_layout_is_time_major_and_aligned(shape, itemsize):
    chunk, shard = layout(shape, itemsize)
    assert len(chunk) == len(shard) == len(shape)
    if not shape:
        return
    assert chunk[1:] == shard[1:] == tuple(max(1, n) for n in shape[1:])
    assert shard[0] % chunk[0] == 0
    row = itemsize * int(np.prod(chunk[1:]))
    assert chunk[0] * row <= max(CHUNK_BYTES, row)
    assert shard[0] * row <= max(SHARD_BYTES, row)


def test_shards_on_disk_are_chunks_in_dask(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "CHUNK_BYTES", 2**18)
    monkeypatch.setattr(store, "SHARD_BYTES", 2**21)
    write(long_recording(), tmp_path / "a.zarr")
    array = zarr.open_group(tmp_path / "a.zarr", mode="r")["ephys/raw/voltage"]
    assert array.chunks == (4096, 16)
    assert array.shards == (32768, 16)
    opened = open_recording(tmp_path / "a.zarr")["ephys/raw/voltage"]
    assert opened.chunks[0][0] == 32768
    files = [f for f in (tmp_path / "a.zarr/ephys/raw/voltage/c").rglob("*") if f.is_file()]
    assert len(files) == -(-300_000 // 32768)


def test_long_clock_stays_lazy(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "INDEXED_CLOCK", 1000)
    write(long_recording(2000), tmp_path / "a.zarr")
    opened = open_recording(tmp_path / "a.zarr")["ephys/raw"].to_dataset()
    assert opened["time"].chunks is not None
    assert "time" not in opened.xindexes
    assert "time" in open_recording(tmp_path / "a.zarr")["ephys/raw"].coords


def test_a_store_may_be_written_over_itself(small_recording, tmp_path):
    write(small_recording, tmp_path / "a.zarr")
    opened = open_recording(tmp_path / "a.zarr")
    opened["behavior/speed"] = (
        opened["behavior/speed"].to_dataset().map(lambda v: v * 2, keep_attrs=True)
    )
    write(opened, tmp_path / "a.zarr")
    again = open_recording(tmp_path / "a.zarr")
    np.testing.assert_array_equal(again["behavior/speed/speed"], np.arange(6.0) * 2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "a.zarr"]


def test_dataset_of_estimates_can_be_stored(tmp_path):
    estimates = xr.Dataset({"state": ("time", np.arange(4), {"units": "1"})})
    write(estimates, tmp_path / "e.zarr")
    xr.testing.assert_equal(open_recording(tmp_path / "e.zarr").to_dataset().compute(), estimates)


def test_departure_from_the_catalogue_is_refused_before_writing(small_recording, tmp_path):
    small_recording["spikes/spike_time"].attrs["units"] = "ms"
    with pytest.raises(SchemaError, match=r"spikes/spike_time: units 'ms', expected 's'"):
        write(small_recording, tmp_path / "a.zarr")
    with pytest.raises(SchemaError, match=r"\.zarr"):
        write(small_recording, tmp_path / "a.nc")
    assert not list(tmp_path.iterdir())


def broken(block):
    """Fail as a worker does in the middle of a write."""
    raise RuntimeError("planted failure")


def test_failure_half_way_leaves_the_old_store(small_recording, tmp_path):
    write(long_recording(value=7.0), tmp_path / "a.zarr")
    before = (tmp_path / "a.json").read_text()
    bad = long_recording().map_over_datasets(
        lambda ds: (
            ds.map(lambda v: v.copy(data=v.data.map_blocks(broken, dtype=v.dtype)))
            if "voltage" in ds
            else ds
        )
    )
    with pytest.raises(RuntimeError, match="planted"):
        write(bad, tmp_path / "a.zarr")
    assert float(open_recording(tmp_path / "a.zarr")["ephys/raw/voltage"][-1, 0]) == 7.0
    assert (tmp_path / "a.json").read_text() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "a.zarr"]


def test_killed_half_way_leaves_the_old_store(tmp_path):
    write(long_recording(value=7.0), tmp_path / "a.zarr")
    script = textwrap.dedent("""
        import sys, time, xarray as xr, dask.array as da, numpy as np
        from neuropipe.io import store
        store.CHUNK_BYTES, store.SHARD_BYTES = 2**16, 2**18
        slow = lambda b: (time.sleep(0.05), b)[1]
        voltage = da.ones((2_000_000, 2), chunks=(10_000, 2), dtype="f4").map_blocks(slow)
        coords = xr.Coordinates({"time": ("time", np.arange(2_000_000) / 1e3, {"units": "s"})})
        series = xr.Dataset({"voltage": (("time", "channel"), voltage, {"units": "V"})}, coords)
        store.write(xr.DataTree.from_dict({"/ephys/raw": series}), sys.argv[1])
    """)
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "a.zarr")])
    partial = tmp_path / ".a.zarr.partial" / "ephys" / "raw" / "voltage" / "c"
    while not (partial.is_dir() and any(partial.iterdir())):
        assert child.poll() is None
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert float(open_recording(tmp_path / "a.zarr")["ephys/raw/voltage"][-1, 0]) == 7.0
    write(long_recording(value=8.0), tmp_path / "a.zarr")
    assert float(open_recording(tmp_path / "a.zarr")["ephys/raw/voltage"][-1, 0]) == 8.0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "a.zarr"]


def test_killed_between_the_renames_brings_the_old_store_back(small_recording, tmp_path):
    write(long_recording(value=7.0), tmp_path / "a.zarr")
    (tmp_path / "a.zarr").rename(tmp_path / ".a.zarr.old")
    store._settle(tmp_path / "a.zarr", tmp_path / ".a.zarr.partial", tmp_path / ".a.zarr.old")
    assert float(open_recording(tmp_path / "a.zarr")["ephys/raw/voltage"][0, 0]) == 7.0


@pytest.fixture
def small_disk(tmp_path):
    """Mount a disk of 4 MB, where that is allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no small disk can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def random_recording() -> xr.DataTree:
    """Return 16 MB that do not compress."""
    noise = np.random.default_rng(0).random((2**20, 2))
    return xr.DataTree(xr.Dataset({"noise": (("time", "side"), noise, {"units": "1"})}))


def test_full_disk_is_said_and_keeps_the_old_store(small_disk):
    small = xr.DataTree(xr.Dataset({"a": ("x", np.arange(4.0), {"units": "1"})}))
    write(small, small_disk / "a.zarr")
    with pytest.raises(NeuropipeError, match=r"a\.zarr.*No space left.*bytes free"):
        write(random_recording(), small_disk / "a.zarr")
    np.testing.assert_array_equal(open_recording(small_disk / "a.zarr")["a"], np.arange(4.0))
    assert sorted(p.name for p in small_disk.iterdir()) == ["a.json", "a.zarr"]


def test_refusal_of_the_file_system_names_path_and_room(small_recording, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(store, "_write_partial", refuse)
    with pytest.raises(NeuropipeError, match=r"s\.zarr: No space left.*bytes free"):
        write(small_recording, tmp_path / "s.zarr")


def _no_mark(path: Path) -> None:
    del zarr.open_group(path, mode="r+").attrs["content_sha256"]


def _older(path: Path) -> None:
    zarr.open_group(path, mode="r+").attrs["schema_version"] = 0


def _newer(path: Path) -> None:
    zarr.open_group(path, mode="r+").attrs["schema_version"] = 99


def _empty(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir()


def _bad_json(path: Path) -> None:
    (path / "units" / "region" / "zarr.json").write_text("{ half")


def _lost_variable(path: Path) -> None:
    shutil.rmtree(path / "spikes" / "unit_index")


@pytest.mark.parametrize(
    ("spoil", "error", "says"),
    [
        (_no_mark, ReaderError, "not written to its end"),
        (
            _older,
            SchemaError,
            "schema_version 0, expected 1; write it anew with `neuropipe ingest`",
        ),
        (_newer, SchemaError, "update neuropipe"),
        (_empty, ReaderError, "no Zarr v3 group"),
        (_bad_json, ReaderError, "damaged"),
        (_lost_variable, SchemaError, "spikes/unit_index: missing"),
        (shutil.rmtree, ReaderError, "found nothing there"),
    ],
)
def test_what_is_no_whole_store_is_refused(small_recording, tmp_path, spoil, error, says):
    path = tmp_path / "a.zarr"
    write(small_recording, path)
    spoil(path)
    with pytest.raises(error, match=says):
        open_recording(path)


def test_a_lost_shard_is_found_by_reading_the_store_to_its_end(small_recording, tmp_path):
    path = tmp_path / "a.zarr"
    write(small_recording, path)
    verify_store(path)
    (path / "behavior" / "speed" / "speed" / "c" / "0").unlink()
    open_recording(path)
    with pytest.raises(ReaderError, match=r"found content .*, expected .*; delete the folder"):
        verify_store(path)


@pytest.mark.parametrize("codec", ["pickle", "numcodecs.pickle", "numcodecs.pickles"])
def test_no_pickle_is_ever_loaded(small_recording, tmp_path, codec):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    path = tmp_path / "a.zarr"
    write(small_recording, path)
    folder = path / "units" / "region"
    described = json.loads((folder / "zarr.json").read_text())
    described["codecs"] = [{"name": codec, "configuration": {}}]
    (folder / "zarr.json").write_text(json.dumps(described))
    (folder / "c" / "0").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ReaderError, match="damaged"):
        open_recording(path)["units/region"].compute()
    assert not (tmp_path / "sprung").exists()
