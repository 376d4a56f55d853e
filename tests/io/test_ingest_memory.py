"""A recording is streamed: the memory that ingest takes does not grow with its length."""

import subprocess
import sys
import textwrap

import h5py
import numpy as np
import pytest
from pynwb.ecephys import ElectricalSeries

INGEST = textwrap.dedent("""
    import resource, sys
    from neuropipe.io.nwb import read
    from neuropipe.io.store import open_recording, write
    import dask.array, zarr.codecs
    peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    base = peak()
    recording = read(sys.argv[1])
    lazy = peak()
    write(recording, sys.argv[2])
    print(lazy - base, peak() - base)
""")


@pytest.fixture
def long_nwb(make_nwb):
    """Return an NWB file of 400 MB: 16 channels of 16 bit noise at 30 kHz."""
    n = 12_500_000

    def fill(file):
        device = file.create_device(name="probe")
        group = file.create_electrode_group("shank", "a shank", "CA1", device)
        for _ in range(16):
            file.add_electrode(group=group, location="CA1")
        file.add_unit(spike_times=np.arange(10.0))
        region = file.create_electrode_table_region(list(range(16)), "all")
        file.add_acquisition(
            ElectricalSeries(
                name="raw",
                data=np.zeros((1, 16), dtype=np.int16),
                electrodes=region,
                rate=30000.0,
                conversion=1e-6,
            )
        )

    path = make_nwb(fill)
    block = np.random.default_rng(0).integers(-99, 99, (500_000, 16), dtype=np.int16)
    with h5py.File(path, "r+") as file:
        series = file["acquisition/raw"]
        attrs = dict(series["data"].attrs)
        del series["data"]
        data = series.create_dataset("data", (n, 16), dtype=np.int16)
        data.attrs.update(attrs)
        for start in range(0, n, len(block)):
            data[start : start + len(block)] = block
    return path


@pytest.mark.slow
def test_ingest_of_400_megabytes_takes_less_than_300(long_nwb, tmp_path):
    command = [sys.executable, "-c", INGEST, str(long_nwb), str(tmp_path / "long.zarr")]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr
    lazy, whole = map(float, child.stdout.split())
    assert lazy < 60
    assert whole < 300
