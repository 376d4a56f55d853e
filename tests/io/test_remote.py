"""Stores at an address open like folders: same values, lazily; failures say what to do."""

import http.server
import threading
from functools import partial

import dask
import fsspec
import pytest
import xarray as xr

from neuropipe.errors import ReaderError
from neuropipe.io.remote import is_address
from neuropipe.io.store import open_recording, write


@pytest.fixture
def stored(small_recording, tmp_path):
    write(small_recording, tmp_path / "a.zarr")
    return tmp_path / "a.zarr"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_from_the_memory_file_system(stored):
    memory = fsspec.filesystem("memory")
    memory.put(f"{stored}/", "/bucket/a.zarr", recursive=True)
    try:
        there = open_recording("memory://bucket/a.zarr")
        assert dask.is_dask_collection(there["spikes/spike_time"].data)
        xr.testing.assert_identical(there.compute(), open_recording(stored).compute())
    finally:
        memory.rm("/bucket", recursive=True)


def test_from_a_server_of_folders(stored):
    pytest.importorskip("aiohttp")
    handler = partial(Quiet, directory=str(stored.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        try:
            there = open_recording(f"{address}/a.zarr")
            xr.testing.assert_identical(there.compute(), open_recording(stored).compute())
            with pytest.raises(ReaderError, match=r"b\.zarr: found no Zarr v3.*check the address"):
                open_recording(f"{address}/b.zarr")
        finally:
            server.shutdown()


def test_failures_say_what_to_do(monkeypatch):
    with pytest.raises(ReaderError, match=r"unknown scheme 'htpps'; did you mean 'https'"):
        open_recording("htpps://host/a.zarr")
    with pytest.raises(ReaderError, match=r"memory://nothing.*found no Zarr v3 group"):
        open_recording("memory://nothing/a.zarr")

    def absent(scheme):
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec, "get_filesystem_class", absent)
    with pytest.raises(ReaderError, match=r"Install s3fs.*s3fs for s3.*pip install"):
        open_recording("s3://bucket/a.zarr")


def test_what_is_an_address(tmp_path):
    assert is_address("s3://bucket/a.zarr")
    assert not is_address("results/a.zarr")
    assert not is_address(tmp_path)
