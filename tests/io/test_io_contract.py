"""Every format of READERS keeps the same promises: a newcomer is tested by its line."""

import inspect
import json
from pathlib import Path

import dask
import numpy as np
import pytest
import xarray as xr
from made_ieeg import signals, write_edf
from made_nifti import confounds, tree
from pynwb.behavior import SpatialSeries

from neuropipe.errors import ConfigError, ReaderError
from neuropipe.io import CONVERTERS, READERS, converter, reader
from neuropipe.io.store import open_recording, write
from neuropipe.schema import ROOT_ATTRS, validate


def _nwb(make_nwb):
    def fill(file):
        file.add_unit(spike_times=[0.1, 0.2, 0.5])
        file.add_trial(start_time=0.0, stop_time=1.0)
        file.add_acquisition(
            SpatialSeries(
                name="place",
                data=np.arange(8.0).reshape(4, 2),
                rate=50.0,
                unit="meters",
                reference_frame="corner",
            )
        )

    return make_nwb(fill)


def _table(tmp_path):
    file = tmp_path / "small.csv"
    file.write_text("t,x,y\n0.0,1,2\n0.1,3,\n0.2,5,6\n")
    place = {"time": {"array": "t", "units": "s"}, "array": ["x", "y"], "units": "cm"}
    return file, {"nodes": {"behavior/place": place}}


def _bold(tmp_path):
    folder = tree(tmp_path / "d", n_runs=1)
    confounds(folder, 1, {"csf": np.arange(10.0)})
    return folder / "sub-01/func/sub-01_task-look_run-1_bold.nii.gz", {}


def _ieeg(tmp_path):
    return write_edf(tmp_path / "small.edf", signals(), marks=[(1.0, None, "word")]), {}


# One line a reader: a function of the fixtures that it names, which returns the file (or files)
# of one small session, and the options that reading it needs.
SAMPLES = {
    "nwb": lambda request: (_nwb(request.getfixturevalue("make_nwb")), {}),
    "table": lambda request: _table(request.getfixturevalue("tmp_path")),
    "bold": lambda request: _bold(request.getfixturevalue("tmp_path")),
    "ieeg": lambda request: _ieeg(request.getfixturevalue("tmp_path")),
}


@pytest.fixture(params=sorted(READERS))
def sample(request):
    """Return a reader, a small session of its format, and the options of `read`."""
    return reader(request.param), *SAMPLES[request.param](request)


def test_read_takes_names_by_keyword(sample):
    read, *_ = sample
    parameters = inspect.signature(read).parameters
    assert next(iter(parameters)) == "path"
    for name in ("dataset", "session", "subject", "sha256"):
        assert parameters[name].kind is inspect.Parameter.KEYWORD_ONLY


def test_root_says_where_it_comes_from(sample):
    read, path, options = sample
    first = path if isinstance(path, Path) else path[0]
    attrs = read(path, dataset="d", session="s", subject="m", **options).attrs
    assert set(ROOT_ATTRS) <= set(attrs)
    assert (attrs["dataset"], attrs["session"], attrs["subject"]) == ("d", "s", "m")
    assert first.name in attrs["source"]
    assert {"name", "parameters", "version"} == set(json.loads(attrs["history"])[0])
    assert str(first.parent) not in json.dumps(attrs)


def test_nodes_are_of_the_catalogue_and_lazy(sample):
    """What grows with the session, a node's variables, is read when it is asked for."""
    read, path, options = sample
    recording = read(path, **options)
    nodes = [g.lstrip("/") for g in recording.groups if recording[g].variables]
    validate(recording, *nodes)
    signals = [node for node in nodes if node == "spikes" or "time" in recording[node].sizes]
    assert signals
    for node in signals:
        for variable in recording[node].data_vars.values():
            assert dask.is_dask_collection(variable.data), variable.name


def test_round_trip_through_the_store(sample, tmp_path):
    read, path, options = sample
    recording = read(path, **options)
    write(recording, tmp_path / "a.zarr")
    xr.testing.assert_identical(recording.compute(), open_recording(tmp_path / "a.zarr").compute())


def test_bad_file_is_named(sample, tmp_path):
    read, _, options = sample
    bad = tmp_path / "bad.bin"
    bad.write_bytes(b"no recording at all" * 100)
    with pytest.raises(ReaderError, match=r"bad\.bin.*found.*expected"):
        read(bad, **options)
    with pytest.raises(ReaderError, match="nowhere"):
        read(tmp_path / "nowhere.nwb", **options)


def test_unknown_format_lists_the_known():
    with pytest.raises(ConfigError, match=r"'nwd'.*did you mean 'nwb'.*known are nwb"):
        reader("nwd")
    with pytest.raises(ConfigError, match="axona"):
        converter("plexon")
    assert all(callable(converter(name)) for name in CONVERTERS)
